# SPDX-License-Identifier: Apache-2.0
"""Connections that are passed through as they are (listen.protocol: tcp)."""
import hashlib
import os
import socket
import threading
import time

import pytest
from conftest import WAIT_S, Wire, config, free_port, ok
from h2_origin import H2Origin

pytestmark = pytest.mark.short
LISTEN = '[{ address: "127.0.0.1:%d", protocol: tcp, service: app }]'


def tcp_config(*origins, service="", extra=""):
    return config(*origins, service=service, extra=extra).split("routes:")[0]


def echo(wire):
    wire.sock.settimeout(30)
    while True:
        data = wire.sock.recv(65536)
        if not data:
            return
        wire.sock.sendall(data)


def hello(name):
    """Speaks first, as databases do, then echoes."""
    def raw(wire):
        wire.send(name)
        echo(wire)
    return raw


def passed(world, raw=echo, count=1, threads=1, **parts):
    origins = [world.origin(raw=raw) for _ in range(count)]
    return origins, started(world, tcp_config(*origins, **parts), threads)


def started(world, text, threads=1):
    """The fixture's own look at the port has ended, too."""
    proxy = world.proxy(text, threads, listen=LISTEN)
    if not proxy.is_whole:
        assert len(proxy.wait_events(1)) == 1
    return proxy


def placed(proxy):
    """The first connection that finds a place: the whole program is still busy with the fixture's look at the port,
    which waited there while the gateway started."""
    deadline = time.monotonic() + WAIT_S
    while True:
        w = proxy.connect()
        try:
            assert w.exactly(2) == b"hi"
            return w
        except EOFError:
            w.close()
            assert time.monotonic() < deadline, "no place"
            time.sleep(0.02)


def ended(proxy, count, reason="tcp_ended"):
    got = proxy.wait_events(count)
    assert [e["reason_name"] for e in got] == [reason] * count
    return got


def test_bytes_pass_both_ways_and_are_one_event(world):
    _, proxy = passed(world)
    w = proxy.connect()
    for part in (b"\0\1\2", b"GET / HTTP/1.1\r\n\r\n", b"x" * 100000):
        w.send(part)
        assert w.exactly(len(part)) == part
    w.sock.shutdown(socket.SHUT_WR)
    assert w.rest() == b""
    event, = ended(proxy, 1)
    assert event["sent_bytes"] == event["received_bytes"] == 100021
    assert event["protocol"] == 2 and event["status"] == 0 and event["route"] == 65535 and event["endpoint"] != 65535


def test_the_endpoint_may_speak_first(world):
    _, proxy = passed(world, hello(b"220 ready\r\n"))
    w = proxy.connect()
    assert w.exactly(11) == b"220 ready\r\n"


def test_an_end_of_one_side_is_not_the_end_of_the_other(world):
    def late(wire):
        data = wire.rest()
        time.sleep(0.3)
        wire.send(hashlib.sha256(data).hexdigest())
    _, proxy = passed(world, late)
    data = os.urandom(3000000)
    w = proxy.connect().send(data)
    w.sock.shutdown(socket.SHUT_WR)
    assert w.rest().decode() == hashlib.sha256(data).hexdigest()
    ended(proxy, 1)


def test_an_end_that_comes_before_the_endpoint_is_there_is_kept(world):
    def counting(wire):
        wire.send(b"%d" % len(wire.rest()))
    _, proxy = passed(world, counting)
    for _ in range(20):
        w = proxy.connect().send(b"abc")
        w.sock.shutdown(socket.SHUT_WR)
        assert w.rest() == b"3"


def test_many_megabytes_pass_both_ways_at_once_in_bounded_memory(world):
    _, proxy = passed(world)
    total = 40 << 20
    w = proxy.connect()
    w.send("x")
    assert w.exactly(1) == b"x"  # all of the gateway is there before its memory is looked at
    before = proxy.rss_kib()
    want, got = hashlib.sha256(), hashlib.sha256()

    def write():
        block = os.urandom(1 << 16)
        for _ in range(total >> 16):
            want.update(block)
            w.sock.sendall(block)
        w.sock.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=write)
    t.start()
    seen = 0
    while True:
        data = w.sock.recv(1 << 16)
        if not data:
            break
        got.update(data)
        seen += len(data)
    t.join()
    assert seen == total and got.digest() == want.digest()
    assert proxy.rss_kib() - before < 4096


def test_a_reader_that_rests_holds_the_writer_back_and_is_not_cut(world):
    written = [0]

    def flood(wire):
        wire.sock.settimeout(None)
        for _ in range(2000):
            wire.sock.sendall(b"x" * 65536)
            written[0] += 65536
    _, proxy = passed(world, flood, extra="limits: { write_timeout: 1s, min_rate_grace: 100ms }\n")
    w = proxy.connect()
    time.sleep(1.0)
    first = written[0]
    time.sleep(1.5)  # longer than every limit of a slow reader of answers
    assert written[0] == first < 2000 * 65536
    total = 0
    while True:
        data = w.sock.recv(1 << 20)
        if not data:
            break
        total += len(data)
    assert total == 2000 * 65536


def test_a_connection_counts_in_flight_until_it_ends(world):
    origins, proxy = passed(world, hello(b"hi"), service="    tune: { limit: { value: 2 } }\n"
                            "    queue: { wait: 5s, capacity: 10 }\n")
    a, b, c = proxy.connect(), proxy.connect(), proxy.connect()
    assert a.exactly(2) == b.exactly(2) == b"hi"
    c.sock.settimeout(0.4)
    with pytest.raises(socket.timeout):
        c.sock.recv(2)  # it waits for its turn
    c.sock.settimeout(WAIT_S)
    a.close()
    assert c.exactly(2) == b"hi"
    b.close(), c.close()


def test_what_finds_no_place_is_closed(world):
    _, proxy = passed(world, hello(b"hi"), service="    tune: { limit: { value: 1 } }\n    queue: off\n")
    a = placed(proxy)
    b = proxy.connect()
    assert b.is_closed()
    a.close()
    if not proxy.is_whole:
        assert any(e["reason_name"].startswith("shed_") for e in proxy.wait_events(1))


def test_connections_go_where_the_fewest_are(world):
    origins = [world.origin(raw=hello(b"hi")) for _ in range(3)]
    proxy = world.proxy(tcp_config(*origins), 1, listen=LISTEN)
    ws = [proxy.connect() for _ in range(30)]
    for w in ws:
        w.exactly(2)
    assert max(o.connections for o in origins) <= 12
    for w in ws:
        w.close()


def test_an_endpoint_that_refuses_is_stepped_over(world):
    good = world.origin(raw=hello(b"hi"))
    proxy = world.proxy(tcp_config(free_port(), free_port(), good), 1, listen=LISTEN)
    for _ in range(20):
        w = proxy.connect()
        assert w.exactly(2) == b"hi"
        w.close()


def test_no_endpoint_that_answers_is_a_closed_connection(world):
    proxy = started(world, tcp_config(free_port()))
    assert proxy.connect().is_closed()
    reasons = {e["reason_name"] for e in proxy.wait_events(1)}
    assert reasons <= {"connect_refused", "no_endpoint"}


def test_an_idle_connection_is_cut_in_time(world):
    _, proxy = passed(world, extra="limits: { tunnel_idle_timeout: 1s }\n")
    begun = time.monotonic()
    w = proxy.connect().send("x")
    w.exactly(1)
    assert w.is_closed()
    assert 0.8 < time.monotonic() - begun < 15
    ended(proxy, 1, "tunnel_cut")


@pytest.mark.parametrize("who", ["client", "endpoint"])
def test_a_reset_is_passed_on_as_a_cut(world, who):
    def obey(wire):
        wire.send(wire.exactly(1))
        if wire.fill():
            wire.reset()
    _, proxy = passed(world, obey)
    w = proxy.connect().send("x")
    w.exactly(1)
    if who == "client":
        w.reset()
    else:
        w.send("r")
        assert w.is_closed()
    event, = ended(proxy, 1, "tunnel_cut")
    assert event["sent_bytes"] == 1


def test_the_proxy_header_comes_in_and_goes_out(world):
    heads = []

    def raw(wire):
        heads.append(wire.until(b"\r\n"))
        wire.send(wire.buffer)
        echo(wire)
    origin = world.origin(raw=raw)
    listen = '[{ address: "127.0.0.1:%d", protocol: tcp, service: app, proxy_protocol: true }]'
    proxy = world.proxy(tcp_config(origin, service="    proxy_protocol: v1\n"), 1, listen=listen)
    w = proxy.connect().send("PROXY TCP4 192.0.2.7 198.51.100.2 1234 5432\r\nhello")
    assert w.exactly(5) == b"hello"
    assert heads == [b"PROXY TCP4 192.0.2.7 198.51.100.2 1234 5432"]


def test_a_reload_moves_new_connections_and_keeps_the_old(world):
    a, b = world.origin(raw=hello(b"a")), world.origin(raw=hello(b"b"))
    proxy = world.proxy(tcp_config(a), 2, listen=LISTEN)
    old = proxy.connect()
    assert old.exactly(1) == b"a"
    assert proxy.reload(tcp_config(b)).startswith("reloaded")
    new = proxy.connect()
    assert new.exactly(1) == b"b"
    old.send("still there")
    assert old.exactly(11) == b"still there"


def test_drain_lets_connections_end(world):
    _, proxy = passed(world)
    w = proxy.connect().send("x")
    w.exactly(1)
    proxy.drain()
    time.sleep(0.3)
    w.send("y")
    assert w.exactly(1) == b"y"
    w.close()
    if not proxy.is_whole:
        proxy.expect("drained")


def test_http_and_tcp_listen_side_by_side(world):
    web, db = world.origin(lambda r, w: ok("web")), world.origin(raw=hello(b"db"))
    other = free_port()
    listen = '["127.0.0.1:%%d", { address: "127.0.0.1:%d", protocol: tcp, service: db }]' % other
    text = config(web).replace("routes:", '  db: { endpoints: ["127.0.0.1:%d"] }\nroutes:' % db.port)
    proxy = world.proxy(text, 1, listen=listen)
    assert proxy.get().body == b"web"
    with socket.create_connection(("127.0.0.1", other), WAIT_S) as s:
        assert Wire(s).exactly(2) == b"db"


CHECK = "    health: { %sinterval: 100ms, timeout: 100ms, rise: 1, fall: 1 }\n"


def probes(proxy, reason):
    """Health events with that reason, waited for."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        got = [e for e in proxy.events("health") if e["reason"] == reason]
        if got:
            return got
        time.sleep(0.02)
    return []


def test_a_health_check_of_a_passed_service_is_a_connection(world):
    """What listens there speaks its own protocol: a database would log each GET as an error, and answer none."""
    said = []

    def raw(wire):
        wire.sock.settimeout(30)
        said.append(wire.sock.recv(100))
    origins, proxy = passed(world, raw, service=CHECK % "")
    assert probes(proxy, 203), "health_probe_passed"
    origins[0].close()
    assert probes(proxy, 202), "health_probe_failed"
    assert not any(said)


def test_a_health_check_of_a_passed_service_may_ask_an_http_port_beside_it(world):
    """As Patroni tells beside each database who leads."""
    state = {"leads": True}
    beside = world.origin(lambda r, w: ok("x") if state["leads"] else
                          b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    _, proxy = passed(world, service=CHECK % ("path: /primary, port: %d, " % beside.port))
    assert probes(proxy, 203) and beside.requests[0].target == "/primary"
    state["leads"] = False
    assert probes(proxy, 202)[0]["status"] == 503


def test_a_health_check_of_a_passed_service_may_be_a_call(world):
    origin = H2Origin(lambda st: st.head(415, is_last=True))
    world.origins.append(origin)
    proxy = started(world, tcp_config(origin, service="    protocol: h2c\n" + CHECK % "grpc: on, "))
    assert probes(proxy, 202)[0]["status"] == 415
    assert origin.requests[0].path == "/grpc.health.v1.Health/Check"
