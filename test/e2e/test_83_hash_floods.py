# SPDX-License-Identifier: Apache-2.0
"""Floods of keys that clients choose: every table that they fill keeps its bound, and who is honest is served.

Where the hash is public (names of hosts: FNV-1a, stream ids in nghttp2: multiplication) the keys collide; where it has a
secret seed they are merely many: what colliding ones do is shown in the unit tests of cache_store, rate and tally."""
import os
import socket
import sys
import threading
import time

import pytest
from conftest import WAIT_S, Origin, ok
from h2_util import HEADERS, Raw, block, frame, literal

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback  # noqa: E402

KEYS, BATCH = 8000, 50
# cache.memory and rate_keys are taken, allocators keep some: a table without a bound would take 200 bytes a key more
RSS_KIB = 16 * 1024
HOSTS = ["shop%d.example" % i for i in range(60)]
CONFIG = """limits: {{ rate_keys: 1024 }}
cache: {{ memory: 4MiB }}
services:
  app: {{ endpoints: ["127.0.0.1:{0}"], tune: {{ limit: {{ min: 64, value: 64, max: 64 }} }} }}
  stuck: {{ endpoints: ["127.0.0.1:{0}"], sticky: {{ cookie: s }}, tune: {{ limit: {{ min: 64, value: 64, max: 64 }} }} }}
  ring: {{ endpoints: ["127.0.0.1:{0}"], balance: hash, tune: {{ limit: {{ min: 64, value: 64, max: 64 }} }} }}
routes:
{1}  - {{ match: /kept/, service: app, cache: on }}
  - {{ match: /varied/, service: app, cache: {{ vary: [X-Kind] }} }}
  - {{ match: /rated/, service: app, key: header X-User, rate_limits: [{{ rate: 1000/s, by: header X-User }}] }}
  - {{ match: /stuck/, service: stuck }}
  - {{ match: /ring/, service: ring, hash: header X-Key }}
  - {{ match: /, service: app }}
"""


def fnv(text):
    h = 0xcbf29ce484222325
    for c in text.encode():
        h = (h ^ c) * 0x100000001b3 & 0xffffffffffffffff
    return h ^ h >> 29


def hosts_in_one_place(count):
    """They begin where a configured one is: 60 names have 128 places."""
    want, found, i = fnv(HOSTS[0]) & 127, [], 0
    while len(found) < count:
        name = "h%d.test" % i
        if fnv(name) & 127 == want:
            found.append(name)
        i += 1
    return found


def rss_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("RssAnon", "RssShmem")))


@pytest.fixture(scope="module")
def fold(tmp_path_factory):
    origin = Origin(lambda r, w: ok(b"x" * 100, "Cache-Control: max-age=600"))
    routes = "".join("  - { match: { host: %s, path: / }, service: app }\n" % h for h in HOSTS)
    f = Foldback(tmp_path_factory.mktemp("floods"), CONFIG.format(origin.port, routes)).start()
    yield f
    f.stop()
    origin.close()


class Honest(threading.Thread):
    def __init__(self, fold):
        super().__init__(daemon=True)
        self.fold, self.over, self.good, self.bad = fold, False, 0, []
        self.start()

    def run(self):
        while not self.over:
            try:
                status = send(self.fold, ["GET /rated/honest HTTP/1.1\r\nHost: honest\r\nX-User: honest\r\n"])
                self.good += status == ["200"]
                if status != ["200"]:
                    self.bad.append(status)
            except OSError as e:
                self.bad.append(repr(e))
            time.sleep(0.02)

    def end(self):
        self.over = True
        self.join(WAIT_S)
        return self


def send(fold, heads):
    """All heads on one connection, <BATCH> at a time; returns the statuses."""
    s = socket.create_connection(("127.0.0.1", fold.port), WAIT_S)
    s.settimeout(WAIT_S)
    found, data = [], b""
    for at in range(0, len(heads), BATCH):
        part = heads[at:at + BATCH]
        s.sendall("".join(h + "\r\n" for h in part).encode())
        for _ in part:
            while b"\r\n\r\n" not in data:
                data += s.recv(65536)
            head, data = data.split(b"\r\n\r\n", 1)
            fields = dict(x.split(b": ", 1) for x in head.lower().split(b"\r\n")[1:])
            length = int(fields[b"content-length"])
            while len(data) < length:
                data += s.recv(65536)
            data = data[length:]
            found.append(head.split(b" ")[1].decode())
    s.close()
    return found


def head(path, *fields, host="a"):
    return "GET %s HTTP/1.1\r\nHost: %s\r\n%s" % (path, host, "".join(f + "\r\n" for f in fields))


FLOODS = {
    "cached urls": lambda i: head("/kept/%d" % i),
    "variants of one url": lambda i: head("/varied/one", "X-Kind: %d" % i),
    "users of a limit": lambda i: head("/rated/", "X-User: u%d" % i),
    "sticky cookies": lambda i: head("/stuck/", "Cookie: s=%016x" % i),
    "keys of the ring": lambda i: head("/ring/", "X-Key: k%d" % i),
    "names of fields": lambda i: head("/", *["X%d-%d: 1" % (i, k) for k in range(60)]),
    "ids of traces": lambda i: head("/", "traceparent: 00-%032x-%016x-01" % (i + 1, i + 1), "X-Request-Id: %d" % i),
}


@pytest.mark.parametrize("name", FLOODS)
def test_many_keys_cost_no_memory_and_nobody_else(fold, name):
    make = FLOODS[name]
    assert set(send(fold, [make(i) for i in range(BATCH)])) == {"200"}
    pid = fold.child("fb-gateway")
    before, honest = rss_kib(pid), Honest(fold)
    try:
        assert set(send(fold, [make(i) for i in range(KEYS)])) == {"200"}
    finally:
        honest.end()
    assert fold.child("fb-gateway") == pid, "the gateway was not restarted"
    assert rss_kib(pid) - before < RSS_KIB
    assert honest.good > 0 and not honest.bad


def test_hosts_that_collide_with_a_configured_one_go_the_common_way(fold):
    names = hosts_in_one_place(400)
    honest = Honest(fold)
    try:
        assert set(send(fold, [head("/", host=n) for n in names])) == {"200"}
        assert set(send(fold, [head("/", host=n) for n in HOSTS])) == {"200"}
    finally:
        honest.end()
    assert honest.good > 0 and not honest.bad


def test_stream_ids_and_names_that_collide_in_the_tables_of_nghttp2(fold):
    """Ids that share the upper bits after the multiplication; each stream brings twenty new names for the dynamic table."""
    ids = [i for i in range(1, 1 << 19, 2) if (i * 2654435769 & 0xffffffff) >> 24 == 0x5a][:400]
    raw, pid = Raw(fold.port), fold.child("fb-gateway")
    before, honest, answered = rss_kib(pid), Honest(fold), 0
    try:
        for at in range(0, len(ids), 20):
            for sid in ids[at:at + 20]:
                new = b"".join(b"\x40" + literal("x%d-%d" % (sid, k), "1")[1:] for k in range(20))
                raw.send(frame(HEADERS, 5, sid, block("/", extra=new)))
            deadline = time.monotonic() + WAIT_S
            while answered < at + 20 and time.monotonic() < deadline:
                raw.pump(1)
                answered = sum(f[0] == HEADERS for f in raw.frames)
    finally:
        honest.end()
        raw.close()
    assert answered == len(ids)
    assert rss_kib(pid) - before < RSS_KIB
    assert honest.good > 0 and not honest.bad
