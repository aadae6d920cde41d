# SPDX-License-Identifier: Apache-2.0
"""Answers from memory: what is kept, how long, for whom, and what happens when something fails meanwhile."""
import email.utils
import threading
import time

import pytest

from conftest import WAIT_S, config, ok
from h2_util import H2

pytestmark = pytest.mark.short

ON = ", cache: on"


def cached(**keys):
    return ", cache: { %s }" % ", ".join("%s: %s" % (k, v) for k, v in keys.items())


class Counter:
    """Answers with its own number and the given fields."""

    def __init__(self, *fields, status="200 OK"):
        self.fields, self.status, self.n = fields, status, 0
        self.lock = threading.Lock()

    def __call__(self, request, wire):
        with self.lock:
            self.n += 1
            body = b"answer %d" % self.n
        if self.status == "200 OK":
            return ok(body, *self.fields)
        head = "HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (
            self.status, len(body), "".join(f + "\r\n" for f in self.fields))
        return head.encode() + body


def date_in(seconds):
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def test_a_second_get_is_answered_from_memory(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60", "ETag: \"a\""), route=ON)
    first, second = proxy.get("/x"), proxy.get("/x")
    assert first.body == second.body == b"answer 1"
    assert len(origin.requests) == 1
    assert first.get("cache-status") == "foldback; fwd=uri-miss; ttl=60; stored"
    assert second.get("cache-status") == "foldback; hit; ttl=60"
    assert int(second.get("age")) <= 1 and first.get("age") is None
    assert second.get("etag") == '"a"' and len(second.all("content-length")) == 1
    events = proxy.wait_events(2)
    assert sorted((e["reason_name"], e["cache"]) for e in events) == [("answered", 1), ("cache_hit", 2)]


def test_without_cache_nothing_is_kept_and_nothing_is_said(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"))
    assert [proxy.get("/x").body for _ in range(2)] == [b"answer 1", b"answer 2"]
    assert proxy.get("/x").get("cache-status") is None


@pytest.mark.parametrize("fields", [
    ("Cache-Control: no-store, max-age=60",), ("Cache-Control: private, max-age=60",), (),
    ("Cache-Control: max-age=0",), ("Expires: 0",), ("Cache-Control: max-age=60", "Vary: *"),
    ("Cache-Control: max-age=60", "Set-Cookie: id=1"), ("Cache-Control: max-age=60", "Age: 61")])
def test_what_may_not_be_reused_is_fetched_each_time(world, fields):
    origin, proxy = world.pair(Counter(*fields), route=ON)
    assert [proxy.get("/x").body for _ in range(3)] == [b"answer 1", b"answer 2", b"answer 3"]


@pytest.mark.parametrize("fields", [
    ("Cache-Control: s-maxage=60, max-age=0",), ("Expires: " + date_in(3600),),
    ("Last-Modified: " + date_in(-36000),), ("Cache-Control: max-age=60, public", "Set-Cookie: id=1"),
    ("CDN-Cache-Control: max-age=60", "Cache-Control: no-store")])
def test_what_may_be_reused_is_fetched_once(world, fields):
    origin, proxy = world.pair(Counter(*fields), route=ON)
    assert {proxy.get("/x").body for _ in range(3)} == {b"answer 1"}


def test_an_answer_to_an_authorized_request_needs_leave(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"), route=ON)
    assert [proxy.get("/x", "Authorization: a").body for _ in range(2)] == [b"answer 1", b"answer 2"]
    origin.answer = Counter("Cache-Control: max-age=60, public")
    assert {proxy.get("/y", "Authorization: a").body for _ in range(2)} == {b"answer 1"}


def test_answers_without_a_lifetime_get_the_one_of_the_route(world):
    origin, proxy = world.pair(Counter(), route=cached(ttl="1m"))
    assert {proxy.get("/x").body for _ in range(2)} == {b"answer 1"}


def test_missing_pages_are_kept_as_long_as_the_route_says(world):
    origin, proxy = world.pair(Counter(status="404 Not Found"), route=cached(negative="1m"))
    assert [(m.status, m.body) for m in (proxy.get("/x"), proxy.get("/x"))] == [(404, b"answer 1")] * 2


def test_heuristics_can_be_switched_off(world):
    origin, proxy = world.pair(Counter("Last-Modified: " + date_in(-36000)), route=cached(heuristic="false"))
    assert [proxy.get("/x").body for _ in range(2)] == [b"answer 1", b"answer 2"]


def test_the_key_is_host_path_and_query(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"), route=ON)
    bodies = [proxy.get(p).body for p in ("/a", "/a?x=1", "/a?x=2", "/A", "/a")]
    assert bodies == [b"answer 1", b"answer 2", b"answer 3", b"answer 4", b"answer 1"]


def test_the_query_can_be_left_out_of_the_key(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"), route=cached(key="path"))
    assert {proxy.get(p).body for p in ("/a", "/a?x=1", "/a?x=2")} == {b"answer 1"}


def test_vary_keeps_one_answer_for_each_value(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60", "Vary: X-Lang"), route=ON)
    get = lambda lang: proxy.get("/x", "X-Lang: " + lang)
    assert [get(l).body for l in ("a", "b", "a", "b")] == [b"answer 1", b"answer 2", b"answer 1", b"answer 2"]
    assert get("c").get("cache-status").startswith("foldback; fwd=vary-miss")


def test_the_route_can_add_fields_that_select(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"), route=cached(vary="[X-Country]"))
    get = lambda c: proxy.get("/x", "X-Country: " + c).body
    assert [get(c) for c in ("at", "de", "at")] == [b"answer 1", b"answer 2", b"answer 1"]


def test_a_client_that_has_it_gets_304(world):
    when = date_in(-3600)
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60", 'ETag: "a"', "Last-Modified: " + when,
                                       "Content-Language: en"), route=ON)
    proxy.get("/x")
    for field in ('If-None-Match: "b", W/"a"', "If-None-Match: *", "If-Modified-Since: " + when):
        m = proxy.get("/x", field)
        assert (m.status, m.get("etag"), m.get("content-length"), m.get("content-language")) == (304, '"a"', None, None)
    assert proxy.get("/x", 'If-None-Match: "b"').status == 200
    assert proxy.get("/x", "If-Modified-Since: " + date_in(-7200)).status == 200
    assert len(origin.requests) == 1


def test_parts_come_from_the_whole(world):
    body = bytes(range(256)) * 1024
    origin, proxy = world.pair(lambda r, w: ok(body, "Cache-Control: max-age=60", 'ETag: "a"'), route=ON)
    proxy.get("/x")
    m = proxy.get("/x", "Range: bytes=70000-70009")
    assert (m.status, m.body, m.get("content-range")) == (206, body[70000:70010], "bytes 70000-70009/262144")
    assert proxy.get("/x", "Range: bytes=-5").body == body[-5:]
    assert proxy.get("/x", "Range: bytes=262140-").body == body[-4:]
    m = proxy.get("/x", "Range: bytes=262144-")
    assert (m.status, m.get("content-range"), m.body) == (416, "bytes */262144", b"")
    for whole in (("Range: bytes=0-1,4-5",), ("Range: lines=1-2",), ("Range: bytes=0-1", 'If-Range: "b"')):
        m = proxy.get("/x", *whole)
        assert (m.status, len(m.body)) == (200, len(body))
    assert proxy.get("/x", "Range: bytes=0-1", 'If-Range: "a"').body == body[:2]
    assert len(origin.requests) == 1


def test_head_is_answered_from_a_kept_get(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"), route=ON)
    proxy.get("/x")
    m = proxy.get("/x", method="HEAD")
    assert (m.status, m.get("content-length"), m.get("cache-status")) == (200, "8", "foldback; hit; ttl=60")
    assert len(origin.requests) == 1


def test_an_old_answer_is_asked_about_and_a_304_renews_it(world):
    def answer(request, wire):
        if request.get("if-none-match") == '"a"':
            return b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nX-New: yes\r\nETag: \"a\"\r\n\r\n"
        return ok("body", "Cache-Control: max-age=1", 'ETag: "a"', "X-Old: yes", "X-New: no")
    origin, proxy = world.pair(answer, route=ON)
    proxy.get("/x")
    time.sleep(1.1)
    m = proxy.get("/x")
    assert (m.status, m.body, m.all("x-new"), m.get("x-old")) == (200, b"body", ["yes"], "yes")
    assert m.get("cache-status") == "foldback; fwd=stale; fwd-status=304; ttl=60; stored"
    assert proxy.get("/x").get("cache-status") == "foldback; hit; ttl=60"
    assert len(origin.requests) == 2
    assert {e["reason_name"] for e in proxy.wait_events(3)} == {"answered", "cache_revalidated", "cache_hit"}


def test_a_renewed_answer_still_honours_the_client_s_own_condition(world):
    def answer(request, wire):
        if request.get("if-none-match"):
            assert request.get("if-none-match") == '"a"'
            return b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n"
        return ok("body", "Cache-Control: max-age=1", 'ETag: "a"')
    origin, proxy = world.pair(answer, route=ON)
    proxy.get("/x")
    time.sleep(1.1)
    m = proxy.get("/x", 'If-None-Match: "other"')
    assert (m.status, m.body) == (200, b"body")


def test_a_connection_with_more_than_a_304_is_not_used_again(world):
    def answer(request, wire):
        if request.get("if-none-match"):
            return (b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n"
                    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        return ok("body", "Cache-Control: max-age=1", 'ETag: "a"')
    origin, proxy = world.pair(answer, threads=1, route=ON)
    proxy.get("/x")
    time.sleep(1.1)
    assert (proxy.get("/x").body, origin.connections) == (b"body", 1)
    assert (proxy.get("/y").body, origin.connections) == (b"body", 2)


def test_a_changed_answer_replaces_the_old_one(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=1", 'ETag: "a"'), route=ON)
    proxy.get("/x")
    time.sleep(1.1)
    assert [proxy.get("/x").body for _ in range(2)] == [b"answer 2"] * 2


def test_stale_while_revalidate_answers_at_once_and_fetches_behind(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=1, stale-while-revalidate=60"), route=ON)
    proxy.get("/x")
    origin.answer.fields = ("Cache-Control: max-age=60",)
    time.sleep(1.1)
    m = proxy.get("/x")
    assert m.body == b"answer 1" and m.get("cache-status").startswith(("foldback; hit; ttl=0", "foldback; hit; ttl=-"))
    deadline = time.monotonic() + 5
    while proxy.get("/x").body != b"answer 2":
        assert time.monotonic() < deadline
    assert len(origin.requests) == 2
    assert "cache_stale" in [e["reason_name"] for e in proxy.events()]


def test_stale_if_error_hides_a_failing_endpoint(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=1"), route=cached(stale_if_error="1m"))
    assert proxy.get("/x").body == b"answer 1"
    time.sleep(1.1)
    origin.answer = lambda r, w: b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"
    m = proxy.get("/x")
    assert (m.status, m.body) == (200, b"answer 1")
    origin.answer = lambda r, w: False
    assert proxy.get("/x").body == b"answer 1"
    origin.close()
    m = proxy.get("/x")
    assert (m.status, m.body) == (200, b"answer 1")
    assert proxy.get("/never-seen").status == 502


def test_must_revalidate_is_stronger_than_stale_if_error(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=1, must-revalidate"), route=cached(stale_if_error="1m"))
    proxy.get("/x")
    time.sleep(1.1)
    origin.answer = lambda r, w: False
    assert proxy.get("/x").status == 502


def test_five_hundred_misses_at_once_are_one_request_to_the_endpoint(world):
    gate = threading.Event()

    def answer(request, wire):
        gate.wait(10)
        return ok("body", "Cache-Control: max-age=60")
    origin, proxy = world.pair(answer, route=ON)
    wires = [proxy.connect() for _ in range(500)]
    for w in wires:
        w.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.5)
    gate.set()
    answers = [w.response() for w in wires]
    assert {m.body for m in answers} == {b"body"}
    assert len(origin.requests) == 1
    assert sum("collapsed" in m.get("cache-status") for m in answers) >= 490
    assert {e["reason_name"] for e in proxy.wait_events(500)} == {"answered", "cache_collapsed"}


def test_waiters_of_an_answer_that_may_not_be_kept_go_on_together(world):
    gate = threading.Event()

    def answer(request, wire):
        gate.wait(10)
        time.sleep(0.2)
        return ok("mine", "Cache-Control: private")
    origin, proxy = world.pair(answer, route=ON)
    wires = [proxy.connect() for _ in range(10)]
    for w in wires:
        w.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n")
    end = time.monotonic() + WAIT_S
    while not origin.requests and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(2 if proxy.is_sanitized else 0.3)  # until all of them wait
    assert len(origin.requests) == 1
    gate.set()
    assert {w.response().body for w in wires} == {b"mine"}
    assert origin.peak > 1, "not one after the other"
    assert len(origin.requests) == 10


def test_a_wait_ends_after_the_time_that_the_route_says(world):
    gate = threading.Event()

    def answer(request, wire):
        if len(origin.requests) == 1:
            gate.wait(10)
        return ok("body", "Cache-Control: max-age=60")
    origin, proxy = world.pair(answer, route=cached(collapse="200ms"))
    first = proxy.connect().send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.1)
    begin = time.monotonic()
    assert proxy.get("/x").body == b"body"
    assert 0.15 < time.monotonic() - begin < 9  # the first one waits for 10 s
    gate.set()
    assert first.response().body == b"body"


def test_when_the_fetch_fails_a_waiter_fetches_and_the_others_go_on_waiting(world):
    gate = threading.Event()

    def answer(request, wire):
        if len(origin.requests) == 1:
            gate.wait(10)
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nCache-Control: max-age=60\r\n\r\nhalf")
            return False
        time.sleep(0.2)
        return ok("body", "Cache-Control: max-age=60")
    origin, proxy = world.pair(answer, route=ON)
    wires = [proxy.connect() for _ in range(20)]
    wires[0].send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    for w in wires[1:]:
        w.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    gate.set()
    assert {w.response().body for w in wires[1:]} == {b"body"}
    assert len(origin.requests) == 2
    assert proxy.get("/x").body == b"body"


def test_an_answer_is_kept_although_its_client_left(world):
    gate = threading.Event()

    def answer(request, wire):
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=60\r\n\r\nfour")
        gate.wait(10)
        return b"more"
    origin, proxy = world.pair(answer, route=ON)
    w = proxy.connect().send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n")
    w.until(b"four")
    w.reset()
    time.sleep(0.2)
    gate.set()
    assert proxy.get("/x").body == b"fourmore"
    assert len(origin.requests) == 1


def test_a_waiter_may_leave(world):
    gate = threading.Event()

    def answer(request, wire):
        gate.wait(10)
        return ok("body", "Cache-Control: max-age=60")
    origin, proxy = world.pair(answer, route=ON)
    first = proxy.connect().send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    for _ in range(10):
        proxy.connect().send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n").reset()
    time.sleep(0.2)
    gate.set()
    assert first.response().body == b"body"
    assert proxy.get("/x").get("cache-status").startswith("foldback; hit")


@pytest.mark.parametrize("fields", [(), ("Location: /x",), ("Content-Location: http://test/x",)])
def test_an_unsafe_method_drops_what_is_kept(world, fields):
    def answer(request, wire):
        if request.method == "POST":
            return ok("done", *fields)
        return ok("get %d" % len(origin.requests), "Cache-Control: max-age=60")
    origin, proxy = world.pair(answer, route=ON)
    assert proxy.get("/x").body == b"get 1"
    proxy.get("/y" if fields else "/x", method="POST", body=b"z")
    assert proxy.get("/x").body == b"get 3"


def test_a_failed_unsafe_request_drops_nothing(world):
    def answer(request, wire):
        if request.method == "POST":
            return b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        return ok("get", "Cache-Control: max-age=60")
    origin, proxy = world.pair(answer, route=ON)
    proxy.get("/x")
    proxy.get("/x", method="POST", body=b"z")
    assert proxy.get("/x").get("cache-status").startswith("foldback; hit")


def test_clients_may_ask_for_a_fresh_answer_unless_the_route_says_otherwise(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"), route=ON)
    proxy.get("/x")
    m = proxy.get("/x", "Cache-Control: no-cache")
    assert m.body == b"answer 2" and m.get("cache-status").startswith("foldback; fwd=request")
    assert proxy.get("/x").body == b"answer 2"
    assert proxy.get("/x", "Cache-Control: no-store").body == b"answer 3"
    m = proxy.get("/never-seen", "Cache-Control: only-if-cached")
    assert m.status == 504
    assert "cache_only" in [e["reason_name"] for e in proxy.wait_events(5)]
    deaf = world.proxy(config(origin, route=cached(client_control="false")))
    deaf.get("/z")
    assert deaf.get("/z", "Cache-Control: no-cache").get("cache-status").startswith("foldback; hit")


def test_what_is_too_large_passes_and_is_not_kept(world):
    body = b"x" * 200000
    origin, proxy = world.pair(lambda r, w: ok(body, "Cache-Control: max-age=60"), route=cached(max_object="100KiB"))
    assert [proxy.get("/x").body == body for _ in range(2)] == [True, True]
    assert len(origin.requests) == 2


def test_a_chunked_answer_is_kept_and_served_with_its_length(world):
    def answer(request, wire):
        return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n"
                b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    origin, proxy = world.pair(answer, route=ON)
    assert proxy.get("/x").body == b"hello world"
    m = proxy.get("/x")
    assert (m.body, m.get("content-length"), m.get("transfer-encoding")) == (b"hello world", "11", None)


def test_large_answers_reach_slow_readers_whole_while_they_are_evicted(world):
    def answer(request, wire):
        return ok(request.target.encode() * 100000, "Cache-Control: max-age=60")
    origin, proxy = world.pair(answer, route=cached(budget="4MiB"), extra="cache: { memory: 4MiB }\n")
    proxy.get("/aaaaaa")
    slow = proxy.connect().send("GET /aaaaaa HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.1)
    for i in range(20):
        proxy.get("/bbb%03d" % i)
    m = slow.response()
    assert m.body == b"/aaaaaa" * 100000
    assert m.get("cache-status").startswith("foldback; hit")


def test_memory_stays_within_the_budget(world):
    def answer(request, wire):
        return ok(b"x" * 20000, "Cache-Control: max-age=60")
    origin, proxy = world.pair(answer, route=ON, extra="cache: { memory: 4MiB }\n")
    proxy.get("/warm")
    before = proxy.rss_kib()
    for i in range(1000):
        assert len(proxy.get("/%d" % i).body) == 20000
    assert proxy.rss_kib() - before < 12 * 1024  # 20 MB went through


def test_a_reload_keeps_what_is_kept_and_switching_off_drops_it(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"), route=ON)
    proxy.get("/x")
    assert proxy.reload(config(origin, route=cached(ttl="5s"))).startswith("reloaded")
    assert proxy.get("/x").get("cache-status").startswith("foldback; hit")
    proxy.reload(config(origin))
    assert proxy.get("/x").get("cache-status") is None
    proxy.reload(config(origin, route=ON))
    assert proxy.get("/x").get("cache-status").startswith("foldback; fwd=uri-miss")


def test_when_the_service_is_full_an_old_answer_is_better_than_none(world):
    gate = threading.Event()

    def answer(request, wire):
        if request.target == "/slow":
            gate.wait(10)
            return ok("slow")
        return ok("body", "Cache-Control: max-age=1")
    origin, proxy = world.pair(answer, route=cached(guard="1m"),
                               service="    tune: { limit: { min: 1, max: 1, value: 1 } }\n")
    proxy.get("/x")
    time.sleep(1.1)
    w = proxy.connect().send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    begin = time.monotonic()
    m = proxy.get("/x")
    assert m.body == b"body" and m.get("cache-status").startswith(("foldback; hit; ttl=0", "foldback; hit; ttl=-"))
    assert time.monotonic() - begin < 9  # the slot is taken for 10 s
    gate.set()
    w.response()


def test_http2_streams_are_answered_from_memory(world):
    body = bytes(range(256)) * 2048
    origin, proxy = world.pair(lambda r, w: ok(body, "Cache-Control: max-age=60", 'ETag: "a"'), route=ON)
    first = H2(proxy.port)
    assert first.get("/x").body == body
    second = H2(proxy.port)
    streams = [second.begin("/x") for _ in range(20)]
    for s in streams:
        answer = second.wait(s)
        assert (answer.status, answer.body) == (200, body)
        assert dict(answer.fields)["cache-status"] == "foldback; hit; ttl=60"
    assert second.get("/x", fields=[("if-none-match", '"a"')]).status == 304
    assert proxy.get("/x").body == body
    assert len(origin.requests) == 1
    first.close()
    second.close()


# ---- purge: 0 all, 1 url, 2 prefix, 3 tag; then 1 when paced ----

def purge(proxy, kind, what, paced=0):
    if proxy.is_whole:
        pytest.skip("purges are sent through the driver")
    proxy.command("purge %d %d %s" % (kind, paced, what))
    time.sleep(0.15)


def test_purges_by_url_prefix_tag_and_everything(world):
    def answer(request, wire):
        tag = "Surrogate-Key: news n%s" % request.target[-1]
        return ok("x", "Cache-Control: max-age=60", tag, "Cache-Tag: all,%s" % request.target[1])
    origin, proxy = world.pair(answer, route=ON)
    paths = ["/a/1", "/a/2", "/b/1", "/b/1?q=1"]

    def fill():
        for p in paths:
            proxy.get(p)

    def kept():
        return [p for p in paths if proxy.get(p, "Cache-Control: only-if-cached").status == 200]
    fill()
    assert kept() == paths
    purge(proxy, 1, "http://TEST:80/a/1")
    assert kept() == ["/a/2", "/b/1", "/b/1?q=1"]
    purge(proxy, 1, "test/b/1")
    assert kept() == ["/a/2", "/b/1?q=1"]
    fill()
    purge(proxy, 2, "test/a/")
    assert kept() == ["/b/1", "/b/1?q=1"]
    fill()
    purge(proxy, 3, "n2")
    assert kept() == ["/a/1", "/b/1", "/b/1?q=1"]
    purge(proxy, 3, "b")
    assert kept() == ["/a/1"]
    fill()
    purge(proxy, 3, "other")
    assert kept() == paths
    purge(proxy, 0, " ")
    assert kept() == []


def ask_host(proxy, host, *fields):
    w = proxy.connect()
    w.send("GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n" % (host, "".join(f + "\r\n" for f in fields)))
    m = w.response()
    w.close()
    return m.body.decode()


def echo_origin(request, wire):
    """As applications do that make links: of what the proxy says of the client's address."""
    return ok("%s://%s" % (request.get("x-forwarded-proto"), request.get("x-forwarded-host")),
              "Cache-Control: max-age=60")


def test_an_answer_for_one_port_or_scheme_is_not_given_to_another(world):
    """A client must not be able to store an answer with a port of its own for all others."""
    origin, proxy = world.pair(echo_origin, route=ON, extra="gateway: { trust_forwarded: true }\n")
    secure = "X-Forwarded-Proto: https"
    assert ask_host(proxy, "x.test:1337") == "http://x.test:1337"
    assert ask_host(proxy, "x.test") == "http://x.test"
    assert ask_host(proxy, "x.test", secure) == "https://x.test"
    assert ask_host(proxy, "x.test:1337") == "http://x.test:1337"
    assert ask_host(proxy, "x.test", "X-Forwarded-Host: shop.test") == "http://shop.test"
    assert len(origin.requests) == 4
    # one resource, whatever way it is written
    assert ask_host(proxy, "X.Test:80") == "http://x.test"
    assert ask_host(proxy, "x.test.") == "http://x.test"
    assert ask_host(proxy, "x.test:443", secure) == "https://x.test"
    assert len(origin.requests) == 4
    purge(proxy, 1, "https://x.test/x")
    ask_host(proxy, "x.test"), ask_host(proxy, "x.test", secure)
    assert len(origin.requests) == 5
    purge(proxy, 1, "x.test/x")  # without a scheme: of both
    ask_host(proxy, "x.test"), ask_host(proxy, "x.test", secure), ask_host(proxy, "x.test:1337")
    assert len(origin.requests) == 7
    purge(proxy, 2, "http://x.test:1337/")
    ask_host(proxy, "x.test"), ask_host(proxy, "x.test:1337")
    assert len(origin.requests) == 8


def test_a_storm_of_purges_loses_no_request(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60", "Surrogate-Key: t"), route=ON)
    if proxy.is_whole:
        pytest.skip("purges are sent through the driver")
    stop, bad = threading.Event(), []

    def ask():
        w = proxy.connect()
        while not stop.is_set():
            for p in ("/1", "/2", "/3"):
                m = w.send("GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % p).response()
                if m.status != 200:
                    bad.append(m.line)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    for i in range(1000):
        proxy.command("purge %d 0 %s" % ((1, "test/1") if i % 2 else (3, "t")))
    time.sleep(0.5)
    stop.set()
    for t in threads:
        t.join()
    assert bad == []


def test_after_a_paced_purge_the_endpoint_gets_no_more_than_it_has_room_for(world):
    """Cold-cache guard: 200 pages are purged at once in front of an endpoint that takes two requests at a time."""
    def answer(request, wire):
        time.sleep(0.02)
        return ok("new" if origin.is_new else "old", "Cache-Control: max-age=600")
    origin = world.origin(answer)
    origin.is_new = False
    proxy = world.proxy(config(origin, service="    tune: { limit: { min: 2, max: 2, value: 2 } }\n", route=ON))
    pages = ["/%d" % i for i in range(200)]
    for p in pages:
        assert proxy.get(p).body == b"old"
    origin.is_new, origin.peak = True, 0
    purge(proxy, 0, " ", paced=1)
    seen = []

    def ask(part):
        w = proxy.connect()
        for _ in range(12):
            for p in pages[part::20]:
                m = w.send("GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % p).response()
                seen.append((m.status, m.body))
                time.sleep(0.01)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {s for s, _ in seen} == {200}
    assert origin.peak <= 2
    assert sum(b == b"old" for _, b in seen) > 0
    assert "cache_guarded" in [e.get("reason_name") for e in proxy.events(None)]
    end = time.monotonic() + 10
    while any(proxy.get(p).body != b"new" for p in pages[:50]) and time.monotonic() < end:
        time.sleep(0.05)
    assert all(proxy.get(p).body == b"new" for p in pages[:50])


def test_what_the_cache_holds_is_told_each_second(world):
    origin, proxy = world.pair(Counter("Cache-Control: max-age=60"), route=cached(budget="2MiB"))
    for i in range(10):
        proxy.get("/%d" % i)
        proxy.get("/%d" % i)
    time.sleep(1.2)
    if proxy.is_whole:
        pytest.skip("events are read from the rings by the driver")
    events = proxy.events(None)
    use = [e for e in events if e["type"] == "cache_use"][-1]
    assert (use["entries"], use["stored"], use["budget_bytes"]) == (10, 10, 2 << 20)
    assert 10 * 300 < use["used_bytes"] <= use["total_bytes"] < 100000
    samples = [e for e in events if e["type"] == "cache_sample"]
    assert len(samples) == sum(e["references"] for e in samples) == 20
    assert len({e["key"] for e in samples}) == 10
    assert all(e["bytes"] > 300 and e["shift"] == 0 for e in samples)


def test_versions_of_a_split_have_answers_of_their_own(world):
    one, two = (world.origin(Counter("Cache-Control: max-age=60", "X-From: " + n)) for n in ("stable", "next"))
    ends = ", ".join('{ address: "127.0.0.1:%d", version: %s }' % (o.port, v) for o, v in ((one, "stable"), (two, "next")))
    proxy = world.proxy("services:\n  app: { endpoints: [%s] }\nroutes:\n  - { match: /, service: app, cache: on, "
                        "split: { stable: 50%%, next: 50%%, header: X-Version } }\n" % ends)
    get = lambda v: proxy.get("/x", "X-Version: " + v).get("x-from")
    assert [get(v) for v in ("stable", "next", "stable", "next")] == ["stable", "next", "stable", "next"]
    assert (len(one.requests), len(two.requests)) == (1, 1)
    proxy.get("/x", "X-Version: next", method="POST", body=b"z")
    get("stable")
    assert len(one.requests) == 2


def test_a_key_that_is_asked_for_often_is_told_apart_from_the_sample(world):
    """Above a thousand requests a second the sample leaves keys out; then the hot ones are told by their counts."""
    origin, proxy = world.pair(Counter("Cache-Control: max-age=600"), route=cached(budget="2MiB"), threads=1)
    if proxy.is_whole:
        pytest.skip("events are read from the rings by the driver")
    w, hot = proxy.connect(), []
    end = time.monotonic() + 40
    while not hot and time.monotonic() < end:
        for _ in range(20):
            w.send("GET /hot HTTP/1.1\r\nHost: test\r\n\r\n" * 100)
            for _ in range(100):
                w.response()
        hot = [e for e in proxy.events(None) if e["type"] == "cache_sample" and e["hot_references"]]
    assert {e["hot_references"] for e in hot} == {128}
    assert len({e["key"] for e in hot}) == 1
    assert len(origin.requests) == 1
