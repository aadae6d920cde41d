# SPDX-License-Identifier: Apache-2.0
"""foldback itself runs short of something: what it gives up, in which order, and that critical traffic goes on."""
import os
import resource
import signal
import socket
import threading
import time

from conftest import WAIT_S, config, ok
from h2_util import DATA, HEADERS, Raw, block, frame

ROUTES = ("routes:\n  - { match: /critical/, service: app, priority: critical }\n"
          "  - { match: /low/, service: app, priority: best-effort }\n  - { match: /, service: app }\n")


def start(world, overload, threads=2):
    origin = world.origin()
    text = config(origin, extra="overload: { %s }\n" % overload)
    return world.proxy(text[:text.index("routes:")] + ROUTES, threads)


def change(proxy, overload):
    text = open(proxy.path).read()
    body = text[text.index("services:"):]
    assert proxy.reload("overload: { %s }\n%s" % (overload, body)).startswith("reloaded")


def alerts(proxy, events):
    return [e for e in events if e["type"] == "alert" and e["reason"] == 615]


def until_status(proxy, path, status, wait_s=30.0):
    """The last answer, with this status or when time is over."""
    end = time.monotonic() + wait_s
    while True:
        m = proxy.get(path)
        if m.status == status or time.monotonic() > end:
            return m
        time.sleep(0.1)


def test_short_of_memory_the_lowest_class_goes_first_and_comes_back(world):
    proxy = start(world, "memory: 50%")
    if proxy.is_sanitized:
        return  # its memory says nothing
    assert proxy.get("/low/").status == 200
    # 0.83 in use with a target of 0.5 is 0.66 of the way: best effort is out, default is in
    change(proxy, "memory: 50%%, memory_limit: %dKiB" % (proxy.rss_kib() / 0.83))
    m = until_status(proxy, "/low/", 503)
    assert m.status == 503
    assert 'details="shed_own_load"' in m.get("proxy-status")
    assert 1 <= int(m.get("retry-after")) <= 3
    assert proxy.get("/critical/").status == 200
    assert proxy.get("/").status == 200
    change(proxy, "memory: 50%")
    assert until_status(proxy, "/low/", 200).status == 200
    time.sleep(6)
    seen = alerts(proxy, proxy.events(None))
    assert seen[0]["is_over"] == 0 and "memory" in seen[0]["text"]
    assert seen[-1]["is_over"] == 1
    assert len(seen) <= 5  # once per stage, not per tick


def ask_for(proxy, user, gap_s, end, out):
    """True for each answer of the endpoint; a refusal ends its connection."""
    w = proxy.connect()
    while time.monotonic() < end:
        begun = time.monotonic()
        w.send("GET / HTTP/1.1\r\nHost: a\r\nX-User: %s\r\n\r\n" % user)
        m = w.response()
        out.append(m.status == 200)
        if m.get("connection") == "close":
            w.close()
            w = proxy.connect()
        time.sleep(max(0, begun + gap_s - time.monotonic()))
    w.close()


def shares(proxy, seconds):
    """Of ten users at 4 requests a second each, and of one at 80: what was let in of the last two thirds."""
    seen = [[] for _ in range(11)]
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=ask_for, args=(proxy, "u%d" % i, 0.0125 if i == 10 else 0.25, end, seen[i])) for i in range(11)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    late = [out[len(out) // 3:] for out in seen]
    each = [sum(out) / len(out) for out in late]
    return each[:10], each[10]


def test_short_of_memory_who_asks_most_is_refused_first(world):
    """By their numbers alone half of the modest users would get nothing."""
    origin = world.origin()
    text = config(origin, extra="overload: { memory: 50%, delay: 60s }\n")
    route = "routes:\n  - { match: /, service: app, priority: degraded, key: header X-User }\n"
    proxy = world.proxy(text[:text.index("routes:")] + route, 2)
    if proxy.is_sanitized:
        return  # its memory says nothing
    shares(proxy, 2)
    used = 0.78  # of a target of 0.5: 0.56 of the way, where two thirds of degraded are let in
    for _ in range(6):
        change(proxy, "memory: 50%%, delay: 60s, memory_limit: %dKiB" % (proxy.rss_kib() / used))
        modest, greedy = shares(proxy, 6)
        if 0.2 < greedy < 0.8:
            break
        used += 0.015 if greedy >= 0.8 else -0.015  # it holds a little more or less than it did
    assert 0.2 < greedy < 0.8
    assert min(modest) >= 0.8 and sum(modest) >= 9.5, (modest, greedy)


def test_a_limit_on_the_address_space_counts(world):
    proxy = start(world, "memory: 50%")
    if proxy.is_sanitized:
        return  # its shadow memory is the address space
    assert proxy.get("/low/").status == 200
    with open("/proc/%d/statm" % proxy.gateway_pid()) as f:
        space = int(f.read().split()[0]) * resource.getpagesize()
    most = int(space / 0.83)
    resource.prlimit(proxy.gateway_pid(), resource.RLIMIT_AS, (most, most))
    assert until_status(proxy, "/low/", 503).status == 503
    assert proxy.get("/critical/").status == 200
    assert proxy.get("/").status == 200


def test_observe_only_tells(world):
    proxy = start(world, "mode: observe, memory_limit: 1MiB")
    time.sleep(0.5)
    assert [proxy.get("/low/").status for _ in range(5)] == [200] * 5
    seen = alerts(proxy, proxy.events(None))
    assert seen and "observe" in seen[0]["text"]


def test_off_does_nothing(world):
    proxy = start(world, "mode: off, memory_limit: 1MiB")
    time.sleep(0.5)
    assert [proxy.get("/low/").status for _ in range(5)] == [200] * 5
    assert not alerts(proxy, proxy.events(None))


def test_a_bound_below_what_it_needs_to_stand_locks_nobody_out_for_ever(world):
    proxy = start(world, "memory_limit: 1MiB")
    time.sleep(0.5)
    begun = time.monotonic()
    assert proxy.get("/critical/").status == 200
    assert time.monotonic() - begun < 10


def test_idle_connections_make_room_when_descriptors_run_short(world):
    proxy = start(world, "descriptors: 60%", threads=1)
    proxy.get("/critical/")
    pid = proxy.gateway_pid()
    most = len(os.listdir("/proc/%d/fd" % pid)) + 60
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    held = []
    for _ in range(150):  # more than it can hold; they say nothing
        s = socket.create_connection(("127.0.0.1", proxy.port), WAIT_S)
        held.append(s)
    begun = time.monotonic()
    assert [proxy.get("/critical/").status for _ in range(5)] == [200] * 5
    assert time.monotonic() - begun < 20
    assert len(os.listdir("/proc/%d/fd" % pid)) <= most
    closed = 0
    for s in held:
        s.setblocking(False)
        try:
            closed += s.recv(1) == b""
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
        s.close()
    assert closed >= 90
    assert [e for e in alerts(proxy, proxy.events(None)) if "descriptors" in e["text"]]


def test_a_thread_that_comes_too_late_refuses_the_lowest_class(world):
    """Stopped for most of the time, as by a neighbour that takes the core."""
    proxy = start(world, "delay: 10ms", threads=1)
    low, critical, pid = [], [], proxy.gateway_pid()
    end = time.monotonic() + 20
    w = proxy.connect()
    while time.monotonic() < end and low.count(503) < 3:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.12)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.06)
        for path, out in (("/low/", low), ("/critical/", critical)):
            w.send("GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            out.append(w.response().status)
    w.close()
    assert low.count(503) >= 3
    assert set(critical) == {200}


def test_a_full_ring_costs_no_request(world):
    proxy = start(world, "mode: act", threads=1)
    w = proxy.connect()
    for _ in range(400):  # nobody reads the events of the driver; critical: a busy machine sheds others
        w.send("GET /critical/ HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
        assert [w.response().status for _ in range(50)] == [200] * 50
    w.close()


def test_streams_in_hand_are_answered_whatever_runs_short(world):
    """An HTTP/2 connection with an open stream is not idle: it is told to end and its stream is served."""
    origin = world.origin(lambda m, w: time.sleep(2) or ok("late"))
    text = config(origin, extra="overload: { mode: act }\n")
    proxy = world.proxy(text[:text.index("routes:")] + ROUTES, 1)
    r, w = Raw(proxy.port), proxy.connect()
    r.send(frame(HEADERS, 5, 1, block("/critical/")))
    w.send("GET /critical/ HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.3)
    change(proxy, "memory_limit: 1MiB")
    assert r.goaway() == 0
    assert r.wait(DATA) == b"late"
    assert w.response().body == b"late"
    w.close()
    r.close()
