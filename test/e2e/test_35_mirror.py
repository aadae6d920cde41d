# SPDX-License-Identifier: Apache-2.0
"""Copies for another service: what it gets, and that no client and no fact of the route notices."""
import threading
import time

import pytest
from conftest import WAIT_S, ok

pytestmark = pytest.mark.short


def config(real, shadow, percent="100%", extra="", shadow_extra=""):
    return f"""{extra}services:
  app:
    endpoints: ["127.0.0.1:{real.port}"]
  shadow:
    endpoints: ["127.0.0.1:{shadow.port}"]
{shadow_extra}routes:
  - {{ match: /, service: app, mirror: {{ service: shadow, percent: {percent} }} }}
"""


def world_of(world, answer=None, **parts):
    real, shadow = world.origin(), world.origin(answer)
    return real, shadow, world.proxy(config(real, shadow, **parts), threads=1)


def until(fact, what):
    end = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_the_mirror_gets_the_same_request_with_a_mark(world):
    real, shadow, proxy = world_of(world)
    assert proxy.get("/a?b=c", "X-Own: 1").status == 200
    assert proxy.get("/post", method="POST", body=b"payload" * 100).status == 200
    until(lambda: len(shadow.requests) == 2, "two copies")
    get, post = sorted(shadow.requests, key=lambda r: r.method)  # copies overtake each other
    assert (get.method, get.target, get.get("x-own"), get.get("x-mirror")) == ("GET", "/a?b=c", "1", "1")
    assert (post.method, post.get("content-length")) == ("POST", "700")
    assert all(r.get("x-mirror") is None for r in real.requests)
    assert get.get("host") == real.requests[0].get("host")


def test_a_chunked_body_is_copied_whole(world):
    bodies = []

    def keep(request, wire):
        bodies.append(request.body if hasattr(request, "body") else b"")
        return ok()
    real, shadow = world.origin(keep), world.origin(keep)
    proxy = world.proxy(config(real, shadow), threads=1)
    w = proxy.connect()
    w.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n")
    assert w.response().status == 200
    until(lambda: len(bodies) == 2, "the copy")
    assert bodies[0] == bodies[1]


def test_a_failing_slow_or_dead_mirror_is_nobody_s_trouble(world):
    gate = threading.Event()

    def bad(request, wire):
        if request.target == "/slow":
            gate.wait(30)
        return b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n" if request.target == "/bad" else False
    real, shadow, proxy = world_of(world, bad)
    begin = time.monotonic()
    for path in ("/bad", "/cut", "/slow") * 4:
        assert proxy.get(path).status == 200
    assert time.monotonic() - begin < 20, "nobody waited for what the mirror does not answer in 30 s"
    gate.set()
    shadow.close()
    for _ in range(10):
        assert proxy.get("/").status == 200
    time.sleep(1.2)  # the slow ones too
    events = proxy.events()
    mine = [e for e in events if e["route"] != 65535]
    assert len([e for e in mine if e["status"] == 200]) == 22
    copies = [e for e in events if e["route"] == 65535]
    assert copies and all(e["endpoint"] != mine[0]["endpoint"] for e in copies)
    assert {e["reason"] for e in copies} <= {145, 146, "mirrored", "mirror_failed"}


def test_answered_copies_say_so_and_keep_their_connection(world):
    real, shadow, proxy = world_of(world)
    for _ in range(5):
        assert proxy.get("/").status == 200
        time.sleep(0.05)
    until(lambda: len(shadow.requests) == 5, "copies")
    events = proxy.wait_events(10)
    copies = [e for e in events if e["route"] == 65535]
    assert len(copies) == 5
    assert all(e["reason"] in (145, "mirrored") and e["status"] == 200 for e in copies)
    assert shadow.connections == 1


def test_without_room_there_is_no_copy(world):
    def hang(request, wire):
        time.sleep(1.5)
        return ok()
    real, shadow, proxy = world_of(world, hang)
    for _ in range(40):
        assert proxy.get("/").status == 200
    assert len(shadow.requests) <= 8, "as many as its limit, none waits"


def test_a_large_body_and_no_share_are_not_copied(world):
    real, shadow, proxy = world_of(world)
    assert proxy.get("/", method="POST", body=b"x" * 200000).status == 200
    time.sleep(0.2)
    assert shadow.requests == []
    proxy.reload(config(real, shadow, percent="0%"))
    time.sleep(0.2)
    for _ in range(5):
        assert proxy.get("/").status == 200
    time.sleep(0.2)
    assert shadow.requests == []


@pytest.mark.parametrize("text,says", [("{ percent: 1% }", "needs a service"), ("{ service: nope }", "no service"),
                                       ("{ service: shadow, percent: 101% }", "0%..100%"), ("shadow", "percent")])
def test_wrong_settings_are_refused_in_a_sentence(world, text, says):
    real, shadow, proxy = world_of(world)
    wrong = config(real, shadow).replace("{ service: shadow, percent: 100% }", text)
    assert says in proxy.reload(wrong)
