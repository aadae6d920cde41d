"""HTTP/2 streams in company: WebSocket by extended CONNECT, priorities, protocols of a listener."""
import os
import re
import socket
import threading
import time

import pytest

from conftest import REPO, WAIT_S, ok
from h2_util import DATA, H2, HEADERS, PRIORITY_UPDATE, PROTOCOL_ERROR, RST_STREAM, SETTINGS, Raw, block, frame, literal

pytestmark = pytest.mark.short

with open(os.path.join(REPO, "src", "event", "reasons.def")) as f:
    REASON = {int(n): name for name, n in re.findall(r"^REASON\(\w+, \w+, (\w+), (\d+)", f.read(), re.M)}
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
CONNECT = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "test"), (":path", "/chat")]


def echo(m, w):
    w.send(UPGRADE)
    while w.fill():
        w.send(w.buffer)
        w.buffer = b""
    return False


def open_tunnel(port):
    c = H2(port)
    while not c.c.remote_settings.get(8):  # ENABLE_CONNECT_PROTOCOL
        assert c.pump()
    s = c.begin(pseudo=CONNECT, fields=[("sec-websocket-version", "13")], is_last=False)
    while not c.answers[s].fields and c.answers[s].reset is None:
        assert c.pump()
    return c, s


def test_a_websocket_runs_over_one_stream(world):
    origin, proxy = world.pair(echo)
    c, s = open_tunnel(proxy.port)
    a = c.answers[s]
    assert a.status == 200 and "sec-websocket-accept" not in a.fields and "upgrade" not in a.fields
    m = origin.requests[-1]
    assert (m.method, m.target, m.get("upgrade"), m.get("connection")) == ("GET", "/chat", "websocket", "upgrade")
    assert len(m.get("sec-websocket-key")) == 24 and m.get("sec-websocket-version") == "13"
    body = os.urandom(300000)
    c.send(s, body)
    end = time.monotonic() + WAIT_S
    while len(a.body) < len(body) and time.monotonic() < end:
        c.pump(0.5)
    assert a.body == body
    assert H2(proxy.port).get is not None and c.get is not None  # the connection carries more
    t = c.begin("/x", "GET", is_last=True)
    c.send(s, b"", True)
    c.c.end_stream(s)
    c.flush()
    assert c.wait(s).is_over
    e = [e for e in proxy.wait_events(1) if e["status"] == 101]
    assert [REASON[x["reason"]] for x in e] == ["upgraded"]


def test_a_tunnel_that_its_endpoint_ends_is_over_for_the_client(world):
    def answer(m, w):
        w.send(UPGRADE + b"bye")
        return False
    origin, proxy = world.pair(answer)
    c, s = open_tunnel(proxy.port)
    a = c.wait(s)
    assert a.body == b"bye" and (a.is_over or a.reset is not None)


def test_tunnels_that_their_endpoint_ended_and_the_client_resets_give_their_slots_back(world):
    """Else a connection is full after as many WebSockets as it may have streams."""
    def answer(m, w):
        w.send(UPGRADE + b"bye")
        return False
    origin, proxy = world.pair(answer, extra="http2: { streams: 4 }\n")
    c, s = open_tunnel(proxy.port)
    end = time.monotonic() + WAIT_S
    tunnels = 0
    while tunnels < 20:
        a = c.wait(s)
        if a.status == 200:
            assert a.body == b"bye"
            tunnels += 1
            if a.reset is None:
                c.c.reset_stream(s, 8)
                c.flush()
        else:  # the reset before it is on its way still
            assert a.reset is not None and time.monotonic() < end, a.status
        s = c.begin(pseudo=CONNECT, fields=[("sec-websocket-version", "13")], is_last=False)
        while not c.answers[s].fields and c.answers[s].reset is None:
            assert c.pump()


def test_an_endpoint_that_does_not_upgrade_answers_as_it_likes(world):
    origin, proxy = world.pair(lambda m, w: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    c, s = open_tunnel(proxy.port)
    a = c.wait(s)
    assert (a.status, a.body) == (403, b"no")


def test_a_plain_connect_is_refused(world):
    origin, proxy = world.pair(echo)
    c = H2(proxy.port, checks=False)
    s = c.begin(pseudo=[(":method", "CONNECT"), (":authority", "a:80")], is_last=False)
    assert c.wait(s).status == 501
    s = c.begin(pseudo=CONNECT[:1] + [(":protocol", "connect-udp")] + CONNECT[2:], is_last=False)
    assert c.wait(s).status == 501


@pytest.mark.parametrize("how", ["field", "update"])
def test_the_urgent_stream_goes_first(world, how):
    """Two large answers and a shut connection window: when it opens, the urgent one is served first."""
    origin, proxy = world.pair(lambda m, w: ok(b"x" * 400000), threads=1)
    r = Raw(proxy.port, preface=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"\0\4\0\x10\0\0"))
    late, soon = literal("priority", "u=6"), literal("priority", "u=1")
    r.send(frame(HEADERS, 5, 1, block("/late", extra=late)))
    time.sleep(0.2)
    r.send(frame(HEADERS, 5, 3, block("/soon", extra=soon if how == "field" else late)))
    if how == "update":
        r.send(frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x03u=1"))
    end = time.monotonic() + WAIT_S
    while len(origin.requests) < 2:
        assert time.monotonic() < end, "both are asked"
        time.sleep(0.01)
    while r.pump(0.6):  # time for its answer to come as far as it gets
        pass
    before = len(r.frames)
    assert {f[2] for f in r.frames if f[0] == DATA} == {1}  # the window of 65,535 bytes went to it
    r.send(frame(8, 0, 0, (150000).to_bytes(4, "big")))
    while r.pump(0.3):
        pass
    order = [f[2] for f in r.frames[before:] if f[0] == DATA]
    # 64 KiB of it wait here; while its endpoint is asked for more the other one may use the window
    assert order[:4] == [3] * 4 and order.count(3) >= 6, order
    m = origin.requests[-1]
    assert m.get("priority") == ("u=1" if how == "field" else "u=6")  # the endpoint may use it too


@pytest.mark.parametrize("how", ["field", "update"])
def test_incremental_streams_share_the_connection(world, how):
    """RFC 9218 section 10: from when all have begun, each gets about as much."""
    origin, proxy = world.pair(lambda m, w: ok(b"x" * 12_000_000), threads=1)
    shared = literal("priority", "u=3, i") if how == "field" else b""
    window = b"\0\4\x7f\xff\xff\xff"
    r = Raw(proxy.port, preface=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, window), receive_bytes=65536)
    r.send(frame(8, 0, 0, (100_000_000).to_bytes(4, "big")))
    ids = (1, 3, 5)
    for i in ids:
        r.send(frame(HEADERS, 5, i, block("/%d" % i, extra=shared)))
        if how == "update":
            r.send(frame(PRIORITY_UPDATE, 0, 0, i.to_bytes(4, "big") + b"i, u=3"))
    got, begun = {i: 0 for i in ids}, set()
    seen, skip = 0, 1_000_000  # what the first ones are ahead
    while sum(got.values()) < 6_000_000:
        time.sleep(0.01)  # a line slower than the endpoints: all three always have bytes that wait
        assert r.pump(WAIT_S)
        for f in r.frames[seen:]:
            if f[0] != DATA:
                continue
            begun.add(f[2])
            skip -= len(f[3]) if begun == set(ids) else 0
            got[f[2]] += len(f[3]) if skip < 0 else 0
        seen = len(r.frames)
    assert max(got.values()) < 1.5 * min(got.values()), got


def test_a_listener_speaks_what_it_is_told(world):
    from conftest import config
    origin = world.origin()
    only1 = world.proxy(config(origin), listen='[{ address: "127.0.0.1:%d", protocols: [http1] }]')
    r = Raw(only1.port)
    r.pump(2)
    assert r.buf.startswith(b"HTTP/1.1 505")
    only2 = world.proxy(config(origin), listen='[{ address: "127.0.0.1:%d", protocols: [h2] }]')
    assert H2(only2.port).get().status == 200
    w = only2.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    data = b""
    try:
        while w.fill():
            pass
    except OSError:
        pass
    data = w.buffer
    assert not data.startswith(b"HTTP/1") and len(data) < 200


def test_a_preface_may_come_byte_by_byte(world):
    origin, proxy = world.pair()
    s = socket.create_connection(("127.0.0.1", proxy.port), WAIT_S)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for b in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
        s.sendall(bytes([b]))
        time.sleep(0.002)
    for b in frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 1, block()):
        s.sendall(bytes([b]))
    r = Raw.__new__(Raw)
    r.sock, r.buf, r.frames, r.is_closed = s, b"", [], False
    assert r.wait(HEADERS) is not None
    assert r.wait(DATA) == b"ok"


def test_heads_of_two_connections_in_parts_do_not_mix(world):
    origin, proxy = world.pair(threads=1)
    a, b = Raw(proxy.port), Raw(proxy.port)
    heads = [block("/" + n * 50, extra=literal("x-name", n * 30)) for n in "ab"]
    for at in range(0, len(heads[0]), 7):
        for r, h in ((a, heads[0]), (b, heads[1])):
            first = at == 0
            last = at + 7 >= len(h)
            if first:
                r.send(frame(HEADERS, 1, 1, h[:60]))
            time.sleep(0.001)
        break
    for r, h in ((a, heads[0]), (b, heads[1])):
        r.send(frame(9, 4, 1, h[60:]))
    assert a.wait(HEADERS) is not None and b.wait(HEADERS) is not None
    seen = sorted((m.target, m.get("x-name")) for m in origin.requests)
    assert seen == [("/" + n * 50, n * 30) for n in "ab"]


def test_the_client_is_told_apart_and_the_scheme_is_known(world):
    origin, proxy = world.pair()
    H2(proxy.port).get()
    m = origin.requests[-1]
    assert (m.get("x-forwarded-for"), m.get("x-forwarded-proto")) == ("127.0.0.1", "http")
