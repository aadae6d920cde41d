# SPDX-License-Identifier: Apache-2.0
"""Every type of sink at once, each against its server: events of a region reach receivers of that region only, and a
minute without any receiver under load loses nothing."""
import http.server
import json
import os
import shutil
import socketserver
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Load  # noqa: E402
from kafka_server import CONNECTION  # noqa: E402
from kafka_try import connector, in_log, kafka, origin, until  # noqa: E402,F401
from kinesis_shim import Shim  # noqa: E402
from pubsub_server import PROJECT, Client, Server, topic_path  # noqa: E402
from test_kinesis import keys_file  # noqa: E402
from test_redis import Redis  # noqa: E402

AWAY_S = float(os.environ.get("FB_OUTAGE_S", "60"))


class Hook:
    """What is posted to it, and 503 while it is away."""

    def __init__(self):
        hook = self
        self.bodies, self.is_away = [], False

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if not hook.is_away:
                    hook.bodies.append(body)
                self.send_response(503 if hook.is_away else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server_(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

        self.server = Server_(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/in" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Receivers:
    """One server of each type; per type and name: the keys of a connector, and what it was given, as text."""

    def __init__(self, folder, broker):
        self.folder, self.broker = folder, broker
        self.redis, self.pubsub, self.shims, self.hooks, self.readers = Redis(folder), Server(), {}, {}, {}
        self.client = Client(self.pubsub.address)
        (folder / "connection").write_text(CONNECTION + "\n")

    def close(self):
        self.redis.end()
        self.client.close()
        self.pubsub.stop()
        for x in [*self.shims.values(), *self.hooks.values(), *self.readers.values()]:
            x.close()

    def file(self, name):
        return "path: %s" % (self.folder / (name + ".jsonl"))

    def kafka(self, name):
        self.readers["kafka", name] = self.broker.reader(self.broker.topic("receivers-" + name), committed=True)
        return "brokers: '%s', topic: receivers-%s, timeout: 3s, transactions: true" % (self.broker.brokers, name)

    def eventhubs(self, name):
        self.readers["eventhubs", name] = self.broker.reader(self.broker.topic("hub-" + name))
        return ("brokers: '127.0.0.1:%d', topic: hub-%s, timeout: 3s, ca_file: %s, connection_string_file: %s"
                % (self.broker.sasl, name, self.broker.folder / "ca.pem", self.folder / "connection"))

    def kinesis(self, name):
        self.shims[name] = Shim()
        return ("stream: shop, aws_region: eu-central-1, endpoint: '%s', credentials_file: %s, profile: shop, timeout: 2s"
                % (self.shims[name].url, keys_file(self.folder)))

    def pubsub_(self, name):
        self.client.make(name)
        return "project: %s, topic: %s, endpoint: 'http://%s', timeout: 5s" % (PROJECT, name, self.pubsub.address)

    def redis_(self, name):
        return "address: '127.0.0.1:%d', stream: '%s', timeout: 20s" % (self.redis.port, name)

    def http(self, name):
        self.hooks[name] = Hook()
        return "url: '%s', format: json, per: block, timeout: 5s" % self.hooks[name].url

    def keys(self, kind, name):
        return getattr(self, kind if kind not in ("redis", "pubsub") else kind + "_")(name)

    def got(self, kind, name):
        if kind == "file":
            path = self.folder / (name + ".jsonl")
            return path.read_text() if path.exists() else ""
        if kind == "kinesis":
            return "\n".join(line if isinstance(line, str) else line.decode()
                             for _, _, line in self.shims[name].stored())
        if kind == "redis":
            return "".join(e["data"] for e in self.redis.entries(name))
        if kind == "pubsub":
            return "".join(m.data.decode() for m in self.pubsub.topics[topic_path(name)])
        if kind == "http":
            return "".join(b.decode() for b in list(self.hooks[name].bodies))
        return "".join(m.value().decode() for m in self.readers[kind, name].poll(0.3))


TYPES = ["file", "kafka", "eventhubs", "kinesis", "pubsub", "redis", "http"]


@pytest.fixture()
def receivers(tmp_path, kafka):  # noqa: F811
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    r = Receivers(tmp_path, kafka)
    yield r
    r.close()


def events(text, kind="request"):
    """Of whole lines; a file may end in the midst of one."""
    found = []
    for line in text.splitlines():
        if line.startswith("{") and line.endswith("}"):
            found.append(json.loads(line))
    return [e for e in found if not kind or e["type"] == kind]


def test_each_type_of_sink_gives_events_of_a_region_to_receivers_of_that_region_only(tmp_path, origin, receivers):  # noqa: F811
    rows = "".join("  %s-%s: { type: %s, region: %s, delay: 50ms, from: start, backoff_max: 1s, %s }\n"
                   % (kind, name, kind, region, receivers.keys(kind, name))
                   for kind in TYPES for name, region in (("home", "eu"), ("abroad", "us")))
    there = '{ %%sendpoints: ["127.0.0.1:%d"] }' % origin.port
    fold = Foldback(tmp_path, "mode: act\nregion: eu\nservices:\n  shop: %s\n  blog: %s\nroutes:\n"
                    "  - { match: /shop/, service: shop }\n  - { match: /account/, service: blog, region: eu }\n"
                    "  - { match: /, service: blog }\nconnectors:\n%s"
                    % (there % "region: eu, ", there % "", rows)).start()
    try:
        for i in range(10):
            for path in ("/shop/", "/account/", "/news/"):
                assert fold.get(f"{path}{i}", timeout_s=30) == 200
        until(lambda: len(in_log(fold, "request")) >= 30, 60)
        want = {e["offset"] for e in in_log(fold, "request")}
        last = max(want)
        for kind in TYPES:
            until(lambda: want <= {e["offset"] for e in events(receivers.got(kind, "home"))}, 120, kind + " at home has all")
            until(lambda: max((e["offset"] for e in events(receivers.got(kind, "abroad"), "")), default=0) > last, 120,
                  kind + " abroad is as far")
        names = {(e["kind"], e["number"]): e["name"] for e in in_log(fold, "name")}
        public = {e["offset"] for e in in_log(fold, "request") if names[1, e["route"]] == "blog /"}
        assert len(public) == 10
        for kind in TYPES:
            text = receivers.got(kind, "abroad")
            assert {e["offset"] for e in events(text)} == public, kind
            for word in ("shop", "/account/"):  # no name, sample, health, decision or configuration of it either
                assert word not in text.replace('"stream":"shop"', ""), (kind, word)
    finally:
        fold.stop()


def test_a_minute_without_receivers_under_load_loses_nothing_at_any_of_them(tmp_path, origin, receivers):  # noqa: F811
    kinds = [k for k in TYPES if k != "file"]
    rows = "".join("  %s: { type: %s, events: [request], delay: 100ms, from: start, backoff_max: 1s, %s }\n"
                   % (kind, kind, receivers.keys(kind, "away")) for kind in kinds)
    fold = Foldback(tmp_path, 'mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n'
                    "  - { match: /, service: app }\nconnectors:\n%s" % (origin.port, rows)).start()
    load = Load(fold.port, threads=2, pause_s=0.02)
    try:
        for kind in kinds:
            until(lambda: len(events(receivers.got(kind, "away"))) > 20, 90, kind + " takes events")
        receivers.broker.stop()
        receivers.redis.end()
        receivers.pubsub.stop()
        receivers.shims["away"].is_away = receivers.hooks["away"].is_away = True
        end = time.monotonic() + AWAY_S
        for kind in kinds:
            until(lambda: connector(fold, kind)["state"] == "failing" and connector(fold, kind)["last_error"], 60,
                  kind + " says that its receiver is away")
        time.sleep(max(0.0, end - time.monotonic()))
        served = load.ok
        receivers.shims["away"].is_away = receivers.hooks["away"].is_away = False
        receivers.pubsub.start()
        receivers.redis.start()
        receivers.broker.start()
        until(lambda: load.ok > served + 50, 60, "load goes on")
    finally:
        load.stop()
        if receivers.broker.process is None:
            receivers.broker.start()
    try:
        assert load.bad == [] and load.ok > 500  # the gateway did not notice
        until(lambda: len(in_log(fold, "request")) >= load.ok, 60)
        want = [e["offset"] for e in in_log(fold, "request")]
        for kind in kinds:
            try:
                until(lambda: set(want) <= {e["offset"] for e in events(receivers.got(kind, "away"))}, 180, kind + " has all")
            except AssertionError as why:  # is it late, or gone?
                missing = sorted(set(want) - {e["offset"] for e in events(receivers.got(kind, "away"))})
                raise AssertionError(f"{why}: {len(missing)} of {len(want)} missing, {missing[:3]}..{missing[-3:]}; "
                                     f"{connector(fold, kind)}") from why
            got = [e["offset"] for e in events(receivers.got(kind, "away"))]
            assert set(got) == set(want), kind
            if kind == "kafka":  # in transactions: each once, and in order
                assert got == want
            until(lambda: connector(fold, kind)["state"] == "running", 60, kind + " runs")
    finally:
        fold.stop()
