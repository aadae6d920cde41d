# SPDX-License-Identifier: Apache-2.0
"""Scripted origins and clients over real sockets, and the proxy between them.

The proxy is the gateway driver (test/e2e/gateway_driver.c: the data plane alone) or, with FOLDBACK_BIN set, the
whole program.  GATEWAY_DRIVER names the driver; default: the newest one in <repo>/build*/test/e2e.
test/run.py asks for both and says with FB_E2E which tests each runs (see pytest_collection_modifyitems).
Every wait is bounded; every port comes from the operating system; everything is on 127.0.0.1.
"""
import glob
import json
import os
import queue
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Bounds of waits, not measures: under a sanitizer, on a machine that does other things, the whole program
# takes seconds until its gateway process answers.
WAIT_S = 30.0 if "TSAN_OPTIONS" in os.environ or "ASAN_OPTIONS" in os.environ else 20.0


def free_port():
    """Below the ports of outgoing connections: one of those may take what is free now before it is listened at."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        top = min(32000, int(f.read().split()[0]))
    for _ in range(200):
        port = random.SystemRandom().randrange(12000, top) if top > 16000 else 0
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return s.getsockname()[1]
    raise AssertionError("no free port")


class Message:
    """One parsed head with its body."""

    def __init__(self, line, fields):
        self.line, self.fields, self.body, self.trailers = line, fields, b"", []
        self.chunks = []

    def get(self, name, default=None):
        for n, v in self.fields:
            if n.lower() == name.lower():
                return v
        return default

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    @property
    def status(self):
        return int(self.line.split()[1])

    @property
    def method(self):
        return self.line.split()[0]

    @property
    def target(self):
        return self.line.split()[1]


class Wire:
    """A socket with a buffer, read message by message; used by clients and by origins."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""
        sock.settimeout(WAIT_S)

    def send(self, data):
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def fill(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def until(self, mark):
        while mark not in self.buffer:
            if not self.fill():
                raise EOFError("closed; so far: %r" % self.buffer[:200])
        part, self.buffer = self.buffer.split(mark, 1)
        return part

    def exactly(self, n):
        while len(self.buffer) < n:
            if not self.fill():
                raise EOFError("closed after %d of %d" % (len(self.buffer), n))
        part, self.buffer = self.buffer[:n], self.buffer[n:]
        return part

    def rest(self):
        try:
            while self.fill():
                pass
        except ConnectionResetError:
            pass
        part, self.buffer = self.buffer, b""
        return part

    def head(self):
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        return Message(lines[0], [tuple(x.strip() for x in l.split(":", 1)) for l in lines[1:]])

    def body(self, m):
        if "chunked" in (m.get("transfer-encoding") or ""):
            while True:
                size = int(self.until(b"\r\n").split(b";")[0], 16)
                if size == 0:
                    break
                m.chunks.append(self.exactly(size))
                assert self.exactly(2) == b"\r\n"
            m.body = b"".join(m.chunks)
            while True:
                line = self.until(b"\r\n").decode("latin-1")
                if not line:
                    break
                m.trailers.append(tuple(x.strip() for x in line.split(":", 1)))
        elif m.get("content-length"):
            m.body = self.exactly(int(m.get("content-length")))
        return m

    def request(self):
        return self.body(self.head())

    def response(self, method="GET"):
        m = self.head()
        if method == "HEAD" or m.status in (204, 304) or m.status < 200:
            return m
        if m.get("content-length") is None and not m.get("transfer-encoding"):
            m.body = self.rest()
            return m
        return self.body(m)

    def is_closed(self, wait_s=WAIT_S):
        """The peer has closed; False when it says nothing for wait_s."""
        self.sock.settimeout(wait_s)
        try:
            return self.sock.recv(1) == b""
        except (ConnectionResetError, BrokenPipeError):
            return True
        except socket.timeout:
            return False
        finally:
            self.sock.settimeout(WAIT_S)

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


def ok(body=b"ok", *fields):
    if isinstance(body, str):
        body = body.encode()
    head = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), "".join(f + "\r\n" for f in fields))
    return head.encode() + body


class Origin:
    """An endpoint.  answer(request, wire) returns bytes, or None when it has spoken itself; raising EOFError or
    returning False closes the connection."""

    def __init__(self, answer=None, port=0, raw=None):
        self.answer = answer or (lambda request, wire: ok())
        self.raw = raw
        self.requests, self.connections, self.wires = [], 0, []
        self.listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.in_flight = self.peak = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            wire = Wire(sock)
            wire.sock.settimeout(60)
            self.wires.append(wire)
            threading.Thread(target=self.serve, args=(wire,), daemon=True).start()

    def serve(self, wire):
        try:
            if self.raw:
                self.raw(wire)
                return
            while True:
                request = wire.request()
                with self.lock:
                    self.requests.append(request)
                    self.in_flight += 1
                    self.peak = max(self.peak, self.in_flight)
                try:
                    reply = self.answer(request, wire)
                finally:
                    with self.lock:
                        self.in_flight -= 1
                if reply is False:
                    break
                if reply:
                    wire.send(reply)
        except (EOFError, OSError, ValueError):
            pass
        finally:
            wire.close()

    def drop(self):
        """Closes every open connection, as a restarted server would."""
        for w in self.wires:
            try:
                w.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()
        self.drop()


class Proxy:
    def __init__(self, config, threads=2, listen='["127.0.0.1:%d"]'):
        """listen: items with %d for the port."""
        self.listen = listen
        self.dir = pytest.tmp_root.mktemp("proxy")
        self.port = free_port()
        self.threads = threads
        self.path = str(self.dir / "foldback.yaml")
        self.write(config)
        binary = os.environ.get("FOLDBACK_BIN")
        self.is_whole = bool(binary)
        with open(binary or driver(), "rb") as f:
            text = f.read()
        self.is_sanitized = b"__asan_init" in text or b"__tsan_init" in text  # its memory says nothing
        argv = [binary, "run", "--config", self.path] if binary else [driver(), self.path, str(threads)]
        self.stderr = open(str(self.dir / "stderr"), "wb")
        # c-ares 1.18 forgets ten bytes per look-up of "localhost"
        (self.dir / "lsan").write_text("leak:libcares.so\n")
        env = dict(os.environ, LSAN_OPTIONS="print_suppressions=0:suppressions=%s" % (self.dir / "lsan"))
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
                                        env=env)
        self.lines = queue.Queue()
        threading.Thread(target=self.read_lines, daemon=True).start()
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the proxy did not start: " + self.log())
                time.sleep(0.02)

    def write(self, config):
        state = "state: %s\nadmin:\n  listen: \"off\"\n" % (self.dir / "state") if os.environ.get("FOLDBACK_BIN") else ""
        # what foldback refuses because this machine is busy is the matter of test_34_overload
        calm = "" if "overload:" in config else "overload: { mode: off }\n"
        with open(self.path, "w") as f:
            f.write('listen: %s\nthreads: %d\n%s%s%s' % (self.listen % self.port, self.threads, state, calm, config))

    def log(self):
        with open(str(self.dir / "stderr"), "rb") as f:
            return f.read().decode("latin-1")

    def read_lines(self):
        for line in self.process.stdout:
            self.lines.put(line.decode("latin-1").rstrip("\n"))

    def command(self, text):
        self.process.stdin.write((text + "\n").encode())
        self.process.stdin.flush()

    def expect(self, prefix, wait_s=WAIT_S):
        deadline = time.monotonic() + wait_s
        while True:
            line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if line.startswith(prefix):
                return line

    def events(self, kind="request"):
        """Events since the last call; driver only."""
        if self.is_whole:
            pytest.skip("events are read from the rings by the driver")
        self.command("events")
        out = []
        while True:
            line = self.lines.get(timeout=WAIT_S)
            if line == ".":
                return [e for e in out if kind is None or e["type"] == kind]
            if line.startswith("{"):
                out.append(json.loads(line))

    def wait_events(self, count, wait_s=WAIT_S):
        got, deadline = [], time.monotonic() + wait_s
        while len(got) < count and time.monotonic() < deadline:
            got += self.events()
            if len(got) < count:
                time.sleep(0.02)
        return got

    def reload(self, config):
        answers = self.answers_to_reloads()
        self.write(config)
        if self.is_whole:
            self.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + WAIT_S
            while self.answers_to_reloads() == answers:
                assert time.monotonic() < deadline, "no answer to the reload: " + self.log()
                time.sleep(0.02)
            return "reloaded"
        self.command("reload " + self.path)
        deadline = time.monotonic() + WAIT_S
        while True:
            line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if line.startswith(("reloaded", "refused")):
                return line

    def answers_to_reloads(self):
        return len(re.findall("new configuration in force|the old configuration stays", self.log()))

    def drain(self):
        if self.is_whole:
            self.process.send_signal(signal.SIGTERM)
        else:
            self.command("drain")

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), WAIT_S)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Wire(s)

    def get(self, path="/", *fields, method="GET", body=None):
        w = self.connect()
        head = "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" % (method, path)
        if body is not None:
            head += "Content-Length: %d\r\n" % len(body)
        w.send(head + "".join(f + "\r\n" for f in fields) + "\r\n")
        if body:
            w.send(body)
        m = w.response(method)
        w.close()
        return m

    def gateway_pid(self):
        """The process that serves: the driver itself, or the supervisor's child."""
        if not self.is_whole:
            return self.process.pid
        deadline = time.monotonic() + WAIT_S  # the listeners are there before the child has its name
        while time.monotonic() < deadline:
            children = open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)).read().split()
            for pid in children:
                if b"__gateway" in open("/proc/%s/cmdline" % pid, "rb").read():
                    return int(pid)
            time.sleep(0.02)
        raise AssertionError("no gateway process")

    def rss_kib(self):
        if self.is_sanitized:
            return 0
        with open("/proc/%d/status" % self.gateway_pid()) as f:
            for line in f:
                if line.startswith("VmRSS"):
                    return int(line.split()[1])

    def stop(self):
        if self.process.poll() is None:
            if self.is_whole:
                self.process.terminate()
            else:
                try:
                    self.command("stop")
                except OSError:
                    pass
            try:
                self.process.wait(3 * WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the proxy did not stop")
        self.process.stdin.close()
        self.stderr.close()
        log = self.log()
        assert "Sanitizer" not in log, log
        assert "promise" not in log, log
        assert self.process.returncode == 0, "exit %s: %s" % (self.process.returncode, log)


def driver():
    named = os.environ.get("GATEWAY_DRIVER")
    if named:
        return named
    found = sorted(glob.glob(REPO + "/build*/test/e2e/gateway_driver"), key=os.path.getmtime)
    if not found:
        pytest.skip("no gateway_driver; build it or set GATEWAY_DRIVER")
    return found[-1]


def config(*origins, service="", route="", extra=""):
    """A configuration with one service over all origins; parts are indented YAML."""
    ends = ", ".join('"127.0.0.1:%d"' % (o if isinstance(o, int) else o.port) for o in origins)
    return ("%sservices:\n  app:\n    endpoints: [%s]\n%sroutes:\n  - { match: /, service: app%s }\n"
            % (extra, ends, service, route))


# Begin first, so that no worker has the others wait for it at the end; the rest fills the gaps.
LONGEST = ["test_%s.py" % x for x in (
    "53_signals", "50_loop", "63_endpoints", "52_loop_minute", "47_keys", "62_ways", "43_handlers", "43_scrape", "43_doors",
    "15_tls", "45_cache", "22_h2_endpoints", "46_compress", "82_h2_floods", "34_overload", "34_hedge", "32_discover")]
SMOKE = 2  # tests of each file that run against the whole program too


def has_world(item):
    """The test takes the fixture `world` of this file; a module's own one has the module's path."""
    found = item._fixtureinfo.name2fixturedefs.get("world")
    return bool(found) and not found[-1].baseid.endswith(".py")


def names_in(code):
    names = set(code.co_names)
    for c in code.co_consts:
        if hasattr(c, "co_names"):
            names |= names_in(c)
    return names


def reads_events(function, seen=()):
    """The test, or a function of its module that it calls, reads the events of the driver."""
    names = names_in(function.__code__)
    if names & {"events", "wait_events"}:
        return True
    near = [f for n, f in function.__globals__.items() if n in names and n not in seen and hasattr(f, "__code__")]
    return any(reads_events(f, {*seen, f.__name__}) for f in near)


def pytest_collection_modifyitems(config, items):
    """FB_E2E=driver: every test that has a world.  FB_E2E=whole: every test that has none, those marked `whole`, and
    of each file the first SMOKE that read no events.  Not set: all of them."""
    items.sort(key=lambda i: (LONGEST + [i.path.name]).index(i.path.name))
    mode = os.environ.get("FB_E2E")
    if not mode:
        return
    keep, smoke = [], {}
    for item in items:
        if mode == "driver" or not has_world(item):
            is_kept = (mode == "driver") == has_world(item)
        else:
            is_kept = item.get_closest_marker("whole") is not None
            if not is_kept and smoke.get(item.path, 0) < SMOKE and not reads_events(item.function):
                smoke[item.path] = smoke.get(item.path, 0) + 1
                is_kept = True
        if is_kept:
            keep.append(item)
    config.hook.pytest_deselected(items=[i for i in items if i not in set(keep)])
    items[:] = keep


@pytest.fixture(scope="session", autouse=True)
def _tmp(tmp_path_factory):
    pytest.tmp_root = tmp_path_factory


@pytest.fixture
def origin():
    o = Origin()
    yield o
    o.close()


@pytest.fixture
def world():
    """world.origin(...), world.proxy(...): closed at the end of the test, the proxy checked for a clean end."""

    class World:
        def __init__(self):
            self.origins, self.proxies = [], []

        def origin(self, *a, **k):
            o = Origin(*a, **k)
            self.origins.append(o)
            return o

        def proxy(self, config, threads=2, **k):
            p = Proxy(config, threads, **k)
            self.proxies.append(p)
            return p

        def pair(self, answer=None, threads=2, raw=None, **parts):
            o = self.origin(answer, raw=raw)
            return o, self.proxy(config(o, **parts), threads)

    w = World()
    yield w
    for p in w.proxies:
        p.stop()
    for o in w.origins:
        o.close()
