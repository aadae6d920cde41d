# SPDX-License-Identifier: Apache-2.0
"""Several nodes as one fleet, over the smallest broker there is: a file that all of them append to and follow.  The
same over a real Kafka: test/peer/test_fleet_kafka.py."""
import http.client
import os
import signal
import threading
import time

import pytest
from fb import Foldback, Origin, until

CONFIG = """mode: act
services:
  app: {{ endpoints: ["{host}:{port}"] }}
routes:
  - {{ match: /limited, service: app, rate_limits: [{{ rate: 100/s, burst: 20, by: route, scope: fleet }}] }}
  - {{ match: /, service: app }}
connectors:
  bus: {{ type: file, direction: fleet, path: {path}, sync: false }}
fleet: {{ connector: bus, region: here }}
"""


class Load:
    """GETs at a steady rate over several connections; what came back."""

    def __init__(self, fold, per_s, path="/limited", clients=1):
        self.fold, self.per_s, self.path = fold, per_s / clients, path
        self.passed = self.refused = 0
        self.other = []
        self.is_over = False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def run(self):
        c, due = None, time.monotonic()
        while not self.is_over:
            due += 1 / self.per_s
            time.sleep(max(0, due - time.monotonic()))
            try:
                c = c or http.client.HTTPConnection(self.fold.host, self.fold.port, timeout=10)
                c.request("GET", self.path)
                r = c.getresponse()
                r.read()
                self.passed += r.status == 200
                self.refused += r.status == 429
                if r.status not in (200, 429):
                    self.other.append(r.status)
            except OSError as e:
                self.other.append(repr(e))
                c = None

    def stop(self):
        self.is_over = True
        for t in self.threads:
            t.join(15)


def status(fold):
    return fold.api("GET", "/v1/fleet", timeout_s=10)


def tried(fact):
    def ask():
        try:
            return fact()
        except (OSError, AssertionError, http.client.HTTPException, StopIteration, IndexError, TypeError):
            return False
    return ask


def share_pct(fold):
    """The part in force at the gateway of this node."""
    for k in fold.api("GET", "/v1/knobs", timeout_s=10)["knobs"]:
        if k["knob"] == "fleet_share_pct" and k["target"]["name"] == "app /limited":
            return k["value"]
    return None


@pytest.fixture()
def fleet(tmp_path):
    origin, nodes = Origin(), []
    path = tmp_path / "bus" / "fleet.txt"
    path.parent.mkdir()

    def start(count, more=""):
        for i in range(count):
            folder = tmp_path / f"node{i}"
            folder.mkdir()
            text = CONFIG.format(host="127.0.0.1", port=origin.port, path=path)
            text = f"node: node-{i}\n" + text
            nodes.append(Foldback(folder, text.replace("region: here", "region: here" + more)).start())
        until(tried(lambda: all(status(n)["state"] == "joined" and status(n)["nodes_live"] == count for n in nodes)),
              60, "all nodes hear each other")
        return nodes
    start.path = path
    yield start
    for n in nodes:
        n.stop()
    origin.stop()


def controllers(nodes):
    return {next(s["controller"] for s in status(n)["services"] if s["service"] == "app") for n in nodes}


def test_nodes_find_each_other_and_name_one_controller(fleet):
    nodes = fleet(3)
    until(tried(lambda: len(controllers(nodes)) == 1), 30, "all name the same controller")
    seen = status(nodes[0])
    assert len({n["node"] for n in seen["nodes"]}) == 3
    assert sum(n["is_self"] for n in seen["nodes"]) == 1
    assert {n["region"] for n in seen["nodes"]} == {"here"}
    assert {n["name"] for n in seen["nodes"]} == {"node-0", "node-1", "node-2"}
    said = nodes[0].cli("fleet", "status")
    assert said.returncode == 0 and "joined" in said.stdout and "this one" in said.stdout, said.stdout + said.stderr
    assert all(" node-%d " % i in said.stdout for i in range(3)), said.stdout


def test_the_load_of_the_others_is_known(fleet):
    nodes = fleet(2)
    threads = [threading.Thread(target=nodes[0].get, args=("/slow/8000", 30), daemon=True) for _ in range(5)]
    for t in threads:
        t.start()

    def in_flight():
        return next(s["in_flight"] for s in status(nodes[1])["services"] if s["service"] == "app")
    until(tried(lambda: in_flight() == 5), 20, "the second node hears of five requests at the first")
    for t in threads:
        t.join(30)


def test_a_limit_is_divided_by_what_is_asked_and_holds_over_all(fleet):
    nodes = fleet(3)
    loads = [Load(nodes[0], 300, clients=16), Load(nodes[1], 10)]
    try:
        until(tried(lambda: share_pct(nodes[0]) > 60 and sum(share_pct(n) for n in nodes) <= 100.1), 60,
              "the busy node has most of the limit, and the parts are no more than the whole")
        before, refused = [x.passed for x in loads], loads[1].refused
        at = time.monotonic()
        time.sleep(6)
        took_s = time.monotonic() - at
        passed = [x.passed - b for x, b in zip(loads, before)]
        # whatever the machine could send, no more than the limit and a bucket came through
        assert sum(passed) <= 100 * took_s * 1.1 + 25, (passed, took_s)
        assert passed[0] > passed[1]
        assert loads[1].refused - refused <= 2, "who asks for little gets it"
        assert not loads[0].other and not loads[1].other, (loads[0].other, loads[1].other)
    finally:
        for x in loads:
            x.stop()
    decided = [d for d in nodes[0].api("GET", "/v1/decisions?limit=200")["decisions"] if d["loop"] == "fleet"]
    assert decided and decided[0]["reason"] == "fleet_share"
    assert "requests/s of a limit of 100/s" in decided[0]["sentence"], decided[0]["sentence"]


def part_of(node, ident):
    """What the decision in force gives a node, per cent; 0: it is not listed."""
    limit = status(node)["limits"][0]
    return sum(x["share_pct"] for x in limit["shares"] if x["node"] == ident)


def test_when_the_controller_dies_the_next_one_decides(fleet):
    nodes = fleet(3, ", lease: 2s, safe_permille: 5")
    until(tried(lambda: len(controllers(nodes)) == 1), 30, "all name the same controller")
    dead_id = controllers(nodes).pop()
    dead = next(n for n in nodes if status(n)["node"] == dead_id)
    rest = [n for n in nodes if n is not dead]
    load = Load(rest[0], 100)
    try:
        until(tried(lambda: any(x["controller"] == dead_id for x in status(rest[0])["limits"])), 30,
              "the first controller decided")
        for name in ("fb-brain", "fb-gateway"):
            os.kill(dead.child(name), signal.SIGSTOP)  # so that nothing restarts them in time
        os.kill(dead.process.pid, signal.SIGKILL)
        at = time.monotonic()
        until(tried(lambda: [x["controller"] for x in status(rest[1])["limits"]][0] not in ("0" * 16, dead_id)), 30,
              "another node decides")
        print(f"next decision after {time.monotonic() - at:.1f} s (bar: 5 s)")
        until(tried(lambda: status(rest[0])["nodes_live"] == 2), 20, "the dead node is known to be silent")
        until(tried(lambda: part_of(rest[0], dead_id) < 1), 60, "its part is divided when its lease is over")
        assert not load.other, load.other
    finally:
        load.stop()
        for name in ("fb-brain", "fb-gateway"):
            pid = dead.child(name)
            if pid:
                os.kill(pid, signal.SIGKILL)
    alerts = rest[0].api("GET", "/v1/alerts")["alerts"]
    assert any(a["reason"] == "alert_fleet_node" for a in alerts), alerts


def test_a_brain_that_stands_still_costs_nothing_while_the_lease_runs(fleet):
    nodes = fleet(2, ", safe_permille: 1")
    load = Load(nodes[0], 60)
    brain = nodes[0].child("fb-brain")
    try:
        until(tried(lambda: share_pct(nodes[0]) > 60), 60, "the busy node has most of the limit")
        os.kill(brain, signal.SIGSTOP)
        time.sleep(6)  # longer than a gateway trusts a brain that is silent
        before = load.passed, load.refused
        until(lambda: load.passed >= before[0] + 60, 30, "requests go on")
        assert load.refused - before[1] <= 5, "with the part that this node had"
    finally:
        if nodes[0].child("fb-brain") == brain:
            os.kill(brain, signal.SIGCONT)
        load.stop()
    assert not load.other, load.other


def test_a_node_that_stops_gives_its_part_back(fleet):
    nodes = fleet(2)  # with leases of five minutes
    gone = status(nodes[1])["node"]
    until(tried(lambda: part_of(nodes[0], gone) > 20), 60, "it has a part")
    nodes[1].process.send_signal(signal.SIGTERM)
    nodes[1].process.wait(60)
    until(tried(lambda: part_of(nodes[0], gone) == 0), 60, "which is free")
    until(tried(lambda: share_pct(nodes[0]) > 99), 60, "and in use")


def test_a_node_that_leaves_in_order_alarms_nobody(fleet):
    nodes = fleet(3)
    gone, killed = status(nodes[1])["node"], status(nodes[2])["node"]
    nodes[1].process.send_signal(signal.SIGTERM)
    nodes[1].process.wait(60)

    def seen(ident):
        return next(n for n in status(nodes[0])["nodes"] if n["node"] == ident)
    until(tried(lambda: seen(gone)["has_left"] and not seen(gone)["is_live"]), 30, "it is known to have left")
    assert "left" in nodes[0].cli("fleet", "status").stdout
    # one that falls silent is told of: had the first one been missed, two would be
    for name in ("fb-brain", "fb-gateway"):
        os.kill(nodes[2].child(name), signal.SIGSTOP)
    os.kill(nodes[2].process.pid, signal.SIGKILL)
    try:
        until(tried(lambda: any(a["reason"] == "alert_fleet_node" for a in nodes[0].api("GET", "/v1/alerts")["alerts"])), 60,
              "the one that was killed is missed")
        assert not seen(killed)["has_left"]
        look = status(nodes[0])
        assert (look["nodes_known"], look["nodes_live"]) == (2, 1), look
        said = [a["text"] for a in nodes[0].api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_fleet_node"]
        assert said == ["1 of 2 nodes of the fleet are silent: node-2"], said
    finally:
        for name in ("fb-brain", "fb-gateway"):
            pid = nodes[2].child(name)
            if pid:
                os.kill(pid, signal.SIGKILL)


def test_a_part_that_a_pin_refused_holds_when_the_pin_is_gone(fleet):
    nodes = fleet(2)
    until(tried(lambda: 10 < share_pct(nodes[0]) <= 60), 60, "it has a part")
    pin = "/v1/knobs/fleet_share_pct/app%20%2Flimited/pin"
    nodes[0].api("PUT", pin, {"value": 1, "why": "test"})
    until(tried(lambda: share_pct(nodes[0]) == 1), 30, "an operator holds it")
    nodes[1].process.send_signal(signal.SIGTERM)
    nodes[1].process.wait(60)
    mine = status(nodes[0])["node"]
    until(tried(lambda: part_of(nodes[0], mine) > 99), 60, "all of the limit is its own")
    assert share_pct(nodes[0]) == 1
    nodes[0].api("DELETE", pin)
    until(tried(lambda: share_pct(nodes[0]) > 99), 60, "and in force when nobody holds it")


def test_a_fleet_is_left_and_joined_by_a_reload(fleet):
    nodes = fleet(2)
    text = open(nodes[1].file).read()
    until(tried(lambda: share_pct(nodes[1]) is not None and share_pct(nodes[1]) < 100), 60, "it has a part")
    with open(nodes[1].file, "w") as f:
        f.write(text.replace("fleet: { connector: bus, region: here }", "").replace("connectors:\n", "").replace(
            text[text.index("  bus:"):text.index("fleet:")], ""))
    assert nodes[1].cli("reload").returncode == 0, nodes[1].text()
    until(tried(lambda: status(nodes[1])["state"] == "off"), 20, "it is alone")
    until(tried(lambda: share_pct(nodes[1]) == 100), 20, "all of the limit is its own again")
    until(tried(lambda: status(nodes[0])["nodes_live"] == 1), 20, "the other one knows")
    with open(nodes[1].file, "w") as f:
        f.write(text)
    assert nodes[1].cli("reload").returncode == 0, nodes[1].text()
    until(tried(lambda: status(nodes[0])["nodes_live"] == 2 and status(nodes[1])["state"] == "joined"), 40, "it is back")
