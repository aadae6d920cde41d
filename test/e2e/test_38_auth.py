# SPDX-License-Identifier: Apache-2.0
"""Routes that ask for a name and a password."""
import base64
import json
import os
import resource
import subprocess
import threading
import time

import pytest

from conftest import WAIT_S, config, driver, free_port, ok
from h2_util import H2

pytestmark = pytest.mark.short

# "secret"
SHA512 = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"
SHA512_SLOW = "$6$rounds=900000$saltsalt$"


def basic(user="ann", password="secret"):
    return "Authorization: Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()


@pytest.fixture
def users(tmp_path):
    """The file; write(line...) replaces it as an editor would, whole."""
    class Users:
        path = str(tmp_path / "users.htpasswd")

        def write(self, *lines):
            with open(self.path + ".new", "w") as f:
                f.write("".join(line + "\n" for line in lines))
            os.rename(self.path + ".new", self.path)
    u = Users()
    u.write("ann:" + SHA512)
    return u


def guarded(world, users, more="", answer=None, route="", extra="", threads=2):
    origin = world.origin(answer or (lambda request, wire: ok(b"body")))
    text = config(origin, route=", auth: { basic: { file: %s, realm: Staff only%s } }%s" % (users.path, more, route), extra=extra)
    return origin, world.proxy(text, threads=threads)


def poll(what, wait_s=40):
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        got = what()
        if got:
            return got
        time.sleep(0.1)
    raise AssertionError("it did not come")


@pytest.mark.parametrize("by", ["basic", "request"])
def test_some_networks_need_not_be_asked(world, users, by):
    """Whom it lets in unasked has no name there, and cannot give himself one."""
    origin = world.origin()
    way = "basic: { file: %s, user_header: X-User }" % users.path if by == "basic" else \
        "request: { service: login, response_headers: [X-User] }"
    text = config(origin, extra="gateway: { trust_forwarded: true }\n",
                  route=", auth: { except: [192.0.2.0/24, \"2001:db8::/32\"], %s }" % way)
    text = text.replace("routes:", "  login: { endpoints: [\"127.0.0.1:%d\"] }\nroutes:" % free_port())
    proxy = world.proxy(text)
    asked = {"basic": 401, "request": 503}[by]
    for address, status in (("192.0.2.7", 200), ("2001:db8::7", 200), ("198.51.100.1", asked), ("192.0.2.7, 198.51.100.1", asked)):
        m = proxy.get("/", "X-Forwarded-For: " + address, "X-User: root", "X_User: root", basic(password="no"))
        assert m.status == status, address
    assert len(origin.requests) == 2
    for r in origin.requests:
        assert r.get("x-user") is None and r.get("x_user") is None
        assert (r.get("authorization") is None) == (by == "basic")
    if by == "basic":
        assert proxy.get("/", "X-Forwarded-For: 198.51.100.1", basic()).status == 200
        assert origin.requests[-1].get("x-user") == "ann"


def test_only_users_with_their_password_get_through(world, users):
    origin, proxy = guarded(world, users)
    m = proxy.get("/")
    assert m.status == 401 and m.get("www-authenticate") == 'Basic realm="Staff only", charset="UTF-8"'
    assert 'details="auth_required"' in m.get("proxy-status") and m.get("cache-control") == "no-store"
    for wrong in (basic(password="secreT"), basic("bob"), basic("ann", ""), basic("", "secret"), "Authorization: Bearer x",
                  "Authorization: Basic", "Authorization: Basic !!!", "Authorization: Basic YW5u",
                  "Authorization: Basic " + base64.b64encode(b"ann:secret\0").decode()):
        m = proxy.get("/", wrong)
        assert m.status == 401 and m.get("www-authenticate"), wrong
        assert 'details="auth_refused"' in m.get("proxy-status")
    assert not origin.requests
    m = proxy.get("/", basic())
    assert m.status == 200 and m.body == b"body"
    assert origin.requests[0].get("authorization") is None
    assert proxy.get("/", basic(), basic("bob")).status == 401  # who is it?


def test_a_file_that_could_not_be_read_is_read_later(world, users):
    _, proxy = guarded(world, users)
    assert proxy.get("/", basic()).status == 200
    soft, hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (3, hard))
    users.write("bob:" + SHA512)
    poll(lambda: "Too many open files" in proxy.log())
    resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    poll(lambda: proxy.get("/", basic("bob")).status == 200)
    assert proxy.get("/", basic()).status == 401
    assert proxy.log().count("Too many open files") == 1


def test_a_connection_goes_on_after_refusals(world, users):
    origin, proxy = guarded(world, users)
    w = proxy.connect()
    assert w.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").response().status == 401
    for auth, status in ((basic(password="x"), 401), (basic(), 200), (basic(), 200)):
        assert w.send("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n%s\r\n\r\nabc" % auth).response().status == status
    w.close()
    assert [r.body for r in origin.requests] == [b"abc", b"abc"]


def test_the_name_goes_to_the_endpoint_and_nobody_forges_it(world, users):
    origin, proxy = guarded(world, users, ", user_header: X-User, forward: true")
    assert proxy.get("/", basic(), "X-User: root", "x_user: root", "X-Other: 1").status == 200
    r = origin.requests[0]
    assert r.all("x-user") == ["ann"] and r.all("x_user") == [] and r.get("x-other") == "1"
    assert r.get("authorization") == basic().split(": ", 1)[1]


def test_a_name_behind_the_body_does_not_reach_the_endpoint(world, users):
    origin, proxy = guarded(world, users, ", user_header: X-User")
    w = proxy.connect()
    for body in ("3\r\nabc\r\n0\r\n", "0\r\n"):
        assert w.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n%s\r\n\r\n%s"
                      "X-User: root\r\nX_User: root\r\nX-Sum: 7\r\nx_user: root\r\n\r\n" % (basic(), body)).response().status == 200
        r = origin.requests[-1]
        assert r.all("x-user") == ["ann"] and r.trailers == [("X-Sum", "7")]
    w.close()


@pytest.mark.parametrize("protocol", ["", "    protocol: h2c\n"])
def test_a_name_behind_the_body_of_a_stream_does_not_reach_the_endpoint(world, users, protocol):
    from h2_origin import H2Origin
    origin = H2Origin() if protocol else world.origin()
    proxy = world.proxy(config(origin, service=protocol, route=", auth: { basic: { file: %s, user_header: X-User } }" % users.path))
    c = H2(proxy.port)
    stream = c.begin("/", "POST", [("authorization", basic().split(": ", 1)[1])], is_last=False)
    c.send(stream, b"abc")
    c.c.send_headers(stream, [("x-user", "root"), ("x-sum", "7"), ("x_user", "root")], end_stream=True)
    c.flush()
    assert c.wait(stream).status == 200
    assert origin.requests[-1].body == b"abc" and origin.requests[-1].trailers == [("x-sum", "7")]
    assert origin.requests[-1].get("x-user") == "ann"
    c.close()


def test_http2_and_websockets_are_guarded(world, users):
    origin, proxy = guarded(world, users, ", user_header: X-User")
    c = H2(proxy.port)
    assert c.get("/").fields[":status"] == "401"
    got = c.get("/x", fields=[("authorization", basic().split(": ", 1)[1])])
    assert got.fields[":status"] == "200" and got.body == b"body"
    got = c.get("/p", "POST", [("authorization", basic().split(": ", 1)[1])], b"x" * 100000)
    assert got.fields[":status"] == "200" and len(origin.requests[-1].body) == 100000
    assert origin.requests[-1].get("x-user") == "ann"
    c.close()
    ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" \
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"

    def tunnel(request, wire):
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        wire.send(wire.exactly(4))
        return False
    origin.answer = tunnel
    w = proxy.connect()
    assert w.send(ask % "").response().status == 401
    assert w.send(ask % (basic() + "\r\n")).head().status == 101
    assert w.send(b"ping").exactly(4) == b"ping"
    w.close()


def test_a_body_waits_for_the_verdict_without_filling_memory(world, users):
    """A password that takes a second or so to check; the body is far larger than what is held meanwhile."""
    users.write("ann:" + slow_hash())
    origin, proxy = guarded(world, users)
    body = os.urandom(3_000_000)
    w = proxy.connect()
    sender = threading.Thread(target=lambda: w.send(body), daemon=True)
    w.send("PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n\r\n" % (len(body), basic()))
    sender.start()
    w.sock.settimeout(60)
    assert w.response().status == 200
    sender.join(WAIT_S)
    assert origin.requests[0].body == body
    w.close()


def slow_hash():
    """Of "secret", with as many rounds as are allowed: the library tells."""
    import ctypes
    import ctypes.util
    lib = ctypes.CDLL("libcrypt.so.1")
    lib.crypt.restype = ctypes.c_char_p
    return lib.crypt(b"secret", SHA512_SLOW.encode()).decode()


def test_what_is_known_and_what_is_open_stay_fast_beside_a_flood_of_guesses(world, users):
    """Hundreds of wrong passwords, each slow to check: the queue is bounded, what finds no room hears 503 at once, and
    whoever is known already is answered while they wait."""
    users.write("ann:" + slow_hash())
    origin, proxy = guarded(world, users, threads=1)
    assert proxy.get("/", basic()).status == 200
    wires = []
    for i in range(120):  # from one address, of which so many may wait at once: 16
        wires.append(proxy.connect().send("GET /w HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % basic(password="guess%d" % i)))
    early = [w for w in wires if poll_readable(w, 20 if w is wires[-1] else 0.5)]
    busy = [w.response() for w in early]
    busy = [m for m in busy if m.status == 503]
    assert len(busy) >= 100 - 16, len(busy)
    assert all(m.get("retry-after") and 'details="auth_busy"' in m.get("proxy-status") for m in busy)
    for _ in range(20):  # nobody's work stands in their way
        assert proxy.get("/", basic()).status == 200
    for w in wires:
        w.close()  # and nobody waits for the rest
    assert proxy.get("/", basic()).status == 200


def poll_readable(wire, wait_s):
    import select
    return bool(select.select([wire.sock], [], [], wait_s)[0])


def test_a_client_that_leaves_costs_nothing(world, users):
    users.write("ann:" + slow_hash())
    origin, proxy = guarded(world, users)
    for i in range(10):
        w = proxy.connect().send("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n%s\r\n\r\nabc" % basic(password="g%d" % i))
        w.reset() if i % 2 else w.close()
    c = H2(proxy.port)
    stream = c.begin("/gone", fields=[("authorization", basic(password="h2").split(": ", 1)[1])])
    c.c.reset_stream(stream)
    c.flush()
    assert c.get("/", fields=[("authorization", basic().split(": ", 1)[1])]).status == 200
    c.close()
    assert poll(lambda: proxy.get("/", basic()).status == 200)
    assert {r.target for r in origin.requests} == {"/"}


def test_the_file_is_read_again_when_it_changes(world, users):
    origin, proxy = guarded(world, users)
    assert proxy.get("/", basic()).status == 200  # and it is remembered from here on
    users.write("# nobody that we know", "", "bob:" + SHA512)
    assert poll(lambda: proxy.get("/", basic("bob")).status == 200)
    assert proxy.get("/", basic()).status == 401
    users.write("bob:" + SHA512, "eve:$apr1$abcdefgh$0123456789012345678901")
    assert poll(lambda: "line 2 has a hash that is of MD5" in proxy.log())
    assert proxy.get("/", basic("bob")).status == 200  # the users read last stay
    users.write("ann:" + SHA512)
    assert poll(lambda: proxy.get("/", basic()).status == 200)


@pytest.mark.parametrize("line,says", [
    ("ann:secret", "plain text"), ("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1"), ("ann", "no colon"),
    ("ann:$1$abcdefgh$0123456789012345678901", "MD5"), ("ann:$2y$31$" + "a" * 53, "cost above 14")])
def test_a_weak_file_is_refused_at_start(users, tmp_path, line, says):
    users.write(line)
    path = tmp_path / "foldback.yaml"
    path.write_text('listen: ["127.0.0.1:%d"]\n' % free_port() + config(1, route=", auth: { basic: { file: %s } }" % users.path))
    done = subprocess.run([driver(), str(path), "1"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and says in done.stderr and "line 1" in done.stderr, done.stderr


def test_a_reload_with_a_bad_file_changes_nothing(world, users):
    origin, proxy = guarded(world, users)
    if proxy.is_whole:
        pytest.skip("the driver says what became of a reload")
    assert proxy.reload(config(origin, route=", auth: { basic: { file: /nonexistent/users } }")).startswith("refused")
    assert proxy.get("/").status == 401 and proxy.get("/", basic()).status == 200


def test_memory_answers_only_who_may_ask_and_keeps_only_what_is_for_all(world, users):
    def answer(request, wire):
        return ok(request.target, "Cache-Control: " + request.target[1:].replace("+", ", "))
    origin, proxy = guarded(world, users, ", user_header: X-User", answer=answer, route=", cache: on")
    for _ in range(2):
        assert proxy.get("/public+max-age=60", basic()).status == 200
        assert proxy.get("/max-age=60", basic()).status == 200  # RFC 9111 3.5: of one user
    assert [r.target for r in origin.requests] == ["/public+max-age=60", "/max-age=60", "/max-age=60"]
    assert proxy.get("/public+max-age=60").status == 401
    assert proxy.get("/public+max-age=60", basic(password="no")).status == 401


def test_kept_answers_are_told_apart_by_the_true_name(world, users):
    users.write("ann:" + SHA512, "bob:" + SHA512)
    origin, proxy = guarded(world, users, ", user_header: X-User", route=", cache: on",
                            answer=lambda r, w: ok(r.get("x-user"), "Cache-Control: public, max-age=60", "Vary: X-User"))
    assert proxy.get("/", basic("ann")).body == b"ann"
    assert proxy.get("/", basic("bob"), "X-User: ann").body == b"bob"
    assert proxy.get("/", basic("ann"), "X-User: bob").body == b"ann"
    assert len(origin.requests) == 2


def test_events_say_what_became_of_it(world, users):
    origin, proxy = guarded(world, users, threads=1)
    for fields in ((), (basic(password="x"),), (basic(),), (basic(),)):
        proxy.get("/", *fields)
    seen = [(e["reason_name"], e["status"], e["traits"]) for e in proxy.wait_events(4)]
    assert [(a, b) for a, b, _ in seen] == [("auth_required", 401), ("auth_refused", 401), ("answered", 200), ("answered", 200)]
    text = [json.dumps(t) for _, _, t in seen]
    bit = lambda n: str(1 << n)
    assert [t if not t.isdigit() else t for t in text] == [bit(18), bit(18), bit(16), bit(17)] or \
        ["auth_refused" in text[0], "auth_checked" in text[2], "auth_remembered" in text[3]] == [True] * 3


def test_open_routes_beside_it_ask_nobody(world, users):
    origin = world.origin()
    text = config(origin)
    proxy = world.proxy(text[:text.index("routes:")] + "routes:\n"
                        "  - { match: /in/, service: app, auth: { basic: { file: %s } }, redirect: https }\n"
                        "  - { match: /, service: app }\n" % users.path)
    assert proxy.get("/").status == 200
    m = proxy.get("/in/")
    assert m.status == 308 and m.get("www-authenticate") is None  # never a password in the clear
    assert origin.requests[0].get("authorization") is None
    assert proxy.get("/", basic()).status == 200 and origin.requests[1].get("authorization")
