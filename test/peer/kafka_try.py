# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Kafka connector share: a broker per file, foldbacks with connectors, and how to look at them."""
import http.client
import json
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Origin, until as until_says  # noqa: E402
from kafka_server import Kafka  # noqa: E402


def until(fact, seconds, what="see the line of the test"):
    def is_so():
        try:
            return fact()
        except (OSError, AssertionError, http.client.HTTPException, KeyError, TypeError):
            return False
    until_says(is_so, seconds, what)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    k = Kafka(tmp_path_factory.mktemp("kafka") / "kafka").start()
    yield k
    k.stop()


@pytest.fixture()
def origin():
    o = Origin()
    o.delay_s = 0
    yield o
    o.stop()


@pytest.fixture()
def shop(tmp_path, origin):
    """shop(connectors) is a running foldback; all are stopped at the end."""
    running = []

    def make(connectors):
        fold = Foldback(tmp_path, config(origin, connectors)).start()
        running.append(fold)
        return fold
    yield make
    for fold in running:
        if not fold.log.closed:
            fold.stop()


def config(origin, connectors):
    return ('mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n  - { match: /, service: app }\n'
            "connectors:\n%s\n" % (origin.port, connectors))


def send_many(port, count):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(count):
        c.request("GET", "/item")
        r = c.getresponse()
        r.read()
        assert r.status == 200
    c.close()


def connector(fold, name):
    for c in fold.api("GET", "/v1/connectors", timeout_s=10)["connectors"]:
        if c["name"] == name:
            return c
    return None


def metrics(fold):
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    c = http.client.HTTPConnection(where["address"], timeout=10)
    c.request("GET", "/metrics", headers={"Authorization": "Bearer " + open(where["token_file"]).read().strip()})
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    assert r.status == 200, text
    return text


def in_log(fold, type_name):
    done = fold.cli("events", "tail", "--json", "--no-redact", "--from-offset", "0", "--limit", "100000", "--type", type_name)
    assert done.returncode == 0, done.stderr
    return [json.loads(x) for x in done.stdout.splitlines()]


def offsets(messages):
    """Offset of each event, in the order of arrival."""
    return [json.loads(line)["offset"] for m in messages for line in m.value().splitlines()]


def kill_brain(fold):
    until(lambda: fold.child("fb-brain"), 30)
    os.kill(fold.child("fb-brain"), signal.SIGKILL)


def orders(fold):
    return [e for e in in_log(fold, "custom") if e["name"] == "order.placed"]
