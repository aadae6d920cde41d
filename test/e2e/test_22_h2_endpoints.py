# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 towards endpoints (services.NAME.protocol: h2c)."""
import concurrent.futures
import hashlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time

import h2.errors
import h2.settings
import pytest
from conftest import WAIT_S, Wire, config, free_port, ok
from h2_origin import H2Origin
from h2_util import H2
from tls_util import Authority, TlsOrigin, server_context

pytestmark = pytest.mark.short
H2C = "    protocol: h2c\n"


@pytest.fixture
def origins(world):
    """Closed after the proxy, with the world."""
    def make(*a, **k):
        o = H2Origin(*a, **k)
        world.origins.append(o)
        return o
    return make


def until(what, wait_s=WAIT_S):
    end = time.monotonic() + wait_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def pair(world, origins, answer=None, threads=1, service="", extra="", **k):
    origin = origins(answer, **k)
    return origin, world.proxy(config(origin, service=H2C + service, extra=extra), threads)


def test_a_request_and_its_answer_cross_over(world, origins):
    origin, proxy = pair(world, origins, lambda st: st.ok(st.body + b"!", ("x-a", "1"), ("set-cookie", "a=b")))
    m = proxy.get("/x?y=1", "X-Mixed-Case: Yes", "Cookie: a=1", method="POST", body=b"hello")
    assert (m.status, m.body, m.get("x-a"), m.get("set-cookie")) == (200, b"hello!", "1", "a=b")
    st = origin.requests[0]
    assert (st.get(":method"), st.path, st.get(":authority"), st.get(":scheme")) == ("POST", "/x?y=1", "test", "http")
    assert (st.get("x-mixed-case"), st.get("content-length"), st.get("cookie")) == ("Yes", "5", "a=1")
    names = [n for n, _ in st.fields]
    assert not {"connection", "host", "transfer-encoding", "keep-alive"} & set(names)
    assert "via" in names and "x-forwarded-for" in names


def test_many_clients_share_one_connection(world, origins):
    origin, proxy = pair(world, origins, lambda st: (time.sleep(0.05), st.ok(st.path)),
                         service="    tune: { limit: { min: 64 } }\n")  # a slow machine is no reason to shed here
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        got = list(pool.map(lambda i: proxy.get("/%d" % i).body.decode(), range(120)))
    assert got == ["/%d" % i for i in range(120)]
    assert origin.connections == 1
    assert origin.peak > 5


def test_a_body_without_length_and_its_trailers_cross_over(world, origins):
    def answer(st):
        st.head(200, ("content-type", "text/plain"), ("trailer", "x-sum"))
        for part in (b"alpha", b"beta", b"gamma" * 1000):
            st.data(part)
        st.end(("x-sum", "7"), ("set-cookie", "a=b"))
    origin, proxy = pair(world, origins, answer)
    w = proxy.connect().send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n"
                             "\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-In: 1\r\n\r\n")
    m = w.response()
    assert m.body == b"alphabeta" + b"gamma" * 1000
    assert m.trailers == [("x-sum", "7")]
    st = origin.requests[0]
    assert st.body == b"abcde" and st.trailers == [("x-in", "1")] and st.get("te") == "trailers"
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert w.response().status == 200


@pytest.mark.parametrize("status, method", [(204, "GET"), (304, "GET"), (200, "HEAD"), (404, "GET"), (301, "GET")])
def test_answers_without_a_body(world, origins, status, method):
    origin, proxy = pair(world, origins, lambda st: st.head(status, ("x-a", "b"), is_last=True))
    w = proxy.connect()
    for _ in range(3):
        m = w.send("%s / HTTP/1.1\r\nHost: a\r\n\r\n" % method).response(method)
        assert m.status == status and m.body == b"" and m.get("x-a") == "b"
    assert origin.connections == 1


def test_interim_answers_are_passed_on(world, origins):
    def answer(st):
        st.conn.do(lambda c: c.send_headers(st.id, [(":status", "103"), ("link", "</a>")]))
        st.ok()
    origin, proxy = pair(world, origins, answer)
    w = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert w.head().status == 103
    assert w.response().body == b"ok"


def test_large_bodies_cross_over_whole(world, origins):
    data = os.urandom(5000000)

    def answer(st):
        assert st.body == data
        st.head(200)
        st.data(data, is_last=True)
    origin, proxy = pair(world, origins, answer)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for m in pool.map(lambda _: proxy.get("/", method="POST", body=data), range(4)):
            assert hashlib.sha256(m.body).digest() == hashlib.sha256(data).digest()


def test_a_resting_reader_holds_its_stream_and_no_other(world, origins):
    def answer(st):
        if st.path == "/small":
            st.ok("small")
        else:
            st.head(200)
            st.data(b"x" * 8000000, is_last=True, wait_s=30)
    origin, proxy = pair(world, origins, answer, extra="limits: { write_timeout: 30s, min_rate_grace: 60s }\n")
    slow = proxy.connect().send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: origin.conns and origin.conns[0].sent_bytes > 100000)
    held = 0
    while held != origin.conns[0].sent_bytes:  # until the sockets are full
        held = origin.conns[0].sent_bytes
        time.sleep(0.5)
    for _ in range(20):
        assert proxy.get("/small").body == b"small"
    assert origin.conns[0].sent_bytes - held < 1000 and held < 6000000
    assert proxy.rss_kib() < 60000
    assert slow.response().body == b"x" * 8000000
    assert origin.connections == 1


def test_an_endpoint_that_reads_nothing_holds_the_client_back(world, origins):
    origin, proxy = pair(world, origins, consumes=False)
    w = proxy.connect().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
    w.sock.settimeout(1)
    sent = 0
    with pytest.raises(socket.timeout):
        while True:
            sent += w.sock.send(b"x" * 65536)
    assert sent < 12000000
    assert len(origin.requests[0].body) == 65535
    w.reset()
    until(lambda: origin.requests[0].reset is not None)


def test_an_early_answer_ends_the_upload(world, origins):
    origin, proxy = pair(world, origins, lambda st: st.head(413, is_last=True), is_early=True)
    w = proxy.connect().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\nabc")
    assert w.response().status == 413
    until(lambda: origin.requests[0].reset is not None)


# ---- limits of the endpoint ----

def test_more_streams_than_one_connection_takes_open_another(world, origins):
    origin, proxy = pair(world, origins, lambda st: (time.sleep(0.3), st.ok()), service="    tune: { limit: { min: 64 } }\n",
                         settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 5})
    assert proxy.get().status == 200
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert [m.status for m in pool.map(lambda _: proxy.get(), range(20))] == [200] * 20
    assert 4 <= origin.connections <= 6


def test_a_refused_stream_is_asked_again(world, origins):
    refused = []

    def answer(st):
        if len(refused) < 3:
            refused.append(st)
            st.cancel(h2.errors.ErrorCodes.REFUSED_STREAM)
        else:
            st.ok()
    origin, proxy = pair(world, origins, answer)
    assert proxy.get("/", method="POST", body=b"once").body == b"ok"
    assert len(refused) == 3
    event, = proxy.wait_events(1)
    assert event["reason_name"] == "answered"


def test_goaway_under_load_loses_no_request(world, origins):
    """Every connection says goodbye after some streams; those behind its last one are known unsent."""
    counts = {}

    def answer(st):
        with origin.lock:
            counts[st.conn] = counts.get(st.conn, 0) + 1
            n = counts[st.conn]
        if n == 20:
            st.conn.leave(last_id=st.id)
        if n > 20:
            return
        time.sleep(0.002)
        st.ok(st.path)
    origin, proxy = pair(world, origins, answer, threads=2)

    def some(k):
        w = proxy.connect()
        return [w.send("GET /%d-%d HTTP/1.1\r\nHost: a\r\n\r\n" % (k, i)).response().body.decode() for i in range(50)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        got = list(pool.map(some, range(10)))
    assert got == [["/%d-%d" % (k, i) for i in range(50)] for k in range(10)]
    assert origin.connections > 10


def test_a_graceful_goodbye_lets_open_streams_end(world, origins):
    go = threading.Event()

    def answer(st):
        if st.path == "/slow":
            st.conn.leave(last_id=st.id)
            go.wait(WAIT_S)
        st.ok(st.path)
    origin, proxy = pair(world, origins, answer)
    slow = proxy.connect().send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: origin.requests)
    time.sleep(0.1)
    assert proxy.get("/other").body == b"/other"
    go.set()
    assert slow.response().body == b"/slow"
    assert origin.connections == 2


# ---- faults ----

def test_an_endpoint_that_dies_in_the_middle_of_streams(world, origins):
    """Answers that had begun are cut; what had not is answered by another endpoint."""
    def answer(st):
        if st.path == "/begun":
            st.head(200, ("content-length", "100"))
            st.data(b"x" * 10)
            return
        if st.conn.origin is dying:
            time.sleep(30)
        st.ok("alive")
    dying, alive = origins(answer), origins(answer)
    wide = H2C + "    tune: { limit: { min: 64 } }\n"
    proxy = world.proxy(config(dying, service=wide), 1)
    begun = proxy.connect().send("GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
    assert begun.head().status == 200
    waiting = [proxy.connect().send("GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(8)]
    posts = [proxy.connect().send("POST /waiting HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx") for _ in range(2)]
    until(lambda: len(dying.requests) == 11)
    assert proxy.reload(config(dying, alive, service=wide)).startswith("reloaded")
    dying.close()
    assert begun.rest() == b"x" * 10
    got = [w.response() for w in waiting]
    assert [(m.status, m.body) for m in got] == [(200, b"alive")] * 8
    assert [w.response().status for w in posts] == [502, 502]


@pytest.mark.parametrize("garbage", [
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", os.urandom(200), b"\0" * 64,
    struct.pack(">I", 20000)[1:] + b"\x04\0\0\0\0\0" + b"x" * 20000])
def test_garbage_instead_of_http2_is_a_bad_answer(world, origins, garbage):
    def raw(wire):
        wire.fill()
        wire.send(garbage)
        time.sleep(0.2)
    origin = world.origin(raw=raw)
    proxy = world.proxy(config(origin, service=H2C + "    eject: false\n", extra="upstream: { retries: 0 }\n"), 1)
    for _ in range(3):
        assert proxy.get(method="POST", body=b"x").status == 502


@pytest.mark.parametrize("fields", [
    [("connection", "close")], [("X-Upper", "a")], [("transfer-encoding", "chunked")], [(":path", "/")],
    [("content-length", "3")], [("content-length", "5"), ("content-length", "6")], [("x", "a\r\nb: c")]])
def test_a_head_that_http2_does_not_allow_never_reaches_the_client(world, origins, fields):
    def answer(st):
        st.conn.do(lambda c: c.send_headers(st.id, [(":status", "200"), *fields]))
        st.conn.do(lambda c: c.send_data(st.id, b"hello", end_stream=True))
    origin, proxy = pair(world, origins, answer, service="    eject: false\n", extra="upstream: { retries: 0 }\n")
    w = proxy.connect().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    try:
        m = w.response()
    except EOFError:
        return  # the head was sound, the body was not as long as it said
    if m.status == 200:  # the one field was dropped, the rest is the answer
        assert m.body == b"hello" and fields[0][0] in ("x", "X-Upper") and not m.get("x") and not m.get("x-upper")
    else:
        assert m.status == 502


def test_a_head_beyond_the_limits_is_refused(world, origins):
    origin, proxy = pair(world, origins, lambda st: st.ok("", *[("x-%d" % i, "y" * 1000) for i in range(20)]),
                         service="    eject: false\n", extra="limits: { header_bytes: 8KiB }\n")
    m = proxy.get()
    assert m.status == 502 and "upstream_headers_too_large" in m.get("proxy-status")
    assert proxy.get().status == 502
    assert origin.connections == 1


def test_a_reset_in_the_answer_is_a_cut(world, origins):
    def answer(st):
        st.head(200, ("content-length", "100"))
        st.data(b"x" * 10)
        st.cancel(h2.errors.ErrorCodes.INTERNAL_ERROR)
    origin, proxy = pair(world, origins, answer, service="    eject: false\n")
    w = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert w.head().status == 200
    assert w.rest() == b"x" * 10
    event, = proxy.wait_events(1)
    assert event["reason_name"] == "upstream_cut"


def test_a_client_that_leaves_in_the_answer_cancels_its_stream(world, origins):
    def answer(st):
        st.head(200)
        while st.reset is None:
            st.data(b"x" * 1000)
            time.sleep(0.01)
    origin, proxy = pair(world, origins, answer)
    w = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    w.head()
    w.close()
    until(lambda: origin.requests[0].reset == h2.errors.ErrorCodes.CANCEL)
    assert origin.connections == 1


def test_a_client_that_leaves_early_keeps_its_slot_until_the_endpoint_is_through(world, origins):
    origin, proxy = pair(world, origins, lambda st: (time.sleep(0.6), st.ok()),
                         service="    tune: { limit: { value: 1, min: 1, max: 1 } }\n    queue: { wait: 5s, capacity: 50 }\n")
    for _ in range(6):
        w = proxy.connect().send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.05)
        w.close()
    assert proxy.get("/stayed").status == 200
    assert origin.peak == 1


def test_a_timeout_cancels_the_stream_and_not_the_connection(world, origins):
    def answer(st):
        if st.path == "/slow":
            time.sleep(3)
        st.ok()
    origin, proxy = pair(world, origins, answer, service="    eject: false\n", extra="upstream: { timeout: 300ms, retries: 0 }\n")
    m = proxy.get("/slow", method="POST", body=b"")
    assert m.status == 504
    until(lambda: origin.requests[0].reset is not None)
    assert proxy.get("/").body == b"ok"
    assert origin.connections == 1


def test_a_dead_connection_is_found_and_given_up(world, origins):
    """The endpoint reads nothing any more: no answer to the ping."""
    def answer(st):
        if st.conn is origin.conns[0]:
            st.conn.reads = False
            return
        st.ok()
    origin, proxy = pair(world, origins, answer, extra="upstream: { timeout: 60s }\n")
    begun = time.monotonic()
    w = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    w.sock.settimeout(50)
    assert w.response().status == 200
    assert 9 < time.monotonic() - begun < 40  # upstream.timeout is a minute
    assert origin.connections == 2


def test_idle_connections_are_closed_with_a_goodbye(world, origins):
    origin, proxy = pair(world, origins, extra="upstream: { keepalive: 1s }\n")
    assert proxy.get().status == 200
    until(lambda: origin.conns[0].goaway == 0)


def test_nobody_listens_there(world):
    proxy = world.proxy(config(free_port(), service=H2C), 1)
    m = proxy.get()
    assert m.status in (502, 503)


def test_the_proxy_header_stands_before_the_preface(world, origins):
    heads = []

    def first(conn):
        text = b""
        while not text.endswith(b"\r\n"):
            text += conn.sock.recv(1)
        heads.append(text)
    origin, proxy = pair(world, origins, first=first, service="    proxy_protocol: v1\n")
    a, b = proxy.connect(), proxy.connect()
    for _ in range(3):
        for w in (a, b):
            assert w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().status == 200
    assert sorted(heads) == sorted(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (w.sock.getsockname()[1], proxy.port)
                                   for w in (a, b))


@pytest.mark.parametrize("status", [200, 503])
def test_health_checks_speak_http2(world, origins, status):
    def answer(st):
        if st.path == "/up":
            st.conn.do(lambda c: c.send_headers(st.id, [(":status", "103"), ("link", "</a>")]))
            st.head(status, is_last=True)
        else:
            st.ok()
    origin, proxy = pair(world, origins, answer, service="    health: { path: /up, interval: 100ms, timeout: 2s, fall: 1, rise: 1 }\n")
    until(lambda: sum(st.path == "/up" for st in origin.requests) >= 3)
    st = origin.requests[0]
    assert st.get(":method") == "GET" and st.get("user-agent") == "foldback-health"
    probes = []
    until(lambda: probes.extend(e for e in proxy.events("health") if e["status"]) or probes)  # the answer was on its way
    assert {e["status"] for e in probes} == {status}
    assert {e["reason"] for e in probes} == {203 if status == 200 else 202}


# ---- another implementation ----

@pytest.mark.skipif(not shutil.which("nghttpd"), reason="nghttpd is not installed")
def test_nghttpd_serves_files(world, tmp_path):
    files = {"/%d" % i: os.urandom(size) for i, size in enumerate((0, 1, 1000, 70000, 3000000))}
    for name, data in files.items():
        (tmp_path / name[1:]).write_bytes(data)
    port = free_port()
    server = subprocess.Popen(["nghttpd", "--no-tls", "-d", str(tmp_path), str(port)], stdout=subprocess.DEVNULL)
    try:
        until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        proxy = world.proxy(config(port, service=H2C), 2)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for name, m in pool.map(lambda n: (n, proxy.get(n)), list(files) * 20):
                assert m.status == 200 and m.body == files[name]
        assert proxy.get("/none").status == 404
    finally:
        server.terminate()
        server.wait()


# ---- over TLS ----

@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("ca")))


def secure(authority, *alpn):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(*authority.leaf("localhost", "127.0.0.1"))
    if alpn:
        c.set_alpn_protocols(list(alpn))
    return c


def tls_config(authority, *origins):
    return config(*origins, service="    protocol: h2\n    eject: false\n    tls: { ca: %s, name: localhost }\n" % authority.cert,
                  extra="upstream: { retries: 0, connect_timeout: 10s }\n")


def test_http2_over_tls(world, origins, authority):
    data = os.urandom(3000000)
    origin = origins(lambda st: st.ok(st.body or "ok"), tls=secure(authority, "h2"))
    proxy = world.proxy(tls_config(authority, origin), 1)
    assert proxy.get().body == b"ok"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(m.body == data for m in pool.map(lambda _: proxy.get(method="POST", body=data), range(4)))
    assert origin.requests[0].get(":scheme") == "https"
    assert origin.connections == 1


def test_an_endpoint_that_does_not_agree_on_http2_is_refused(world, origins, authority):
    for alpn in (["http/1.1"], []):
        origin = origins(tls=secure(authority, *alpn))
        proxy = world.proxy(tls_config(authority, origin), 1)
        m = proxy.get()
        assert m.status == 502 and "upstream_not_http2" in m.get("proxy-status")
        assert origin.requests == []


def test_an_endpoint_that_knows_no_protocol_of_ours_is_refused(world, authority):
    """It ends the handshake with an alert, as RFC 7301 wants it."""
    origin = world.origin(raw=lambda w: w.fill() and w.send(b"\x15\x03\x03\x00\x02\x02\x78"))
    proxy = world.proxy(tls_config(authority, origin), 1)
    m = proxy.get()
    assert m.status == 502 and "upstream_not_http2" in m.get("proxy-status")


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b""])
def test_an_endpoint_without_http2_is_told_as_that(world, says):
    """It answers in its own way, or closes; some of our frames may be unread then, which is a reset."""
    origin = world.origin(raw=lambda w: w.fill() and says and w.send(says))
    proxy = world.proxy(config(origin, service="    protocol: h2c\n    eject: false\n"), 1)
    for body in (b"", b"x" * 100000):
        m = proxy.get(method="POST" if body else "GET", body=body)
        assert m.status == 502 and 'details="upstream_not_http2"' in m.get("proxy-status")
        assert "error=http_protocol_error" in m.get("proxy-status")
    assert "did not speak HTTP/2" in proxy.log()


def test_a_post_that_an_endpoint_may_have_read_is_sent_once(world):
    """Silence tells nothing: it may have read the request, worked, and died."""
    seen = []

    def read(wire):
        data = b""
        while b"the body" not in data:
            data += wire.sock.recv(65536)
        seen.append(1)
    ends = [world.origin(raw=read) for _ in range(3)]
    proxy = world.proxy(config(*ends, service="    protocol: h2c\n    eject: false\n"), 1)
    m = proxy.get(method="POST", body=b"the body")
    assert m.status == 502 and "upstream_not_http2" in m.get("proxy-status")
    assert len(seen) == 1


def test_an_endpoint_that_closes_but_speaks_http2_is_a_reset(world, origins):
    origin = origins(lambda st: st.ok())
    proxy = world.proxy(config(origin, service="    protocol: h2c\n    eject: false\n", extra="upstream: { retries: 0 }\n"), 1)
    assert proxy.get().status == 200
    origin.first = lambda conn: conn.sock.shutdown(socket.SHUT_RDWR)
    origin.drop()
    until(lambda: "upstream_reset" in (proxy.get().get("proxy-status") or ""))


def test_an_endpoint_of_http2_that_is_asked_in_http1_is_told_as_that(world, origins):
    origin = origins()
    proxy = world.proxy(config(origin, service="    eject: false\n"), 1)
    m = proxy.get()
    assert m.status == 502 and 'details="upstream_wants_http2"' in m.get("proxy-status")
    assert "h2c" in proxy.log()


def test_a_certificate_of_somebody_else_is_refused(world, origins, authority, tmp_path):
    origin = origins(tls=secure(Authority(str(tmp_path / "other")), "h2"))
    proxy = world.proxy(tls_config(authority, origin), 1)
    m = proxy.get()
    assert m.status == 502 and "upstream_cert" in m.get("proxy-status")


# ---- protocol: auto ----

def auto_config(authority, *ends, extra="upstream: { retries: 0, connect_timeout: 10s }\n", service=""):
    return config(*ends, service="    protocol: auto\n    eject: false\n    tls: { ca: %s, name: localhost }\n%s" % (authority.cert, service),
                  extra=extra)


@pytest.fixture
def old(world, authority):
    """An endpoint that speaks HTTP/1.1 over TLS and says so, or nothing."""
    def make(answer=None, alpn=("http/1.1",)):
        context = server_context(*authority.leaf("localhost", "127.0.0.1"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        o = TlsOrigin(context, answer)
        world.origins.append(o)
        return o
    return make


CHUNKED = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-In: 1\r\n\r\n"


def test_auto_speaks_http2_where_it_is_offered(world, origins, authority):
    data = os.urandom(300000)
    origin = origins(lambda st: st.ok(st.body or "ok"), tls=secure(authority, "h2", "http/1.1"))
    proxy = world.proxy(auto_config(authority, origin), 1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(m.body == data for m in pool.map(lambda _: proxy.get(method="POST", body=data), range(24)))
    m = proxy.connect().send(CHUNKED).response()
    assert m.body == b"abcde" and origin.requests[-1].trailers == [("x-in", "1")]
    assert len(origin.requests) == 25 and origin.connections == 1


@pytest.mark.parametrize("alpn", [("http/1.1",), ()])
def test_auto_speaks_http1_where_it_is_not(world, old, authority, alpn):
    """The first connection is used, not thrown away, and bodies without a length get their chunks back."""
    origin = old(lambda m, w: ok(m.body or b"ok"), alpn)
    proxy = world.proxy(auto_config(authority, origin), 1)
    m = proxy.connect().send(CHUNKED).response()
    assert m.body == b"abcde"
    assert origin.requests[0].get("transfer-encoding") == "chunked" and origin.requests[0].trailers == [("X-In", "1")]
    w = proxy.connect()
    for i in range(5):
        assert w.send("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i).response().body == b"ok"
    assert (origin.connections, origin.failed, len(origin.requests)) == (1, 0, 6)
    data = os.urandom(100000)
    assert proxy.get(method="POST", body=data).body == data


def test_auto_finds_out_for_each_endpoint(world, origins, old, authority):
    """Requests that wait for the first handshake go on whatever it chooses; a retry changes the framing."""
    new = origins(lambda st: st.ok("new " + st.body.decode()), tls=secure(authority, "h2", "http/1.1"))
    other = old(lambda m, w: ok(b"old " + m.body))
    proxy = world.proxy(auto_config(authority, new, other, service="    balance: round-robin\n"), 2)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda _: proxy.connect().send(CHUNKED).response().body, range(64)))
    assert set(got) == {b"new abcde", b"old abcde"}
    assert new.connections <= 4  # two threads, and what a race may add


def test_auto_moves_a_body_between_protocols_with_a_retry(world, origins, old, authority):
    """503 of one endpoint, so the other gets the same body in its own framing."""
    fails = {"new": True}

    def answer_new(st):
        if fails["new"]:
            st.head(503, is_last=True)
        else:
            st.ok(st.body)

    def answer_old(m, w):
        return ok(m.body) if fails["new"] else b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    new, other = origins(answer_new, tls=secure(authority, "h2")), old(answer_old)
    proxy = world.proxy(auto_config(authority, new, other, extra="upstream: { retries: 2, connect_timeout: 10s }\n", service="    balance: round-robin\n"), 1)
    put = CHUNKED.replace("POST", "PUT", 1)
    for _ in range(2):
        for _ in range(6):
            m = proxy.connect().send(put).response()
            assert (m.status, m.body) == (200, b"abcde")
        fails["new"] = False
    assert new.requests and other.requests


def test_health_checks_of_auto_speak_what_the_endpoint_chose(world, origins, old, authority):
    new = origins(tls=secure(authority, "h2", "http/1.1"))
    other = old()
    world.proxy(auto_config(authority, new, other, service="    health: { path: /up, interval: 100ms, timeout: 2s }\n"), 1)
    until(lambda: len(new.requests) > 2 and len(other.requests) > 2)
    assert new.requests[0].path == "/up" and other.requests[0].target == "/up"


def test_auto_without_tls_is_refused(world, tmp_path):
    with pytest.raises(RuntimeError, match="protocol: auto"):
        world.proxy(config(1, service="    protocol: auto\n"))


# ---- WebSocket (RFC 8441) ----

CONNECT_PROTOCOL = {8: 1}
HANDSHAKE = ("GET /chat HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


def echo_stream(st):
    st.head(200)
    seen = 0
    while not getattr(st, "is_ended", False) or seen < len(st.body):
        part = st.body[seen:]
        seen += len(part)
        if part:
            st.data(part)
        time.sleep(0.002)
    st.data(b"", is_last=True)


def test_a_websocket_of_http1_is_a_stream_of_the_endpoint(world, origins):
    origin, proxy = pair(world, origins, echo_stream, is_early=True, settings=CONNECT_PROTOCOL)
    w = proxy.connect().send(HANDSHAKE)
    m = w.head()
    assert (m.status, m.get("upgrade"), m.get("sec-websocket-accept")) == (101, "websocket", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    st = origin.requests[0]
    assert (st.get(":method"), st.get(":protocol"), st.get(":scheme"), st.path) == ("CONNECT", "websocket", "http", "/chat")
    assert st.get("sec-websocket-version") == "13" and not {"sec-websocket-key", "upgrade", "connection"} & {n for n, _ in st.fields}
    w.send(b"hello")
    assert w.exactly(5) == b"hello"
    data = os.urandom(2000000)
    t = threading.Thread(target=lambda: w.sock.sendall(data))
    t.start()
    assert w.exactly(len(data)) == data
    t.join()
    assert proxy.connect().send("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n").head().status == 200  # beside it
    w.sock.shutdown(socket.SHUT_WR)
    assert w.is_closed()
    assert st.is_ended and origin.connections == 1
    if not proxy.is_whole:
        assert "upgraded" in {e["reason_name"] for e in proxy.wait_events(2)}  # /plain ends in its own time


def test_a_websocket_of_http2_is_a_stream_of_the_endpoint(world, origins):
    origin, proxy = pair(world, origins, echo_stream, is_early=True, settings=CONNECT_PROTOCOL)
    c = H2(proxy.port)
    while not c.c.remote_settings.get(8):
        assert c.pump()
    s = c.begin(pseudo=[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "test"), (":path", "/chat")],
                fields=[("sec-websocket-version", "13")], is_last=False)
    data = os.urandom(300000)
    a = c.answers[s]
    while not a.fields:
        assert c.pump()
    assert a.status == 200 and "sec-websocket-accept" not in a.fields
    c.send(s, data, is_last=True)
    c.wait(s)
    assert a.is_over and a.body == data
    c.close()


def test_a_websocket_that_the_endpoint_refuses_gets_its_answer(world, origins):
    origin, proxy = pair(world, origins, lambda st: (st.head(403, ("content-length", "2")), st.data(b"no", is_last=True)), is_early=True,
                         settings=CONNECT_PROTOCOL)
    m = proxy.connect().send(HANDSHAKE).response()
    assert (m.status, m.body) == (403, b"no")


def test_an_endpoint_that_cuts_a_websocket_cuts_it_for_the_client(world, origins):
    def answer(st):
        st.head(200)
        st.data(b"bye")
        st.cancel()
    origin, proxy = pair(world, origins, answer, is_early=True, settings=CONNECT_PROTOCOL)
    w = proxy.connect().send(HANDSHAKE)
    assert w.head().status == 101
    assert w.rest() in (b"bye", b"")


def test_a_websocket_whose_endpoint_ended_and_left_does_not_hold_the_thread(world, origins):
    """The endpoint ends its side and closes; the client keeps its own open and says nothing."""
    def answer(st):
        if st.get(":method") != "CONNECT":
            st.ok()
            return
        st.head(200)
        st.data(b"bye", is_last=True)
    origin, proxy = pair(world, origins, answer, is_early=True, settings=CONNECT_PROTOCOL)
    w = proxy.connect().send(HANDSHAKE)
    assert w.head().status == 101
    assert w.exactly(3) == b"bye"
    origin.drop()
    for _ in range(3):
        assert proxy.connect().send("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n").head().status == 200
    w.sock.close()


@pytest.mark.parametrize("payload", [b"bye", b""])
def test_a_websocket_that_its_endpoint_accepts_and_ends_in_one_write_is_a_websocket(world, origins, payload):
    def answer(st):
        def all_at_once(c):
            c.send_headers(st.id, [(":status", "200")], end_stream=not payload)
            if payload:
                c.send_data(st.id, payload, end_stream=True)
        st.conn.do(all_at_once)
    origin, proxy = pair(world, origins, answer, is_early=True, settings=CONNECT_PROTOCOL)
    w = proxy.connect().send(HANDSHAKE)
    assert w.head().status == 101
    assert w.exactly(len(payload)) == payload
    w.sock.shutdown(socket.SHUT_WR)
    assert w.rest() == b""


def test_a_websocket_that_both_sides_end_is_closed_without_a_reset(world, origins):
    """Endpoints count resets, and cut a connection that has too many."""
    def answer(st):
        st.head(200)
        st.data(b"bye", is_last=True)
    origin, proxy = pair(world, origins, answer, is_early=True, settings=CONNECT_PROTOCOL)
    for _ in range(5):
        w = proxy.connect().send(HANDSHAKE)
        assert w.head().status == 101
        assert w.exactly(3) == b"bye"
        w.send(b"last words")
        w.sock.shutdown(socket.SHUT_WR)
        assert w.rest() == b""
        st = origin.requests[-1]
        end = time.monotonic() + WAIT_S
        while not (getattr(st, "is_ended", False) or getattr(st, "reset", None) is not None) and time.monotonic() < end:
            time.sleep(0.01)
        assert st.is_ended and getattr(st, "reset", None) is None
        assert st.body == b"last words"


def test_an_endpoint_of_http2_without_websocket_is_said_so(world, origins):
    origin, proxy = pair(world, origins)
    m = proxy.connect().send(HANDSHAKE).response()
    assert m.status == 501 and "no_websocket" in m.get("proxy-status")
    assert origin.requests == [] and proxy.get().status == 200


def test_a_websocket_of_auto_goes_over_http1_unless_http2_carries_it(world, origins, authority, old):
    def answer(st):
        if st.get(":method") == "CONNECT":
            echo_stream(st)
        else:
            st.ok()
    origin = origins(answer, is_early=True, settings=CONNECT_PROTOCOL, tls=secure(authority, "h2"))
    proxy = world.proxy(auto_config(authority, origin), 1)
    assert proxy.get().status == 200  # now it is known
    w = proxy.connect().send(HANDSHAKE)
    assert w.head().status == 101 and origin.requests[1].get(":protocol") == "websocket"

    def upgrade(m, wire):
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n")
        wire.send(wire.exactly(4))
        return False
    other = old(upgrade)
    w = world.proxy(auto_config(authority, other), 1).connect().send(HANDSHAKE)
    assert w.head().status == 101
    assert w.send(b"ping").exactly(4) == b"ping"
