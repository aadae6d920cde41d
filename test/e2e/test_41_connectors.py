# SPDX-License-Identifier: Apache-2.0
"""Connectors, on the file type: what leaves the log and what comes in, each event once, through crashes, pauses,
reloads and bad input.  Brokers have their own files (test/peer/test_kafka*.py and others)."""
import contextlib
import glob
import json
import os
import signal
import sqlite3
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
import ask  # noqa: E402
from ask import connector, in_log, reconfigure, send_many, until  # noqa: E402
from fb import BIN, Foldback  # noqa: E402

import subprocess  # noqa: E402


def config(origin, connectors):
    return ('mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n  - { match: /, service: app }\n'
            "connectors:\n%s\n" % (origin.port, connectors))


def lines(path):
    try:
        with open(path) as f:
            return [json.loads(x) for x in f if x.endswith("\n")]
    except FileNotFoundError:
        return []


def metrics(fold):
    rows = [x.rsplit(" ", 1) for x in ask.metrics(fold).splitlines() if x and x[0] != "#"]
    return {name: float(value) for name, value in rows}


def brain_pid(fold):
    until(lambda: fold.child("fb-brain"), 20)
    return fold.child("fb-brain")


def test_a_sink_has_each_event_once_in_order_and_goes_on_after_a_restart(tmp_path, origin):
    out = tmp_path / "out.jsonl"
    text = config(origin, "  out: { type: file, path: %s, events: [request], delay: 50ms, from: start }" % out)
    fold = Foldback(tmp_path, text).start()
    send_many(fold.port, 300)
    until(lambda: len(lines(out)) >= 300, 30)
    fold.stop()
    fold = Foldback(tmp_path, text).start()
    send_many(fold.port, 200)
    until(lambda: len(lines(out)) >= 500, 30)
    got = [x["offset"] for x in lines(out)]
    assert len(got) == 500
    assert got == sorted(set(got))
    assert got == [x["offset"] for x in in_log(fold, "request")]
    until(lambda: metrics(fold)['foldback_connector_events_total{connector="out"}'] == 200, 20)
    m = metrics(fold)
    assert m['foldback_connector_up{connector="out",type="file",direction="sink"}'] == 1
    assert m['foldback_connector_records_total{connector="out"}'] >= 1
    assert m['foldback_connector_bytes_total{connector="out"}'] > 200 * 100
    for name in ("foldback_connector_errors_total", "foldback_connector_retries_total", "foldback_connector_split_total",
                 "foldback_connector_dead_letters_total", "foldback_connector_lost_events_total",
                 "foldback_connector_repeated_total"):
        assert m[name + '{connector="out"}'] == 0
    for name in ("foldback_connector_lag_events", "foldback_connector_lag_seconds", "foldback_connector_in_flight"):
        assert name + '{connector="out"}' in m
    fold.stop()


def test_a_sink_makes_its_file_again_when_another_program_moved_it(tmp_path, origin):
    out, old = tmp_path / "out.jsonl", tmp_path / "out.jsonl.old"
    text = config(origin, "  out: { type: file, path: %s, events: [request], delay: 50ms, from: start }" % out)
    fold = Foldback(tmp_path, text).start()
    send_many(fold.port, 20)
    until(lambda: len(lines(out)) >= 20, 30)
    out.rename(old)
    send_many(fold.port, 20)
    until(lambda: out.exists() and len(lines(out)) + len(lines(old)) >= 40, 30)
    got = [x["offset"] for x in lines(old) + lines(out)]
    assert got == [x["offset"] for x in in_log(fold, "request")]
    fold.stop()


def test_a_check_of_a_sink_makes_no_file(tmp_path, origin):
    text = config(origin, "  out: { type: file, path: %s/out.jsonl }\n  nowhere: { type: file, path: %s/no/out.jsonl }" %
                  (tmp_path, tmp_path))
    fold = Foldback(tmp_path, text)
    done = fold.cli("connector", "check", "out", "--config", fold.file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "out.jsonl").exists()
    done = fold.cli("connector", "check", "nowhere", "--config", fold.file)
    assert done.returncode == 1 and "No such file" in done.stdout + done.stderr


def test_a_killed_brain_loses_nothing_and_repeats_at_most_a_batch(tmp_path, origin):
    out = tmp_path / "out.jsonl"
    text = config(origin, "  out: { type: file, path: %s, events: [request], delay: 20ms, from: start }" % out)
    fold = Foldback(tmp_path, text).start()
    for _ in range(3):
        send_many(fold.port, 150)
        os.kill(brain_pid(fold), signal.SIGKILL)
    send_many(fold.port, 50)
    until(lambda: len({x["offset"] for x in lines(out)}) >= 500, 60)
    want = [x["offset"] for x in in_log(fold, "request")]
    got = [x["offset"] for x in lines(out)]
    assert sorted(set(got)) == want
    assert len(got) <= len(want) + 3 * 150
    fold.stop()


def test_a_filter_and_the_three_formats(tmp_path, origin):
    plain, cloud, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.bin"
    text = config(origin, "  a: { type: file, path: %s, filter: 'type=request and status=200', per: event, from: start }\n"
                          "  b: { type: file, path: %s, events: [request], format: cloudevents, from: start }\n"
                          "  c: { type: file, path: %s, events: [request], format: binary, from: start }"
                  % (plain, cloud, packed))
    fold = Foldback(tmp_path, text).start()
    send_many(fold.port, 40)
    until(lambda: len(lines(plain)) >= 40 and len(lines(cloud)) >= 40 and os.path.getsize(packed) > 128, 30)
    assert {x["type"] for x in lines(plain)} == {"request"}
    assert {x["type"] for x in lines(cloud)} == {"foldback.request.v1"}
    assert len({x["id"] for x in lines(cloud)}) == len(lines(cloud))
    with open(packed, "rb") as f:
        head = f.read(128)
    assert head[:4] == b"fbk1"
    fold.stop()


def test_pause_resume_and_reset(tmp_path, origin):
    out = tmp_path / "out.jsonl"
    text = config(origin, "  out: { type: file, path: %s, events: [request], delay: 20ms, from: start }" % out)
    fold = Foldback(tmp_path, text).start()
    send_many(fold.port, 30)
    until(lambda: len(lines(out)) >= 30, 30)
    done = fold.cli("connector", "pause", "out", "--why", "test")
    assert done.returncode == 0, done.stderr
    until(lambda: connector(fold, "out")["state"] == "paused", 20)
    # on the disk before the brain dies: what was said in its last 20 ms may be lost
    until(lambda: any(e["name"] == "foldback.connector.pause" for e in in_log(fold, "custom")), 30)
    send_many(fold.port, 20)
    until(lambda: connector(fold, "out")["lag_s"] > 1, 30)  # what waits behind a pause is a lag
    assert connector(fold, "out")["lag_events"] >= 20
    os.kill(brain_pid(fold), signal.SIGKILL)  # it is paused after that, too
    until(lambda: connector(fold, "out") and connector(fold, "out")["state"] == "paused", 30)
    assert len(lines(out)) == 30
    assert fold.cli("connector", "resume", "out").returncode == 0
    until(lambda: len(lines(out)) >= 50, 30)
    assert len(lines(out)) == 50
    assert fold.cli("connector", "reset", "out", "--at", "start").returncode == 0
    until(lambda: len(lines(out)) >= 100, 30)
    until(lambda: connector(fold, "out")["state"] == "running", 30)  # it began again
    listed = fold.cli("connector", "list")
    assert listed.returncode == 0 and "out" in listed.stdout and "running" in listed.stdout
    nobody = fold.cli("connector", "pause", "nobody")
    assert nobody.returncode == 1 and "no connector is called nobody" in nobody.stderr
    fold.stop()


def test_a_reload_adds_changes_and_removes(tmp_path, origin):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    fold = Foldback(tmp_path, config(origin, "  a: { type: file, path: %s, events: [request], delay: 20ms }" % one)).start()
    until(lambda: connector(fold, "a") and connector(fold, "a")["state"] == "running"
          or connector(fold, "a")["state"] == "starting", 20)
    send_many(fold.port, 10)
    until(lambda: len(lines(one)) >= 10, 30)
    reconfigure(fold, config(origin, "  a: { type: file, path: %s, events: [request], delay: 20ms }\n"
                                    "  b: { type: file, path: %s, events: [alert] }" % (two, tmp_path / "b")))
    until(lambda: connector(fold, "b") is not None, 30)
    until(lambda: connector(fold, "a") is not None, 30)
    send_many(fold.port, 10)
    until(lambda: len(lines(two)) >= 10, 30)
    assert len(lines(one)) == 10 and len(lines(two)) == 10
    reconfigure(fold, config(origin, "  b: { type: file, path: %s, events: [alert] }" % (tmp_path / "b")))
    until(lambda: connector(fold, "a") is None, 30)
    assert connector(fold, "b") is not None
    fold.stop()


def test_a_sink_that_cannot_write_says_so_and_catches_up(tmp_path, origin):
    folder = tmp_path / "there"
    text = config(origin, "  out: { type: file, path: %s/out.jsonl, events: [request], delay: 20ms, from: start, lag_alert: 1s }" % folder)
    fold = Foldback(tmp_path, text).start()
    send_many(fold.port, 20)
    until(lambda: connector(fold, "out") and connector(fold, "out")["state"] == "misconfigured", 30)
    assert "No such file or directory" in connector(fold, "out")["last_error"]
    until(lambda: any(a["reason"] == "alert_connector_failing" for a in fold.api("GET", "/v1/alerts")["alerts"]), 30)
    until(lambda: any(a["reason"] == "alert_connector_lagging" for a in fold.api("GET", "/v1/alerts")["alerts"]), 30)
    folder.mkdir()
    assert fold.cli("connector", "resume", "out").returncode == 0  # look again now
    until(lambda: len(lines(folder / "out.jsonl")) >= 20, 30)
    until(lambda: all(a["over"] for a in fold.api("GET", "/v1/alerts")["alerts"]
                      if a["reason"] in ("alert_connector_failing", "alert_connector_lagging")), 30)
    fold.stop()


def test_what_retention_took_before_it_was_sent_is_told(tmp_path, origin):
    out = tmp_path / "out.jsonl"
    text = config(origin, "  out: { type: file, path: %s, events: [request], delay: 20ms, from: start }" % out)
    fold = Foldback(tmp_path, text).start()
    send_many(fold.port, 10)
    until(lambda: len(lines(out)) >= 10, 30)
    assert fold.cli("connector", "pause", "out").returncode == 0
    until(lambda: connector(fold, "out")["state"] == "paused", 30)
    send_many(fold.port, 20)
    until(lambda: len(in_log(fold, "request")) >= 30, 30)
    fold.stop()
    fold = Foldback(tmp_path, text).start()  # each start begins a segment
    until(lambda: connector(fold, "out")["state"] == "paused", 30)
    fold.stop()
    os.unlink(sorted(glob.glob(os.path.join(fold.state, "log", "*.fbl")))[0])
    fold = Foldback(tmp_path, text).start()
    assert fold.cli("connector", "resume", "out").returncode == 0
    until(lambda: connector(fold, "out")["lost"] >= 20, 30)
    until(lambda: any(a["reason"] == "alert_connector_lost" for a in fold.api("GET", "/v1/alerts")["alerts"]), 30)
    fold.stop()


@pytest.mark.parametrize("begin", ["start", "end"])
def test_a_position_beyond_the_log_is_told_and_leaves_nothing_out(tmp_path, origin, begin):
    """As after the log was put back from a copy, and state.db was not."""
    out = tmp_path / "out.jsonl"
    text = config(origin, "  out: { type: file, path: %s, events: [request], delay: 20ms, from: %s }" % (out, begin))
    fold = Foldback(tmp_path, text).start()
    send_many(fold.port, 10)
    until(lambda: len(in_log(fold, "request")) >= 10, 30)
    fold.stop()
    with contextlib.closing(sqlite3.connect(os.path.join(fold.state, "state.db"))) as db, db:
        assert db.execute("UPDATE reader SET value = value + 1000 WHERE key = 'connector:out'").rowcount == 1
    out.unlink(missing_ok=True)
    fold = Foldback(tmp_path, text).start()
    told = []
    until(lambda: told.extend(a for a in fold.api("GET", "/v1/alerts")["alerts"]
                              if a["reason"] == "alert_connector_displaced") or told, 30)
    assert "connector out" in told[0]["text"] and "is of another log" in told[0]["text"], told[0]
    assert "connector reset out --at start" in told[0]["text"], told[0]
    send_many(fold.port, 30)
    want = 40 if begin == "start" else 30
    until(lambda: len(lines(out)) >= want, 60)
    assert [e["offset"] for e in lines(out)] == [e["offset"] for e in in_log(fold, "request")][-want:]
    unsaid = fold.cli("connector", "reset", "out")  # all of the log again: not by leaving out a word
    assert unsaid.returncode == 2 and "out is a sink; say where it goes on" in unsaid.stderr, unsaid
    beyond = fold.cli("connector", "reset", "out", "--at", "999999999")
    assert beyond.returncode == 2 and "is not in the log yet" in beyond.stderr, beyond
    fold.stop()


def test_a_source_is_reset_to_its_beginning_and_to_no_other_place(tmp_path, origin):
    incoming, name = tmp_path / "in.jsonl", "orders-of-the-shop-in-the-north-of-town"
    incoming.write_text("".join('{"name": "order.placed", "value": %d}\n' % i for i in range(20)))
    fold = Foldback(tmp_path, config(origin, "  %s: { type: file, direction: source, from: start, path: %s }" % (name, incoming))).start()

    def placed():
        return [e["value"] for e in in_log(fold, "custom") if e["name"] == "order.placed"]
    until(lambda: len(placed()) >= 20, 60)
    until(lambda: connector(fold, name)["in_flight"] == 0, 30)
    for at in ("end", "7", "start"):  # what it would do is not what was asked for: take all of it again
        done = fold.cli("connector", "reset", name, "--at", at)
        assert done.returncode == 2 and "is a source" in done.stderr and "leave out `--at`" in done.stderr, done
    head, row = fold.cli("connector", "list").stdout.splitlines()[:2]
    assert head.index("TYPE") == row.index("file") and head.index("STATE") == row.index("running"), (head, row)
    assert len(placed()) == 20
    assert fold.cli("connector", "reset", name).returncode == 0
    until(lambda: len(placed()) >= 40, 60)
    assert sorted(placed()) == sorted(2 * list(range(20)))
    fold.stop()


def test_a_source_brings_each_event_once_and_buries_what_is_none(tmp_path, origin):
    incoming = tmp_path / "in.jsonl"
    incoming.write_text("")
    text = config(origin, "  shop: { type: file, direction: source, path: %s }" % incoming)
    fold = Foldback(tmp_path, text).start()
    with open(incoming, "a") as f:
        for i in range(100):
            f.write(json.dumps({"name": "order.placed", "value": i, "text": "n%d" % i}) + "\n")
        f.write("this is not JSON\n")
        f.write(json.dumps({"specversion": "1.0", "id": "1", "source": "/shop", "type": "Shop.Deploy",
                            "data": {"value": 7, "text": "v2"}}) + "\n")

    def placed():
        return [e for e in in_log(fold, "custom") if e["name"] in ("order.placed", "shop.deploy")]

    until(lambda: len(placed()) >= 101, 30)
    until(lambda: any(a["reason"] == "alert_connector_dead" for a in fold.api("GET", "/v1/alerts")["alerts"]), 30)
    until(lambda: connector(fold, "shop")["in_flight"] == 0, 30)  # acknowledged, and the position kept
    os.kill(brain_pid(fold), signal.SIGKILL)
    with open(incoming, "a") as f:
        for i in range(100, 200):
            f.write(json.dumps({"name": "order.placed", "value": i, "text": "n%d" % i}) + "\n")
    until(lambda: len(placed()) >= 201, 60)
    values = [e["value"] for e in placed() if e["name"] == "order.placed"]
    assert sorted(set(values)) == list(range(200))
    assert len(values) == 200
    assert [(e["value"], e["text"]) for e in placed() if e["name"] == "shop.deploy"] == [(7, "-")]
    dead = lines(os.path.join(fold.state, "connectors", "shop.dead.jsonl"))
    assert len(dead) == 1 and dead[0]["reason"] == "not JSON"
    fold.stop()


def test_a_source_reads_a_file_that_was_cut_from_its_start(tmp_path, origin):
    incoming = tmp_path / "in.jsonl"
    incoming.write_text("".join(json.dumps({"name": "before.cut", "value": i}) + "\n" for i in range(50)))
    text = config(origin, "  shop: { type: file, direction: source, path: %s }" % incoming)
    fold = Foldback(tmp_path, text).start()

    def values(name):
        return [e["value"] for e in in_log(fold, "custom") if e["name"] == name]

    until(lambda: len(values("before.cut")) >= 50, 30)
    os.truncate(incoming, 0)
    with open(incoming, "a") as f:
        for i in range(20):
            f.write(json.dumps({"name": "after.cut", "value": i}) + "\n")
    until(lambda: len(values("after.cut")) >= 20, 30)
    until(lambda: connector(fold, "shop")["in_flight"] == 0, 30)
    fold.stop()
    fold = Foldback(tmp_path, text).start()
    with open(incoming, "a") as f:
        f.write(json.dumps({"name": "after.cut", "value": 20}) + "\n")
    until(lambda: len(values("after.cut")) >= 21, 30)
    assert values("after.cut") == list(range(21)) and values("before.cut") == list(range(50))
    fold.stop()


def test_a_clean_stop_repeats_nothing_of_a_source(tmp_path, origin):
    incoming = tmp_path / "in.jsonl"
    incoming.write_text("")
    text = config(origin, "  shop: { type: file, direction: source, path: %s }" % incoming)
    is_over, written = threading.Event(), []

    def write():
        with open(incoming, "a") as f:
            while not is_over.is_set():
                f.write(json.dumps({"name": "order", "value": len(written)}) + "\n")
                f.flush()
                written.append(len(written))
                time.sleep(0.0005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(3):
            fold = Foldback(tmp_path, text).start()
            until(lambda: len(in_log(fold, "custom")) > 200 * n + 20, 30)
            fold.stop()
    finally:
        is_over.set()
        writer.join()
    fold = Foldback(tmp_path, text).start()
    until(lambda: len(in_log(fold, "custom")) >= len(written), 30)
    assert [e["value"] for e in in_log(fold, "custom")] == written
    fold.stop()


def test_what_cannot_be_buried_waits(tmp_path, origin):
    incoming = tmp_path / "in.jsonl"
    incoming.write_text('this is not JSON\n{"name": "next", "value": 1}\n')
    fold = Foldback(tmp_path, config(origin, "  shop: { type: file, direction: source, path: %s }" % incoming))
    dead = os.path.join(fold.state, "connectors", "shop.dead.jsonl")
    os.makedirs(dead)  # a directory: nobody can write it, root neither
    fold.start()
    until(lambda: "cannot be written" in connector(fold, "shop")["last_error"], 30)
    assert connector(fold, "shop")["dead"] == 0
    assert in_log(fold, "custom") == []
    os.rmdir(dead)
    until(lambda: len(in_log(fold, "custom")) == 1, 60)
    assert len(lines(dead)) == 1
    fold.stop()


def test_check_reaches_what_is_configured(tmp_path, origin):
    good = tmp_path / "good.yaml"
    good.write_text("listen: ['127.0.0.1:0']\n" + config(origin, "  a: { type: file, path: %s/x }\n"
                                                               "  b: { type: file, path: /nowhere/at/all }" % tmp_path))
    done = subprocess.run([BIN, "connector", "check", "--config", str(good)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ok    a " in done.stdout and "fail  b " in done.stdout and "No such file" in done.stdout
    done = subprocess.run([BIN, "connector", "check", "a", "--config", str(good), "--json"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert all(x["is_ok"] for x in json.loads(done.stdout))
