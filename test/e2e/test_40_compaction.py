# SPDX-License-Identifier: Apache-2.0
"""Compaction of finished segments: fewer bytes, the same events, an alert when it cannot be done."""
import http.client
import json
import os
import sys

from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, until  # noqa: E402


def config(origin):
    return ('mode: act\nlog: { sample_rate: 200 }\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\n'
            "routes:\n  - { match: /, service: app }\n" % origin.port)


def stats(fold):
    done = fold.cli("log", "stats", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def export(fold):
    done = fold.cli("events", "export", "--format", "jsonl", timeout_s=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def verify(fold):
    done = fold.cli("replay", "--verify", "--json", timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def metric(fold, name):
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    token = open(where["token_file"]).read().strip()
    c = http.client.HTTPConnection(where["address"], timeout=20)
    c.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
    text = c.getresponse().read().decode()
    c.close()
    return next(float(x.split()[1]) for x in text.splitlines() if x.startswith(name + " "))


def stopped_after_traffic(folder, origin):
    fold = Foldback(folder, config(origin)).start()
    for _ in range(60):
        assert fold.get("/item", timeout_s=20) == 200
    before = stats(fold)["blocks"]
    until(lambda: stats(fold)["blocks"] >= before + 20, 60, "a block per tick")
    fold.stop()
    return fold


def segments(fold):
    folder = os.path.join(fold.state, "log")
    return sorted(os.path.join(folder, x) for x in os.listdir(folder) if x.endswith(".fbl"))


def test_what_an_earlier_run_left_is_compacted_and_reads_the_same(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = stopped_after_traffic(tmp_path, origin)
    first, events, verdict = stats(fold), export(fold), verify(fold)
    oldest = segments(fold)[0]
    size = os.path.getsize(oldest)
    fold = Foldback(tmp_path, config(origin)).start()
    until(lambda: metric(fold, "foldback_log_compacted_segments_total") >= 1, 60, "it was compacted")
    assert metric(fold, "foldback_log_compacted_saved_bytes_total") > 0
    assert metric(fold, "foldback_log_compact_failures_total") == 0
    assert os.path.getsize(oldest) < size
    fold.stop()
    assert not os.path.exists(os.path.join(fold.state, "log", "compact.tmp"))
    assert export(fold)[:len(events)] == events
    after = stats(fold)
    assert after["bytes_per_event"] < after["bytes_per_event_before_compaction"]
    assert after["damaged_places"] == 0 and after["missing_events"] == first["missing_events"]
    assert "compaction of finished segments brought it from" in fold.cli("log", "stats").stdout
    assert verify(fold)["events"] >= verdict["events"]


def test_a_log_that_cannot_be_compacted_raises_an_alert_and_goes_on(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = stopped_after_traffic(tmp_path, origin)
    events = export(fold)
    blocker = os.path.join(fold.state, "log", "compact.tmp", "in the way")
    os.makedirs(blocker)
    fold = Foldback(tmp_path, config(origin)).start()
    until(lambda: metric(fold, "foldback_log_compact_failures_total") >= 1, 60, "it was tried")
    until(lambda: any(a["reason"] == "alert_log_compact" and "File exists" in a["text"]
                      for a in fold.api("GET", "/v1/alerts", timeout_s=20)["alerts"]), 60, "an alert")
    assert metric(fold, "foldback_log_up") == 1
    assert fold.get("/item", timeout_s=20) == 200
    assert fold.text().count("cannot be compacted") == 1
    fold.stop()
    os.rmdir(blocker)
    os.rmdir(os.path.dirname(blocker))
    assert export(fold)[:len(events)] == events
    fold = Foldback(tmp_path, config(origin)).start()
    until(lambda: metric(fold, "foldback_log_compacted_segments_total") >= 1, 60, "it was compacted")
    fold.stop()
    assert export(fold)[:len(events)] == events


def test_a_segment_whose_pseudonyms_cannot_be_removed_is_told_and_counted(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = stopped_after_traffic(tmp_path, origin)
    oldest = segments(fold)[0]
    with open(oldest, "r+b") as f:  # a byte of its first block: damaged, so that it is left as it is
        f.seek(128 + 9)
        byte = f.read(1)[0]
        f.seek(128 + 9)
        f.write(bytes([byte ^ 0x40]))
    day = 86400
    os.utime(oldest, (os.stat(oldest).st_atime - 4 * day, os.stat(oldest).st_mtime - 4 * day))
    before = open(oldest, "rb").read()
    fold = Foldback(tmp_path, config(origin)).start()  # privacy.operational_age is two days
    until(lambda: metric(fold, "foldback_log_uncleared_segments") == 1, 60, "it is counted")
    assert metric(fold, "foldback_log_clear_failures_total") >= 1
    until(lambda: any(a["reason"] == "alert_log_clear" and "segment 1 is damaged" in a["text"] and not a["over"]
                      for a in fold.api("GET", "/v1/alerts", timeout_s=20)["alerts"]), 60, "an alert")
    assert metric(fold, "foldback_log_up") == 1
    assert fold.get("/item", timeout_s=20) == 200
    fold.stop()
    assert open(oldest, "rb").read() == before, "its bytes are evidence"
