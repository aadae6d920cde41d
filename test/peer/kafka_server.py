# SPDX-License-Identifier: Apache-2.0
"""A real Apache Kafka for the tests: one node (KRaft) with a plain listener, one with TLS, one with TLS and SASL."""
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from fetch_peers import fetch_all

HERE = pathlib.Path(__file__).resolve().parent
CONNECTION = ("Endpoint=sb://localhost/;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=c2VjcmV0")
USERS = {"alice": "alice-secret", "bob": "bob-secret", "foldback": "foldback-secret", "$ConnectionString": CONNECTION}


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def make_certificates(folder):
    """A CA, a server certificate for 127.0.0.1 and localhost, and another CA that signed nothing here."""
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=folder, timeout=60)
    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "srv.key", "-out", "srv.csr")
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "srv.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", "ext", "-out", "srv.pem")
    openssl("pkcs8", "-topk8", "-nocrypt", "-in", "srv.key", "-out", "srv.p8")
    (folder / "keystore.pem").write_text((folder / "srv.p8").read_text() + (folder / "srv.pem").read_text())


class Kafka:
    def __init__(self, folder, host="127.0.0.1", within=(), fronts=()):
        """<within>: a command that runs the command behind it somewhere else, where <host> is.  <fronts>: two ports of
        proxies; clients that come through them (plain; TLS and SASL) are told to stay there."""
        self.folder, self.within = folder, list(within)
        try:
            self.libs = fetch_all(HERE / "kafka.lock")
        except RuntimeError as e:  # FB_NEED_PEERS=1: a broker that cannot be had is a failure
            if os.environ.get("FB_NEED_PEERS"):
                raise
            pytest.skip(f"Kafka cannot be fetched from Maven Central: {str(e)[:300]}")
        folder.mkdir(exist_ok=True)
        make_certificates(folder)
        self.plain, self.tls, self.sasl, control, self.slow, self.slow_sasl = free_ports(6)
        self.brokers = f"{host}:{self.plain}"
        behind = ["", "", ""]
        if fronts:
            behind = [f",SLOW://{host}:{self.slow},SLOWSASL://{host}:{self.slow_sasl}",
                      f",SLOW://{host}:{fronts[0]},SLOWSASL://{host}:{fronts[1]}", ",SLOW:PLAINTEXT,SLOWSASL:SASL_SSL"]
        users = "".join(f' user_{name}="{secret}"' for name, secret in USERS.items())
        (folder / "server.properties").write_text(f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{control}
listeners=PLAINTEXT://{host}:{self.plain},CONTROLLER://127.0.0.1:{control},SSL://{host}:{self.tls},SASL_SSL://{host}:{self.sasl}{behind[0]}
advertised.listeners=PLAINTEXT://{host}:{self.plain},SSL://{host}:{self.tls},SASL_SSL://{host}:{self.sasl}{behind[1]}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL{behind[2]}
log.dirs={folder}/data
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=1
num.io.threads=2
log.cleaner.dedupe.buffer.size=16777216
ssl.keystore.type=PEM
ssl.keystore.location={folder}/keystore.pem
ssl.client.auth=none
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms=3600000
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required{users};
listener.name.slowsasl.sasl.enabled.mechanisms=PLAIN
listener.name.slowsasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required{users};
""")
        self.java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", "server.properties",
                  *(x for m in ("256", "512") for x in ("--add-scram", f"SCRAM-SHA-{m}=[name=bob,password={USERS['bob']}]")))
        self.process = None

    def command(self, *args):
        return [shutil.which("java"), "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{self.libs}/*", *args]

    def java(self, *args):
        done = subprocess.run(self.command(*args), cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self):
        log = open(self.folder / "server.log", "a")
        self.process = subprocess.Popen(self.within + self.command("kafka.Kafka", "server.properties"), cwd=self.folder,
                                        stdout=log, stderr=subprocess.STDOUT)
        log.close()
        end = time.monotonic() + 120
        admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        while True:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            assert time.monotonic() < end, "Kafka did not start"
            try:
                admin.list_topics(timeout=2)
                return self
            except KafkaException:
                time.sleep(0.2)

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self.process = None

    def kill(self):
        """What it acknowledged is in the page cache: a kill of the process alone loses none of it."""
        self.process.kill()
        self.process.wait(30)
        self.process = None

    def topic(self, name, partitions=4, **config):
        admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        made = admin.create_topics([NewTopic(name, partitions, 1, config=config)])
        made[name].result(60)
        end = time.monotonic() + 30
        while admin.list_topics(name, timeout=10).topics[name].error:
            assert time.monotonic() < end
            time.sleep(0.1)
        return name

    def quota(self, bytes_per_s):
        """What each client may bring (None: as good as any); the broker holds up the answers of who brings more."""
        self.java("kafka.admin.ConfigCommand", "--bootstrap-server", self.brokers, "--alter", "--add-config",
                  f"producer_byte_rate={bytes_per_s or 2 ** 30}", "--entity-type", "clients", "--entity-default")

    def produce(self, topic, values, key=None, partition=None, wall_ms=None):
        p = Producer({"bootstrap.servers": self.brokers, "linger.ms": 5, "log_level": 0})
        bad = []
        for v in values:
            extra = {} if partition is None else {"partition": partition}
            extra |= {} if wall_ms is None else {"timestamp": wall_ms}
            while True:
                try:
                    p.produce(topic, v, key=key, on_delivery=lambda e, m: bad.append(e) if e else None, **extra)
                    break
                except BufferError:  # its queue is full: what is on its way goes first
                    p.poll(0.5)
            p.poll(0)
        assert p.flush(60) == 0 and not bad, (len(bad), bad[:3])

    def reader(self, topic, committed=False):
        return Reader(self.brokers, topic, committed)


class Reader:
    """All messages of a topic from its beginning, as they come."""

    def __init__(self, brokers, topic, committed):
        self.c = Consumer({"bootstrap.servers": brokers, "group.id": f"test-{os.urandom(6).hex()}",
                           "auto.offset.reset": "earliest", "enable.auto.commit": False,
                           "isolation.level": "read_committed" if committed else "read_uncommitted",
                           "reconnect.backoff.max.ms": 1000, "log_level": 0})
        # Without the group: a broker that is away for long ends the membership, and all would be read again.
        parts = self.c.list_topics(topic, timeout=60).topics[topic].partitions
        self.c.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in parts])
        self.messages = []

    def poll(self, seconds=0.2):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            m = self.c.poll(0.1)
            if m is not None and not m.error():
                self.messages.append(m)
        return self.messages

    def close(self):
        self.c.close()
