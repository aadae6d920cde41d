# SPDX-License-Identifier: Apache-2.0
"""Caps on what one client has in hand at once: counted by address, header or token, and given back however it ends."""
import threading
import time

import pytest
from conftest import WAIT_S, ok
from h2_util import H2
from test_14_tcp import LISTEN, echo, tcp_config

pytestmark = pytest.mark.short
SLOTS = ", tune: { limit: { min: 64, value: 64, max: 64 } }"


class Held:
    """An origin whose answers to /slow wait until they may go."""

    def __init__(self, world, route="", service="", extra=""):
        self.gate = threading.Event()
        self.origin = world.origin(lambda r, w: self.gate.wait(WAIT_S) and ok() if "slow" in r.target else ok())
        self.proxy = world.proxy("%sservices:\n  app: { endpoints: [\"127.0.0.1:%d\"]%s%s }\nroutes:\n"
                                 "  - { match: /, service: app%s }\n" % (extra, self.origin.port, SLOTS, service, route))

    def slow(self, *fields):
        return self.proxy.connect().send("GET /slow HTTP/1.1\r\nHost: a\r\n%s\r\n" % "".join(f + "\r\n" for f in fields))

    def status(self, *fields, path="/"):
        w = self.proxy.connect()
        try:
            return w.send("GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (path, "".join(f + "\r\n" for f in fields))).response()
        finally:
            w.close()

    def until(self, status, *fields):
        """What it has in hand is told by what one more gets."""
        end = time.monotonic() + WAIT_S
        while True:
            m = self.status(*fields)
            if m.status == status:
                return m
            assert time.monotonic() < end, "still %d" % m.status
            time.sleep(0.02)


def reached(origin, count):
    end = time.monotonic() + WAIT_S
    while len([r for r in list(origin.requests) if "slow" in r.target]) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_has_enough_in_hand_gets_429_and_others_are_served(world):
    h = Held(world, route=", concurrency: [{ max: 2, by: header X-User }]")
    held = [h.slow("X-User: ann") for _ in range(2)]
    reached(h.origin, 2)
    m = h.status("X-User: ann")
    assert m.status == 429 and 'details="client_capped"' in m.get("proxy-status") and m.get("retry-after")
    assert h.status("X-User: bob").status == 200
    assert h.status().status == 200  # without the header: by address
    h.gate.set()
    assert [w.response().status for w in held] == [200] * 2
    for w in held:
        w.close()
    h.until(200, "X-User: ann")
    assert "client_capped" in [e["reason_name"] for e in h.proxy.wait_events(5)]


def test_a_refusal_with_401_asks_nobody_for_a_password(world):
    h = Held(world, route=", concurrency: [{ max: 1, by: address, status: 401 }]")
    held = h.slow()
    reached(h.origin, 1)
    m = h.status()
    assert m.status == 401 and m.get("www-authenticate") is None
    h.gate.set()
    assert held.response().status == 200
    held.close()
    h.until(200)


def test_a_cap_by_address_and_one_of_all_hold_beside_each_other(world):
    h = Held(world, service=", concurrency: [3, { max: 2, by: token, status: 503 }]")
    held = [h.slow("Authorization: a"), h.slow("Authorization: a"), h.slow("Authorization: b")]
    reached(h.origin, 3)
    assert 'details="client_capped"' in h.status("Authorization: a").get("proxy-status")
    m = h.status("Authorization: c")
    assert m.status == 503 and 'details="shed_cap"' in m.get("proxy-status")
    h.gate.set()
    for w in held:
        assert w.response().status == 200
        w.close()
    h.until(200, "Authorization: a")


def test_what_a_client_left_counts_until_its_endpoint_is_done(world):
    h = Held(world, route=", concurrency: [{ max: 1 }]")
    w = h.slow()
    reached(h.origin, 1)
    w.close()
    h.until(429)
    h.gate.set()
    h.until(200)


def test_cancelled_streams_count_until_their_endpoint_is_done_and_not_longer(world):
    h = Held(world, route=", concurrency: [{ max: 4 }]")
    c = H2(h.proxy.port)
    streams = [c.begin("/slow") for _ in range(4)]
    reached(h.origin, 4)
    assert c.get("/").fields[":status"] == "429"
    for s in streams:
        c.c.reset_stream(s, 8)
    c.flush()
    assert c.get("/").fields[":status"] == "429"
    assert h.status().status == 429  # the same client over another connection
    h.gate.set()
    h.until(200)
    assert c.get("/").fields[":status"] == "200"
    c.close()
    for _ in range(3):  # and once more with a connection that goes as a whole
        c = H2(h.proxy.port)
        for _ in range(4):
            c.begin("/")
        c.close()
    h.until(200)


def test_a_tunnel_counts_until_it_is_closed(world):
    origin = world.origin(raw=upgrade)
    proxy = world.proxy("services:\n  app: { endpoints: [\"127.0.0.1:%d\"]%s }\nroutes:\n"
                        "  - { match: /, service: app, concurrency: [{ max: 1 }] }\n" % (origin.port, SLOTS))
    w = ask_tunnel(proxy)
    assert w.response().status == 101
    second = ask_tunnel(proxy)
    assert second.response().status == 429
    second.close()
    w.close()
    end = time.monotonic() + WAIT_S
    while True:
        third = ask_tunnel(proxy)
        status = third.response().status
        third.close()
        if status == 101:
            return
        assert time.monotonic() < end
        time.sleep(0.02)


def ask_tunnel(proxy):
    return proxy.connect().send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


def upgrade(wire):
    wire.until(b"\r\n\r\n")
    wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
    echo(wire)


def test_passed_connections_of_one_address_are_capped_too(world):
    origin = world.origin(raw=echo)
    proxy = world.proxy(tcp_config(origin, service="    concurrency: [{ max: 2 }]\n"), listen=LISTEN)

    def is_passed(w):
        try:
            w.send(b"hi")
            return w.exactly(2) == b"hi"
        except (EOFError, OSError):
            return False

    def one_more():
        end = time.monotonic() + WAIT_S
        while True:
            w = proxy.connect()
            if is_passed(w):
                return w
            w.close()
            assert time.monotonic() < end
            time.sleep(0.02)
    first, second = one_more(), one_more()
    third = proxy.connect()
    assert not is_passed(third)
    third.close()
    assert is_passed(first) and is_passed(second)
    second.close()
    again = one_more()
    first.close()
    again.close()


def test_a_reload_keeps_what_a_client_has_in_hand(world):
    h = Held(world, route=", concurrency: [{ max: 2 }]")
    held = [h.slow() for _ in range(2)]
    reached(h.origin, 2)
    text = open(h.proxy.path).read()
    text = text[text.index("services:"):]
    assert h.proxy.reload(text.replace("max: 2 }]", "max: 3 }]")).startswith("reloaded")
    held.append(h.slow())
    reached(h.origin, 3)
    h.until(429)
    assert h.proxy.reload(text.replace(", concurrency: [{ max: 2 }]", "")).startswith("reloaded")
    h.until(200)  # without a cap what was counted is still given back
    h.gate.set()
    for w in held:
        assert w.response().status == 200
        w.close()
    assert h.proxy.reload(text.replace("max: 2 }]", "max: 1 }]")).startswith("reloaded")
    h.until(200)
