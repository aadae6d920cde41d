# SPDX-License-Identifier: Apache-2.0
"""The tables "when something is wrong" of the guide: each symptom is provoked at a real server, the sentence has the
words of the table, names the key to look at, and stands at the line of the configuration."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN  # noqa: E402
from kafka_server import CONNECTION, USERS  # noqa: E402
from kafka_try import kafka  # noqa: E402,F401
from kinesis_shim import Shim  # noqa: E402
from pubsub_server import METHODS, PROJECT, Server, Tokens, make_key, topic_path  # noqa: E402
from test_kinesis import keys_file  # noqa: E402
from test_redis import Redis  # noqa: E402

GUIDE = pathlib.Path(__file__).resolve().parents[2] / "doc/guide"
SECRETS = ("swordfish", "wrong-secret-0123", "d3Jvbmc", "not-this")


class World:
    """One server of each kind with TLS and a login; keys(kind) are those of a connector that works."""

    def __init__(self, folder, broker):
        if not shutil.which("redis-server"):
            pytest.skip("redis-server is not installed")
        self.folder, self.broker = folder, broker
        ca = self.ca = broker.folder / "ca.pem"
        pair = (str(broker.folder / "srv.pem"), str(broker.folder / "srv.key"))
        broker.topic("events")
        (folder / "server").mkdir()
        self.shim, self.pubsub, self.tokens = Shim(tls=pair), Server(*pair), Tokens("")
        self.redis = Redis(folder / "server", "--requirepass", "swordfish", login=("swordfish",))
        self.silent = socket.create_server(("127.0.0.1", 0))  # takes connections and says nothing
        key, self.tokens.public_key = make_key(folder, "foldback", self.tokens.uri)
        stranger, _ = make_key(folder, "stranger", self.tokens.uri)
        self.pubsub.on_CreateTopic(METHODS["CreateTopic"][1](name=topic_path("events")), None)
        self.pubsub.tokens = self.tokens.is_good
        for name, text in (("alice", USERS["alice"]), ("redis", "swordfish"), ("wrong", "not-this"), ("hub", CONNECTION),
                           ("wrong-hub", CONNECTION.replace("c2VjcmV0", "d3Jvbmc="))):
            (folder / name).write_text(text + "\n")
        for name in ("aws", "aws-wrong", "aws-nobody"):
            (folder / name).mkdir()
        self.names = {"AWS": keys_file(folder / "aws"), "AWS-WRONG": keys_file(folder / "aws-wrong", secret="wrong-secret-0123"),
                      "AWS-NOBODY": keys_file(folder / "aws-nobody", key="AKIANOBODY"), "KEY": key, "STRANGER": stranger,
                      "SILENT": "127.0.0.1:%d" % self.silent.getsockname()[1], "PLAIN": broker.brokers, "OTHER": str(broker.folder / "other.pem"),
                      "TLS": "127.0.0.1:%d" % broker.tls, "FOLDER": str(folder)}
        self.good = {
            "kafka": {"topic": "events", "brokers": "127.0.0.1:%d" % broker.sasl, "tls": "true", "ca_file": ca, "sasl": "plain",
                      "username": "alice", "password_file": folder / "alice"},
            "eventhubs": {"topic": "events", "brokers": "127.0.0.1:%d" % broker.sasl, "ca_file": ca,
                          "connection_string_file": folder / "hub"},
            "kinesis": {"stream": "shop", "aws_region": "eu-central-1", "endpoint": self.shim.url, "ca_file": ca,
                        "credentials_file": self.names["AWS"], "profile": "shop"},
            "pubsub": {"project": PROJECT, "topic": "events", "endpoint": "https://" + self.pubsub.address, "ca_file": ca,
                       "key_file": key},
            "redis": {"address": "127.0.0.1:%d" % self.redis.port, "stream": "s", "password_file": folder / "redis"}}

    def close(self):
        self.silent.close()
        self.redis.end()
        self.shim.close()
        self.pubsub.stop()
        self.tokens.stop()

    def check(self, kind, change):
        keys = {**self.good[kind], **{k: None if v is None else re.sub(r"\b[A-Z]+(-[A-Z]+)*\b", lambda m: self.names.get(m[0], m[0]), v)
                                      for k, v in change.items()}}
        lines = ["    %s: '%s'" % (k, v) for k, v in keys.items() if v is not None]
        file = self.folder / (kind + ".yaml")
        file.write_text("listen: ['127.0.0.1:8080']\nservices: { app: { endpoints: ['127.0.0.1:1'] } }\nconnectors:\n  shop:\n"
                        "    type: %s\n%s\n" % (kind, "\n".join(lines)))
        done = subprocess.run([BIN, "config", "check", "--connectors", "--timeout", "10", str(file)], capture_output=True,
                              text=True, timeout=120)
        assert not any(s in done.stdout + done.stderr for s in SECRETS)
        return done, ["type", *(k for k, v in keys.items() if v is not None)]


@pytest.fixture(scope="module")
def world(tmp_path_factory, kafka):  # noqa: F811
    w = World(tmp_path_factory.mktemp("world"), kafka)
    yield w
    w.close()


# type, what is changed in a good configuration, words of the table in the guide, key that the sentence names
SYMPTOMS = [
    ("kafka", {"password_file": "FOLDER/wrong"}, "Authentication failed", "password_file"),
    ("kafka", {"topic": "evnts"}, "Unknown topic or partition", "topic"),
    ("kafka", {"topic": "evnts", "direction": "source"}, "Unknown topic or partition", "topic"),
    ("kafka", {"ca_file": "OTHER"}, "broker certificate could not be verified", "ca_file"),
    ("kafka", {"brokers": "127.0.0.1:1"}, "Connection refused", "brokers"),
    ("kafka", {"brokers": "kafka.nowhere.invalid:9093"}, "Failed to resolve", "brokers"),
    ("kafka", {"brokers": "SILENT"}, "no answer", "brokers"),
    ("kafka", {"tls": None, "ca_file": None}, "no answer", "tls"),
    ("kafka", {"brokers": "PLAIN"}, "no answer", "tls"),
    ("eventhubs", {"connection_string_file": "FOLDER/wrong-hub"}, "Authentication failed", "connection_string_file"),
    ("eventhubs", {"topic": "evnts"}, "Unknown topic or partition", "topic"),
    ("eventhubs", {"ca_file": "OTHER"}, "broker certificate could not be verified", "ca_file"),
    ("eventhubs", {"brokers": "127.0.0.1:1"}, "no answer", "brokers"),
    ("kinesis", {"credentials_file": "AWS-WRONG"}, "InvalidSignatureException", "credentials"),
    ("kinesis", {"credentials_file": "AWS-NOBODY"}, "UnrecognizedClientException", "credentials"),
    ("kinesis", {"profile": "nobody"}, "it has no profile", "profile"),
    ("kinesis", {"stream": "shoop"}, "ResourceNotFoundException", "stream"),
    ("kinesis", {"stream": "shoop", "direction": "source"}, "ResourceNotFoundException", "stream"),
    ("kinesis", {"ca_file": "OTHER"}, "certificate", "ca_file"),
    ("kinesis", {"endpoint": "https://127.0.0.1:1"}, "Failed to connect", "endpoint"),
    ("kinesis", {"endpoint": "https://kinesis.nowhere.invalid"}, "Could not resolve host", "endpoint"),
    ("kinesis", {"endpoint": "http://SILENT"}, "no answer in time", "endpoint"),
    ("pubsub", {"key_file": "STRANGER"}, "Invalid JWT Signature", "key_file"),
    ("pubsub", {"topic": "evnts"}, "does not exist", "topic"),
    ("pubsub", {"topic": None, "subscription": "none", "direction": "source"}, "does not exist", "subscription"),
    ("pubsub", {"ca_file": "OTHER"}, "is not of a known authority", "ca_file"),
    ("pubsub", {"endpoint": "https://127.0.0.1:1"}, "does not answer", "endpoint"),
    ("pubsub", {"endpoint": "https://SILENT"}, "does not answer", "endpoint"),
    ("redis", {"password_file": None}, "NOAUTH", "password_file"),
    ("redis", {"password_file": "FOLDER/wrong"}, "WRONGPASS", "password_file"),
    ("redis", {"address": "TLS", "tls": "true", "ca_file": "OTHER"}, "certificate verify failed", "ca_file"),
    ("redis", {"address": "TLS"}, "does not speak the protocol of Redis", "tls"),
    ("redis", {"tls": "true"}, "does not answer in time", "tls"),
    ("redis", {"address": "127.0.0.1:1"}, "cannot be reached", "address"),
    ("redis", {"address": "redis.nowhere.invalid:6379"}, "no address for the name", "address"),
    ("redis", {"address": "SILENT"}, "does not answer in time", "address"),
]


@pytest.mark.parametrize("kind", ["kafka", "eventhubs", "kinesis", "pubsub", "redis"])
def test_what_the_others_change_is_good_as_it_is(world, kind):
    done, _ = world.check(kind, {})
    assert done.returncode == 0 and "connectors reached 1" in done.stdout, done.stderr


@pytest.mark.parametrize("kind,change,words,key", SYMPTOMS, ids=lambda v: v.replace(" ", "-") if isinstance(v, str) else "")
def test_a_symptom_has_the_words_of_the_guide_and_names_its_key(world, kind, change, words, key):
    done, keys = world.check(kind, change)
    assert done.returncode == 2, done.stdout
    found = re.search(r"\.yaml:(\d+): error: (.*)", done.stderr)
    assert found, done.stderr
    assert " (after " not in found[2], found[2]  # what the library says of its states helps nobody
    assert words in found[2] and key in found[2] and "connectors.shop" in found[2], done.stderr
    assert 5 <= int(found[1]) < 5 + len(keys), done.stderr
    page = (GUIDE / ("%s.md" % {"eventhubs": "kafka"}.get(kind, kind))).read_text()
    rows = [x for x in page.splitlines() if x.startswith("|") and words in x.split("|")[1]]
    assert rows, "no row of the table in %s has %r" % (page[:30], words)
    assert any(key in row for row in rows), rows
