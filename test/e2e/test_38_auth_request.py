# SPDX-License-Identifier: Apache-2.0
"""Routes whose requests another service lets pass, or not."""
import os
import threading
import time

import pytest

from conftest import WAIT_S, free_port, ok
from h2_util import H2

pytestmark = pytest.mark.short


def verdict(request, wire):
    """What the service that is asked says; the token tells it."""
    word = request.get("x-token") or ""
    if word == "good":
        return ok("x" * 10, "X-User: ann", "X-Group: a", "X-Group: b", "X-Secret: s")
    if word == "login":
        return b"HTTP/1.1 302 Found\r\nLocation: https://login.example/?to=/\r\nSet-Cookie: state=1\r\nContent-Length: 0\r\n\r\n"
    if word == "forbidden":
        return b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nX-Why: no\r\nConnection: close\r\nContent-Length: 6\r\n\r\n<p>no."
    if word == "chunked":
        return b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"
    if word == "wide":
        return b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000
    if word == "broken":
        return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
    if word.isdigit():
        return ("HTTP/1.1 %s Other\r\nLocation: /x\r\nX-User: root\r\nContent-Length: 1\r\n\r\nx" % word).encode()
    if word == "dead":
        return False
    if word == "late":
        time.sleep(3)
    if word.startswith("slow"):
        time.sleep(0.5)
        return ok("", "X-User: ann")
    if word == "cut":
        wire.send("HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nContent-Length: 10\r\n\r\nhal")
        return False
    if word == "stalls":
        wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nhal")
        time.sleep(3)
        return False
    if word == "endless":
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            wire.send(b"x" * 1000000)
        return False
    return b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 5\r\n\r\nlogin"


def asked(world, more="", answer=None, route="", extra="", threads=2, timeout="20s", headers="X-User, X-Group"):
    """The endpoint, the service that is asked, and the proxy."""
    origin, login = world.origin(answer or (lambda request, wire: ok(b"body"))), world.origin(verdict)
    proxy = world.proxy(
        "%sservices:\n  app: { endpoints: [\"127.0.0.1:%d\"] }\n  login: { endpoints: [\"127.0.0.1:%d\"] }\n"
        "routes:\n  - { match: /, service: app, auth: { request: { service: login, path: /verify, response_headers: [%s], "
        "timeout: %s%s } }%s }\n" % (extra, origin.port, login.port, headers, timeout, more, route), threads=threads)
    return origin, login, proxy


def poll(what, wait_s=40):
    deadline = time.monotonic() + wait_s
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def token(word):
    return "X-Token: " + word


def test_a_request_passes_with_what_the_service_says(world):
    origin, login, proxy = asked(world)
    m = proxy.get("/a/../b?c=d", token("good"), "X-User: root", "x_user: root", "X-Group: admins", "Cookie: s=1", "Accept-Encoding: gzip",
                  "If-None-Match: \"x\"", "X-Forwarded-Uri: /forged", method="POST", body=b"some body")
    assert m.status == 200 and m.body == b"body"
    r = origin.requests[0]
    assert r.all("x-user") == ["ann"] and r.all("x_user") == [] and r.all("x-group") == ["a", "b"] and r.get("x-secret") is None
    assert (r.method, r.target, r.body, r.get("cookie")) == ("POST", "/b?c=d", b"some body", "s=1")
    q = login.requests[0]
    assert (q.method, q.target, q.body) == ("GET", "/verify", b"")
    assert q.get("content-length") is None and q.get("transfer-encoding") is None and q.get("accept-encoding") is None
    assert q.all("x-forwarded-method") == ["POST"] and q.all("x-forwarded-uri") == ["/b?c=d"] and q.get("if-none-match") is None
    assert q.get("x-forwarded-host") == "test" and q.get("x-forwarded-proto") == "http" and q.get("x-forwarded-for") == "127.0.0.1"
    assert q.get("host") == "test" and q.get("cookie") == "s=1" and q.get("x-token") == "good" and q.get("x-request-id")
    assert q.get("x-request-id") == r.get("x-request-id")


def test_what_the_service_says_is_not_said_behind_the_body(world):
    origin, _, proxy = asked(world)
    w = proxy.connect()
    m = w.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Token: good\r\n\r\n3\r\nabc\r\n0\r\n"
               "X-User: root\r\nX-Sum: 7\r\nx_group: admins\r\n\r\n").response()
    assert m.status == 200 and origin.requests[0].all("x-user") == ["ann"]
    assert origin.requests[0].body == b"abc" and origin.requests[0].trailers == [("X-Sum", "7")]
    w.close()


def twins(request, name):
    """Of fields that a program behind a gateway interface takes for it."""
    return [v for n, v in request.fields if n.lower().replace("_", "-") == name]


FORGED = ["%s: 6.6.6.6" % name for name in (
    "X_Forwarded_For", "X-Forwarded_For", "X_Forwarded-Proto", "x_forwarded_host", "X_Forwarded_Port", "X_Forwarded_Uri", "X-Forwarded_Method",
    "X-Real_IP", "x_real_ip", "X-Real-IP", "X_Forwarded_Prefix", "X_Client_Cert_Subject", "X_Request_Id")]


def test_who_is_asked_hears_of_the_client_from_us_alone(world):
    origin, login, proxy = asked(world)
    names = ("X-User: root", "x_user: root", "X_Group: admins", "X-Forwarded-User: root", "Authorization: Bearer t")
    assert proxy.get("/", token("good"), *FORGED, *names).status == 200
    q = login.requests[0]
    assert [v for n, v in q.fields if v in ("6.6.6.6", "root", "admins")] == []
    assert twins(q, "x-forwarded-for") == ["127.0.0.1"] and twins(q, "x-forwarded-proto") == ["http"]
    assert twins(q, "x-forwarded-host") == ["test"] and q.get("authorization") == "Bearer t"


def test_a_trusted_proxy_says_more_to_who_is_asked_but_by_true_names(world):
    origin, login, proxy = asked(world, extra="gateway: { trust_forwarded: true }\n")
    assert proxy.get("/", token("good"), *FORGED, "X-Forwarded-For: 9.9.9.9", "X-Forwarded-Prefix: /a").status == 200
    q = login.requests[0]
    assert [n for n, v in q.fields if v == "6.6.6.6"] == []
    assert twins(q, "x-forwarded-for") == ["9.9.9.9, 127.0.0.1"] and twins(q, "x-forwarded-prefix") == ["/a"]


def test_proofs_reach_who_is_asked_though_it_answers_under_their_name(world):
    origin, login, proxy = asked(world, headers="Authorization, Cookie, X-User")
    assert proxy.get("/", token("good"), "Authorization: Bearer t", "Cookie: s=1").status == 200
    assert login.requests[0].get("authorization") == "Bearer t" and login.requests[0].get("cookie") == "s=1"
    assert origin.requests[0].get("authorization") is None and origin.requests[0].get("cookie") is None


def test_refusals_go_to_the_client_as_they_are(world):
    origin, login, proxy = asked(world)
    w = proxy.connect()
    ask = "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n"
    m = w.send(ask % "").response()
    assert (m.status, m.get("www-authenticate"), m.body) == (401, "Bearer", b"login")
    assert m.get("cache-control") == "no-store" and 'details="auth_denied"' in m.get("proxy-status")
    m = w.send(ask % "X-Token: forbidden\r\n").response()
    assert (m.status, m.get("x-why"), m.get("content-type"), m.body) == (403, "no", "text/html", b"<p>no.")
    m = w.send(ask % "X-Token: chunked\r\n").response()
    assert (m.status, m.get("content-length"), m.body) == (403, "2", b"no")
    m = w.send(ask % "X-Token: wide\r\n").response()  # more than is kept: without its body
    assert (m.status, m.get("content-length"), m.get("content-type")) == (403, "0", None)
    m = w.send("HEAD / HTTP/1.1\r\nHost: a\r\nX-Token: forbidden\r\n\r\n").response("HEAD")
    assert (m.status, m.get("content-length")) == (403, "6")
    assert w.send(ask % "X-Token: good\r\n").response().status == 200  # the connection is whole
    assert len(origin.requests) == 1
    w.close()


def test_redirects_only_where_that_is_said(world):
    _, _, proxy = asked(world)
    assert proxy.get("/", token("login")).status == 503
    origin, _, proxy = asked(world, ", redirects: true")
    m = proxy.get("/", token("login"))
    assert (m.status, m.get("location"), m.get("set-cookie")) == (302, "https://login.example/?to=/", "state=1")
    assert not origin.requests


@pytest.mark.parametrize("word", ["broken", "dead", "late", "stalls"])
def test_what_fails_lets_nobody_pass(world, word):
    origin, _, proxy = asked(world, timeout="1s" if word in ("late", "stalls") else "20s")
    m = proxy.get("/", token(word))
    if word == "stalls":  # it said no, and came to no end
        assert m.status == 403 and m.body == b""
    else:
        assert m.status == 503 and 'details="auth_unavailable"' in m.get("proxy-status") and m.get("retry-after")
    assert not origin.requests
    assert proxy.get("/", token("good")).status == 200


def test_it_passes_where_the_owner_says_so_without_forged_fields(world):
    origin, _, proxy = asked(world, ", on_failure: allow")
    assert proxy.get("/", token("broken"), "X-User: root").status == 200
    assert origin.requests[0].get("x-user") is None
    assert proxy.get("/", token("forbidden")).status == 403


def test_answers_that_a_client_can_cause_let_nobody_pass(world):
    origin, login, proxy = asked(world, ", on_failure: allow")
    for word in ("300", "302", "304", "400", "404", "407", "429", "431"):
        m = proxy.get("/" + word, token(word))
        assert m.status == 503 and 'details="auth_unavailable"' in m.get("proxy-status"), word
    assert not origin.requests
    for word in ("500", "dead"):
        assert proxy.get("/" + word, token(word)).status == 200
    assert [r.all("x-user") for r in origin.requests] == [[], []]


def test_a_refusal_that_breaks_off_is_not_asked_for_again(world):
    origin, login, proxy = asked(world)
    m = proxy.get("/", token("cut"))
    assert (m.status, m.get("x-why"), m.get("content-length"), m.body) == (403, "no", "0", b"")
    assert len(login.requests) == 1 and not origin.requests
    assert proxy.get("/", token("good")).status == 200


def test_nobody_there_to_ask_is_a_failure(world):
    origin = world.origin()
    proxy = world.proxy("services:\n  app: { endpoints: [\"127.0.0.1:%d\"] }\n  login: { endpoints: [\"127.0.0.1:%d\"] }\n"
                        "routes: [{ match: /, service: app, auth: { request: { service: login } } }]\n" % (origin.port, free_port()))
    assert proxy.get("/").status == 503 and not origin.requests


def test_a_2xx_without_end_is_enough_and_costs_no_memory(world):
    origin, _, proxy = asked(world)
    before = proxy.rss_kib()
    assert proxy.get("/", token("endless")).status == 200
    assert proxy.rss_kib() - before < 20000


def test_an_answer_without_end_is_cut_behind_its_bound_though_it_only_drips(world):
    sent = []

    def drips(request, wire):
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + "x" * 100000)
        sent.append(0)
        for _ in range(400):
            wire.send("x")
            sent[0] += 1
            time.sleep(0.02)
        return False
    origin, login = world.origin(), world.origin(drips)
    limit = "tune: { limit: { mode: recommend, value: 4, min: 4, max: 4 } }"  # learned ones let go of what goes on for long
    proxy = world.proxy("services:\n  app: { endpoints: [\"127.0.0.1:%d\"] }\n  login: { endpoints: [\"127.0.0.1:%d\"], %s }\n"
                        "routes: [{ match: /, service: app, auth: { request: { service: login } } }]\n" % (origin.port, login.port, limit))
    assert proxy.get("/").status == 200
    poll(lambda: sent and login.in_flight == 0)
    assert sent[0] < 200, sent


def test_a_large_body_waits_for_the_verdict(world):
    origin, login, proxy = asked(world)
    body = os.urandom(2_000_000)
    w = proxy.connect()
    w.send("PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX-Token: slow\r\n\r\n" % len(body))
    sender = threading.Thread(target=lambda: w.send(body), daemon=True)
    sender.start()
    assert w.response().status == 200
    sender.join(WAIT_S)
    assert origin.requests[0].body == body and login.requests[0].body == b""
    w.close()


def test_a_refused_body_with_expect_is_never_sent(world):
    origin, _, proxy = asked(world)
    w = proxy.connect()
    m = w.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n").response()
    assert m.status == 401 and not origin.requests
    w.close()


def test_http2_and_websockets_are_asked_about(world):
    origin, login, proxy = asked(world)
    c = H2(proxy.port)
    got = c.get("/x")
    assert got.fields[":status"] == "401" and got.body == b"login" and got.fields["www-authenticate"] == "Bearer"
    got = c.get("/p", "POST", [("x-token", "slow")], b"x" * 300000)
    assert got.fields[":status"] == "200" and origin.requests[-1].get("x-user") == "ann"
    assert len(origin.requests[-1].body) == 300000 and login.requests[-1].get("x-forwarded-method") == "POST"
    c.close()

    def tunnel(request, wire):
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        wire.send(wire.exactly(4))
        return False
    origin.answer = tunnel
    ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" \
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"
    w = proxy.connect()
    assert w.send(ask % "").response().status == 401
    assert w.send(ask % "X-Token: good\r\n").head().status == 101
    assert w.send(b"ping").exactly(4) == b"ping"
    assert login.requests[-1].get("upgrade") is None and login.requests[-1].get("sec-websocket-key") is None
    w.close()


def test_clients_that_leave_in_between_leave_nothing_behind(world):
    origin, login, proxy = asked(world)
    for i in range(20):
        w = proxy.connect().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nX-Token: slow\r\n\r\nabc")
        w.reset() if i % 2 else w.close()
    c = H2(proxy.port)
    for _ in range(10):
        stream = c.begin("/gone", fields=[("x-token", "slow")])
        c.c.reset_stream(stream)
        c.flush()
    assert c.get("/", fields=[("x-token", "good")]).status == 200
    c.close()
    assert proxy.get("/", token("good")).status == 200
    assert {r.target for r in origin.requests} == {"/"} and len(origin.requests) == 2


def test_resets_ask_no_more_at_once_than_a_connection_may_have_open(world):
    origin, login, proxy = asked(world, extra="http2: { streams: 4, resets: 1000 }\n", threads=1)
    c = H2(proxy.port)
    for _ in range(60):
        stream = c.begin("/r", fields=[("x-token", "slow")])
        c.c.reset_stream(stream)
        c.flush()
        c.pump(0.01)
    c.close()
    assert login.peak <= 4, login.peak


@pytest.mark.parametrize("is_stream", [False, True])
def test_who_leaves_while_it_is_asked_has_no_more_in_hand_for_it(world, is_stream):
    gate = threading.Event()
    _, login, proxy = asked(world, route=", concurrency: [{ max: 1 }]", threads=1)
    login.answer = lambda r, w: gate.wait(WAIT_S) and ok() if r.get("x-token") == "held" else ok()
    if is_stream:
        c = H2(proxy.port)
        stream = c.begin("/", fields=[("x-token", "held")])
    else:
        w = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\nX-Token: held\r\n\r\n")
    poll(lambda: len(login.requests) == 1)
    if is_stream:
        c.c.reset_stream(stream)
        c.flush()
    else:
        w.close()
    assert [e["reason_name"] for e in proxy.wait_events(1)] == ["stream_reset" if is_stream else "client_gone"]
    m = proxy.get("/", token("good"))
    assert m.status == 429 and 'details="client_capped"' in m.get("proxy-status")
    gate.set()
    poll(lambda: proxy.get("/", token("good")).status == 200)
    poll(lambda: proxy.get("/", token("good")).status == 200)  # and it was given back once
    if is_stream:
        c.close()


def test_memory_answers_only_who_may_pass(world):
    origin, login, proxy = asked(world, route=", cache: on", answer=lambda r, w: ok(
        r.get("x-user") or "", "Cache-Control: public, max-age=60", "Vary: X-User") if r.target == "/p" else ok("x", "Cache-Control: max-age=60"))
    for _ in range(2):
        assert proxy.get("/p", token("good"), "X-User: root").body == b"ann"
        assert proxy.get("/q", token("good")).status == 200  # a cookie or a token let it pass: of one user
    assert [r.target for r in origin.requests] == ["/p", "/q", "/q"] and len(login.requests) == 4
    assert proxy.get("/p", "X-User: ann").status == 401


def test_events_say_who_refused(world):
    origin, login, proxy = asked(world, threads=1)
    for word in ("good", "forbidden", "broken"):
        proxy.get("/", token(word))
    seen = [(e["reason_name"], e["status"]) for e in proxy.wait_events(3)]
    assert seen == [("answered", 200), ("auth_denied", 403), ("auth_unavailable", 503)]


def test_a_service_that_speaks_http2_is_asked(world):
    from h2_origin import H2Origin
    login = H2Origin()
    origin = world.origin()
    proxy = world.proxy("services:\n  app: { endpoints: [\"127.0.0.1:%d\"] }\n  login: { endpoints: [\"127.0.0.1:%d\"], protocol: h2c }\n"
                        "routes: [{ match: /, service: app, auth: { request: { service: login } } }]\n" % (origin.port, login.port))
    assert proxy.get("/").status == 200 and len(origin.requests) == 1
