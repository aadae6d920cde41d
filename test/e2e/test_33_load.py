# SPDX-License-Identifier: Apache-2.0
"""What endpoints say of their own load: answers with reports, agents beside them."""
import socket
import threading
import time

import pytest
from conftest import config, ok
from h2_origin import H2Origin
from h2_util import H2

pytestmark = pytest.mark.short


class Agent:
    """Says its line to whoever connects."""

    def __init__(self, line="up\n", host="127.0.0.1", port=0):
        self.line, self.asked = line, 0
        self.listener = socket.create_server((host, port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
                self.asked += 1
                if self.line is not None:
                    sock.sendall(self.line.encode("latin-1"))
                else:
                    time.sleep(3)
                sock.close()
            except OSError:
                return

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def two_hosts(world, answers):
    """Endpoints on 127.0.0.1 and 127.0.0.2: an agent's port is the same for all of a service."""
    a = world.origin(answers[0])
    b = world.origin(answers[1])
    b.listener.shutdown(socket.SHUT_RDWR)
    b.close()
    b.listener = socket.create_server(("127.0.0.2", a.port))
    threading.Thread(target=b.accept, daemon=True).start()
    return a, b


def agents(world, service=""):
    a, b = two_hosts(world, [lambda r, w: ok("a"), lambda r, w: ok("b")])
    first = Agent()
    second = Agent(host="127.0.0.2", port=first.port)
    proxy = world.proxy("services:\n  app:\n    endpoints: [\"127.0.0.1:%d\", \"127.0.0.2:%d\"]\n"
                        "    agent_check: { port: %d, interval: 100ms }\n%s"
                        "routes:\n  - { match: /, service: app }\n" % (a.port, a.port, first.port, service))
    return proxy, first, second


def share(proxy, count=40):
    got = [proxy.get("/") for _ in range(count)]
    assert all(m.status == 200 for m in got), [m.status for m in got]
    return sum(m.body == b"a" for m in got) / count


def until(check, wait_s=30):
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return False


def test_the_word_of_an_agent_moves_traffic(world):
    proxy, first, second = agents(world, "    balance: weighted\n")
    said = []

    def was_said(reason):
        said.extend(e["reason"] for e in proxy.events("health"))
        return reason in said
    assert 0.4 <= share(proxy) <= 0.6
    first.line = "drain\n"
    assert until(lambda: was_said(221)), "health_agent_out"
    assert share(proxy) == 0
    first.line = "ready\n"
    assert until(lambda: was_said(222)), "health_agent_back"
    first.line = "25%\n"
    assert until(lambda: was_said(223)), "health_agent_weight"
    assert until(lambda: 0.1 <= share(proxy) <= 0.3)
    first.line = "down#disk\n"
    assert until(lambda: was_said(220)), "health_agent_down"
    assert share(proxy) == 0
    first.close()
    assert until(lambda: was_said(224)), "health_agent_lost"
    assert until(lambda: share(proxy) > 0.3)
    second.close()


def test_garbage_and_silence_of_an_agent_change_nothing_but_age(world):
    proxy, first, second = agents(world)
    first.line = "drain\n"
    assert until(lambda: share(proxy, 10) == 0)
    proxy.events("health")
    first.line = "HTTP/1.1 400 Bad Request\r\n"
    assert until(lambda: 224 in [e["reason"] for e in proxy.events("health")]), "three in a row: it holds no more"
    assert until(lambda: share(proxy) > 0)
    first.line = "x" * 100000
    second.line = None
    time.sleep(0.5)
    assert proxy.get("/").status == 200
    first.close()
    second.close()


def test_maxconn_of_an_agent_bounds_what_is_in_flight(world):
    gate = threading.Event()

    def slow(r, w):
        gate.wait(5)
        return ok("slow")
    origin = world.origin(slow)
    agent = Agent("maxconn:2\n")
    proxy = world.proxy(config(origin, service="    agent_check: { port: %d, interval: 100ms }\n"
                                               "    queue: { wait: 5s }\n" % agent.port))
    assert until(lambda: 223 in [e["reason"] for e in proxy.events("health")])
    held = [proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(6)]
    time.sleep(0.4)
    assert origin.in_flight == 2
    gate.set()
    assert [w.response().status for w in held] == [200] * 6
    agent.close()


def test_an_agent_check_that_is_taken_out_of_the_file_is_forgotten(world):
    origin = world.origin(lambda r, w: ok())
    agent = Agent("drain\n")
    proxy = world.proxy(config(origin, service="    agent_check: { port: %d, interval: 100ms }\n" % agent.port))
    assert until(lambda: proxy.get("/").status == 503)
    assert proxy.reload(config(origin)).startswith("reloaded")
    assert until(lambda: proxy.get("/").status == 200)
    agent.close()


# ---- reports in answers ----

@pytest.mark.parametrize("field", [
    "Endpoint-Load-Metrics: TEXT cpu_utilization=%s",
    "endpoint-load-metrics: JSON {\"application_utilization\": %s}",
])
def test_reports_move_the_share_and_are_not_passed_on(world, field):
    ups = [world.origin(lambda r, w, i=i: ok("ab"[i], field % ("0.9" if i == 0 else "0.2"))) for i in range(2)]
    proxy = world.proxy(config(*ups, service="    balance: weighted\n"))
    for _ in range(100):
        m = proxy.get("/")
        assert m.get("endpoint-load-metrics") is None and m.body in (b"a", b"b")
    assert until(lambda: share(proxy, 60) < 0.35, 15), "the busy one gets less"


def test_binary_reports_and_garbage_are_taken_out_too(world):
    state = {"n": 0}
    fields = ["endpoint-load-metrics-bin: CQAAAAAAANA/", "endpoint-load-metrics: \x7f\xff{[", "endpoint-load-metrics: ",
              "Endpoint-Load-Metrics: TEXT cpu_utilization=nan"]

    def answer(r, w):
        state["n"] += 1
        return ok("x", "X-Before: 1", fields[state["n"] % 4], "X-After: 2")
    proxy = world.proxy(config(world.origin(answer)))
    for _ in range(8):
        m = proxy.get("/")
        assert m.status in (200, 502)
        assert not [n for n, _ in m.fields if "load-metrics" in n.lower()]
        if m.status == 200:
            assert m.get("x-before") == "1" and m.get("x-after") == "2"


def test_reports_in_trailers_are_taken_out(world):
    def answer(r, w):
        return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\n"
                b"X-Sum: 7\r\nEndpoint-Load-Metrics: TEXT cpu_utilization=0.5\r\n\r\n")
    proxy = world.proxy(config(world.origin(answer)))
    w = proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
    m = w.response()
    assert m.body == b"ok" and m.trailers == [("X-Sum", "7")]


def test_reports_pass_when_they_are_not_wanted(world):
    origin = world.origin(lambda r, w: ok("x", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.5"))
    proxy = world.proxy(config(origin, service="    load_reports: false\n"))
    assert proxy.get("/").get("endpoint-load-metrics") == "TEXT cpu_utilization=0.5"


def test_reports_in_the_trailers_of_calls_move_the_share(world):
    """gRPC servers write them behind the answer (gRFC A51)."""
    def answer(load):
        def with_load(st):
            st.head(200, ("content-type", "application/grpc"))
            st.data(b"\0\0\0\0\0")
            st.end(("grpc-status", "0"), ("endpoint-load-metrics", "TEXT cpu_utilization=" + load))
        return with_load
    ups = [H2Origin(answer(load)) for load in ("0.9", "0.2")]
    world.origins.extend(ups)
    proxy = world.proxy(config(*ups, service="    balance: weighted\n    protocol: h2c\n"))
    client = H2(proxy.port)
    world.origins.append(client)

    def share_of_first():
        before = [len(u.requests) for u in ups]
        for _ in range(60):
            a = client.get("/pkg.S/M", "POST", [("content-type", "application/grpc"), ("te", "trailers")], body=b"\0\0\0\0\0")
            assert a.trailers == {"grpc-status": "0"}, "the report is for us"
        got = [len(u.requests) - b for u, b in zip(ups, before)]
        return got[0] / sum(got)
    assert until(lambda: share_of_first() < 0.35, 15), "the busy one gets less"
