# SPDX-License-Identifier: Apache-2.0
"""Shaping over real sockets: rate limits and quotas."""
import time

from conftest import ok


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
    end, passed = time.monotonic() + 2, 0
    w = proxy.connect()
    while time.monotonic() < end:
        w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        passed += w.response().status == 200
        time.sleep(0.005)
    w.close()
    assert 36 <= passed <= 43


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
