# SPDX-License-Identifier: Apache-2.0
"""Which endpoint, whether at all, and what happens when it fails."""
import concurrent.futures
import socket
import threading
import time

import pytest
from conftest import WAIT_S, ok, config, free_port

pytestmark = pytest.mark.short


def reason(m):
    return m.get("proxy-status").split('details="')[1].rstrip('"')


def until(holds):
    deadline = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def many(proxy, count, workers, path="/", *fields):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda _: proxy.get(path, *fields), range(count)))


def test_requests_are_spread_over_the_endpoints(world):
    a, b, c = [world.origin() for _ in range(3)]
    proxy = world.proxy(config(a, b, c, service="    balance: round-robin\n"))
    assert all(m.status == 200 for m in many(proxy, 90, 6))
    assert all(len(o.requests) >= 10 for o in (a, b, c))


def test_a_refused_connection_is_tried_elsewhere_and_nobody_notices(world):
    up = world.origin()
    proxy = world.proxy(config(up, free_port()))
    assert [proxy.get("/").status for _ in range(40)] == [200] * 40
    assert all(m.status == 200 for m in [proxy.get("/", method="POST", body=b"x") for _ in range(5)])


def test_all_endpoints_down_is_502_with_its_reason(world):
    proxy = world.proxy(config(free_port()))
    m = proxy.get("/")
    assert m.status == 502 and reason(m) == "connect_refused"


def test_a_failed_answer_is_tried_on_another_endpoint(world):
    def bad(r, w):
        return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad"
    a, b = world.origin(bad), world.origin()
    proxy = world.proxy(config(a, b, service="    balance: round-robin\n"))
    got = [proxy.get("/").status for _ in range(12)]
    assert got.count(200) >= 9, got
    assert a.requests
    again = [r for r in b.requests if r.get("x-attempt") == "2"]
    assert again


@pytest.mark.parametrize("status, retry_on, sends", [
    (500, "", 1), (503, "", 2), (502, "[connect, reset]", 1), (500, "[500]", 2), (504, "[]", 1), (429, "", 1), (501, "", 1)])
def test_which_answers_are_tried_again_says_retry_on(world, status, retry_on, sends):
    def bad(r, w):
        return b"HTTP/1.1 %d No\r\nContent-Length: 3\r\n\r\nbad" % status
    a, b = world.origin(bad), world.origin(bad)
    proxy = world.proxy(config(a, b, extra="upstream: { retry_on: %s }\n" % retry_on if retry_on else ""))
    assert proxy.get("/").status == status
    assert len(a.requests) + len(b.requests) == sends


def test_a_whole_answer_is_not_asked_for_again_where_it_came_from(world):
    def bad(r, w):
        return b"HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nbad"
    origin = world.origin(bad)
    assert world.proxy(config(origin)).get("/").status == 503
    assert len(origin.requests) == 1


def test_a_reset_is_an_error_at_once_when_retry_on_leaves_it_out(world):
    def cut(r, w):
        return False
    a, b = world.origin(cut), world.origin(cut)
    proxy = world.proxy(config(a, b, extra="upstream: { retry_on: [connect] }\n"))
    assert proxy.get("/").status == 502
    assert len(a.requests) + len(b.requests) == 1


def test_posts_are_not_tried_again_once_sent(world):
    def cut(r, w):
        return False
    a, b = world.origin(cut), world.origin(cut)
    proxy = world.proxy(config(a, b))
    m = proxy.get("/", method="POST", body=b"once")
    assert m.status == 502 and reason(m) == "upstream_reset"
    assert len(a.requests) + len(b.requests) == 1
    proxy.get("/", "Idempotency-Key: 1", method="POST", body=b"twice")
    assert len(a.requests) + len(b.requests) >= 2


def test_a_body_is_sent_again_whole(world):
    state = {"cut": True}

    def answer(r, w):
        if state["cut"]:
            state["cut"] = False
            return False
        return ok(r.body)
    a, b = world.origin(answer), world.origin(answer)
    proxy = world.proxy(config(a, b))
    assert proxy.get("/", method="PUT", body=b"z" * 9000).body == b"z" * 9000


def test_a_pooled_connection_that_the_origin_closed_is_replaced_unseen(world):
    origin, proxy = world.pair(threads=1)
    for i in range(5):
        assert proxy.get("/").status == 200
        origin.drop()
        if i % 2:
            time.sleep(0.02)
    # closed exactly while the request is under way: the origin reads it and closes without a word
    state = {"n": 0}

    def answer(r, w):
        state["n"] += 1
        return False if state["n"] == 2 else ok("fine")
    origin.answer = answer
    assert proxy.get("/").body == b"fine"
    assert proxy.get("/").body == b"fine"
    assert all(e["flags"] & 3 == 0 for e in proxy.wait_events(7)), "it is no retry"


def test_full_endpoints_shed_with_retry_after_and_never_see_the_request(world):
    gate = threading.Event()

    def answer(r, w):
        gate.wait(5)
        return ok()
    origin, proxy = world.pair(answer, service="    queue: { capacity: 2, wait: 5s }\n    tune: { limit: { mode: recommend, value: 2 } }\n")
    conns = []
    for i in range(12):
        w = proxy.connect()
        w.send("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i)
        conns.append(w)
        time.sleep(0.02)
    time.sleep(0.2)
    assert origin.in_flight <= 2
    shed = [w for w in conns if select_ready(w)]
    assert shed
    for w in shed:
        m = w.response()
        assert m.status == 503 and 1 <= int(m.get("retry-after")) <= 3
        assert reason(m).startswith("shed_queue") and "http_request_denied" in m.get("proxy-status")
        assert m.get("connection") is None, "a shed request keeps its connection"
    gate.set()
    rest = [w.response().status for w in conns if w not in shed]
    assert 200 in rest
    for w in shed[:1]:
        w.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
        assert w.response().status == 200


def select_ready(w):
    w.sock.settimeout(0.01)
    try:
        return bool(w.buffer) or w.fill()
    except socket.timeout:
        return False
    finally:
        w.sock.settimeout(5)


def test_a_client_that_leaves_the_queue_is_forgotten_at_once(world):
    gate = threading.Event()

    def answer(r, w):
        gate.wait(WAIT_S)
        return ok()
    origin, proxy = world.pair(answer, service="    queue: { capacity: 10, wait: 30s }\n    tune: { limit: { mode: recommend, value: 1 } }\n")
    first = proxy.connect().send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
    arrived(origin, 1)
    second = proxy.connect().send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(1 if proxy.is_sanitized else 0.1)
    second.close()
    e = proxy.wait_events(1)
    assert e and e[0]["reason"] == 11 and e[0]["status"] == 0
    gate.set()
    assert first.response().status == 200
    assert [r.target for r in origin.requests] == ["/first"]


def arrived(origin, count):
    """Bounded; a fixed pause is too short under a sanitizer."""
    end = time.monotonic() + WAIT_S
    while len(origin.requests) < count and time.monotonic() < end:
        time.sleep(0.01)
    assert len(origin.requests) == count


def test_a_client_that_leaves_early_keeps_the_slot_until_the_answer(world):
    gate = threading.Event()

    def answer(r, w):
        if r.target == "/slow":
            gate.wait(5)
        return ok()
    origin, proxy = world.pair(answer, service="    queue: { capacity: 10, wait: 3s }\n    tune: { limit: { mode: recommend, value: 1 } }\n")
    gone = proxy.connect().send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    arrived(origin, 1)
    gone.close()
    time.sleep(0.1)
    waiting = proxy.connect().send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    assert [r.target for r in origin.requests] == ["/slow"], "the endpoint still works on the first"
    gate.set()
    assert waiting.response().status == 200
    e = [x for x in proxy.wait_events(2) if x["reason"] == 10]
    assert e and e[0]["flags"] & 8


def test_waiting_requests_go_on_when_a_slot_is_free_on_another_thread(world):
    def answer(r, w):
        time.sleep(0.02)
        return ok()
    origin, proxy = world.pair(answer, threads=4, service="    queue: { capacity: 200, wait: 10s }\n    tune: { limit: { mode: recommend, value: 3 } }\n")
    got = many(proxy, 100, 30)
    assert [m.status for m in got] == [200] * 100
    assert origin.peak <= 3


def test_the_deadline_of_a_route_ends_the_wait(world):
    gate, late = threading.Event(), []

    def answer(r, w):
        late.append(gate.wait(60))
        return ok()
    origin, proxy = world.pair(answer, route=", deadline: 200ms")
    m = proxy.get("/", method="POST", body=b"")
    assert m.status == 504 and reason(m) == "deadline" and not late
    gate.set()
    assert int(origin.requests[0].get("x-deadline-ms")) <= 200


def test_health_checks_take_a_dead_endpoint_out_and_back(world):
    state = {"well": True}

    def answer(r, w):
        if r.target == "/health" and not state["well"]:
            return b"HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        return ok("sick")
    a, b = world.origin(answer), world.origin()
    state["well"] = False
    proxy = world.proxy(config(a, b, service="    health: { path: /health, interval: 100ms, timeout: 500ms, rise: 1, fall: 2 }\n"))
    time.sleep(1)
    assert any(r.target == "/health" for r in b.requests)
    e = proxy.events("health")
    assert any(x["reason"] == 202 and x["status"] == 500 for x in e)
    assert any(x["reason"] == 203 for x in e)


HEALTH = "    health: { path: /up, interval: 100ms, timeout: 100ms, rise: 1, fall: 1%s }\n"


@pytest.mark.parametrize("more, want", [
    ("", "127.0.0.1:%d"), ("    host: app.internal\n", "app.internal"), ("    host: a.internal\n|, host: b.internal", "b.internal")])
def test_a_health_check_asks_for_the_host_that_requests_ask_for(world, more, want):
    """An endpoint with several sites, or one that knows its names only, else refuses every check."""
    origin = world.origin()
    keys, _, inside = more.partition("|")
    world.proxy(config(origin, service=keys + HEALTH % inside))
    assert until(lambda: any(r.target == "/up" for r in list(origin.requests)))
    asked = [r for r in list(origin.requests) if r.target == "/up"]
    assert asked[0].get("host") == (want % origin.port if "%" in want else want)


@pytest.mark.parametrize("eject", ["", "    eject: false\n"])
def test_who_refuses_its_health_check_gets_no_requests_however_well_it_answers_them(world, eject):
    """An application that is about to stop says so first, and answers everything until then."""
    state = {"stops": False}

    def answer(r, w):
        if r.target == "/up" and state["stops"]:
            return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        return ok("first")
    first, second = world.origin(answer), world.origin(lambda r, w: ok("second"))
    proxy = world.proxy(config(first, second, service="    balance: round-robin\n" + eject + HEALTH % ""))

    def names(count=30):
        return {m.body for m in many(proxy, count, 1)}
    assert until(lambda: names() == {b"first", b"second"})
    state["stops"] = True
    assert until(lambda: names() == {b"second"})
    state["stops"] = False
    assert until(lambda: names() == {b"first", b"second"})


def test_who_refuses_its_health_check_is_asked_when_the_last_other_leaves(world):
    refuse = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    first = world.origin(lambda r, w: refuse if r.target == "/up" else ok("first"))
    second = world.origin(lambda r, w: ok("second"))
    service = "    balance: round-robin\n" + HEALTH % ""
    proxy = world.proxy(config(first, second, service=service))

    def names():
        return {m.body for m in many(proxy, 10, 1)}
    assert until(lambda: names() == {b"second"})
    proxy.reload(config(first, service=service))
    assert until(lambda: names() == {b"first"})


def test_a_health_check_reads_the_answer_to_its_end(world):
    """Closed before that, the connection would be reset, which many servers log as an error each time."""
    ends = []

    def raw(wire):
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\nConnection: close\r\n\r\n")
        time.sleep(0.05)
        wire.send(b"x" * 70000)
        wire.sock.shutdown(socket.SHUT_WR)
        try:
            ends.append(wire.sock.recv(1))
        except OSError as error:
            ends.append(error)
    origin = world.origin(raw=raw)
    world.proxy(config(origin, service=(HEALTH % "").replace("timeout: 100ms", "timeout: 10s").replace("100ms", "1s")))
    assert until(lambda: len(ends) >= 2)
    assert ends[1] == b"", ends


def test_who_keeps_its_connection_open_is_checked_as_often_as_the_file_says(world):
    """The end of its answer is waited for no longer than for its beginning."""
    checks = {True: 0, False: 0}

    def keeper(is_kept):
        def raw(wire):
            wire.request()
            checks[is_kept] += 1
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            try:
                while is_kept and wire.sock.recv(100):
                    pass
            except OSError:
                pass
        return raw
    world.proxy(config(world.origin(raw=keeper(True)), world.origin(raw=keeper(False)), service=HEALTH % ""))
    assert until(lambda: checks[False] >= 30)
    assert checks[True] >= 8, checks  # half as often; one second more for each is a tenth


def test_a_health_check_asks_a_named_endpoint_by_its_name(world):
    origin = world.origin()
    text = config(origin, service=HEALTH % "").replace('"127.0.0.1:%d"' % origin.port, '"localhost:%d"' % origin.port)
    world.proxy(text)
    assert until(lambda: any(r.target == "/up" for r in list(origin.requests)))
    assert [r for r in list(origin.requests) if r.target == "/up"][0].get("host") == "localhost:%d" % origin.port


def test_a_health_check_may_ask_another_port(world):
    serving, checked = world.origin(), world.origin(lambda r, w: ok("well"))
    proxy = world.proxy(config(serving, service=HEALTH % (", port: %d" % checked.port)))
    assert until(lambda: any(r.target == "/up" for r in list(checked.requests)))
    assert proxy.get("/").status == 200
    assert {r.target for r in list(serving.requests)} == {"/"} and {r.target for r in list(checked.requests)} == {"/up"}


def test_a_long_path_of_a_health_check_is_asked_for_whole(world):
    origin = world.origin()
    path = "/up?" + "x" * 1020
    world.proxy(config(origin, service=(HEALTH % "").replace("/up", path)))
    assert until(lambda: any(r.target.startswith("/up") for r in list(origin.requests)))
    assert [r.target for r in list(origin.requests) if r.target.startswith("/up")][0] == path


def test_a_reload_keeps_requests_in_flight_and_moves_new_ones(world):
    gate = threading.Event()

    def slow(r, w):
        gate.wait(WAIT_S)
        return ok("old")
    old, new = world.origin(slow), world.origin(lambda r, w: ok("new"))
    proxy = world.proxy(config(old))
    w = proxy.connect().send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
    arrived(old, 1)
    assert proxy.reload(config(new)).startswith("reloaded")
    assert proxy.get("/b").body == b"new"
    gate.set()
    assert w.response().body == b"old"
    w.send("GET /c HTTP/1.1\r\nHost: a\r\n\r\n")
    assert w.response().body == b"new", "the kept connection follows the new configuration"


def test_a_broken_reload_changes_nothing_and_says_why(world):
    origin, proxy = world.pair()
    if proxy.is_whole:
        pytest.skip("the driver shows the answer")
    line = proxy.reload("services:\n  app:\n    endpoints: [\"127.0.0.1:1\"]\n    balanse: x\nroutes: []\n")
    assert line.startswith("refused") and "balanse" in line
    assert proxy.get("/").status == 200


def test_reloads_under_load_break_nothing(world):
    a, b = world.origin(), world.origin()
    proxy = world.proxy(config(a))
    stop, bad = threading.Event(), []

    def load():
        w = proxy.connect()
        while not stop.is_set():
            w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if w.response().status != 200:
                bad.append(1)
    threads = [threading.Thread(target=load) for _ in range(6)]
    for t in threads:
        t.start()
    for i in range(8):
        assert proxy.reload(config(*((a, b) if i % 2 else (b,)))).startswith("reloaded")
        time.sleep(0.05)
    stop.set()
    for t in threads:
        t.join()
    assert not bad


def test_a_drain_finishes_what_is_in_hand_and_ends(world):
    gate = threading.Event()

    def slow(r, w):
        if r.target == "/slow":
            gate.wait(5)
        return ok()
    origin, proxy = world.pair(slow)
    idle = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    idle.response()
    busy = proxy.connect().send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.1)
    proxy.drain()
    time.sleep(0.1)
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    m = idle.response()
    assert m.status == 200 and m.get("connection") == "close"
    gate.set()
    m = busy.response()
    assert m.status == 200 and m.get("connection") == "close"
    proxy.process.wait(5)
    assert proxy.process.returncode == 0


def test_names_are_looked_up_and_followed(world):
    origin = world.origin()
    proxy = world.proxy('services:\n  app:\n    endpoints: ["dns://localhost:%d"]\nroutes:\n  - { match: /, service: app }\n'
                        % origin.port)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and proxy.get("/").status != 200:
        time.sleep(0.05)
    assert proxy.get("/").status == 200


def test_a_name_that_does_not_exist_is_said_to_be_the_cause(world):
    proxy = world.proxy('services:\n  app:\n    endpoints: ["dns://no-such-name.invalid:80"]\n'
                        'routes:\n  - { match: /, service: app }\n')
    deadline = time.monotonic() + 10
    m = proxy.get("/")
    assert m.status == 503
    while reason(m) != "dns_failed" and time.monotonic() < deadline:
        time.sleep(0.2)
        m = proxy.get("/")
    assert reason(m) == "dns_failed"
    assert "no-such-name.invalid" in proxy.log()
