# SPDX-License-Identifier: Apache-2.0
"""`listen` changes at a reload: what stays is not touched, what is new serves, what is gone ends in peace."""
import os
import socket
import ssl
import subprocess
import sys
import time

import pytest
from fb import Foldback, Load, Origin, free_port, until
from h2_load import Connection, H2Load


class Chatter:
    """A TCP service that sends back what comes."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.code = ("import socket, sys, threading\n"
                     "l = socket.socket(fileno=int(sys.argv[1]))\n"
                     "def talk(s):\n"
                     "    while d := s.recv(4096):\n"
                     "        s.sendall(d)\n"
                     "    s.close()\n"
                     "while True:\n"
                     "    threading.Thread(target=talk, args=(l.accept()[0],), daemon=True).start()\n")
        self.process = subprocess.Popen([sys.executable, "-c", self.code, str(self.listener.fileno())],
                                        pass_fds=[self.listener.fileno()], stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.kill()
        self.process.wait(10)
        self.listener.close()


class SlowOrigin(Origin):
    """Counts who waits for /slow/."""

    def __init__(self):
        super().__init__()
        self.slow, handler = 0, self.server.RequestHandlerClass
        answer = handler.do_GET

        def counted(h):
            self.slow += h.path.startswith("/slow/")
            answer(h)
        handler.do_GET = counted


@pytest.fixture
def origin():
    o = SlowOrigin()
    yield o
    o.stop()


@pytest.fixture
def chatter():
    c = Chatter()
    yield c
    c.stop()


def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", str(folder / "site.key"), "-out", str(folder / "site.pem"), "-days", "2", "-subj",
                    "/CN=a", "-addext", "subjectAltName=DNS:a"], check=True, capture_output=True, timeout=60)


class Site(Foldback):
    """Its first line is `listen`, which change() writes anew."""

    def __init__(self, folder, origin, chatter, listens, drain="20s", **more):
        super().__init__(folder, f'''mode: act
gateway: {{ drain_timeout: {drain} }}
services:
  app:
    endpoints: ["127.0.0.1:{origin.port}"]
    objective: {{ latency: 99% < 10s }}
    tune: {{ limit: {{ min: 64 }} }}
  talk:
    endpoints: ["127.0.0.1:{chatter.port}"]
routes:
  - {{ match: /, service: app }}
''', **more)
        self.write(listens)

    def write(self, listens):
        text = open(self.file).read().split("\n", 1)[1]
        with open(self.file, "w") as f:
            f.write(f"listen: [{', '.join(listens)}]\n" + text)

    def change(self, listens):
        """The log behind the reload, when it is in force or refused."""
        at = len(self.text())
        self.write(listens)
        done = self.cli("reload")
        assert done.returncode == 0 or "stays in force" in done.stderr, done.stderr
        until(lambda: any(x in self.text()[at:] for x in ("new configuration in force", "the old configuration stays")),
              40, "an answer to the reload")
        return self.text()[at:]

    def secure(self, port, *protocols):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(list(protocols))
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname="a")

    def tls(self, port):
        return (f'{{ address: "127.0.0.1:{port}", tls: {{ cert: {self.folder}/site.pem, '
                f'key: {self.folder}/site.key }} }}')

    def descriptors(self):
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (self.process.pid, self.child("fb-gateway"))]


def plain(port):
    return f'"127.0.0.1:{port}"'


def tcp(port):
    return f'{{ address: "127.0.0.1:{port}", protocol: tcp, service: talk }}'


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), 20)
    s.settimeout(30)
    return s


def status(port, s=None):
    s = s or connect(port)
    s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    got = b""
    while more := s.recv(4096):
        got += more
    s.close()
    return got[:12]


def echo(s, text=b"hello"):
    s.sendall(text)
    got = b""
    while len(got) < len(text):
        more = s.recv(len(text) - len(got))
        assert more, f"the connection ended after {got!r}"
        got += more
    return got


def test_listeners_come_and_go_under_load(tmp_path, origin, chatter):
    certificate(tmp_path)
    kept, kept_tls, gone, fresh, fresh_tls, fresh_tcp = [free_port() for _ in range(6)]
    fold = Site(tmp_path, origin, chatter, [])
    fold.write([plain(gone), plain(kept), fold.tls(kept_tls)])
    fold.start()
    try:
        loads = {"HTTP": Load(kept, threads=2), "h2c": H2Load(lambda: connect(kept), threads=1),
                 "h2": H2Load(lambda: fold.secure(kept_tls, "h2"), threads=1)}
        until(lambda: all(x.ok > 5 for x in loads.values()), 30, "load")
        slow, idle, h2 = connect(gone), connect(gone), Connection(connect(gone))
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        got = b""
        while b"ok\n" not in got:
            got += idle.recv(4096)
        slow.sendall(b"GET /slow/3000 HTTP/1.1\r\nHost: a\r\n\r\n")
        h2.ask("/slow/3000")
        until(lambda: origin.slow >= 2, 20, "both are at the endpoint")
        log = fold.change([fold.tls(kept_tls), plain(fresh), plain(kept), fold.tls(fresh_tls), tcp(fresh_tcp)])
        assert "in force" in log, log
        assert is_refused(gone), "nobody listens at what was removed"
        assert status(fresh) == b"HTTP/1.1 200"
        assert status(0, fold.secure(fresh_tls, "http/1.1")) == b"HTTP/1.1 200"
        assert echo(connect(fresh_tcp)) == b"hello"
        got = b""
        while more := slow.recv(4096):
            got += more
        assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"ok\n"), got
        assert b"connection: close" in got.lower()
        end = time.monotonic() + 40
        while time.monotonic() < end:
            try:
                h2.read(1)
            except EOFError:
                break
        assert h2.status == {1: 200} and not h2.open
        assert h2.last is not None, "it was told to go"
        while idle.recv(4096):
            pass  # it ends soon, not with limits.idle_timeout
        was = {name: x.ok for name, x in loads.items()}
        until(lambda: all(x.ok > was[n] + 10 for n, x in loads.items()), 30, "answers after it")
        for x in loads.values():
            x.stop()
        assert {name: x.bad for name, x in loads.items() if x.bad} == {}
    finally:
        fold.stop()


def test_passed_connections_of_a_removed_listener_go_on_and_are_cut_after_the_drain(tmp_path, origin, chatter):
    kept, gone = free_port(), free_port()
    fold = Site(tmp_path, origin, chatter, [plain(kept), tcp(gone)], drain="8s").start()
    try:
        s = connect(gone)
        assert echo(s) == b"hello"
        begin = time.monotonic()
        assert "in force" in fold.change([plain(kept)])
        assert is_refused(gone)
        assert echo(s, b"still here") == b"still here"
        try:
            assert s.recv(10) == b"", "the end"
        except ConnectionResetError:
            pass
        assert time.monotonic() - begin >= 8, "not before the time of the drain"
        assert status(kept) == b"HTTP/1.1 200"
        until(lambda: "tunnel_cut" in fold.cli("events", "query", "select reason from request", "--json").stdout, 30,
              "its event says why")
    finally:
        fold.stop()


def test_what_an_address_speaks_changes_at_a_reload(tmp_path, origin, chatter):
    certificate(tmp_path)
    port, other = free_port(), free_port()
    fold = Site(tmp_path, origin, chatter, [plain(port), plain(other)])
    fold.start()
    try:
        kept = connect(port)
        kept.sendall(b"GET /slow/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200" in kept.recv(4096)
        assert "in force" in fold.change([fold.tls(port), plain(other)])
        assert status(0, fold.secure(port, "http/1.1")) == b"HTTP/1.1 200"
        assert "in force" in fold.change([tcp(port), plain(other)])
        assert echo(connect(port)) == b"hello"
        assert "in force" in fold.change([f'{{ address: "127.0.0.1:{port}", proxy_protocol: true }}', plain(other)])
        s = connect(port)
        s.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n")
        assert status(0, s) == b"HTTP/1.1 200"
        assert "in force" in fold.change([f'{{ address: "127.0.0.1:{port}", protocols: [h2] }}', plain(other)])
        h2 = Connection(connect(port))
        h2.ask("/")
        end = time.monotonic() + 20
        while h2.open and time.monotonic() < end:
            h2.read(1)
        assert h2.status == {1: 200}
        assert status(port)[:9] != b"HTTP/1.1 ", "no HTTP/1 any more"
    finally:
        fold.stop()


def test_a_port_in_use_refuses_the_whole_reload(tmp_path, origin, chatter):
    kept, gone, fresh = free_port(), free_port(), free_port()
    fold = Site(tmp_path, origin, chatter, [plain(kept), plain(gone)]).start()
    try:
        assert status(kept) == b"HTTP/1.1 200"
        before = fold.descriptors()
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            log = fold.change([plain(kept), plain(fresh), plain(taken)])
        assert f"foldback.yaml: line 1: listen[2]: cannot listen on 127.0.0.1:{taken}: another process has this port" in log
        assert "stop it" in log and "the old configuration stays" in log, log
        assert status(kept) == status(gone) == b"HTTP/1.1 200", "nothing was changed"
        assert is_refused(fresh), "what was opened for nothing is closed"
        until(lambda: all(n <= b for n, b in zip(fold.descriptors(), before)), 20, "no descriptor is left")
        log = fold.change([plain(kept), '"fd:900"'])
        assert "listen[1]: fd:900 is handed over at a start only; restart" in log and "old configuration stays" in log
        assert "in force" in fold.change([plain(kept), plain(fresh)]), "the next one may be better"
        assert status(fresh) == b"HTTP/1.1 200" and is_refused(gone)
    finally:
        fold.stop()


def test_one_address_of_a_port_becomes_all_and_one_again(tmp_path, origin, chatter):
    port, other = free_port(), free_port()
    fold = Site(tmp_path, origin, chatter, [plain(port), plain(other)]).start()
    try:
        for listens, last in (([f'":{port}"', plain(other)], "127.0.0.2"), ([f'"127.0.0.2:{port}"'], "127.0.0.2"),
                              ([f'"0.0.0.0:{port}"', plain(other)], "127.0.0.2"), ([plain(port), plain(other)], "127.0.0.1")):
            log = fold.change(listens)
            assert "in force" in log, log
            s = socket.create_connection((last, port), 20)
            assert status(port, s) == b"HTTP/1.1 200"
            if "127.0.0.2:" in listens[0]:
                assert is_refused(port), "the other addresses are gone"
        try:
            socket.create_connection(("127.0.0.2", port), 5).close()
            raise AssertionError("only one address is left")
        except ConnectionRefusedError:
            pass
        with socket.socket() as s, pytest.raises(OSError):  # another process finds the port taken
            s.bind(("127.0.0.1", port))
    finally:
        fold.stop()


def test_many_reloads_leak_no_descriptor_and_fail_no_request(tmp_path, origin, chatter):
    certificate(tmp_path)
    kept, one, two = free_port(), free_port(), free_port()
    fold = Site(tmp_path, origin, chatter, [])
    text = open(fold.file).read()
    with open(fold.file, "w") as f:
        f.write(text.replace("threads: 1", "threads: 2"))
    lists = [[plain(kept), plain(one), tcp(two)], [fold.tls(two), plain(kept)]]
    fold.write(lists[1])
    fold.start()
    try:
        for x in (lists[0], lists[1]):
            assert "in force" in fold.change(x)
        load = Load(kept, threads=2)
        until(lambda: load.ok > 5, 20, "load")
        load.stop()
        quiet = fold.descriptors()
        load = Load(kept, threads=2)
        for i in range(20):
            assert "in force" in fold.change(lists[i % 2])
            if i % 2 == 0:
                assert status(one) == b"HTTP/1.1 200" and echo(connect(two)) == b"hello"
            else:
                assert is_refused(one) and status(0, fold.secure(two, "http/1.1")) == b"HTTP/1.1 200"
        load.stop()
        assert load.bad == [] and load.ok > 20
        # connections to endpoints may be more or fewer than before; 20 leaked listeners would be many more
        until(lambda: all(n <= q + 6 for n, q in zip(fold.descriptors(), quiet)), 40, "no descriptor is left")
        assert fold.descriptors()[0] <= quiet[0], "the supervisor has what it had"
        gateway = fold.child("fb-gateway")
        os.kill(gateway, 9)
        until(lambda: fold.child("fb-gateway") not in (None, gateway), 20, "a new gateway")
        until(lambda: not is_refused(kept) and status(0, fold.secure(two, "http/1.1")) == b"HTTP/1.1 200", 20,
              "it has the newest list")
    finally:
        fold.stop()


def test_an_upgrade_behind_a_reload_hands_over_what_listens_now(tmp_path, origin, chatter):
    kept, gone, fresh, later = [free_port() for _ in range(4)]
    fold = Site(tmp_path, origin, chatter, [plain(gone), plain(kept)]).start()
    try:
        assert "in force" in fold.change([plain(kept), plain(fresh)])
        load = Load(fresh, threads=2)
        done = fold.cli("upgrade")
        assert done.returncode == 0, done.stderr + fold.text()
        assert status(kept) == b"HTTP/1.1 200" and is_refused(gone)
        assert "in force" in fold.change([plain(later), plain(fresh)])
        assert status(later) == b"HTTP/1.1 200" and is_refused(kept)
        load.stop()
        assert load.bad == [] and load.ok
    finally:
        fold.stop()


def test_an_inherited_socket_stays_through_a_reload(tmp_path, origin, chatter):
    port, fresh = free_port(), free_port()
    parent = ("import os, socket, sys\n"
              "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
              "os.dup2(s.fileno(), 9)\n"
              "os.execv(sys.argv[2], sys.argv[2:])\n")
    fold = Site(tmp_path, origin, chatter, ['"fd:9"'], within=[sys.executable, "-c", parent, str(port)]).start()
    fold.within = []
    try:
        assert status(port) == b"HTTP/1.1 200"
        assert "in force" in fold.change([plain(fresh), '"fd:9"'])
        assert status(port) == status(fresh) == b"HTTP/1.1 200"
        assert "in force" in fold.change([plain(fresh)])
        assert is_refused(port) and status(fresh) == b"HTTP/1.1 200"
    finally:
        fold.stop()
