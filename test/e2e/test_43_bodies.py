# SPDX-License-Identifier: Apache-2.0
"""Bodies that bring events in: too large, cut off, packed, in another charset, as CloudEvents of each form; what is
refused is told before the connection ends, and counted."""
import gzip
import json
import re
import socket
import subprocess
import uuid
import zlib

import pytest
import zstandard
from test_43_ingest import BEACONS, CONFIG, Foldback, Ingest, until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def ingest(tmp_path_factory):
    fold = Foldback(tmp_path_factory.mktemp("bodies"), CONFIG % 9 + BEACONS)
    try:
        fold.start()
        yield Ingest(fold)
    finally:
        fold.stop()


def refused(ingest, reason, via="push"):
    return ingest.metrics().get('foldback_ingest_refused_total{via="%s",reason="%s"}' % (via, reason), 0)


class Raw:
    """A client that sends before it reads, and one that hears what it is told meanwhile."""

    def __init__(self, ingest):
        host, port = ingest.address.rsplit(":", 1)
        self.s = socket.create_connection((host, int(port)), timeout=30)

    def head(self, *lines):
        self.s.sendall("\r\n".join(lines + ("Host: localhost", "", "")).encode())

    def answer(self):
        """Status, body, and whether the connection ended in order."""
        data = b""
        try:
            while True:
                more = self.s.recv(65536)
                if not more:
                    break
                data += more
            is_clean = True
        except ConnectionResetError:
            is_clean = False
        m = re.match(rb"HTTP/1.1 (\d+) ", data)
        return int(m.group(1)) if m else None, data.split(b"\r\n\r\n", 1)[-1], is_clean


def post_head(ingest, *more, token=None, path="/v1/ingest", kind="application/json"):
    return (f"POST {path} HTTP/1.1", f"Authorization: Bearer {token or ingest.token}", f"Content-Type: {kind}") + more


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [MIB + 1, 12 * MIB])
def test_whoever_sends_too_much_reads_the_413_and_no_reset(ingest, size, is_chunked):
    before = refused(ingest, "too_large")
    c = Raw(ingest)
    piece = b" " * 65536
    c.head(*post_head(ingest, "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {size}"))
    for _ in range(size // len(piece)):
        c.s.sendall(b"10000\r\n" + piece + b"\r\n" if is_chunked else piece)  # all of it before a byte is read
    c.s.sendall(b"1\r\n \r\n0\r\n\r\n" if is_chunked else b" " * (size % len(piece)))
    status, body, is_clean = c.answer()
    assert (status, is_clean) == (413, True)
    assert "1 MiB" in json.loads(body)["detail"]
    assert refused(ingest, "too_large") == before + 1


def test_curl_reads_the_413_of_a_large_file(ingest, tmp_path):
    big = tmp_path / "big.json"
    big.write_bytes(b" " * (3 * MIB))
    for more in ([], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]):
        done = subprocess.run(["curl", "-sS", "-m", "60", "-w", "%{http_code} %{size_upload}", "-o", "/dev/null", "-H",
                               "Authorization: Bearer " + ingest.token, "-H", "Content-Type: application/json",
                               "--data-binary", f"@{big}", *more, f"http://{ingest.address}/v1/ingest"],
                              capture_output=True, text=True, timeout=120)
        assert done.stdout.startswith("413"), (more, done)


def test_who_waits_for_100_is_told_before_the_body(ingest):
    c = Raw(ingest)
    c.head(*post_head(ingest, "Expect: 100-continue", f"Content-Length: {2 * MIB}"))
    status, body, _ = c.answer()  # not a byte of the body was sent
    assert (status, json.loads(body)["status"]) == (413, 413)
    before = refused(ingest, "unauthorized")
    c = Raw(ingest)
    c.head(*post_head(ingest, "Expect: 100-continue", "Content-Length: 20", token="wrong-wrong-wrong-wrong"))
    assert c.answer()[0] == 401
    assert refused(ingest, "unauthorized") == before + 1
    c = Raw(ingest)
    text = b'{"name": "waited"}'
    c.head(*post_head(ingest, "Expect: 100-continue", f"Content-Length: {len(text)}", "Connection: close"))
    assert c.s.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    c.s.sendall(text)
    assert c.answer()[0] == 202
    c = Raw(ingest)
    c.head(*post_head(ingest, "Expect: 200-maybe", f"Content-Length: {len(text)}"))
    assert c.answer()[0] == 417


def test_a_body_without_a_token_is_401_however_large(ingest):
    before = refused(ingest, "unauthorized"), refused(ingest, "too_large")
    c = Raw(ingest)
    c.head(*post_head(ingest, f"Content-Length: {8 * MIB}", token="wrong-wrong-wrong-wrong"))
    for _ in range(128):
        c.s.sendall(b" " * 65536)
    status, _, is_clean = c.answer()
    assert (status, is_clean) == (401, True)
    assert (refused(ingest, "unauthorized"), refused(ingest, "too_large")) == (before[0] + 1, before[1])


def test_a_sender_without_end_is_not_read_for_ever(ingest):
    c = Raw(ingest)
    c.head(*post_head(ingest, "Content-Length: 1000000000"))
    piece, sent = b" " * 65536, 0
    try:
        while sent < 512 * MIB:
            c.s.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    assert sent < 512 * MIB  # the bound is 16 MiB; sockets hold some more
    assert ingest.post({"name": "after.flood"})[0] == 202


def test_bodies_that_break_off_and_break_their_framing_are_counted(ingest):
    before = refused(ingest, "cut_off"), refused(ingest, "syntax")
    c = Raw(ingest)
    c.head(*post_head(ingest, "Content-Length: 100"))
    c.s.sendall(b'{"name": ')
    c.s.close()
    until(lambda: refused(ingest, "cut_off") == before[0] + 1, 30, "the cut is counted")
    c = Raw(ingest)
    c.head(*post_head(ingest, "Transfer-Encoding: chunked"))
    c.s.sendall(b"5\r\n     \r\nzz\r\n")
    status, body, is_clean = c.answer()
    assert (status, is_clean) == (400, True)
    assert "chunk" in json.loads(body)["detail"]
    assert refused(ingest, "syntax") == before[1] + 1


def test_many_small_chunks_and_requests_behind_one_another_are_read(ingest):
    text = b"".join(b'{"name": "chunk", "value": %d}\n' % i for i in range(1000))
    c = Raw(ingest)
    c.head(*post_head(ingest, "Transfer-Encoding: chunked", kind="application/x-ndjson"))
    c.s.sendall(b"".join(b"1\r\n%c\r\n" % b for b in text) + b"0\r\n\r\n")
    request = post_head(ingest, "Content-Length: 16") + ("Host: localhost", "", "")
    c.s.sendall(("\r\n".join(request) + '{"name": "pipe"}').encode() * 2)
    c.head("GET /healthz HTTP/1.1", "Connection: close")
    data = b""
    while more := c.s.recv(65536):
        data += more
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"202", b"202", b"202", b"200"]
    until(lambda: ingest.facts().get("chunk", {}).get("total") == 1000, 30, "all came")
    assert ingest.facts()["pipe"]["total"] == 2


CODINGS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress,
           "zstd": zstandard.ZstdCompressor().compress, "identity": lambda b: b}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_packed_body_is_taken_like_a_plain_one(ingest, coding):
    name = "packed." + coding.replace("x-", "x")
    pack = CODINGS[coding]
    status, answer, _ = ingest.post(pack(json.dumps([{"name": name, "value": 2}] * 3).encode()), Content_Encoding=coding)
    assert (status, answer) == (202, {"accepted": 3, "rejected": 0, "errors": []})
    lines = b'{"name": "%s", "value": 1}\nnot json\n' % name.encode()
    status, answer, _ = ingest.post(pack(lines), "application/x-ndjson", Content_Encoding=coding.upper())
    assert (status, answer["accepted"], answer["errors"][0]["line"]) == (202, 1, 2)
    status, _, _ = ingest.call("POST", "/v1/beacon", pack(b'{"CLS": 0.1}'), token="", Content_Type="application/json",
                               Origin="https://shop.example", Content_Encoding=coding)
    assert status == 204
    until(lambda: ingest.facts().get(name, {}).get("total_sum") == 7, 30, "the facts know")


def test_what_cannot_be_unpacked_is_refused_with_the_next_step(ingest):
    before = refused(ingest, "coding"), refused(ingest, "too_large")
    for coding in ("br", "gzip, gzip", "compress"):
        status, answer, r = ingest.post(b"x", Content_Encoding=coding)
        assert (status, r.getheader("Accept-Encoding")) == (415, "gzip, deflate, zstd")
        assert "gzip, deflate, zstd" in answer["detail"]
    whole = gzip.compress(b'{"name": "a"}')
    for body in (b"", b'{"name": "a"}', whole[:-3], whole + b"tail"):
        assert ingest.post(body, Content_Encoding="gzip")[0] == 400
    assert refused(ingest, "coding") == before[0] + 7
    for coding in ("gzip", "zstd"):  # a bomb: 40 KB that become 40 MB
        status, answer, _ = ingest.post(CODINGS[coding](b" " * (40 * MIB)), Content_Encoding=coding)
        assert status == 413
        assert "1024 KiB when it is unpacked" in answer["detail"]
    assert refused(ingest, "too_large") == before[1] + 2
    assert ingest.call("POST", "/v1/beacon", gzip.compress(b" " * 2000), token="", Content_Type="application/json",
                       Origin="https://shop.example", Content_Encoding="gzip")[0] == 413


def test_text_is_utf8_or_refused(ingest):
    before = refused(ingest, "charset")
    for kind in ("application/json; charset=utf-8", 'application/json;charset="UTF-8"', "application/x-ndjson; charset=US-ASCII"):
        assert ingest.post({"name": "charset.ok"}, kind)[0] == 202
    for kind in ("application/json; charset=iso-8859-1", 'application/x-ndjson; q=1; Charset="utf-16"'):
        status, answer, _ = ingest.post({"name": "charset.no"}, kind)
        assert (status, "utf-8" in answer["detail"]) == (415, True)
    assert ingest.call("POST", "/v1/logs", "{}", Content_Type="application/json; charset=latin1")[0] == 415
    assert refused(ingest, "charset") == before + 2
    assert refused(ingest, "charset", "otlp") == 1
    assert ingest.post(b'\xef\xbb\xbf{"name": "with.mark"}')[0] == 202


def cloud(**more):
    return {"specversion": "1.0", "type": "cloud.one", "source": "/t", "id": "1"} | more


@pytest.mark.parametrize(("body", "kind", "status", "field"), [
    (cloud(data={"value": 2}), "application/cloudevents+json", 202, None),
    ([cloud(), cloud(data=7)], "application/cloudevents-batch+json; charset=utf-8", 202, None),
    ([], "application/cloudevents-batch+json", 202, None),
    (cloud(specversion="0.3"), "application/cloudevents+json", 422, "specversion"),
    (cloud(specversion=1.0), "application/json", 422, "specversion"),
    ({"name": "cloud.no"}, "application/cloudevents+json", 422, "specversion"),
    (cloud(type=""), "application/cloudevents+json", 422, "type"),
    (cloud(data_base64="AAEC"), "application/cloudevents+json", 422, "data_base64"),
    (cloud(data={"value": "x"}), "application/cloudevents+json", 422, "value"),
])
def test_cloud_events_in_structured_and_batched_mode(ingest, body, kind, status, field):
    got, answer, _ = ingest.post(body, kind)
    assert got == status, answer
    if field:
        assert answer["errors"][0]["field"] == field
        assert field in answer["detail"]


@pytest.mark.parametrize(("given", "kind", "body", "status", "says"), [
    ({}, "application/json", '{"value": 4, "text": "t"}', 202, None),
    ({}, "application/vnd.shop+json", "4", 202, None),
    ({}, "text/plain", "words", 202, None),
    ({"ce-type": "cloud%2Eparts"}, None, "", 202, None),
    ({}, "application/octet-stream", "\0", 415, "application/json"),
    ({}, "application/json", "{", 400, "the data is not JSON"),
    ({"ce-specversion": "0.3"}, "application/json", "4", 422, "1.0"),
    ({"ce-type": ""}, "application/json", "4", 422, "type"),
])
def test_cloud_events_in_binary_mode(ingest, given, kind, body, status, says):
    headers = {"ce-specversion": "1.0", "ce-type": "cloud.parts", "ce-source": "/t", "ce-id": str(uuid.uuid4())} | given
    if kind:
        headers["Content-Type"] = kind
    before = ingest.facts().get("cloud.parts", {}).get("total", 0)
    got, answer, _ = ingest.call("POST", "/v1/ingest", body, **headers)
    assert got == status, answer
    if says:
        assert says in answer["detail"]
    else:
        until(lambda: ingest.facts().get("cloud.parts", {}).get("total") == before + 1, 30, "the facts know")


@pytest.mark.parametrize(("line", "reason", "says"), [
    ('{"name": "n", "value": NaN}', "syntax", "column"),
    ('{"name": "n", "value": -Infinity}', "syntax", "column"),
    ('{"name": "n", "value": 1e999}', "syntax", "column"),
    ('{"name": "n", "value": 01}', "syntax", "column"),
    ('{"name": "n", "value": 1, "value": 2}', "syntax", "duplicate"),
    ('{"name": "n", "text": "\\ud800"}', "syntax", "column"),
    ('{"name": "n", "text": "\\u0000"}', "syntax", "column"),
    (b'{"name": "n", "text": "\xff"}', "syntax", "decode byte 0xff"),
    ('{"name": "n", "deep": ' + "[" * 5000 + "]" * 5000 + "}", "syntax", "depth"),
    ('{"name": "n", "id": 99999999999999999999}', "value", "rounded"),
    ('{"name": "n", "value": "1"}', "value", "not a number"),
    ('{"name": "n", "value": 1', "syntax", "column"),
    ("[" * 100000, "syntax", "depth"),
], ids=range(13))
def test_a_bad_line_is_named_and_the_good_ones_beside_it_are_taken(ingest, line, reason, says):
    before = refused(ingest, reason)
    good = ingest.facts().get("beside", {}).get("total", 0)
    line = line if isinstance(line, bytes) else line.encode()
    body = b'{"name": "beside"}\n' + line + b'\n{"name": "beside", "value": -0, "id": 9007199254740993}\n'
    status, answer, _ = ingest.post(body, "application/x-ndjson")
    assert (status, answer["accepted"], answer["rejected"]) == (202, 2, 1), answer
    assert answer["errors"][0]["line"] == 2
    assert says in answer["errors"][0]["why"]
    assert refused(ingest, reason) == before + 1
    until(lambda: ingest.facts().get("beside", {}).get("total") == good + 2, 30, "the good ones are there")


def test_an_error_of_otlp_is_a_status_in_the_form_that_came(ingest):
    def post(body, **headers):
        status, answer, r = ingest.call("POST", "/v1/metrics", body, **headers)
        return status, answer, r.getheader("Content-Type")
    assert post("[]", Content_Type="application/json") == (400, {"code": 3, "message": "not a JSON object; nothing was taken"},
                                                           "application/json")
    assert post("{}", Content_Type="application/json", Content_Encoding="br")[1]["code"] == 3
    status, answer, kind = post(b" " * (MIB + 1), Content_Type="application/x-protobuf")
    assert (status, kind) == (413, "application/x-protobuf")
    assert answer.startswith("\x08\x03\x12")
    assert refused(ingest, "too_large", "otlp") == 1
    assert post(zstandard.ZstdCompressor().compress(b"{}"), Content_Type="application/json", Content_Encoding="zstd")[0] == 200
