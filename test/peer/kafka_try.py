# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Kafka connector share: a broker per file, foldbacks with connectors, and how to look at them."""
import json
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import connector, in_log, metrics, send_many, until  # noqa: E402,F401
from fb import Foldback, Origin  # noqa: E402
from kafka_server import Kafka  # noqa: E402


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


def offsets(messages):
    """Offset of each event, in the order of arrival."""
    return [json.loads(line)["offset"] for m in messages for line in m.value().splitlines()]


def kill_brain(fold):
    until(lambda: fold.child("fb-brain"), 30)
    os.kill(fold.child("fb-brain"), signal.SIGKILL)


def orders(fold):
    return [e for e in in_log(fold, "custom") if e["name"] == "order.placed"]
