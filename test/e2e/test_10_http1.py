# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 through the gateway: framing, connections, fields."""
import re
import socket
import threading
import time

import pytest
from conftest import WAIT_S, ok, config

pytestmark = pytest.mark.short


def test_keep_alive_on_both_sides_uses_one_connection_each(world):
    origin, proxy = world.pair(threads=1)
    w = proxy.connect()
    for i in range(20):
        w.send("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i)
        assert w.response().body == b"ok"
    assert [r.target for r in origin.requests] == ["/%d" % i for i in range(20)]
    assert origin.connections == 1


@pytest.mark.parametrize("head,body", [(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"hello"),
                                       (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n")],
                         ids=["length", "chunked"])
def test_a_server_that_writes_head_and_body_apart_is_not_waited_for(world, head, body):
    """Nagle keeps the body until the head is acknowledged, which a kernel puts off for at least 40 ms once a
    connection is no longer new: then not one of many answers would be quicker than that."""
    def answer(request, wire):
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        wire.send(head)
        wire.send(body)
    _, proxy = world.pair(answer, threads=1)
    w, took = proxy.connect(), []
    for _ in range(60):
        begin = time.monotonic()
        w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert w.response().body == b"hello"
        took.append(time.monotonic() - begin)
    assert min(took[30:]) < 0.03, sorted(took[30:])


def test_pipelined_requests_are_answered_in_order(world):
    origin, proxy = world.pair(lambda r, w: ok(r.target))
    w = proxy.connect()
    w.send("".join("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(200)))
    assert [w.response().body.decode() for i in range(200)] == ["/%d" % i for i in range(200)]


def test_pipelined_posts_keep_their_bodies(world):
    origin, proxy = world.pair(lambda r, w: ok(r.body))
    w = proxy.connect()
    w.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst"
           "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3\r\nond\r\n0\r\n\r\n"
           "GET /c HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [w.response().body for _ in range(3)] == [b"first", b"second", b""]


def test_a_head_in_single_bytes_is_understood(world):
    origin, proxy = world.pair()
    w = proxy.connect()
    for byte in b"GET /slow HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n":
        w.send(bytes([byte]))
        time.sleep(0.001)
    assert w.response().status == 200
    assert origin.requests[0].get("x-a") == "b"


def test_chunked_request_and_answer_are_recoded(world):
    def answer(r, w):
        w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"alpha", b"beta", b"gamma" * 1000):
            w.send(b"%x;ext=1\r\n%s\r\n" % (len(part), part))
        w.send("0\r\n\r\n")
    origin, proxy = world.pair(answer)
    w = proxy.connect()
    w.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    m = w.response()
    assert m.body == b"alphabeta" + b"gamma" * 1000
    assert origin.requests[0].body == b"hello world"
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert w.response().status == 200


def test_answer_that_ends_with_the_connection_becomes_chunked(world):
    def answer(r, w):
        w.send("HTTP/1.1 200 OK\r\n\r\n" + "x" * 50000)
        return False
    origin, proxy = world.pair(answer)
    w = proxy.connect()
    for _ in range(2):
        w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        m = w.response()
        assert m.body == b"x" * 50000 and m.get("transfer-encoding") == "chunked"


def test_http10_clients_get_no_chunks_and_a_closed_connection(world):
    def answer(r, w):
        w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    origin, proxy = world.pair(answer)
    w = proxy.connect()
    w.send("GET / HTTP/1.0\r\n\r\n")
    m = w.head()
    assert m.get("transfer-encoding") is None and m.get("connection") == "close"
    assert w.rest() == b"hello"
    assert origin.requests[0].line == "GET / HTTP/1.1" and origin.requests[0].get("host") == "app"


def test_http10_keep_alive_is_granted_when_asked_for(world):
    origin, proxy = world.pair()
    w = proxy.connect()
    for _ in range(2):
        w.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        m = w.response()
        assert m.get("connection") == "keep-alive" and m.body == b"ok"


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_body_have_none(world, status):
    def answer(r, w):
        return ("HTTP/1.1 %d X\r\nETag: \"1\"\r\n\r\n" % status).encode()
    origin, proxy = world.pair(answer, threads=1)
    w = proxy.connect()
    for _ in range(3):
        w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        m = w.response()
        assert m.status == status and m.get("etag") == '"1"'
        assert m.get("transfer-encoding") is None and m.get("content-length") is None
    assert origin.connections == 1


def test_head_keeps_the_length_and_sends_no_body(world):
    def answer(r, w):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
    origin, proxy = world.pair(answer, threads=1)
    w = proxy.connect()
    for _ in range(3):
        w.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        m = w.response("HEAD")
        assert m.status == 200 and m.get("content-length") == "1234"
    assert origin.connections == 1


def test_interim_answers_come_through_before_the_final_one(world):
    def answer(r, w):
        w.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        time.sleep(0.05)
        w.send("HTTP/1.1 102 Processing\r\n\r\n")
        return ok("final")
    origin, proxy = world.pair(answer)
    w = proxy.connect()
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    hint = w.response()
    assert hint.status == 103 and hint.get("link") == "</a.css>"
    assert w.response().status == 102
    assert w.response().body == b"final"
    # HTTP/1.0 knows none of them
    w = proxy.connect()
    w.send("GET / HTTP/1.0\r\n\r\n")
    assert w.response().status == 200


def test_expect_is_forwarded_and_the_body_follows_the_100(world):
    def raw(w):
        head = w.head()
        assert head.get("expect").lower() == "100-continue"
        w.send("HTTP/1.1 100 Continue\r\n\r\n")
        w.body(head)
        w.send(ok(head.body))
    origin, proxy = world.pair(raw=raw)
    w = proxy.connect()
    w.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert w.response().status == 100
    w.send("body")
    assert w.response().body == b"body"


def test_expect_that_is_refused_ends_the_connection_without_the_body(world):
    def raw(w):
        w.head()
        w.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        w.rest()
    origin, proxy = world.pair(raw=raw)
    w = proxy.connect()
    w.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\nExpect: 100-continue\r\n\r\n")
    m = w.response()
    assert m.status == 413 and m.get("connection") == "close"
    assert w.is_closed()


def test_upgrade_becomes_a_tunnel_both_ways(world):
    def raw(w):
        head = w.head()
        assert head.get("upgrade") == "websocket" and head.get("connection").lower() == "upgrade"
        w.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello")
        while True:
            data = w.sock.recv(65536)
            if not data:
                return
            w.send(data[::-1])
    origin, proxy = world.pair(raw=raw)
    w = proxy.connect()
    w.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    m = w.response()
    assert m.status == 101 and m.get("sec-websocket-accept")
    assert w.exactly(5) == b"hello"
    for text in (b"abc", b"x" * 100000 + b"y"):
        w.send(text)
        assert sorted(w.exactly(len(text))) == sorted(text)
    w.sock.shutdown(socket.SHUT_WR)
    assert w.is_closed()
    e = proxy.wait_events(1)[0]
    assert e["reason"] == 3 and e["status"] == 101


def test_h2c_is_never_tunnelled(world):
    origin, proxy = world.pair()
    m = proxy.get("/", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    assert m.status == 200
    assert origin.requests[0].get("upgrade") is None and origin.requests[0].get("http2-settings") is None


def test_event_streams_are_not_buffered(world):
    seen = threading.Semaphore(0)

    def answer(r, w):
        w.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for i in range(5):
            w.send("data: %d\n\n" % i)
            if not seen.acquire(timeout=2 * WAIT_S):
                break  # the client has nothing of it
        return False
    origin, proxy = world.pair(answer)
    w = proxy.connect()
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    w.head()
    for i in range(5):  # the next one is sent when this one was seen
        size = int(w.until(b"\r\n"), 16)
        assert w.exactly(size + 2) == b"data: %d\n\n\r\n" % i
        seen.release()


def test_trailers_are_forwarded_but_not_those_that_name_framing(world):
    def answer(r, w):
        w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
               "2\r\nhi\r\n0\r\nX-Sum: 7\r\nContent-Length: 99\r\nHost: evil\r\n\r\n")
    origin, proxy = world.pair(answer)
    w = proxy.connect()
    w.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
           "3\r\nabc\r\n0\r\nX-In: 1\r\nTransfer-Encoding: x\r\nAuthorization: y\r\n\r\n")
    m = w.response()
    assert m.body == b"hi" and m.trailers == [("X-Sum", "7")]
    assert origin.requests[0].trailers == [("X-In", "1")]


def test_hop_by_hop_fields_stay_on_their_hop(world):
    def answer(r, w):
        return ok("x", "Connection: X-Secret", "X-Secret: 1", "Keep-Alive: timeout=5", "X-Public: 2")
    origin, proxy = world.pair(answer)
    m = proxy.get("/", "Connection: X-Mine", "X-Mine: 1", "TE: gzip", "Proxy-Authorization: x", "X-Other: 2")
    r = origin.requests[0]
    for name in ("x-mine", "te", "proxy-authorization", "keep-alive"):
        assert r.get(name) is None, name
    assert r.get("x-other") == "2"
    assert m.get("x-secret") is None and m.get("keep-alive") is None and m.get("x-public") == "2"


def test_options_counts_its_hops(world):
    origin, proxy = world.pair()
    w = proxy.connect()
    w.send("OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
    assert w.response().status == 200 and origin.requests == []
    w.send("OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n")
    assert w.response().status == 200 and origin.requests[0].all("max-forwards") == ["4"]
    w.send("GET /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")  # a count for OPTIONS and TRACE alone
    assert w.response().status == 200 and origin.requests[1].all("max-forwards") == ["0"]


def test_the_endpoint_learns_who_asked(world):
    origin, proxy = world.pair()
    proxy.get("/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Request-Id: forged",
              "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6", "Via: 1.0 other")
    r = origin.requests[0]
    assert r.get("host") == "test" and r.all("via") == ["1.0 other", "1.1 foldback"]
    assert r.get("x-forwarded-for") == "127.0.0.1" and r.get("x-forwarded-proto") == "http"
    assert r.get("x-forwarded-host") == "test"
    assert re.fullmatch("[0-9a-f]{16}", r.get("x-request-id"))
    assert r.get("forwarded") is None and r.get("x-real-ip") is None


def test_forwarding_fields_are_kept_when_they_are_trusted(world):
    origin, proxy = world.pair(extra="gateway: { trust_forwarded: true, forwarded: both }\n")
    m = proxy.get("/", "X-Forwarded-For: 10.0.0.9", "X-Forwarded-Proto: https", "X-Request-Id: mine-1",
                  "Forwarded: for=10.0.0.9", "X-Deadline-Ms: 5000")
    r = origin.requests[0]
    assert r.get("x-forwarded-for") == "10.0.0.9, 127.0.0.1" and r.get("x-forwarded-proto") == "https"
    assert r.get("forwarded") == "for=10.0.0.9, for=127.0.0.1;proto=http"
    assert r.get("x-request-id") == "mine-1"
    assert 4000 < int(r.get("x-deadline-ms")) <= 5000


def test_traces_go_on_or_begin(world):
    origin, proxy = world.pair()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    proxy.get("/", "traceparent: 00-%s-00f067aa0ba902b7-01" % trace, "tracestate: a=1")
    proxy.get("/", "traceparent: 00-%s-0000000000000000-01" % trace)
    proxy.get("/")
    kept, invalid, new = [r.get("traceparent") for r in origin.requests]
    assert kept.startswith("00-" + trace + "-") and kept.endswith("-01") and "00f067aa0ba902b7" not in kept
    assert trace not in invalid
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", new)
    assert origin.requests[0].get("tracestate") == "a=1"


def test_paths_are_forwarded_in_the_form_that_was_routed(world):
    origin, proxy = world.pair()
    proxy.get("/a/./b/../c%7Ed?q=%2e%2E/")
    assert origin.requests[0].target == "/a/c~d?q=%2e%2E/"


def test_absolute_form_becomes_origin_form(world):
    origin, proxy = world.pair()
    w = proxy.connect()
    w.send("GET http://example.org/x?y HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert w.response().status == 200
    assert origin.requests[0].target == "/x?y" and origin.requests[0].get("host") == "example.org"


def test_answers_say_their_time_when_asked_to(world):
    origin, proxy = world.pair(extra="gateway: { server_timing: true }\n")
    m = proxy.get("/")
    assert re.fullmatch(r"queue;dur=\d+, upstream;dur=\d+", m.get("server-timing"))
    assert m.get("date") and re.fullmatch("[0-9a-f]{16}", m.get("x-request-id"))


def test_big_bodies_pass_both_ways_with_bounded_memory(world):
    block = b"0123456789abcdef" * 65536  # 1 MiB

    def raw(w):
        head = w.head()
        left = int(head.get("content-length"))
        while left:
            data = w.buffer or w.sock.recv(262144)
            w.buffer = b""
            left -= len(data)
        w.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * len(block)))
        for _ in range(64):
            w.send(block)
    origin, proxy = world.pair(raw=raw)
    before = proxy.rss_kib()
    w = proxy.connect()
    w.sock.settimeout(30)
    w.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (64 * len(block)))
    for _ in range(64):
        w.send(block)
    m = w.head()
    got = len(w.buffer)
    time.sleep(0.5)  # a slow reader: nothing but a bounded buffer may grow meanwhile
    while got < 64 * len(block):
        data = w.sock.recv(1 << 20)
        assert data
        got += len(data)
    assert m.status == 200 and got == 64 * len(block)
    assert proxy.rss_kib() - before < 4096


def test_routes_that_match_nothing_get_404_and_keep_the_connection(world):
    o = world.origin()
    proxy = world.proxy('services:\n  app:\n    endpoints: ["127.0.0.1:%d"]\nroutes:\n'
                        '  - { match: /app/, service: app }\n' % o.port)
    w = proxy.connect()
    w.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
    m = w.response()
    assert m.status == 404 and m.get("proxy-status") == 'foldback; error=destination_not_found; details="no_route"'
    w.send("GET /none HTTP/1.1\r\nHost: a\r\nAccept: application/problem+json\r\n\r\n")
    m = w.response()
    assert m.get("content-type") == "application/problem+json" and b'"reason":"no_route"' in m.body
    w.send("GET /app/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert w.response().status == 200
