# SPDX-License-Identifier: Apache-2.0
"""Clients that leave while their endpoint works behind the head of its answer: what is at work counts, whatever is reset."""
import threading
import time

import pytest
from conftest import WAIT_S, config, ok
from h2_origin import H2Origin
from h2_util import H2

pytestmark = pytest.mark.short
STREAMS = 20
REFUSED = 7
ENDPOINT = 3  # of enum ev_kind
WIDE = "    tune: { limit: { min: 200, value: 200, max: 200 } }\n    eject: false\n"
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


class Worker:
    """Sends the head of its answer, works until it may go on, whoever listens, and sends the body then."""

    def __init__(self, world, kind, service=WIDE, extra="http2: { streams: %d }\n" % STREAMS):
        self.heads, self.bodies = threading.Event(), threading.Event()
        self.heads.set()
        if kind == "h2c":
            self.origin = H2Origin(self.answer_h2, is_early=True)
            world.origins.append(self.origin)
        else:
            self.origin = world.origin(self.answer_h1)
        self.proxy = world.proxy(config(self.origin, service=("    protocol: h2c\n" if kind == "h2c" else "") + service, extra=extra), 1)
        self.client = H2(self.proxy.port)
        world.origins.append(self.client)

    def work(self, path):
        return path == "/work" and not self.bodies.wait(60)

    def answer_h1(self, request, wire):
        self.heads.wait(60)
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        self.work(request.target)
        return b"ok"

    def answer_h2(self, st):
        self.heads.wait(60)
        st.head(200)
        self.work(st.path)
        st.data(b"ok", is_last=True)

    def ask(self, count=STREAMS, path="/work"):
        return [self.client.begin(path) for _ in range(count)]

    def reset(self, streams):
        for s in streams:
            self.client.c.reset_stream(s, 8)
        self.client.flush()

    def hear(self, streams):
        """Until each has a head or was refused; those that were."""
        answers = [self.client.answers[s] for s in streams]
        until(lambda: all(a.fields or a.reset is not None for a in answers) or not self.client.pump(0.05) and False)
        return [a for a in answers if a.reset == REFUSED]


def until(what, wait_s=WAIT_S):
    end = time.monotonic() + wait_s
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["h1", "h2c"])
@pytest.mark.parametrize("when", ["in the answer", "before its head"])
def test_work_behind_a_head_keeps_its_slots(world, kind, when):
    w = Worker(world, kind)
    if when == "before its head":
        w.heads.clear()
    first = w.ask()
    until(lambda: w.origin.in_flight == STREAMS)
    if when == "in the answer":
        assert not w.hear(first)
    w.reset(first)
    w.heads.set()
    for _ in range(3):  # each comes to a connection with all of its places taken
        more = w.ask()
        assert len(w.hear(more)) == STREAMS
    assert w.origin.peak == STREAMS
    w.bodies.set()
    until(lambda: w.client.get("/").status == 200)
    assert w.origin.peak == STREAMS


@pytest.mark.parametrize("kind", ["h1", "h2c"])
def test_an_answer_that_was_read_away_leaves_its_connection(world, kind):
    w = Worker(world, kind)
    first = w.ask(1)
    w.hear(first)
    w.reset(first)
    w.bodies.set()
    until(lambda: w.origin.in_flight == 0)
    until(lambda: w.proxy.events())  # its end is the end of the request
    assert w.client.get("/").status == 200
    assert w.origin.connections == 1


@pytest.mark.parametrize("kind", ["h1", "h2c"])
def test_the_limiter_counts_what_clients_left_behind(world, kind):
    w = Worker(world, kind, service="    queue: { capacity: 10, wait: 5s }\n    tune: { limit: { mode: recommend, value: 1, min: 1, max: 1 } }\n")
    gone = w.proxy.connect().send("GET /work HTTP/1.1\r\nHost: a\r\n\r\n")
    assert gone.head().status == 200
    gone.close()
    waiting = w.proxy.connect().send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.5)
    assert len(w.origin.requests) == 1, "the endpoint still works on the first"
    w.bodies.set()
    assert waiting.response().status == 200
    assert w.origin.peak == 1


@pytest.mark.parametrize("kind", ["h1", "h2c"])
def test_downloads_that_are_given_up_are_not_read_to_their_end(world, kind):
    """And the connection that gave them up may soon ask for others."""
    ended = []

    def push(send):
        try:
            for _ in range(4096):
                send(b"x" * 65536)
        finally:
            ended.append(1)

    def answer_h1(request, wire):
        if request.target != "/large":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n")
        return push(wire.send)

    def answer_h2(st):
        st.head(200, is_last=st.path != "/large")
        if st.path == "/large":
            push(st.data)
    if kind == "h2c":
        origin = H2Origin(answer_h2)
        world.origins.append(origin)
    else:
        origin = world.origin(answer_h1)
    proxy = world.proxy(config(origin, service=("    protocol: h2c\n" if kind == "h2c" else "") + WIDE, extra="http2: { streams: 6 }\n"), 1)
    client = H2(proxy.port)
    world.origins.append(client)
    streams = [client.begin("/large") for _ in range(6)]
    until(lambda: all(client.answers[s].fields for s in streams) or not client.pump(0.05) and False)
    for s in streams:
        client.c.reset_stream(s, 8)
    client.flush()
    until(lambda: client.get("/").status == 200)
    until(lambda: len(ended) == 6)


@pytest.mark.parametrize("kind", ["h1", "h2c"])
def test_a_drain_does_not_wait_for_what_was_left_behind(world, kind):
    w = Worker(world, kind)
    first = w.ask(3)
    w.hear(first)
    calls = [w.client.begin("/work", "POST", GRPC) for _ in range(3)]
    w.hear(calls)
    w.reset(first + calls)
    until(lambda: w.client.get("/").status == 200)
    w.proxy.drain()
    begun = time.monotonic()
    w.proxy.process.wait(WAIT_S * 3)
    assert time.monotonic() - begun < WAIT_S * 0.8  # silence is taken for work for 10 s
    w.bodies.set()


def test_an_event_stream_hears_at_once_that_nobody_listens(world):
    left = threading.Event()

    def answer(request, wire):
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        wire.sock.recv(1)
        left.set()
        return False
    origin = world.origin(answer)
    proxy = world.proxy(config(origin, service=WIDE), 1)
    client = H2(proxy.port)
    world.origins.append(client)
    s = client.begin("/events")
    until(lambda: client.answers[s].body or not client.pump(0.05) and False)
    client.c.reset_stream(s, 8)
    client.flush()
    assert left.wait(WAIT_S * 0.8)  # and not when silence has been taken for work


def test_calls_whose_endpoint_is_deaf_to_their_cancel_keep_their_slots(world):
    """It is told at once, so nothing is heard of it: half a second of work is well within what is assumed."""
    def answer(st):
        st.head(200, ("content-type", "application/grpc"))
        time.sleep(0.5)
    origin = H2Origin(answer, is_early=True)
    world.origins.append(origin)
    proxy = world.proxy(config(origin, service="    protocol: h2c\n" + WIDE, extra="http2: { streams: %d }\n" % STREAMS), 1)
    client = H2(proxy.port)
    world.origins.append(client)
    for _ in range(4):
        ids = [client.begin("/pkg.Service/Slow", "POST", GRPC) for _ in range(12)]
        answers = [client.answers[s] for s in ids]
        until(lambda: all(a.fields or a.reset is not None for a in answers) or not client.pump(0.05) and False)
        for s in ids:
            if client.answers[s].reset is None:
                client.c.reset_stream(s, 8)
        client.flush()
    until(lambda: all(st.reset == 8 for st in origin.requests))
    assert 12 <= origin.peak <= STREAMS


class Drip:
    """The head of its answer after `wait_s`, the first byte behind it when it may drip, then one in 20 ms."""

    def __init__(self, world, service="", wait_s=0.0):
        self.wait_s, self.drips, self.ends = wait_s, threading.Event(), threading.Event()
        self.origin = world.origin(self.answer)
        self.proxy = world.proxy(config(self.origin, service=service), 1)

    def answer(self, request, wire):
        if request.target != "/drip":
            return ok()
        time.sleep(self.wait_s)
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        self.drips.wait(60)
        while not self.ends.wait(0.02):
            wire.send("x")
        return False

    def leave(self, count, in_answer):
        clients = [self.proxy.connect().send("GET /drip HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(count)]
        until(lambda: self.origin.in_flight == count)
        for c in clients:
            if in_answer:
                assert c.head().status == 200
            c.close()

    def gauge(self, is_wanted):
        """The first one of the endpoint from now on that is wanted."""
        self.proxy.events("gauge")
        end = time.monotonic() + WAIT_S
        while True:
            for e in self.proxy.events("gauge"):
                if e["kind"] == ENDPOINT and is_wanted(e):
                    return e
            assert time.monotonic() < end
            time.sleep(0.02)


def test_who_leaves_before_the_head_of_a_slow_answer_teaches_nothing_of_its_length(world):
    """The head is what its endpoint took; what drips behind it is a transfer, and needs no place with the limiter."""
    d = Drip(world, wait_s=0.3)
    d.drips.set()
    assert d.proxy.get("/").status == 200
    begun = time.monotonic()
    d.leave(4, in_answer=False)
    seen = d.gauge(lambda e: e["in_flight"] == 0)
    took_s = time.monotonic() - begun
    d.ends.set()
    assert took_s < 8, "silence is taken for work for 10 s, and this is none"
    assert seen["latency_us"] < 3e6
    assert seen["limit"] <= 16


def test_a_drip_that_begins_late_is_a_transfer_too(world):
    d = Drip(world)
    d.leave(3, in_answer=True)
    time.sleep(0.6)  # the head's time to become a transfer is 0.2 s, and nobody knows yet what this is
    assert d.origin.in_flight == 3
    begun = time.monotonic()
    d.drips.set()
    d.gauge(lambda e: e["in_flight"] == 0)
    took_s = time.monotonic() - begun
    d.ends.set()
    assert took_s < 7


def events_or_ok(request, wire):
    if request.target != "/events":
        return ok()
    wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    wire.sock.recv(1)
    return False


def is_soon(ask, play):
    """One round of five stays below the floor of a second.  Where small answers take over 20 ms, 20 times that is no less:
    such a machine is too slow to tell them apart."""
    for _ in range(5):
        begun = time.monotonic()
        for _ in range(30):
            until(lambda: ask().status == 200)
        usual_s = (time.monotonic() - begun) / 30
        took_s = play()
        if took_s < 0.7 or usual_s > 0.02:
            return True
    return False


def test_event_streams_that_were_left_give_the_caps_of_all_back(world):
    origin = world.origin(events_or_ok)
    proxy = world.proxy(config(origin, service=WIDE, route=", concurrency: 4"), 1)

    def play():
        clients = [proxy.connect().send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(4)]
        for c in clients:
            assert c.head().status == 200
        assert proxy.get("/").status == 503
        begun = time.monotonic()
        for c in clients:
            c.close()
        until(lambda: proxy.get("/").status == 200)
        return time.monotonic() - begun
    assert is_soon(lambda: proxy.get("/"), play)  # and not after the second that a client's connection is held for


def test_who_shares_a_connection_soon_finds_the_places_of_quick_calls_free(world):
    origin = world.origin(events_or_ok)
    proxy = world.proxy(config(origin, service=WIDE, extra="http2: { streams: 4 }\n"), 1)
    client = H2(proxy.port)
    world.origins.append(client)

    def play():
        streams = [client.begin("/events") for _ in range(4)]
        until(lambda: all(client.answers[s].body for s in streams) or not client.pump(0.05) and False)
        begun = time.monotonic()
        for s in streams:
            client.c.reset_stream(s, 8)
        client.flush()
        until(lambda: client.get("/").status == 200 or time.sleep(0.03))  # refusals are counted against the connection
        return time.monotonic() - begun
    assert is_soon(lambda: client.get("/"), play)


def test_a_download_that_was_given_up_leaves_no_work_behind(world):
    """With a limit of one that somebody set, the next is sent when its connection is closed."""
    def answer(request, wire):
        if request.target == "/report":
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            time.sleep(2)
        if request.target == "/large":
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n")
            for _ in range(4096):
                wire.send(b"x" * 65536)
        return b"ok" if request.target == "/report" else ok()
    origin = world.origin(answer)
    proxy = world.proxy(config(origin, service="    queue: { capacity: 10, wait: 10s }\n    tune: { limit: { mode: recommend, value: 1, min: 1, max: 1 } }\n"), 1)
    begun = time.monotonic()
    assert proxy.get("/report").status == 200
    report_s = time.monotonic() - begun
    gone = proxy.connect().send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    assert gone.head().status == 200
    begun = time.monotonic()
    gone.close()
    assert proxy.get("/").status == 200
    assert time.monotonic() - begun < report_s  # what answers usually take, and not twice that
