# SPDX-License-Identifier: Apache-2.0
"""Large answers: whole, in order, cut where the endpoint cut them, and without piling up in memory."""
import hashlib
import random
import threading
import time

import pytest
from conftest import ok


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def answers(bodies):
    return lambda m, wire: ok(bodies[m.target])


def test_large_answers_arrive_byte_for_byte(world):
    bodies = {"/%d" % n: noise(n, n) for n in (1, 16383, 16384, 65536, 65537, 1 << 20, 9 << 20)}
    origin, proxy = world.pair(answer=answers(bodies), threads=1)
    w = proxy.connect()
    order = list(bodies) * 3
    random.Random(7).shuffle(order)
    for path in order:
        w.send("GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        m = w.response()
        assert m.status == 200
        assert hashlib.sha256(m.body).digest() == hashlib.sha256(bodies[path]).digest(), path
    assert sum(e["sent_bytes"] for e in proxy.wait_events(len(order))) > sum(len(bodies[p]) for p in order)


def test_many_readers_of_large_answers_do_not_mix(world):
    bodies = {"/%d" % n: noise(300000 + n, n) for n in range(8)}
    origin, proxy = world.pair(answer=answers(bodies), threads=1)
    wrong = []

    def read(path):
        w = proxy.connect()
        for _ in range(10):
            w.send("GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            if w.response().body != bodies[path]:
                wrong.append(path)
        w.close()

    readers = [threading.Thread(target=read, args=(p,)) for p in bodies]
    for t in readers:
        t.start()
    for t in readers:
        t.join(60)
    assert wrong == []


def test_a_reader_that_pauses_holds_the_endpoint_back_and_gets_it_all(world):
    body = noise(24 << 20)
    origin, proxy = world.pair(answer=lambda m, wire: ok(body), threads=1)
    w = proxy.connect()
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")  # once in one go: what a large answer needs is there
    assert w.response().body == body
    before = proxy.rss_kib()
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(1.0)
    if not proxy.is_sanitized:
        assert proxy.rss_kib() - before < 2048
    m = w.response()
    assert m.body == body


def test_an_endpoint_that_dies_in_the_middle_cuts_the_client(world):
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + noise(1 << 20)
    large = ok(noise(1 << 20))
    count = [0]

    def raw(wire):
        while True:
            m = wire.request()
            if m is None:
                return
            count[0] += 1
            if count[0] <= 8:  # first it learns that answers are large here
                wire.send(large)
            else:
                wire.send(whole)
                return

    origin, proxy = world.pair(raw=raw, threads=1)
    for _ in range(8):
        assert len(proxy.get("/").body) == 1 << 20
    w = proxy.connect()
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    head = w.head()
    assert head.get("content-length") == "3000000"
    assert len(w.rest()) <= 1 << 20
    last = proxy.wait_events(9)[-1]
    assert last["reason"] == 74  # upstream_cut


@pytest.mark.parametrize("size", [4096 - len(ok(b"x" * 1000)) + 1000, 100000, 65536])
def test_what_comes_behind_a_large_answer_is_no_answer(world, size):
    """An endpoint sends a second answer that nobody asked for right behind the first: the next request must not get it.
    The first size fills the small read that large answers begin with, to the byte."""
    large, forged, count = ok(noise(size)), ok(b"forged"), [0]

    def raw(wire):
        while True:
            m = wire.request()
            if m is None:
                return
            if m.target == "/who":
                wire.send(ok(b"honest"))
            elif m.target == "/warm":
                wire.send(ok(noise(200000)))
            else:
                count[0] += 1
                wire.send(large + forged)

    origin, proxy = world.pair(raw=raw, threads=1)
    w = proxy.connect()
    for path in ["/warm"] * 8 + ["/large", "/who"] * 5:
        w.send("GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        m = w.response()
        assert m.status == 200
        assert m.body == {"/warm": noise(200000), "/large": noise(size), "/who": b"honest"}[path], path
    assert count[0] == 5


def test_an_upload_that_waited_in_the_queue_goes_on(world):
    """Its first part fills our buffer while it waits; the rest lies in the socket, and no event tells of it again."""
    def answer(m, wire):
        time.sleep(0.3)
        return ok(b"%d" % len(m.body))
    origin, proxy = world.pair(answer=answer, threads=1,
                               service="    tune: { limit: { min: 1, value: 1, max: 1 } }\n    queue: { wait: 20s }\n")
    body, seen = noise(200000), []

    def post():
        w = proxy.connect()
        w.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        m = w.response()
        seen.append((m.status, m.body))
    threads = [threading.Thread(target=post) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(40)
    assert seen == [(200, b"200000")] * 4
