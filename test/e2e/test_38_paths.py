# SPDX-License-Identifier: Apache-2.0
"""Regular expressions in routes, rewrites and redirects."""
import pytest

from conftest import config, ok
from h2_util import H2

pytestmark = pytest.mark.short


def behind(world, routes, *fields, extra=""):
    origin = world.origin(lambda request, wire: ok(b"body", *fields))
    text = config(origin, extra=extra)
    return origin, world.proxy(text[:text.index("routes:")] + "routes:\n" + "".join("  - %s\n" % r for r in routes))


def test_the_first_route_in_the_file_wins_whatever_its_kind(world):
    _, proxy = behind(world, [
        r"{ match: '~^/users/\d+$', respond: { body: digits } }", "{ match: /users/, respond: { body: prefix } }",
        r"{ match: '~* \.(png|jpe?g)$', respond: { body: picture } }",
        r"{ match: { path: '~^/v[12]/', host: api.example, method: GET }, respond: { body: versioned } }",
        "{ match: /, service: app }"])
    for target, body in (("/users/12?x=y", b"digits"), ("/users/12/", b"prefix"), ("/a/../users/%312", b"digits"), ("/x/Y.PNG", b"picture"),
                         ("/users/y.png", b"prefix"), ("/x.png/", b"body"), ("/v1/x", b"body")):
        assert proxy.get(target).body == body, target
    w = proxy.connect()
    assert w.send("GET /v2/x HTTP/1.1\r\nHost: api.example\r\n\r\n").response().body == b"versioned"
    assert w.send("HEAD /v2/x HTTP/1.1\r\nHost: api.example\r\n\r\n").response("HEAD").status == 200
    w.close()
    w = proxy.connect()
    assert w.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").response().body == b"body"
    w.close()
    c = H2(proxy.port)
    assert c.get("/users/77").body == b"digits"
    c.close()


@pytest.mark.parametrize("to,target,gets", [
    ("/u/$2/$1", "/p/a/b", "/u/b/a"), ("/u/$2/$1", "/p/a/b?q=1&r", "/u/b/a?q=1&r"), ("/u?x=$1", "/p/a/b?q=1", "/u?x=a&q=1"),
    ("/u?x=$1?", "/p/a/b?q=1", "/u?x=a"), ("/u?", "/p/a/b?q=1", "/u"), ("/u/$$1-${2}", "/p/a/b", "/u/$1-b"), ("/u/$1", "/other?q", "/other?q"),
    ("/u?x=$1&y=$2", "/p/a&admin=1/b+c;d=e", "/u?x=a%26admin%3D1&y=b%2Bc%3Bd%3De"), ("/u?x=$1", "/p/%C3%A9/b", "/u?x=%C3%A9"),
    ("/u?x={path}&y=1", "/p/a&admin=1/b", "/u?x=/p/a%26admin%3D1/b&y=1"), ("/u?x={host}", "/p/a/b", "/u?x=test"),
    ("/{scheme}/{host}/$1{path}", "/p/a/b", "/http/test/a/p/a/b"), ("/u", "/p/a/b?", "/u?")])
def test_a_path_is_rewritten(world, to, target, gets):
    origin, proxy = behind(world, ["{ match: /, service: app, rewrite: { pattern: '^/p/(.*)/(.*)$', to: '%s' } }" % to])
    assert proxy.get(target).status == 200
    assert origin.requests[-1].target == gets
    c = H2(proxy.port)
    assert c.get(target).fields[":status"] == "200"
    c.close()
    assert origin.requests[-1].target == gets


def test_a_rewrite_can_use_the_groups_of_the_match(world):
    origin, proxy = behind(world, [r"{ match: '~^/users/(?<id>\d+)$', service: app, rewrite: { to: '/user?id=${id}' } }",
                                   "{ match: /, service: app }"])
    assert proxy.get("/users/31?a=b").status == 200 and origin.requests[-1].target == "/user?id=31&a=b"


@pytest.mark.parametrize("target", ["/a../secret", "/a./x", "/a/evil.example/", "/a%2", "/a..", "/ax%"])
def test_no_rewrite_leads_out_of_its_folder_or_to_another_host(world, target):
    origin, proxy = behind(world, ["{ match: /, service: app, rewrite: { pattern: '^/a(.*)$', to: '/$1' } }"])
    m = proxy.get(target)
    assert m.status == 400 and not origin.requests
    assert proxy.get("/ax").status == 200 and origin.requests[-1].target == "/x"


def test_a_cut_escape_is_refused_and_named(world):
    origin, proxy = behind(world, ["{ match: /, service: app, rewrite: { pattern: '^/(..)(.*)$', to: '/$1-$2' } }"])
    m = proxy.get("/%2Fa")
    assert m.status == 400 and "rewrite_unsafe" in m.get("proxy-status") and not origin.requests


def test_the_cache_keeps_what_the_client_asked_for(world):
    origin, proxy = behind(world, ["{ match: /, service: app, cache: on, rewrite: { pattern: '^/[ab]/(.*)$', to: '/$1' } }"],
                           "Cache-Control: max-age=60")
    for path in ("/a/x", "/b/x", "/a/x", "/b/x"):
        assert proxy.get(path).status == 200
    assert [r.target for r in origin.requests] == ["/x", "/x"]


def test_a_redirect_can_use_the_groups_of_the_match(world):
    _, proxy = behind(world, [r"{ match: '~^/blog/(\d{4})/(.*)$', redirect: { to: 'https://blog.example/$2?year=$1', status: 301 } }",
                              "{ match: '~^/to(.*)$', redirect: { to: '/$1{query}' } }", "{ match: /, service: app }"])
    m = proxy.get("/blog/2024/a%20b")
    assert (m.status, m.get("location")) == (301, "https://blog.example/a%20b?year=2024")
    assert proxy.get("/tox?q").get("location") == "/x?q"
    m = proxy.get("/to/evil.example/")
    assert m.status == 400 and m.get("location") is None  # //evil.example/ would be another host


def test_no_path_buys_much_work(world):
    origin, proxy = behind(world, ["{ match: '~^/(a+)+$', service: app }", "{ match: '~^/b', service: app }",
                                   "{ match: /, service: app, rewrite: { pattern: '(x+x+)+y', to: /y } }"])
    for _ in range(50):
        m = proxy.get("/%s!" % ("a" * 3000))
        assert m.status == 400 and "pattern_limit" in m.get("proxy-status")
    assert proxy.get("/aaa").status == 200
    m = proxy.get("/" + "a" * 5000)
    assert m.status == 400 and "pattern_limit" in m.get("proxy-status")  # too long to be looked at
    assert proxy.get("/c" + "x" * 2000 + "yz").status == 200  # found before the bound
    assert origin.requests[-1].target == "/y"


def test_a_reload_brings_and_takes_regular_expressions(world):
    origin, proxy = behind(world, ["{ match: /, service: app }"])
    assert proxy.get("/u/1").status == 200
    proxy.reload(config(origin).replace("routes:\n", "routes:\n  - { match: '~^/u/\\d$', respond: { status: 410 } }\n"))
    assert proxy.get("/u/1").status == 410 and proxy.get("/u/x").status == 200
    proxy.reload(config(origin))
    assert proxy.get("/u/1").status == 200


# ---- what answers say of where things lie ----

def test_addresses_and_cookies_of_an_endpoint_get_the_prefix_of_the_client(world):
    _, proxy = behind(world, ["{ match: /api/, service: app, rewrite: { strip_prefix: /api } }",
                              "{ match: /raw/, service: app, map_back: off, rewrite: { strip_prefix: /raw } }",
                              "{ match: /all/, service: app, rewrite: { strip_prefix: /all }, map_back: { cookie_path: { /: /all/ } } }",
                              "{ match: /, service: app }"],
                      "Location: /login", "Content-Location: /x.html", "Refresh: 3; url=/y", "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d; Path=/p",
                      "Link: </z>")
    m = proxy.get("/api/x")
    assert (m.get("location"), m.get("content-location"), m.get("refresh")) == ("/api/login", "/api/x.html", "3; url=/api/y")
    assert m.all("set-cookie") == ["a=b; Path=/", "c=d; Path=/api/p"] and m.get("link") == "</z>" and m.body == b"body"
    m = proxy.get("/raw/x")
    assert m.get("location") == "/login" and m.all("set-cookie") == ["a=b; Path=/", "c=d; Path=/p"]
    assert proxy.get("/all/x").all("set-cookie") == ["a=b; Path=/all/", "c=d; Path=/all/p"]
    assert proxy.get("/x").get("location") == "/login"
    c = H2(proxy.port)
    assert c.get("/api/x").fields["location"] == "/api/login"
    c.close()


def test_the_name_that_an_endpoint_is_asked_by_is_not_shown_to_clients(world):
    origin = world.origin(lambda request, wire: ok(b"body", "Location: http://app.internal/login?x", "Set-Cookie: a=b; Domain=app.internal"))
    proxy = world.proxy(config(origin, service="    host: app.internal\n"))
    m = proxy.get("/x")
    assert origin.requests[-1].get("host") == "app.internal"
    assert m.get("location") == "http://test/login?x" and m.get("set-cookie") == "a=b"


def test_other_hosts_and_relative_addresses_stay(world):
    says = []
    origin = world.origin(lambda request, wire: ok(b"body", "Location: " + says[-1]))
    proxy = world.proxy(config(origin, route=", rewrite: { strip_prefix: /api }"))
    for location in ("https://login.example/x", "//cdn.example/x", "next", "?page=2", "mailto:a@b", "http://test@evil.example/"):
        says.append(location)
        assert proxy.get("/api/x").get("location") == location
    says.append("http://127.0.0.1:%d/x" % origin.port)  # what only the machine of the endpoint can open
    assert proxy.get("/api/x").get("location") == "http://test/api/x"


def test_answers_from_memory_are_mapped_for_who_asks(world):
    _, proxy = behind(world, ["{ match: /, service: app, cache: on, rewrite: { strip_prefix: /a } }"], "Cache-Control: max-age=60",
                      "Content-Location: /x", 'ETag: "e"')
    for asked in ("/a/x", "/a/x"):
        assert proxy.get(asked).get("content-location") == "/a/x"
    assert proxy.get("/x").get("content-location") == "/x" and "hit" in proxy.get("/a/x").get("cache-status")
    m = proxy.get("/a/x", 'If-None-Match: "e"')
    assert m.status == 304 and m.get("content-location") == "/a/x"
