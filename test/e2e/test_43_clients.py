# SPDX-License-Identifier: Apache-2.0
"""Libraries that applications and receivers have already: StatsD, DogStatsD, Standard Webhooks, CloudEvents."""
import base64
import json
import socket

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from conftest import Origin, ok
from datadog.dogstatsd import DogStatsd
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from statsd import StatsClient
from test_41_connectors import Foldback, in_log, send_many, until
from test_43_handlers import Receiver
from test_43_ingest import CONFIG, Ingest


@pytest.fixture(scope="module")
def statsd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    path = folder / "s.sock"
    fold = Foldback(folder, CONFIG % 9 + f"ingest: {{ statsd: 127.0.0.1:{port}, statsd_socket: {path}, interval: 200ms }}\n")
    try:
        fold.start()
        i = Ingest(fold)
        i.port, i.path = port, str(path)
        yield i
    finally:
        fold.stop()


def fact(i, name, key="last"):
    return i.facts().get(name, {}).get(key)


def test_the_statsd_package_is_understood(statsd):
    client = StatsClient("127.0.0.1", statsd.port, prefix="st")
    with client.pipeline() as p:  # one datagram
        for _ in range(20):
            p.incr("hits", 2)
        p.decr("hits")
        p.gauge("temp", 42.5)
        p.gauge("temp", -3, delta=True)
        p.gauge("below", -7)  # a zero before it, for `-7` alone would be relative
        p.timing("wait", 320)
        p.timing("wait", 120)
        p.set("users", "u1")
        p.set("users", "u2")
    until(lambda: fact(statsd, "st.hits", "total_sum") == 39, 60)
    got = {n: fact(statsd, "st." + n) for n in ("temp", "below", "wait", "users")}
    assert got == {"temp": 39.5, "below": -7, "wait": 220, "users": 2}


@pytest.mark.parametrize("way", ["udp", "unix"])
def test_the_datadog_package_is_understood(statsd, way):
    to = {"host": "127.0.0.1", "port": statsd.port} if way == "udp" else {"socket_path": "unixgram://" + statsd.path}
    client = DogStatsd(namespace=way + "dd", constant_tags=["env:prod"], disable_telemetry=True, disable_buffering=False,
                       flush_interval=3600, **to)
    client.increment("views", 3, tags=["page:cart"])
    client.histogram("wait", 1.5)
    client.histogram("wait", 2.5)
    client.distribution("size", 9)
    client.gauge_with_timestamp("depth", 5, 1700000000)
    client.set("users", "x")
    client.flush()  # one datagram
    until(lambda: fact(statsd, way + "dd.views", "total_sum") == 3, 60)
    assert {n: fact(statsd, way + "dd." + n) for n in ("wait", "size", "depth", "users")} == {
        "wait": 2, "size": 9, "depth": 5, "users": 1}
    client.service_check(way + "db", client.WARNING, tags=["x:y"], message="slow\nreal")
    client.event(way + " deploy ü", "line 1\nline 2 | pipe", alert_type="error", tags=["x:y"])
    client.flush()
    until(lambda: fact(statsd, "check.%sdb" % way) == 1, 60)

    def texts():
        return statsd.fold.cli("events", "query", "SELECT text FROM custom WHERE name = 'statsd.event'", "--format", "jsonl",
                               "--no-redact").stdout
    until(lambda: way + " deploy ü: line 1" in texts() and "line 2 | pipe" in texts(), 60)
    client.close_socket()


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_receiver_with_their_libraries_verifies_and_reads_each_event(tmp_path, is_packed):
    """A line that is no whsec_ goes to the library as the base64 of its bytes."""
    secret = base64.b64encode(b"twenty-four bytes or so!").decode()
    line = "whsec_" + secret if is_packed else "twenty-four bytes or so!"
    origin, hook = Origin(lambda r, w: ok()), Receiver(lambda event, times: 503 if times == 1 else 204)
    (tmp_path / "key").write_text(line + "\n")
    fold = Foldback(tmp_path, CONFIG % origin.port + 'handlers:\n  hook: { url: "%s", events: [request], from: start,'
                    " backoff_max: 100ms, sign_key_file: %s }\n" % (hook.url, tmp_path / "key"))
    try:
        fold.start()
        send_many(fold.port, 5)
        until(lambda: len(hook.taken()) >= 5, 60)
        want = {x["offset"] for x in in_log(fold, "request")}
        library, reads = Webhook(secret), JSONFormat()
        for _, _, headers, body in list(hook.seen):
            text, lower = body.decode(), {k.lower(): v for k, v in headers.items()}
            assert library.verify(text, lower)["id"] == lower["webhook-id"]
            with pytest.raises(WebhookVerificationError):
                library.verify(text.replace('"1.0"', '"1.1"', 1), lower)
            event = reads.read(CloudEvent, body)
            node, offset = event.get_id().split("/")
            assert event.get_source() == "/foldback/nodes/" + node and int(offset) in want
            assert (event.get_type(), event.get_datacontenttype()) == ("foldback.request.v1", "application/json")
            assert event.get_time().tzinfo and event.get_data()["status"] == 200
    finally:
        fold.stop()
        hook.close()
        origin.close()


def test_a_block_is_verified_whole_and_read_line_by_line(tmp_path):
    origin, hook = Origin(lambda r, w: ok()), Receiver()
    secret = base64.b64encode(b"twenty-four bytes or so!").decode()
    (tmp_path / "key").write_text("whsec_" + secret + "\n")
    fold = Foldback(tmp_path, CONFIG % origin.port + 'handlers:\n  hook: { url: "%s", events: [request], from: start, per: block,'
                    " delay: 500ms, sign_key_file: %s }\n" % (hook.url, tmp_path / "key"))
    try:
        fold.start()
        send_many(fold.port, 20)
        until(lambda: sum(len(e["lines"]) for e in hook.taken()) >= 20, 60)
        want = [x["offset"] for x in in_log(fold, "request")]
        library, got = Webhook(secret), []
        for _, block, headers, body in list(hook.seen):
            lines = block["lines"]
            assert headers["Content-Type"] == "application/x-ndjson"
            assert library.verify(body, headers, json_parse=False) is None
            with pytest.raises(WebhookVerificationError):
                library.verify(body.replace(b'"1.0"', b'"1.1"', 1), headers, json_parse=False)
            if len(lines) > 1:  # the whole is no document
                with pytest.raises(json.JSONDecodeError):
                    library.verify(body, headers)
            got += [int(json.loads(line)["id"].split("/")[1]) for line in lines]
        assert got == want and len(hook.seen) < 20
    finally:
        fold.stop()
        hook.close()
        origin.close()


def test_the_cloudevents_package_reads_all_that_is_exported(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, CONFIG % origin.port)
    try:
        fold.start()
        send_many(fold.port, 5)
        until(lambda: len(in_log(fold, "request")) >= 5, 60)
        done = fold.cli("events", "export", "--format", "cloudevents")
        assert done.returncode == 0, done.stderr
        events = [JSONFormat().read(CloudEvent, line) for line in done.stdout.splitlines()]
        assert len({(e.get_source(), e.get_id()) for e in events}) == len(events) > 5
        assert all(e.get_type() == "foldback.%s.v1" % e.get_data()["type"] for e in events)
    finally:
        fold.stop()
        origin.close()
