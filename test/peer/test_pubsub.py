# SPDX-License-Identifier: Apache-2.0
"""The Pub/Sub connector against Google's fake (pstest, where Go could build it) and against a server of our own that
fails on demand and verifies tokens."""
import json
import os
import subprocess
import sys
import time

import grpc
import pytest
from conftest import BUILD, ROOT

sys.path[:0] = [str(ROOT / "test/fault"), str(ROOT / "test/peer")]
from ask import connector as status, in_log  # noqa: E402
from fb import BIN, Foldback, Origin  # noqa: E402
import pubsub_library as lib  # noqa: E402
from pubsub_library import Library  # noqa: E402
from pubsub_server import PROJECT, Client, Server, Tokens, make_key, sub_path, topic_path  # noqa: E402

WAIT_S = int(os.environ.get("PEER_WAIT_S", "90"))
PSTEST = BUILD / "peers/pstestd"


def until(fact, seconds=WAIT_S):
    end = time.monotonic() + seconds
    while True:
        try:
            if fact():
                return
        except (OSError, AssertionError, KeyError, TypeError, ValueError, grpc.RpcError):
            pass
        assert time.monotonic() < end, "still not so after %d s: see the line of the test" % seconds
        time.sleep(0.1)


@pytest.fixture()
def own():
    server = Server()
    client = Client(server.address)
    yield server, client
    client.close()
    server.stop()


@pytest.fixture(params=["own", "pstest"])
def any_server(request):
    """(address, client): each test with it holds for both, so that ours does what Google's does."""
    process = server = None
    if request.param == "own":
        server = Server()
        address = server.address
    else:
        if not PSTEST.exists():
            pytest.skip("pstest is not built: needs Go 1.23 (./dev deps says why)")
        process = subprocess.Popen([PSTEST], stdout=subprocess.PIPE, text=True)
        address = process.stdout.readline().strip()
    client = Client(address)
    yield address, client
    client.close()
    if server:
        server.stop()
    else:
        process.terminate()
        process.wait(20)


@pytest.fixture()
def origin():
    o = Origin()
    o.delay_s = 0
    yield o
    o.stop()


def config(origin, connectors):
    return ('mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n  - { match: /, service: app }\n'
            "connectors:\n%s\n" % (origin.port, connectors))


def sink(address, more="", topic="events"):
    return ("  out: { type: pubsub, project: %s, topic: %s, endpoint: '%s', events: [request], delay: 50ms, from: start, "
            "timeout: 5s, backoff_max: 500ms%s }\n" % (PROJECT, topic, address if "://" in address else "http://" + address,
                                                      more))


def source(address, more=""):
    return ("  shop: { type: pubsub, direction: source, project: %s, subscription: shop, endpoint: 'http://%s'%s }\n"
            % (PROJECT, address, more))


@pytest.fixture()
def run(tmp_path, origin):
    made = []

    def start(connectors):
        fold = Foldback(tmp_path, config(origin, connectors)).start()
        made.append(fold)
        return fold
    yield start
    for fold in made:
        fold.stop()


def requests(fold, count):
    for _ in range(count):
        assert fold.get("/item") == 200


def offsets(messages):
    return [json.loads(line)["offset"] for m in messages for line in m.data.splitlines()]


# ---- whole: foldback with a server ----
def test_every_event_is_published_once_in_order_with_its_attributes(any_server, run):
    address, client = any_server
    client.make("events")
    fold = run(sink(address))
    got = []
    for _ in range(3):
        requests(fold, 60)
        until(lambda: got.extend(client.take("events")) or len(offsets(got)) >= 60 * (_ + 1))
    want = [e["offset"] for e in in_log(fold, "request")]
    assert offsets(got) == want and len(want) == 180
    for m in got:
        assert m.ordering_key
        assert m.attributes["foldback-offset"] == str(offsets([m])[0])
        assert m.attributes["foldback-count"] == str(len(offsets([m])))
        assert {"foldback-node", "foldback-format", "foldback-schema"} <= set(m.attributes)
    until(lambda: status(fold, "out")["state"] == "running")


def test_nothing_is_missing_after_the_server_was_away_under_load(own, run):
    server, client = own
    client.make("events")
    fold = run(sink(server.address))
    requests(fold, 50)
    until(lambda: len(server.topics[topic_path("events")]) > 0)
    server.stop()
    requests(fold, 200)
    until(lambda: status(fold, "out")["state"] == "failing")
    assert "does not answer" in status(fold, "out")["last_error"]
    requests(fold, 50)
    server.start()
    requests(fold, 50)
    until(lambda: len(set(offsets(server.topics[topic_path("events")]))) >= 350)
    stored = offsets(server.topics[topic_path("events")])
    assert sorted(set(stored)) == [e["offset"] for e in in_log(fold, "request")]
    until(lambda: status(fold, "out")["state"] == "running")


def test_pause_holds_back_and_resume_brings_the_rest(own, run):
    server, client = own
    client.make("events")
    fold = run(sink(server.address))
    requests(fold, 20)
    stored = server.topics[topic_path("events")]
    until(lambda: len(offsets(stored)) == 20)
    assert fold.cli("connector", "pause", "out", "--why", "test").returncode == 0
    until(lambda: status(fold, "out")["state"] == "paused")
    requests(fold, 20)
    time.sleep(1)
    assert len(offsets(stored)) == 20
    assert fold.cli("connector", "resume", "out").returncode == 0
    until(lambda: len(offsets(stored)) == 40)


def test_each_message_comes_in_once_and_is_acknowledged(any_server, run):
    address, client = any_server
    client.make("shop", ordered=False)
    fold = run(source(address))
    client.publish("shop", [json.dumps({"name": "order.placed", "value": i}).encode() for i in range(100)] + [b"no JSON"])

    def values():
        return [e["value"] for e in in_log(fold, "custom") if e["name"] == "order.placed"]
    until(lambda: len(values()) >= 100)
    assert sorted(values()) == list(range(100))
    with open(os.path.join(fold.state, "connectors", "shop.dead.jsonl")) as f:
        assert [json.loads(x)["reason"][:8] for x in f] == ["not JSON"]
    until(lambda: status(fold, "shop")["in_flight"] == 0)
    time.sleep(1)
    assert client.take("shop") == []


def test_what_is_delivered_again_is_dropped_and_acknowledged(own, run):
    server, client = own
    client.make("shop", ordered=False)
    ids = client.publish("shop", [json.dumps({"name": "order.placed", "value": i}).encode() for i in range(50)])
    fold = run(source(server.address))
    sub = server.subs[sub_path("shop")]
    until(lambda: sorted(sub.acked) == sorted(ids))
    with server.lock:  # the service forgets the acknowledgements, as it may
        sub.acked.clear()
        sub.waiting.extend(server.topics[topic_path("shop")])
    until(lambda: sorted(sub.acked) == sorted(ids))
    until(lambda: status(fold, "shop")["repeated"] == 50)
    assert len([e for e in in_log(fold, "custom") if e["name"] == "order.placed"]) == 50


# ---- tokens ----
@pytest.fixture()
def guarded(tmp_path):
    """A server over TLS that takes only tokens of ours."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
                    "-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.pem", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True, timeout=60)
    server = Server(str(tmp_path / "tls.pem"), str(tmp_path / "tls.key"))
    tokens = Tokens("")
    key_file, tokens.public_key = make_key(tmp_path, "foldback", tokens.uri)
    for name in ("events", "shop"):
        server.on_CreateTopic(types_topic(name), None)
    server.tokens = tokens.is_good
    yield server, tokens, {"endpoint": "https://" + server.address, "ca_file": str(tmp_path / "tls.pem"),
                           "key_file": key_file, "topic": "events"}
    server.stop()
    tokens.stop()


def types_topic(name):
    from pubsub_server import METHODS
    return METHODS["CreateTopic"][1](name=topic_path(name))


def test_a_token_is_fetched_for_the_key_and_renewed_before_its_end(guarded, run):
    server, tokens, conf = guarded
    tokens.life_s = 4
    fold = run(sink(conf["endpoint"], ", key_file: %s, ca_file: %s" % (conf["key_file"], conf["ca_file"])))
    end = time.monotonic() + WAIT_S
    while len(tokens.given) < 3 and time.monotonic() < end:
        requests(fold, 5)
        time.sleep(0.2)
    want = [e["offset"] for e in in_log(fold, "request")]
    until(lambda: set(offsets(server.topics[topic_path("events")])) >= set(want))
    assert len(tokens.given) >= 3 and not tokens.refusals
    assert "secret" not in fold.text() and "PRIVATE" not in fold.text()


def test_a_wrong_key_is_said_once_and_clearly_and_never_shown(guarded, run, tmp_path):
    server, tokens, conf = guarded
    wrong, _ = make_key(tmp_path, "stranger", tokens.uri)
    fold = run(sink(conf["endpoint"], ", key_file: %s, ca_file: %s" % (wrong, conf["ca_file"])))
    requests(fold, 5)
    until(lambda: status(fold, "out")["state"] == "misconfigured")
    says = status(fold, "out")["last_error"]
    assert "Invalid JWT Signature" in says and "stranger@" in says
    checked = subprocess.run([BIN, "connector", "check", "--config", fold.file], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 1 and "Invalid JWT Signature" in checked.stdout
    with open(wrong) as f:
        secret = json.load(f)["private_key"].splitlines()[3]
    for text in (fold.text(), says, checked.stdout, checked.stderr):
        assert secret not in text and "eyJ" not in text


def test_a_token_that_is_taken_back_is_replaced(guarded):
    _, tokens, conf = guarded
    it = Library(**conf)
    assert it.send([(b"k", b"1")]) == [lib.DELIVERED]
    tokens.given.clear()
    assert it.send([(b"k", b"2")]) == [lib.RETRY]
    tokens.given["another"] = 0
    assert it.send([(b"k", b"2")]) == [lib.DELIVERED]
    it.close()


def test_the_metadata_server_gives_tokens_without_a_key(guarded):
    _, tokens, conf = guarded
    it = Library(**{**conf, "key_file": "", "project": PROJECT, "metadata_host": "127.0.0.1:%d" % tokens.port})
    assert it.send([(b"k", b"1")]) == [lib.DELIVERED]
    assert not tokens.claims
    it.close()


def test_a_token_server_that_is_away_or_talks_rubbish_is_tried_again(guarded):
    _, tokens, conf = guarded
    tokens.status = 503
    it = Library(**conf)
    assert it.send([(b"k", b"1")]) == [lib.UNSENT]
    assert "status 503" in it.text
    tokens.status = None
    assert it.send([(b"k", b"1")]) == [lib.DELIVERED]
    it.close()


def test_a_certificate_of_nobody_known_needs_a_hand(guarded):
    _, _, conf = guarded
    it = Library(**{**conf, "ca_file": ""})
    it.send([(b"k", b"1")])
    assert "ca_file" in it.text and "authority" in it.text
    it.close()


@pytest.mark.parametrize("text, says", [
    ("", "nothing in it"), ("{", "is not JSON"), ("[]", "is not JSON"), ('{"type": "authorized_user"}', "service account"),
    ('{"type": "service_account", "client_email": "a@b"}', "no private_key"),
    ('{"type": "service_account", "client_email": "a@b", "private_key": "x", "token_uri": "http://evil/"}', "https://"),
    ('{"type": "service_account", "client_email": "a@b", "private_key": "c2VjcmV0"}', "no RSA key")])
def test_a_broken_key_file_is_one_sentence(tmp_path, own, text, says):
    (tmp_path / "key.json").write_text(text)
    it = Library(key_file=str(tmp_path / "key.json"), topic="t", project="p", endpoint="https://" + own[0].address)
    if it.it:
        it.send([(b"", b"x")])
    assert says in it.text and "c2VjcmV0" not in it.text
    it.close()


# ---- the library at exact points ----
@pytest.fixture()
def sending(own):
    server, client = own
    client.make("events")
    it = Library(project=PROJECT, topic="events", endpoint="http://" + server.address)
    yield server, it, server.topics[topic_path("events")]
    it.close()


def test_after_a_failed_key_nothing_later_of_it_is_stored(sending):
    server, it, stored = sending
    server.fail.append(["Publish", grpc.StatusCode.UNAVAILABLE, "try again", 1, "a"])
    records = [(b"ab"[i % 2:i % 2 + 1], b"%d" % i) for i in range(40)]
    results = it.send(records)
    assert results == [lib.RETRY, lib.DELIVERED] * 20
    assert "UNAVAILABLE" in it.text
    assert it.send(records[::2]) == [lib.DELIVERED] * 20
    for key in "ab":
        values = [int(m.data) for m in stored if m.ordering_key == key]
        assert values == sorted(values) and len(values) == 20


def test_an_answer_that_is_lost_repeats_but_keeps_the_order(sending):
    server, it, stored = sending
    server.lost_answers = 1
    records = [(b"a", b"%d" % i) for i in range(5)]
    assert it.send(records) == [lib.RETRY] * 5
    assert it.send(records) == [lib.DELIVERED] * 5
    assert [int(m.data) for m in stored] == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize("code, is_retry", [("RESOURCE_EXHAUSTED", True), ("DEADLINE_EXCEEDED", True), ("INTERNAL", True),
                                            ("ABORTED", True), ("PERMISSION_DENIED", False), ("NOT_FOUND", False),
                                            ("FAILED_PRECONDITION", False)])
def test_codes_are_retried_or_need_a_hand(sending, code, is_retry):
    server, it, _ = sending
    server.fail.append(["Publish", getattr(grpc.StatusCode, code), "said so", 1, None])
    again = Library(project=PROJECT, topic="nowhere", endpoint="http://" + server.address)
    again.send([(b"a", b"1")])
    away = again.code if code == "NOT_FOUND" else None
    again.close()
    if away is None:
        server.fail.append(["Publish", getattr(grpc.StatusCode, code), "said so", 1, None])
        assert it.send([(b"a", b"1")]) == [lib.RETRY]
        assert ("said so" in it.text) and (("projects/" in it.text) != is_retry)
    assert it.send([(b"a", b"1")]) == [lib.DELIVERED]


def test_one_bad_message_does_not_hold_up_its_neighbours(sending):
    _, it, stored = sending
    results = it.send([(b"a", b"1"), (b"a", b"poison"), (b"a", b"3"), (b"b", b"4")])
    assert results == [lib.DELIVERED, lib.POISON, lib.DELIVERED, lib.DELIVERED]
    assert [m.data for m in stored if m.ordering_key == "a"] == [b"1", b"3"]


def test_a_thousand_messages_of_nine_megabytes_go_in_one_send(sending):
    server, it, stored = sending
    assert it.send([(b"a", b"%07d" % i + b"x" * 8990) for i in range(1000)]) == [lib.DELIVERED] * 1000
    assert [int(m.data[:7]) for m in stored] == list(range(1000))
    assert server.calls.count("Publish") == 1


def test_a_stop_ends_a_send_that_waits(sending):
    server, it, _ = sending
    server.stop()
    it.is_stopping = True
    began = time.monotonic()
    assert it.send([(b"a", b"1")]) in ([lib.UNSENT], [lib.RETRY])
    assert time.monotonic() - began < 10


def test_a_deadline_is_extended_while_a_message_waits_and_then_acknowledged(own):
    server, client = own
    client.make("shop", ordered=False, deadline_s=10)
    client.publish("shop", [b"%d" % i for i in range(20)])
    sub = server.subs[sub_path("shop")]
    it = Library(is_source=True, project=PROJECT, subscription="shop", endpoint="http://" + server.address)
    got = []
    until(lambda: got.extend(it.receive()) or len(got) == 20)
    until(lambda: it.behind() and len(sub.modacks) >= 20)
    assert {s for _, s in sub.modacks} == {60}
    end = time.monotonic() + 8  # longer than was left of the first deadline
    while time.monotonic() < end:
        assert it.receive() == []
    it.commit(got)
    assert len(sub.acked) == 20 and len(sub.delivered) == 20
    it.commit(got)  # once more does no harm
    assert it.code == 0 and len(sub.acked) == 20
    it.close()


def test_what_finds_no_room_is_given_again(own):
    server, client = own
    client.make("shop", ordered=False)
    client.publish("shop", [b"%d" % i for i in range(10)])
    it = Library(is_source=True, project=PROJECT, subscription="shop", endpoint="http://" + server.address)
    got = []
    until(lambda: got.extend(it.receive(room=3)) or len(got) == 10)
    assert [v for _, v, _ in got] == [b"%d" % i for i in range(10)]
    it.commit(got)
    assert len(server.subs[sub_path("shop")].acked) == 10
    it.close()


def test_exactly_once_failures_are_said_and_hold_nothing_up(own):
    server, client = own
    client.make("shop", ordered=False, exactly_once=True)
    client.publish("shop", [b"%d" % i for i in range(5)])
    sub = server.subs[sub_path("shop")]
    it = Library(is_source=True, project=PROJECT, subscription="shop", endpoint="http://" + server.address)
    got = []
    until(lambda: got.extend(it.receive()) or len(got) == 5)
    sub.expired.update(list(sub.out)[:2])
    it.commit(got)
    assert it.code == 0 and len(sub.acked) == 3
    assert any("2 acknowledgements failed for good" in x for x in it.said)
    it.close()


def test_a_commit_that_fails_is_repeated_by_the_runner(own):
    server, client = own
    client.make("shop", ordered=False)
    client.publish("shop", [b"1"])
    it = Library(is_source=True, project=PROJECT, subscription="shop", endpoint="http://" + server.address)
    got = []
    until(lambda: got.extend(it.receive()) or got)
    server.fail.append(["Acknowledge", grpc.StatusCode.UNAVAILABLE, "later", 1, None])
    it.commit(got)
    assert it.code != 0 and "later" in it.text
    it.commit(got)
    assert it.code == 0 and len(server.subs[sub_path("shop")].acked) == 1
    it.close()


# ---- check ----
def test_check_says_what_is_there_and_what_is_missing(own):
    server, client = own
    client.make("events")
    there = {"project": PROJECT, "endpoint": "http://" + server.address}
    it = Library(topic="events", **there)
    assert it.check() == [(True, topic_path("events") + " exists at http://" + server.address)] and it.code == 0
    it.close()
    it = Library(is_source=True, subscription="events", **there)
    assert "message ordering on" in it.check()[0][1]
    it.close()
    it = Library(topic="nowhere", **there)
    steps = it.check()
    assert not steps[-1][0] and "does not exist" in steps[-1][1] and "create it" in steps[-1][1]
    it.close()
    server.denied = {"Publish", "GetTopic"}
    it = Library(topic="events", **there)
    assert "roles/pubsub.viewer" in it.check()[0][1]
    assert it.send([(b"", b"x")]) == [lib.RETRY] and "roles/pubsub.publisher" in it.text
    it.close()


@pytest.mark.parametrize("values, says", [
    ({"topic": ""}, "needs `topic`"), ({"project": ""}, "needs `project`"), ({"endpoint": "ftp://x"}, "endpoint must be"),
    ({"topic": "projects/x/subscriptions/y"}, "topic must be"), ({"key_file": "/nowhere"}, "No such file")])
def test_a_mistake_in_the_configuration_is_one_sentence(values, says):
    it = Library(**{"topic": "t", "project": "p", **values})
    assert not it.it and says in it.text


def test_the_emulator_variable_is_honoured(own, monkeypatch):
    server, client = own
    client.make("events")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
    it = Library(project=PROJECT, topic="events")
    assert it.send([(b"a", b"1")]) == [lib.DELIVERED]
    it.close()


def test_hostile_answers_are_refused(own):
    """Bytes that are no protobuf, and none at all."""
    import socket
    import threading
    listener = socket.create_server(("127.0.0.1", 0))

    def rubbish():
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            s.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello" + os.urandom(400))
            s.close()
    threading.Thread(target=rubbish, daemon=True).start()
    it = Library(project=PROJECT, topic="t", endpoint="http://127.0.0.1:%d" % listener.getsockname()[1])
    for _ in range(5):
        assert it.send([(b"a", b"1")]) == [lib.RETRY]
        assert it.text
    it.close()
    listener.close()
