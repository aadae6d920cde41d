# SPDX-License-Identifier: Apache-2.0
"""Requests that belong somewhere: consistent hashing, cookies, zones."""
import collections
import concurrent.futures
import socket
import threading
import time

import pytest
from conftest import config, ok

pytestmark = pytest.mark.short

HASH = "    balance: hash\n"


def named(world, count):
    """Origins that answer with their number."""
    return [world.origin(lambda r, w, i=i: ok(str(i))) for i in range(count)]


def stop(origin):
    origin.listener.shutdown(socket.SHUT_RDWR)  # close alone leaves the accept under way open for one more
    origin.close()


def homes(proxy, keys, ask):
    """The origin of each key, two at once."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda k: ask(k), keys))
    assert all(m.status == 200 for m in got)
    return {k: m.body.decode() for k, m in zip(keys, got)}


@pytest.mark.parametrize("key, ask", [
    ("header X-User", lambda p, k: p.get("/", "X-User: u%d" % k)),
    ("cookie session", lambda p, k: p.get("/", "Cookie: a=b; session=s%d; c=d" % k)),
    ("query user", lambda p, k: p.get("/x?a=1&user=%d" % k)),
    ("path", lambda p, k: p.get("/item/%d?time=%d" % (k, id(object())))),
])
def test_each_key_has_one_home(world, key, ask):
    # a learner may lower a limit below two where the machine stalls; what has no room goes elsewhere
    room = "    tune: { limit: { mode: recommend, value: 50 } }\n    eject: false\n"
    proxy = world.proxy(config(*named(world, 4), service=HASH + room, route=", hash: %s" % key))
    keys = list(range(60))
    first = homes(proxy, keys, lambda k: ask(proxy, k))
    again = homes(proxy, keys, lambda k: ask(proxy, k))
    assert first == again
    shares = collections.Counter(first.values())
    assert len(shares) == 4 and max(shares.values()) < 35, shares


def test_the_address_is_the_key_when_none_is_named(world):
    proxy = world.proxy(config(*named(world, 4), service=HASH))
    assert len({proxy.get("/%d" % i).body for i in range(20)}) == 1


def test_requests_without_the_key_go_anywhere(world):
    proxy = world.proxy(config(*named(world, 3), service=HASH, route=", hash: header X-User"))
    assert len({proxy.get("/").body for _ in range(40)}) > 1


def test_homes_outlive_a_restart_and_a_reload(world):
    ups = named(world, 4)
    text = config(*ups, service=HASH, route=", hash: header X-User")
    keys = list(range(40))

    def all_of(proxy):
        return homes(proxy, keys, lambda k: proxy.get("/", "X-User: u%d" % k))
    one, two = world.proxy(text), world.proxy(config(*reversed(ups), service=HASH, route=", hash: header X-User"), 1)
    before = all_of(one)
    assert before == all_of(two), "another process with another order agrees"
    assert one.reload(text + "\n").startswith("reloaded")
    assert before == all_of(one)


def test_only_the_keys_of_a_dead_endpoint_move(world):
    ups = named(world, 4)
    proxy = world.proxy(config(*ups, service=HASH, route=", hash: header X-User"))
    keys = list(range(60))
    before = homes(proxy, keys, lambda k: proxy.get("/", "X-User: u%d" % k))
    stop(ups[2])
    after = homes(proxy, keys, lambda k: proxy.get("/", "X-User: u%d" % k))
    assert {k for k in keys if before[k] != after[k]} == {k for k in keys if before[k] == "2"}
    assert "2" not in after.values()


# ---- sticky sessions ----

STICKY = "    sticky: { cookie: route, ttl: 1h }\n"


def cookie_of(m):
    got = [c for c in m.all("set-cookie") if c.startswith("route=")]
    return got[0] if got else None


def test_a_session_stays_at_its_endpoint(world):
    ups = named(world, 4)
    proxy = world.proxy(config(*ups, service=STICKY))
    first = proxy.get("/")
    cookie = cookie_of(first)
    value = cookie.split(";")[0].split("=")[1]
    assert len(value) == 16 and set(value) <= set("0123456789abcdef")
    assert "127" not in cookie and str(ups[int(first.body)].port) not in cookie
    assert "; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax" in cookie and "Secure" not in cookie
    for _ in range(30):
        m = proxy.get("/", "Cookie: x=1; route=%s" % value)
        assert m.body == first.body and cookie_of(m) is None
    assert len({proxy.get("/").body for _ in range(40)}) > 1, "others are balanced"


def test_attributes_of_the_cookie_are_as_configured(world):
    proxy = world.proxy(config(*named(world, 1), service="    sticky: { cookie: route, path: /shop, secure: on, "
                                                         "same_site: none, http_only: false }\n"))
    attributes = cookie_of(proxy.get("/")).split("; ")[1:]
    assert attributes == ["Path=/shop", "Secure", "SameSite=None"]


@pytest.mark.parametrize("value", ["0000000000000000", "ffffffffffffffff", "G" * 16, "", "1" * 300, "127.0.0.1"])
def test_a_cookie_that_fits_nobody_is_replaced(world, value):
    proxy = world.proxy(config(*named(world, 2), service=STICKY))
    m = proxy.get("/", "Cookie: route=" + value)
    assert m.status == 200 and cookie_of(m)


def test_a_dead_endpoint_gives_its_sessions_to_another_with_a_new_cookie(world):
    ups = named(world, 3)
    proxy = world.proxy(config(*ups, service=STICKY))
    first = proxy.get("/")
    value = cookie_of(first).split(";")[0]
    stop(ups[int(first.body)])
    moved = proxy.get("/", "Cookie: " + value)
    assert moved.status == 200 and moved.body != first.body
    again = cookie_of(moved).split(";")[0]
    assert again != value
    assert proxy.get("/", "Cookie: " + again).body == moved.body


def test_cookies_outlive_a_restart_with_the_same_secret(world, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    ups = named(world, 4)
    text = config(*ups, service="    sticky: { cookie: route, secret_file: %s }\n" % secret)
    first = world.proxy(text).get("/")
    value = cookie_of(first).split(";")[0]
    other = world.proxy(text)
    for _ in range(5):
        assert other.get("/", "Cookie: " + value).body == first.body
    (tmp_path / "short").write_text("short")
    third = world.proxy(config(*ups, service="    sticky: { cookie: route, secret_file: %s }\n" % (tmp_path / "short")))
    assert cookie_of(third.get("/", "Cookie: " + value)), "another key does not know it"
    assert "secret_file" in third.log()


def test_a_full_endpoint_is_waited_for_and_left_in_the_end(world):
    gate = threading.Event()

    def slow(r, w):
        if r.get("x-slow"):
            gate.wait(5)
        return ok("slow" if r.get("x-slow") else "quick")
    a, b = world.origin(slow), world.origin(slow)
    proxy = world.proxy(config(a, b, service=STICKY + "    queue: { wait: 2s }\n"
                                                      "    tune: { limit: { mode: recommend, value: 1 } }\n"))
    value = cookie_of(proxy.get("/")).split(";")[0]
    held = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: 1\r\nCookie: %s\r\n\r\n" % value)
    time.sleep(0.2)
    begin = time.monotonic()
    m = proxy.get("/", "Cookie: " + value)
    waited = time.monotonic() - begin
    assert m.status == 200 and cookie_of(m), "it went to the other one, for good"
    assert 0.4 < waited < 1.5, waited
    gate.set()
    assert held.response().body == b"slow"


# ---- zones, spare endpoints, caps ----

def places(*ends, service="", extra=""):
    return ("%sservices:\n  app:\n    endpoints:\n%s%sroutes:\n  - { match: /, service: app }\n"
            % (extra, "".join("      - { address: \"127.0.0.1:%d\", %s }\n" % (o.port, rest) for o, rest in ends), service))


def test_the_own_zone_serves_and_another_takes_over(world):
    a, b = named(world, 2)
    text = places((a, "zone: east"), (b, "zone: west"), extra="zone: %s\n")
    proxy = world.proxy(text % "west")
    assert [proxy.get("/").body for _ in range(30)].count(b"1") >= 25  # a busy machine makes the own one look slow
    assert proxy.reload(text % "east").startswith("reloaded")
    assert [proxy.get("/").body for _ in range(30)].count(b"0") >= 25
    stop(a)
    assert all(m.status == 200 and m.body == b"1" for m in [proxy.get("/") for _ in range(30)])


def test_a_full_zone_spills_and_says_so(world):
    gate = threading.Event()

    def slow(r, w):
        gate.wait(5)
        return ok("near")
    a, b = world.origin(slow), world.origin(lambda r, w: ok("far"))
    proxy = world.proxy(places((a, "zone: east, max_in_flight: 2"), (b, "zone: west"), extra="zone: east\n"))
    held = [proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(2)]
    deadline = time.monotonic() + 5
    while a.in_flight < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [proxy.get("/").body for _ in range(20)] == [b"far"] * 20
    assert a.peak == 2, "max_in_flight is never passed"
    deadline = time.monotonic() + 3
    said = []
    while 225 not in said and time.monotonic() < deadline:
        said += [e["reason"] for e in proxy.events("health")]
        time.sleep(0.05)
    assert 225 in said, "health_zone_spill"
    gate.set()
    assert [w.response().body for w in held] == [b"near"] * 2


def test_a_backup_serves_only_when_nobody_else_can(world):
    a, b = named(world, 2)
    proxy = world.proxy(places((a, "weight: 100%"), (b, "backup: true")))
    assert {proxy.get("/").body for _ in range(30)} == {b"0"}
    stop(a)
    got = [proxy.get("/") for _ in range(30)]
    assert all(m.status == 200 for m in got), [m.status for m in got]
    assert got[-1].body == b"1"



def test_passed_connections_have_a_home_by_address(world):
    """127.0.0.1 is one client: its connections, one after the other, meet one origin."""
    ups = [world.origin(raw=lambda wire, i=i: wire.send("origin %d" % i)) for i in range(4)]
    text = config(*ups, service="    balance: hash\n").split("routes:")[0]
    proxy = world.proxy(text, listen='[{ address: "127.0.0.1:%d", protocol: tcp, service: app }]')
    met = set()
    for _ in range(12):
        wire = proxy.connect()
        met.add(wire.rest())
        wire.close()
        time.sleep(0.02)
    assert len(met) == 1, met
