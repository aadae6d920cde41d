# SPDX-License-Identifier: Apache-2.0
"""Every reason of src/event/reasons.def that can be provoked from outside, once: the status and the Proxy-Status
that the client sees, and the event in the log.  A reason without a row here and without a place in NOT_FROM_OUTSIDE
fails the last test.

All groups run at once in threads before the first test; the tests look at what came out.
"""
import base64
import concurrent.futures
import contextlib
import select
import socket
import threading
import time

import pytest
import h2_util
from conftest import WAIT_S, Origin, Wire
from h2_origin import H2Origin
from reasons_util import (HEALTH, LIMITS, ONE, PLACES, REASONS, WIDE, all_events, answer, connect, get, look, no_tls,
                          post, send, service, Seen)
from tls_util import Authority, TlsOrigin, server_context
from fb import Foldback, free_port, until  # noqa: E402

NOT_FROM_OUTSIDE = {
    "internal": "only a broken promise of ours leads there",
    "upstream_tls_files": "after a crash only: test_18_tls_service_files.py",
}


# ---- rows: one function per reason; returns what the client saw, or None when it sees nothing ----

ROWS = {}
TUNNEL = get("/app/tunnel", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


def row(reason, group="plain"):
    def put(f):
        ROWS[reason] = (group, f)
        return f
    return put


def sends(reason, text, group="plain"):
    row(reason, group)(lambda fold, world: send(fold, text))


sends("answered", get("/app/"))
sends("answered_locally", "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")


@row("rate_limited")
def _(fold, world):
    send(fold, get("/rated/"))
    return send(fold, get("/rated/"))


def password(text):
    return "Authorization: Basic " + base64.b64encode(("ann:" + text).encode()).decode()


sends("auth_required", get("/members/"))
sends("auth_refused", get("/members/", password("wrong")))


sends("auth_denied", get("/asked/"))
sends("auth_unavailable", get("/unasked/"))


@row("auth_busy", "guessed")
def _(fold, world):
    wires = [connect(fold) for _ in range(40)]
    for i, w in enumerate(wires):
        w.send(get("/", password("guess %d" % i)))
    ready, _, _ = select.select([w.sock for w in wires], [], [], 20)
    for w in wires:
        if w.sock in ready:
            seen = look(w)
            if seen.status == 503:
                break
    for w in wires:
        w.close()
    return seen


sends("address_denied", get("/denied/"))
sends("redirected", get("/moved/"))
sends("responded", get("/fixed/"))
sends("pattern_limit", get("/pattern/" + "a" * 300 + "!"))
sends("rewrite_unsafe", get("/rewritten../x"))


@row("shed_cap")
def _(fold, world):
    first, = behind_one(fold, "/capped/slow500")
    seen = send(fold, get("/capped/"))
    look(first)
    first.close()
    return seen


@row("client_capped")
def _(fold, world):
    first, = behind_one(fold, "/handful/slow500")
    seen = send(fold, get("/handful/"))
    look(first)
    first.close()
    return seen


@row("shed_errors")
def _(fold, world):
    w = connect(fold)
    for _ in range(150):
        look(w.send(get("/failing/error")))
    w.close()
    for user in range(30):
        seen = send(fold, get("/failing/error", "X-User: %d" % user))
        if seen.status == 503:
            return seen
    return seen


@row("quota_exceeded")
def _(fold, world):
    send(fold, get("/quota/"))
    return send(fold, get("/quota/"))


@row("grpc_failed", "h2")
def _(fold, world):
    c = h2_util.H2(fold.port)
    assert c.get("/app/grpc14", "POST", [("content-type", "application/grpc")], b"\0\0\0\0\0").fields["grpc-status"] == "14"
    c.close()


@row("h2_malformed", "h2")
def _(fold, world):
    r = h2_util.Raw(fold.port)
    r.send(h2_util.frame(h2_util.HEADERS, 5, 1, h2_util.block(extra=h2_util.literal("connection", "close"))))
    assert r.wait(h2_util.RST_STREAM)


@row("h2_flood", "h2")
def _(fold, world):
    r = h2_util.Raw(fold.port)
    r.send(h2_util.frame(h2_util.PING, 0, 0, b"12345678") * 300)
    assert r.goaway() == h2_util.CALM


def reset_streams(fold, count):
    r = h2_util.Raw(fold.port)
    for i in range(1, 2 * count, 2):
        r.send(h2_util.frame(h2_util.HEADERS, 5, i, h2_util.block("/app/slow700")))
        r.pump(0.05)
        r.send(h2_util.frame(h2_util.RST_STREAM, 0, i, b"\0\0\0\x08"))
    return r


@row("stream_reset", "h2")
def _(fold, world):
    reset_streams(fold, 1)


@row("h2_refused", "h2")
def _(fold, world):
    r = reset_streams(fold, 6)
    assert r.wait(h2_util.RST_STREAM) == b"\0\0\0\x07"



def twice(reason, path):
    @row(reason)
    def _(fold, world):
        send(fold, get(path))
        return send(fold, get(path))


twice("cache_hit", "/kept/fresh")
twice("cache_revalidated", "/kept/asked")
twice("cache_stale", "/kept/old")
sends("cache_only", get("/kept/never", "Cache-Control: only-if-cached"))


@row("cache_guarded")
def _(fold, world):
    """Its life ends a second after it came; then the one slot of its service is taken."""
    for _ in range(6):  # a machine that stands still for half a second lets the slot go
        send(fold, get("/guarded/ages"))
        time.sleep(2.1)
        first = connect(fold).send(get("/guarded/slow600"))
        time.sleep(0.1)
        m = connect(fold).send(get("/guarded/ages")).response()
        first.response()
        if "; hit" in m.get("cache-status"):
            break
    return Seen(m.status, m.get("proxy-status"))


@row("cache_collapsed")
def _(fold, world):
    first = connect(fold).send(get("/kept/once"))
    time.sleep(0.1)
    second = send(fold, get("/kept/once"))
    first.response()
    return second


@row("mirrored")
def _(fold, world):
    send(fold, get("/copied/"))  # the client's own answer tells nothing of the copy


@row("mirror_failed")
def _(fold, world):
    send(fold, get("/lost/"))


sends("bad_request", "GET / HTTP/1.1\nHost: a\n\n")
sends("bad_host", "GET / HTTP/1.1\r\n\r\n")
sends("bad_framing", post("/app/", "Content-Length: 1", "Content-Length: 2", body="ab"))
sends("bad_chunk", post("/app/", "Transfer-Encoding: chunked", body="xyz\r\n"))
sends("bad_version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n")
sends("bad_expect", get("/app/", "Expect: tea"))
sends("bad_coding", post("/app/", "Transfer-Encoding: gzip, chunked"))
sends("bad_method", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")
sends("line_too_long", get("/" + "x" * 2000))
sends("headers_too_large", get("/app/", "X: " + "x" * 5000))
sends("too_many_headers", get("/app/", *["X: 1"] * 30))
sends("body_too_large", post("/app/", "Content-Length: 20000"))
sends("header_timeout", "GET / HTTP/1.1\r\nHo")
sends("body_timeout", post("/app/", "Content-Length: 100", body="abc"))
sends("loop_detected", get("/app/", "Via: 1.1 other" + ", 1.1 foldback" * 4))
sends("no_route", get("/nowhere"))
sends("shed_attempts", get("/app/", "X-Attempt: 9"))
sends("connect_refused", get("/dead/"))
sends("connect_timeout", get("/hole/"))
sends("connect_failed", get("/far/"))
sends("upstream_tls", get("/curt/"))
sends("upstream_not_tls", get("/clear/"))
sends("upstream_wants_tls", get("/secret/"))
sends("upstream_cert_refused", get("/closed/"))
sends("upstream_not_http2", get("/old/"))
sends("upstream_wants_http2", get("/new/"))
sends("upstream_cert", get("/stranger/"))
sends("no_websocket", get("/talk/", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
sends("acme_challenge", get("/.well-known/acme-challenge/token"))
sends("dns_failed", get("/name/"))
sends("upstream_reset", post("/app/close", "Content-Length: 0"))
sends("upstream_bad", post("/app/bad", "Content-Length: 0"))
sends("upstream_headers_too_large", post("/app/large", "Content-Length: 0"))
sends("upstream_timeout", post("/app/slow1200", "Content-Length: 0"))
sends("upstream_error", post("/app/error", "Content-Length: 0"))
sends("deadline", post("/short/slow600", "Content-Length: 0"))


@row("upgraded")
def _(fold, world):
    w = connect(fold).send(TUNNEL)
    seen = look(w)
    w.send("hello")
    assert w.exactly(5) == b"hello"
    w.sock.shutdown(socket.SHUT_WR)
    w.rest()
    w.close()
    return seen


@row("tunnel_cut")
def _(fold, world):
    """Idle for limits.tunnel_idle_timeout; the reset has a test of its own."""
    w = connect(fold).send(TUNNEL)
    look(w)
    assert w.is_closed(4)
    w.close()


@row("client_gone")
def _(fold, world):
    w = connect(fold).send(get("/app/slow500"))
    time.sleep(0.2)
    w.close()


@row("body_too_slow")
def _(fold, world):
    w = connect(fold).send(post("/app/", "Content-Length: 1000"))
    w.sock.settimeout(0.1)
    end = time.monotonic() + 5
    while time.monotonic() < end and not w.buffer:
        with contextlib.suppress(socket.timeout):
            w.send("x")
            if not w.fill():
                break
    w.sock.settimeout(5)
    return look(w)


@row("reader_too_slow")
def _(fold, world):
    w = connect(fold, receive_bytes=4096).send(get("/app/much"))
    world.later.append(w)  # closed when the events have been read


@row("upstream_cut")
def _(fold, world):
    w = connect(fold).send(get("/app/cut"))
    assert w.head().status == 200
    assert w.rest() == b"hello"
    w.close()


@row("upstream_idle")
def _(fold, world):
    w = connect(fold).send(get("/app/still"))
    assert w.head().status == 200
    assert w.rest() == b"hello"
    w.close()


@row("no_endpoint")
def _(fold, world):
    fold.api("POST", "/v1/drain", {"endpoint": "out 127.0.0.1:%d" % world.origin.port, "why": "test"})
    until(lambda: [e for e in fold.api("GET", "/v1/endpoints")["endpoints"] if e["is_drained"]], 5, "drained")
    time.sleep(0.3)
    return send(fold, get("/out/"))


@row("shed_priority")
def _(fold, world):
    fold.api("PUT", "/v1/knobs/shed_threshold/door/pin", {"value": 128, "why": "test"})
    time.sleep(0.5)
    return send(fold, get("/door/"))


def behind_one(fold, slow, count=1):
    """Fills the one slot of a service, and optionally its queue."""
    ws = []
    for _ in range(count):
        ws.append(connect(fold).send(get(slow)))
        time.sleep(0.1)
    return ws


@row("client_gone_queued")
def _(fold, world):
    first, = behind_one(fold, "/queue1/slow500")
    second = connect(fold).send(get("/queue1/"))
    time.sleep(0.15)
    second.close()
    look(first)
    first.close()


@row("shed_queue_full")
def _(fold, world):
    first, second = behind_one(fold, "/queue2/slow900", 2)
    seen = send(fold, get("/queue2/"))
    look(first), look(second)
    first.close(), second.close()
    return seen


@row("shed_queue_wait")
def _(fold, world):
    first, = behind_one(fold, "/queue3/slow600")
    seen = send(fold, get("/queue3/"))
    look(first)
    first.close()
    return seen


@row("shed_deadline")
def _(fold, world):
    first, = behind_one(fold, "/queue4/slow600")
    seen = send(fold, get("/queue4/short/"))
    look(first)
    first.close()
    return seen


@row("shed_overload", "few")
def _(fold, world):
    ws = [connect(fold) for _ in range(3)]
    time.sleep(0.2)
    seen = send(fold, get("/"))
    for w in ws:
        w.close()
    return seen


@row("proxy_header_bad", "proxied")
def _(fold, world):
    w = connect(fold).send(get("/app/"))
    assert w.is_closed()
    w.close()


@row("proxy_untrusted", "proxied")
def _(fold, world):
    with socket.create_connection(("127.0.0.1", fold.port), 5, ("127.0.0.2", 0)) as s:
        assert Wire(s).is_closed()


@row("tcp_ended", "passed")
def _(fold, world):
    w = connect(fold).send(get("/app/", "Connection: close"))
    w.sock.shutdown(socket.SHUT_WR)
    w.rest()
    w.close()


# The drain of "leaving" takes 600 ms, then comes the last call, 500 ms later the end.

@row("drain_cut", "leaving")
def _(fold, world):
    w = connect(fold).send(get("/app/slow4000"))
    with pytest.raises((EOFError, ConnectionError)):
        w.response()


@row("shed_own_load", "short")
def _(fold, world):
    time.sleep(0.3)
    return send(fold, get("/"))


@row("shed_draining", "leaving")
def _(fold, world):
    kept, quiet = connect(fold).send(get("/app/")), connect(fold).send(get("/app/"))
    look(kept)
    look(quiet)
    first, queued = connect(fold).send(get("/one/slow4000")), connect(fold)
    time.sleep(0.2)
    queued.send(get("/one/"))
    time.sleep(0.2)
    fold.process.terminate()
    time.sleep(0.2)
    served = kept.send(get("/app/")).response()  # while there is time a kept connection is served once more
    assert (served.status, served.get("connection")) == (200, "close")
    seen = look(queued)  # what was never sent when the time is over is refused, not cut
    late = quiet.send(get("/app/")).response()
    assert late.status == 503 and late.get("connection") == "close" and late.get("retry-after")
    with pytest.raises((EOFError, ConnectionError)):
        first.response()
    return seen


# ---- groups: one foldback each ----

LISTEN = {"proxied": {"listen": '[{ address: "127.0.0.1:%d", proxy_protocol: true, trusted: [127.0.0.1] }]'},
          "passed": {"listen": '["127.0.0.1:0", { address: "127.0.0.1:%d", protocol: tcp, service: raw }]'}}


class World:
    def __init__(self, tmp):
        self.tmp, self.origin, self.later, self.closing = tmp, Origin(answer), [], []
        self.seen, self.events, self.wrong = {}, {}, {}

    def folder(self, name):
        path = self.tmp / name
        path.mkdir()
        return path


def hole():
    """An address that takes no connection: its accept queue is full."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(0)
    fillers = []
    for _ in range(3):
        f = socket.socket()
        f.setblocking(False)
        f.connect_ex(s.getsockname())
        fillers.append(f)
    return s, fillers


def challenge(folder):
    (folder / "token").write_text("token.thumbprint")
    return "tls: { acme_dir: %s }\n" % folder


def stranger(folder):
    """An endpoint whose certificate comes from an authority that nobody trusts."""
    return TlsOrigin(server_context(*Authority(str(folder)).leaf("127.0.0.1")))


def members_only(folder):
    """An endpoint that wants a certificate of its own authority."""
    ca = Authority(str(folder))
    return TlsOrigin(server_context(*ca.leaf("127.0.0.1"), ca=ca.cert))


def members(folder, rounds):
    """A file with one user, whose password takes a while to compute."""
    path = folder / "users"
    path.write_text("ann:$6$rounds=%d$salt$%s\n" % (rounds, "x" * 86))
    return "auth: { basic: { file: %s } }" % path


def plain_config(world, sink):
    here = "127.0.0.1:%d" % world.origin.port
    rows = [("app", here, WIDE), ("dead", "127.0.0.1:%d" % free_port(), WIDE),
            ("hole", "127.0.0.1:%d" % sink.getsockname()[1], WIDE),
            ("far", "127.255.255.255:80", WIDE),  # the broadcast address of the loopback: unreachable at once
            ("name", "dns://nothing.invalid:80", WIDE), ("out", here, WIDE), ("door", here, WIDE),
            ("clear", "https://127.0.0.1:%d" % Origin(raw=no_tls).port, WIDE),
            ("stranger", "https://127.0.0.1:%d" % stranger(world.folder("ca")).port, WIDE)]
    rows += [("curt", "https://127.0.0.1:%d" % Origin(raw=lambda w: w.fill()).port, WIDE),
             ("secret", "127.0.0.1:%d" % Origin(raw=lambda w: w.fill() and w.send(b"\x15\x03\x03\0\2\2\x0a")).port, WIDE),
             ("closed", "127.0.0.1:%d" % members_only(world.folder("members")).port, WIDE + ", tls: { verify: false }"),
             ("old", "127.0.0.1:%d" % Origin(raw=lambda w: w.fill() and w.send("HTTP/1.1 400 no\r\n\r\n")).port, WIDE + ", protocol: h2c"),
             ("new", "127.0.0.1:%d" % H2Origin().port, WIDE)]
    rows.append(("talk", "127.0.0.1:%d" % H2Origin().port, WIDE + ", protocol: h2c"))
    rows.append(("failing", here, WIDE + ", success_floor: 50%"))
    rows += [("queue1", here, ONE + ", queue: { wait: 3s, capacity: 5 }"),
             ("queue2", here, ONE + ", queue: { wait: 3s, capacity: 1 }"),
             ("queue3", here, ONE + ", queue: { wait: 100ms, capacity: 5 }"),
             ("queue4", here, ONE + ", queue: { wait: 3s, capacity: 5 }"), ("guarded", here, ONE)]
    routes = "".join("  - { match: /%s/, service: %s }\n" % (n, n) for n, _, _ in rows if n not in ("failing", "guarded"))
    return ("mode: observe\n" + LIMITS + challenge(world.folder("acme")) + "services:\n" + "".join(service(*r) for r in rows) + "routes:\n"
            "  - { match: /queue4/short/, service: queue4, deadline: 150ms }\n"
            "  - { match: /short/, service: app, deadline: 200ms }\n"
            "  - { match: /kept/, service: app, cache: on }\n"
            "  - { match: /guarded/, service: guarded, cache: on }\n"
            "  - { match: /copied/, service: app, mirror: { service: door, percent: 100% } }\n"
            "  - { match: /lost/, service: app, mirror: { service: dead, percent: 100% } }\n"
            "  - { match: /rated/, service: app, rate_limits: [{ rate: 1/h, burst: 1 }] }\n"
            "  - { match: /denied/, service: app, deny: [127.0.0.1] }\n"
            "  - { match: /asked/, service: app, auth: { request: { service: app, path: /app/forbidden } } }\n"
            "  - { match: /unasked/, service: app, auth: { request: { service: app, path: /app/error } } }\n"
            "  - { match: /members/, service: app, " + members(world.folder("users"), 1000) + " }\n"
            "  - { match: /moved/, redirect: { to: \"https://example.org{target}\" } }\n"
            "  - { match: /fixed/, respond: { body: fixed } }\n"
            "  - { match: '~^/pattern/(a+)+$', service: app }\n"
            "  - { match: '~^/rewritten(.*)$', service: app, rewrite: { to: /$1 } }\n"
            "  - { match: /failing/, service: failing, key: X-User }\n"
            "  - { match: /capped/, service: app, concurrency: 1 }\n"
            "  - { match: /handful/, service: app, concurrency: [{ max: 1 }] }\n"
            "  - { match: /quota/, service: app, rate_limits: [{ quota: 1/d }] }\n" + routes)


def small_config(world, extra):
    return extra + "services:\n" + service("app", "127.0.0.1:%d" % world.origin.port, WIDE)


def leaving_config(world):
    here = "127.0.0.1:%d" % world.origin.port
    return ("gateway: { drain_timeout: 600ms }\nservices:\n" + service("app", here, WIDE)
            + service("one", here, ONE + ", queue: { wait: 5s, capacity: 5 }")
            + "routes:\n  - { match: /app/, service: app }\n  - { match: /one/, service: one }\n")


def run_row(world, group, reason, act, fold):
    world.wrong.pop(reason, None)
    try:
        world.seen[reason] = act(fold, world)
    except Exception as e:  # noqa: BLE001 - told by the test of this row
        world.wrong[reason] = "%s: %r" % (group, e)


def run_group(world, group, config):
    fold = Foldback(world.folder(group), config, **LISTEN.get(group, {})).start()
    world.closing.append(fold)
    rows = [(r, f) for r, (g, f) in ROWS.items() if g == group]
    play(world, group, rows, fold)
    if group == "leaving":  # its last events were written when nobody could ask any more
        fold.process.wait(WAIT_S)
        fold.start()
    collect(world, group, rows, fold)
    for _ in range(3 if group != "leaving" else 0):  # a machine that stood still in the middle of a row missed its moment
        missed = [x for x in rows if not has_ended_so(world, group, x[0])]
        if missed:
            play(world, group, missed, fold)
            collect(world, group, missed, fold)


def has_ended_so(world, group, reason):
    want, seen = REASONS[reason], world.seen.get(reason)
    is_told = seen is None or want["status"] < 400 or 'details="%s"' % reason in (seen.proxy_status or "")
    return reason not in world.wrong and is_told and want["id"] in {e["reason"] for e in world.events[group]}


def play(world, group, rows, fold):
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        list(pool.map(lambda x: run_row(world, group, x[0], x[1], fold), rows))


def collect(world, group, rows, fold):
    wanted = {REASONS[r]["id"] for r, _ in rows}
    end = time.monotonic() + 6
    while True:
        world.events.setdefault(group, [])
        with contextlib.suppress(AssertionError):  # one group's foldback leaves
            world.events[group] = all_events(fold, "request")
        if wanted <= {e["reason"] for e in world.events[group]} or time.monotonic() > end or fold.process.poll() is not None:
            return
        time.sleep(0.2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("reasons"))
    sink = hole()
    jobs = [("plain", plain_config(w, sink[0])), ("few", small_config(w, "limits: { connections: 3 }\n")),
            ("short", small_config(w, "overload: { memory_limit: 1MiB }\n")),
            ("leaving", leaving_config(w)), ("proxied", small_config(w, "")),
            ("passed", small_config(w, "") + service("raw", "127.0.0.1:%d" % w.origin.port, "eject: false")),
            ("guessed", small_config(w, "") + "routes: [{ match: /, service: app, " + members(w.folder("slow users"), 300000) + " }]\n"),
            ("h2", small_config(w, "http2: { streams: 4, control_frames: 100 }\n"))]
    threads = [threading.Thread(target=run_group, args=(w, *j), daemon=True) for j in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(200)
    yield w
    for x in w.later:
        x.close()
    for x in w.closing:
        x.stop()
    w.origin.close()


HEAD_WAS_SENT = {"upstream_idle"}  # the client has the endpoint's 200 already when it happens
@pytest.mark.parametrize("reason", list(ROWS))
def test_a_request_ends_with_its_reason(world, reason):
    group, _ = ROWS[reason]
    want = REASONS[reason]
    assert reason not in world.wrong, world.wrong[reason]
    seen = world.seen[reason]
    if seen is not None and want["status"]:
        assert seen.status == want["status"]
    if seen is not None and want["status"] >= 400:
        assert 'details="%s"' % reason in seen.proxy_status
        if want["token"]:
            assert "error=%s" % want["token"] in seen.proxy_status
    events = [e for e in world.events[group] if e["reason"] == want["id"]]
    assert events, "no request event with this reason"
    assert all(e["reason_name"] == reason for e in events)
    if want["status"] and reason not in HEAD_WAS_SENT:
        assert {e["status"] for e in events} == {want["status"]}


def test_a_wait_given_up_is_told_with_its_length(world):
    """What the timeout loop rests on: how long the endpoint had been waited for when nothing came."""
    # the deadline of 200 ms counts from the first byte: a busy machine takes most of it on the way there
    for reason, least_us in (("upstream_timeout", 650000), ("deadline", 20000)):
        for e in world.events["plain"]:
            if e["reason"] == REASONS[reason]["id"]:
                assert e["upstream_us"] >= least_us, reason


def test_no_request_ended_with_a_reason_that_nobody_provoked(world):
    for group in ("plain", "few", "leaving", "proxied", "passed", "h2"):
        events = world.events[group]
        allowed = {REASONS[r]["id"] for r, (g, _) in ROWS.items() if g == group}
        allowed |= {REASONS["answered"]["id"], REASONS["no_endpoint"]["id"]}
        assert [e for e in events if e["reason"] not in allowed] == []


def test_a_tunnel_that_its_client_resets_was_cut(tmp_path):
    origin = Origin(answer)
    fold = Foldback(tmp_path, "services:\n" + service("app", "127.0.0.1:%d" % origin.port, WIDE)).start()
    try:
        w = connect(fold).send(TUNNEL)
        look(w)
        w.send("hello")
        assert w.exactly(5) == b"hello"
        w.reset()
        until(lambda: all_events(fold, "request"), 5, "the event of the tunnel")
        assert [e["reason_name"] for e in all_events(fold, "request")] == ["tunnel_cut"]
    finally:
        fold.stop()
        origin.close()


def test_every_reason_has_a_row():
    known = set(ROWS) | set(HEALTH) | set(PLACES) | set(NOT_FROM_OUTSIDE)
    wanted = {n for n, r in REASONS.items() if r["kind"] in ("REQUEST", "HEALTH")}
    assert known == wanted
