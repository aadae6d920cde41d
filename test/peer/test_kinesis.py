# SPDX-License-Identifier: Apache-2.0
"""The Kinesis connector: against kinesis_shim.py for quotas, partial failures, resharding and signatures, against
kinesis-mock (npm kinesis-local) and moto in IAM mode (pip) for a second and third opinion."""
import base64
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
from kinesis_shim import Shim, pack, unpack

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "fault"))
from ask import connector as status, in_log, send_many as send_all, until  # noqa: E402
from fb import BIN, Foldback, Origin, free_port  # noqa: E402

PEERS = ROOT / "build" / "peers"
SECRET = "test-secret-of-the-shim"


@pytest.fixture()
def origin():
    o = Origin()
    yield o
    o.stop()


@pytest.fixture()
def shim():
    s = Shim()
    yield s
    s.close()


def keys_file(folder, key="AKIATEST", secret=SECRET):
    path = os.path.join(str(folder), "credentials")
    with open(path, "w") as f:
        f.write("[other]\naws_access_key_id = X\naws_secret_access_key = Y\n\n[shop]\n"
                f"aws_access_key_id = {key}\naws_secret_access_key={secret}\n")
    return path


def connector(url, more, keys=None):
    place = f"credentials_file: {keys}, profile: shop, " if keys else ""
    return f"{{ type: kinesis, stream: shop, aws_region: eu-central-1, endpoint: '{url}', {place}backoff_max: 500ms, {more} }}"


def config(origin, **connectors):
    names = ("red", "blue", "green")
    return ("mode: act\nservices:\n" + "".join('  %s: { endpoints: ["127.0.0.1:%d"] }\n' % (n, origin.port) for n in names) +
            "routes:\n" + "".join("  - { match: /%s/, service: %s }\n" % (n, n) for n in names) +
            "connectors:\n" + "".join("  %s: %s\n" % x for x in connectors.items()))


def send_many(port, count):
    send_all(port, count, lambda i: "/%s/%d" % (("red", "blue", "green")[i % 3], i))


def offsets(shim):
    return [json.loads(line)["offset"] for _, _, line in shim.stored()]


def first_seen(values):
    return list(dict.fromkeys(values))


def assert_order_per_key(shim):
    by_key = {}
    for shard, key, line in shim.stored():
        by_key.setdefault(key, []).append(json.loads(line)["offset"])
    for key, seen in by_key.items():
        assert seen == sorted(seen), key


@pytest.mark.parametrize("more", ["per: event", "per: event, pack: kpl", "per: event, pack: none", "per: block"])
def test_a_throttling_and_failing_stream_gets_each_event_once_in_the_order_of_its_key(tmp_path, origin, shim, more):
    shim.rate, shim.fail = 0.05, 0.2  # 50 KB/s, 50 records/s a shard; every fifth record fails
    fold = Foldback(tmp_path, config(origin, out=connector(
        shim.url, f"events: [request], delay: 50ms, block: 16KiB, from: start, {more}", keys_file(tmp_path)))).start()
    send_many(fold.port, 300)
    until(lambda: len(set(offsets(shim))) >= 300, 90)
    assert sorted(offsets(shim)) == [e["offset"] for e in in_log(fold, "request")]
    assert_order_per_key(shim)
    assert shim.refused + shim.throttled > 0
    if more.startswith("per: event"):
        assert {key for _, key, _ in shim.stored()} == {"red", "blue", "green"}
    until(lambda: status(fold, "out")["state"] == "running" and status(fold, "out")["events"] == 300, 30)
    fold.stop()


def test_after_the_stream_was_away_all_between_is_delivered(tmp_path, origin, shim):
    fold = Foldback(tmp_path, config(origin, out=connector(
        shim.url, "events: [request], delay: 50ms, from: start, timeout: 2s", keys_file(tmp_path)))).start()
    send_many(fold.port, 30)
    until(lambda: len(set(offsets(shim))) >= 30, 60)
    shim.is_away = True
    send_many(fold.port, 200)
    until(lambda: status(fold, "out")["errors"] > 0, 60)
    os.kill(fold.child("fb-brain"), signal.SIGKILL)
    send_many(fold.port, 70)
    shim.is_away = False
    until(lambda: len(set(offsets(shim))) >= 300, 90)
    assert sorted(set(offsets(shim))) == [e["offset"] for e in in_log(fold, "request")]
    fold.stop()


def test_answers_that_are_none_are_asked_for_again(tmp_path, origin, shim):
    lies = [(200, b""), (200, b"{"), (200, b"[]"), (200, b'{"Records": {}}'), (200, b'{"Records": [7]}'), (500, b"<html>"),
            (200, b'{"Shards": [{"ShardId": 7}]}'), (200, b'{"Shards": 1, "ShardIterator": 2}'), (502, b"\x00\xff" * 999),
            (400, b'{"__type": "LimitExceededException"}'), (200, b'{"Records": [], "NextShardIterator": "' + b"x" * 5000 + b'"}')]
    shim.lies = lies * 2
    fold = Foldback(tmp_path, config(
        origin, out=connector(shim.url, "events: [request], delay: 50ms, from: start", keys_file(tmp_path)),
        back=connector(shim.url, "direction: source, from: start", keys_file(tmp_path)))).start()
    send_many(fold.port, 30)
    until(lambda: not shim.lies, 90)
    shim.lies = lies * 2
    send_many(fold.port, 30)
    until(lambda: not shim.lies and len(set(offsets(shim))) >= 60, 90)
    assert sorted(offsets(shim)) == [e["offset"] for e in in_log(fold, "request")]
    until(lambda: status(fold, "out")["state"] == status(fold, "back")["state"] == "running", 60)
    fold.stop()


def order(i, of):
    return json.dumps({"name": "order.placed", "value": i, "text": of}).encode()


def placed(fold):
    return [e for e in in_log(fold, "custom") if e["name"] == "order.placed"]


def test_a_source_follows_splits_and_merges_and_takes_each_event_once(tmp_path, origin, shim):
    shim.iterator_reads = 13  # iterators expire
    fold = Foldback(tmp_path, config(origin, shop=connector(
        shim.url, "direction: source, from: start", keys_file(tmp_path)))).start()
    keys, sent = ["user-%d" % i for i in range(8)], 0

    def write(count):
        nonlocal sent
        for _ in range(count):
            shim.put(keys[sent % 8], order(sent, keys[sent % 8]))
            sent += 1

    write(60)
    shim.put("user-0", pack([("user-0", order(10000 + i, "packed")) for i in range(20)]))
    shim.split(0)
    write(60)
    until(lambda: len(placed(fold)) >= 140, 90)
    until(lambda: status(fold, "shop")["in_flight"] == 0, 30)
    os.kill(fold.child("fb-brain"), signal.SIGKILL)
    shim.split(1)
    shim.put("user-1", b"not JSON")
    write(40)
    shim.merge(2, 3)  # the children of the first shard are one again
    write(40)
    until(lambda: len(placed(fold)) >= 220, 90)
    values = [int(e["value"]) for e in placed(fold)]
    assert sorted(values) == sorted(list(range(200)) + list(range(10000, 10020)))
    for k in range(8):
        mine = [v for v in values if v < 10000 and v % 8 == k]
        assert mine == sorted(mine)  # parents before children
    assert [v for v in values if v >= 10000] == list(range(10000, 10020))
    until(lambda: status(fold, "shop")["bad"] == 1, 30)
    assert shim.early_reads == 0  # never more than 5 reads a second
    fold.stop()


def check(tmp_path, origin, text, env=None):
    path = tmp_path / "check.yaml"
    path.write_text("listen: ['127.0.0.1:0']\n" + config(origin, out=text))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return subprocess.run([BIN, "connector", "check", "--config", str(path)], capture_output=True, text=True, timeout=90,
                          env={**environment, **(env or {})})


def test_check_says_what_is_wrong_in_one_sentence_and_never_a_secret(tmp_path, origin, shim):
    good = check(tmp_path, origin, connector(shim.url, "", keys_file(tmp_path)))
    assert good.returncode == 0, good.stdout + good.stderr
    assert "the profile [shop]" in good.stdout and "stream shop has 2 open shards" in good.stdout
    cases = {
        "InvalidSignatureException": connector(shim.url, "", keys_file(tmp_path, secret="wrong-secret-0123")),
        "UnrecognizedClientException": connector(shim.url, "", keys_file(tmp_path, key="AKIANOBODY")),
        "has no profile [nobody]": connector(shim.url, "profile: nobody, credentials_file: " + keys_file(tmp_path)),
        "see `stream` and `aws_region`": connector(shim.url, "", keys_file(tmp_path)).replace("stream: shop", "stream: shoop"),
        "AWS_ACCESS_KEY_ID": connector(shim.url, "credentials: environment"),
        "_FULL_URI": connector(shim.url, "credentials: container"),
        "Couldn't connect|Failed to connect|refused": connector("http://127.0.0.1:%d" % free_port(), "", keys_file(tmp_path)),
    }
    for what, text in cases.items():
        keys_file(tmp_path, *({"InvalidSignatureException": ("AKIATEST", "wrong-secret-0123"),
                               "UnrecognizedClientException": ("AKIANOBODY", SECRET)}.get(what, ())))
        done = check(tmp_path, origin, text)
        out = done.stdout + done.stderr
        assert done.returncode == 1 and any(w in out for w in what.split("|")), out
        assert SECRET not in out and "wrong-secret" not in out


def test_a_certificate_of_nobody_is_refused_and_that_of_ca_file_taken(tmp_path, origin):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", cert, "-keyout", key],
                   check=True, capture_output=True, timeout=60)
    shim = Shim(tls=(cert, key))
    try:
        nobody = check(tmp_path, origin, connector(shim.url, "", keys_file(tmp_path)))
        assert nobody.returncode == 1 and "see `ca_file`" in nobody.stdout + nobody.stderr, nobody.stdout + nobody.stderr
        known = check(tmp_path, origin, connector(shim.url, f"ca_file: {cert}", keys_file(tmp_path)))
        assert known.returncode == 0, known.stdout + known.stderr
        other = check(tmp_path, origin, connector(shim.url.replace("localhost", "127.0.0.1"), f"ca_file: {cert}",
                                                  keys_file(tmp_path)))
        assert other.returncode == 1, other.stdout
        blind = check(tmp_path, origin, connector(shim.url, "verify: false", keys_file(tmp_path)))
        assert blind.returncode == 0, blind.stdout + blind.stderr
    finally:
        shim.close()


def test_credentials_come_from_the_environment_a_container_and_an_instance(tmp_path, origin, shim):
    done = check(tmp_path, origin, connector(shim.url, ""), {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": SECRET})
    assert done.returncode == 0 and "credentials from the environment" in done.stdout, done.stdout + done.stderr
    done = check(tmp_path, origin, connector(shim.url, ""), {"AWS_CONTAINER_CREDENTIALS_FULL_URI": shim.url + "/container",
                                                             "AWS_CONTAINER_AUTHORIZATION_TOKEN": "container-token"})
    assert done.returncode == 0 and "the container's endpoint" in done.stdout, done.stdout + done.stderr
    done = check(tmp_path, origin, connector(shim.url, f"metadata_endpoint: '{shim.url}'"))
    assert done.returncode == 0 and "the instance's metadata" in done.stdout, done.stdout + done.stderr
    done = check(tmp_path, origin, connector(shim.url, ""), {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/x"})
    assert done.returncode == 1 and "must be https" in done.stdout + done.stderr


def test_keys_of_a_role_are_renewed_before_they_end(tmp_path, origin, shim):
    shim.role_life_s = 8
    fold = Foldback(tmp_path, config(origin, out=connector(
        shim.url, f"credentials: instance, metadata_endpoint: '{shim.url}', events: [request], delay: 50ms, from: start"))).start()
    sent = 0
    until_s = time.monotonic() + 120
    while shim.roles < 4 and time.monotonic() < until_s:
        send_many(fold.port, 6)
        sent += 6
        time.sleep(0.3)
    assert shim.roles >= 4
    until(lambda: len(set(offsets(shim))) >= sent, 60)
    assert sorted(set(offsets(shim))) == [e["offset"] for e in in_log(fold, "request")]
    assert status(fold, "out")["state"] == "running"
    fold.stop()


def test_a_wrong_secret_is_one_clear_error_and_no_harm_to_traffic(tmp_path, origin, shim):
    fold = Foldback(tmp_path, config(origin, out=connector(
        shim.url, "events: [request], delay: 50ms, from: start", keys_file(tmp_path, secret="wrong-secret-0123")))).start()
    send_many(fold.port, 30)
    until(lambda: status(fold, "out")["state"] == "misconfigured", 60)
    assert "InvalidSignatureException" in status(fold, "out")["last_error"]
    keys_file(tmp_path)  # the file is read again
    os.utime(tmp_path / "credentials", (1, 1))
    assert fold.cli("connector", "resume", "out").returncode == 0
    until(lambda: len(set(offsets(shim))) >= 30, 60)
    assert "wrong-secret" not in fold.text()
    fold.stop()


# ---- servers of others ----
@contextlib.contextmanager
def server(command, port, env):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **env})

    def is_up():  # without a request: moto counts them
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return process.poll() is None

    try:
        until(is_up, 60)
        yield "http://127.0.0.1:%d" % port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def ask(url, action, body, extra=None):
    r = urllib.request.Request(url + "/", json.dumps(body).encode(), {
        "X-Amz-Target": "Kinesis_20131202." + action, "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-central-1/kinesis/aws4_request, "
                         "SignedHeaders=host, Signature=0", **(extra or {})})
    with urllib.request.urlopen(r, timeout=20) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def test_kinesis_mock_takes_what_a_sink_sends_and_gives_it_to_a_source_through_a_split(tmp_path, origin):
    program = PEERS / "kinesis" / "node_modules" / "kinesis-local"
    if not program.exists():
        pytest.skip("kinesis-mock is not installed: ./dev deps")
    port, tls = free_port(), free_port()
    env = {"KINESIS_MOCK_PLAIN_PORT": str(port), "KINESIS_MOCK_TLS_PORT": str(tls), "LOG_LEVEL": "ERROR",
           "KINESIS_MOCK_CERT_PATH": str(program / "server.json"), "SHARD_LIMIT": "50"}
    with server(["node", str(program / "main.js")], port, env) as url:
        for name in ("shop", "orders"):
            ask(url, "CreateStream", {"StreamName": name, "ShardCount": 2})

        def is_active(open_shards):
            of = [ask(url, "DescribeStreamSummary", {"StreamName": n})["StreamDescriptionSummary"] for n in ("shop", "orders")]
            return all(x["StreamStatus"] == "ACTIVE" for x in of) and of[1]["OpenShardCount"] == open_shards

        def put(first, count):
            answer = ask(url, "PutRecords", {"StreamName": "orders", "Records": [
                {"PartitionKey": "user-%d" % (i % 8), "Data": base64.b64encode(order(i, "n")).decode()}
                for i in range(first, first + count)]})
            assert answer["FailedRecordCount"] == 0

        def in_stream():
            out = []
            for shard in ask(url, "ListShards", {"StreamName": "shop"})["Shards"]:
                at = ask(url, "GetShardIterator", {"StreamName": "shop", "ShardId": shard["ShardId"],
                                                   "ShardIteratorType": "TRIM_HORIZON"})["ShardIterator"]
                for r in ask(url, "GetRecords", {"ShardIterator": at})["Records"]:
                    out += [json.loads(x)["offset"] for v in unpack(base64.b64decode(r["Data"])) for x in v.split(b"\n") if x]
            return out

        until(lambda: is_active(2), 60)
        fold = Foldback(tmp_path, config(
            origin,
            out=connector(url, "events: [request], per: event, pack: kpl, delay: 50ms, from: start", keys_file(tmp_path)),
            back=connector(url, "direction: source, from: start", keys_file(tmp_path)).replace("stream: shop", "stream: orders"))).start()
        put(0, 60)
        send_many(fold.port, 90)
        until(lambda: len(placed(fold)) >= 60, 90)
        until(lambda: len(in_stream()) >= 90, 90)
        assert sorted(in_stream()) == [e["offset"] for e in in_log(fold, "request")]
        shards = ask(url, "ListShards", {"StreamName": "orders"})["Shards"]
        low, high = (int(shards[0]["HashKeyRange"][k]) for k in ("StartingHashKey", "EndingHashKey"))
        ask(url, "SplitShard", {"StreamName": "orders", "ShardToSplit": shards[0]["ShardId"],
                                "NewStartingHashKey": str((low + high) // 2)})
        until(lambda: is_active(3), 60)
        put(60, 60)
        until(lambda: len(placed(fold)) >= 120, 90)
        assert sorted(int(e["value"]) for e in placed(fold)) == list(range(120))
        fold.stop()


def test_moto_accepts_our_signature_and_refuses_a_wrong_one(tmp_path, origin):
    program = PEERS / "moto" / "bin" / "moto_server"
    if not program.exists():
        pytest.skip("moto is not installed: ./dev deps")
    port = free_port()
    with server([str(program), "-H", "127.0.0.1", "-p", str(port)], port, {"INITIAL_NO_AUTH_ACTION_COUNT": "4"}) as url:
        def form(**fields):
            body = "&".join("%s=%s" % (k, urllib.parse.quote(v)) for k, v in fields.items()).encode()
            r = urllib.request.Request(url + "/", body, {"Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0"})
            return urllib.request.urlopen(r, timeout=20).read().decode()

        form(Action="CreateUser", UserName="shop", Version="2010-05-08")
        made = form(Action="CreateAccessKey", UserName="shop", Version="2010-05-08")
        form(Action="PutUserPolicy", UserName="shop", PolicyName="all", Version="2010-05-08", PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"}]}))
        key, secret = (made.split("<%s>" % n)[1].split("<")[0] for n in ("AccessKeyId", "SecretAccessKey"))
        ask(url, "CreateStream", {"StreamName": "shop", "ShardCount": 1})
        good = check(tmp_path, origin, connector(url, "", keys_file(tmp_path, key, secret)))
        assert good.returncode == 0, good.stdout + good.stderr
        wrong = check(tmp_path, origin, connector(url, "", keys_file(tmp_path, key, "wrong" + secret[5:])))
        assert wrong.returncode == 1 and "SignatureDoesNotMatch" in wrong.stdout + wrong.stderr, wrong.stdout + wrong.stderr
        assert secret not in wrong.stdout + wrong.stderr
