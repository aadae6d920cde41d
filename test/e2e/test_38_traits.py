# SPDX-License-Identifier: Apache-2.0
"""What features did for a request stands in its event: `traits`, sizes before and after compression, limits."""
import threading
import time

from conftest import WAIT_S, config, free_port, ok
from test_13_proxy_protocol import GET, LISTEN, V1, reading
from test_31_place import cookie_of, named, stop
from test_46_compress import HTML, ON, TEXT, accepts

STICKY = "    sticky: { cookie: route }\n"


def names(event):
    return set(event.get("trait_names", []))


def last(proxy, count=1):
    events = proxy.wait_events(count)
    assert len(events) >= count, events
    return events


def test_a_plain_request_has_no_traits(world):
    origin, proxy = world.pair()
    assert proxy.get("/").status == 200
    event = last(proxy)[0]
    assert event["traits"] == 0 and "trait_names" not in event
    assert (event["plain_bytes"], event["coded_bytes"], event["limit_used_pct"]) == (0, 0, 0)


def test_sticky_is_new_kept_or_moved(world):
    ups = named(world, 3)
    proxy = world.proxy(config(*ups, service=STICKY))
    first = proxy.get("/")
    value = cookie_of(first).split(";")[0]
    assert names(last(proxy)[0]) == {"sticky_new"}
    assert proxy.get("/", "Cookie: " + value).status == 200
    assert names(last(proxy)[0]) == {"sticky_kept"}
    assert proxy.get("/", "Cookie: route=short").status == 200
    assert names(last(proxy)[0]) == {"sticky_new"}
    stop(ups[int(first.body)])
    assert proxy.get("/", "Cookie: " + value).status == 200
    assert names(last(proxy)[0]) == {"sticky_moved"}


def test_a_key_is_at_home_or_away(world):
    ups = named(world, 3)
    proxy = world.proxy(config(*ups, service="    balance: hash\n", route=", hash: header X-User"))
    assert proxy.get("/", "X-User: a").status == 200
    assert names(last(proxy)[0]) == {"home"}
    assert proxy.get("/").status == 200, "it has no key"
    assert names(last(proxy)[0]) == set()


def test_a_full_home_sends_keys_away(world):
    go = threading.Event()

    def slow(request, wire):
        go.wait(WAIT_S)
        return ok("slow")
    ups = [world.origin(slow) for _ in range(2)]
    proxy = world.proxy(config(*ups, service="    balance: hash\n    eject: false\n"
                                             "    tune: { limit: { mode: recommend, value: 1 } }\n", route=", hash: path"))
    one, two = proxy.connect(), proxy.connect()
    one.send(b"GET /same HTTP/1.1\r\nHost: a\r\n\r\n")
    deadline = time.monotonic() + WAIT_S
    while sum(len(u.requests) for u in ups) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    two.send(b"GET /same HTTP/1.1\r\nHost: a\r\n\r\n")
    while sum(len(u.requests) for u in ups) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    go.set()
    assert one.response().status == 200 and two.response().status == 200
    got = [names(e) for e in last(proxy, 2)]
    assert {"home"} in got and {"away"} in got, got


def test_another_zone_is_seen(world):
    far = world.origin()
    text = ('zone: east\nservices:\n  app:\n    endpoints:\n'
            '      - { address: "127.0.0.1:%d", zone: east }\n      - { address: "127.0.0.1:%d", zone: west }\n'
            'routes:\n  - { match: /, service: app }\n' % (free_port(), far.port))
    proxy = world.proxy(text)
    assert proxy.get("/").status == 200, "the own zone refuses connections, so it is tried in the other"
    assert "far_zone" in names(last(proxy)[0])


def test_a_named_version_and_a_chosen_one(world):
    ups = named(world, 2)
    text = ('services:\n  app:\n    endpoints: [{ address: "127.0.0.1:%d", version: stable }, '
            '{ address: "127.0.0.1:%d", version: canary }]\n'
            'routes:\n  - { match: /, service: app, split: { stable: 100%%, canary: 0%%, header: V } }\n'
            % (ups[0].port, ups[1].port))
    proxy = world.proxy(text)
    assert proxy.get("/", "V: canary").body == b"1"
    assert names(last(proxy)[0]) == {"split_named"}
    assert proxy.get("/").body == b"0"
    event = last(proxy)[0]
    assert names(event) == set() and event["wanted"] != 0


def test_a_copy_for_the_mirror_and_one_without_room(world):
    done = threading.Event()
    real, shadow = world.origin(), world.origin(lambda r, w: done.wait(WAIT_S) and ok() or ok())
    text = ('services:\n  app:\n    endpoints: ["127.0.0.1:%d"]\n  shadow:\n    endpoints: ["127.0.0.1:%d"]\n'
            '    tune: { limit: { mode: recommend, value: 1 } }\n'
            'routes:\n  - { match: /, service: app, mirror: { service: shadow, percent: 100%% } }\n'
            % (real.port, shadow.port))
    proxy = world.proxy(text, threads=1)
    assert all(proxy.get("/").status == 200 for _ in range(4))
    seen, deadline = [], time.monotonic() + WAIT_S
    while len([e for e in seen if e["route"] != 65535]) < 4 and time.monotonic() < deadline:
        seen += proxy.wait_events(1, 1)
    done.set()
    got = [names(e) for e in seen if e["route"] != 65535]
    assert got[0] == {"copied"} and {"not_copied"} in got, got


def test_compression_says_which_and_how_much(world):
    origin, proxy = world.pair(lambda r, w: ok(TEXT, HTML), route=ON)
    for coding in ("gzip", "br", "zstd"):
        m = proxy.get("/", accepts(coding))
        assert m.get("content-encoding") == coding
        event = last(proxy)[0]
        assert names(event) == {coding} and event["plain_bytes"] == len(TEXT)
        assert 0 < event["coded_bytes"] < len(TEXT) and event["coded_bytes"] <= event["sent_bytes"]


def test_proxy_headers_that_came_and_that_were_sent(world):
    proxy = world.proxy(config(world.origin()), 1, listen=LISTEN)
    w = proxy.connect()
    assert w.send(V1 + GET).response().status == 200
    assert w.send(GET).response().status == 200
    assert [names(e) for e in last(proxy, 2)] == [{"proxied"}] * 2
    heads, requests = [], []
    origin, proxy = world.pair(raw=reading(heads, requests), threads=1, service="    proxy_protocol: v1\n")
    w = proxy.connect()
    for _ in range(2):
        assert w.send(GET).response().status == 200
    assert len(heads) == 1
    assert [names(e) for e in last(proxy, 2)] == [{"introduced"}, set()]


def test_how_full_a_limit_is(world):
    origin, proxy = world.pair(route=", rate_limits: [{ quota: 4/h }, { rate: 1/h, burst: 10 }]")
    assert [proxy.get("/").status for _ in range(5)] == [200] * 4 + [429]
    assert sorted(e["limit_used_pct"] for e in last(proxy, 5)) == [25, 50, 75, 100, 100]
