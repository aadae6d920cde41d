# SPDX-License-Identifier: Apache-2.0
"""Brokers that are slow instead of away, all five at once, through a proxy: they take bytes in a trickle, answer ten
seconds late, or hold their connections open and move nothing.  The gateway goes on, the brain does not grow, and when
they are fast again everything is there, counted by id."""
import json
import os
import shutil
import statistics
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Load  # noqa: E402
from kafka_server import Kafka  # noqa: E402
from kafka_try import connector, in_log, origin, until  # noqa: E402,F401
from slow_proxy import Slow  # noqa: E402
from test_receivers import Receivers, events  # noqa: E402

KINDS = ["kafka", "eventhubs", "kinesis", "pubsub", "redis"]
SLOW_S = 20
GROWTH_MAX = 192 << 20  # five sinks hold a batch of at most 16 MiB each, and their libraries a copy
MEDIAN_MAX_S = 1.0  # a gateway that waited for a broker would take many seconds; this is no measurement


class Broker:
    """Kafka with the two listeners that tell clients to come through the proxies."""

    def __init__(self, folder):
        self.fronts = {"kafka": Slow(), "eventhubs": Slow()}
        self.kafka = Kafka(folder, fronts=(self.fronts["kafka"].port, self.fronts["eventhubs"].port)).start()
        self.fronts["kafka"].to, self.fronts["eventhubs"].to = self.kafka.slow, self.kafka.slow_sasl

    def close(self):
        self.kafka.stop()
        for front in self.fronts.values():
            front.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    b = Broker(tmp_path_factory.mktemp("slow") / "kafka")
    yield b
    b.close()


class World:
    def __init__(self, folder, broker):
        self.r = Receivers(folder, broker.kafka)
        self.fronts = dict(broker.fronts)
        self.set("fast")

    def keys(self, kind, name):
        """Those of the receiver, but for its port: there is the proxy."""
        keys = self.r.keys(kind, name)
        if kind in ("kafka", "eventhubs"):
            port = self.r.broker.plain if kind == "kafka" else self.r.broker.sasl
        else:
            port = {"kinesis": lambda: self.r.shims[name].port, "pubsub": lambda: int(self.r.pubsub.address.rsplit(":", 1)[1]),
                    "redis": lambda: self.r.redis.port}[kind]()
            self.fronts[kind] = Slow(port)
        assert ":%d" % port in keys
        return keys.replace(":%d" % port, ":%d" % self.fronts[kind].port)

    def set(self, mode):
        for front in self.fronts.values():
            front.mode = mode

    def close(self):
        self.set("fast")
        for kind, front in self.fronts.items():
            if kind not in ("kafka", "eventhubs"):
                front.close()
        self.r.close()


@pytest.fixture()
def world(tmp_path, broker):
    w = World(tmp_path, broker)
    yield w
    w.close()


def resident(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))


def times(fold, seconds):
    """How long each of some requests took."""
    out, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        assert fold.get("/item", timeout_s=20) == 200
        out.append(time.monotonic() - begin)
        time.sleep(0.05)
    return out


@pytest.mark.parametrize("mode,timeout", [("trickle", "5s"), ("late", "30s"), ("stalled", "5s")])
def test_slow_brokers_hold_up_nobody_and_get_all_of_it_when_they_are_fast(tmp_path, origin, world, mode, timeout):  # noqa: F811
    rows = "".join("  %s: { type: %s, events: [request], delay: 100ms, from: start, backoff_max: 1s, %s }\n"
                   % (kind, kind, world.keys(kind, mode)) for kind in KINDS)
    for given in ("3s", "2s", "5s", "20s"):
        rows = rows.replace("timeout: " + given, "timeout: " + timeout)
    fold = Foldback(tmp_path, 'mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n'
                    "  - { match: /, service: app }\nconnectors:\n%s" % (origin.port, rows)).start()
    load = Load(fold.port, threads=2, pause_s=0.01)
    try:
        for kind in KINDS:
            until(lambda: len(events(world.r.got(kind, mode))) > 20, 90, kind + " takes events")
        brain = fold.child("fb-brain")
        before = resident(brain)
        world.set(mode)
        slow = times(fold, SLOW_S)
        for kind in KINDS:  # they are behind, and only they
            until(lambda: connector(fold, kind)["lag_events"] > 0, 60, kind + " is behind")
        assert statistics.median(slow) < MEDIAN_MAX_S
        assert fold.child("fb-brain") == brain and resident(brain) < before + GROWTH_MAX
        world.set("fast")
    finally:
        world.set("fast")
        load.stop()
    try:
        assert load.bad == []
        until(lambda: len(in_log(fold, "request")) >= load.ok, 60)
        want = [e["offset"] for e in in_log(fold, "request")]
        for kind in KINDS:
            until(lambda: set(want) <= {e["offset"] for e in events(world.r.got(kind, mode))}, 240, kind + " has all")
            got = [e["offset"] for e in events(world.r.got(kind, mode))]
            assert set(got) == set(want), kind
            if kind == "kafka":  # in transactions: each once, and in order
                assert got == want
            until(lambda: connector(fold, kind)["state"] == "running", 60, kind + " runs")
            assert connector(fold, kind)["dead"] == connector(fold, kind)["lost"] == 0
    finally:
        fold.stop()


def put(world, kind, name, numbers):
    values = [json.dumps({"name": "from." + kind, "value": i}).encode() for i in numbers]
    r = world.r
    if kind in ("kafka", "eventhubs"):
        r.broker.produce({"kafka": "receivers-", "eventhubs": "hub-"}[kind] + name, values)
    elif kind == "kinesis":
        for i, v in zip(numbers, values):
            r.shims[name].put("k%d" % i, v)
    elif kind == "pubsub":
        r.client.publish(name, values)
    else:
        for v in values:
            r.redis.ask("XADD", name, "*", "data", v)


def source_keys(world, kind, name):
    keys = world.keys(kind, name)
    if kind == "pubsub":
        return keys.replace("topic:", "subscription:")
    more = {"kafka": ", start: earliest, group: slow", "eventhubs": ", start: earliest, group: slow-hub",
            "kinesis": ", from: start", "redis": ", from: start"}[kind]
    return keys.replace(", transactions: true", "") + more


def test_slow_brokers_give_each_message_once(tmp_path, origin, world):  # noqa: F811
    rows = "".join("  %s: { type: %s, direction: source, backoff_max: 1s, %s }\n" % (k, k, source_keys(world, k, "incoming")) for k in KINDS)
    fold = Foldback(tmp_path, 'mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n'
                    "  - { match: /, service: app }\nconnectors:\n%s" % (origin.port, rows)).start()
    try:
        def taken(kind):
            return [int(e["value"]) for e in in_log(fold, "custom") if e["name"] == "from." + kind]
        at = 0
        for mode in ("fast", "late", "trickle", "stalled"):
            world.set(mode)
            for kind in KINDS:
                put(world, kind, "incoming", range(at, at + 50))
            at += 50
            if mode != "fast":
                assert statistics.median(times(fold, 12)) < MEDIAN_MAX_S
                world.set("fast")
            for kind in KINDS:
                until(lambda: len(set(taken(kind))) >= at, 240, "%s gives all after it was %s" % (kind, mode))
        for kind in KINDS:
            assert sorted(taken(kind)) == list(range(at)), kind
            until(lambda: connector(fold, kind)["state"] == "running", 60, kind + " runs")
    finally:
        world.set("fast")
        fold.stop()
