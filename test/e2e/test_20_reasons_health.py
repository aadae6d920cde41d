# SPDX-License-Identifier: Apache-2.0
"""Every reason of src/event/reasons.def for which an endpoint changes its state or its place, provoked once."""
import contextlib
import socket
import threading
import time

import pytest
from conftest import Origin
from reasons_util import HEALTH, REASONS, WIDE, all_events, answer, connect, get, send, service
from fb import Foldback, free_port, until  # noqa: E402


# ---- health ----

class Mood:
    """An endpoint that is away (refuses), well, or ill (answers 500), as told."""

    def __init__(self, mood="well"):
        self.mood = mood
        self.origin = None
        self.hold = socket.socket()  # holds the port, bound and deaf, so that nobody else gets it
        self.hold.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.hold.bind(("127.0.0.1", 0))
        self.port = self.hold.getsockname()[1]
        if mood != "away":
            self.come()
        self.address = "127.0.0.1:%d" % self.port

    def come(self):
        self.mood = "well"
        self.origin = Origin(self.answer, self.port)

    def answer(self, request, wire):
        if self.mood == "ill":
            return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
        return answer(request, wire)


def health_config(m, extra=""):
    def ends(*names):
        return "[%s]" % ", ".join('"%s"' % (m[n].address if n in m else n) for n in names)
    return f"""mode: observe
upstream: {{ retries: 0, connect_timeout: 200ms }}
services:
  errors: {{ endpoints: {ends("e1", "e2", "e3")}, {WIDE}, balance: round-robin }}
  gone: {{ endpoints: {ends("dead", "g2")}, {WIDE}, balance: round-robin }}
  probed: {{ endpoints: {ends("p1", "p2")}, {WIDE}, health: {{ path: /up, interval: 100ms, timeout: 100ms, fall: 2, rise: 2 }} }}
  panic: {{ endpoints: {ends("q1", "q2", "q3", "q4")}, {WIDE}, balance: round-robin }}
  moved: {{ endpoints: {ends("m1", "m2")}, {WIDE} }}
{extra}routes:
  - {{ match: /errors/, service: errors }}
  - {{ match: /gone/, service: gone }}
  - {{ match: /probed/, service: probed }}
  - {{ match: /panic/, service: panic }}
  - {{ match: /moved/, service: moved }}
"""


def keep_sending(fold, path, stop):
    w = None
    while not stop.is_set():
        try:
            w = w or connect(fold)
            w.send(get(path)).response()
        except (OSError, EOFError):
            w = None
        time.sleep(0.01)


@pytest.fixture(scope="module")
def health_events(tmp_path_factory):
    """All that the log says of endpoints after one story with endpoints that fail, recover, stall, join and leave."""
    m = {n: Mood() for n in ("e1", "e2", "e3", "g2", "p1", "p2", "q4", "m1", "m2")}
    m.update({n: Mood("away") for n in ("q1", "q2", "q3")})
    folder = tmp_path_factory.mktemp("health")
    dead = "127.0.0.1:%d" % free_port()
    text = health_config(m).replace('"dead"', '"%s"' % dead)
    fold = Foldback(folder, text).start()
    stop = threading.Event()
    threads = [threading.Thread(target=keep_sending, args=(fold, p, stop), daemon=True) for p in ("/errors/", "/gone/", "/panic/")]
    for t in threads:
        t.start()
    m["e1"].mood = "ill"
    m["p1"].mood = "ill"
    where = "moved " + m["m1"].address
    fold.api("POST", "/v1/drain", {"endpoint": where, "why": "test"})
    for _ in range(3):
        send(fold, get("/moved/"))
    send(fold, get("/moved/slow1500"))  # nothing completes for more than 500 ms: a stall
    fold.api("POST", "/v1/undrain", {"endpoint": where, "why": "test"})
    m["p1"].mood = "well"

    def has(reason, path=None):
        return any(e["reason"] == REASONS[reason]["id"] for e in all_events(fold, "health"))

    with contextlib.suppress(AssertionError):
        until(lambda: has("health_panic"), 12, "panic")
    for q in ("q1", "q2", "q3"):
        m[q].come()
    with contextlib.suppress(AssertionError):
        until(lambda: has("health_relapsed"), 20, "relapse")
    m["e1"].mood = "well"
    with open(fold.file) as f:
        now = f.read()
    with open(fold.file, "w") as f:
        f.write(now.replace('"%s", "%s"' % (m["m1"].address, m["m2"].address), '"%s"' % m["m2"].address))
    fold.api("POST", "/v1/reload")
    with contextlib.suppress(AssertionError):
        until(lambda: has("health_recovered") and has("health_panic_over") and has("health_removed"), 15, "recovery")
    stop.set()
    for t in threads:
        t.join(5)
    events = all_events(fold, "health")
    fold.stop()
    for x in m.values():
        x.hold.close()
        x.origin.close()
    return events


@pytest.mark.parametrize("reason", HEALTH)
def test_health_changes_with_its_reason(health_events, reason):
    assert REASONS[reason]["id"] in {e["reason"] for e in health_events}


# ---- places: what agents, zones and lists say ----


def test_endpoints_change_their_place_with_its_reason(tmp_path):
    line = [b"up\n"]

    def agent():
        while True:
            try:
                sock, _ = asked.accept()
                sock.sendall(line[0])
                sock.close()
            except OSError:
                return
    asked = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=agent, daemon=True).start()
    ups = [Origin(answer) for _ in range(3)]
    ends = ["127.0.0.1:%d" % o.port for o in ups]
    listed = tmp_path / "list.yaml"
    listed.write_text("- \"%s\"\n" % ends[2])
    fold = Foldback(tmp_path, f"""zone: east
services:
  asked: {{ endpoints: ["{ends[0]}"], agent_check: {{ port: {asked.getsockname()[1]}, interval: 100ms }} }}
  zoned:
    endpoints: [{{ address: "{ends[1]}", zone: east, max_in_flight: 1 }}, {{ address: "{ends[2]}", zone: west }}]
  listed: {{ endpoints: ["file://{listed}"] }}
routes:
  - {{ match: /asked/, service: asked }}
  - {{ match: /zoned/, service: zoned }}
  - {{ match: /listed/, service: listed }}
""").start()

    def has(reason):
        return any(e["reason"] == REASONS[reason]["id"] for e in all_events(fold, "health"))
    try:
        for said, reason in ((b"drain\n", "health_agent_out"), (b"ready\n", "health_agent_back"),
                             (b"50%\n", "health_agent_weight"), (b"down\n", "health_agent_down")):
            line[0] = said
            until(lambda: has(reason), 8, reason)
        asked.shutdown(socket.SHUT_RDWR)
        until(lambda: has("health_agent_lost"), 8, "silence")
        listed.write_text("- [")
        until(lambda: has("health_list_bad"), 8, "a broken list")
        listed.write_text("- \"%s\"\n" % ends[1])
        until(lambda: has("health_list_read"), 8, "a new list")
        for _ in range(20):
            send(fold, get("/zoned/"))  # known to be fast: one slow answer alone would say that it is not
        held = connect(fold).send(get("/zoned/slow1500"))
        time.sleep(0.2)
        for _ in range(10):
            send(fold, get("/zoned/"))
        until(lambda: has("health_zone_spill"), 8, "a spill")
        held.response()
        for _ in range(2000):
            send(fold, get("/zoned/"))
            if has("health_zone_home"):
                break
        assert has("health_zone_home")
    finally:
        fold.stop()
        asked.close()
        for o in ups:
            o.close()
