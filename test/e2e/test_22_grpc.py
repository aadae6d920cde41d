"""gRPC through foldback: trailers, grpc-status as the outcome, deadlines, refusals in its own form."""
import os
import re
import threading

import pytest

from conftest import REPO, config, ok
from h2_util import H2

with open(os.path.join(REPO, "src", "event", "reasons.def")) as f:
    REASON = {int(n): name for name, n in re.findall(r"^REASON\(\w+, \w+, (\w+), (\d+)", f.read(), re.M)}
CALL = [("content-type", "application/grpc"), ("te", "trailers")]
MESSAGE = b"\0\0\0\0\x03abc"
NONE, FAILED = 65535, 128


def reply(status, payload=MESSAGE):
    return (b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n"
            b"%x\r\n%s\r\n0\r\ngrpc-status: %d\r\ngrpc-message: said\r\n\r\n" % (len(payload), payload, status))


def trailers_only(status):
    return (b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: %d\r\nContent-Length: 0\r\n\r\n" % status)


def call(port, path="/pkg.Service/Method", fields=(), body=MESSAGE):
    c = H2(port)
    return c.get(path, "POST", CALL + list(fields), body)


@pytest.mark.parametrize("status,reason", [(0, "answered"), (3, "answered"), (5, "answered"), (14, "grpc_failed"),
                                           (8, "grpc_failed"), (4, "grpc_failed"), (13, "grpc_failed")])
@pytest.mark.parametrize("form", ["trailers", "head"])
def test_the_status_passes_and_is_the_outcome(world, status, reason, form):
    origin, proxy = world.pair(lambda m, w: reply(status) if form == "trailers" else trailers_only(status))
    a = call(proxy.port)
    assert a.status == 200 and a.is_over
    if form == "trailers":
        assert (a.body, a.trailers["grpc-status"], a.trailers["grpc-message"]) == (MESSAGE, str(status), "said")
    else:
        assert (a.body, a.fields["grpc-status"]) == (b"", str(status))
    m = origin.requests[-1]
    assert (m.body, m.get("te")) == (MESSAGE, "trailers")
    e = proxy.wait_events(1)[0]
    assert (REASON[e["reason"]], e["status"], e["grpc_status"]) == (reason, 200, status)
    assert bool(e["flags"] & FAILED) == (reason != "answered")


def test_an_answer_without_a_status_counts_as_unknown(world):
    origin, proxy = world.pair(lambda m, w: ok(b"?"))
    assert call(proxy.port).status == 200
    e = proxy.wait_events(1)[0]
    assert (REASON[e["reason"]], e["grpc_status"]) == ("grpc_failed", 2)


def test_other_requests_have_no_grpc_status(world):
    origin, proxy = world.pair(lambda m, w: reply(14))
    a = H2(proxy.port).get("/", "POST", [("content-type", "application/json")], b"{}")
    assert a.trailers["grpc-status"] == "14"
    e = proxy.wait_events(1)[0]
    assert (REASON[e["reason"]], e["grpc_status"]) == ("answered", NONE)


def test_a_failing_endpoint_of_calls_is_ejected(world):
    bad = world.origin(lambda m, w: reply(14))
    good = world.origin(lambda m, w: reply(0))
    proxy = world.proxy(config(bad, good))
    c = H2(proxy.port)
    for _ in range(120):
        c.get("/s/m", "POST", CALL, MESSAGE)
    before = len(bad.requests)
    for _ in range(40):
        c.get("/s/m", "POST", CALL, MESSAGE)
    assert before >= 1 and len(bad.requests) - before <= 5


def test_grpc_timeout_is_a_deadline(world):
    gate, late = threading.Event(), []

    def answer(m, w):
        late.append(gate.wait(60))
        return reply(0)
    origin, proxy = world.pair(answer)
    a = call(proxy.port, fields=[("grpc-timeout", "200m")])
    assert not late, "the endpoint was not waited for"
    gate.set()
    assert (a.status, a.fields["grpc-status"], a.is_over) == (200, "4", True)
    assert origin.requests[-1].get("grpc-timeout") == "200m"
    e = proxy.wait_events(1)[0]
    assert (REASON[e["reason"]], e["grpc_status"]) == ("deadline", 4)


@pytest.mark.parametrize("timeout", ["", "m", "200", "200x", "-1S", "123456789S"])
def test_a_timeout_that_is_none_is_not_used(world, timeout):
    origin, proxy = world.pair(lambda m, w: reply(0))
    a = call(proxy.port, fields=[("grpc-timeout", timeout)])
    assert a.trailers["grpc-status"] == "0"


def test_refusals_come_in_grpc_form(world):
    origin, proxy = world.pair(lambda m, w: False, extra="limits: { body_bytes: 100B }\nupstream: { retries: 0 }\n")
    a = call(proxy.port)
    assert (a.status, a.fields["content-type"], a.fields["grpc-status"], a.is_over) == (200, "application/grpc", "14", True)
    assert "grpc-message" in a.fields and 'details="upstream_reset"' in a.fields["proxy-status"]
    a = call(proxy.port, body=b"x" * 200)
    assert a.fields["grpc-status"] == "8"
    reasons = [(REASON[e["reason"]], e["status"], e["grpc_status"]) for e in proxy.wait_events(2)]
    assert sorted(reasons) == [("body_too_large", 200, 8), ("upstream_reset", 200, 14)]
