# SPDX-License-Identifier: Apache-2.0
"""A greedy user beside ten modest ones on the whole program, its loops on: 10 and 100 times their requests, HTTP/1 and HTTP/2.

The service does 100 requests a second, whatever else the machine does: four at once, 40 ms each.  The modest ones ask 60 or 40 of
them, the greedy one as much again or ten times as much.  `pytest -s` prints share and latency of each user."""
import os
import socket
import statistics
import sys
import threading
import time

import pytest
from conftest import WAIT_S, Origin, Wire, ok
from h2_util import H2

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback  # noqa: E402

pytestmark = pytest.mark.alone

SERVICE_S, SLOTS = 0.04, 4
MODEST, RUN_S, SKIP_S, OBJECTIVE_S = 10, 10.0, 3.0, 2.0
CONNECTIONS, STREAMS = 160, 4 * 90  # of the greedy one, at most at once: more than are served while one may wait
CONFIG = """mode: act
services:
  app:
    endpoints: ["127.0.0.1:{0}"]
    objective: {{ latency: 99% < {1}ms }}
    tune: {{ limit: {{ min: {2}, value: {2}, max: {2} }} }}
routes:
  - {{ match: /, service: app, {3} }}
"""


@pytest.fixture
def start(tmp_path):
    made = []

    def stop():
        for fold, origin in made:
            fold.stop()
            origin.close()
        made.clear()

    def run(key):
        stop()
        origin = Origin(lambda m, w: time.sleep(SERVICE_S) or ok())
        folder = tmp_path / ("%d" % time.monotonic_ns())
        folder.mkdir()
        fold = Foldback(folder, CONFIG.format(origin.port, int(OBJECTIVE_S * 1000), SLOTS, key)).start()
        made.append((fold, origin))
        return fold

    yield run
    stop()


class User:
    """<rate> requests a second from <begun> on; `seen` has (sent, status, seconds) of each."""

    def __init__(self, port, name, protocol, rate, begun, at_once, source="127.0.0.1"):
        self.port, self.name, self.rate, self.begun, self.seen = port, name, rate, begun, []
        run = self.streams if protocol == 2 else self.wire
        count = max(1, at_once // 90) if protocol == 2 else at_once
        self.at_once, self.source, self.count = at_once // count, source, 0
        self.threads = [threading.Thread(target=run, args=(i, rate / count), daemon=True) for i in range(count)]
        for t in self.threads:
            t.start()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), WAIT_S, source_address=(self.source, 0))

    def who(self):
        """"?" is somebody else each time."""
        self.count += 1
        return self.name if self.name != "?" else "x%d" % self.count

    def dues(self, index, rate):
        due = self.begun + (index + 0.37) / self.rate
        while due < self.begun + RUN_S:
            yield due
            due += 1 / rate

    def wire(self, index, rate):
        w = Wire(self.connect())
        for due in self.dues(index, rate):
            time.sleep(max(0, due - time.monotonic()))
            sent = time.monotonic()
            if sent > self.begun + RUN_S:
                break
            w.send("GET / HTTP/1.1\r\nHost: a\r\nX-User: %s\r\n\r\n" % self.who())
            status = w.response().status
            self.seen.append((sent, status, time.monotonic() - sent))
        w.close()

    def streams(self, index, rate):
        c, open_ = H2(self.port, sock=self.connect()), {}
        dues = list(self.dues(index, rate))
        while (dues or open_) and time.monotonic() < self.begun + RUN_S + 3 * OBJECTIVE_S:
            now = time.monotonic()
            if now > self.begun + RUN_S:
                dues = []
            while dues and dues[0] <= now and len(open_) < self.at_once:
                open_[c.begin(fields=[("x-user", self.who())])] = time.monotonic()
                dues.pop(0)
            c.pump(0.002 if dues else 0.05)
            for s in [s for s in open_ if c.answers[s].is_over or c.answers[s].reset is not None]:
                sent = open_.pop(s)
                self.seen.append((sent, c.answers[s].status, time.monotonic() - sent))
        c.sock.close()

    def end(self):
        for t in self.threads:
            t.join(RUN_S + WAIT_S)
        self.seen = [x for x in self.seen if x[0] > self.begun + SKIP_S]
        good = [s for _, status, s in self.seen if status == 200 and s < OBJECTIVE_S]
        self.share = len(good) / max(1, len(self.seen))
        self.p50, self.p99 = ((statistics.median(good), sorted(good)[int(0.99 * len(good))]) if good else (0, 0))


def play(start, protocol, times, route="key: header X-User", greedy="greedy", is_apart=False):
    """<is_apart>: each user has an address of his own."""
    fold = start(route)
    rate = 6 if times == 10 else 4
    begun = time.monotonic() + 1
    many = STREAMS if protocol == 2 else CONNECTIONS
    heavy = User(fold.port, greedy, protocol, rate * times, begun, many, "127.0.0.2" if is_apart else "127.0.0.1")
    modest = [User(fold.port, "u%d" % i, protocol, rate, begun + 0.011 * i, 1, "127.0.1.%d" % (i + 1) if is_apart else "127.0.0.1")
              for i in range(MODEST)]
    for u in modest + [heavy]:
        u.end()
    for u in modest + [heavy]:
        print("HTTP/%d %dx %-7s asked %4d in time %5.1f %% p50 %4.0f ms p99 %4.0f ms"
              % (protocol, times, u.name, len(u.seen), 100 * u.share, 1000 * u.p50, 1000 * u.p99))
    return [u.share for u in modest], heavy.share


def shares(*args, **kwargs):
    for _ in range(3):  # twice more: clients, origin and gateway share a busy machine
        modest, greedy = play(*args, **kwargs)
        if min(modest) >= 0.9:
            break
    return modest, greedy


@pytest.mark.parametrize("times", [10, 100])
@pytest.mark.parametrize("protocol", [1, 2])
def test_modest_users_have_what_they_ask_beside_a_greedy_one(start, protocol, times):
    modest, greedy = shares(start, protocol, times)
    assert min(modest) >= 0.8
    assert statistics.mean(modest) >= 0.9
    assert greedy < min(modest) or times == 10


@pytest.mark.parametrize("route", ["key: address", "key: header X-User, rate_limits: [{ rate: 40/s, burst: 40, by: address }]"])
def test_who_makes_up_users_gains_nothing_where_his_address_counts(start, route):
    modest, _ = shares(start, 2, 100, route, "?", True)
    assert min(modest) >= 0.8
    assert statistics.mean(modest) >= 0.9


def test_where_users_are_not_told_apart_the_modest_ones_pay(start):
    """The same load with one key for all: the tests above can fail."""
    modest, _ = play(start, 2, 100, "key: header X-Nothing")
    assert statistics.mean(modest) < 0.8
