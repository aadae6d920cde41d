# SPDX-License-Identifier: Apache-2.0
"""Four gateways as one fleet over a real Apache Kafka: they find each other, share a limit, lose their controller,
lose the broker, and come back.  The finer cases are in test/fault/test_fleet.py."""
import os
import signal
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Origin, until  # noqa: E402
from kafka_server import Kafka  # noqa: E402
from test_fleet import CONFIG, Load, controllers, share_pct, status, tried  # noqa: E402


@pytest.fixture()
def fleet(tmp_path):
    kafka = Kafka(tmp_path / "kafka").start()
    kafka.topic("foldback-fleet", partitions=2)
    origin, nodes = Origin(), []
    text = CONFIG.format(host="127.0.0.1", port=origin.port, path="x")
    at = text.index("  bus:")
    text = (text[:at] + f"  bus: {{ type: kafka, direction: fleet, brokers: [\"{kafka.brokers}\"], topic: foldback-fleet }}\n"
            + text[text.index("fleet: {"):])
    try:
        for i in range(4):
            folder = tmp_path / f"node{i}"
            folder.mkdir()
            nodes.append(Foldback(folder, text).start())
        yield kafka, nodes
    finally:
        for n in nodes:
            n.stop()
        origin.stop()
        kafka.stop()


def all_joined(nodes):
    return tried(lambda: all(status(n)["state"] == "joined" and status(n)["nodes_live"] == len(nodes) for n in nodes))


def test_four_gateways_over_kafka(fleet):
    kafka, nodes = fleet
    until(all_joined(nodes), 120, "all hear each other through Kafka")
    until(tried(lambda: len(controllers(nodes)) == 1), 60, "all name the same controller")
    trips = sorted(status(n)["round_trip_ms"] for n in nodes)
    print(f"there and back through Kafka: {trips[0]:.0f}..{trips[-1]:.0f} ms (in steps of a tick, 100 ms)")
    loads = [Load(nodes[0], 300, clients=16), Load(nodes[1], 10)]
    try:
        until(tried(lambda: share_pct(nodes[0]) > 50 and sum(share_pct(n) for n in nodes) <= 100.1), 90,
              "the busy node has most of the limit, and the parts are no more than the whole")

        # the controller dies
        dead_id = controllers(nodes).pop()
        dead = next(n for n in nodes if status(n)["node"] == dead_id)
        rest = [n for n in nodes if n is not dead]
        victim = [x for x in loads if x.fold is dead]
        for name in ("fb-brain", "fb-gateway"):
            os.kill(dead.child(name), signal.SIGSTOP)
        os.kill(dead.process.pid, signal.SIGKILL)
        at = time.monotonic()
        until(tried(lambda: [x["controller"] for x in status(rest[0])["limits"]][0] not in ("0" * 16, dead_id)), 60,
              "another node decides")
        print(f"next decision {time.monotonic() - at:.1f} s after the death of the controller (bar: 5 s)")
        for name in ("fb-brain", "fb-gateway"):
            os.kill(dead.child(name) or 0, signal.SIGKILL) if dead.child(name) else None
        until(tried(lambda: all(status(n)["nodes_live"] == 3 for n in rest)), 60, "three are left")
        for x in victim:
            x.stop()
            loads.remove(x)

        # the broker dies: nobody notices but the nodes themselves
        for x in loads:
            x.other.clear()
        kafka.stop()
        until(tried(lambda: all(status(n)["state"] == "autonomous" for n in rest)), 90, "all say that they are alone")
        said = rest[0].cli("fleet", "status")
        assert "autonomous" in said.stdout and "cut off" in said.stdout, said.stdout
        passed = [x.passed for x in loads]
        until(lambda: all(x.passed > p + 20 for x, p in zip(loads, passed)), 60, "traffic goes on")
        assert not any(x.other for x in loads), [x.other[:5] for x in loads]
        kafka.start()
        until(all_joined(rest), 180, "all are back")
        assert not any(x.other for x in loads), [x.other[:5] for x in loads]
    finally:
        for x in loads:
            x.stop()
    alerts = [a for a in rest[0].api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_fleet_cut"]
    assert alerts, "an alert was raised"
