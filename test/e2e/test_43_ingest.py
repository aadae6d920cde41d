# SPDX-License-Identifier: Apache-2.0
"""Events of applications: who may bring them in, what is taken and what is refused, and where they are seen."""
import gzip
import http.client
import json
import os
import socket
import struct
import sys

import pytest
from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, until  # noqa: E402

CONFIG = 'mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n  - { match: /, service: app }\n'

BEACONS = 'ingest: { beacon_origins: "https://shop.example, http://localhost:3000" }\n'


class Ingest:
    def __init__(self, fold):
        self.fold = fold
        with open(os.path.join(fold.state, "admin.json")) as f:
            self.address = json.load(f)["address"]
        self.admin = fold.cli("token").stdout.strip()
        self.token = fold.cli("token", "ingest").stdout.strip()

    def call(self, method, path, body=None, token=None, **headers):
        c = http.client.HTTPConnection(self.address, timeout=20)
        try:
            given = {"Authorization": f"Bearer {token or self.token}"} if token != "" else {}
            given |= {k.replace("_", "-"): v for k, v in headers.items()}
            c.request(method, path, body, given)
            r = c.getresponse()
            text = r.read().decode(errors="replace")  # protobuf, too
            try:
                return r.status, json.loads(text), r
            except ValueError:
                return r.status, text, r
        finally:
            c.close()

    def post(self, body, kind="application/json", **more):
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return self.call("POST", "/v1/ingest", text, Content_Type=kind, **more)

    def metrics(self):
        text = self.call("GET", "/metrics", token="")[1]
        return {x.rsplit(" ", 1)[0]: float(x.rsplit(" ", 1)[1]) for x in text.splitlines() if x and x[0] != "#"}

    def facts(self):
        return {n["name"]: n for n in self.fold.api("GET", "/v1/custom")["names"]}


@pytest.fixture(scope="module")
def ingest(tmp_path_factory):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path_factory.mktemp("ingest"), CONFIG % origin.port + BEACONS)
    try:
        fold.start()
        yield Ingest(fold)
    finally:
        fold.stop()
        origin.close()


def test_what_comes_in_is_in_the_log_the_facts_and_the_metrics(ingest):
    status, answer, _ = ingest.post([{"name": "orders.placed", "value": 10, "text": "first"},
                                     {"name": "orders.placed", "value": 32}])
    assert (status, answer) == (202, {"accepted": 2, "rejected": 0, "errors": []})
    status, _, _ = ingest.post({"specversion": "1.0", "type": "shop.order", "source": "/shop", "id": "1",
                                "data": {"value": 19.5}}, "application/cloudevents+json")
    assert status == 202
    until(lambda: ingest.facts().get("shop.order", {}).get("total") == 1, 30, "the facts know")
    fact = ingest.facts()["orders.placed"]
    assert (fact["last"], fact["total"], fact["total_sum"]) == (32, 2, 42)
    seconds = ingest.fold.api("GET", "/v1/custom?name=orders.placed")["names"][0]
    assert seconds["seconds"] is not None
    assert ingest.metrics()['foldback_custom{name="orders.placed"}'] == 32
    assert ingest.metrics()['foldback_custom_events_total{name="orders.placed"}'] == 2

    def rows():
        done = ingest.fold.cli("events", "query", "SELECT name, value FROM custom WHERE name = 'orders.placed'",
                               "--format", "json")
        return sorted(r["value"] for r in json.loads(done.stdout)) if done.returncode == 0 else None
    until(lambda: rows() == [10, 32], 30, "the log has them")


def test_a_cloud_event_that_comes_again_is_taken_once_whatever_its_form(ingest):
    counted = 'foldback_ingest_repeated_total{via="push"}'
    before = ingest.metrics()[counted]
    event = {"specversion": "1.0", "type": "once.order", "source": "/once", "id": "a-1", "data": {"value": 2}}
    status, answer, _ = ingest.post(event, "application/cloudevents+json")
    assert status == 202 and answer["accepted"] == 1 and "repeated" not in answer
    for _ in range(3):  # the answer was lost, says the sender
        status, answer, _ = ingest.post(event, "application/cloudevents+json")
        assert (status, answer["accepted"], answer["repeated"]) == (202, 0, 1), answer
    status, answer, _ = ingest.post([event, {**event, "id": "a-2"}, {**event, "id": "a-2"}, {**event, "source": "/two"}],
                                    "application/cloudevents-batch+json")
    assert (status, answer["accepted"], answer["repeated"]) == (202, 2, 2), answer
    lines = "\n".join(json.dumps({**event, "id": i}) for i in ("a-2", "a-3"))
    status, answer, _ = ingest.post(lines, "application/x-ndjson")
    assert (status, answer["accepted"], answer["repeated"]) == (202, 1, 1), answer
    for accepted in (1, 0):
        status, answer, _ = ingest.call("POST", "/v1/ingest", b"5", Content_Type="application/json", ce_specversion="1.0",
                                        ce_type="once.order", ce_source="/once", ce_id="a%2D4")
        assert (status, answer["accepted"], answer.get("repeated", 0)) == (202, accepted, 1 - accepted), answer
    # of a document that was refused nothing is known
    status, _, _ = ingest.post([{**event, "id": "a-5"}, {"specversion": "0.3"}], "application/json")
    assert status == 422
    status, answer, _ = ingest.post({**event, "id": "a-5"})
    assert (status, answer["accepted"]) == (202, 1)
    until(lambda: ingest.facts()["once.order"]["total"] == 6, 30, "each once")
    assert ingest.metrics()[counted] == before + 7
    row = next(s for s in ingest.fold.api("GET", "/v1/ingest")["sources"] if s["via"] == "push")
    assert row["repeated"] == before + 7
    for _ in range(2):  # an id of plain JSON names no event
        status, answer, _ = ingest.post({"name": "once.plain", "source": "/once", "id": "a-1"})
        assert answer == {"accepted": 1, "rejected": 0, "errors": []}


def test_lines_sent_again_beside_a_bad_one_are_repeats_and_not_refused(ingest):
    counted = 'foldback_ingest_repeated_total{via="push"}'
    before = ingest.metrics()[counted]
    event = {"specversion": "1.0", "type": "twice.order", "source": "/twice", "id": "b-1", "data": {"value": 3}}
    text = json.dumps(event) + "\nnot JSON\n"
    status, answer, _ = ingest.post(text, "application/x-ndjson")
    assert (status, answer["accepted"], answer["rejected"]) == (202, 1, 1), answer
    for i in range(2):  # the answer was lost: nothing is new, and nothing is lost
        status, answer, _ = ingest.post(text, "application/x-ndjson")
        assert (status, answer["accepted"], answer["rejected"], answer["repeated"]) == (202, 0, 1, 1), answer
        assert [e["line"] for e in answer["errors"]] == [2]
        assert ingest.metrics()[counted] == before + i + 1
    assert ingest.post("not JSON\n", "application/x-ndjson")[0] in (400, 422)
    # another sender may call itself so too: its events are its own
    status, answer, _ = ingest.post(text, "application/x-ndjson", token=ingest.admin)
    assert (status, answer["accepted"], answer["rejected"]) == (202, 1, 1) and "repeated" not in answer, answer
    until(lambda: ingest.facts().get("twice.order", {}).get("total") == 2, 30, "each sender's once")


def test_of_lines_each_good_one_is_taken_and_each_bad_one_is_named(ingest):
    before = ingest.metrics().get('foldback_ingest_refused_total{via="push",reason="value"}', 0)
    text = '{"name": "line.good", "value": 1}\n{"name": "line.bad", "value": "x"}\nnot json\n{"name": "line.good", "value": 2}\n'
    status, answer, _ = ingest.post(text, "application/x-ndjson")
    assert status == 202
    assert (answer["accepted"], answer["rejected"]) == (2, 2)
    assert [(e["line"], e.get("field")) for e in answer["errors"]] == [(2, "value"), (3, None)]
    until(lambda: ingest.facts().get("line.good", {}).get("total") == 2, 30, "the good ones are there")
    assert "line.bad" not in ingest.facts()
    assert ingest.metrics()['foldback_ingest_refused_total{via="push",reason="value"}'] == before + 1


@pytest.mark.parametrize(("body", "kind", "status", "says"), [
    ('[{"name": "all.a"}, {"name": "ALL b"}]', "application/json", 422, "line 1, element 2: the name"),
    ('[{"name": "all.a"},\n {"name" 1}]', "application/json", 400, "line 2: not JSON"),
    ("nothing\n", "application/x-ndjson", 400, "line 1: a line is not JSON"),
    ('{"name": "all.a"}', "text/plain", 415, "application/json"),
    ("", "application/json", 400, "empty"),
    ("\n".join(['{"name": "all.a"}'] * 1025), "application/x-ndjson", 413, "1024 events"),
])
def test_a_bad_document_is_refused_as_a_whole_with_its_place(ingest, body, kind, status, says):
    got, answer, _ = ingest.post(body, kind)
    assert got == status, answer
    assert says in answer["detail"]
    assert "all.a" not in ingest.facts()


def test_a_body_beyond_its_bound_is_413_and_a_large_one_within_is_taken(ingest):
    text = "".join('{"name": "bulk", "value": 1, "text": "%s"}\n' % ("x" * 180) for _ in range(1000))
    assert 64 * 1024 < len(text) < 1024 * 1024
    status, answer, _ = ingest.post(text, "application/x-ndjson")
    assert (status, answer["accepted"]) == (202, 1000)
    assert ingest.post(b" " * (1024 * 1024 + 1))[0] == 413
    assert ingest.post(text, "application/x-ndjson", token="")[0] in (401, 413)


def test_a_token_to_ingest_can_do_nothing_else(ingest):
    assert ingest.token != ingest.admin
    for method, path in [("GET", "/v1/status"), ("GET", "/v1/events"), ("GET", "/v1/custom"), ("POST", "/v1/freeze"),
                         ("POST", "/v1/events"), ("POST", "/v1/reload")]:
        status, answer, _ = ingest.call(method, path, "{}" if method == "POST" else None,
                                        Content_Type="application/json")
        assert status == 403, (path, answer)
    assert ingest.call("GET", f"/?token={ingest.token}")[0] == 403
    assert ingest.post({"name": "by.admin"}, token=ingest.admin)[0] == 202
    assert ingest.post({"name": "by.nobody"}, token="")[0] == 401
    assert ingest.post({"name": "by.nobody"}, token="wrong-wrong-wrong-wrong")[0] == 401
    assert ingest.post({"name": "by.page"}, Origin="http://evil.example")[0] == 403


def test_tokens_of_a_file_are_taken_at_a_reload(tmp_path):
    origin = Origin(lambda r, w: ok())
    tokens = tmp_path / "tokens"
    tokens.write_text("# the shop\nshop-0123456789abcdef\n")
    fold = Foldback(tmp_path, CONFIG % origin.port + f"ingest: {{ token_file: {tokens} }}\n")
    try:
        fold.start()
        i = Ingest(fold)
        assert i.post({"name": "a"}, token="shop-0123456789abcdef")[0] == 202
        tokens.write_text("till-0123456789abcdef\n")
        assert fold.cli("reload").returncode == 0
        until(lambda: i.post({"name": "a"}, token="till-0123456789abcdef")[0] == 202, 30, "the new one is known")
        assert i.post({"name": "a"}, token="shop-0123456789abcdef")[0] == 401
    finally:
        fold.stop()
        origin.close()


def test_facts_are_there_after_a_restart(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, CONFIG % origin.port)
    try:
        fold.start()
        Ingest(fold).post([{"name": "kept", "value": 5}, {"name": "kept", "value": 6}])
        until(lambda: Ingest(fold).facts().get("kept", {}).get("total") == 2, 30, "the facts know")
        fold.stop()
        fold = Foldback(tmp_path, CONFIG % origin.port)
        fold.start()
        fact = Ingest(fold).facts()["kept"]
        assert (fact["last"], fact["total"], fact["total_sum"]) == (6, 2, 11)
    finally:
        fold.stop()
        origin.close()


@pytest.fixture(scope="module")
def statsd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("statsd")
    origin = Origin(lambda r, w: ok())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    path = folder / "s.sock"
    text = f"ingest: {{ statsd: 127.0.0.1:{port}, statsd_socket: {path}, interval: 200ms }}\n"
    fold = Foldback(folder, CONFIG % origin.port + text)
    try:
        fold.start()
        i = Ingest(fold)
        i.port, i.path = port, str(path)
        yield i
    finally:
        fold.stop()
        origin.close()
    assert not path.exists()


def datagrams(i, *lines, by_path=False):
    family, to = (socket.AF_UNIX, i.path) if by_path else (socket.AF_INET, ("127.0.0.1", i.port))
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        for line in lines:
            s.sendto(line.encode(), to)


def refused(i, reason):
    return i.metrics().get('foldback_ingest_refused_total{via="statsd",reason="%s"}' % reason, 0)


def test_datagrams_become_one_event_per_name_and_interval(statsd):
    datagrams(statsd, *["udp.count:1|c|@0.5\n"] * 200)
    datagrams(statsd, "udp.gauge:10|g", "udp.gauge:-3|g", "udp.time:10:20:30|ms", "udp.set:a|s\nudp.set:b|s\nudp.set:a|s")
    until(lambda: statsd.facts().get("udp.count", {}).get("total_sum") == 400, 30, "the sum is there")
    until(lambda: {"udp.gauge", "udp.time", "udp.set"} <= set(statsd.facts()), 30, "the others are there")
    facts = statsd.facts()
    assert facts["udp.count"]["total"] < 200
    assert facts["udp.gauge"]["last"] == 7
    assert statsd.metrics()['foldback_ingest_samples_total{via="statsd"}'] >= 204


def test_events_and_checks_come_by_the_unix_socket(statsd):
    datagrams(statsd, "_e{6,5}:deploy|v2 on|t:info", "_sc|db|2|m:no answer", "unix.count:4|c\n", by_path=True)
    until(lambda: statsd.facts().get("unix.count", {}).get("total_sum") == 4, 30, "the counter is there")
    until(lambda: "check.db" in statsd.facts(), 30, "the check is there")
    assert statsd.facts()["check.db"]["last"] == 2

    def texts():
        return statsd.fold.cli("events", "query", "SELECT text FROM custom WHERE name = 'statsd.event'", "--format", "json",
                               "--no-redact").stdout
    until(lambda: "deploy: v2 on" in texts(), 30, "the log has it")


def test_bad_lines_are_counted_and_those_beside_them_are_taken(statsd):
    before = {r: refused(statsd, r) for r in ("syntax", "value", "media_type", "name", "tags_dropped")}
    datagrams(statsd, "beside.bad:1|c\nnothing\nbeside.bad:x|c\nbeside.bad:1|zz\n" + "n" * 60 + ":1|c\nbeside.bad:2|c|#a:b")
    until(lambda: statsd.facts().get("beside.bad", {}).get("total_sum") == 3, 30, "the good ones are there")
    assert {r: refused(statsd, r) - n for r, n in before.items()} == dict.fromkeys(before, 1)


def test_names_of_foldback_itself_are_not_taken(statsd):
    before = refused(statsd, "reserved")
    datagrams(statsd, "foldback.taken:7|c\nFoldback.connector.gap:5|g\nbeside.own:1|c")
    until(lambda: statsd.facts().get("beside.own", {}).get("total_sum") == 1, 30, "the good one is there")
    assert refused(statsd, "reserved") - before == 2
    assert not [n for n in statsd.facts() if n.startswith("foldback.")]


def test_a_change_of_the_settings_is_taken_at_a_reload(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, CONFIG % origin.port)
    path = tmp_path / "later.sock"
    try:
        fold.start()
        i = Ingest(fold)
        i.path = str(path)
        with open(fold.file, "a") as f:
            f.write(f"ingest: {{ statsd_socket: {path}, statsd_tags: fold, interval: 100ms }}\n")
        assert fold.cli("reload").returncode == 0
        until(path.exists, 30, "it listens")
        datagrams(i, "shop:1|c|#region:eu,paid", by_path=True)
        until(lambda: "shop.eu.paid" in i.facts(), 30, "tags are in the name")
    finally:
        fold.stop()
        origin.close()


def field(number, body):
    """A field of bytes, or of a double."""
    if isinstance(body, float):
        return bytes([number << 3 | 1]) + struct.pack("<d", body)
    if isinstance(body, str):
        body = body.encode()
    size, n = b"", len(body)
    while n >= 0x80:
        size += bytes([n & 0x7F | 0x80])
        n >>= 7
    return bytes([number << 3 | 2]) + size + bytes([n]) + body


def gauges(*pairs):
    metrics = b"".join(field(2, field(1, name) + field(5, field(1, field(4, float(value))))) for name, value in pairs)
    return field(1, field(2, metrics))


PROTOBUF = "application/x-protobuf"


def test_metrics_of_an_exporter_come_in_as_protobuf_plain_and_gzip(ingest):
    def post(body, **more):
        return ingest.call("POST", "/v1/metrics", body, Content_Type=PROTOBUF, **more)
    status, answer, r = post(gauges(("otlp.plain", 1.5), ("Otlp Gauge", 4)))
    assert (status, answer, r.getheader("Content-Type")) == (200, "", PROTOBUF)
    assert post(gzip.compress(gauges(("otlp.packed", 7))), Content_Encoding="gzip")[0] == 200
    until(lambda: {"otlp.plain", "otlp_gauge", "otlp.packed"} <= set(ingest.facts()), 30, "the facts know")
    assert ingest.facts()["otlp.plain"]["last"] == 1.5
    assert post(gauges(("otlp.cut", 1))[:-3])[0] == 400
    assert post(b"\x1f\x8b garbage", Content_Encoding="gzip")[0] == 400
    assert post(gzip.compress(b"\0" * (5 << 20)), Content_Encoding="gzip")[0] == 413
    assert ingest.call("POST", "/v1/metrics", "x", Content_Type="text/plain")[0] == 415
    assert ingest.call("POST", "/v1/metrics", b"", token="", Content_Type=PROTOBUF)[0] == 401
    assert "otlp.cut" not in ingest.facts()


def test_logs_and_traces_come_in_as_json(ingest):
    def post(path, body):
        return ingest.call("POST", path, json.dumps(body), Content_Type="application/json")[:2]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"severityNumber": 17}, {"severityNumber": 18}]}]}]}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    spans = [{"name": "GET /cart", "startTimeUnixNano": "1000000000", "endTimeUnixNano": str(1000000000 + ms * 1000000)}
             for ms in (10, 30)]
    traces = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
    assert post("/v1/logs", logs) == (200, {})
    assert post("/v1/traces", traces) == (200, {})
    until(lambda: {"otel.logs.error", "shop.get__cart"} <= set(ingest.facts()), 30, "the facts know")
    assert ingest.facts()["otel.logs.error"]["last"] == 2
    assert ingest.facts()["shop.get__cart"]["last"] == 20
    status, answer = post("/v1/traces", [])
    assert (status, answer) == (400, {"code": 3, "message": "not a JSON object; nothing was taken"})
    assert ingest.call("POST", "/v1/logs", "", Content_Type="application/json")[:2] == (
        400, {"code": 3, "message": "the body is empty; nothing was taken"})


def test_beacons_of_listed_pages_are_taken_as_known_numbers_only(ingest):
    def post(body, origin="https://shop.example"):
        return ingest.call("POST", "/v1/beacon", json.dumps(body), token="", Content_Type="text/plain", Origin=origin)
    status, _, r = post({"LCP": 1234.5, "CLS": 0.1})
    assert (status, r.getheader("Access-Control-Allow-Origin")) == (204, "https://shop.example")
    until(lambda: ingest.facts().get("web.lcp", {}).get("last") == 1234.5, 30, "the facts know")
    assert post({"LCP": 1}, "https://evil.example")[0] == 403
    assert post({"LCP": 1}, "null")[0] == 403
    assert post({"other": 1})[0] == 422
    assert post({"LCP": -1})[0] == 422
    assert post({"LCP": "1"})[0] == 422
    assert post("no object")[0] == 400
    assert post({"LCP": 1, "x" * 1100: 1})[0] == 413
    assert ingest.facts()["web.lcp"]["total"] == 1


def test_a_browser_that_asks_first_is_told_for_listed_origins_only(ingest):
    def ask(origin, path="/v1/beacon"):
        given = {"Origin": origin} if origin else {}
        return ingest.call("OPTIONS", path, token="", Access_Control_Request_Method="POST",
                           Access_Control_Request_Headers="content-type", **given)
    before = ingest.metrics().get('foldback_ingest_refused_total{via="beacon",reason="origin"}', 0)
    status, _, r = ask("http://localhost:3000")
    assert status == 204
    assert r.getheader("Access-Control-Allow-Origin") == "http://localhost:3000"
    assert r.getheader("Access-Control-Allow-Methods") == "POST"
    assert r.getheader("Access-Control-Allow-Headers") == "Content-Type"
    assert r.getheader("Access-Control-Allow-Credentials") == "true"  # browsers send beacons with cookies
    assert r.getheader("Vary") == "Origin"
    for origin in ("https://evil.example", "null", "https://shop.example.evil.example", "https://shop.exampl", ""):
        status, _, r = ask(origin)
        assert status == 403, origin
        assert r.getheader("Access-Control-Allow-Origin") is None
    assert ingest.metrics()['foldback_ingest_refused_total{via="beacon",reason="origin"}'] == before + 5
    for path in ("/v1/ingest", "/v1/metrics", "/v1/status"):
        status, _, r = ask("https://shop.example", path)
        assert status == 405
        assert r.getheader("Access-Control-Allow-Origin") is None
    status, _, r = ingest.call("POST", "/v1/beacon", '{"LCP": 5}', token="", Content_Type="application/json",
                               Origin="http://localhost:3000")
    assert (status, r.getheader("Access-Control-Allow-Origin")) == (204, "http://localhost:3000")


def test_without_origins_no_page_may_send_beacons(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, CONFIG % origin.port)
    try:
        fold.start()
        i = Ingest(fold)
        for given in ({"Origin": "https://shop.example"}, {"Origin": "null"}, {}):
            assert i.call("OPTIONS", "/v1/beacon", token="", **given)[0] == 403
            assert i.call("POST", "/v1/beacon", '{"LCP": 5}', token="", **given)[0] == 403
    finally:
        fold.stop()
        origin.close()


def test_names_beyond_the_bounds_are_told_and_counted(ingest):
    """The last one: afterwards there is no place for new names."""
    body = gauges(*((f"many.{i}", i) for i in range(600)))
    status, answer, _ = ingest.call("POST", "/v1/metrics", body, Content_Type=PROTOBUF)
    assert status == 200
    assert "512 names" in answer
    until(lambda: ingest.metrics()["foldback_custom_names_refused_total"] > 0, 30, "the facts are full")
    assert len(ingest.facts()) == 256
    assert ingest.metrics()['foldback_ingest_refused_total{via="otlp",reason="names_full"}'] == 88
