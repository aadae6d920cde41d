# SPDX-License-Identifier: Apache-2.0
"""The queue of incoming events is full, because the disk takes nothing any more: each way in says so, and what was
accepted is in the log afterwards, each event once, and nothing that was refused."""
import base64
import json
import os
import resource
import socket

import pytest
from conftest import Origin, ok
from test_41_connectors import Foldback, brain_pid, send_many, until
from test_43_ingest import CONFIG, PROTOBUF, Ingest, datagrams, gauges

EVENTS = 1000
FILE_LIMIT = 8 << 20  # of the brain's files, while its disk is "full"; far above all but the log


def batch(first, count=EVENTS):
    return "".join(json.dumps({"name": "full.n", "value": n, "text": base64.b64encode(os.urandom(140)).decode()}) + "\n"
                   for n in range(first, first + count))


def put(i, first):
    return i.post(batch(first), "application/x-ndjson")


def rows(fold, sql):
    done = fold.cli("events", "query", sql, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture()
def full(tmp_path):
    """A foldback whose log cannot grow, and whose queue is full: (ingest, accepted events, lift)."""
    origin = Origin(lambda r, w: ok())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    text = ("ingest: { statsd: 127.0.0.1:%d, interval: 100ms, beacon_origins: https://shop.example }\n"
            "log: { segment_bytes: 64MiB }\n" % port)
    fold = Foldback(tmp_path, CONFIG % origin.port + text)
    try:
        fold.start()
        i = Ingest(fold)
        i.port, i.accepted = port, 0

        def grow():
            status, answer, _ = put(i, i.accepted)
            assert status == 202, answer
            i.accepted += EVENTS
            return fold.api("GET", "/v1/status")["stream"]["log_bytes"] > FILE_LIMIT
        until(grow, 120)
        brain = brain_pid(fold)
        soft, hard = resource.prlimit(brain, resource.RLIMIT_FSIZE)
        # The segment that is open cannot grow, and none can be made.
        log = os.path.join(fold.state, "log")
        resource.prlimit(brain, resource.RLIMIT_FSIZE, (FILE_LIMIT, hard))
        os.rename(log, log + ".away")

        def lift():
            os.rename(log + ".away", log)
            resource.prlimit(brain, resource.RLIMIT_FSIZE, (soft, hard))
        i.lift = lift

        def fill():
            status, answer, r = put(i, i.accepted)
            if status == 429:
                assert r.getheader("Retry-After") == "1"
                assert "nothing was taken" in answer["detail"]
                return True
            assert (status, answer["accepted"]) == (202, EVENTS)
            i.accepted += EVENTS
            return False
        until(fill, 120)
        yield i
    finally:
        fold.stop()
        origin.close()


def test_a_full_queue_is_429_everywhere_and_nothing_accepted_is_lost(full):
    i, fold = full, full.fold
    assert not fold.api("GET", "/v1/status")["stream"]["is_disk_ok"]
    # Small things may still find room: until none does.
    held = {"full.otlp": 0, "web.lcp": 0}

    def otlp():
        status, answer, r = i.call("POST", "/v1/metrics", json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
            {"name": "full.otlp", "gauge": {"dataPoints": [{"asDouble": 1}]}}]}]}]}), Content_Type="application/json")
        held["full.otlp"] += status == 200
        return status == 429 and r.getheader("Retry-After") == "1"

    def beacon():
        status, _, r = i.call("POST", "/v1/beacon", '{"LCP": 5}', token="", Origin="https://shop.example")
        held["web.lcp"] += status == 204
        return (status == 429 and r.getheader("Retry-After") == "1"
                and r.getheader("Access-Control-Allow-Origin") == "https://shop.example"
                and i.metrics()['foldback_ingest_refused_total{via="beacon",reason="queue_full"}'] > 0)
    until(otlp, 120)
    until(beacon, 120)
    status, answer, _ = i.call("POST", "/v1/metrics", gauges(("full.otlp", 1)), Content_Type=PROTOBUF)
    assert status == 429 and "queue" in answer
    # Datagrams are read, summed up and kept for later; that is counted.
    datagrams(i, *["full.udp:1|c"] * 50)
    put_off = 'foldback_ingest_put_off_total{via="statsd"}'
    until(lambda: i.metrics()[put_off] > 2, 60)
    datagrams(i, *["full.udp:1|c"] * 50)
    shown = i.metrics()
    for via in ("push", "otlp"):
        assert shown['foldback_ingest_refused_total{via="%s",reason="queue_full"}' % via] > 0
    assert shown["foldback_ingest_queue_bytes"] > 1 << 20
    sources = {s["via"]: s for s in fold.api("GET", "/v1/ingest")["sources"]}
    assert sources["push"]["reasons"]["queue_full"] >= EVENTS
    assert sources["statsd"]["put_off"] > 2
    assert "queue_full" in fold.cli("stream", "status").stdout
    send_many(fold.port, 20)  # requests do not notice

    i.lift()
    until(lambda: fold.api("GET", "/v1/status")["stream"]["is_disk_ok"], 60)
    first = i.accepted

    def again():
        status, _, _ = put(i, first)
        return status == 202
    until(again, 60)
    i.accepted += EVENTS
    until(lambda: i.facts()["full.n"]["total"] == i.accepted, 60)
    until(lambda: i.facts()["full.udp"]["total_sum"] == 100, 60)
    got = rows(fold, "SELECT count(*) AS n, count(DISTINCT value) AS unlike, min(value) AS low, max(value) AS high"
                     " FROM custom WHERE name = 'full.n'")[0]
    assert got == {"n": i.accepted, "unlike": i.accepted, "low": 0, "high": i.accepted - 1}
    counted = {r["name"]: r["n"] for r in rows(fold, "SELECT name, count(*) AS n FROM custom GROUP BY name")}
    assert {name: counted.get(name, 0) for name in held} == held
    assert i.metrics()["foldback_ingest_queue_bytes"] == 0
