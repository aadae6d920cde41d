# SPDX-License-Identifier: Apache-2.0
"""gRPC from client to endpoint: HTTP/2 on both sides, trailers, both directions at once, grpc-status as the outcome."""
import struct
import threading
import time

import h2.errors
import pytest
from conftest import WAIT_S, config, free_port
from h2_origin import H2Origin
from h2_util import H2

pytestmark = pytest.mark.short
H2C = "    protocol: h2c\n"
CALL = [("content-type", "application/grpc"), ("te", "trailers")]
HEAD = ("content-type", "application/grpc")
NONE = 65535


def message(data):
    return b"\0" + struct.pack(">I", len(data)) + data


@pytest.fixture
def both(world):
    def make(answer, service="", extra="", **k):
        origin = H2Origin(answer, **k)
        world.origins.append(origin)
        proxy = world.proxy(config(origin, service=H2C + service, extra=extra), 1)
        client = H2(proxy.port)
        world.origins.append(client)
        return origin, proxy, client
    return make


def call(client, data=b"", path="/pkg.Service/Method"):
    return client.get(path, "POST", CALL, body=message(data))


def test_a_unary_call_with_its_trailers(both):
    def answer(st):
        assert st.get("te") == "trailers" and st.get("content-type") == "application/grpc"
        st.head(200, HEAD)
        st.data(st.body)
        st.end(("grpc-status", "0"), ("grpc-message", ""), ("x-cost-bin", "AAE="))
    origin, proxy, client = both(answer)
    for i in range(5):
        a = call(client, b"x" * 1000 * i)
        assert a.is_over and a.body == message(b"x" * 1000 * i)
        assert a.trailers["grpc-status"] == "0" and a.trailers["x-cost-bin"] == "AAE="
        assert "transfer-encoding" not in a.fields
    events = proxy.wait_events(5)
    assert {(e["grpc_status"], e["protocol"], e["reason_name"]) for e in events} == {(0, 1, "answered")}
    assert origin.connections == 1


def test_an_answer_that_is_only_trailers(both):
    origin, proxy, client = both(lambda st: st.head(200, HEAD, ("grpc-status", "5"), ("grpc-message", "no such"), is_last=True))
    a = call(client)
    assert a.is_over and a.status == 200 and a.body == b""
    assert a.fields["grpc-status"] == "5" and a.fields["grpc-message"] == "no such"
    event, = proxy.wait_events(1)
    assert event["grpc_status"] == 5 and event["reason_name"] == "answered" and not event["flags"] & 128


def test_a_call_that_is_refused_before_its_message_came_hears_why(world):
    """The answer goes out before the reset that ends the rest of the call."""
    proxy = world.proxy(config(free_port()).replace("match: /,", "match: /other/,"), 1)
    client = H2(proxy.port)
    world.origins.append(client)
    for _ in range(3):
        a = client.wait(client.begin("/pkg.Service/Method", "POST", CALL, is_last=False))
        assert a.fields.get("grpc-status") == "12", (a.reset, client.goaway)


@pytest.mark.parametrize("status, is_failed", [(0, False), (1, False), (2, True), (3, False), (4, True), (8, True),
                                               (12, False), (13, True), (14, True), (15, True), (16, False)])
def test_the_status_of_a_call_is_its_outcome(both, status, is_failed):
    def answer(st):
        st.head(200, HEAD)
        st.data(message(b"a"))
        st.end(("grpc-status", str(status)))
    origin, proxy, client = both(answer, service="    eject: false\n")
    assert call(client).trailers["grpc-status"] == str(status)
    event, = proxy.wait_events(1)
    assert event["grpc_status"] == status and event["status"] == 200
    assert bool(event["flags"] & 128) == is_failed
    assert event["reason_name"] == ("grpc_failed" if is_failed else "answered")


def test_a_call_that_ends_without_a_status_is_unknown(both):
    def answer(st):
        st.head(200, HEAD)
        st.data(message(b"a"), is_last=True)
    origin, proxy, client = both(answer)
    call(client)
    event, = proxy.wait_events(1)
    assert event["grpc_status"] == 2 and event["flags"] & 128


def test_what_is_no_call_has_no_status(both):
    origin, proxy, client = both(lambda st: st.ok("x", ("grpc-status", "13")))
    assert client.get("/").body == b"x"
    event, = proxy.wait_events(1)
    assert event["grpc_status"] == NONE and event["reason_name"] == "answered"


def test_an_endpoint_whose_calls_fail_is_ejected(both, world):
    def fails(st):
        st.head(200, HEAD, ("grpc-status", "14"), is_last=True)

    def works(st):
        st.head(200, HEAD)
        st.end(("grpc-status", "0"))
    bad, good, good2 = H2Origin(fails), H2Origin(works), H2Origin(works)
    world.origins += [bad, good, good2]
    proxy = world.proxy(config(bad, good, good2, service=H2C + "    balance: round-robin\n"), 1)
    client = H2(proxy.port)
    for _ in range(200):
        call(client)
    assert len(bad.requests) < 60
    client.close()


def test_both_sides_speak_in_turns(both):
    """A bidirectional stream: each message is answered before the next one is sent."""
    def answer(st):
        st.head(200, HEAD)
        seen = 0
        while not getattr(st, "is_ended", False) or seen < len(st.body):
            part = st.body[seen:]
            seen += len(part)
            if part:
                st.data(part)
            time.sleep(0.002)
        st.end(("grpc-status", "0"))
    origin, proxy, client = both(answer, is_early=True)
    s = client.begin("/pkg.Service/Chat", "POST", CALL, is_last=False)
    a = client.answers[s]
    for i in range(30):
        client.send(s, message(b"%d" % i))
        want = b"".join(message(b"%d" % k) for k in range(i + 1))
        end = time.monotonic() + WAIT_S
        while a.body != want:
            assert client.pump() and time.monotonic() < end
    client.send(s, message(b"x" * 300000), is_last=True)
    client.wait(s)
    assert a.is_over and a.trailers["grpc-status"] == "0"
    assert len(a.body) == sum(len(message(b"%d" % k)) for k in range(30)) + 300005


def test_a_client_that_cancels_resets_the_stream_of_the_endpoint(both):
    def answer(st):
        st.head(200, HEAD)
        while st.reset is None:
            st.data(message(b"tick"))
            time.sleep(0.01)
    origin, proxy, client = both(answer)
    s = client.begin("/pkg.Service/Watch", "POST", CALL, is_last=False)
    client.send(s, message(b"from"), is_last=True)
    while not client.answers[s].body:
        client.pump()
    client.c.reset_stream(s, h2.errors.ErrorCodes.CANCEL)
    client.flush()
    end = time.monotonic() + WAIT_S
    while origin.requests[0].reset is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert origin.requests[0].reset == h2.errors.ErrorCodes.CANCEL
    assert origin.connections == 1


def test_a_slow_client_stream_holds_its_endpoint_stream(both):
    def answer(st):
        st.head(200, HEAD)
        st.data(b"x" * 20000000, wait_s=30)
        st.end(("grpc-status", "0"))
    origin, proxy, client = both(answer)
    client.reads = False
    s = client.begin("/pkg.Service/Much", "POST", CALL, is_last=True)
    end = time.monotonic() + WAIT_S
    while len(client.answers[s].body) < 65535 and time.monotonic() < end:
        client.pump(0.1)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        client.pump(0.1)
    assert len(client.answers[s].body) == 65535
    assert origin.conns[0].sent_bytes < 1500000
    other = H2(proxy.port)
    done = threading.Event()

    def small():
        t = other.begin("/pkg.Service/Much", "POST", CALL, is_last=True)
        while len(other.answers[t].body) < 1000000:
            other.pump()
        done.set()
    threading.Thread(target=small, daemon=True).start()
    assert done.wait(WAIT_S)
    other.close()


def test_a_client_that_cancels_before_the_answer_resets_the_stream_of_the_endpoint(both):
    """With and without the end of its own messages: the server of the call learns that nobody waits."""
    origin, proxy, client = both(lambda st: time.sleep(2), is_early=True)
    for is_last in (True, False):
        s = client.begin("/pkg.Service/Slow", "POST", CALL, is_last=False)
        client.send(s, message(b"from"), is_last=is_last)
        seen = 1 if is_last else 2
        end = time.monotonic() + WAIT_S
        while len(origin.requests) < seen or not origin.requests[-1].body:
            assert time.monotonic() < end
            time.sleep(0.01)
        client.c.reset_stream(s, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        while origin.requests[-1].reset is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert origin.requests[-1].reset == h2.errors.ErrorCodes.CANCEL
    assert origin.connections == 1
    events = proxy.wait_events(2)
    assert {e["reason_name"] for e in events} == {"stream_reset"}


def test_trailers_may_be_as_large_as_a_head(both, world):
    """A status with details: 20 KiB and 40 fields, from the endpoint and from the client."""
    many = [("x-detail-%d" % i, "%03d" % i * 150) for i in range(40)]
    seen = []

    def answer(st):
        seen.append(st.trailers)
        st.head(200, HEAD)
        st.data(message(b"a"))
        st.end(("grpc-status", "3"), ("grpc-status-details-bin", "QUJD" * 1000), *many)
    origin, proxy, client = both(answer)
    s = client.begin("/pkg.Service/Method", "POST", CALL, is_last=False)
    client.send(s, message(b"x"))
    client.c.send_headers(s, many, end_stream=True)
    client.flush()
    a = client.wait(s)
    assert a.is_over and a.trailers["grpc-status"] == "3" and a.trailers["grpc-status-details-bin"] == "QUJD" * 1000
    assert {n: v for n, v in a.trailers.items() if n.startswith("x-")} == dict(many)
    assert seen == [many]
    # the same to a client of HTTP/1, and in its chunks to an endpoint of HTTP/1
    m = proxy.connect().send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nContent-Length: 1\r\n\r\nx").response()
    assert dict(m.trailers)["grpc-status-details-bin"] == "QUJD" * 1000 and dict(m.trailers)["x-detail-39"] == many[39][1]
    old = world.origin(lambda m, w: seen.append(m.trailers) or b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    other = H2(world.proxy(config(old), 1).port)
    world.origins.append(other)
    s = other.begin("/", "POST", CALL, is_last=False)
    other.send(s, b"x")
    other.c.send_headers(s, many, end_stream=True)
    other.flush()
    assert other.wait(s).status == 200 and dict(seen[-1]) == dict(many)


def test_trailers_beyond_the_limit_of_heads_end_the_call(both):
    def answer(st):
        st.head(200, HEAD)
        st.data(message(b"a"))
        st.end(("grpc-status", "0"), *[("x-%d" % i, "v" * 1000) for i in range(60)])
    origin, proxy, client = both(answer)
    a = call(client)
    assert a.reset is not None and not a.is_over
    assert a.trailers is None


@pytest.mark.parametrize("fields,how", [(CALL, "whole"), (CALL, "half"), ((), "whole"), ((), "half")])
def test_calls_that_are_reset_at_once_never_exceed_what_a_connection_may_ask(both, fields, how):
    """An endpoint of HTTP/2 that is slow to notice a cancel: what it still works on counts, whatever the client resets."""
    origin, proxy, client = both(lambda st: time.sleep(1), is_early=True, extra="http2: { streams: 20 }\n",
                                 service="    tune: { limit: { min: 200, value: 200, max: 200 } }\n    eject: false\n")
    for s in [client.begin("/pkg.Service/Slow", "POST", fields, is_last=False) for _ in range(12)]:
        client.c.reset_stream(s, h2.errors.ErrorCodes.CANCEL)  # on their way: that tells nothing of how long it takes
    client.flush()
    client.pump(0.05)
    for _ in range(5):
        ids = [client.begin("/pkg.Service/Slow", "POST", fields, is_last=False) for _ in range(12)]
        for s in ids:
            client.send(s, message(b"from"), is_last=how == "whole")
        client.pump(0.1)
        for s in ids:
            if client.answers[s].reset is None and not client.answers[s].is_over:
                client.c.reset_stream(s, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        client.pump(0.05)
    assert 8 <= origin.peak <= 20  # the first twelve may still count, and never have come to the endpoint


# ---- health checks by grpc.health.v1 ----

SERVING, NOT_SERVING = message(b"\x08\x01"), message(b"\x08\x02")


@pytest.mark.parametrize("name, asked", [("on", b""), ("shop.Cart", b"\x0a\x09shop.Cart")])
@pytest.mark.parametrize("answer, status", [
    ((SERVING, "0"), 200), ((NOT_SERVING, "0"), 503), ((SERVING, "13"), 503), ((b"", "0"), 503), (("head", "12"), 503), (("plain", "-"), 415)])
def test_a_health_check_may_be_a_call(both, name, asked, answer, status):
    def check(st):
        said, code = answer
        if said == "plain":
            st.head(415, is_last=True)
        elif said == "head":
            st.head(200, HEAD, ("grpc-status", code), is_last=True)
        else:
            st.head(200, HEAD)
            st.data(said)
            st.end(("grpc-status", code))
    origin, proxy, _ = both(check, service="    health: { grpc: %s, interval: 100ms, timeout: 100ms, rise: 1, fall: 1 }\n" % name)
    deadline, probes = time.monotonic() + WAIT_S, []
    while not probes and time.monotonic() < deadline:
        probes = [e for e in proxy.events("health") if e["status"]]
        time.sleep(0.02)
    assert {(e["status"], e["reason"]) for e in probes} == {(status, 203 if status == 200 else 202)}
    st = origin.requests[0]
    assert st.path == "/grpc.health.v1.Health/Check" and st.get(":method") == "POST" and st.body == message(asked)
    assert st.get("content-type") == "application/grpc" and st.get("te") == "trailers"
