# SPDX-License-Identifier: Apache-2.0
"""Four gateways in four network namespaces, a real Kafka in a fifth, and cables that are pulled: that of the node that
decides, that of the broker, that of an edge node.  Clients and endpoints stay reachable, as they are on another way.

Latency beside one gateway is measured by test/bench/fleet_bench.py."""
import os
import signal
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Origin, until  # noqa: E402
from kafka_server import Kafka  # noqa: E402
from netns import Net  # noqa: E402
from test_fleet import CONFIG, Load, controllers, part_of, share_pct, status, tried  # noqa: E402


@pytest.fixture(scope="module")
def net():
    n = Net()
    yield n
    n.close()


@pytest.fixture(scope="module")
def kafka(net, tmp_path_factory):
    at = net.hosts[0]
    k = Kafka(tmp_path_factory.mktemp("kafka") / "kafka", host=at.bus, within=at.within)
    try:
        yield k.start()
    finally:
        k.stop()


@pytest.fixture()
def fleet(net, kafka, tmp_path):
    """Starts one node per text of additional fleet keys."""
    origin, nodes = Origin(host=net.here_front), []
    topic = kafka.topic(f"fleet-{os.path.basename(tmp_path)[:60]}", partitions=2)
    text = CONFIG.format(host=net.here_front, port=origin.port, path="x")
    at = text.index("  bus:")
    bus = f"  bus: {{ type: kafka, direction: fleet, brokers: [\"{kafka.brokers}\"], topic: {topic} }}\n"

    def start(*more):
        for i, extra in enumerate(more):
            if len(net.hosts) < i + 2:
                net.host()
            host = net.hosts[i + 1]
            folder = tmp_path / f"node{i}"
            folder.mkdir()
            fold = Foldback(folder, text[:at] + bus + f"fleet: {{ connector: bus, region: here{extra} }}\n",
                            host=host.front, within=host.within)
            fold.where = host
            nodes.append(fold)
            fold.start()
            for loop in ("timeout", "limit", "shed", "hedge", "retry"):
                fold.api("POST", "/v1/mode", {"mode": "recommend", "loop": loop})  # a busy machine is not their matter
        until(all_joined(nodes), 120, "all hear each other through Kafka")
        return nodes
    start.topic, start.nodes = topic, nodes
    try:
        yield start
    finally:
        for host in net.hosts:
            host.mend_bus()
        for n in nodes:
            n.stop()
        origin.stop()


def all_joined(nodes):
    return tried(lambda: all(status(n)["state"] == "joined" and status(n)["nodes_live"] == len(nodes) for n in nodes))


def says(node, state):
    return tried(lambda: status(node)["state"] == state)


def the_node(nodes, ident):
    return next(n for n in nodes if status(n)["node"] == ident)


def decided_by(node):
    return {x["controller"] for x in status(node)["limits"]} - {"0" * 16}


def sum_pct(nodes):
    return sum(share_pct(n) for n in nodes)


def test_four_gateways_in_four_networks(fleet, net):
    nodes = fleet("", "", "", "")
    until(tried(lambda: len(controllers(nodes)) == 1), 60, "all name the same controller")
    trips = sorted(status(n)["round_trip_ms"] for n in nodes)
    print(f"there and back through Kafka: {trips[0]:.0f}..{trips[-1]:.0f} ms (in steps of a tick, 100 ms)")
    # one node is asked for most of the limit; and beside it plain traffic at all four, which nothing may harm
    asking = Load(nodes[0], 200, clients=8)
    plain = [Load(n, 20, path="/") for n in nodes]
    try:
        until(tried(lambda: share_pct(nodes[0]) > 50 and sum_pct(nodes) <= 100.1), 90,
              "the busy node has most of the limit, and the parts are no more than the whole")

        # the cable of the node that decides is pulled: another one decides, and it goes on alone
        lost_id = controllers(nodes).pop()
        until(tried(lambda: decided_by(nodes[0]) == {lost_id}), 30, "it decided")
        lost = the_node(nodes, lost_id)
        rest = [n for n in nodes if n is not lost]
        lost.where.cut_bus()
        at = time.monotonic()
        until(tried(lambda: lost_id not in decided_by(rest[0]) and decided_by(rest[0])), 60, "another node decides")
        print(f"next decision {time.monotonic() - at:.1f} s after the cut of the controller (bar: 5 s)")
        until(says(lost, "autonomous"), 60, "the one without a cable says that it is alone")
        assert all(status(n)["state"] == "joined" for n in rest)
        answered = plain[nodes.index(lost)].passed
        until(lambda: plain[nodes.index(lost)].passed > answered + 20, 60, "it serves as before")
        until(tried(lambda: sum_pct(nodes) <= 100.1), 60, "the parts of all four are no more than the whole")
        lost.where.mend_bus()
        until(all_joined(nodes), 180, "it is back")

        # the cable of the broker is pulled: nobody notices but the nodes themselves
        net.hosts[0].cut_bus()
        until(tried(lambda: all(status(n)["state"] == "autonomous" for n in nodes)), 90, "all say that they are alone")
        assert sum_pct(nodes) <= 100.1
        said = nodes[1].cli("fleet", "status")
        assert "autonomous" in said.stdout and "cut off" in said.stdout, said.stdout
        answered = [x.passed for x in plain]
        until(lambda: all(x.passed > a + 20 for x, a in zip(plain, answered)), 60, "traffic goes on")
        net.hosts[0].mend_bus()
        until(all_joined(nodes), 180, "all are back")
        until(tried(lambda: sum_pct(nodes) <= 100.1), 60, "the parts are no more than the whole")
        for x in [asking, *plain]:
            assert not x.other, x.other[:5]

        # the node that decides dies
        until(tried(lambda: len(controllers(nodes)) == 1), 60, "all name the same controller")
        dead_id = controllers(nodes).pop()
        dead = the_node(nodes, dead_id)
        rest = [n for n in nodes if n is not dead]
        until(tried(lambda: decided_by(rest[0]) == {dead_id}), 60, "it decided")
        for x in (asking, *plain):
            if x.fold is dead:
                x.stop()
        children = [dead.child(name) for name in ("fb-brain", "fb-gateway")]
        for pid in children:
            os.kill(pid, signal.SIGSTOP)  # so that nothing restarts them in time
        os.kill(dead.process.pid, signal.SIGKILL)
        at = time.monotonic()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        until(tried(lambda: dead_id not in decided_by(rest[0]) and decided_by(rest[0])), 60, "another node decides")
        print(f"next decision {time.monotonic() - at:.1f} s after kill -9 of the controller (bar: 5 s)")
        until(tried(lambda: all(status(n)["nodes_live"] == 3 for n in rest)), 60, "three are left")
    finally:
        for x in [asking, *plain]:
            x.stop()
    alerts = {a["reason"] for a in rest[0].api("GET", "/v1/alerts")["alerts"]}
    assert {"alert_fleet_cut", "alert_fleet_node"} <= alerts, alerts


def leb128(bytes_, at):
    value = shift = 0
    while True:
        byte = bytes_[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def head_of(message):
    """Kind, first number (node), role of a report."""
    assert message[:4] == b"fbf3", message[:40]
    numbers, at = [], 5
    for _ in range(6):
        number, at = leb128(message, at)
        numbers.append(number)
    return message[4], f"{numbers[0]:016x}", numbers[5]


def test_an_edge_node_sends_sketches_only_and_goes_on_alone(fleet, kafka):
    nodes = fleet("", ", role: edge")
    gateway, edge = nodes
    ids = [status(n)["node"] for n in nodes]
    secret = "a-name-that-stays-here"
    loads = [Load(edge, 100, path=f"/limited?user={secret}", clients=4), Load(gateway, 20)]
    try:
        until(tried(lambda: decided_by(edge) == {ids[0]}), 60, "the gateway decides, the edge node follows")
        until(tried(lambda: 1 < share_pct(edge) < 100), 60, "the edge node has its part")
        edge.where.cut_bus()
        until(says(edge, "autonomous"), 60, "cut off, it says so")
        answered = loads[0].passed
        until(lambda: loads[0].passed > answered + 50, 60, "and serves as before")
        edge.where.mend_bus()
        until(all_joined(nodes), 180, "it is back")
        assert not loads[0].other and not loads[1].other, (loads[0].other[:5], loads[1].other[:5])
        # a clean stop gives its part back, long before its lease is over
        loads[0].stop()
        until(tried(lambda: part_of(gateway, ids[1]) > 0), 60, "it has a part")
        edge.process.send_signal(signal.SIGTERM)
        edge.process.wait(60)
        until(tried(lambda: part_of(gateway, ids[1]) == 0), 60, "its part is free")
    finally:
        for x in loads:
            x.stop()
    asked = loads[0].passed + loads[0].refused
    reader = kafka.reader(fleet.topic)
    try:
        until(lambda: len(reader.poll(1)) > 100, 60, "the messages are there")
        messages = [m.value() for m in reader.poll(2)]
        bus_topics = set(reader.c.list_topics(timeout=20).topics)
    finally:
        reader.close()
    heads = [head_of(m) for m in messages]
    assert all(kind == 1 for kind, node, _ in heads if node == ids[1]), "an edge node never decides"
    assert any(kind == 2 for kind, node, _ in heads if node == ids[0])
    of_edge = [(m, h) for m, h in zip(messages, heads) if h[1] == ids[1]]
    assert of_edge and all(h[2] == 1 for _, h in of_edge), "its reports say what it is"
    assert max(len(m) for m, _ in of_edge) < 2000, "a report is a sketch, however many requests there were"
    for m in messages:
        assert secret.encode() not in m and b"/limited" not in m, "nothing of a request leaves the node"
    assert not [t for t in bus_topics if not t.startswith("_") and not t.startswith("fleet-")], bus_topics
    print(f"{asked} requests at the edge node, {sum(len(m) for m, _ in of_edge)} bytes of reports from it")
