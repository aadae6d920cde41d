# SPDX-License-Identifier: Apache-2.0
"""The Kafka sink with `transactions: true`: the mark of the sink is committed with the records, so that readers of
committed records see each event once and in order, whoever is killed; and of two processes with one id one stops."""
import json
import os
import random
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Load  # noqa: E402
from kafka_try import (config, connector, in_log, kafka, kill_brain, offsets, orders, origin, send_many, shop,  # noqa: E402,F401
                       until)


def sink(kafka, topic, more=""):  # noqa: F811
    return ("  k: { type: kafka, brokers: '%s', topic: %s, events: [request], from: start, transactions: true,\n"
            "       timeout: 3s, backoff_max: 1s%s }" % (kafka.brokers, topic, more))


def is_seen_once(fold, reader, at_least):
    until(lambda: len(in_log(fold, "request")) >= at_least, 60, "the log has every request")
    want = [e["offset"] for e in in_log(fold, "request")]
    until(lambda: len(offsets(reader.poll(1))) >= len(want), 180, "every event is committed")
    reader.poll(2)  # what comes twice comes late
    got = offsets(reader.messages)
    assert got == sorted(got), "the order of the log"
    assert len(got) == len(set(got)), "twice: %s" % sorted(x for x in set(got) if got.count(x) > 1)[:20]
    assert got == want


@pytest.mark.parametrize("per,victims", [("block", ["brain", "broker", "both"]), ("event", ["broker", "brain"])])
def test_kills_of_brain_and_broker_leave_each_event_once_and_in_order(kafka, shop, per, victims):  # noqa: F811
    topic = kafka.topic("exact-" + per, partitions=1)
    fold = shop(sink(kafka, topic, ", delay: 20ms, per: " + per))
    reader = kafka.reader(topic, committed=True)
    load = Load(fold.port, threads=2, pause_s=0.005)
    rng = random.Random(4711)
    try:
        for victim in victims:
            seen = len(offsets(reader.poll(0.1)))
            try:
                until(lambda: len(offsets(reader.poll(0.2))) > seen, 120, "it goes on before the kill of " + victim)
            except AssertionError as why:  # the sink, or what is read?
                raise AssertionError(f"{why}: {connector(fold, 'k')}") from why
            time.sleep(rng.random())  # anywhere between two transactions, or within one
            if victim != "broker":
                kill_brain(fold)
            if victim != "brain":
                kafka.kill()
                kafka.start()
    finally:
        load.stop()
        if kafka.process is None:
            kafka.start()
    assert load.bad == [] and load.ok > 200
    until(lambda: fold.api("GET", "/v1/status", timeout_s=10), 60)
    is_seen_once(fold, reader, load.ok)
    reader.close()


def test_a_reset_sends_all_again_and_a_restart_does_not(kafka, shop):  # noqa: F811
    topic = kafka.topic("again", partitions=1)
    fold = shop(sink(kafka, topic, ", delay: 20ms"))
    reader = kafka.reader(topic, committed=True)
    send_many(fold.port, 50)
    is_seen_once(fold, reader, 50)
    fold.stop()
    fold = shop(sink(kafka, topic, ", delay: 20ms"))
    send_many(fold.port, 10)
    is_seen_once(fold, reader, 60)
    assert fold.cli("connector", "reset", "k", "--at", "start").returncode == 0
    until(lambda: len(offsets(reader.poll())) >= 120, 90, "all of it a second time")
    assert offsets(reader.messages)[:60] == offsets(reader.messages)[60:]
    reader.close()


def test_a_transaction_that_is_left_open_holds_the_sink_for_seconds_only(kafka, shop):  # noqa: F811
    """As when a broker dies in the midst of one: nobody but the next session, or its time-out, ends it."""
    from confluent_kafka import Consumer, Producer, TopicPartition
    topic = kafka.topic("exact-open", partitions=1)
    fold = shop(sink(kafka, topic, ", delay: 20ms"))
    reader = kafka.reader(topic, committed=True)
    load = Load(fold.port, threads=1, pause_s=0.02)
    try:
        until(lambda: len(offsets(reader.poll(0.2))) > 10, 60)
        other = Producer({"bootstrap.servers": kafka.brokers, "transactional.id": "foldback-foldback-k", "transaction.timeout.ms": 600000})
        group = Consumer({"bootstrap.servers": kafka.brokers, "group.id": "foldback-foldback-k"})
        other.init_transactions(30)
        other.begin_transaction()
        other.send_offsets_to_transaction([TopicPartition(topic, 0, 1)], group.consumer_group_metadata(), 30)
        seen = len(offsets(reader.poll(0.2)))
        until(lambda: len(offsets(reader.poll(0.2))) > seen + 10, 120, "it goes on long before 600 s")
    finally:
        load.stop()
    is_seen_once(fold, reader, load.ok)
    group.close()
    reader.close()


def test_of_two_processes_with_one_transactional_id_the_older_stops_with_a_clear_error(kafka, shop, origin, tmp_path):  # noqa: F811
    topic = kafka.topic("zombie", partitions=1)
    old = shop(sink(kafka, topic, ", delay: 20ms"))
    send_many(old.port, 20)
    until(lambda: connector(old, "k")["state"] == "running" and connector(old, "k")["events"] >= 20, 60)
    (tmp_path / "new").mkdir()
    new = Foldback(tmp_path / "new", config(origin, sink(kafka, topic, ", delay: 20ms"))).start()
    try:
        send_many(new.port, 20)
        until(lambda: connector(new, "k")["events"] >= 20, 60, "the newer one took over")
        send_many(old.port, 20)
        until(lambda: connector(old, "k")["state"] == "misconfigured", 60, "the older one says that it was replaced")
        error = connector(old, "k")["last_error"]
        assert "transactional.id foldback-foldback-k" in error and "connector resume k" in error, error
        send_many(new.port, 20)
        until(lambda: connector(new, "k")["events"] >= 40, 60, "the newer one is not disturbed")
        assert connector(new, "k")["state"] == "running" and connector(old, "k")["state"] == "misconfigured"
    finally:
        new.stop()
    assert old.cli("connector", "resume", "k").returncode == 0
    until(lambda: connector(old, "k")["state"] == "running" and connector(old, "k")["lag_events"] < 20, 60)
    reader = kafka.reader(topic, committed=True)
    until(lambda: len(offsets(reader.poll())) >= 80, 60)
    by_node = {}
    for m in reader.messages:
        by_node.setdefault(m.key(), []).extend(offsets([m]))
    assert sorted(len(x) for x in by_node.values()) == [40, 40]
    assert all(x == sorted(set(x)) for x in by_node.values())
    reader.close()


# ---- sources ----
PER_MESSAGE = 7


class Producer:
    """Messages of seven events each, numbered through, until it is stopped."""

    def __init__(self, kafka, topic):  # noqa: F811
        self.kafka, self.topic, self.count, self.is_over = kafka, topic, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.is_over.is_set():
            self.kafka.produce(self.topic, ["\n".join(
                json.dumps({"name": "order.placed", "value": PER_MESSAGE * (self.count + m) + i}) for i in range(PER_MESSAGE))
                for m in range(40)])
            self.count += 40
            time.sleep(0.1)

    def stop(self):
        self.is_over.set()
        self.thread.join(60)
        return PER_MESSAGE * self.count


def exact_source(kafka, topic):  # noqa: F811
    return ("  o: { type: kafka, direction: source, brokers: '%s', topic: %s, start: earliest, group: g-%s,\n"
            "       transactions: true, backoff_max: 1s }" % (kafka.brokers, topic, topic))


def test_kills_of_the_brain_take_no_event_of_a_message_twice(kafka, shop):  # noqa: F811
    topic = kafka.topic("exact-in", partitions=2)
    fold = shop(exact_source(kafka, topic))
    producer = Producer(kafka, topic)
    rng = random.Random(815)
    for _ in range(3):
        seen = len(orders(fold))
        until(lambda: len(orders(fold)) > seen + 200, 90)
        time.sleep(rng.random())
        kill_brain(fold)
    sent = producer.stop()
    until(lambda: len(orders(fold)) >= sent, 180)
    assert sorted(e["value"] for e in orders(fold)) == list(range(sent))


def test_a_member_that_comes_or_goes_makes_no_message_of_the_group_two(kafka, shop, origin, tmp_path):  # noqa: F811
    topic = kafka.topic("exact-group", partitions=4)
    one = shop(exact_source(kafka, topic))
    producer = Producer(kafka, topic)
    until(lambda: len(orders(one)) > 300, 90)
    (tmp_path / "two").mkdir()
    two = Foldback(tmp_path / "two", config(origin, exact_source(kafka, topic))).start()
    try:
        until(lambda: len(orders(two)) > 300, 120, "the second one has some of the partitions")
        assert one.cli("connector", "pause", "o").returncode == 0
        until(lambda: connector(one, "o")["state"] == "paused", 60)
        seen = len(orders(two))
        until(lambda: len(orders(two)) > seen + 600, 120)
        assert one.cli("connector", "resume", "o").returncode == 0
        seen = len(orders(one))
        until(lambda: len(orders(one)) > seen + 300, 120)
        sent = producer.stop()
        until(lambda: len(orders(one)) + len(orders(two)) >= sent, 180)
        assert sorted(e["value"] for f in (one, two) for e in orders(f)) == list(range(sent))
    finally:
        two.stop()
