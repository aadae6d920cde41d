# SPDX-License-Identifier: Apache-2.0
"""What a route changes on the way, refuses, or answers by itself."""
import pytest

from conftest import config, ok
from h2_util import H2

pytestmark = pytest.mark.short


def ruled(world, routes, *fields, extra="", service=""):
    """One endpoint behind the given routes."""
    origin = world.origin(lambda request, wire: ok(b"body", *fields))
    text = config(origin, extra=extra, service=service)
    return origin, world.proxy(text[:text.index("routes:")] + "routes:\n" + "".join("  - %s\n" % r for r in routes))


def first_of(origin):
    return origin.requests[-1]


# ---- towards the endpoint ----

def test_fields_are_set_added_and_removed_towards_the_endpoint(world):
    origin, proxy = ruled(world, [
        '{ match: /, service: app, request_headers: { set: { X-Env: "prod {scheme}", X-Real-IP: "{client_address}", '
        'X-From: "{host}|{path}|{query}|{target}|{request_id}" }, add: { X-More: b }, remove: [cookie, X-Gone] } }'])
    m = proxy.get("/a/../b?c=d", "X-ENV: dev", "X-Env: test", "X-Real-IP: 9.9.9.9", "X-More: a", "Cookie: s=1", "x-gone: 1",
                  "X-Stays: 1")
    r = first_of(origin)
    assert r.all("x-env") == ["prod http"] and r.all("x-real-ip") == ["127.0.0.1"]
    assert r.all("x-from") == ["test|/b|?c=d|/b?c=d|" + m.get("x-request-id")]
    assert r.all("x-more") == ["a", "b"] and r.get("cookie") is None and r.get("x-gone") is None
    assert r.get("x-stays") == "1" and r.target == "/b?c=d"


@pytest.mark.parametrize("target,gets,prefix", [
    ("/api/x?y=1", "/v2/x?y=1", "/api"), ("/api", "/v2/", "/api"), ("/api?q", "/v2/?q", "/api"), ("/apis/x", "/v2/apis/x", None),
    ("/api//evil.example/", "/v2//evil.example/", "/api"), ("/%61pi/x", "/v2/x", "/api"), ("/other", "/v2/other", None)])
def test_a_prefix_is_exchanged_by_whole_segments(world, target, gets, prefix):
    origin, proxy = ruled(world, ["{ match: /, service: app, rewrite: { strip_prefix: /api/, add_prefix: /v2 } }"])
    assert proxy.get(target, "X-Forwarded-Prefix: /forged").status == 200
    assert first_of(origin).target == gets
    assert first_of(origin).all("x-forwarded-prefix") == ([prefix] if prefix else [])


@pytest.mark.parametrize("target,gets", [("/api/x", "/x"), ("/api", "/"), ("/api?q=1", "/?q=1"), ("/api//evil/x", "/evil/x")])
def test_a_prefix_is_taken_away(world, target, gets):
    origin, proxy = ruled(world, ["{ match: /, service: app, rewrite: { strip_prefix: /api } }"])
    assert proxy.get(target).status == 200
    assert first_of(origin).target == gets
    head = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
    w = proxy.connect()
    assert w.send(head).response().status == 200 and first_of(origin).target == "*"


def test_the_cache_and_the_events_know_the_path_of_the_client(world):
    origin, proxy = ruled(world, [
        "{ match: /a/, service: app, cache: on, rewrite: { strip_prefix: /a } }",
        "{ match: /b/, service: app, cache: on, rewrite: { strip_prefix: /b } }"], "Cache-Control: max-age=60", "Server: inner")
    for path in ("/a/x", "/b/x", "/a/x", "/b/x"):
        assert proxy.get(path).status == 200
    assert [r.target for r in origin.requests] == ["/x", "/x"]  # one each: no answer of one serves the other


# ---- towards the client ----

RESPONSE = ('response_headers: { set: { Strict-Transport-Security: max-age=63072000, X-Id: "{request_id} {client_address}" }, '
            'add: { Link: "</b>; rel=b" }, remove: [Server, x-powered-by] }')


def check_response(m):
    assert m.all("strict-transport-security") == ["max-age=63072000"]
    assert m.all("x-id") == [m.get("x-request-id") + " 127.0.0.1"]
    assert m.all("link")[-1] == "</b>; rel=b" and m.get("server") is None and m.get("x-powered-by") is None


def test_fields_are_set_added_and_removed_towards_the_client(world):
    _, proxy = ruled(world, ["{ match: /, service: app, %s }" % RESPONSE], "Server: inner", "X-Powered-By: a", "X-Powered-By: b",
                     "Link: </a>", "Strict-Transport-Security: max-age=1", "X-Stays: 1")
    m = proxy.get("/")
    check_response(m)
    assert m.all("link") == ["</a>", "</b>; rel=b"] and m.get("x-stays") == "1" and m.body == b"body"
    c = H2(proxy.port)
    got = c.get("/")
    assert got.fields["strict-transport-security"] == "max-age=63072000" and "server" not in got.fields
    c.close()


def test_answers_from_memory_get_the_fields_of_today(world):
    _, proxy = ruled(world, ["{ match: /, service: app, cache: on, %s }" % RESPONSE], "Cache-Control: max-age=60", "Server: inner",
                     'ETag: "a"')
    check_response(proxy.get("/x"))
    m = proxy.get("/x")
    check_response(m)
    assert "hit" in m.get("cache-status")
    m = proxy.get("/x", 'If-None-Match: "a"')
    assert m.status == 304
    check_response(m)


def test_foldbacks_own_refusals_carry_them_too(world):
    proxy = world.proxy("services: { app: { endpoints: [\"127.0.0.1:1\"] } }\n"
                        "routes: [{ match: /, service: app, response_headers: { set: { X-Frame-Options: DENY, Content-Type: text/html } } }]\n")
    m = proxy.get("/")
    assert m.status == 502 and m.all("x-frame-options") == ["DENY"] and m.all("content-type") == ["text/plain; charset=utf-8"]


# ---- who may ask ----

def test_addresses_are_kept_out(world):
    origin, proxy = ruled(world, ["{ match: /in/, service: app, allow: [10.0.0.0/8] }",
                                  "{ match: /out/, service: app, allow: [127.0.0.0/8], deny: [127.0.0.1] }",
                                  "{ match: /, service: app, allow: [\"::1\", 127.0.0.1] }"])
    assert [proxy.get(p).status for p in ("/in/", "/out/", "/")] == [403, 403, 200]
    assert len(origin.requests) == 1
    assert proxy.get("/in/").get("proxy-status") == 'foldback; error=http_request_denied; details="address_denied"'
    w = proxy.connect()  # a refusal costs nobody the connection
    assert w.send("GET /in/ HTTP/1.1\r\nHost: a\r\n\r\n").response().status == 403
    assert w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().status == 200
    w.close()


@pytest.mark.parametrize("trusts,status", [("true", 403), ("false", 200)])
def test_the_client_behind_a_trusted_proxy_is_who_it_names(world, trusts, status):
    _, proxy = ruled(world, ["{ match: /, service: app, deny: [192.0.2.0/24] }"],
                     extra="gateway: { trust_forwarded: %s }\n" % trusts)
    assert proxy.get("/", "X-Forwarded-For: 8.8.8.8, 192.0.2.9").status == status
    assert proxy.get("/", "X-Forwarded-For: 192.0.2.9, 8.8.8.8").status == 200


# ---- answers of the route itself ----

def test_a_route_redirects(world):
    origin, proxy = ruled(world, [
        '{ match: /old/, redirect: { to: "https://new.example{target}", status: 301 } }',
        '{ match: /q, redirect: { to: "/r{query}" } }',
        '{ match: /h/, redirect: { to: "https://{host}:8443{path}", status: 307 }, response_headers: { set: { X-A: b } } }',
        '{ match: /, service: app }'])
    m = proxy.get("/old/a/../b?c=%20d")
    assert (m.status, m.get("location"), m.body) == (301, "https://new.example/old/b?c=%20d", b"")
    m = proxy.get("/q?x=1")
    assert (m.status, m.get("location")) == (308, "/r?x=1")
    m = proxy.get("/h/i?x=1", method="POST", body=b"some body")
    assert (m.status, m.get("location"), m.get("x-a")) == (307, "https://test:8443/h/i", "b")
    assert proxy.get("/").status == 200 and len(origin.requests) == 1
    if not proxy.is_whole:
        e = proxy.wait_events(4)
        assert sorted((x["reason_name"], x["status"]) for x in e) == [
            ("answered", 200), ("redirected", 301), ("redirected", 307), ("redirected", 308)]
    c = H2(proxy.port)
    got = c.get("/old/x")
    assert got.fields[":status"] == "301" and got.fields["location"] == "https://new.example/old/x"
    c.close()


def test_who_comes_in_the_clear_is_sent_to_https(world):
    origin, proxy = ruled(world, ["{ match: /, service: app, redirect: https }"], extra="gateway: { trust_forwarded: true }\n")
    m = proxy.get("/a?b=c")
    assert (m.status, m.get("location")) == (308, "https://test/a?b=c") and not origin.requests
    assert proxy.get("/a", "X-Forwarded-Proto: https").status == 200  # as told by a proxy that is trusted


def test_a_route_answers_by_itself(world):
    origin, proxy = ruled(world, [
        "{ match: /robots.txt, respond: { body: \"User-agent: *\\nDisallow: /\\n\" } }",
        "{ match: /gone/, respond: { status: 410, body: \"<p>gone\", type: text/html } }",
        "{ match: /empty, respond: { status: 204 } }", "{ match: /, service: app }"])
    w = proxy.connect()
    m = w.send("GET /robots.txt HTTP/1.1\r\nHost: a\r\n\r\n").response()
    assert (m.status, m.body, m.get("content-type")) == (200, b"User-agent: *\nDisallow: /\n", "text/plain; charset=utf-8")
    m = w.send("HEAD /robots.txt HTTP/1.1\r\nHost: a\r\n\r\n").response("HEAD")
    assert (m.status, m.get("content-length")) == (200, "26")
    m = w.send("POST /gone/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").response()
    assert (m.status, m.body, m.get("content-type")) == (410, b"<p>gone", "text/html")
    m = w.send("GET /empty HTTP/1.1\r\nHost: a\r\n\r\n").response()
    assert m.status == 204 and m.get("content-length") is None
    assert w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().status == 200
    w.close()
    assert len(origin.requests) == 1


def test_what_is_set_stands_once_on_the_routes_own_answers_too(world):
    _, proxy = ruled(world, [
        "{ match: /a, respond: { body: '{}' }, response_headers: { set: { content-type: application/json } } }",
        "{ match: /b, redirect: { to: \"https://a.example/\" }, response_headers: { set: { Location: /z } } }",
        "{ match: /, service: app }"])
    assert proxy.get("/a").all("content-type") == ["application/json"]
    assert proxy.get("/b").all("location") == ["https://a.example/"]


def test_a_redirect_to_its_own_host_needs_one(world):
    _, proxy = ruled(world, ["{ match: /, service: app, redirect: https }"])
    w = proxy.connect()
    m = w.send("GET //evil.example/x HTTP/1.0\r\n\r\n").response()
    assert m.status == 400 and m.get("location") is None


def test_what_never_reaches_a_service_has_the_class_of_its_route(world):
    """Its events would else be those of critical requests: 0 is their class."""
    _, proxy = ruled(world, [
        "{ match: /old/, redirect: { to: \"https://a.example/\" } }", "{ match: /in/, service: app, priority: degraded, deny: [127.0.0.0/8] }",
        "{ match: /clear/, service: app, priority: best-effort, redirect: https }", "{ match: /top/, service: app, priority: critical, body_bytes: 1B }",
        "{ match: /x, respond: {} }"])
    for path in ("/old/", "/in/", "/clear/", "/x", "/nowhere"):
        proxy.get(path)
    proxy.get("/top/", method="POST", body=b"12")
    events = proxy.wait_events(6)
    assert sorted((e["reason_name"], e["class"]) for e in events) == [
        ("address_denied", 2), ("body_too_large", 0), ("no_route", 1), ("redirected", 1), ("redirected", 3), ("responded", 1)]


def test_a_reload_changes_the_rules(world):
    origin, proxy = ruled(world, ["{ match: /, service: app }"])
    assert proxy.get("/").get("x-new") is None
    text = config(origin, route=", response_headers: { set: { X-New: \"1\" } }")
    proxy.reload(text)
    assert proxy.get("/").get("x-new") == "1"
