#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""fleet_bench: loops.md S6 and S9 on real sockets: latency behind several gateways over latency behind one.

  test/bench/fleet_bench.py [--scenario s6] [--rounds 4] [--seconds 20] [--scale 10] [--arms one,fleet,apart] [--format json]

one: a single gateway; fleet: several over a real Kafka; apart: as many that know nothing of each other.  The same total
load, and in each round the same arrivals and the same work per request for all arms, in turn.  Endpoints sleep and burn
nothing: each has four workers and a queue, as in the simulation.  All times are <scale> times those of the scenario and
the rate is as much lower, so that queues decide and not this machine's cores; the exchange of the fleet (100 ms) is not
scaled.  Ratios are medians of the rounds' ratios.
"""
import argparse
import asyncio
import json
import multiprocessing
import pathlib
import random
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test" / "fault"), str(ROOT / "test" / "peer")]
from fb import Foldback, until  # noqa: E402

SERVICE_S, WORKERS, SIGMA, WARM_S = 0.010, 4, 1.0, 10
SCENARIOS = {"s6": {"slow": [16, 16], "even": 14, "gateways": 4}, "s9": {"slow": [10, 10, 10], "even": 29, "gateways": 8}}
LOAD = 0.7


def serve_endpoints(slowness, pipe):
    """An HTTP server per endpoint, all in this process; x-work is the time that one of its workers sleeps."""
    class Conn(asyncio.Protocol):
        def __init__(self, slow, workers):
            self.slow, self.workers, self.got = slow, workers, b""

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.got += data
            while b"\r\n\r\n" in self.got:
                head, self.got = self.got.split(b"\r\n\r\n", 1)
                at = head.lower().find(b"x-work: ")
                work = float(head[at + 8:].split(b"\r\n", 1)[0]) if at >= 0 else 0
                asyncio.ensure_future(self.answer(work * self.slow))

        async def answer(self, work_s):
            async with self.workers:
                await asyncio.sleep(work_s)
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")

    async def run():
        loop, ports = asyncio.get_running_loop(), []
        for slow in slowness:
            workers = asyncio.Semaphore(WORKERS)
            server = await loop.create_server(lambda s=slow, w=workers: Conn(s, w), "127.0.0.1", 0, backlog=512)
            ports.append(server.sockets[0].getsockname()[1])
        pipe.send(ports)
        await asyncio.Event().wait()
    asyncio.run(run())


class Client(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self):
        self.got, self.done = b"", None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.got += data
        if self.got.endswith(b"ok\n") or b" 200 " not in self.got[:16]:
            is_good, self.got = b" 200 " in self.got[:16], b""
            if self.done and not self.done.done():
                self.done.set_result(is_good)

    def connection_lost(self, _):
        if self.done and not self.done.done():
            self.done.set_result(False)


async def play(ports, arrivals, works, choices):
    """Open loop: each request is due at its time, and measured from it."""
    loop = asyncio.get_running_loop()
    free = {p: [] for p in ports}
    took, failed, running = [], 0, set()
    begin = loop.time() + 0.2

    async def one(due, work, port):
        nonlocal failed
        c = free[port].pop() if free[port] else None
        if not c:
            c = (await loop.create_connection(Client, "127.0.0.1", port))[1]
        c.done = loop.create_future()
        c.transport.write(b"GET / HTTP/1.1\r\nhost: a\r\nx-work: %.6f\r\n\r\n" % work)
        if await c.done:
            free[port].append(c)
            if due >= WARM_S:
                took.append(loop.time() - begin - due)
        else:
            failed += 1
            c.transport.close()
    for due, work, choice in zip(arrivals, works, choices):
        wait = begin + due - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(due, work, ports[choice % len(ports)]))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.wait(running, timeout=120)
    for pool in free.values():
        for c in pool:
            c.transport.close()
    return sorted(took), failed


def config(endpoints, kafka, topic):
    listed = ", ".join(f'"127.0.0.1:{p}"' for p in endpoints)
    bus = "" if not kafka else (f'connectors:\n  bus: {{ type: kafka, direction: fleet, brokers: ["{kafka.brokers}"], topic: {topic} }}\n'
                                "fleet: { connector: bus }\n")
    return (f"mode: observe\nupstream: {{ timeout: 120s }}\nservices:\n  app: {{ endpoints: [{listed}] }}\n"
            f"routes:\n  - {{ match: /, service: app }}\n{bus}")


def measure(arm, scenario, opts, seed, kafka):
    rng = random.Random(seed)
    slowness = scenario["slow"] + [1] * scenario["even"]
    rate = LOAD * WORKERS * sum(1 / s for s in slowness) / (SERVICE_S * opts.scale)
    arrivals, at = [], 0.0
    while at < WARM_S + opts.seconds:
        at += rng.expovariate(rate)
        arrivals.append(at)
    works = [SERVICE_S * opts.scale * rng.lognormvariate(-SIGMA * SIGMA / 2, SIGMA) for _ in arrivals]
    choices = [rng.randrange(1 << 20) for _ in arrivals]
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve_endpoints, args=(slowness, theirs), daemon=True)
    server.start()
    nodes = []
    try:
        endpoints = ours.recv()
        with tempfile.TemporaryDirectory() as folder:
            topic = kafka.topic(f"fleet-{seed}-{time.monotonic_ns()}", partitions=1) if arm == "fleet" else ""
            try:
                for i in range(1 if arm == "one" else scenario["gateways"]):
                    (pathlib.Path(folder) / str(i)).mkdir()
                    nodes.append(Foldback(f"{folder}/{i}", config(endpoints, kafka if arm == "fleet" else None, topic)).start())
                if arm == "fleet":
                    until(lambda: all(n.api("GET", "/v1/fleet", timeout_s=30)["nodes_live"] == len(nodes) for n in nodes), 120,
                          "all hear each other")
                took, failed = asyncio.run(play([n.port for n in nodes], arrivals, works, choices))
            finally:
                for n in nodes:
                    n.stop()
    finally:
        server.terminate()
        server.join(10)
    at = {q: took[min(len(took) - 1, int(q * len(took)))] * 1e3 for q in (0.5, 0.99, 0.999)}
    return {"arm": arm, "n": len(took), "failed": failed, "rate": rate, "p50": at[0.5], "p99": at[0.99], "p999": at[0.999]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--scenario", choices=SCENARIOS, default="s6")
    p.add_argument("--rounds", type=int, default=4)
    p.add_argument("--seconds", type=float, default=20)
    p.add_argument("--scale", type=float, default=10)
    p.add_argument("--arms", default="one,fleet,apart")
    p.add_argument("--format", choices=("text", "json"), default="text")
    opts = p.parse_args()
    arms, rows, kafka = opts.arms.split(","), [], None
    with tempfile.TemporaryDirectory() as folder:
        if "fleet" in arms:
            from kafka_server import Kafka
            kafka = Kafka(pathlib.Path(folder) / "kafka").start()
        try:
            for r in range(opts.rounds):
                for arm in arms[r % len(arms):] + arms[:r % len(arms)]:
                    rows.append({"round": r, **measure(arm, SCENARIOS[opts.scenario], opts, 1000 + r, kafka)})
                    print("# round {round} {arm:6} n {n} failed {failed} p50 {p50:.0f} p99 {p99:.0f} p99.9 {p999:.0f} ms".format(
                        **rows[-1]), file=sys.stderr, flush=True)
        finally:
            if kafka:
                kafka.stop()
    out = {}
    for arm in arms:
        own = [x for x in rows if x["arm"] == arm]
        out[arm] = {k: statistics.median(x[k] for x in own) for k in ("p50", "p99", "p999")}
        base = [x for x in rows if x["arm"] == arms[0]]
        out[arm]["p99_ratio"] = statistics.median(a["p99"] / b["p99"] for a in own for b in base if a["round"] == b["round"])
        out[arm]["p50_ratio"] = statistics.median(a["p50"] / b["p50"] for a in own for b in base if a["round"] == b["round"])
        out[arm]["failed"] = sum(x["failed"] for x in own)
    if opts.format == "json":
        print(json.dumps(out))
        return
    print(f"{opts.scenario}, {opts.rounds} rounds of {opts.seconds:g} s, times x {opts.scale:g}")
    for arm, x in out.items():
        print(f"{arm:6} p50 {x['p50']:7.0f}  p99 {x['p99']:7.0f}  p99.9 {x['p999']:7.0f} ms   p50 / {arms[0]} {x['p50_ratio']:.3f}"
              f"  p99 / {arms[0]} {x['p99_ratio']:.3f}  failed {x['failed']}")


if __name__ == "__main__":
    main()
