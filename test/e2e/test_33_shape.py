# SPDX-License-Identifier: Apache-2.0
"""Shaping over real sockets: rate limits and quotas, splits between versions."""
import threading
import time

from conftest import free_port, ok
from h2_util import H2


def limited(limits, more=""):
    return ", rate_limits: [%s]%s" % (limits, more)


def statuses(proxy, count, *fields, path="/"):
    w = proxy.connect()
    out = []
    for _ in range(count):
        w.send("GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (path, "".join(f + "\r\n" for f in fields)))
        out.append(w.response().status)
    w.close()
    return out


def test_what_is_over_the_rate_gets_429_and_when_to_come_back(world):
    origin, proxy = world.pair(route=limited("{ rate: 10/m, burst: 3 }"))
    assert [proxy.get().status for _ in range(3)] == [200] * 3
    m = proxy.get()
    assert m.status == 429
    assert 1 <= int(m.get("retry-after")) <= 6
    assert m.get("ratelimit-policy") == '"10/m";q=10;w=60'
    assert m.get("ratelimit") == '"10/m";r=0;t=18'
    assert 'details="rate_limited"' in m.get("proxy-status")
    assert b"rate limit" in m.body
    assert len(origin.requests) == 3
    events = proxy.wait_events(4)
    assert [e["reason_name"] for e in events].count("rate_limited") == 1
    refused = [e for e in events if e["status"] == 429][0]
    assert refused["endpoint"] == 65535 and refused["route"] != 65535


def test_the_rate_comes_back_with_time(world):
    _, proxy = world.pair(route=limited("{ rate: 20/s, burst: 2 }"))
    passed = wanted = 0
    w = proxy.connect()
    tokens, last = 2, time.monotonic()
    end = last + 2
    while last < end:
        now = time.monotonic()  # what a bucket of the same size does with the same times
        tokens, last = min(2, tokens + 20 * (now - last)), now
        if tokens >= 1:
            tokens, wanted = tokens - 1, wanted + 1
        w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        passed += w.response().status == 200
        time.sleep(0.005)
    w.close()
    assert abs(passed - wanted) <= 4 and 10 < passed <= 45, (passed, wanted)


def test_a_connection_lives_on_after_a_refusal_and_a_body_is_dropped(world):
    origin, proxy = world.pair(route=limited("{ rate: 1/m, burst: 1 }"))
    w = proxy.connect()
    post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    w.send(post)
    assert w.response().status == 200
    w.send(post + post)
    assert [w.response().status, w.response().status] == [429, 429]
    w.close()
    assert len(origin.requests) == 1


def test_limits_count_each_user_of_their_kind(world):
    _, proxy = world.pair(route=limited(
        "{ rate: 1/h, burst: 2, by: header X-Key }, { rate: 1/h, burst: 9, by: route }"))
    assert statuses(proxy, 3, "X-Key: a") == [200, 200, 429]
    assert statuses(proxy, 3, "X-Key: b") == [200, 200, 429]
    assert statuses(proxy, 3) == [200, 200, 429]  # without a key: by address
    assert statuses(proxy, 2, "X-Key: c") == [200, 200]
    # 8 passed, so one is left of the route's nine: what the first limit refused was not counted there
    assert statuses(proxy, 2, "X-Key: d") == [200, 429]


def test_streams_of_http2_count_like_requests(world):
    _, proxy = world.pair(route=limited("{ rate: 1/h, burst: 3, by: token }"))
    c = H2(proxy.port)
    got = [c.get("/", fields=[("authorization", "Bearer a")]) for _ in range(5)]
    assert [a.status for a in got] == [200] * 3 + [429] * 2
    assert got[-1].fields["ratelimit"].startswith('"1/h";r=0;t=') and "retry-after" in got[-1].fields
    assert statuses(proxy, 1, "Authorization: Bearer a") == [429]
    c.close()


def test_token_and_cookie_tell_users_apart(world):
    _, proxy = world.pair(route=limited("{ rate: 1/h, burst: 1, by: token }, { rate: 1/h, burst: 1, by: cookie id }"))
    assert statuses(proxy, 2, "Authorization: Bearer a", "Cookie: x=1; id=a") == [200, 429]
    assert statuses(proxy, 1, "Authorization: Bearer b", "Cookie: x=1;id=a; y=2") == [429]
    assert statuses(proxy, 1, "Authorization: Bearer b", "Cookie: id=b") == [200]


def test_behind_a_trusted_proxy_the_address_is_what_that_proxy_saw(world):
    _, proxy = world.pair(route=limited("{ rate: 1/h, burst: 1, by: address/24 }"),
                          extra="gateway: { trust_forwarded: true }\n")
    assert statuses(proxy, 2, "X-Forwarded-For: 9.9.9.9, 10.1.2.3") == [200, 429]
    assert statuses(proxy, 1, "X-Forwarded-For: 8.8.8.8, 10.1.2.77") == [429]
    assert statuses(proxy, 2, "X-Forwarded-For: 10.1.3.3") == [200, 429]
    assert statuses(proxy, 2, "X-Forwarded-For: 2001:db8:0:1::1") == [200, 429]
    assert statuses(proxy, 1, "X-Forwarded-For: 2001:db8:0:1::2") == [429]
    assert statuses(proxy, 1, "X-Forwarded-For: 2001:db8:0:2::1") == [200]


def test_some_networks_are_left_out_of_a_limit(world):
    """Neither counted nor refused, while the other limit of the list holds for them as for all."""
    _, proxy = world.pair(route=limited("{ rate: 1/h, burst: 2, by: route, except: [10.0.0.0/8] }, { rate: 1/h, burst: 4, by: address }"),
                          extra="gateway: { trust_forwarded: true }\n")
    assert statuses(proxy, 5, "X-Forwarded-For: 10.0.0.7") == [200] * 4 + [429]
    assert statuses(proxy, 3, "X-Forwarded-For: 192.0.2.1") == [200, 200, 429]
    assert statuses(proxy, 1, "X-Forwarded-For: 10.0.0.8") == [200]


def test_without_trust_nobody_poses_as_another_address(world):
    _, proxy = world.pair(route=limited("{ rate: 1/h, burst: 1 }"))
    assert statuses(proxy, 1, "X-Forwarded-For: 10.0.0.1") == [200]
    assert statuses(proxy, 1, "X-Forwarded-For: 10.0.0.2") == [429]


def test_a_quota_is_all_at_once_and_says_when_it_begins_anew(world):
    _, proxy = world.pair(route=limited("{ quota: 4/h, by: token, status: 503 }"))
    assert statuses(proxy, 5, "Authorization: x") == [200] * 4 + [503]
    m = proxy.get("/", "Authorization: x")
    assert m.status == 503 and 1 <= int(m.get("retry-after")) <= 3600
    assert m.get("ratelimit").startswith('"4/h";r=0;t=')
    assert len(m.all("retry-after")) == 1
    assert "quota_exceeded" in [e["reason_name"] for e in proxy.wait_events(6)]


def test_counts_survive_a_reload_while_the_limit_stays(world):
    origin, proxy = world.pair(route=limited("{ rate: 1/h, burst: 3 }"))
    assert statuses(proxy, 2) == [200, 200]
    text = open(proxy.path).read()
    body = text[text.index("services:"):]
    assert proxy.reload("limits: { idle_timeout: 50s }\n" + body).startswith("reloaded")
    time.sleep(0.1)
    assert statuses(proxy, 2) == [200, 429]
    assert proxy.reload(body.replace("burst: 3", "burst: 4")).startswith("reloaded")
    time.sleep(0.1)
    assert statuses(proxy, 5) == [200] * 4 + [429]  # another limit counts anew


def test_all_threads_count_in_one_bucket(world):
    _, proxy = world.pair(route=limited("{ rate: 1/h, burst: 40 }"), threads=4)
    got = [proxy.get().status for _ in range(80)]  # a connection each: the kernel spreads them over the threads
    assert got.count(200) == 40


def own_memory_kib(proxy):
    """Without the rings, whose pages fill with each event."""
    with open("/proc/%d/status" % proxy.gateway_pid()) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


def test_a_flood_of_keys_costs_no_memory(world):
    _, proxy = world.pair(route=limited("{ rate: 1/h, burst: 1, by: header X-Key }"),
                          extra="limits: { rate_keys: 1024 }\n")
    assert statuses(proxy, 3000, "X-Key: same").count(200) == 1
    w, before = proxy.connect(), 0
    for i in range(0, 20000, 100):
        if i == 1000:  # buffers and slabs of this connection are there
            before = own_memory_kib(proxy)
        w.send("".join("GET / HTTP/1.1\r\nHost: a\r\nX-Key: %d\r\n\r\n" % k for k in range(i, i + 100)))
        for _ in range(100):
            assert w.response().status in (200, 429)
    w.close()
    assert own_memory_kib(proxy) - before < 256 or proxy.is_sanitized


def test_refusals_cost_the_endpoint_nothing(world):
    origin, proxy = world.pair(lambda request, wire: ok(), route=limited("{ rate: 1/h, burst: 5, by: route }"))
    assert statuses(proxy, 500).count(200) == 5
    assert len(origin.requests) == 5


# ---- splits between versions ----

def named(name):
    return lambda request, wire: ok(name)


def versions(world, split, more="", count=2):
    """A service with one endpoint of version stable and one of canary."""
    names = ["stable", "canary", "beta"][:count]
    origins = [world.origin(named(n)) for n in names]
    ends = ", ".join('{ address: "127.0.0.1:%d", version: %s }' % (o.port, n) for o, n in zip(origins, names))
    text = ("services:\n  app: { endpoints: [%s], tune: { limit: { min: 8, value: 8, max: 8 } }%s }\n"
            "routes:\n  - { match: /, service: app, split: %s, key: header X-User }\n" % (ends, more, split))
    return origins, world.proxy(text)


def served(proxy, *fields):
    return proxy.get("/", *fields).body.decode()


def test_users_stay_with_their_version_and_shares_hold(world):
    _, proxy = versions(world, "{ stable: 70%, canary: 30% }")
    w, seen = proxy.connect(), {}
    for _ in range(2):
        for user in range(300):
            w.send("GET / HTTP/1.1\r\nHost: a\r\nX-User: u%d\r\n\r\n" % user)
            seen.setdefault(user, set()).add(w.response().body)
    w.close()
    assert all(len(v) == 1 for v in seen.values())
    assert 60 <= sum(v == {b"canary"} for v in seen.values()) <= 120


def test_a_user_keeps_his_version_over_a_restart(world):
    first = versions(world, "{ stable: 50%, canary: 50% }")[1]
    second = versions(world, "{ stable: 50%, canary: 50% }")[1]
    for user in range(20):
        assert served(first, "X-User: %d" % user) == served(second, "X-User: %d" % user)


def test_a_header_or_a_cookie_that_names_a_version_wins(world):
    _, proxy = versions(world, "{ stable: 100%, canary: 0%, header: X-Version, cookie: version }")
    assert {served(proxy, "X-User: %d" % i) for i in range(20)} == {"stable"}
    assert served(proxy, "X-Version: canary") == "canary"
    assert served(proxy, "Cookie: a=b; version=canary") == "canary"
    assert served(proxy, "X-Version: stable", "Cookie: version=canary") == "stable"
    assert served(proxy, "X-Version: nonsense") == "stable"


def test_a_version_without_a_working_endpoint_is_served_by_another(world):
    origin = world.origin(named("stable"))
    proxy = world.proxy('services:\n  app: { endpoints: [{ address: "127.0.0.1:%d", version: stable }, '
                        '{ address: "127.0.0.1:%d", version: canary }] }\n'
                        'routes:\n  - { match: /, service: app, split: { stable: 100%%, canary: 0%%, '
                        'header: X-Version } }\n' % (origin.port, free_port()))
    got = [served(proxy, "X-Version: canary") for _ in range(20)]
    assert got == ["stable"] * 20
    events = proxy.wait_events(20)
    assert all(e["wanted"] for e in events)
    assert sum(e["version"] != e["wanted"] - 1 for e in events) == 20


def test_a_full_version_makes_nobody_wait(world):
    slow = threading.Event()
    origins = [world.origin(named("stable")), world.origin(lambda r, w: slow.wait(5) and ok("canary"))]
    ends = ", ".join('{ address: "127.0.0.1:%d", version: %s }' % (o.port, n)
                     for o, n in zip(origins, ("stable", "canary")))
    proxy = world.proxy("services:\n  app: { endpoints: [%s], tune: { limit: { min: 1, value: 1, max: 1 } } }\n"
                        "routes:\n  - { match: /, service: app, split: { stable: 50%%, canary: 50%%, header: V } }\n"
                        % ends)
    w = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\nV: canary\r\n\r\n")
    time.sleep(0.2)
    assert [served(proxy, "V: canary") for _ in range(5)] == ["stable"] * 5
    slow.set()
    assert w.response().body == b"canary"
    w.close()


def test_a_reload_moves_only_the_users_that_a_share_wins(world):
    _, proxy = versions(world, "{ stable: 90%, canary: 10% }")
    before = [served(proxy, "X-User: %d" % i) for i in range(60)]
    text = open(proxy.path).read()
    body = text[text.index("services:"):].replace("stable: 90%, canary: 10%", "stable: 60%, canary: 40%")
    assert proxy.reload(body).startswith("reloaded")
    time.sleep(0.1)
    after = [served(proxy, "X-User: %d" % i) for i in range(60)]
    assert all(a == b or a == "canary" for a, b in zip(after, before))
    assert after.count("canary") > before.count("canary")


def test_splits_hold_with_hashing_too(world):
    _, proxy = versions(world, "{ stable: 50%, canary: 50%, header: V }", ", balance: hash")
    assert {served(proxy, "V: canary", "X-User: %d" % i) for i in range(10)} == {"canary"}
    assert {served(proxy, "V: stable", "X-User: %d" % i) for i in range(10)} == {"stable"}


# ---- caps ----

def capped(world, service="", routes="  - { match: /, service: app }\n"):
    hold = threading.Event()
    origin = world.origin(lambda r, w: hold.wait(8) and ok() if "slow" in r.target else ok())
    proxy = world.proxy("services:\n  app: { endpoints: [\"127.0.0.1:%d\"], tune: { limit: { min: 64, value: 64, max: "
                        "64 } }%s }\nroutes:\n%s" % (origin.port, service, routes))
    return hold, proxy


def test_a_cap_of_a_service_holds_over_threads_and_gives_back(world):
    hold, proxy = capped(world, ", concurrency: 6")
    held = [proxy.connect().send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(6)]
    time.sleep(0.3)
    m = proxy.get()
    assert m.status == 503 and 'details="shed_cap"' in m.get("proxy-status") and m.get("retry-after")
    hold.set()
    assert [w.response().status for w in held] == [200] * 6
    assert [proxy.get().status for _ in range(20)] == [200] * 20
    for w in held:
        w.close()
    assert "shed_cap" in [e["reason_name"] for e in proxy.wait_events(27)]


def test_a_cap_of_a_route_leaves_other_routes_alone(world):
    hold, proxy = capped(world, routes="  - { match: /a/, service: app, concurrency: 2 }\n  - { match: /, service: app }\n")
    held = [proxy.connect().send("GET /a/slow HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(2)]
    time.sleep(0.2)
    assert proxy.get("/a/").status == 503
    assert proxy.get("/b/").status == 200
    held[0].close()  # its work goes on at the endpoint: it still counts
    time.sleep(0.2)
    assert proxy.get("/a/").status == 503
    hold.set()
    assert held[1].response().status == 200
    held[1].close()
    time.sleep(0.2)
    assert proxy.get("/a/").status == 200


def test_a_cap_outlives_a_reload_exactly(world):
    hold, proxy = capped(world, ", concurrency: 3")
    held = [proxy.connect().send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(3)]
    time.sleep(0.2)
    text = open(proxy.path).read()
    assert proxy.reload(text[text.index("services:"):].replace("concurrency: 3", "concurrency: 4")).startswith("reloaded")
    time.sleep(0.2)
    held.append(proxy.connect().send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"))
    time.sleep(0.2)
    assert proxy.get().status == 503
    hold.set()
    for w in held:
        assert w.response().status == 200
        w.close()


# ---- the last line ----

def test_when_almost_everything_fails_most_is_not_tried_until_it_recovers(world):
    state = {"ok": False}
    origin = world.origin(lambda r, w: ok() if state["ok"] else
                          b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
    proxy = world.proxy("upstream: { retries: 0 }\nservices:\n  app: { endpoints: [\"127.0.0.1:%d\"], success_floor: 50%%, "
                        "tune: { limit: { min: 64, value: 64, max: 64 } } }\n"
                        "routes:\n  - { match: /critical/, service: app, priority: critical, key: header X-U }\n"
                        "  - { match: /, service: app, key: header X-U }\n" % origin.port)

    def wave(path="/"):
        w, out = proxy.connect(), []
        for user in range(200):
            w.send("GET %s HTTP/1.1\r\nHost: a\r\nX-U: %d\r\n\r\n" % (path, user))
            out.append(w.response().status)
        w.close()
        return out
    first = wave()
    assert first[:100] == [500] * 100
    tried = len(origin.requests)
    second = wave()
    assert 120 <= second.count(503) <= 190
    assert len(origin.requests) - tried == 200 - second.count(503)
    assert wave("/critical/") == [500] * 200
    state["ok"] = True
    end = time.monotonic() + 15
    while wave().count(200) < 200:
        assert time.monotonic() < end
        time.sleep(0.2)
