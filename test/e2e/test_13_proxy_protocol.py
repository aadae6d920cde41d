# SPDX-License-Identifier: Apache-2.0
"""PROXY protocol: who the client is when a load balancer stands before the gateway, and telling it to endpoints."""
import socket
import struct
import time

import pytest
from conftest import WAIT_S, Wire, config, ok
from h2_util import H2

pytestmark = pytest.mark.short
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LISTEN = '[{ address: "127.0.0.1:%d", proxy_protocol: true }]'
QUICK = "limits: { header_timeout: 300ms }\n"


def v2(source="192.0.2.7", target="198.51.100.2", ports=(1234, 443), command=0x21, more=b""):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    body = socket.inet_pton(family, source) + socket.inet_pton(family, target) + struct.pack(">HH", *ports) + more
    return SIGNATURE + bytes([command, 0x21 if family == socket.AF_INET6 else 0x11]) + struct.pack(">H", len(body)) + body


V1 = b"PROXY TCP4 192.0.2.7 198.51.100.2 1234 443\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


def seen_by(origin):
    return [r.get("x-forwarded-for") for r in origin.requests]


def proxied(world, answer=None, **parts):
    origin = world.origin(answer)
    return origin, world.proxy(config(origin, **parts), 1, listen=LISTEN)


@pytest.mark.parametrize("head, address", [
    (V1, "192.0.2.7"), (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", "127.0.0.1"), (v2(), "192.0.2.7"), (v2("2001:db8::9", "::1"), "2001:db8::9"),
    (v2(more=b"\x04\0\x03abc"), "192.0.2.7"), (SIGNATURE + b"\x20\0\0\0", "127.0.0.1")])
def test_the_client_is_whom_the_header_names(world, head, address):
    origin, proxy = proxied(world)
    w = proxy.connect().send(head + GET)
    assert w.response().status == 200
    w.send(GET)  # the header stands once, before the first request
    assert w.response().status == 200
    assert seen_by(origin) == [address, address]


def test_a_header_in_single_bytes_is_understood(world):
    origin, proxy = proxied(world)
    for head in (V1, v2()):
        w = proxy.connect()
        for byte in head + GET:
            w.send(bytes([byte]))
            time.sleep(0.001)
        assert w.response().status == 200
    assert seen_by(origin) == ["192.0.2.7"] * 2


def test_the_access_log_and_the_fairness_key_follow_the_header(world, tmp_path):
    log = tmp_path / "access"
    origin, proxy = proxied(world, extra="privacy: { raw_addresses: true }\naccess_log: { format: json, path: %s }\n" % log)
    for source in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
        w = proxy.connect().send(v2(source) + GET)
        w.response()
        w.close()
    events = proxy.wait_events(3)
    assert events[0]["subject"] == events[2]["subject"] != events[1]["subject"]
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    assert [line.count("192.0.2.7") for line in log.read_text().splitlines()] == [1, 0, 1]


@pytest.mark.parametrize("bytes_", [
    GET, b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", b"PROXY TCP4 192.0.2.7 198.51.100.2 1234 443\n" + GET, b"\0" * 50,
    SIGNATURE + b"\x21\x11\xff\xff", b"PROXY UNKNOWN " + b"x" * 200, b"\x16\x03\x01\x02\0\x01\0"])
def test_a_connection_without_a_good_header_is_closed_without_an_answer(world, bytes_):
    origin, proxy = proxied(world)
    w = proxy.connect().send(bytes_)
    assert w.rest() == b""
    assert origin.requests == []
    assert [e["reason_name"] for e in proxy.wait_events(1)] == ["proxy_header_bad"]


def test_a_header_that_does_not_come_in_time_is_not_waited_for(world):
    origin, proxy = proxied(world, extra=QUICK)
    begun = time.monotonic()
    ws = [proxy.connect(), proxy.connect().send(V1[:20])]
    for w in ws:
        assert w.is_closed()
    assert 0.25 < time.monotonic() - begun < 8
    assert [e["reason_name"] for e in proxy.wait_events(2)] == ["proxy_header_bad"] * 2


def test_a_look_whether_the_port_is_open_is_no_event(world):
    origin, proxy = proxied(world)
    for _ in range(5):
        proxy.connect().close()
    w = proxy.connect().send(V1 + GET)
    w.response()
    assert [e["reason_name"] for e in proxy.wait_events(1)] == ["answered"]


def test_only_trusted_networks_may_connect(world):
    origin = world.origin()
    listen = '[{ address: "127.0.0.1:%d", proxy_protocol: true, trusted: [127.0.0.8/29, "::1"] }]'
    proxy = world.proxy(config(origin), 1, listen=listen)
    for source, is_good in (("127.0.0.9", True), ("127.0.0.15", True), ("127.0.0.7", False), ("127.0.0.16", False)):
        with socket.create_connection(("127.0.0.1", proxy.port), WAIT_S, (source, 0)) as s:
            w = Wire(s)
            if is_good:
                assert w.send(V1 + GET).response().status == 200
            else:
                assert w.is_closed()
    # the fixture's own look at the port came from an untrusted address, too
    reasons = [e["reason_name"] for e in proxy.wait_events(5)]
    assert reasons.count("answered") == 2
    assert reasons.count("proxy_untrusted") == 3


def test_a_reload_changes_whom_a_listener_believes(world):
    origin, proxy = proxied(world)
    assert proxy.connect().send(V1 + GET).response().status == 200
    proxy.listen = '["127.0.0.1:%d"]'
    assert proxy.reload(config(origin)).startswith("reloaded")
    assert proxy.connect().send(GET).response().status == 200
    assert seen_by(origin) == ["192.0.2.7", "127.0.0.1"]


# ---- towards endpoints ----

def reading(heads, requests):
    """An endpoint that demands a header of version 1 or 2 before the first request."""
    def raw(wire):
        while len(wire.buffer) < 16 and wire.fill():
            pass
        if wire.buffer.startswith(b"PROXY "):
            heads.append(wire.until(b"\r\n"))
        elif wire.buffer.startswith(SIGNATURE):
            head = wire.exactly(16)
            heads.append(head + wire.exactly(struct.unpack(">H", head[14:])[0]))
        else:
            return
        while True:
            requests.append((wire, wire.request()))
            wire.send(ok())
    return raw


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_endpoint_is_told_who_the_client_is(world, version):
    heads, requests = [], []
    origin, proxy = world.pair(raw=reading(heads, requests), threads=1, service="    proxy_protocol: %s\n" % version)
    w = proxy.connect()
    for _ in range(3):
        assert w.send(GET).response().status == 200
    port = w.sock.getsockname()[1]
    if version == "v1":
        assert heads == [b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d" % (port, proxy.port)]
    else:
        assert heads == [v2("127.0.0.1", "127.0.0.1", (port, proxy.port))]
    assert origin.connections == 1


def test_streams_name_the_client_of_their_connection(world):
    heads, requests = [], []
    origin, proxy = world.pair(raw=reading(heads, requests), threads=1, service="    proxy_protocol: v1\n")
    clients = [H2(proxy.port), H2(proxy.port)]
    for _ in range(2):
        for c in clients:
            assert c.get("/x").fields[":status"] == "200"
    assert heads == [b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d" % (c.sock.getsockname()[1], proxy.port) for c in clients]
    assert len(requests) == 4
    for c in clients:
        c.close()


def test_clients_do_not_share_connections_that_name_one_of_them(world):
    heads, requests = [], []
    origin, proxy = world.pair(raw=reading(heads, requests), threads=1, service="    proxy_protocol: v1\n")
    a, b = proxy.connect(), proxy.connect()
    for _ in range(3):
        for w in (a, b):
            assert w.send(GET).response().status == 200
    assert origin.connections == 2
    wires = [w for w, _ in requests]
    assert wires == [wires[0], wires[1]] * 3


def test_a_header_that_came_in_goes_out_again(world):
    heads, requests = [], []
    origin = world.origin(raw=reading(heads, requests))
    proxy = world.proxy(config(origin, service="    proxy_protocol: v2\n"), 1, listen=LISTEN)
    assert proxy.connect().send(V1 + GET).response().status == 200
    assert proxy.connect().send(v2("2001:db8::9", "2001:db8::1") + GET).response().status == 200
    assert heads == [v2(), v2("2001:db8::9", "2001:db8::1")]


def test_a_retry_names_the_client_again(world):
    heads, requests = [], []
    good = world.origin(raw=reading(heads, requests))
    bad = world.origin(raw=lambda wire: wire.fill())  # closes after the first bytes
    proxy = world.proxy(config(bad, good, service="    proxy_protocol: v1\n    balance: round-robin\n"), 1)
    for _ in range(4):
        assert proxy.connect().send(GET).response().status == 200
    assert len(heads) == len(requests) == 4


def test_health_checks_begin_with_a_header_of_their_own(world):
    heads, requests = [], []
    origin, proxy = world.pair(raw=reading(heads, requests), threads=1,
                               service="    proxy_protocol: v2\n    health: { path: /up, interval: 100ms }\n")
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and not requests:
        time.sleep(0.02)
    assert requests[0][1].target == "/up"
    assert heads[0] == SIGNATURE + b"\x20\0\0\0"


# ---- requests of foldback's own ----

def test_the_service_that_is_asked_is_told_whose_request_it_judges(world):
    heads, requests = [], []
    origin, login = world.origin(), world.origin(raw=reading(heads, requests))
    proxy = world.proxy(
        "services:\n  app: { endpoints: [\"127.0.0.1:%d\"] }\n"
        "  login: { endpoints: [\"127.0.0.1:%d\"], proxy_protocol: v1 }\n"
        "routes:\n  - { match: /, service: app, auth: { request: { service: login } } }\n" % (origin.port, login.port), 1, listen=LISTEN)
    w = proxy.connect().send(V1)
    for _ in range(3):
        assert w.send(GET).response().status == 200
    assert heads == [V1[:-2]] and len(requests) == 3


def test_an_answer_that_is_fetched_anew_is_nobodys(world):
    heads, requests = [], []

    def raw(wire):
        try:
            reading(heads, requests)(wire)
        except EOFError:
            pass
    origin = world.origin(raw=raw)
    proxy = world.proxy(config(origin, service="    proxy_protocol: v2\n", route=", cache: { stale_while_revalidate: 60s, ttl: 1s }"), 1)
    assert proxy.get("/").status == 200
    end = time.monotonic() + WAIT_S
    while len(requests) < 3 and time.monotonic() < end:
        assert proxy.get("/").status == 200
        time.sleep(0.1)
    assert heads[0] != heads[1] == SIGNATURE + b"\x20\0\0\0"


def test_the_second_copy_of_a_request_names_the_same_client(world):
    heads, asked, hold_s = [], [], [0]

    def raw(name):
        def serve(wire):
            heads.append(wire.until(b"\r\n"))
            while True:
                wire.request()
                asked.append(name)
                time.sleep(hold_s[0] if name == "slow" else 0)
                wire.send(ok(name.encode()))
        return serve
    a, b = world.origin(raw=raw("slow")), world.origin(raw=raw("quick"))
    proxy = world.proxy(config(a, b, service="    proxy_protocol: v1\n    balance: round-robin\n", route=", hedge: 60ms"), 1)
    w = proxy.connect()
    for _ in range(60):  # earns the budget of copies
        assert w.send(GET).response().status == 200
    hold_s[0], answers = 0.5, []
    asked.clear()
    end = time.monotonic() + WAIT_S
    while asked.count("slow") == answers.count(b"slow") and time.monotonic() < end:
        answers.append(w.send(GET).response().body)
    assert asked.count("slow") > answers.count(b"slow")
    assert set(heads) == {b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d" % (w.sock.getsockname()[1], proxy.port)}
