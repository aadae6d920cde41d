#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""connectors: events/s, CPU per event and delivery delay of a connector to its real server on this machine.

  test/bench/connectors.py redis [--seconds 10] [--delay 200ms] [--format json] [--per block]
  test/bench/connectors.py kafka --source [--events 100000]

Catching up: the connector is paused while wrk fills the log with request events, then resumed and timed; CPU is that of
the connector's own thread (its share of the brain), and of the server.  Delay: paced requests, each measured from the
time of its event to the time at which the server stored it.  A source is timed from its resume until the last of the
waiting messages was taken in.  A new type is a class with the methods of RedisPeer.
"""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test" / "fault"), str(ROOT / "test" / "peer")]
from fb import Foldback  # noqa: E402


ORDER = json.dumps({"name": "order.placed", "value": 19.9, "text": "basket of three things"}).encode()


class RedisPeer:
    def start(self, folder):
        import test_redis
        self.server = test_redis.Redis(folder, "--appendfsync", "everysec")
        self.version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout.split()[2]

    def lines(self):
        return "type: redis, address: '127.0.0.1:%d', stream: bench, max_len: 0" % self.server.port

    def pid(self):
        return self.server.process.pid

    def fill(self, count):
        c = self.server.client()
        value = ORDER
        one = b"*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$4\r\ndata\r\n$%d\r\n%s\r\n" % (len(value), value)
        for _ in range(count // 100):
            c.sock.sendall(one * 100)
            for _ in range(100):
                c.answer()
        c.close()

    def stored(self, count):
        """(stored at, time of the event) in s, of the last <count> events."""
        out, at = [], "+"
        while len(out) < count:
            some = self.server.ask("XREVRANGE", "bench", at, "-", "COUNT", "50")
            if not some:
                break
            for name, fields in some:
                data = dict(zip(fields[::2], fields[1::2]))["data"]
                out += [(int(name.split("-")[0]) / 1000, event_time(json.loads(x))) for x in data.splitlines()]
            at = "(" + some[-1][0]
        return out[:count]

    def stop(self):
        self.server.end()


class KinesisPeer:
    """kinesis_shim.py without limits, in this process: delays are those of a Python server."""

    def start(self, folder):
        from kinesis_shim import Shim
        self.shim, self.version = Shim(shards=2), "shim"
        self.shim.rate, self.shim.page, self.shim.reads_per_s = 1e9, 10000, 1e9
        self.keys = folder / "credentials"
        self.keys.write_text("[default]\naws_access_key_id=AKIATEST\naws_secret_access_key=test-secret-of-the-shim\n")

    def lines(self):
        return "type: kinesis, stream: shop, aws_region: eu-central-1, endpoint: '%s', credentials_file: %s" % (
            self.shim.url, self.keys)

    def fill(self, count):
        for i in range(count):
            self.shim.put("k%d" % (i % 100), ORDER)

    def pid(self):
        return os.getpid()

    def stored(self, count):
        rows = [(at, x) for shard in self.shim.shards for _, _, data, at in shard.records for x in data.splitlines()]
        return [(at, event_time(json.loads(x))) for at, x in rows][-count:]

    def stop(self):
        self.shim.close()


class KafkaPeer:
    def start(self, folder):
        import kafka_server
        self.server = kafka_server.Kafka(folder / "kafka").start()
        self.server.topic("bench", partitions=1, **{"message.timestamp.type": "LogAppendTime"})
        self.version = "4.3.1"

    def lines(self):
        return "type: kafka, brokers: ['%s'], topic: bench%s" % (self.server.brokers, ", start: earliest" if self.is_source else "")

    def pid(self):
        return self.server.process.pid

    def fill(self, count):
        self.server.produce("bench", [ORDER] * count)

    def stored(self, count):
        reader, seen = self.server.reader("bench"), -1
        while not reader.messages or len(reader.messages) != seen:
            seen = len(reader.messages)
            reader.poll(3)
        reader.close()
        return [(m.timestamp()[1] / 1000, event_time(json.loads(x))) for m in reader.messages
                for x in m.value().splitlines()][-count:]

    def stop(self):
        self.server.stop()


class EventHubsPeer(KafkaPeer):
    """The same broker through TLS and SASL PLAIN, as the Kafka endpoint of Event Hubs is set up."""

    def start(self, folder):
        super().start(folder)
        from kafka_server import CONNECTION
        self.string = folder / "connection"
        self.string.write_text(CONNECTION + "\n")

    def lines(self):
        return "type: eventhubs, brokers: '127.0.0.1:%d', topic: bench, ca_file: %s, connection_string_file: %s%s" % (
            self.server.sasl, self.server.folder / "ca.pem", self.string, ", start: earliest" if self.is_source else "")


class PubSubPeer:
    """pubsub_server.py, in this process: a Python server."""

    def start(self, folder):
        from pubsub_server import PROJECT, Client, Server, topic_path
        self.server, self.project, self.topic, self.version = Server(), PROJECT, topic_path("bench"), "test server"
        self.client = Client(self.server.address)
        self.client.make("bench", ordered=False, deadline_s=600)

    def lines(self):
        return "type: pubsub, project: %s, %s: bench, endpoint: 'http://%s'" % (
            self.project, "subscription" if self.is_source else "topic", self.server.address)

    def pid(self):
        return os.getpid()

    def fill(self, count):
        for i in range(0, count, 1000):
            self.client.publish("bench", [ORDER] * min(1000, count - i))

    def stored(self, count):
        return [(m.publish_time.ToMicroseconds() / 1e6, event_time(json.loads(x))) for m in self.server.topics[self.topic]
                for x in m.data.splitlines()][-count:]

    def stop(self):
        self.client.close()
        self.server.stop()


PEERS = {"eventhubs": EventHubsPeer, "kafka": KafkaPeer, "kinesis": KinesisPeer, "pubsub": PubSubPeer, "redis": RedisPeer}


def event_time(event):
    if "time_us" in event:
        return event["time_us"] / 1e6
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def ticks(path):
    fields = pathlib.Path(path).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_ticks(pid, name):
    """Of the connector's thread, and of those that librdkafka made for it."""
    return sum(ticks(task / "stat") for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
               if (task / "comm").read_text().strip() == name or (task / "comm").read_text().startswith("rdk:"))


def status(fold):
    return fold.api("GET", "/v1/connectors")["connectors"][0]


def wait(fact, seconds=600):
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            raise SystemExit("the connector does not get on: %s" % last)
        time.sleep(0.05)


last = None


def has_all(fold, count):
    global last
    last = status(fold)
    return last["events"] >= count


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("type", choices=PEERS)
    ap.add_argument("--seconds", type=int, default=10, help="how long wrk fills the log")
    ap.add_argument("--delay", default="200ms")
    ap.add_argument("--format", default="json")
    ap.add_argument("--per", default="block")
    ap.add_argument("--source", action="store_true")
    ap.add_argument("--events", type=int, default=100000, help="messages that wait for a source")
    args = ap.parse_args()
    peer = PEERS[args.type]()
    peer.is_source = args.source
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        peer.start(folder)
        fold = Foldback(folder, "mode: act\nservices: { app: { endpoints: ['127.0.0.1:1'] } }\n"
                        "routes: [{ match: /app/, service: app }]\nconnectors:\n"
                        "  out: { %s, from: start, delay: %s, format: %s, per: %s, %s }\n"
                        % ("direction: source" if args.source else "events: [request]", args.delay, args.format, args.per,
                           peer.lines()))
        try:
            fold.start()
            (measure_source if args.source else measure)(args, peer, fold)
        finally:
            fold.stop()
            peer.stop()


def measure_source(args, peer, fold):
    assert fold.cli("connector", "pause", "out").returncode == 0
    wait(lambda: status(fold)["state"] == "paused")
    peer.fill(args.events)
    brain, theirs = fold.child("fb-brain"), f"/proc/{peer.pid()}/stat"
    cpu, server_cpu, begin = thread_ticks(brain, "fb-out"), ticks(theirs), time.monotonic()
    assert fold.cli("connector", "resume", "out").returncode == 0
    wait(lambda: has_all(fold, args.events) and status(fold)["in_flight"] == 0)
    took = time.monotonic() - begin
    cpu, server_cpu = thread_ticks(brain, "fb-out") - cpu, ticks(theirs) - server_cpu
    print(f"{args.type} {peer.version}, source: {args.events} messages in {took:.1f} s, durable and acknowledged")
    print(f"  {args.events / took:,.0f} events/s; CPU {cpu / args.events * 1e6:.2f} us per event here, "
          f"{server_cpu / args.events * 1e6:.2f} us at the server; errors {status(fold)['errors']}")


def measure(args, peer, fold):
    assert fold.cli("connector", "pause", "out").returncode == 0
    wait(lambda: status(fold)["state"] == "paused")
    subprocess.run(["wrk", "-t1", "-c16", f"-d{args.seconds}s", f"http://127.0.0.1:{fold.port}/none"], check=True,
                   stdout=subprocess.DEVNULL)
    time.sleep(2)  # the log has all of it
    brain = fold.child("fb-brain")
    theirs = f"/proc/{peer.pid()}/stat"
    cpu, server_cpu, begin = thread_ticks(brain, "fb-out"), ticks(theirs), time.monotonic()
    assert fold.cli("connector", "resume", "out").returncode == 0
    wait(lambda: status(fold)["lag_events"] == 0 and status(fold)["events"] > 0)
    took = time.monotonic() - begin
    s = status(fold)
    cpu, server_cpu = thread_ticks(brain, "fb-out") - cpu, ticks(theirs) - server_cpu
    print(f"{args.type} {peer.version}, {args.format}, per {args.per}, delay {args.delay}: {s['events']} events, "
          f"{s['bytes'] / 1e6:.0f} MB in {took:.1f} s")
    print(f"  {s['events'] / took:,.0f} events/s, {s['bytes'] / took / 1e6:.0f} MB/s; CPU {cpu / s['events'] * 1e6:.2f} us per event "
          f"here, {server_cpu / s['events'] * 1e6:.2f} us at the server; errors {s['errors']}{s['errors'] and ': ' + s['last_error'] or ''}")
    if args.format != "json":
        return
    count = 500
    for _ in range(count):
        fold.get("/none")
        time.sleep(0.01)
    wait(lambda: has_all(fold, s["events"] + count), 60)
    delays = sorted((at - when) * 1000 for at, when in peer.stored(count))
    print(f"  delay of {len(delays)} events: p50 {statistics.median(delays):.0f} ms, p99 {delays[int(len(delays) * 0.99)]:.0f} ms, "
          f"max {delays[-1]:.0f} ms")


if __name__ == "__main__":
    main()
