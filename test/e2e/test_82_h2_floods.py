"""HTTP/2 attacks of the field: each ends with GOAWAY early, costs little CPU and memory, and the bystander's requests stay quick."""
import os
import struct
import threading
import time

import pytest

from conftest import WAIT_S, config, ok
from h2_util import (CALM, CONTINUATION, DATA, H2, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, Raw, block,
                     frame, literal)

TICKS = os.sysconf("SC_CLK_TCK")
# What one attack may cost: it is over after a few hundred frames.  The machine may be busy, so the bounds are wide and
# the cheaper one of two attacks counts; without budgets each costs seconds and takes as long as its sender likes.
CPU_S, RSS_KIB, LATENCY_S = 0.5, 2048, 0.25


def cpu_s(pid):
    with open("/proc/%d/stat" % pid) as f:
        part = f.read().rsplit(")", 1)[1].split()
    return (int(part[11]) + int(part[12])) / TICKS


class Bystander(threading.Thread):
    """An honest client on its own connection."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over, self.slowest, self.count, self.wrong = port, False, 0.0, 0, 0
        self.start()

    def run(self):
        c = H2(self.port)
        while not self.over:
            t = time.monotonic()
            self.wrong += c.get().status != 200
            self.slowest = max(self.slowest, time.monotonic() - t)
            self.count += 1
            time.sleep(0.005)


def streams(kill, block_of=block):
    sid = 1
    while True:
        yield b"".join(frame(HEADERS, 5, s, block_of()) + kill(s) for s in range(sid, sid + 40, 2))
        sid += 40


def repeat(data, first=b""):
    yield first
    while True:
        yield data * 50


def bomb():
    """A field of 3,000 bytes goes into the table once and is named 4,000 times in each block."""
    size = b"\x7f" + bytes([(3000 - 127) % 128 + 128, (3000 - 127) // 128])
    yield frame(HEADERS, 5, 1, block() + b"\x40\x01a" + size + b"y" * 3000)
    sid = 3
    while True:
        yield frame(HEADERS, 5, sid, block() + b"\xbe" * 4000)
        sid += 2


def big_heads():
    sid = 1
    while True:
        fields = b"".join(literal("x-%d" % i, "y" * 1000) for i in range(16))
        yield frame(HEADERS, 1, sid, fields[:16000]) + frame(CONTINUATION, 0, sid, fields[:16000]) + frame(
            CONTINUATION, 4, sid, fields[:16000])
        sid += 2


def priority_updates():
    while True:
        yield b"".join(frame(0x10, 0, 0, struct.pack(">I", s) + b"u=1") for s in range(1, 101, 2))


ATTACKS = {
    "rapid reset": lambda: streams(lambda s: frame(RST_STREAM, 0, s, b"\0\0\0\x08")),
    "made you reset: window update of nothing": lambda: streams(lambda s: frame(WINDOW_UPDATE, 0, s, b"\0\0\0\0")),
    "made you reset: window overflow": lambda: streams(lambda s: frame(WINDOW_UPDATE, 0, s, b"\x7f\xff\xff\xff")),
    "made you reset: DATA behind the end": lambda: streams(lambda s: frame(DATA, 1, s, b"x")),
    "malformed heads": lambda: streams(lambda s: b"", lambda: block(extra=literal("connection", "a"))),
    "continuation without end": lambda: repeat(frame(CONTINUATION, 0, 1, literal("a", "x" * 100)), frame(HEADERS, 1, 1, block())),
    "empty continuations": lambda: repeat(frame(CONTINUATION, 0, 1), frame(HEADERS, 1, 1, block())),
    "PING": lambda: repeat(frame(PING, 0, 0, b"12345678")),
    "SETTINGS": lambda: repeat(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100))),
    "empty SETTINGS": lambda: repeat(frame(SETTINGS, 0, 0)),
    "PRIORITY": lambda: repeat(frame(PRIORITY, 0, 3, struct.pack(">IB", 0, 1))),
    "PRIORITY_UPDATE": priority_updates,
    "WINDOW_UPDATE of one byte": lambda: repeat(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
    "frames of unknown types": lambda: repeat(frame(0x77, 0, 0, b"?")),
    "empty DATA": lambda: repeat(frame(DATA, 0, 1), frame(HEADERS, 4, 1, block(method="POST"))),
    "DATA for a refused stream": lambda: repeat(frame(DATA, 0, 1, b""), frame(HEADERS, 4, 1, block(extra=literal("te", "x")))),
    "HPACK bomb": bomb,
    "heads beyond the limit": big_heads,
}


def calm(proxy):
    """The honest client's slowest answer in a second without an attack."""
    by = Bystander(proxy.port)
    time.sleep(1)
    by.over = True
    by.join(WAIT_S)
    return by.slowest


def flood(proxy, name):
    """One attack with an honest client beside it -> what it cost: CPU, memory, the honest one's slowest answer."""
    by = Bystander(proxy.port)
    pid = proxy.gateway_pid()
    time.sleep(0.1)
    by.slowest, cpu, rss = 0.0, cpu_s(pid), proxy.rss_kib()
    r, sent, most = Raw(proxy.port), 0, rss
    for data in ATTACKS[name]():
        alive = r.send(data)
        sent += len(data)
        r.pump(0.001)
        most = max(most, proxy.rss_kib())
        if not alive or r.is_closed or sent > 40 << 20:
            break
    assert r.is_closed or not r.send(b"x") or r.goaway(1) is not None, "it goes on after %d bytes" % sent
    assert sent < 8 << 20
    time.sleep(0.2)
    by.over = True
    by.join(WAIT_S)
    assert by.count > 3 and by.wrong == 0
    return cpu_s(pid) - cpu, most - rss, by.slowest


@pytest.mark.parametrize("name", ATTACKS)
def test_a_flood_ends_early_and_harms_nobody(world, name):
    origin, proxy = world.pair(lambda m, w: ok(b"ok"), threads=1)
    bounds = CPU_S, RSS_KIB, LATENCY_S
    cost = flood(proxy, name)
    if not proxy.is_sanitized:
        if not all(c < b for c, b in zip(cost, bounds)):
            bounds = CPU_S, RSS_KIB, max(LATENCY_S, 2 * calm(proxy))
            cost = [min(c) for c in zip(cost, flood(proxy, name))]
        assert all(c < b for c, b in zip(cost, bounds)), "CPU s, KiB, slowest s: %s" % (cost,)
    assert H2(proxy.port).get().status == 200


def test_resets_by_an_honest_client_are_served(world):
    """Every second request is cancelled: that is what a hedging client does, for as long as it likes."""
    origin, proxy = world.pair(lambda m, w: ok(b"ok"), extra="http2: { resets: 20 }\n", threads=1)
    c = H2(proxy.port)
    for _ in range(120):
        s = c.begin()
        c.c.reset_stream(s, 8)
        c.flush()
        assert c.get().status == 200
    assert c.goaway is None


def test_a_client_that_never_opens_its_window_is_let_go(world):
    origin, proxy = world.pair(lambda m, w: ok(b"x" * 100000), threads=1,
                               extra="limits: { write_timeout: 500ms, min_rate_grace: 300ms }\n")
    c = H2(proxy.port, window=0)
    streams_ = [c.begin() for _ in range(50)]
    end = time.monotonic() + WAIT_S
    while any(c.answers[s].reset is None for s in streams_) and time.monotonic() < end:
        c.pump(0.2)
    assert all(c.answers[s].reset == 8 for s in streams_)


def test_answers_that_wait_for_their_reader_hold_no_slot(world):
    """Twenty shut windows and one slot: an honest client is served beside them."""
    origin, proxy = world.pair(lambda m, w: ok(b"x" * 200000), threads=1,
                               service="    tune: { limit: { min: 1, value: 1, max: 1 } }\n    queue: { wait: 5s, capacity: 50 }\n")
    c = H2(proxy.port, window=1000)
    c.reads = False
    for _ in range(5):
        c.begin()
    time.sleep(0.1)
    t = time.monotonic()
    assert H2(proxy.port).get().status == 200
    assert time.monotonic() - t < 9  # five times 250 ms, not five times the write timeout


def test_slow_parts_are_cut(world):
    origin, proxy = world.pair(lambda m, w: ok(b"ok"), threads=1,
                               extra="limits: { header_timeout: 400ms, body_timeout: 400ms, idle_timeout: 600ms }\n")
    waits = {
        "nothing behind the preface": b"",
        "half a head": frame(HEADERS, 1, 1, block()[:10]),
        "half a frame": frame(HEADERS, 5, 1, block())[:15],
    }
    conns = [Raw(proxy.port) for _ in waits]
    for r, data in zip(conns, waits.values()):
        r.send(data)
    silent = Raw(proxy.port, preface=b"PRI * HT")
    body = Raw(proxy.port)
    body.send(frame(HEADERS, 4, 1, block(method="POST")) + frame(DATA, 0, 1, b"abc"))
    assert body.wait(HEADERS) is not None  # 408
    end = time.monotonic() + WAIT_S
    for r in conns + [silent, body]:
        while not r.is_closed and time.monotonic() < end:
            r.pump(0.3)
        assert r.is_closed


def test_held_bodies_of_a_connection_are_bounded(world):
    """100 uploads to an endpoint that reads nothing: the connection window is all that they get."""
    origin = world.origin(raw=lambda w: time.sleep(30))
    proxy = world.proxy(config(origin, service="    tune: { limit: { min: 200, value: 200, max: 200 } }\n"), threads=1)
    r = Raw(proxy.port)
    assert r.wait(SETTINGS) is not None
    time.sleep(0.3)
    before = proxy.rss_kib()
    for s in range(1, 200, 2):
        r.send(frame(HEADERS, 4, s, block(method="POST")))
    sent = 0
    for _ in range(8):
        for s in range(1, 200, 2):
            if sent + 8192 <= 1 << 20:
                r.send(frame(DATA, 0, s, b"z" * 8192))
                sent += 8192
    for _ in range(10):
        r.pump(0.1)
    if not proxy.is_sanitized:
        assert proxy.rss_kib() - before < 6 * 1024
