# SPDX-License-Identifier: Apache-2.0
"""The stream of real traffic: each request is an event, the log says when it is damaged, a replay decides again."""
import collections
import concurrent.futures
import glob
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import metrics  # noqa: E402
from fb import BIN, Foldback, until  # noqa: E402

CLIENTS, EACH = 8, 400


def config(origin, extra="", service=""):
    return ('mode: act\n%sservices:\n  app: { endpoints: ["127.0.0.1:%d"], objective: { latency: 99%% < 500ms }%s }\n'
            "routes:\n  - { match: /, service: app }\n" % (extra, origin.port, service))


def send_many(port, count, path="/item?secret=1", headers=None):
    """How many were answered with which status."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    seen = collections.Counter()
    for _ in range(count):
        c.request("GET", path, headers=headers or {})
        r = c.getresponse()
        r.read()
        seen[r.status] += 1
    c.close()
    return seen


def send_from(clients, port, each):
    """The same from several at once; all of them come to their end."""
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(lambda _: send_many(port, each), range(clients)), collections.Counter())


def run(*args, timeout_s=60):
    return subprocess.run([BIN, *args], capture_output=True, text=True, timeout=timeout_s)


def tail(fold, *args):
    done = fold.cli("events", "tail", "--json", *args)
    assert done.returncode == 0, done.stderr
    return [json.loads(x) for x in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A foldback that served CLIENTS x EACH requests, changed its mind a few times and was stopped; the state folder
    must not be changed by a test."""
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path_factory.mktemp("stream"), config(origin, "log: { sample_rate: 200 }\n")).start()
    seen = send_from(CLIENTS, fold.port, EACH)
    time.sleep(3.5)
    fold.seen = seen + send_many(fold.port, 50)
    time.sleep(0.5)
    fold.samples = tail(fold, "--type", "sample", "--limit", "20")
    requests = tail(fold, "--type", "request", "--from-offset", "0", "--limit", "100000")
    fold.told = collections.Counter(e["status"] for e in requests)
    fold.status = fold.api("GET", "/v1/status")
    fold.metrics = metrics(fold)
    assert fold.seen.total() == CLIENTS * EACH + 50
    # the origin is this process: on a busy machine it answers late, and foldback takes its limit down as it should
    assert set(fold.seen) <= {200, 503} and fold.seen[200] > EACH, fold.seen
    fold.stop()
    origin.close()
    return fold


def test_each_request_is_one_event(recorded):
    done = recorded.cli("log", "stats", "--json")
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)
    assert stats["types"]["request"] == recorded.seen.total()
    assert recorded.told == recorded.seen, "with the status that the clients saw"
    assert stats["holes"] == 0 and stats["missing_events"] == 0
    assert "gap" not in stats["types"]
    assert recorded.status["stream"]["events_lost"] == 0
    assert stats["events"] == stats["last_offset"] - stats["first_offset"] + 1


def test_the_log_of_a_stopped_foldback_is_whole(recorded):
    done = recorded.cli("log", "check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_samples_hide_what_is_personal(recorded):
    assert recorded.samples
    for s in recorded.samples:
        assert s["path"] == "-"
        assert "secret" not in json.dumps(s)
        assert s["method"] == "GET" and s["status"] in recorded.seen


def test_a_replay_decides_the_same_bit_for_bit(recorded):
    done = recorded.cli("replay", "--verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["is_equal"] and found["derived"] == found["recorded"]
    assert found["recorded"] > 0, "no decision was recorded: the test proves nothing"


def test_a_replay_with_another_configuration_says_what_differs(recorded, tmp_path):
    other = tmp_path / "other.yaml"
    with open(recorded.file) as f:
        other.write_text(f.read().replace("mode: act", "mode: recommend\nupstream: { timeout: 3s }"))
    done = recorded.cli("replay", "--config", str(other))
    assert done.returncode == 0, done.stderr
    assert any(line.startswith(("-", "+")) for line in done.stdout.splitlines())
    done = recorded.cli("replay", "--config", str(other), "--verify")
    assert done.returncode == 1


def test_a_configuration_that_decides_the_same_is_told_so(recorded, tmp_path):
    other = tmp_path / "other.yaml"
    with open(recorded.file) as f:
        other.write_text("# another text, and so another hash\n" + f.read())
    done = recorded.cli("replay", "--config", str(other), "--verify")
    assert done.returncode == 0 and "the other configuration decides the same" in done.stdout, done.stdout + done.stderr


def test_resource_events_are_sane(recorded):
    done = recorded.cli("log", "stats", "--json")
    assert json.loads(done.stdout)["types"]["resource"] >= 4 * 3
    assert recorded.status["cost"]["host"]["cores"] >= 1
    for who in ("supervisor", "gateway", "brain"):
        cost = recorded.status["cost"][who]
        assert 1 << 20 < cost["memory_bytes"] < 2 << 30
        assert 1 <= cost["threads"] < 64
        assert cost["cpu_cores"] is None or 0 <= cost["cpu_cores"] <= os.cpu_count() + 0.5


def damaged(recorded, tmp_path):
    state = str(tmp_path / "state")
    shutil.copytree(recorded.state, state)
    name = max(glob.glob(state + "/log/*"), key=os.path.getsize)
    with open(name, "r+b") as f:
        data = f.read().rstrip(b"\0")
        at = len(data) // 2
        f.seek(at)
        f.write(bytes([data[at] ^ 0x55]))
    return state


def test_a_damaged_block_is_said_and_the_rest_is_read(recorded, tmp_path):
    state = damaged(recorded, tmp_path)
    done = run("log", "check", "--json", "--state", state)
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["holes"] == 1 and found["missing_events"] > 0
    whole = json.loads(recorded.cli("log", "stats", "--json").stdout)
    assert found["events"] + found["missing_events"] == whole["events"]
    assert found["last_offset"] == whole["last_offset"]
    text = run("log", "check", "--state", state)
    assert text.returncode == 1 and len(text.stdout.splitlines()) >= 2


def test_a_repair_says_what_it_would_do_and_then_does_it(recorded, tmp_path):
    state = damaged(recorded, tmp_path)
    found = json.loads(run("log", "check", "--json", "--state", state).stdout)
    [place] = found["places"]
    assert place["bytes"] == found["damaged_bytes"] > 0
    assert place["to_offset"] - place["from_offset"] == found["missing_events"]
    files = {n: open(n, "rb").read() for n in glob.glob(state + "/log/*.fbl")}
    plan = run("log", "repair", "--state", state)
    assert plan.returncode == 1
    assert "would mark it as known" in plan.stdout and "--apply" in plan.stdout
    assert files == {n: open(n, "rb").read() for n in glob.glob(state + "/log/*.fbl")}
    done = json.loads(run("log", "repair", "--apply", "--json", "--state", state).stdout)
    assert (done["done"], done["left"], done["failed"]) == (1, 0, 0)
    kept = f"{state}/log/cut/{place['file']}.{place['position']}"
    assert os.path.getsize(kept) == place["bytes"]
    again = run("log", "check", "--json", "--state", state)
    assert again.returncode == 0, again.stdout
    after = json.loads(again.stdout)
    assert after["events"] == found["events"] and after["missing_events"] == found["missing_events"]
    assert after["repaired_places"] == 1 and after["damaged_places"] == 0
    assert "nothing to repair" in run("log", "repair", "--state", state).stdout


def test_a_log_that_cannot_be_read_is_said_with_the_next_step(tmp_path):
    done = run("log", "check", "--state", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "nowhere: No such file" in done.stderr and "--state DIR" in done.stderr
    done = run("log", "check", "--state", str(tmp_path))
    assert done.returncode == 1
    assert str(tmp_path / "log") in done.stderr and "--state" in done.stderr


def test_stats_tell_what_an_event_costs_on_the_disk(recorded):
    stats = json.loads(recorded.cli("log", "stats", "--json").stdout)
    assert stats["segments"] >= 1 and stats["blocks"] >= stats["segments"]
    assert 0 < stats["bytes_per_event"] < stats["raw_bytes"] / stats["events"]
    assert stats["first_wall_us"] < stats["last_wall_us"]
    assert "bytes per event" in recorded.cli("log", "stats").stdout


def test_a_replay_passes_over_a_damaged_block(recorded, tmp_path):
    done = run("replay", "--json", "--state", damaged(recorded, tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["holes"] == 1 and found["events"] > 0


def test_a_follower_sees_what_comes(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, config(origin)).start()
    follower = None
    try:
        send_many(fold.port, 5)
        time.sleep(0.5)
        follower = subprocess.Popen([BIN, "events", "tail", "--type", "request", "--follow", "--json", "--state", fold.state],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines = []
        threading.Thread(target=lambda: [lines.append(x) for x in follower.stdout], daemon=True).start()
        time.sleep(1)
        before = len(lines)
        send_many(fold.port, 20)
        until(lambda: len(lines) >= before + 20, 5, "20 events at the follower, %d came" % (len(lines) - before))
        time.sleep(0.3)
        assert len(lines) == before + 20
        offsets = [json.loads(x)["offset"] for x in lines]
        assert offsets == sorted(set(offsets))
    finally:
        if follower:
            follower.kill()
            follower.wait(5)
        fold.stop()
        origin.close()


def test_paths_show_only_when_asked_and_never_a_query(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, config(origin)).start()
    try:
        for _ in range(10):  # samples are rate-limited from the first one on
            send_many(fold.port, 2, "/who/jane?token=abc")
            time.sleep(0.05)
        time.sleep(0.5)
        closed = tail(fold, "--type", "sample", "--limit", "10")
        opened = tail(fold, "--type", "sample", "--limit", "10", "--no-redact")
        assert {s["path"] for s in closed} == {"-"}
        assert {s["path"] for s in opened} == {"/who/jane"}
        assert "abc" not in json.dumps(opened)
    finally:
        fold.stop()
        origin.close()


def test_retention_keeps_the_log_small(tmp_path):
    """Segments of 1 MiB and a log of 16 MiB: filled faster with many incompressible request events."""
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, config(origin, "log: { retain_bytes: 16MiB, segment_bytes: 1MiB, sample_rate: 1000 }\n")).start()
    try:
        send_from(4, fold.port, 2500)
        stream = fold.api("GET", "/v1/status")["stream"]
        size = sum(os.path.getsize(x) for x in glob.glob(fold.state + "/log/*"))
        assert stream["events"] >= 10000
        assert stream["log_bytes"] <= 16 << 20
        assert size <= (16 + 2) << 20
    finally:
        fold.stop()
        origin.close()
