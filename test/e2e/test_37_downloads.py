# SPDX-License-Identifier: Apache-2.0
"""Answers that take long to arrive beside a limit that nobody has learned yet: they shut nobody out."""
import concurrent.futures
import threading
import time

import pytest
from conftest import config, ok

pytestmark = pytest.mark.short

GOAL = '    objective: { latency: "99% < 2s" }\n'
LENGTH = 64


class Slow:
    """An origin whose /file answers begin at once and go on until `end` is set; /report begins then."""

    def __init__(self):
        self.end = threading.Event()
        self.begun = 0
        self.lock = threading.Lock()

    def __call__(self, request, wire):
        if request.target.startswith("/api"):
            return ok()
        with self.lock:
            self.begun += 1
        if request.target.startswith("/report"):
            self.end.wait(20)
            return ok("r" * LENGTH)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nf" % LENGTH)
        self.end.wait(20)
        wire.send(b"f" * (LENGTH - 1))
        return None

    def all_begin(self, count):
        deadline = time.monotonic() + 15
        while self.begun < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.begun >= count


def at_once(pool, proxy, path, count):
    return [pool.submit(proxy.get, path) for _ in range(count)]


@pytest.mark.parametrize("path, count", [("/file", 20), ("/file", 100), ("/report", 12)])
def test_many_slow_answers_at_once_from_a_fresh_endpoint_are_all_served(world, path, count):
    slow = Slow()
    origin, proxy = world.pair(slow, service=GOAL)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        waiting = at_once(pool, proxy, path, count)
        everybody = slow.all_begin(count)
        slow.end.set()
        got = [w.result() for w in waiting]
    assert [m.status for m in got] == [200] * count, "nobody is refused"
    assert all(len(m.body) == LENGTH for m in got)
    assert everybody, "no answer waited for the end of another one"


def test_downloads_leave_room_for_short_requests(world):
    slow = Slow()
    origin, proxy = world.pair(slow, service=GOAL)
    assert all(proxy.get("/api").status == 200 for _ in range(60))  # what is learned is learned from these
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = at_once(pool, proxy, "/file", 20)
        assert slow.all_begin(20)
        short = [proxy.get("/api").status for _ in range(40)]
        slow.end.set()
        got = [w.result().status for w in waiting]
    assert short == [200] * 40
    assert got == [200] * 20


def test_a_bound_that_somebody_set_holds_to_the_last_byte(world):
    slow = Slow()
    origin, proxy = world.pair(slow, service=GOAL + "    queue: { wait: 10s }\n    tune: { limit: { max: 3 } }\n")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = at_once(pool, proxy, "/file", 8)
        assert slow.all_begin(3)
        time.sleep(0.6)
        assert slow.begun == 3
        slow.end.set()
        assert [w.result().status for w in waiting] == [200] * 8
