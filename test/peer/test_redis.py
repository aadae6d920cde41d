# SPDX-License-Identifier: Apache-2.0
"""The connector of Redis Streams against a real redis-server: what arrives is counted by its offset, through stops,
crashes, refusals and trimming; what comes in arrives once."""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import connector, in_log, send_many  # noqa: E402
from fb import BIN, Foldback, Origin, free_port  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
STREAM = "foldback:events"
PASSWORD = "not-to-be-seen-3f9a"
AWAY_S = float(os.environ.get("FB_AWAY_S", "5"))  # how long a server is away under load


def until(fact, seconds=60):
    """What fails while a process restarts is asked again."""
    def is_so():
        try:
            return fact()
        except (OSError, AssertionError, http.client.HTTPException, KeyError, TypeError, Refused):
            return False
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "not within %d s: see the line of the test" % seconds
        time.sleep(0.1)  # most facts are read from the whole stream


class Refused(Exception):
    pass


class Client:
    """Just enough RESP2 to look into a server."""

    def __init__(self, port, tls=None, login=None):
        sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.sock = tls.wrap_socket(sock, server_hostname="localhost") if tls else sock
        self.file = self.sock.makefile("rb")
        if login:
            self("AUTH", *login)

    def __call__(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.answer()

    def answer(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Refused(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == b"-1" else [self.answer() for _ in range(int(rest))]
        return rest.decode()

    def close(self):
        self.file.close()
        self.sock.close()


class Redis:
    """A server of its own: port, folder, every write synced, so that a kill loses nothing it acknowledged."""

    def __init__(self, folder, *options, tls=None, login=None):
        self.folder = folder / "redis"
        self.folder.mkdir()
        self.port, self.tls, self.login = free_port(), tls, login
        listen = ["--port", "0", "--tls-port", str(self.port)] if tls else ["--port", str(self.port)]
        self.command = ["redis-server", *listen, "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
                        "--appendonly", "yes", "--appendfsync", "always", "--logfile", str(self.folder / "log"), *options]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self.ask("PING") == "PONG")

    def client(self):
        return Client(self.port, self.tls, self.login)

    def ask(self, *words):
        client = self.client()
        try:
            return client(*words)
        finally:
            client.close()

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def entries(self, stream=STREAM):
        """Fields of each entry, oldest first."""
        got, at = [], "-"
        while True:
            some = self.ask("XRANGE", stream, at, "+", "COUNT", "500")
            if not some:
                return got
            got += [dict(zip(fields[::2], fields[1::2])) for _, fields in some]
            at = "(" + some[-1][0]

    def offsets(self):
        return [json.loads(line)["offset"] for e in self.entries() for line in e["data"].splitlines()]


@pytest.fixture()
def origin():
    o = Origin()
    o.server.RequestHandlerClass.wbufsize = 65536  # head and body in one segment: no delayed acknowledgement
    yield o
    o.stop()


@pytest.fixture()
def world(tmp_path, origin):
    """start(connectors, redis options) -> foldback, redis; ends both."""
    with contextlib.ExitStack() as stack:
        class World:
            path = tmp_path

            def redis(self, *options, **how):
                r = Redis(tmp_path, *options, **how)
                stack.callback(r.end, signal.SIGKILL)
                return r

            def config(self, connectors):
                return ('mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n'
                        "  - { match: /, service: app }\nconnectors:\n%s\n" % (origin.port, connectors))

            def foldback(self, connectors):
                fold = Foldback(tmp_path, self.config(connectors)).start()
                stack.callback(fold.stop)
                return fold
        origin.delay_s = 0
        yield World()


def sink(redis, more=""):
    return ("  out: { type: redis, address: '127.0.0.1:%d', stream: '%s', events: [request], delay: 50ms, from: start, "
            "timeout: 20s, backoff_max: 500ms%s }" % (redis.port, STREAM, more))


def has_state(fold, name, state, says=""):
    c = connector(fold, name)
    return c["state"] == state and says in (c["last_error"] or "")


def check(world, text):
    file = world.path / "check.yaml"
    file.write_text("listen: ['127.0.0.1:0']\n" + world.config(text))
    return subprocess.run([BIN, "connector", "check", "--config", str(file)], capture_output=True, text=True, timeout=60)


def test_each_event_arrives_once_in_order_with_its_fields(world):
    redis = world.redis()
    fold = world.foldback(sink(redis))
    send_many(fold.port, 400)
    until(lambda: len(redis.offsets()) >= 400)
    got = redis.offsets()
    assert got == sorted(set(got)) and len(got) == 400
    assert got == [e["offset"] for e in in_log(fold, "request")]
    for e in redis.entries():
        lines = e["data"].splitlines()
        assert int(e["offset"]) == json.loads(lines[0])["offset"] and int(e["count"]) == len(lines)
        assert e["node"] and e["epoch"].isdigit() and e["format"] == "json" and e["key"]
    names = [x.split(" name=")[1].split(" ")[0] for x in redis.ask("CLIENT", "LIST").splitlines()]
    assert any(n.startswith("foldback-") and n.endswith("-out") for n in names)
    done = check(world, sink(redis))
    assert done.returncode == 0, done.stdout
    assert "reached, without a login" in done.stdout and "the user may add entries" in done.stdout
    assert "entries" in done.stdout.split("stream %s has " % STREAM)[1]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_away_under_load_misses_nothing(world, how):
    redis = world.redis()
    fold = world.foldback(sink(redis))
    stop, sent = threading.Event(), [0]

    def load():
        while not stop.is_set():
            send_many(fold.port, 20)  # each answer is a 200: a dead broker does not touch requests
            sent[0] += 20
            stop.wait(0.05)

    worker = threading.Thread(target=load)
    worker.start()
    try:
        until(lambda: len(redis.offsets()) >= 100)
        redis.end(how)
        before = sent[0]
        until(lambda: has_state(fold, "out", "failing"))
        until(lambda: sent[0] >= before + 400)
        stop.wait(AWAY_S)
        redis.start()
        after = sent[0]
        until(lambda: sent[0] >= after + 100)
    finally:
        stop.set()
        worker.join()
    until(lambda: len(set(redis.offsets())) >= sent[0])
    want, got = [e["offset"] for e in in_log(fold, "request")], redis.offsets()
    assert len(want) == sent[0] and sorted(set(got)) == want
    until(lambda: has_state(fold, "out", "running"))


def test_a_killed_brain_loses_nothing(world):
    redis = world.redis()
    fold = world.foldback(sink(redis))
    for _ in range(3):
        send_many(fold.port, 150)
        until(lambda: fold.child("fb-brain"))
        os.kill(fold.child("fb-brain"), signal.SIGKILL)
    send_many(fold.port, 50)
    until(lambda: len(set(redis.offsets())) >= 500)
    got, want = redis.offsets(), [e["offset"] for e in in_log(fold, "request")]
    assert sorted(set(got)) == want
    assert len(got) <= len(want) + 3 * 150  # at most what was in flight at each kill


def test_a_server_that_refuses_for_a_while_gets_all_of_it_later(world):
    redis = world.redis()
    fold = world.foldback(sink(redis))
    send_many(fold.port, 20)
    until(lambda: len(redis.offsets()) >= 20)
    for refuse, accept, says in (
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "raise maxmemory"),
            (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "is a replica")):
        redis.ask(*refuse)
        have = len(redis.offsets()) if "REPLICAOF" not in refuse else None
        send_many(fold.port, 20)
        until(lambda: has_state(fold, "out", "failing", says))
        assert have is None or len(redis.offsets()) == have  # a refused send leaves no part of it behind
        redis.ask(*accept)
    until(lambda: len(redis.offsets()) >= 60)
    assert redis.offsets() == [e["offset"] for e in in_log(fold, "request")]
    redis.ask("DEL", STREAM)
    redis.ask("SET", STREAM, "no stream")
    send_many(fold.port, 10)
    until(lambda: has_state(fold, "out", "misconfigured", "something that is no stream"))
    done = check(world, sink(redis))
    assert done.returncode == 1 and "fail  out" in done.stdout and "WRONGTYPE" in done.stdout
    redis.ask("DEL", STREAM)
    assert fold.cli("connector", "resume", "out").returncode == 0
    until(lambda: len(redis.offsets()) == 10)


def test_a_wrong_password_is_said_and_never_shown(world):
    redis = world.redis("--requirepass", PASSWORD, login=(PASSWORD,))
    secret = world.path / "secret"
    secret.write_text("wrong-" + PASSWORD + "\n")
    more = ", password_file: %s" % secret
    fold = world.foldback(sink(redis, more))
    send_many(fold.port, 20)
    until(lambda: has_state(fold, "out", "misconfigured", "WRONGPASS"))
    done = check(world, sink(redis, more))
    assert done.returncode == 1 and "password_file" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    assert "NOAUTH" in check(world, sink(redis)).stdout
    secret.write_text(PASSWORD + "\n")
    assert fold.cli("connector", "resume", "out").returncode == 0  # look again now
    until(lambda: len(redis.offsets()) >= 20)
    assert PASSWORD not in fold.text()


def make_certificates(folder):
    def run(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)
    for ca in ("ca", "other"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", ca + ".key",
            "-out", ca + ".pem", "-days", "30", "-subj", "/CN=" + ca)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name + ".key", "-out",
            name + ".csr", "-subj", "/CN=" + name)
        run("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", "names", "-out", name + ".pem")


def test_tls_client_certificate_and_acl_user(world):
    folder = world.path
    make_certificates(folder)
    tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    tls.load_cert_chain(folder / "client.pem", folder / "client.key")
    (folder / "users.acl").write_text(
        "user default on >%s ~* &* +@all\nuser feeder on >%s ~%s +@stream +ping +multi +exec +discard\n"
        % (PASSWORD, PASSWORD, STREAM))
    redis = world.redis("--tls-cert-file", folder / "server.pem", "--tls-key-file", folder / "server.key",
                        "--tls-ca-cert-file", folder / "ca.pem", "--tls-auth-clients", "yes", "--aclfile",
                        folder / "users.acl", tls=tls, login=(PASSWORD,))
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    good = ", tls: true, ca_file: %s/ca.pem, cert_file: %s/client.pem, key_file: %s/client.key, user: feeder, " \
           "password_file: %s" % (folder, folder, folder, secret)
    done = check(world, sink(redis, good))
    assert done.returncode == 0, done.stdout
    assert "over TLS, logged in" in done.stdout
    for change, says in ((("/ca.pem", "/other.pem"), "certificate verify failed"),
                         (("tls: true", "tls: true, server_name: elsewhere.test"), "certificate verify failed"),
                         (("cert_file: %s/client.pem, key_file: %s/client.key, " % (folder, folder), ""), "cert_file"),
                         (("user: feeder", "user: nobody"), "WRONGPASS")):
        done = check(world, sink(redis, good.replace(*change)))
        assert done.returncode == 1 and says in done.stdout, (change, done.stdout)
    done = check(world, sink(redis, good).replace(STREAM, "other:key"))
    assert done.returncode == 1 and "NOPERM" in done.stdout
    plain = check(world, sink(redis))
    assert plain.returncode == 1 and "tls" in plain.stdout
    fold = world.foldback(sink(redis, good))
    send_many(fold.port, 100)
    until(lambda: len(redis.offsets()) >= 100)
    assert redis.offsets() == [e["offset"] for e in in_log(fold, "request")]


def test_the_stream_stays_within_its_length_and_its_age(world):
    redis = world.redis()
    fold = world.foldback(sink(redis, ", per: event, max_len: 50, max_age: 2s, in_flight: 1"))
    for _ in range(6):
        send_many(fold.port, 200)
    until(lambda: connector(fold, "out")["events"] >= 1200)
    assert redis.ask("XLEN", STREAM) <= 50 + 2 * 100  # whole nodes of 100 entries are dropped
    assert max(redis.offsets()) == max(e["offset"] for e in in_log(fold, "request"))


def test_pause_and_resume(world):
    redis = world.redis()
    fold = world.foldback(sink(redis))
    send_many(fold.port, 30)
    until(lambda: len(redis.offsets()) >= 30)
    assert fold.cli("connector", "pause", "out").returncode == 0
    until(lambda: has_state(fold, "out", "paused"))
    send_many(fold.port, 30)
    assert len(redis.offsets()) == 30
    assert fold.cli("connector", "resume", "out").returncode == 0
    until(lambda: len(redis.offsets()) >= 60)
    assert redis.offsets() == [e["offset"] for e in in_log(fold, "request")]


SOURCE = "  shop: { type: redis, direction: source, address: '127.0.0.1:%d', stream: shop, group: g, consumer: one, " \
         "claim_after: 500ms, from: start, backoff_max: 500ms }"


def orders(fold):
    return [int(e["value"]) for e in in_log(fold, "custom") if e["name"] == "order.placed"]


def pending(redis):
    return redis.ask("XPENDING", "shop", "g")[0]


def test_a_source_takes_what_is_new_and_what_a_dead_consumer_held(world):
    redis = world.redis()
    redis.ask("XGROUP", "CREATE", "shop", "g", "0", "MKSTREAM")
    for i in range(30):
        redis.ask("XADD", "shop", "*", "data", json.dumps({"name": "order.placed", "value": i}))
    held = redis.ask("XREADGROUP", "GROUP", "g", "dead", "COUNT", "10", "STREAMS", "shop", ">")
    assert len(held[0][1]) == 10 and pending(redis) == 10
    fold = world.foldback(SOURCE % redis.port)
    until(lambda: len(orders(fold)) >= 30)
    until(lambda: pending(redis) == 0)  # acknowledged once durable
    redis.ask("XADD", "shop", "*", "data", "this is no event")
    redis.ask("XADD", "shop", "*", "name", "order.placed", "value", 30, "text", "by fields")
    until(lambda: len(orders(fold)) >= 31)
    until(lambda: connector(fold, "shop")["dead"] == 1)
    dead = os.path.join(fold.state, "connectors", "shop.dead.jsonl")
    with open(dead) as f:
        assert [json.loads(x)["reason"].split(":")[0] for x in f] == ["not JSON"]
    for i in range(31, 60):
        redis.ask("XADD", "shop", "*", "data", json.dumps({"name": "order.placed", "value": i}))
        if i == 45:
            os.kill(fold.child("fb-brain"), signal.SIGKILL)
    until(lambda: set(orders(fold)) == set(range(60)))
    until(lambda: pending(redis) == 0)
    redis.end(signal.SIGKILL)
    until(lambda: has_state(fold, "shop", "failing"))
    redis.start()
    redis.ask("XADD", "shop", "*", "data", json.dumps({"name": "order.placed", "value": 60}))
    until(lambda: 60 in orders(fold))
    got = orders(fold)
    assert sorted(set(got)) == list(range(61))
    done = check(world, SOURCE % redis.port)
    assert done.returncode == 0 and "may read, claim and acknowledge" in done.stdout


def test_what_was_trimmed_before_it_was_read_is_counted_and_said(world):
    redis = world.redis()
    fold = world.foldback(SOURCE % redis.port)
    redis.ask("XADD", "shop", "*", "data", json.dumps({"name": "order.placed", "value": 0}))
    until(lambda: orders(fold) == [0])
    until(lambda: pending(redis) == 0)
    assert fold.cli("connector", "pause", "shop").returncode == 0
    until(lambda: has_state(fold, "shop", "paused"))
    for i in range(1, 101):
        redis.ask("XADD", "shop", "*", "data", json.dumps({"name": "order.placed", "value": i}))
    redis.ask("XTRIM", "shop", "MAXLEN", "10")
    assert fold.cli("connector", "resume", "shop").returncode == 0
    until(lambda: set(range(91, 101)) <= set(orders(fold)))

    def gaps():
        return [e["value"] for e in in_log(fold, "custom") if e["name"] == "foldback.connector.gap"]

    until(lambda: gaps() == [90])
    assert "90 entries of shop were trimmed before they were read" in fold.text()
    time.sleep(1.5)  # the next look at the group finds nothing new
    assert gaps() == [90] and orders(fold) == [0, *range(91, 101)]


def test_an_entry_larger_than_an_answer_may_be_stops_nobody(world):
    redis = world.redis()
    for i in range(20):
        redis.ask("XADD", "shop", "*", "data", json.dumps({"name": "order.placed", "value": i}))
        if i == 9:
            giant = redis.ask("XADD", "shop", "*", "data", b"x" * (33 << 20))
    fold = world.foldback(SOURCE % redis.port)
    until(lambda: set(orders(fold)) == set(range(20)))
    until(lambda: pending(redis) == 0)
    with open(os.path.join(fold.state, "connectors", "shop.dead.jsonl")) as f:
        assert [json.loads(x)["position"] for x in f] == [giant]
