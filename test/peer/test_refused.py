# SPDX-License-Identifier: Apache-2.0
"""What Kinesis, Event Hubs and Pub/Sub do not take, and what is no event in what they give: too large, refused for
ever, rubbish; and pausing and resuming them both ways.  (Kafka's and Redis' are in their own files.)"""
import base64
import json
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from kafka_server import CONNECTION  # noqa: E402
from kafka_try import connector, in_log, kafka, offsets, orders, origin, send_many, shop, until  # noqa: E402,F401
from kinesis_shim import Refused, Shim  # noqa: E402
from pubsub_server import PROJECT, Client, Server, topic_path  # noqa: E402
from test_kinesis import keys_file  # noqa: E402


def letters(fold, name):
    with open(os.path.join(fold.state, "connectors", name + ".dead.jsonl")) as f:
        return [json.loads(x) for x in f]


class Strict(Shim):
    """Takes records of <largest> bytes, and none that <is_bad>: the request fails as a whole, as AWS does it."""

    largest, is_bad = 1 << 20, None

    def PutRecords(self, q):
        for r in q["Records"]:
            data = base64.b64decode(r["Data"])
            if len(data) + len(r["PartitionKey"]) > self.largest:
                raise Refused("ValidationException", "Member must have length less than or equal to %d" % self.largest)
            if self.is_bad and self.is_bad(data):
                raise Refused("InvalidArgumentException", "The value is not allowed.")
        return super().PutRecords(q)


@pytest.fixture()
def shim():
    s = Strict()
    s.rate = 1000
    yield s
    s.close()


@pytest.fixture()
def pubsub():
    server = Server()
    client = Client(server.address)
    client.make("events")
    yield server
    client.close()
    server.stop()


def kinesis(shim, folder, more):
    return ("{ type: kinesis, stream: shop, aws_region: eu-central-1, endpoint: '%s', credentials_file: %s, profile: shop,\n"
            "       backoff_max: 500ms, %s }" % (shim.url, keys_file(folder), more))


def hub(kafka, folder, more):  # noqa: F811
    (folder / "namespace").write_text(CONNECTION + "\n")
    return ("{ type: eventhubs, brokers: '127.0.0.1:%d', ca_file: %s, connection_string_file: %s, backoff_max: 500ms, %s }"
            % (kafka.sasl, kafka.folder / "ca.pem", folder / "namespace", more))


def stored(shim):
    return [json.loads(line)["offset"] for _, _, line in shim.stored()]


def order(value):
    return json.dumps({"name": "order.placed", "value": value}).encode()


BAD = [b"not json", order(1), b"\xff\xfe", b'{"name":"order.placed","value":"x"}', order(2),
       b"\n".join([order(9)] * 4000)]  # the last: more events than one put takes


def pause(fold, name):
    assert fold.cli("connector", "pause", name).returncode == 0
    until(lambda: connector(fold, name)["state"] == "paused", 30)


def send_in_one_block(fold, name, count):
    pause(fold, name)
    send_many(fold.port, count)
    until(lambda: len(in_log(fold, "request")) >= count, 60)
    assert fold.cli("connector", "resume", name).returncode == 0


# ---- too large, and refused for ever ----
@pytest.mark.parametrize("largest,goes", [(4000, True), (100, False)])
def test_kinesis_what_is_too_large_is_split_and_an_event_that_is_buried(tmp_path, shop, shim, largest, goes):  # noqa: F811
    shim.largest = largest
    fold = shop("  k: " + kinesis(shim, tmp_path, "events: [request], from: start, delay: 100ms"))
    send_in_one_block(fold, "k", 60)
    if goes:
        until(lambda: len(set(stored(shim))) >= 60, 90)
        assert connector(fold, "k")["split"] > 0 and connector(fold, "k")["dead"] == 0
        return
    until(lambda: connector(fold, "k")["dead"] >= 60, 90)
    dead = letters(fold, "k")
    assert len({d["offset"] for d in dead}) == 60 and "larger" in dead[0]["reason"] and not shim.stored()
    until(lambda: connector(fold, "k")["state"] == "running", 60)


def test_kinesis_what_is_refused_for_ever_is_buried_and_its_neighbours_are_taken(tmp_path, shop, shim):  # noqa: F811
    shim.is_bad = lambda data: json.loads(data)["offset"] % 7 == 0
    fold = shop("  k: " + kinesis(shim, tmp_path, "events: [request], from: start, per: event, pack: none"))
    send_many(fold.port, 60)
    until(lambda: len(set(stored(shim))) + connector(fold, "k")["dead"] >= 60, 90)
    want = {e["offset"] for e in in_log(fold, "request")}
    bad = {o for o in want if o % 7 == 0}
    assert set(stored(shim)) == want - bad
    assert ({d["offset"] for d in letters(fold, "k")} if bad else set()) == bad


@pytest.mark.parametrize("largest,goes", [(2000, True), (200, False)])
def test_event_hubs_what_is_too_large_is_split_and_an_event_that_is_buried(tmp_path, kafka, shop, largest, goes):  # noqa: F811
    topic = kafka.topic("hub-%d" % largest, **{"max.message.bytes": str(largest)})
    fold = shop("  h: " + hub(kafka, tmp_path, "topic: %s, events: [request], from: start" % topic))
    send_in_one_block(fold, "h", 60)
    if goes:
        reader = kafka.reader(topic)
        until(lambda: len(set(offsets(reader.poll()))) >= 60, 90)
        assert connector(fold, "h")["split"] > 0 and connector(fold, "h")["dead"] == 0
        reader.close()
        return
    until(lambda: connector(fold, "h")["dead"] >= 60, 90)
    dead = letters(fold, "h")
    assert len({d["offset"] for d in dead}) == 60 and "larger" in dead[0]["reason"]


@pytest.mark.parametrize("largest,goes", [(4000, True), (100, False)])
def test_pubsub_what_is_too_large_is_split_and_an_event_that_is_buried(shop, pubsub, largest, goes):  # noqa: F811
    publish = pubsub.on_Publish

    def strict(request, context):
        import grpc
        from pubsub_server import Refusal
        if any(len(m.data) > largest for m in request.messages):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "The value for message_size is too large. You passed more "
                          "than %d bytes in the request." % largest)
        return publish(request, context)
    pubsub.on_Publish = strict
    fold = shop("  p: { type: pubsub, project: %s, topic: events, endpoint: 'http://%s', events: [request], from: start,\n"
                "       delay: 100ms, backoff_max: 500ms }" % (PROJECT, pubsub.address))
    send_in_one_block(fold, "p", 60)
    if goes:
        def got():
            return [json.loads(x)["offset"] for m in pubsub.topics[topic_path("events")] for x in m.data.splitlines()]
        until(lambda: len(set(got())) >= 60, 90)
        assert connector(fold, "p")["split"] > 0 and connector(fold, "p")["dead"] == 0
        return
    until(lambda: connector(fold, "p")["dead"] >= 60, 90)
    dead = letters(fold, "p")
    assert len({d["offset"] for d in dead}) == 60 and "larger" in dead[0]["reason"]


# ---- rubbish ----
def assert_rubbish_is_buried(fold, name):
    until(lambda: len(orders(fold)) >= 2 and connector(fold, name)["bad"] >= 4, 90)
    assert sorted(e["value"] for e in orders(fold)) == [1, 2]
    reasons = [d["reason"] for d in letters(fold, name)]
    assert len(reasons) == 4 and any("more events in one message" in r for r in reasons), reasons
    assert connector(fold, name)["state"] == "running"


def test_kinesis_rubbish_is_buried_and_good_messages_beside_it_are_taken(tmp_path, shop, shim):  # noqa: F811
    for v in BAD:
        shim.put("a", v)
    fold = shop("  o: " + kinesis(shim, tmp_path, "direction: source, from: start"))
    assert_rubbish_is_buried(fold, "o")


def test_event_hubs_rubbish_is_buried_and_good_messages_beside_it_are_taken(tmp_path, kafka, shop):  # noqa: F811
    topic = kafka.topic("hub-rubbish", partitions=1)
    kafka.produce(topic, BAD)
    fold = shop("  o: " + hub(kafka, tmp_path, "direction: source, topic: %s, start: earliest, group: g-rubbish" % topic))
    assert_rubbish_is_buried(fold, "o")


# ---- pause and resume ----
def assert_pause_holds_a_sink(fold, name, got):
    send_many(fold.port, 50)
    until(lambda: len(set(got())) >= 50, 90)
    until(lambda: connector(fold, name)["lag_events"] == 0, 30)
    pause(fold, name)
    had = len(got())
    send_many(fold.port, 50)
    until(lambda: len(in_log(fold, "request")) >= 100, 60)
    until(lambda: connector(fold, name)["lag_events"] >= 50, 30)
    assert len(got()) == had
    assert fold.cli("connector", "resume", name).returncode == 0
    until(lambda: len(set(got())) >= 100, 90)
    assert sorted(got()) == [e["offset"] for e in in_log(fold, "request")]


def assert_pause_holds_a_source(fold, name, put):
    put([order(i) for i in range(30)])
    until(lambda: len(orders(fold)) >= 30, 90)
    pause(fold, name)
    put([order(i) for i in range(30, 60)])
    assert len(orders(fold)) == 30 and connector(fold, name)["state"] == "paused"
    assert fold.cli("connector", "resume", name).returncode == 0
    until(lambda: len(orders(fold)) >= 60, 90)
    assert sorted(e["value"] for e in orders(fold)) == list(range(60))


def test_kinesis_pauses_and_resumes_both_ways(tmp_path, shop, shim):  # noqa: F811
    fold = shop("  k: " + kinesis(shim, tmp_path, "events: [request], from: start, delay: 50ms"))
    assert_pause_holds_a_sink(fold, "k", lambda: stored(shim))
    fold.stop()
    shim.reset(2)
    fold = shop("  o: " + kinesis(shim, tmp_path, "direction: source, from: start"))
    assert_pause_holds_a_source(fold, "o", lambda values: [shim.put("k%d" % i, v) for i, v in enumerate(values)])


def test_event_hubs_pauses_and_resumes_both_ways(tmp_path, kafka, shop):  # noqa: F811
    topic, back = kafka.topic("hub-paused"), kafka.topic("hub-paused-in")
    fold = shop("  h: %s\n  o: %s" % (
        hub(kafka, tmp_path, "topic: %s, events: [request], from: start, delay: 50ms" % topic),
        hub(kafka, tmp_path, "direction: source, topic: %s, start: earliest, group: g-paused" % back)))
    reader = kafka.reader(topic)
    assert_pause_holds_a_sink(fold, "h", lambda: offsets(reader.poll(0.3)))
    assert_pause_holds_a_source(fold, "o", lambda values: kafka.produce(back, values))
    reader.close()
