# SPDX-License-Identifier: Apache-2.0
"""Endpoints by SRV records and by lists in files, changed under load: no request may fail."""
import json
import os
import resource
import socket
import struct
import threading
import time

import pytest
from conftest import WAIT_S, ok

pytestmark = pytest.mark.short


class Dns:
    """A name server on 127.0.0.1.  records: {(name, type): [rdata, ...]}; a missing name is NXDOMAIN."""
    A, AAAA, SRV = 1, 28, 33

    def __init__(self, ttl=1):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port, self.ttl, self.records, self.is_broken, self.asked = self.sock.getsockname()[1], ttl, {}, False, []
        self.silent = set()  # names that it takes its time for
        threading.Thread(target=self.run, daemon=True).start()

    @staticmethod
    def name(text):
        return b"".join(bytes([len(p)]) + p.encode() for p in text.split(".")) + b"\0"

    def srv(self, name, *targets):
        """targets: (priority, weight, port, host)"""
        self.records[name, self.SRV] = [struct.pack(">HHH", *t[:3]) + self.name(t[3]) for t in targets]

    def a(self, name, *addresses):
        self.records[name, self.A] = [socket.inet_aton(x) for x in addresses]

    def run(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(2048)
            except OSError:
                return
            at, labels = 12, []
            while data[at]:
                labels.append(data[at + 1:at + 1 + data[at]].decode().lower())
                at += data[at] + 1
            name, kind = ".".join(labels), struct.unpack(">H", data[at + 1:at + 3])[0]
            question = data[12:at + 5]
            self.asked.append((name, kind))
            if name in self.silent:
                continue
            known = any(n == name for n, _ in self.records)
            got = [] if self.is_broken else self.records.get((name, kind), [])
            code = 2 if self.is_broken else 0 if known else 3
            answer = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, self.ttl, len(r)) + r for r in got)
            try:
                self.sock.sendto(data[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(got), 0, 0) + question + answer,
                                 peer)
            except OSError:
                return

    def close(self):
        self.sock.close()


@pytest.fixture
def dns():
    server = Dns()
    yield server
    server.close()


class Load:
    """Asks all the time over two connections at once; every answer must be 200."""

    def __init__(self, proxy):
        self.proxy, self.bad, self.bodies, self.is_over = proxy, [], [], False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(2)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.is_over:
            try:
                m = self.proxy.get("/")
                self.bodies.append(m.body.decode())
                if m.status != 200:
                    self.bad.append((m.status, m.get("proxy-status")))
            except (OSError, EOFError) as e:
                self.bad.append(repr(e))
            time.sleep(0.002)

    def until(self, wanted, wait_s=30):
        """Waits until the next 30 answers came from just these."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            begin = len(self.bodies)
            while len(self.bodies) < begin + 30 and time.monotonic() < deadline + 3:
                time.sleep(0.01)
            if set(self.bodies[begin:begin + 30]) == wanted:
                return True
        return False

    def end(self):
        self.is_over = True
        for t in self.threads:
            t.join(5)
        return self.bad


def named(world, count):
    return [world.origin(lambda r, w, i=i: ok(str(i))) for i in range(count)]


def text_of(endpoint, dns=None, service="    balance: round-robin\n"):
    return ("%sservices:\n  app:\n    endpoints: [%s]\n%sroutes:\n  - { match: /, service: app }\n"
            % ("dns: { servers: \"127.0.0.1:%d\" }\n" % dns.port if dns else "", endpoint, service))


def ready(proxy, wait_s=5):
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if proxy.get("/").status == 200:
            return True
        time.sleep(0.05)
    return False


# ---- SRV ----

def test_srv_records_are_followed_and_no_request_fails(world, dns):
    ups = named(world, 3)
    dns.a("node.test", "127.0.0.1")
    dns.a("other.test", "127.0.0.1")
    dns.srv("_http._tcp.shop.test", (1, 10, ups[0].port, "node.test"), (1, 10, ups[1].port, "node.test"))
    proxy = world.proxy(text_of('"dns+srv://_http._tcp.shop.test"', dns))
    assert ready(proxy)
    load = Load(proxy)
    assert load.until({"0", "1"})
    dns.srv("_http._tcp.shop.test", (1, 10, ups[1].port, "node.test"), (1, 10, ups[2].port, "node.test"))
    assert load.until({"1", "2"})
    # a whole new set under a name that was never asked for: the old one serves until it is known
    dns.srv("_http._tcp.shop.test", (1, 10, ups[0].port, "other.test"))
    assert load.until({"0"})
    dns.is_broken = True
    time.sleep(2.5)
    assert load.until({"0"}), "a failing server changes nothing"
    dns.is_broken = False
    dns.srv("_http._tcp.shop.test", (1, 10, ups[2].port, "node.test"))
    assert load.until({"2"})
    assert load.end() == []


def test_srv_weights_are_shares_and_priorities_are_tiers(world, dns):
    ups = named(world, 3)
    dns.a("node.test", "127.0.0.1")
    dns.srv("_http._tcp.shop.test", (20, 50, ups[2].port, "node.test"), (10, 75, ups[0].port, "node.test"),
            (10, 25, ups[1].port, "node.test"))
    proxy = world.proxy(text_of('"dns+srv://_http._tcp.shop.test"', dns, "    balance: weighted\n"))
    assert ready(proxy)
    got = [proxy.get("/").body.decode() for _ in range(80)]
    assert "2" not in got
    assert 50 <= got.count("0") <= 70, got.count("0")
    for o in ups[:2]:
        o.listener.shutdown(socket.SHUT_RDWR)
        o.close()
    assert all(m.status == 200 for m in [proxy.get("/") for _ in range(40)])
    assert proxy.get("/").body == b"2"


def test_an_srv_name_without_records_is_said(world, dns):
    dns.a("node.test", "127.0.0.1")
    dns.srv("_http._tcp.empty.test", (0, 0, 1, ""))  # target ".": decidedly not available
    proxy = world.proxy(text_of('"dns+srv://_http._tcp.empty.test"', dns))
    deadline = time.monotonic() + 5
    while "_http._tcp.empty.test" not in proxy.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "no usable SRV record" in proxy.log()
    assert "dns_failed" in proxy.get("/").get("proxy-status")


# ---- lists in files ----

def put(path, text):
    """Whole or not at all."""
    draft = str(path) + ".new"
    with open(draft, "w") as f:
        f.write(text)
    os.rename(draft, path)


def listed(*origins):
    return "".join('- "127.0.0.1:%d"\n' % o.port for o in origins)


def test_a_list_is_followed_in_place_and_by_rename(world, tmp_path):
    ups = named(world, 3)
    path = tmp_path / "endpoints.yaml"
    path.write_text(listed(ups[0], ups[1]))
    proxy = world.proxy(text_of('"file://%s"' % path))
    assert ready(proxy)
    load = Load(proxy)
    assert load.until({"0", "1"})
    put(path, listed(ups[1], ups[2]))
    assert load.until({"1", "2"}, 3)
    path.write_text(json.dumps({"endpoints": [{"address": "127.0.0.1:%d" % ups[0].port, "weight": "50%"}]}))
    assert load.until({"0"}, 3)
    put(path, listed(*ups))
    assert load.until({"0", "1", "2"}, 3)
    assert load.end() == []
    assert 228 in [e["reason"] for e in proxy.events("health")], "health_list_read"


@pytest.mark.parametrize("broken, says", [
    ("- [", "not YAML"), ("", "endpoints"), ("[]", "at least one endpoint"), ("endpoints: 7\n", "endpoints"),
    ('- "nonsense"\n', "HOST:PORT"), ("- { address: \"1.2.3.4:5\", colour: red }\n", "colour"),
    ('- "file:///etc/passwd"\n', "cannot name another file"), (None, "No such file"),
])
def test_a_broken_list_keeps_the_old_one_and_says_why(world, tmp_path, broken, says):
    ups = named(world, 2)
    path = tmp_path / "endpoints.yaml"
    path.write_text(listed(*ups))
    proxy = world.proxy(text_of('"file://%s"' % path))
    assert ready(proxy)
    load = Load(proxy)
    if broken is None:
        path.unlink()
    else:
        put(path, broken)
    deadline = time.monotonic() + 5
    while str(path) + ": " not in proxy.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    line = [l for l in proxy.log().splitlines() if str(path) in l and "stay in use" in l][-1]
    assert says in line, line
    assert load.until({"0", "1"}, 3)
    put(path, listed(ups[1]))
    assert load.until({"1"}, 4)
    assert load.end() == []
    assert 227 in [e["reason"] for e in proxy.events("health")], "health_list_bad"


def test_a_list_that_could_not_be_read_is_read_later(world, tmp_path):
    ups = named(world, 2)
    path = tmp_path / "endpoints.yaml"
    path.write_text(listed(ups[0]))
    proxy = world.proxy(text_of('"file://%s"' % path))
    assert ready(proxy)
    soft, hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (3, hard))
    put(path, listed(ups[1]))
    deadline = time.monotonic() + WAIT_S
    while "Too many open files" not in proxy.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    load = Load(proxy)
    assert load.until({"1"}, WAIT_S)
    assert load.end() == []
    assert proxy.log().count("Too many open files") == 1


def test_a_list_behind_a_link_that_is_switched(world, tmp_path):
    ups = named(world, 2)
    for i in range(2):
        (tmp_path / ("v%d" % i)).mkdir()
        (tmp_path / ("v%d" % i) / "list.yaml").write_text(listed(ups[i]))
    os.symlink("v0", tmp_path / "data")
    os.symlink("data/list.yaml", tmp_path / "list.yaml")  # as config maps are mounted
    proxy = world.proxy(text_of('"file://%s"' % (tmp_path / "list.yaml")))
    assert ready(proxy)
    load = Load(proxy)
    assert load.until({"0"})
    os.symlink("v1", tmp_path / "data.new")
    os.rename(tmp_path / "data.new", tmp_path / "data")
    assert load.until({"1"}, 4)
    assert load.end() == []


def test_a_list_may_name_names_and_keeps_what_was_learned(world, dns, tmp_path):
    ups = named(world, 2)
    dns.a("node.test", "127.0.0.1")
    path = tmp_path / "list.yaml"
    path.write_text('- "dns://node.test:%d"\n' % ups[0].port)
    proxy = world.proxy(text_of('{ address: "file://%s", zone: east }' % path, dns))
    assert ready(proxy)
    load = Load(proxy)
    assert load.until({"0"})
    proxy.events("health")
    put(path, '- "dns://node.test:%d"\n- "127.0.0.1:%d"\n' % (ups[0].port, ups[1].port))
    assert load.until({"0", "1"})
    said = [e["reason"] for e in proxy.events("health")]
    assert said.count(211) == 1 and 212 not in said, "only the new one joined: %s" % said
    put(path, '- "127.0.0.1:%d"\n' % ups[1].port)
    assert load.until({"1"})
    assert load.end() == []
