"""HTTP/2 towards clients, HTTP/1 to endpoints: exchanges, bodies, flow control, refusals, slots."""
import os
import re
import time

import pytest

from conftest import REPO, WAIT_S, config, ok
from h2_util import DATA, H2, HEADERS, PROTOCOL_ERROR, RST_STREAM, Raw, block, frame, literal

pytestmark = pytest.mark.short

with open(os.path.join(REPO, "src", "event", "reasons.def")) as f:
    REASON = {int(n): name for name, n in re.findall(r"^REASON\(\w+, \w+, (\w+), (\d+)", f.read(), re.M)}


def test_an_exchange_has_fields_status_and_body(world):
    origin, proxy = world.pair(lambda m, w: ok(b"body of " + m.target.encode(), "X-Mine: yes"))
    c = H2(proxy.port)
    a = c.get("/a?b=c", fields=[("x-thing", "1")])
    assert (a.status, a.body, a.fields["x-mine"]) == (200, b"body of /a?b=c", "yes")
    assert "connection" not in a.fields and "transfer-encoding" not in a.fields
    m = origin.requests[-1]
    assert (m.get("host"), m.get("x-thing"), m.get("via")) == ("test", "1", "1.1 foldback")
    e = proxy.wait_events(1)[0]
    assert (REASON[e["reason"]], e["status"], e["protocol"]) == ("answered", 200, 1)


def test_many_streams_share_a_connection(world):
    origin, proxy = world.pair(lambda m, w: ok(m.target.encode()))
    c = H2(proxy.port)
    streams = [c.begin("/%d" % i) for i in range(60)]
    assert [c.wait(s).body for s in streams] == [b"/%d" % i for i in range(60)]


@pytest.mark.parametrize("length", ["announced", "unknown"])
def test_a_body_goes_up_and_down_whole(world, length):
    origin, proxy = world.pair(lambda m, w: ok(m.body))
    body = bytes(i * 7 % 251 for i in range(1 << 20))
    c = H2(proxy.port)
    fields = [("content-length", str(len(body)))] if length == "announced" else []
    a = c.get("/", "POST", fields, body)
    assert a.status == 200 and a.body == body
    m = origin.requests[-1]
    assert (m.get("content-length") is None) == (length == "unknown")


def test_a_chunked_answer_with_trailers_keeps_them(world):
    origin, proxy = world.pair(lambda m, w: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                               b"3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")
    a = H2(proxy.port).get("/", fields=[("te", "trailers")])
    assert (a.body, a.trailers) == (b"abc", {"x-sum": "7"})


def test_trailers_of_a_request_reach_the_endpoint(world):
    origin, proxy = world.pair(lambda m, w: ok(b"ok"))
    c = H2(proxy.port)
    s = c.begin("/", "POST", is_last=False)
    c.send(s, b"abc")
    c.c.send_headers(s, [("x-sum", "7")], end_stream=True)
    c.flush()
    assert c.wait(s).status == 200
    assert origin.requests[-1].body == b"abc"
    assert origin.requests[-1].trailers == [("x-sum", "7")]


def test_interim_answers_pass(world):
    def answer(m, w):
        w.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        return ok(b"ok")
    origin, proxy = world.pair(answer)
    a = H2(proxy.port).get()
    assert a.interim[0][":status"] == "103" and a.interim[0]["link"] == "</a.css>"
    assert a.body == b"ok"


def test_head_and_204_have_no_body(world):
    origin, proxy = world.pair(lambda m, w: b"HTTP/1.1 204 No Content\r\n\r\n" if m.target == "/204" else
                               b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    c = H2(proxy.port)
    a = c.get("/", "HEAD")
    assert (a.status, a.fields["content-length"], a.body, a.is_over) == (200, "9", b"", True)
    a = c.get("/204")
    assert (a.status, a.is_over) == (204, True)


def test_cookie_crumbs_become_one_field(world):
    origin, proxy = world.pair(lambda m, w: ok(b"ok"))
    H2(proxy.port).get(fields=[("cookie", "a=1"), ("x-mid", "m"), ("cookie", "b=2")])
    m = origin.requests[-1]
    assert m.all("cookie") == ["a=1; b=2"] and m.get("x-mid") == "m"


def test_an_endpoint_that_cuts_its_answer_resets_the_stream_only(world):
    def answer(m, w):
        if m.target == "/cut":
            w.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
            return False
        return ok(b"ok")
    origin, proxy = world.pair(answer)
    c = H2(proxy.port)
    a = c.get("/cut")
    assert a.reset == 2 and not a.is_over  # INTERNAL_ERROR
    assert c.get("/").body == b"ok"
    assert [REASON[e["reason"]] for e in proxy.wait_events(2)] == ["upstream_cut", "answered"]


def test_refusals_are_answers(world):
    origin, proxy = world.pair(lambda m, w: ok(b"ok"), extra="limits: { header_bytes: 2KiB }\n")
    c = H2(proxy.port, checks=False)
    assert c.get("/", "TRACE").status == 501
    assert c.get(fields=[("x-big", "y" * 3000)]).status == 431
    assert c.get(fields=[("host", "other")]).status == 400
    assert c.get("/%zz").status == 400
    assert not origin.requests
    reasons = [REASON[e["reason"]] for e in proxy.wait_events(4)]
    assert reasons == ["bad_method", "headers_too_large", "bad_host", "bad_request"]


MALFORMED = {
    "upper case": block(extra=literal("X-Up", "1")),
    "connection": block(extra=literal("connection", "close")),
    "transfer-encoding": block(extra=literal("transfer-encoding", "chunked")),
    "upgrade": block(extra=literal("upgrade", "h2c")),
    "te": block(extra=literal("te", "gzip")),
    "CR LF in a value": block(extra=literal("x", "a\r\nHost: b")),
    "NUL in a value": block(extra=literal("x", "a\0b")),
    "blank in front of a value": block(extra=literal("x", " a")),
    "blank in a name": block(extra=literal("x y", "a")),
    "empty name": block(extra=literal("", "a")),
    "two paths": block(extra=literal(":path", "/b")),
    "unknown pseudo field": block(extra=literal(":thing", "1")),
    "pseudo field behind a field": literal("x", "1") + block(),
    "no path": literal(":method", "GET") + literal(":scheme", "http") + literal(":authority", "a"),
    "empty path": block(path=""),
    "path without a slash": block(path="a"),
    "absolute form in path": block(path="http://b/"),
    "blank in the path": block(path="/a b"),
    "no scheme": literal(":method", "GET") + literal(":path", "/") + literal(":authority", "a"),
    "length and no body": block(method="POST", extra=literal("content-length", "3")),
    "two lengths": block(extra=literal("content-length", "0") + literal("content-length", "0")),
    "almost a framing field": block(extra=literal("content_length", "3")),
    "status in a request": block(extra=literal(":status", "200")),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_reset_and_goes_nowhere(world, name):
    origin, proxy = world.pair(lambda m, w: ok(b"ok"))
    r = Raw(proxy.port)
    r.send(frame(HEADERS, 5, 1, MALFORMED[name]))
    assert int.from_bytes(r.wait(RST_STREAM), "big") == PROTOCOL_ERROR
    r.send(frame(HEADERS, 5, 3, block()))
    assert r.wait(HEADERS) is not None  # the connection goes on
    assert len(origin.requests) == 1
    assert REASON[proxy.wait_events(2)[0]["reason"]] == "h2_malformed"


def test_a_slow_endpoint_shuts_the_window_and_nothing_piles_up(world):
    """Upload to an endpoint that does not read: at most the windows are taken."""
    origin = world.origin(raw=lambda w: time.sleep(60))
    proxy = world.proxy(config(origin, extra="http2: { window: 128KiB }\n"))
    c = H2(proxy.port)
    s = c.begin("/", "POST", is_last=False)
    sent, quiet = 0, 0
    while quiet < 5:
        n = min(c.c.local_flow_control_window(s), 16384)
        if n == 0:
            quiet += 0 if c.pump(0.2) else 1
            continue
        quiet = 0
        c.c.send_data(s, b"z" * n)
        c.flush()
        sent += n
        assert sent < 16 << 20, "nothing holds the client back"
    assert sent >= 128 << 10


def test_a_shut_window_holds_the_endpoint_back(world):
    sent = []

    def answer(m, w):
        if m.target == "/small":
            return ok(b"ok")
        w.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        w.sock.settimeout(0.7)
        try:
            while True:
                w.send(b"z" * 65536)
                sent.append(65536)
        except OSError:
            return False
    origin, proxy = world.pair(answer)
    c = H2(proxy.port)
    assert c.get("/small").status == 200
    c.reads = False
    before = proxy.rss_kib()
    s = c.begin()
    for _ in range(6):
        c.pump(0.2)
    assert len(c.answers[s].body) == 65533  # the window of the protocol
    assert sum(sent) < 12 << 20  # socket buffers
    if not proxy.is_sanitized:
        assert proxy.rss_kib() - before < 1024


def test_a_reset_stream_counts_until_its_endpoint_is_through(world):
    """100 slots: whoever resets 60 of 60 gets 40 more, not 100."""
    import threading
    now, peak, lock, free = [0], [0], threading.Lock(), threading.Event()

    def answer(m, w):
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        free.wait(WAIT_S)
        with lock:
            now[0] -= 1
        return ok(b"ok")
    origin, proxy = world.pair(answer, extra="http2: { streams: 20 }\n", service="    tune: { limit: { min: 200, value: 200, max: 200 } }\n")
    c = H2(proxy.port)
    for _ in range(5):
        streams = [c.begin() for _ in range(12)]
        time.sleep(0.1)
        for s in streams:
            if c.answers[s].reset is None and not c.answers[s].is_over:
                try:
                    c.c.reset_stream(s, 8)
                except Exception:
                    pass
        c.flush()
        c.pump(0.1)
    time.sleep(0.2)
    assert 12 <= peak[0] <= 20
    free.set()
    reasons = {REASON[e["reason"]] for e in proxy.wait_events(60)}
    assert {"stream_reset", "h2_refused"} <= reasons
    time.sleep(0.3)
    assert H2(proxy.port).get().status == 200


def test_a_reset_upload_counts_until_its_endpoint_is_through(world):
    """The endpoint works from the head on, whatever comes of the body."""
    import threading
    now, peak, lock = [0], [0], threading.Lock()

    def work(w):
        w.until(b"\r\n\r\n")
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        time.sleep(1.0)
        with lock:
            now[0] -= 1
    origin = world.origin(raw=work)
    proxy = world.proxy(config(origin, extra="http2: { streams: 20 }\n",
                               service="    tune: { limit: { min: 200, value: 200, max: 200 } }\n"))
    r = Raw(proxy.port)
    sid = 1
    for _ in range(4):
        ids = list(range(sid, sid + 30, 2))
        sid += 30
        r.send(b"".join(frame(HEADERS, 4, i, block(method="POST")) + frame(DATA, 0, i, b"part") for i in ids))
        time.sleep(0.1)
        r.send(b"".join(frame(RST_STREAM, 0, i, b"\0\0\0\x08") for i in ids))
        r.pump(0.05)
    assert 12 <= peak[0] <= 20
    time.sleep(1.5)
    assert H2(proxy.port).c is not None and now[0] == 0
    r.send(frame(HEADERS, 5, sid, block()))
    end = time.monotonic() + 3
    while now[0] == 0 and time.monotonic() < end:
        time.sleep(0.02)
    assert now[0] == 1  # the slots came back


def test_what_waits_at_the_end_of_a_drain_is_told(world):
    import threading
    free = threading.Event()

    def answer(m, w):
        free.wait(WAIT_S)
        return ok(b"late")
    origin, proxy = world.pair(answer, extra="gateway: { drain_timeout: 800ms }\n",
                               service="    tune: { limit: { min: 1, value: 1, max: 1 } }\n    queue: { wait: 5s, capacity: 9 }\n")
    r = Raw(proxy.port)
    r.send(frame(HEADERS, 5, 1, block("/1")) + frame(HEADERS, 5, 3, block("/2")))
    time.sleep(0.3)
    proxy.drain()
    assert r.wait(HEADERS, 4) is not None  # 503 for the one that waited
    assert [f[2] for f in r.frames if f[0] == HEADERS] == [3]
    free.set()


def test_drain_tells_clients_and_finishes_what_is_open(world):
    import threading
    free = threading.Event()

    def answer(m, w):
        free.wait(WAIT_S)
        return ok(b"late")
    origin, proxy = world.pair(answer)
    r = Raw(proxy.port)
    r.send(frame(HEADERS, 5, 1, block()))
    time.sleep(0.2)
    proxy.drain()
    assert r.goaway() == 0
    free.set()
    assert r.wait(DATA) == b"late"
    end = time.monotonic() + WAIT_S
    while not r.is_closed and time.monotonic() < end:
        r.pump(0.5)
    assert r.is_closed
