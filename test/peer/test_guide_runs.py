# SPDX-License-Identifier: Apache-2.0
"""The configurations of the guide's pages on brokers, run as they are printed: only addresses, files and names of
other people's things are put in; the commands printed beside them feed the sources."""
import json
import os
import pathlib
import re
import shutil
import ssl
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback  # noqa: E402
from kafka_server import CONNECTION  # noqa: E402
from kafka_try import connector, in_log, kafka, origin, send_many, until  # noqa: E402,F401
from kinesis_shim import Shim  # noqa: E402
from pubsub_server import METHODS, Server  # noqa: E402
from test_kinesis import SECRET, keys_file  # noqa: E402
from test_redis import Redis, make_certificates  # noqa: E402

GUIDE = pathlib.Path(__file__).resolve().parents[2] / "doc/guide"


def blocks(page):
    return re.findall(r"^```yaml\n(.*?)^```", (GUIDE / page).read_text(), re.S | re.M)


@pytest.fixture()
def run(tmp_path, origin):  # noqa: F811
    running = []

    def start(text, put):
        for old, new in put.items():
            assert old in text, (old, text)
            text = text.replace(old, str(new))
        text = re.sub(r"^services:\n  app: .*\n", "", text, flags=re.M)
        folder = tmp_path / ("run%d" % len(running))
        folder.mkdir()
        fold = Foldback(folder, 'services:\n  app: { endpoints: ["127.0.0.1:%d"] }\n%s' % (origin.port, text)).start()
        running.append(fold)
        until(lambda: fold.cli("connector", "check", "--config", fold.file, timeout_s=120).returncode == 0, 60, "a check is good")
        for name in re.findall(r"^  ([\w-]+):$", text, re.M):
            until(lambda: connector(fold, name)["state"] == "running", 60, name + " runs")
        return fold
    yield start
    for fold in running:
        fold.stop()


def until_asked(fold, fact):
    """Requests go on meanwhile: a sink begins at the end of the log, wherever that is when it comes to it."""
    def is_so():
        send_many(fold.port, 3)
        return fact()
    until(is_so, 60)


def orders(fold):
    return [e["value"] for e in in_log(fold, "custom") if e["name"] == "order.placed"]


def test_the_page_of_kafka_and_event_hubs(kafka, run, tmp_path):  # noqa: F811
    page = blocks("kafka.md")
    (tmp_path / "password").write_text("foldback-secret\n")
    (tmp_path / "hub").write_text(CONNECTION + "\n")
    for topic in ("foldback-events", "shop-orders", "deploys", "hub"):
        kafka.topic(topic)
    fold = run(page[0], {"[kafka-1:9093, kafka-2:9093]": "['127.0.0.1:%d']" % kafka.sasl, "/etc/foldback/kafka-ca.pem": kafka.folder / "ca.pem",
                  "/etc/foldback/kafka.password": tmp_path / "password"})
    reader = kafka.reader("foldback-events")
    until_asked(fold, lambda: b'"type":"request"' in b"".join(m.value() for m in reader.poll()).replace(b" ", b""))
    reader.close()
    fold = run(page[1], {"[kafka-1:9093]": "['%s']" % kafka.brokers})
    # `start: latest`: what was there before it came is left out
    until(lambda: kafka.produce("shop-orders", [json.dumps({"name": "order.placed", "value": 19.5})]) or orders(fold), 60)
    string = "/etc/foldback/eventhubs.connection   # Endpoint=sb://...;EntityPath=HUB"
    run(page[2], {string: "%s\n    topic: hub\n    brokers: '127.0.0.1:%d'\n    ca_file: %s"
                          % (tmp_path / "hub", kafka.sasl, kafka.folder / "ca.pem")})


def test_the_page_of_kinesis(run, tmp_path, monkeypatch):
    out, shop = Shim(), Shim()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")  # `credentials: auto` of the sink
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    shop.put("k", json.dumps({"name": "order.placed", "value": 19.5}).encode())
    try:
        fold = run(blocks("kinesis.md")[0], {
            "stream: foldback-events": "endpoint: '%s'\n    stream: shop" % out.url, "stream: shop-orders": "endpoint: '%s'\n    stream: shop" % shop.url,
            "/etc/foldback/aws-credentials": keys_file(tmp_path)})
        until(lambda: 19.5 in orders(fold), 60)
        assert connector(fold, "to-kinesis")["errors"] == 0
    finally:
        out.close()
        shop.close()


def test_the_page_of_pubsub(run, monkeypatch):
    server = Server()
    project = "projects/my-project"
    server.on_CreateTopic(METHODS["CreateTopic"][1](name=project + "/topics/foldback-events"), None)
    server.on_CreateTopic(METHODS["CreateTopic"][1](name=project + "/topics/orders"), None)
    server.on_CreateSubscription(METHODS["CreateSubscription"][1](
        name=project + "/subscriptions/shop-orders", topic=project + "/topics/orders", ack_deadline_seconds=10), None)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
    try:
        fold = run(blocks("pubsub.md")[0], {})
        until_asked(fold, lambda: any(b"request" in m.data for m in server.topics[project + "/topics/foldback-events"]))
        fold = run(blocks("pubsub.md")[1], {})
        message = re.search(r"gcloud pubsub topics publish orders --message='(.*?)'", (GUIDE / "pubsub.md").read_text())[1]
        publish = METHODS["Publish"][1](topic=project + "/topics/orders")
        publish.messages.add(data=message.encode())
        server.on_Publish(publish, None)
        until(lambda: 19.9 in orders(fold), 60)
    finally:
        server.stop()


def test_the_page_of_redis(run, tmp_path):
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    text = (GUIDE / "redis.md").read_text()
    make_certificates(tmp_path)
    tls = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    tls.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    (tmp_path / "password").write_text("swordfish\n")
    for folder in ("plain", "tls"):
        (tmp_path / folder).mkdir()
    redis = Redis(tmp_path / "plain")
    guarded = Redis(tmp_path / "tls", "--tls-cert-file", tmp_path / "server.pem", "--tls-key-file", tmp_path / "server.key",
                    "--tls-ca-cert-file", tmp_path / "ca.pem", "--tls-auth-clients", "yes", tls=tls)
    try:
        page, address = blocks("redis.md"), {"redis.internal:6379": "127.0.0.1:%d" % redis.port}
        fold = run(page[0], address)
        until_asked(fold, lambda: any("request" in e["data"] for e in redis.entries("foldback:events")))
        guarded.ask(*re.search(r"^    (ACL SETUSER .*)", text, re.M)[1].replace("PASSWORD", "swordfish").split())
        fold = run(page[1], {'["redis-1.internal:6380", "redis-2.internal:6380"]': '["127.0.0.1:1", "127.0.0.1:%d"]' % guarded.port,
                      "/etc/foldback/redis-ca.pem": tmp_path / "ca.pem", "/etc/foldback/redis.crt": tmp_path / "client.pem",
                      "/etc/foldback/redis.key": tmp_path / "client.key", "/etc/foldback/redis.password": tmp_path / "password"})
        until_asked(fold, lambda: any(k.startswith("foldback:") for k in guarded.ask("KEYS", "foldback:*")))
        fold = run(page[2], address)
        for words in ("name order.placed value 19.9 text", "data"):  # as the two commands of the page
            assert "XADD shop:orders '*' " + words in text

        def comes(*fields):  # a group that is made begins at the end: again until one comes
            had = len(orders(fold))
            until(lambda: redis.ask("XADD", "shop:orders", "*", *fields) and len(orders(fold)) > had, 60)
        comes("name", "order.placed", "value", "19.9", "text", "basket 7")
        comes("data", '{"name": "order.placed", "value": 19.9}')
        assert set(orders(fold)) == {19.9}
    finally:
        redis.end()
        guarded.end()
