# SPDX-License-Identifier: Apache-2.0
"""Answers that are compressed on their way: for whom, which, and what else of the answer changes."""
import socket
import threading
import time
import zlib

import brotli
import pytest
import zstandard

from conftest import ok
from test_45_cache import purge
from h2_util import H2

ON = ", compress: on"
TEXT = b"".join(b"line %d of a text that repeats itself\n" % i for i in range(2000))
HTML = "Content-Type: text/html; charset=utf-8"


def decode(coding, data):
    """All of it: an end that is missing, or bytes behind it, fail."""
    if coding == "gzip":
        d = zlib.decompressobj(31)
        out = d.decompress(data) + d.flush()
        assert d.eof and not d.unused_data
        return out
    if coding == "br":
        d = brotli.Decompressor()
        out = d.process(data)
        assert d.is_finished()
        return out
    if coding == "zstd":
        d = zstandard.ZstdDecompressor().decompressobj()
        out = d.decompress(data)
        assert d.eof and not d.unused_data
        return out
    assert coding is None
    return data


def accepts(value):
    return "Accept-Encoding: " + value


def chunked(body, *fields, size=1000):
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n" % "".join(f + "\r\n" for f in fields)
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


def is_plain(m):
    return m.get("content-encoding") is None and m.get("content-length") is not None


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("level", [1, 4, 9])
def test_a_text_comes_back_whole_and_smaller(world, coding, level):
    origin, proxy = world.pair(lambda r, w: ok(TEXT, HTML, 'ETag: "a"', "Accept-Ranges: bytes"),
                               route=", compress: { level: %d }" % level)
    m = proxy.get("/x", accepts(coding))
    assert m.get("content-encoding") == coding and decode(coding, m.body) == TEXT
    assert len(m.body) < len(TEXT) / 4
    assert m.get("content-length") is None and m.get("accept-ranges") is None
    assert (m.get("etag"), m.all("vary"), m.get("content-type")) == ('W/"a"', ["Accept-Encoding"], HTML[14:])
    assert origin.requests[0].get("accept-encoding") == coding


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_the_same_over_http2(world, coding):
    answers = {"/l": ok(TEXT, HTML, 'ETag: W/"a"'), "/c": chunked(TEXT, HTML)}
    origin, proxy = world.pair(lambda r, w: answers[r.target], route=ON)
    h2 = H2(proxy.port)
    for path in ("/l", "/c"):
        a = h2.get(path, fields=[("accept-encoding", coding)])
        assert a.is_over and a.fields["content-encoding"] == coding and decode(coding, a.body) == TEXT
        assert "content-length" not in a.fields and "transfer-encoding" not in a.fields
        assert a.fields["vary"] == "Accept-Encoding"
        assert a.fields.get("etag") in (None, 'W/"a"')
    h2.close()


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_chunks_are_compressed_as_they_are(world, coding):
    origin, proxy = world.pair(lambda r, w: chunked(TEXT, HTML), route=ON)
    m = proxy.get("/x", accepts(coding))
    assert m.get("content-encoding") == coding and decode(coding, m.body) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_body_that_ends_with_the_connection_is_whole(world, coding):
    def answer(request, wire):
        wire.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/css\r\n\r\n" + TEXT)
        wire.close()
    origin, proxy = world.pair(answer, route=ON)
    m = proxy.get("/x", accepts(coding))
    assert decode(m.get("content-encoding"), m.body) == TEXT and m.get("content-encoding") == coding


@pytest.mark.parametrize("wanted, coding", [
    ("gzip, br, zstd", "zstd"), ("gzip, br", "br"), ("zstd;q=0.5, gzip", "gzip"), ("gzip;q=0", None), ("identity", None),
    ("gzip;q=0.5, identity", None), ("*", "zstd"), ("", None), ("deflate", None)])
def test_the_client_chooses(world, wanted, coding):
    origin, proxy = world.pair(lambda r, w: ok(TEXT, HTML), route=ON)
    m = proxy.get("/x", accepts(wanted))
    assert m.get("content-encoding") == coding and decode(coding, m.body) == TEXT
    assert m.all("vary") == ["Accept-Encoding"]


@pytest.mark.parametrize("fields", [
    ("Content-Type: image/png",), (), ("Content-Type: text/event-stream",), ("Content-Type: application/grpc",),
    (HTML, "Cache-Control: max-age=5, no-transform"), (HTML, "Content-Encoding: br"),
    (HTML, "Repr-Digest: sha-256=:AAAA:")])
def test_what_must_not_change_does_not(world, fields):
    origin, proxy = world.pair(lambda r, w: ok(TEXT, 'ETag: "a"', *fields), route=ON)
    m = proxy.get("/x", accepts("gzip, br, zstd"))
    assert m.body == TEXT and m.get("content-length") == str(len(TEXT))
    assert m.get("etag") == '"a"' and m.get("vary") is None
    assert m.get("content-encoding") == ("br" if "Content-Encoding: br" in fields else None)


def test_without_the_key_nothing_is_compressed(world):
    origin, proxy = world.pair(lambda r, w: ok(TEXT, HTML))
    m = proxy.get("/x", accepts("gzip"))
    assert is_plain(m) and m.body == TEXT and m.get("vary") is None


def test_small_bodies_errors_and_parts_stay_as_they_are(world):
    answers = {"/small": ok(TEXT[:1023], HTML), "/edge": ok(TEXT[:1024], HTML), "/empty": ok(b"", HTML),
               "/error": ok(TEXT, HTML).replace(b"200 OK", b"404 Not Found", 1),
               "/part": ok(TEXT[:2000], HTML, "Content-Range: bytes 0-1999/9999").replace(b"200 OK", b"206 Partial Content", 1)}
    origin, proxy = world.pair(lambda r, w: answers[r.target], route=ON)
    for path in ("/small", "/empty", "/error", "/part"):
        assert is_plain(proxy.get(path, accepts("gzip"))), path
    assert proxy.get("/edge", accepts("gzip")).get("content-encoding") == "gzip"


def test_the_route_names_types_and_the_smallest_body(world):
    kinds = {"/a": "application/x-own", "/b": "text/html", "/c": "text/event-stream"}
    origin, proxy = world.pair(lambda r, w: ok(TEXT[:200], "Content-Type: " + kinds[r.target]),
                               route=", compress: { types: [Application/X-Own, text/event-stream], min_bytes: 100B }")
    got = [proxy.get(p, accepts("gzip")).get("content-encoding") for p in ("/a", "/b", "/c")]
    assert got == ["gzip", None, "gzip"]


def test_http_1_0_gets_the_plain_body(world):
    origin, proxy = world.pair(lambda r, w: ok(TEXT, HTML), route=ON)
    w = proxy.connect()
    w.send("GET / HTTP/1.0\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n")
    m = w.response()
    assert is_plain(m) and m.body == TEXT and m.get("vary") == "Accept-Encoding"


def test_head_and_304_speak_of_the_compressed_answer(world):
    def answer(request, wire):
        if request.get("if-none-match"):
            return b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'
        full = ok(TEXT, HTML, 'ETag: "a"')
        return full[:full.index(b"\r\n\r\n") + 4] if request.method == "HEAD" else full
    origin, proxy = world.pair(answer, route=ON)
    m = proxy.get("/x", accepts("gzip"), method="HEAD")
    assert (m.status, m.get("content-encoding"), m.get("content-length"), m.get("etag")) == (200, "gzip", None, 'W/"a"')
    m = proxy.get("/x", accepts("gzip"), 'If-None-Match: W/"a"')
    assert (m.status, m.get("etag"), m.get("vary"), m.get("content-encoding")) == (304, 'W/"a"', "Accept-Encoding", None)
    m = proxy.get("/x", 'If-None-Match: "a"')
    assert (m.status, m.get("etag")) == (304, '"a"')


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_what_the_endpoint_has_said_arrives_before_it_says_more(world, coding):
    go = threading.Event()

    def answer(request, wire):
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nfirst\r\n")
        assert go.wait(5)
        wire.send(b"6\r\nsecond\r\n0\r\n\r\n")
    origin, proxy = world.pair(answer, route=ON)
    w = proxy.connect()
    w.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" + accepts(coding) + "\r\n\r\n")
    m = w.head()
    assert m.get("content-encoding") == coding
    part = w.exactly(int(w.until(b"\r\n"), 16))
    d = {"gzip": lambda: zlib.decompressobj(31).decompress, "br": lambda: brotli.Decompressor().process,
         "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress}[coding]()
    assert d(part) == b"first"
    go.set()
    assert w.exactly(2) == b"\r\n"
    assert b"first" + d(w.body(m).body) == b"firstsecond"


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("length", [True, False])
def test_an_answer_that_breaks_off_is_cut_for_the_client_too(world, coding, length):
    def answer(request, wire):
        full = ok(TEXT, HTML) if length else chunked(TEXT, HTML)
        wire.send(full[:len(full) // 2])
        time.sleep(0.1)
        wire.close()
    origin, proxy = world.pair(answer, route=ON)
    w = proxy.connect()
    w.send("GET / HTTP/1.1\r\nHost: test\r\n" + accepts(coding) + "\r\n\r\n")
    assert w.head().get("content-encoding") == coding
    assert not w.rest().endswith(b"0\r\n\r\n")


def slow_get(proxy, path, coding):
    """Reads nothing at first, then in drops, and the rest as it comes: drops to the end would take 20 s."""
    w = proxy.connect()
    w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    w.send("GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" % path + accepts(coding) + "\r\n\r\n")
    time.sleep(0.5)
    m = w.head()
    while len(w.buffer) < 256 << 10:
        assert w.fill()
    w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return w.body(m)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_large_body_passes_a_slow_reader_whole(world, coding):
    import random
    rng = random.Random(1)
    body = bytes(rng.getrandbits(8) & 0x3f | 0x20 for _ in range(4 << 20))
    origin, proxy = world.pair(lambda r, w: ok(body, HTML), route=", compress: { level: 1 }")
    m = slow_get(proxy, "/", coding)
    assert m.get("content-encoding") == coding and decode(coding, m.body) == body


def test_many_at_once_each_get_their_own(world):
    origin, proxy = world.pair(lambda r, w: ok(TEXT + r.target.encode(), HTML), route=ON)
    failures = []

    def client(i):
        coding = ("gzip", "br", "zstd")[i % 3]
        for k in range(5):
            m = proxy.get("/%d/%d" % (i, k), accepts(coding))
            if decode(m.get("content-encoding"), m.body) != TEXT + b"/%d/%d" % (i, k) or m.get("content-encoding") != coding:
                failures.append((i, k))
    threads = [threading.Thread(target=client, args=(i,)) for i in range(30)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert not failures and len(origin.requests) == 150


def test_streams_of_one_connection_are_compressed_side_by_side(world):
    origin, proxy = world.pair(lambda r, w: ok(TEXT + r.target.encode(), HTML), route=ON)
    h2 = H2(proxy.port)
    codings = ["gzip", "br", "zstd"] * 8
    streams = [h2.begin("/%d" % i, fields=[("accept-encoding", c)]) for i, c in enumerate(codings)]
    for i, (stream, coding) in enumerate(zip(streams, codings)):
        a = h2.wait(stream)
        assert a.fields["content-encoding"] == coding and decode(coding, a.body) == TEXT + b"/%d" % i
    h2.close()


def test_one_kept_answer_serves_every_coding(world):
    big = TEXT * 20
    origin, proxy = world.pair(lambda r, w: ok(big, HTML, "Cache-Control: max-age=60", 'ETag: "a"'),
                               route=", cache: on, compress: on")
    for coding in ("gzip", None, "br", "zstd", "gzip"):
        m = proxy.get("/x", *([accepts(coding)] if coding else []))
        assert m.get("content-encoding") == coding and decode(coding, m.body) == big
        assert m.get("etag") == ('W/"a"' if coding else '"a"') and m.all("vary") == ["Accept-Encoding"]
    m = proxy.get("/x", accepts("gzip"), 'If-None-Match: W/"a"')
    assert (m.status, m.get("etag"), m.get("vary")) == (304, 'W/"a"', "Accept-Encoding")
    m = proxy.get("/x", accepts("gzip"), "Range: bytes=10-19")
    assert (m.status, m.body, m.get("content-encoding")) == (206, big[10:20], None)
    h2 = H2(proxy.port)
    a = h2.get("/x", fields=[("accept-encoding", "br")])
    assert a.fields["content-encoding"] == "br" and decode("br", a.body) == big
    h2.close()
    assert len(origin.requests) == 1


def test_a_client_that_leaves_costs_nothing(world):
    origin, proxy = world.pair(lambda r, w: ok(TEXT * 100, HTML), route=ON)
    for i in range(30):
        w = proxy.connect()
        w.send("GET / HTTP/1.1\r\nHost: test\r\n" + accepts(("gzip", "br", "zstd")[i % 3]) + "\r\n\r\n")
        w.head()
        w.reset()
    m = proxy.get("/x", accepts("gzip"))
    assert decode("gzip", m.body) == TEXT * 100


# ---- kept compressed ----

KEEP = ", cache: on, compress: { level: 1 }"


def stored(proxy, coding, path="/x", body=TEXT):
    """Asks until the compressed form is kept: its length is known then."""
    deadline = time.time() + 60
    while time.time() < deadline:
        m = proxy.get(path, accepts(coding))
        assert m.get("content-encoding") == coding and decode(coding, m.body) == body
        if m.get("content-length"):
            return m
        time.sleep(0.05)
    raise AssertionError("never kept as " + coding)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_what_is_asked_for_again_is_kept_compressed(world, coding):
    origin, proxy = world.pair(lambda r, w: ok(TEXT, HTML, "Cache-Control: max-age=60", 'ETag: "a"', "Accept-Ranges: bytes"), route=KEEP)
    assert proxy.get("/x", accepts(coding)).get("content-length") is None
    m = stored(proxy, coding)
    assert len(m.body) < len(TEXT) / 4 and m.get("transfer-encoding") is None
    assert (m.get("etag"), m.all("vary"), m.get("accept-ranges"), len(m.all("content-length"))) == ('W/"a"', ["Accept-Encoding"], None, 1)
    h = proxy.get("/x", accepts(coding), method="HEAD")
    assert (h.get("content-length"), h.get("content-encoding"), h.get("etag")) == (str(len(m.body)), coding, 'W/"a"')
    n = proxy.get("/x", accepts(coding), 'If-None-Match: W/"a"')
    assert (n.status, n.get("etag"), n.get("content-encoding")) == (304, 'W/"a"', None)
    part = proxy.get("/x", accepts(coding), "Range: bytes=10-19")
    assert (part.status, part.body, part.get("content-encoding"), part.get("etag")) == (206, TEXT[10:20], None, '"a"')
    whole = proxy.get("/x", accepts(coding), "Range: bytes=10-19", 'If-Range: W/"a"')
    assert (whole.status, whole.body) == (200, m.body)
    plain = proxy.get("/x")
    assert is_plain(plain) and plain.body == TEXT and plain.get("etag") == '"a"'
    h2 = H2(proxy.port)
    a = h2.get("/x", fields=[("accept-encoding", coding)])
    assert (a.body, a.fields["content-length"], a.fields["content-encoding"]) == (m.body, str(len(m.body)), coding)
    h2.close()
    assert len(origin.requests) == 1


def test_a_purge_takes_every_form(world):
    body = [TEXT]
    origin, proxy = world.pair(lambda r, w: ok(body[0], HTML, "Cache-Control: max-age=60"), route=KEEP)
    for coding in ("gzip", "br", "zstd"):
        stored(proxy, coding)
    body[0] = TEXT + b"more"
    purge(proxy, 1, "test/x")
    deadline = time.time() + 20
    while decode("br", proxy.get("/x", accepts("br")).body) != body[0] and time.time() < deadline:
        time.sleep(0.05)
    for coding in ("gzip", "br", "zstd", "gzip"):
        assert decode(coding, proxy.get("/x", accepts(coding)).body) == body[0]
    assert len(origin.requests) == 2


def test_an_answer_that_is_still_good_keeps_its_forms(world):
    def answer(request, wire):
        if request.get("if-none-match"):
            return b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Control: no-cache\r\nX-New: 1\r\n\r\n'
        return ok(TEXT, HTML, "Cache-Control: no-cache", 'ETag: "a"')
    origin, proxy = world.pair(answer, route=KEEP)
    form = stored(proxy, "br")
    for _ in range(3):
        m = proxy.get("/x", accepts("br"))
        assert (m.body, m.get("content-length"), m.get("x-new")) == (form.body, str(len(form.body)), "1")
    assert len(origin.requests) > 4


def test_what_does_not_shrink_and_what_is_forbidden_is_not_kept_compressed(world):
    import random
    noise = random.Random(2).randbytes(5000)
    origin, proxy = world.pair(lambda r, w: ok(noise if r.target == "/noise" else TEXT, HTML, "Cache-Control: max-age=60" + (", no-transform" if r.target == "/fixed" else "")), route=KEEP)
    for _ in range(20):
        m = proxy.get("/noise", accepts("gzip"))
        assert decode("gzip", m.body) == noise and m.get("content-length") is None
        assert is_plain(proxy.get("/fixed", accepts("gzip")))
        time.sleep(0.02)


def test_a_kept_form_passes_a_slow_reader_whole(world):
    import random
    rng = random.Random(1)
    body = bytes(rng.getrandbits(8) & 0x3f | 0x20 for _ in range(3 << 20))
    origin, proxy = world.pair(lambda r, w: ok(body, HTML, "Cache-Control: max-age=60"), route=KEEP)
    stored(proxy, "zstd", body=body)
    m = slow_get(proxy, "/x", "zstd")
    assert m.get("content-length") and decode("zstd", m.body) == body


def test_forms_count_in_the_budget(world):
    """Sixteen bodies of 100 kB and three forms of each want 2.4 MB; there is 1 MiB."""
    import random
    rng = random.Random(3)
    bodies = {"/%d" % i: bytes(rng.getrandbits(8) & 0x3f | 0x20 for _ in range(100000)) for i in range(16)}
    origin, proxy = world.pair(lambda r, w: ok(bodies[r.target], HTML, "Cache-Control: max-age=60"),
                               route=", cache: { budget: 1MiB }, compress: { level: 1 }")
    for _ in range(6):
        for path, body in bodies.items():
            for coding in ("gzip", "br", "zstd"):
                assert decode(coding, proxy.get(path, accepts(coding)).body) == body
    use = [e for e in proxy.events("cache_use")]
    assert use and max(e["used_bytes"] for e in use) <= 1 << 20


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_large_hit_leaves_the_thread_to_others(world, coding):
    """Much that becomes little never waits for its client: it is encoded a part at a time."""
    big = (b"%07d a text that repeats itself " % 7) * (24 << 15)
    origin, proxy = world.pair(lambda r, w: ok(big if r.target == "/big" else b"small", HTML, "Cache-Control: max-age=600"),
                               threads=1, route=", cache: { max_object: 64MiB }, compress: { level: 9 }",
                               extra="cache: { memory: 256MiB }\n")
    assert proxy.get("/big").body == big and proxy.get("/small").body == b"small"
    for _ in range(8):  # this process may be held back itself
        w, other = proxy.connect(), proxy.connect()
        w.send("GET /big HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" + accepts(coding) + "\r\n\r\n")
        m = w.head()
        other.send("GET /small HTTP/1.1\r\nHost: test\r\n\r\n")
        assert other.response().body == b"small"
        w.sock.setblocking(False)
        try:
            early = b""
            while True:
                part = w.sock.recv(1 << 20)
                early += part
                if not part:
                    break
        except BlockingIOError:
            w.close()
            return
        w.close()
    raise AssertionError("nobody was served while %d bytes were encoded" % len(big))


def test_a_bomb_passes_as_it_is(world):
    """What is coded already is never decoded: 64 MiB of nothing in 64 KiB, as an answer, from memory and in a request."""
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(z.compress(bytes(1 << 20)) for _ in range(64)) + z.flush()
    assert len(bomb) < 100000
    origin, proxy = world.pair(lambda r, w: ok(bomb if r.method == "GET" else b"", HTML, "Content-Encoding: gzip", "Cache-Control: max-age=60"),
                               route=KEEP)
    before = proxy.rss_kib()
    for wanted in ("gzip", "br", "identity", "zstd") * 5:
        m = proxy.get("/bomb", accepts(wanted))
        assert m.body == bomb and m.get("content-encoding") == "gzip"
    proxy.get("/bomb", "Content-Encoding: gzip", method="POST", body=bomb)
    assert origin.requests[-1].body == bomb
    assert proxy.rss_kib() - before < 16 << 10
