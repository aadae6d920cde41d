# SPDX-License-Identifier: Apache-2.0
"""The Kafka connector against a real Apache Kafka: each event by its offset, each message by its number, through
outages, kills, wrong passwords and records that do not fit."""
import base64
import ctypes
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import confluent_kafka
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Load  # noqa: E402
from kafka_server import CONNECTION, USERS  # noqa: E402
from kafka_try import (connector, in_log, kafka, kill_brain, metrics, offsets, orders, origin, send_many, shop,  # noqa: E402,F401
                       until)


def test_blocks_have_key_headers_and_every_event_once(kafka, shop):
    topic = kafka.topic("blocks")
    fold = shop("  k: { type: kafka, brokers: '%s', topic: blocks, events: [request], from: start, delay: 50ms }"
                % kafka.brokers)
    send_many(fold.port, 500)
    reader = kafka.reader(topic)
    until(lambda: len(offsets(reader.poll())) >= 500, 60)
    got = offsets(reader.messages)
    assert got == [e["offset"] for e in in_log(fold, "request")]
    first = reader.messages[0]
    headers = {k: v.decode() for k, v in first.headers()}
    assert headers["foldback-node"] == first.key().decode() and len(first.key()) == 16
    assert headers["foldback-format"] == "json" and headers["foldback-schema"] == "1"
    assert int(headers["foldback-offset"]) == got[0]
    assert int(headers["foldback-count"]) == len(first.value().splitlines())
    assert len({m.partition() for m in reader.messages}) == 1  # one key, one order
    reader.close()


def test_per_event_records_have_the_service_as_key(kafka, shop):
    topic = kafka.topic("events")
    fold = shop("  k: { type: kafka, brokers: '%s', topic: events, events: [request], per: event, from: start,\n"
                "       format: cloudevents, compression: zstd }" % kafka.brokers)
    send_many(fold.port, 50)
    reader = kafka.reader(topic)
    until(lambda: len(reader.poll()) >= 50, 60)
    assert {m.key() for m in reader.messages} == {b"app"}
    events = [json.loads(m.value()) for m in reader.messages]
    assert {e["type"] for e in events} == {"foldback.request.v1"}
    assert len({e["id"] for e in events}) == len(events) == 50
    reader.close()


def test_nothing_is_missing_after_the_broker_was_away_under_load(kafka, shop):
    topic = kafka.topic("outage")
    fold = shop("  k: { type: kafka, brokers: '%s', topic: outage, events: [request], from: start, delay: 100ms,\n"
                "       timeout: 3s, backoff_max: 1s }" % kafka.brokers)
    load = Load(fold.port, threads=4, pause_s=0.005)
    reader = kafka.reader(topic)
    try:
        until(lambda: len(offsets(reader.poll())) >= 200, 60)
        kafka.stop()
        until(lambda: connector(fold, "k")["state"] == "failing" and connector(fold, "k")["lag_events"] > 200, 60)
        assert connector(fold, "k")["last_error"]
        served = load.ok
        kafka.start()
        until(lambda: load.ok > served + 100, 60)
    finally:
        load.stop()
        if kafka.process is None:
            kafka.start()
    assert load.bad == [] and load.ok > 400  # the gateway did not notice
    until(lambda: len(in_log(fold, "request")) >= load.ok, 60)
    want = {e["offset"] for e in in_log(fold, "request")}
    until(lambda: want <= set(offsets(reader.poll(1))), 120)
    got = offsets(reader.messages)
    assert sorted(set(got)) == sorted(want)
    first_seen = list(dict.fromkeys(got))
    assert first_seen == sorted(first_seen)  # repeats apart, the order is that of the log
    until(lambda: connector(fold, "k")["state"] == "running" and connector(fold, "k")["lag_events"] < 1000, 60)
    reader.close()


def lag_alerts(fold):
    return [a for a in fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_connector_lagging"]


def test_a_quota_of_the_broker_is_lag_and_an_alert_and_nothing_is_lost(kafka, shop):
    """The broker counts bytes and answers late; the load brings several times of what it lets through."""
    topic = kafka.topic("quota")
    fold = shop("  k: { type: kafka, brokers: '%s', topic: quota, events: [request], from: start, delay: 100ms,\n"
                "       compression: none, block: 16KiB, lag_alert: 5s }" % kafka.brokers)
    load = Load(fold.port, threads=4, pause_s=0.002)
    reader = kafka.reader(topic)
    try:
        until(lambda: len(offsets(reader.poll())) >= 200, 60)
        kafka.quota(10000)
        until(lambda: [a for a in lag_alerts(fold) if not a["over"]], 120)
        lag = connector(fold, "k")["lag_events"]
        assert lag > 200 and connector(fold, "k")["lag_s"] >= 5, connector(fold, "k")
        had, served = len(offsets(reader.poll(1))), load.ok
        until(lambda: load.ok > served + 500, 60)  # the gateway does not wait
        until(lambda: len(offsets(reader.poll(1))) > had, 60)  # and the broker still takes some
        assert connector(fold, "k")["lag_events"] > 200
        kafka.quota(None)
        until(lambda: load.ok > served + 1000, 60)
    finally:
        load.stop()
        kafka.quota(None)
    assert load.bad == []
    until(lambda: len(in_log(fold, "request")) >= load.ok, 60)
    want = [e["offset"] for e in in_log(fold, "request")]
    until(lambda: set(want) <= set(offsets(reader.poll(1))), 180)
    got = offsets(reader.messages)
    assert list(dict.fromkeys(got)) == want  # in the order of the log
    until(lambda: connector(fold, "k")["state"] == "running" and connector(fold, "k")["lag_events"] < 200, 60)
    until(lambda: all(a["over"] for a in lag_alerts(fold)), 60)
    reader.close()


def test_a_killed_brain_repeats_at_most_what_was_in_flight(kafka, shop):
    topic = kafka.topic("kill")
    fold = shop("  k: { type: kafka, brokers: '%s', topic: kill, events: [request], from: start, delay: 20ms }" % kafka.brokers)
    load = Load(fold.port, threads=2, pause_s=0.005)
    try:
        for _ in range(3):
            time.sleep(1.5)
            kill_brain(fold)
        time.sleep(1.5)
    finally:
        load.stop()
    reader = kafka.reader(topic)
    until(lambda: fold.api("GET", "/v1/status", timeout_s=10), 60)
    until(lambda: len(in_log(fold, "request")) >= load.ok, 60)
    want = [e["offset"] for e in in_log(fold, "request")]
    assert load.bad == []
    until(lambda: set(want) <= set(offsets(reader.poll())), 60)
    repeated = len(offsets(reader.messages)) - len(want)
    # In 3 kills: a batch each, and what 100 ms brought; the load is some hundred requests a second.
    assert repeated <= 3 * 600, repeated
    reader.close()


def test_a_transaction_per_batch_is_seen_whole(kafka, shop):
    topic = kafka.topic("transactions")
    fold = shop("  k: { type: kafka, brokers: '%s', topic: transactions, events: [request], from: start, per: event,\n"
                "       transactions: true, delay: 50ms }" % kafka.brokers)
    send_many(fold.port, 100)
    reader = kafka.reader(topic, committed=True)
    until(lambda: len(reader.poll()) >= 100, 90)
    assert sorted(offsets(reader.messages)) == [e["offset"] for e in in_log(fold, "request")]
    reader.close()


def test_a_block_that_the_topic_refuses_is_split_and_one_event_is_buried(kafka, shop):
    topic = kafka.topic("small", **{"max.message.bytes": "2000"})
    fold = shop("  k: { type: kafka, brokers: '%s', topic: small, events: [request], from: start, compression: none }"
                % kafka.brokers)
    send_many(fold.port, 60)
    reader = kafka.reader(topic)
    until(lambda: len(set(offsets(reader.poll()))) >= 60, 90)
    assert connector(fold, "k")["split"] > 0 and connector(fold, "k")["dead"] == 0
    reader.close()
    tiny = kafka.topic("tiny", **{"max.message.bytes": "200"})
    fold.stop()
    fold = shop("  t: { type: kafka, brokers: '%s', topic: tiny, events: [request], from: start, compression: none }"
                % kafka.brokers)
    until(lambda: connector(fold, "t")["dead"] >= 60, 90)
    dead = [json.loads(x) for x in open(os.path.join(fold.state, "connectors", "t.dead.jsonl"))]
    assert len({d["offset"] for d in dead}) == len(dead) and "larger" in dead[0]["reason"]
    assert tiny


@pytest.mark.parametrize("name,keys", [
    ("tls", "tls: true, ca_file: {ca}"),
    ("plain", "tls: true, ca_file: {ca}, sasl: plain, username: alice, password_file: {password}"),
])
def test_tls_and_passwords(kafka, shop, tmp_path, name, keys):
    topic = kafka.topic("secure-" + name)
    (tmp_path / "password").write_text(USERS["alice"] + "\n")
    port = kafka.tls if name == "tls" else kafka.sasl
    keys = keys.format(ca=kafka.folder / "ca.pem", password=tmp_path / "password")
    fold = shop("  k: { type: kafka, brokers: '127.0.0.1:%d', topic: %s, events: [request], from: start, %s }"
                % (port, topic, keys))
    send_many(fold.port, 20)
    reader = kafka.reader(topic)
    until(lambda: len(offsets(reader.poll())) >= 20, 60)
    reader.close()


def newer_client(folder):
    """LD_LIBRARY_PATH with the librdkafka that the Python client brings: 2.6.1 or later, which Debian 12 has not."""
    wheel = pathlib.Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    folder.mkdir()
    library, = wheel.glob("librdkafka-*.so.1")
    (folder / "librdkafka.so.1").symlink_to(library)
    return str(folder)


@pytest.mark.parametrize("way", ["scram-sha-256", "scram-sha-512"])
def test_scram_with_a_client_library_that_can(kafka, shop, tmp_path, monkeypatch, way):
    topic = kafka.topic(way)
    monkeypatch.setenv("LD_LIBRARY_PATH", newer_client(tmp_path / "lib"))
    (tmp_path / "password").write_text(USERS["bob"] + "\n")
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(20)])
    common = ("brokers: '127.0.0.1:%d', topic: %s, tls: true, ca_file: %s, sasl: %s, username: bob, password_file: %s"
              % (kafka.sasl, topic, kafka.folder / "ca.pem", way, tmp_path / "password"))
    fold = shop("  o: { type: kafka, direction: source, start: earliest, %s }" % common)
    until(lambda: len(orders(fold)) >= 20, 60)
    fold.stop()
    fold = shop("  k: { type: kafka, events: [request], from: start, %s }" % common)
    send_many(fold.port, 20)
    until(lambda: connector(fold, "k")["events"] >= 20, 60)
    (tmp_path / "password").write_text("wrong")
    done = subprocess.run([BIN, "connector", "check", "--config", fold.file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "uthentication failed" in done.stdout and "librdkafka" not in done.stdout, done.stdout


def test_scram_with_a_client_library_that_cannot_names_the_cause(kafka, tmp_path):
    if ctypes.CDLL("librdkafka.so.1").rd_kafka_version() >= 0x020601ff:
        pytest.skip("this librdkafka can")
    kafka.topic("scram-old")
    (tmp_path / "password").write_text(USERS["bob"] + "\n")
    (tmp_path / "c.yaml").write_text(
        "listen: ['127.0.0.1:0']\nservices: { app: { endpoints: ['127.0.0.1:1'] } }\nconnectors:\n"
        "  k: { type: kafka, brokers: '127.0.0.1:%d', topic: scram-old, tls: true, ca_file: %s, sasl: scram-sha-512,\n"
        "       username: bob, password_file: %s }\n" % (kafka.sasl, kafka.folder / "ca.pem", tmp_path / "password"))
    done = subprocess.run([BIN, "connector", "check", "--config", str(tmp_path / "c.yaml")], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 1 and "cannot do SCRAM with Kafka 4 (2.6.1 can)" in done.stdout, done.stdout


# ---- OAUTHBEARER: the broker takes unsecured tokens and looks at their times ----
def token(life_s):
    def part(o):
        return base64.urlsafe_b64encode(json.dumps(o).encode()).decode().rstrip("=")
    now = time.time()
    return "%s.%s." % (part({"alg": "none"}), part({"sub": "carol", "iat": now - 5, "exp": now + life_s}))


class Tokens:
    """What keeps the token file fresh: a new short token every second, until it is told to stop."""

    def __init__(self, file, life_s):
        self.file, self.life_s, self.is_over = file, life_s, threading.Event()
        self.write()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def write(self):
        part = self.file.with_suffix(".part")
        part.write_text(token(self.life_s) + "\n")
        part.replace(self.file)

    def run(self):
        while not self.is_over.wait(1):
            self.write()

    def stop(self):
        self.is_over.set()
        self.thread.join(30)


@pytest.mark.parametrize("kind,rounds", [("kafka", 3), ("eventhubs", 1)])
def test_bearer_tokens_that_end_are_renewed_from_their_file(kafka, shop, tmp_path, kind, rounds):
    """Tokens of 12 s, over 10 and 30 s: the broker ends connections whose token ended, and takes no token that ended."""
    topic = kafka.topic("bearer-" + kind)
    tokens = Tokens(tmp_path / "token", 12)
    extra = "tls: true, sasl: oauthbearer, " if kind == "kafka" else ""
    fold = shop("  k: { type: %s, brokers: '127.0.0.1:%d', topic: %s, events: [request], from: start, ca_file: %s,\n"
                "       %stoken_file: %s, backoff_max: 1s }"
                % (kind, kafka.sasl, topic, kafka.folder / "ca.pem", extra, tmp_path / "token"))
    load = Load(fold.port, threads=1, pause_s=0.05)
    reader = kafka.reader(topic)
    try:
        for _ in range(rounds):
            seen = len(set(offsets(reader.poll())))
            time.sleep(10)
            until(lambda: len(set(offsets(reader.poll()))) > seen + 20, 60, "events go on with new tokens")
    finally:
        load.stop()
        tokens.stop()
    want = {e["offset"] for e in in_log(fold, "request")}
    until(lambda: want <= set(offsets(reader.poll())), 60)
    (tmp_path / "token").write_text(token(-10))  # nobody renews it any more
    done = subprocess.run([BIN, "connector", "check", "--config", fold.file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "the token has ended" in done.stdout and "token_file" in done.stdout, done.stdout
    reader.close()


def token_program(tmp_path, life_s):
    """A program that prints a token, unless a file says how it shall fail."""
    program = tmp_path / "get-token"
    program.write_text("""#!%s
import base64, json, os, sys, time
def part(o):
    return base64.urlsafe_b64encode(json.dumps(o).encode()).decode().rstrip("=")
open("%s", "a").write("run\\n")
how = open("%s").read() if os.path.exists("%s") else ""
if how == "fail":
    sys.exit("the identity provider is away")
if how == "hang":
    time.sleep(600)
print("%%s.%%s." %% (part({"alg": "none"}), part({"sub": "carol", "iat": time.time() - 5, "exp": time.time() + float(sys.argv[1])})))
""" % (sys.executable, tmp_path / "runs", tmp_path / "how", tmp_path / "how"))
    program.chmod(0o755)
    return "[%s, '%s']" % (program, life_s)


@pytest.mark.parametrize("kind", ["kafka", "eventhubs"])
def test_bearer_tokens_come_from_a_command_and_are_renewed_before_they_end(kafka, shop, tmp_path, kind):
    topic = kafka.topic("command-" + kind)
    extra = "tls: true, sasl: oauthbearer, " if kind == "kafka" else ""
    fold = shop("  k: { type: %s, brokers: '127.0.0.1:%d', topic: %s, events: [request], from: start, ca_file: %s,\n"
                "       %stoken_command: %s, backoff_max: 1s }"
                % (kind, kafka.sasl, topic, kafka.folder / "ca.pem", extra, token_program(tmp_path, 20)))
    load = Load(fold.port, threads=1, pause_s=0.05)
    reader = kafka.reader(topic)

    def runs():
        return len((tmp_path / "runs").read_text().splitlines())
    try:
        until(lambda: runs() >= 2, 60, "renewed before it ended")
        seen = len(set(offsets(reader.poll())))
        until(lambda: len(set(offsets(reader.poll()))) > seen + 20, 60, "events go on with the new token")
        (tmp_path / "how").write_text("fail")  # for a while: the old token still serves
        before = runs()
        until(lambda: runs() > before, 60)
        (tmp_path / "how").unlink()
        seen = len(set(offsets(reader.poll())))
        until(lambda: len(set(offsets(reader.poll()))) > seen + 20, 90, "events go on after a failure of the command")
    finally:
        load.stop()
    want = {e["offset"] for e in in_log(fold, "request")}
    until(lambda: want <= set(offsets(reader.poll())), 60)
    done = subprocess.run([BIN, "connector", "check", "--config", fold.file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "partitions" in done.stdout, done.stdout
    (tmp_path / "how").write_text("fail")
    done = subprocess.run([BIN, "connector", "check", "--config", fold.file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "ended with code 1" in done.stdout and "token_command" in done.stdout, done.stdout
    reader.close()


@pytest.mark.parametrize("how,says", [("fail", "ended with code 1"), ("hang", "printed no token within 10 s")])
def test_a_command_that_brings_no_token_is_one_clear_error(kafka, shop, tmp_path, how, says):
    topic = kafka.topic("command-" + how)
    (tmp_path / "how").write_text(how)
    fold = shop("  k: { type: kafka, brokers: '127.0.0.1:%d', topic: %s, events: [request], from: start, ca_file: %s,\n"
                "       tls: true, sasl: oauthbearer, token_command: %s, backoff_max: 1s }"
                % (kafka.sasl, topic, kafka.folder / "ca.pem", token_program(tmp_path, 600)))
    send_many(fold.port, 10)
    until(lambda: connector(fold, "k")["state"] == "misconfigured", 60)
    error = connector(fold, "k")["last_error"]
    assert says in error and "token_command" in error and "connectors.k" in error, error
    (tmp_path / "how").unlink()
    assert fold.cli("connector", "resume", "k").returncode == 0
    until(lambda: connector(fold, "k")["events"] >= 10, 60)


@pytest.mark.parametrize("what", ["password", "authority"])
def test_a_wrong_password_or_authority_is_one_clear_error(kafka, shop, tmp_path, what):
    topic = kafka.topic("wrong-" + what)
    (tmp_path / "password").write_text("wrong" if what == "password" else USERS["alice"])
    ca = kafka.folder / ("ca.pem" if what == "password" else "other.pem")
    fold = shop("  k: { type: kafka, brokers: '127.0.0.1:%d', topic: %s, events: [request], from: start, tls: true,\n"
                "       ca_file: %s, sasl: plain, username: alice, password_file: %s }"
                % (kafka.sasl, topic, ca, tmp_path / "password"))
    send_many(fold.port, 20)
    until(lambda: connector(fold, "k")["state"] == "misconfigured", 60)
    error = connector(fold, "k")["last_error"]
    assert ("Authentication failed" in error or "authentication" in error) if what == "password" else "certificate" in error
    assert "connectors.k" in error and "wrong" not in error
    until(lambda: any(a["reason"] == "alert_connector_failing" for a in fold.api("GET", "/v1/alerts")["alerts"]), 30)
    done = subprocess.run([BIN, "connector", "check", "--config", fold.file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "fail  k" in done.stdout and "connectors.k" in done.stdout
    if what == "password":  # mended, and told to look again
        (tmp_path / "password").write_text(USERS["alice"])
        assert fold.cli("connector", "resume", "k").returncode == 0
        reader = kafka.reader(topic)
        until(lambda: len(offsets(reader.poll())) >= 20, 60)
        reader.close()


def test_check_names_the_broker_the_topic_and_what_is_missing(kafka, tmp_path):
    kafka.topic("checked")
    text = ("listen: ['127.0.0.1:0']\nservices: { app: { endpoints: ['127.0.0.1:1'] } }\nconnectors:\n"
            "  good: { type: kafka, brokers: '%s', topic: checked }\n"
            "  gone: { type: kafka, brokers: '%s', topic: never-made }\n"
            "  away: { type: kafka, brokers: '127.0.0.1:1', topic: checked }\n" % (kafka.brokers, kafka.brokers))
    (tmp_path / "c.yaml").write_text(text)
    done = subprocess.run([BIN, "connector", "check", "--config", str(tmp_path / "c.yaml")], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 1
    assert "topic checked has 4 partitions" in done.stdout
    assert "topic never-made" in done.stdout and "127.0.0.1:1: no answer" in done.stdout
    done = subprocess.run([BIN, "check", "--connectors", "--config", str(tmp_path / "c.yaml"), "--state",
                           str(tmp_path / "s"), "--json"], capture_output=True, text=True, timeout=90)
    checks = [c for c in json.loads(done.stdout)["checks"] if c["check"] == "connector"]
    assert {c["state"] for c in checks} == {"ok", "fail"} and len(checks) >= 5


@pytest.mark.parametrize("way", ["sink", "transactions", "source"])
@pytest.mark.parametrize("where", ["refused", "silent"])
def test_a_broker_that_was_never_reached_is_said_at_once(shop, way, where):
    """Long before the time-out of a send (30 s); how soon is printed, not asserted: this machine may be slow."""
    keys = {"sink": "events: [request], from: start", "transactions": "events: [request], from: start, transactions: true",
            "source": "direction: source, start: earliest"}[way]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        address = "127.0.0.1:%d" % (silent.getsockname()[1] if where == "silent" else 1)
        fold = shop("  k: { type: kafka, brokers: '%s', topic: t, timeout: 300s, %s }" % (address, keys))
        begin = time.monotonic()
        send_many(fold.port, 5)
        until(lambda: connector(fold, "k")["state"] == "failing", 60, "the state says that it fails")
        print("said after %.1f s" % (time.monotonic() - begin))
        assert address in connector(fold, "k")["last_error"] and "no answer" in connector(fold, "k")["last_error"]
        assert connector(fold, "k")["errors"] >= 1
        listed = fold.cli("connector", "list").stdout
        assert "failing" in listed and address in listed, listed
        assert "failing" in fold.cli("stream", "status").stdout
        up = [x for x in metrics(fold).splitlines() if x.startswith("foldback_connector_up{")]
        assert up and up[0].endswith(" 0"), up


# ---- source ----
def test_a_source_takes_each_message_once_through_restarts_and_kills(kafka, shop):
    topic = kafka.topic("orders")
    keys = ("  o: { type: kafka, direction: source, brokers: '%s', topic: orders, start: earliest, group: g-orders }"
            % kafka.brokers)
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(500)])
    fold = shop(keys)
    until(lambda: len(orders(fold)) >= 500, 90)
    until(lambda: connector(fold, "o")["in_flight"] == 0, 30)  # acknowledged, and the position kept
    kill_brain(fold)
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(500, 800)])
    until(lambda: len({e["value"] for e in orders(fold)}) >= 800, 90)
    fold.stop()
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(800, 900)])
    fold = shop(keys)
    until(lambda: len({e["value"] for e in orders(fold)}) >= 900, 90)
    values = [e["value"] for e in orders(fold)]
    assert sorted(values) == list(range(900))


def test_a_source_under_fire_loses_nothing(kafka, shop):
    topic = kafka.topic("fire")
    fold = shop("  o: { type: kafka, direction: source, brokers: '%s', topic: fire, start: earliest, group: g-fire }"
                % kafka.brokers)
    count = 3000

    def produce():
        for i in range(0, count, 100):
            kafka.produce(topic, [json.dumps({"name": "order.placed", "value": v}) for v in range(i, i + 100)])
            time.sleep(0.1)
    writer = threading.Thread(target=produce)
    writer.start()
    for _ in range(2):
        time.sleep(1.5)
        kill_brain(fold)
    writer.join(120)
    until(lambda: len({e["value"] for e in orders(fold)}) >= count, 120)
    values = [e["value"] for e in orders(fold)]
    assert set(values) == set(range(count))
    # Taken twice at most what became durable in the last moment before a kill: one put of 1,024 events.
    assert len(values) - count <= 2 * 1024


def test_bad_messages_are_buried_and_good_ones_beside_them_taken(kafka, shop):
    topic = kafka.topic("bad", partitions=1)
    cloud = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "data": {"value": 3}}
    kafka.produce(topic, [b"not json", json.dumps({"name": "order.placed", "value": 1}), b"\xff\xfe",
                          json.dumps({"name": "order.placed", "value": "x"}), b"", json.dumps(cloud),
                          b'{"name":"order.placed","value":4}\n{"name":"order.placed","value":5}\n'])
    fold = shop("  o: { type: kafka, direction: source, brokers: '%s', topic: bad, start: earliest, group: g-bad }"
                % kafka.brokers)
    until(lambda: len(orders(fold)) >= 4, 60)
    assert [e["value"] for e in orders(fold)] == [1, 3, 4, 5]
    until(lambda: connector(fold, "o")["bad"] == 4, 30)
    dead = [json.loads(x) for x in open(os.path.join(fold.state, "connectors", "o.dead.jsonl"))]
    assert [d["position"] for d in dead] == ["0", "2", "3", "4"] and dead[0]["topic"] == "bad"


def test_a_source_waits_for_its_broker_and_goes_on(kafka, shop):
    topic = kafka.topic("later")
    fold = shop("  o: { type: kafka, direction: source, brokers: '%s', topic: later, start: earliest, group: g-later }"
                % kafka.brokers)
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(50)])
    until(lambda: len(orders(fold)) >= 50, 90)
    kafka.stop()
    time.sleep(3)
    kafka.start()
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(50, 100)])
    until(lambda: len(orders(fold)) >= 100, 120)
    assert sorted(e["value"] for e in orders(fold)) == list(range(100))
    assert fold.cli("connector", "pause", "o").returncode == 0
    until(lambda: connector(fold, "o")["state"] == "paused", 30)
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(100, 120)])
    time.sleep(1)
    assert len(orders(fold)) == 100
    assert fold.cli("connector", "resume", "o").returncode == 0
    until(lambda: len(orders(fold)) >= 120, 90)
    assert sorted(e["value"] for e in orders(fold)) == list(range(120))


# ---- Event Hubs: its Kafka endpoint is a SASL_SSL listener with PLAIN and $ConnectionString ----
def test_event_hubs_both_ways_with_a_connection_string(kafka, shop, tmp_path):
    topic = kafka.topic("hub")
    (tmp_path / "string").write_text(CONNECTION + ";EntityPath=hub\n")
    # The test's listener knows the string without EntityPath, as the portal gives for a namespace.
    (tmp_path / "namespace").write_text(CONNECTION + "\n")
    common = "brokers: '127.0.0.1:%d', ca_file: %s, connection_string_file: %s" % (
        kafka.sasl, kafka.folder / "ca.pem", tmp_path / "namespace")
    kafka.topic("hub-in")
    kafka.produce("hub-in", [json.dumps({"name": "order.placed", "value": i}) for i in range(20)])
    fold = shop("  h: { type: eventhubs, topic: hub, events: [request], from: start, %s }\n"
                "  i: { type: eventhubs, direction: source, topic: hub-in, start: earliest, %s }" % (common, common))
    send_many(fold.port, 100)
    reader = kafka.reader(topic)
    until(lambda: len(offsets(reader.poll())) >= 100, 60)
    until(lambda: len(orders(fold)) >= 20, 60)
    assert sorted(e["value"] for e in orders(fold)) == list(range(20))
    reader.close()


def test_event_hubs_says_what_is_wrong_with_the_string(kafka, tmp_path):
    (tmp_path / "bad").write_text("SharedAccessKeyName=x;SharedAccessKey=y\n")
    (tmp_path / "wrong").write_text(CONNECTION.replace("c2VjcmV0", "d3Jvbmc=") + ";EntityPath=hub\n")
    text = ("listen: ['127.0.0.1:0']\nservices: { app: { endpoints: ['127.0.0.1:1'] } }\nconnectors:\n"
            "  bad: { type: eventhubs, connection_string_file: %s }\n"
            "  wrong: { type: eventhubs, brokers: '127.0.0.1:%d', ca_file: %s, connection_string_file: %s }\n"
            % (tmp_path / "bad", kafka.sasl, kafka.folder / "ca.pem", tmp_path / "wrong"))
    (tmp_path / "c.yaml").write_text(text)
    done = subprocess.run([BIN, "connector", "check", "--config", str(tmp_path / "c.yaml")], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 1
    assert "has no Endpoint=sb://" in done.stdout
    assert "uthentication" in done.stdout and "d3Jvbmc" not in done.stdout


def test_the_lock_file_pins_every_jar(kafka):
    rows = [x.split() for x in (pathlib.Path(__file__).parent / "kafka.lock").read_text().splitlines() if x[0] != "#"]
    assert len(rows) == 46 and all(len(r[0]) == 64 for r in rows)
    assert kafka.process.poll() is None


def lags(fold, count):
    """What a source says of its lag while it takes <count> messages; seconds, each look."""
    seen = []

    def is_done():
        row = connector(fold, "o")
        if row and row["lag_s"] is not None:
            seen.append(row["lag_s"])
        return row and row["records"] >= count and row["lag_events"] == 0
    until(is_done, 180)
    return seen


@pytest.mark.parametrize("minutes", [-30 * 1440, 30])  # Kafka itself refuses what is an hour ahead
def test_clocks_of_producers_make_no_lag(kafka, shop, minutes):
    topic = kafka.topic(f"clocks{minutes}".replace("-", "m"), partitions=2)
    wall_ms = int((time.time() + minutes * 60) * 1000)
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(20000)], wall_ms=wall_ms)
    fold = shop("  o: { type: kafka, direction: source, brokers: '%s', topic: %s, start: earliest, group: g-%s, lag_alert: 10m }"
                % (kafka.brokers, topic, topic))
    seen = lags(fold, 20000)
    assert seen and max(seen) < 600, max(seen)
    kafka.produce(topic, [json.dumps({"name": "order.placed", "value": i}) for i in range(2000)], wall_ms=wall_ms)
    assert max(lags(fold, 22000)) < 600
    assert not [a for a in fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_connector_lagging"]


def test_a_topic_with_times_of_the_broker_tells_how_long_messages_have_waited(kafka, shop):
    topic = kafka.topic("appended", partitions=1, **{"message.timestamp.type": "LogAppendTime"})
    wall_ms = int((time.time() - 86400) * 1000)  # ignored by the broker
    count = 300000
    begin = time.time()
    kafka.produce(topic, [b'{"name":"order.placed","value":1}'] * count, wall_ms=wall_ms)
    time.sleep(max(0, begin + 5 - time.time()))
    fold = shop("  o: { type: kafka, direction: source, brokers: '%s', topic: appended, start: earliest, group: g-appended }"
                % kafka.brokers)
    waited = []
    until(lambda: waited.append((connector(fold, "o") or {}).get("lag_s") or 0) or waited[-1] >= 2
          or (connector(fold, "o") or {}).get("records", 0) >= count, 180)
    assert max(waited) >= 2, "the first messages had waited for 5 s"
    until(lambda: connector(fold, "o")["records"] >= count and connector(fold, "o")["lag_s"] < 2, 180)


def test_marks_of_transactions_are_no_messages_that_wait(kafka, shop):
    topic = kafka.topic("marked", partitions=2)
    fold = shop("  o: { type: kafka, direction: source, brokers: '%s', topic: marked, start: earliest, group: g-marked }"
                % kafka.brokers)
    p = confluent_kafka.Producer({"bootstrap.servers": kafka.brokers, "transactional.id": "marker", "log_level": 0})
    p.init_transactions(60)
    for i in range(20):  # the last one, of which nothing is ever seen, is at the end of both partitions
        p.begin_transaction()
        for partition in range(2):
            p.produce(topic, b'{"name":"order.placed","value":%d}' % i, partition=partition)
        p.flush(60)
        p.commit_transaction(60) if i < 19 else p.abort_transaction(60)
    until(lambda: connector(fold, "o")["records"] == 38, 120)
    until(lambda: connector(fold, "o")["lag_events"] == 0 and connector(fold, "o")["lag_s"] == 0, 60)
    kafka.produce(topic, [b'{"name":"order.placed","value":20}'], partition=0)
    until(lambda: connector(fold, "o")["records"] == 39 and connector(fold, "o")["lag_events"] == 0, 60)
