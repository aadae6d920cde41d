# SPDX-License-Identifier: Apache-2.0
"""Endpoints on Unix sockets: every protocol, the file that goes and comes, and who may not use it."""
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import WAIT_S, ok
from h2_origin import H2Origin
from tls_util import Authority, TlsOrigin, server_context

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Load, until  # noqa: E402
from fb import Origin as HttpOrigin  # noqa: E402

BIG = os.urandom(1 << 20) * 3


class Door:
    """A Unix socket in front of a server on a port of 127.0.0.1: to foldback it is the server."""

    def __init__(self, path, origin, backlog=256):
        self.path, self.origin, self.connections, self.pairs = path, origin, 0, []
        self.listener = None
        self.open(backlog)

    def open(self, backlog=256):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(("\0" + self.path[1:]) if self.path[0] == "@" else self.path)
        self.listener.listen(backlog)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                to = socket.create_connection(("127.0.0.1", self.origin.port))
            except OSError:
                s.close()
                continue
            self.pairs += [s, to]
            for a, b in ((s, to), (to, s)):
                threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    @staticmethod
    def carry(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        with contextlib.suppress(OSError):
            b.shutdown(socket.SHUT_WR)

    def close(self, keeps_file=False):
        """As a server that ends: its file stays behind unless it takes it away."""
        with contextlib.suppress(OSError):  # else the thread in accept() holds it open
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in self.pairs:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        if not keeps_file and self.path[0] != "@":
            with contextlib.suppress(OSError):
                os.unlink(self.path)


@pytest.fixture
def folder():
    """A path must be short; those of pytest are not."""
    d = tempfile.mkdtemp(prefix="fbu", dir="/tmp")
    os.chmod(d, 0o755)
    yield d
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture
def door(folder, world):
    def make(origin, name="a.sock"):
        d = Door(os.path.join(folder, name) if name[0] != "@" else name, origin)
        world.origins.append(d)
        return d
    return make


def text_of(*addresses, service="", tail="routes:\n  - { match: /, service: app }\n"):
    return "services:\n  app:\n    endpoints: [%s]\n%s%s" % (", ".join('"%s"' % a for a in addresses), service, tail)


def unix(d):
    return "unix:" + d.path


# ---- protocols ----

def test_requests_share_a_kept_connection_and_keep_the_host_of_the_client(world, door):
    origin = world.origin(lambda r, w: ok(r.body + b"!"))
    d = door(origin)
    proxy = world.proxy(text_of(unix(d)), 1)
    for i in range(5):
        m = proxy.get("/x?y=%d" % i, method="POST", body=b"part%d" % i)
        assert (m.status, m.body) == (200, b"part%d!" % i)
    assert [r.get("host") for r in origin.requests] == ["test"] * 5
    assert origin.requests[0].get("x-forwarded-for") == "127.0.0.1"
    assert d.connections == 1


def test_an_abstract_socket_and_a_socket_with_a_file_are_two_endpoints(world, door):
    first, second = (world.origin(lambda r, w, n=n: ok(n)) for n in (b"file", b"abstract"))
    a, b = door(first), door(second, "@foldback-e2e-%d" % os.getpid())
    proxy = world.proxy(text_of(unix(a), unix(b), service="    balance: round-robin\n"), 1)
    assert {proxy.get("/").body for _ in range(8)} == {b"file", b"abstract"}


def test_large_bodies_arrive_whole_in_both_directions(world, door):
    def answer(request, wire):
        return ok(BIG, "X-Sum: " + hashlib.sha256(request.body).hexdigest())
    d = door(world.origin(answer))
    proxy = world.proxy(text_of(unix(d)), 1)
    for _ in range(4):  # from the second on the answers are known to be large
        m = proxy.get("/", method="POST", body=BIG)
        assert m.status == 200 and m.get("x-sum") == hashlib.sha256(BIG).hexdigest()
        assert hashlib.sha256(m.body).digest() == hashlib.sha256(BIG).digest()
    assert d.connections == 1


def test_a_web_socket_becomes_a_tunnel(world, door):
    def answer(request, wire):
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := wire.sock.recv(65536):
            wire.sock.sendall(data)
        return False
    d = door(world.origin(answer))
    proxy = world.proxy(text_of(unix(d)), 1)
    w = proxy.connect()
    w.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
    assert w.head().status == 101
    for part in (b"\x81\x02hi", b"x" * 200000):
        w.send(part)
        assert w.exactly(len(part)) == part


def test_http2_without_tls(world, door):
    origin = H2Origin(lambda st: st.ok(st.body + b"!"))
    world.origins.append(origin)
    proxy = world.proxy(text_of(unix(door(origin)), service="    protocol: h2c\n"), 1)
    for _ in range(3):
        m = proxy.get("/", method="POST", body=b"hello")
        assert (m.status, m.body) == (200, b"hello!")
    assert origin.requests[0].get(":authority") == "test"


def test_tls_asks_for_localhost_unless_a_name_is_given(world, door, tmp_path):
    ca = Authority(str(tmp_path))
    for names, more, want in ((("localhost",), "", 200), (("app.test",), "", 502),
                              (("app.test",), ", name: app.test", 200)):
        origin = TlsOrigin(server_context(*ca.leaf(*names)), lambda r, w: ok())
        world.origins.append(origin)
        d = door(origin, "%s%d" % (names[0], want))
        proxy = world.proxy(text_of(unix(d), service="    tls: { ca: %s%s }\n" % (ca.cert, more)), 1)
        m = proxy.get("/")
        assert m.status == want, (names, more, m.get("proxy-status"))


def test_connections_are_passed_through(world, door):
    def echo(wire):
        while data := wire.sock.recv(65536):
            wire.sock.sendall(data)
    d = door(world.origin(raw=echo))
    proxy = world.proxy(text_of(unix(d), tail=""), 1,
                        listen='[{ address: "127.0.0.1:%d", protocol: tcp, service: app }]')
    w = proxy.connect()
    for part in (b"\0\1\2", b"x" * 100000):
        w.send(part)
        assert w.exactly(len(part)) == part
    got = []
    reader = threading.Thread(target=lambda: got.append(w.exactly(len(BIG))))  # else both sides wait to be read
    reader.start()
    w.sock.settimeout(WAIT_S)
    w.sock.sendall(BIG)
    reader.join(WAIT_S)
    assert got and hashlib.sha256(got[0]).digest() == hashlib.sha256(BIG).digest()
    w.sock.shutdown(socket.SHUT_WR)
    assert w.rest() == b""


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_proxy_header_tells_the_real_client(world, door, version):
    heads = []

    def raw(wire):
        if version == "v1":
            heads.append(wire.until(b"\r\n"))
        else:
            fixed = wire.exactly(16)
            heads.append(fixed + wire.exactly(struct.unpack("!H", fixed[14:])[0]))
        wire.request()
        wire.send(ok())
    d = door(world.origin(raw=raw))
    proxy = world.proxy(text_of(unix(d), service="    proxy_protocol: %s\n" % version), 1)
    w = proxy.connect()
    port = w.sock.getsockname()[1]
    assert w.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").response().status == 200
    if version == "v1":
        assert b"TCP4 127.0.0.1 127.0.0.1 %d %d" % (port, proxy.port) in heads[0]
    else:
        assert heads[0][16:] == socket.inet_aton("127.0.0.1") * 2 + struct.pack("!HH", port, proxy.port)


# ---- what goes wrong ----

def why(m):
    return m.get("proxy-status").split('details="')[1].rstrip('"')


def test_a_file_that_goes_is_no_answer_and_one_that_comes_back_is(world, door):
    d = door(world.origin())
    proxy = world.proxy(text_of(unix(d)), 1)
    assert proxy.get("/").status == 200
    for keeps_file in (True, False):  # a server that was killed; one that cleaned up behind it
        d.close(keeps_file)
        until(lambda: proxy.get("/").status != 200, WAIT_S, "the loss is seen")
        m = proxy.get("/")
        assert (m.status, why(m)) == (502, "connect_refused")
        if keeps_file:  # the next word of that is due five seconds later
            assert "nobody listens there" in proxy.log()
        if keeps_file:
            os.unlink(d.path)
        d.open()
        until(lambda: proxy.get("/").status == 200, WAIT_S, "it is found again")


def test_the_log_says_that_the_file_is_missing(world, folder):
    proxy = world.proxy(text_of("unix:%s/none" % folder), 1)
    m = proxy.get("/")
    assert (m.status, why(m)) == (502, "connect_refused")
    assert "no connection to unix:%s/none: the file does not exist" % folder in proxy.log()


def test_another_endpoint_serves_while_the_file_is_away(world, door):
    a, b = (world.origin(lambda r, w, n=n: ok(n)) for n in (b"a", b"b"))
    d = door(a)
    proxy = world.proxy(text_of(unix(d), "127.0.0.1:%d" % b.port, service="    balance: round-robin\n"), 1)
    seen = lambda: {proxy.get("/").body for _ in range(8)}  # noqa: E731
    until(lambda: seen() == {b"a", b"b"}, WAIT_S, "both serve")
    d.close()
    bad = []
    until(lambda: {(bad.append(m.status) if m.status != 200 else None, m.body)[1]
                   for m in (proxy.get("/") for _ in range(8))} == {b"b"}, WAIT_S, "one serves")
    assert bad == []
    d.open()
    until(lambda: seen() == {b"a", b"b"}, WAIT_S, "both serve again")


def test_a_full_backlog_goes_elsewhere_and_alone_is_an_answer(world, folder):
    path = os.path.join(folder, "full")
    full = socket.socket(socket.AF_UNIX)
    full.bind(path)
    full.listen(0)
    held = []
    while True:  # until there is no room for one more
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        held.append(s)
        try:
            s.connect(path)
        except BlockingIOError:
            break
    b = world.origin(lambda r, w: ok(b"b"))
    alone = world.proxy(text_of("unix:" + path), 1)
    m = alone.get("/")
    assert (m.status, why(m)) == (504, "connect_timeout")
    assert "its queue of new connections is full" in alone.log()
    both = world.proxy(text_of("unix:" + path, "127.0.0.1:%d" % b.port, service="    balance: round-robin\n"), 1)
    assert [both.get("/").body for _ in range(6)] == [b"b"] * 6
    for s in [full, *held]:
        s.close()


def test_a_check_of_health_sees_the_file_go_and_come(world, door):
    origin = world.origin()
    d = door(origin)
    other = world.origin(lambda r, w: ok(b"other"))
    proxy = world.proxy(text_of(unix(d), "127.0.0.1:%d" % other.port,
                                service="    health: { path: /up, interval: 100ms, rise: 1, fall: 1 }\n"), 1)
    until(lambda: any(r.target == "/up" for r in list(origin.requests)), WAIT_S, "it is asked")
    assert [r.get("host") for r in list(origin.requests) if r.target == "/up"][0] == "localhost"
    d.close()
    until(lambda: {proxy.get("/").body for _ in range(8)} == {b"other"}, WAIT_S, "it is out")
    count = len(origin.requests)
    d.open()
    until(lambda: any(r.target == "/" for r in list(origin.requests)[count:]) or proxy.get("/").status != 200, WAIT_S,
          "it is in again")


# ---- the whole program ----

class UnixOrigin(HttpOrigin):
    def __init__(self, path):
        super().__init__()
        self.door = Door(path, self)
        self.address = "unix:" + path

    def stop(self):
        self.door.close()
        super().stop()


@pytest.fixture
def origins(folder):
    all_ = [UnixOrigin(os.path.join(folder, n)) for n in ("a.sock", "b.sock")]
    yield all_
    for o in all_:
        o.stop()


def members(fold):
    return {e["address"]: e for e in fold.api("GET", "/v1/services/app/endpoints", timeout_s=WAIT_S)["endpoints"]
            if e["is_in_force"]}


def metrics(fold):
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    with open(where["token_file"]) as f:
        token = f.read().strip()
    c = http.client.HTTPConnection(where["address"], timeout=WAIT_S)
    try:
        c.request("GET", "/metrics", headers={"Authorization": "Bearer " + token})
        return c.getresponse().read().decode()
    finally:
        c.close()


def started(tmp_path, text, **k):
    f = Foldback(tmp_path, "mode: act\n" + text, **k)
    f.start()
    return f


def test_endpoints_come_and_go_through_the_api_under_load(tmp_path, origins):
    a, b = origins
    fold = started(tmp_path, text_of(a.address, service="    balance: round-robin\n"))
    try:
        load = Load(fold.port)
        until(lambda: load.ok > 5, WAIT_S, "requests")
        done = fold.cli("endpoint", "add", "app", b.address, "--weight", "50", "--timeout", "30")
        assert done.returncode == 0 and b.address + " is in app with weight 50 %" in done.stdout, done
        seen = b.hits
        until(lambda: b.hits > seen + 3, WAIT_S, "requests at the new one")
        assert b.address in fold.cli("endpoint", "list", "app").stdout
        # the file that keeps it is read anew by a reload
        assert fold.cli("reload").returncode == 0
        seen = b.hits
        until(lambda: b.hits > seen + 3, WAIT_S, "requests after the reload")
        done = fold.cli("endpoint", "remove", "app", b.address, "--timeout", "30")
        assert done.returncode == 0 and "has left app" in done.stdout, done
        load.stop()
        assert load.bad == [] and load.ok > 0, load.bad[:5]
        for wrong in ("unix:relative", "unix:/a b", "unix:/" + "x" * 120):
            done = fold.cli("endpoint", "add", "app", wrong)
            assert done.returncode != 0 and "unix:" in done.stderr, done
    finally:
        fold.stop()


def test_its_address_is_the_same_text_everywhere(tmp_path, origins):
    a, b = origins
    lists = tmp_path / "list.yaml"
    lists.write_text('["%s"]\n' % b.address)
    fold = started(tmp_path, text_of(a.address, "file://%s" % lists, service="    balance: round-robin\n"))
    try:
        names = {"app " + a.address, "app " + b.address}
        until(lambda: {e["name"] for e in fold.api("GET", "/v1/endpoints")["endpoints"]} == names, WAIT_S, "names")
        for _ in range(8):
            assert fold.get() == 200
        assert a.hits and b.hits
        assert a.address in fold.cli("status").stdout
        shown = fold.cli("why", "app " + a.address).stdout
        assert a.address in shown and "cannot be reached" not in shown
        assert 'endpoint="app %s"' % a.address in metrics(fold)
        assert a.address in fold.cli("get").stdout
        assert fold.cli("drain", "app " + a.address).returncode == 0
        until(lambda: members(fold)[a.address]["is_drained"], WAIT_S, "drained")
        until(lambda: "app " + a.address in fold.cli("events", "tail", "--from-offset", "0", "--type", "name").stdout,
              WAIT_S, "events name it")
        # the list changes: that endpoint leaves
        lists.write_text('["127.0.0.1:%d"]\n' % b.port)
        until(lambda: set(members(fold)) == {a.address, "127.0.0.1:%d" % b.port}, WAIT_S, "it left")
    finally:
        fold.stop()


def test_why_and_doctor_and_check_say_what_is_wrong_with_the_file(tmp_path, origins):
    a, b = origins
    fold = started(tmp_path, text_of(a.address, b.address))
    try:
        a.door.close()
        until(lambda: "the file does not exist" in fold.cli("why", a.address).stdout, WAIT_S, "why says it")
        until(lambda: "the file does not exist" in fold.cli("doctor").stdout, WAIT_S, "doctor says it")
        done = fold.cli("check", "--config", fold.file)
        assert a.address + ": the file does not exist" in done.stdout, done
        a.door.open()
        assert "the file does not exist" not in fold.cli("why", a.address).stdout
    finally:
        fold.stop()


def test_without_permission_it_says_so(tmp_path, origins):
    """foldback as nobody when this is root, who may everything; the socket is for its owner alone."""
    a, b = origins
    os.chmod(a.door.path, 0o600 if os.geteuid() == 0 else 0o000)
    within = []
    if os.geteuid() == 0:
        within = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        folder = tempfile.mkdtemp(prefix="fbn", dir="/tmp")
        os.chmod(folder, 0o777)
    else:
        folder = str(tmp_path)
    fold = started(folder, text_of(a.address), within=within)
    try:
        assert fold.get() == 502
        assert "no permission" in fold.text()
        assert "no permission" in fold.cli("why", a.address).stdout
        os.chmod(a.door.path, 0o666)
        until(lambda: fold.get() == 200, WAIT_S, "it may")
    finally:
        fold.stop()
        if folder != str(tmp_path):
            shutil.rmtree(folder, ignore_errors=True)


# ---- listening at one ----

class Seen(HttpOrigin):
    """Keeps the fields of the last request."""

    def __init__(self):
        super().__init__()
        handler = self.server.RequestHandlerClass
        origin, answer = self, handler.do_GET

        def keep(self):
            origin.fields = dict(self.headers.items())
            answer(self)
        handler.do_GET = keep


def ask_at(path, target="/", **fields):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(WAIT_S)
    s.connect(path)
    c = http.client.HTTPConnection("localhost")
    c.sock = s
    try:
        c.request("GET", target, headers=fields)
        r = c.getresponse()
        r.read()
        return r.status
    finally:
        c.close()


def listening(tmp_path, path, origin, more="", route="", **k):
    text = ("%sservices:\n  app: { endpoints: [\"127.0.0.1:%d\"] }\nroutes:\n  - { match: /, service: app%s }\n"
            % (more, origin.port, route))
    return started(tmp_path, text, listen='["{host}:%d", "unix:' + path + '"]', **k)


@pytest.fixture
def seen():
    o = Seen()
    yield o
    o.stop()


def test_clients_come_by_a_unix_socket(tmp_path, folder, seen):
    path = os.path.join(folder, "web.sock")
    fold = listening(tmp_path, path, seen, more="gateway: { forwarded: both }\n")
    try:
        assert os.stat(path).st_mode & 0o777 == 0o660
        assert ask_at(path, Host="shop.test") == 200
        assert (seen.fields["Host"], seen.fields["X-Forwarded-For"]) == ("shop.test", "unix")
        assert seen.fields["Forwarded"].startswith("for=unknown;")
        assert fold.get() == 200 and seen.fields["X-Forwarded-For"] == "127.0.0.1"
        done = fold.cli("check", "--config", fold.file)
        assert "unix:%s is held by the running foldback" % path in done.stdout, done
    finally:
        fold.stop()


def test_all_clients_there_are_one_by_address_and_in_no_network(tmp_path, folder, seen):
    path = os.path.join(folder, "web.sock")
    fold = listening(tmp_path, path, seen, route=", rate_limits: [{ rate: 1/h, burst: 2, by: address }]")
    try:
        assert [ask_at(path) for _ in range(3)] == [200, 200, 429]
        assert fold.get() == 200
    finally:
        fold.stop()
    other = tmp_path / "other"
    other.mkdir()
    fold = listening(other, path, seen, route=", allow: [127.0.0.0/8]")  # also: the file of before is replaced
    try:
        assert ask_at(path) == 403 and fold.get() == 200
    finally:
        fold.stop()


def test_the_client_that_a_trusted_proxy_names_counts_there_too(tmp_path, folder, seen):
    path = os.path.join(folder, "web.sock")
    fold = listening(tmp_path, path, seen, more="gateway: { trust_forwarded: true }\n",
                     route=", rate_limits: [{ rate: 1/h, burst: 1, by: address }], deny: [192.0.2.9]")
    try:
        for who, want in (("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2", 200), ("192.0.2.9", 403)):
            assert ask_at(path, **{"X-Forwarded-For": who}) == want, who
        assert seen.fields["X-Forwarded-For"] == "192.0.2.2, unix"
    finally:
        fold.stop()


def test_two_threads_share_it(world, folder):
    origin = world.origin()
    path = os.path.join(folder, "web.sock")
    proxy = world.proxy(text_of("127.0.0.1:%d" % origin.port), 2, listen='["127.0.0.1:%d", "unix:' + path + '"]')
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: ask_at(path), range(100))) == [200] * 100
    assert proxy.get("/").status == 200


def test_a_file_left_behind_is_replaced_and_one_in_use_is_not(tmp_path, folder, seen):
    path = os.path.join(folder, "web.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    fold = listening(tmp_path, path, seen)
    try:
        assert ask_at(path) == 200
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(AssertionError, match="another process listens there"):
            listening(other, path, seen)
        assert ask_at(path) == 200
    finally:
        fold.stop()
    os.unlink(path)
    with open(path, "w") as f:
        f.write("no socket")
    third = tmp_path / "third"
    third.mkdir()
    with pytest.raises(AssertionError, match="is no socket"):
        listening(third, path, seen)
    with open(path) as f:
        assert f.read() == "no socket"


def test_a_reload_brings_and_takes_it_and_an_upgrade_keeps_it(tmp_path, folder, seen):
    a, b = (os.path.join(folder, n) for n in ("a.sock", "b.sock"))
    fold = listening(tmp_path, a, seen)
    try:
        with open(fold.file) as f:
            text = f.read()
        with open(fold.file, "w") as f:
            f.write(text.replace("unix:" + a, "unix:" + b))
        assert fold.cli("reload").returncode == 0
        until(lambda: os.path.exists(b) and ask_at(b) == 200, WAIT_S, "the new one serves")
        until(lambda: not os.path.exists(a), WAIT_S, "the old one is gone")
        kept = os.stat(b).st_ino
        done = fold.cli("upgrade", "--timeout", "60")
        assert done.returncode == 0, done
        assert [ask_at(b) for _ in range(4)] == [200] * 4 and os.stat(b).st_ino == kept
    finally:
        fold.stop()
