# SPDX-License-Identifier: Apache-2.0
"""Limits on line, head, body and every wait: each with its status, its reason, and a closed connection."""
import socket
import threading
import time

import pytest
from conftest import WAIT_S, ok, config

LIMITS = """limits:
  line_bytes: 1KiB
  header_bytes: 4KiB
  header_count: 20
  body_bytes: 10KiB
  header_timeout: 300ms
  body_timeout: 400ms
  idle_timeout: 400ms
  write_timeout: 1s
  min_rate: 1000B/s
  min_rate_grace: 500ms
"""


def reason(m):
    return m.get("proxy-status").split('details="')[1].rstrip('"')


@pytest.mark.parametrize("says, request_text, status, why", [
    ("a line too long", "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % ("x" * 2000), 414, "line_too_long"),
    ("a head too large", "GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % ("x" * 5000), 431, "headers_too_large"),
    ("too many fields", "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n" % ("X: 1\r\n" * 30), 431, "too_many_headers"),
    ("a body too large", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n", 413, "body_too_large"),
    ("a chunked body too large", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3000\r\n" + "x" * 12288
     + "\r\n0\r\n\r\n", 413, "body_too_large"),
    ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "bad_framing"),
    ("length and coding", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, "bad_framing"),
    ("a coding we do not know", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "bad_coding"),
    ("a bad chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "bad_chunk"),
    ("no host", "GET / HTTP/1.1\r\n\r\n", 400, "bad_host"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_host"),
    ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400, "bad_request"),
    ("a bare line feed", "GET / HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
    ("a version of the future", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "bad_version"),
    ("another expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417, "bad_expect"),
    ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501, "bad_method"),
    ("TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "bad_method"),
], ids=lambda x: x.replace(" ", "-") if isinstance(x, str) and len(x) < 30 and "\r" not in x else "")
def test_a_refused_request_gets_its_status_and_the_end(world, says, request_text, status, why):
    origin, proxy = world.pair(extra=LIMITS)
    w = proxy.connect()
    w.send(request_text)
    m = w.response()
    assert (m.status, reason(m)) == (status, why), says
    assert m.get("connection") == "close"
    assert w.is_closed()
    assert proxy.get("/").status == 200


@pytest.mark.parametrize("path, length, status", [
    ("/upload/", 20000, 200), ("/small/", 20000, 413), ("/small/", 10, 200), ("/any/", 200000, 200), ("/", 20000, 413)])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_route_may_take_larger_or_smaller_bodies(world, path, length, status, is_chunked):
    text = config(world.origin(), extra=LIMITS)
    proxy = world.proxy(text.replace("  - { match: /,", "  - { match: /upload/, service: app, body_bytes: 100KiB }\n"
                                     "  - { match: /small/, service: app, body_bytes: 100B }\n"
                                     "  - { match: /any/, service: app, body_bytes: 0 }\n  - { match: /,"))
    w = proxy.connect()
    head = "POST %s HTTP/1.1\r\nHost: a\r\n" % path
    body = b"x" * length
    if is_chunked:
        w.send(head + "Transfer-Encoding: chunked\r\n\r\n%x\r\n" % length)
        body += b"\r\n0\r\n\r\n"
    else:
        w.send(head + "Content-Length: %d\r\n\r\n" % length)
    try:
        w.send(body)
    except OSError:  # refused before it was whole
        pass
    m = w.response()
    assert m.status == status and (status == 200 or reason(m) == "body_too_large")


def test_a_bad_path_is_refused(world):
    origin, proxy = world.pair()
    for path in ("/%zz", "/a%00b"):
        m = proxy.get(path)
        assert m.status == 400 and not origin.requests


def test_slow_heads_get_408(world):
    origin, proxy = world.pair(extra=LIMITS)
    w = proxy.connect()
    begin = time.monotonic()
    w.send("GET / HTTP/1.1\r\nHo")
    m = w.response()
    assert m.status == 408 and reason(m) == "header_timeout"
    assert 0.25 < time.monotonic() - begin < 4
    assert w.is_closed()


def test_a_connection_without_a_request_is_closed_without_a_word(world):
    origin, proxy = world.pair(extra=LIMITS)
    w = proxy.connect()
    assert w.is_closed() and w.buffer == b""


def test_idle_connections_are_closed(world):
    origin, proxy = world.pair(extra=LIMITS)
    w = proxy.connect()
    begin = time.monotonic()
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    w.response()
    assert w.is_closed()
    assert 0.3 < time.monotonic() - begin < 10  # the default is a minute


def test_a_body_that_stands_still_gets_408_and_frees_the_endpoint(world):
    origin, proxy = world.pair(extra=LIMITS)
    w = proxy.connect()
    w.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    m = w.response()
    assert m.status == 408 and reason(m) == "body_timeout"
    assert w.is_closed()
    e = proxy.wait_events(1)
    assert e[0]["status"] == 408


def test_a_body_that_drips_gets_408(world):
    origin, proxy = world.pair(extra=LIMITS)
    w = proxy.connect()
    w.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < WAIT_S:  # at this rate it would take 100 s
            w.send("x")
            time.sleep(0.1)
            w.sock.setblocking(False)
            try:
                if not w.fill():
                    break
            except BlockingIOError:
                pass
            finally:
                w.sock.settimeout(5)
            if w.buffer:
                break
    except OSError:
        pass
    m = w.response()
    assert m.status == 408 and reason(m) == "body_too_slow"


def test_a_reader_that_takes_nothing_is_cut(world):
    def answer(r, w):
        w.send("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            w.send(b"x" * 1000000)
    origin, proxy = world.pair(answer, extra=LIMITS)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", proxy.port))
    s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    before = proxy.rss_kib()
    e = proxy.wait_events(1, 6)
    assert e and e[0]["reason"] == 37, e
    assert proxy.rss_kib() - before < 2048
    s.close()


def test_an_answer_head_too_large_is_502(world):
    def answer(r, w):
        return ("HTTP/1.1 200 OK\r\nX: %s\r\nContent-Length: 0\r\n\r\n" % ("x" * 8000)).encode()
    origin, proxy = world.pair(answer, extra=LIMITS)
    m = proxy.get("/", method="POST", body=b"")
    assert m.status == 502 and reason(m) == "upstream_headers_too_large"


@pytest.mark.parametrize("reply", [
    b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 099 X\r\n\r\n"])
def test_a_bad_answer_is_502(world, reply):
    origin, proxy = world.pair(lambda r, w: reply)
    m = proxy.get("/", method="POST", body=b"")
    assert m.status == 502 and reason(m) == "upstream_bad"


def test_an_answer_cut_in_the_body_is_cut_for_the_client_too(world):
    def answer(r, w):
        if r.target == "/chunked":
            w.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        else:
            w.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        return False
    origin, proxy = world.pair(answer)
    for path, want in (("/length", b"hello"), ("/chunked", b"5\r\nhello\r\n")):
        w = proxy.connect()
        w.send("GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        w.head()
        assert w.rest() == want, "no last chunk: the cut must be visible"


def test_a_late_answer_is_504(world):
    gate, late = threading.Event(), []

    def answer(r, w):
        late.append(gate.wait(2 * WAIT_S))
        return ok()
    origin, proxy = world.pair(answer, extra="upstream: { timeout: 200ms }\n")
    m = proxy.get("/", method="POST", body=b"x")
    assert m.status == 504 and reason(m) == "upstream_timeout"
    assert not late, "the endpoint was not waited for"
    gate.set()


def test_a_loop_is_noticed_by_the_name_of_the_node(world):
    origin, proxy = world.pair(extra="node: edge-1\n")
    m = proxy.get("/", "Via: 1.1 other, 1.1 edge-1")
    assert m.status == 508 and reason(m) == "loop_detected"
    assert not origin.requests
    assert proxy.get("/", "Via: 1.1 edge-2, 1.1 foldback").status == 200


def test_one_foldback_may_stand_behind_another(world):
    origin, inner = world.pair()
    outer = world.proxy(config(inner.port))
    assert outer.get("/").status == 200
    assert origin.requests[-1].all("via") == ["1.1 foldback", "1.1 foldback"]


def test_a_loop_of_nodes_without_a_name_comes_to_an_end(world):
    proxy = world.proxy(config(1))
    proxy.reload(config(proxy.port))
    m = proxy.get("/")
    assert m.status == 508 and reason(m) == "loop_detected"


def test_too_many_attempts_end_to_end_are_refused(world):
    origin, proxy = world.pair()
    assert proxy.get("/", "X-Attempt: 3").status == 200
    m = proxy.get("/", "X-Attempt: 4")
    assert m.status == 503 and reason(m) == "shed_attempts" and m.get("retry-after")


def test_early_answers_leave_the_connection_usable_after_a_small_body(world):
    o = world.origin()
    proxy = world.proxy('services:\n  app:\n    endpoints: ["127.0.0.1:%d"]\nroutes:\n'
                        '  - { match: /app/, service: app }\n' % o.port)
    w = proxy.connect()
    w.send("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
    assert w.response().status == 404
    w.send("abcdefGET /app/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert w.response().status == 200
    w.send("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 6000000\r\n\r\nabc")
    m = w.response()
    assert m.status == 404 and m.get("connection") == "close"
