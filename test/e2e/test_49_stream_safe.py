# SPDX-License-Identifier: Apache-2.0
"""What may not leave, may not be forged and may not be hidden: redaction in every format, names of foldback's own,
alerts that end, offsets that are none, files that are no part of the log."""
import http.client
import json
import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import alerts, connector, in_log, reconfigure, until  # noqa: E402
from fb import Foldback  # noqa: E402

PERSON = "ada.lovelace@example.org"


@pytest.fixture()
def begun():
    """Foldbacks that the test starts; none stays."""
    running = []

    def start(*args, **named):
        running.append(Foldback(*args, **named))
        return running[-1].start()

    yield start
    for fold in running:
        if not fold.log.closed:
            fold.stop()


def config(origin, connectors="", more=""):
    return ('mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n  - { match: /, service: app }\n%s%s'
            % (origin.port, "connectors:\n%s\n" % connectors if connectors else "", more))


def stands(fold, reason):
    return any(not a["over"] for a in alerts(fold, reason))


@pytest.mark.parametrize("is_redacted", [True, False])
def test_a_binary_sink_blanks_what_is_personal_unless_it_may_pass(tmp_path, origin, begun, is_redacted):
    out = tmp_path / "out.bin"
    more = "" if is_redacted else ", redact: false"
    fold = begun(tmp_path, config(origin, "  out: { type: file, path: %s, events: [sample, request, custom, command], "
                                          "format: binary, delay: 1s%s }" % (out, more), "log: { sample_rate: 1000 }\n"))
    until(lambda: connector(fold, "out"))
    folder = tmp_path / "copied" / "log"
    folder.mkdir(parents=True)

    def paths():  # of the first block, as a reader of the log sees it
        fold.api("POST", "/v1/events", {"name": "order.paid", "text": "mail " + PERSON}, timeout_s=30)
        for _ in range(5):
            assert fold.get("/users/%s/orders" % PERSON) == 200
        shutil.copy(out, folder / ("%010d-%020d.fbl" % (0, 0)))
        done = fold.cli("events", "query", "SELECT path FROM sample", "--dir", str(folder.parent), "--no-redact",
                        "--format", "json")
        assert done.returncode == 0, done.stderr
        return PERSON in done.stdout if not is_redacted else '"-"' in done.stdout

    until(paths)
    done = fold.cli("events", "query", "SELECT path FROM sample", "--dir", str(folder.parent), "--no-redact")
    assert (PERSON in done.stdout) == (not is_redacted)
    done = fold.cli("events", "query", "SELECT name, text FROM custom", "--dir", str(folder.parent), "--no-redact")
    assert done.returncode == 0 and (PERSON in done.stdout) == (not is_redacted)


def test_a_replay_of_a_log_with_connector_alerts_agrees_and_the_alerts_end(tmp_path, origin, begun):
    folder, incoming = tmp_path / "there", tmp_path / "in.jsonl"
    incoming.write_text("this is not JSON\n")
    sink = "  out: { type: file, path: %s/out.jsonl, events: [request], delay: 20ms, from: start }\n" % folder
    source = "  shop: { type: file, direction: source, path: %s }" % incoming
    fold = begun(tmp_path, config(origin, sink + source))
    assert fold.get("/item") == 200
    until(lambda: stands(fold, "alert_connector_failing") and stands(fold, "alert_connector_dead"))
    # what a person reads of them
    shown = fold.cli("status").stdout
    assert "connector out needs a hand" in shown and "()" not in shown
    found = fold.api("GET", "/v1/doctor")["findings"]
    assert {f["command"] for f in found if "connector" in f["text"]} == {"foldback connector list"}
    # a restart forgets none of them, and ends what is over
    fold.stop()
    folder.mkdir()
    fold = begun(tmp_path, config(origin, sink + source))
    until(lambda: alerts(fold, "alert_connector_failing") and not stands(fold, "alert_connector_failing"))
    assert stands(fold, "alert_connector_dead")
    dead = os.path.join(fold.state, "connectors", "shop.dead.jsonl")
    assert os.path.getsize(dead) > 0
    os.unlink(dead)
    until(lambda: not stands(fold, "alert_connector_dead"))
    fold.stop()
    done = fold.cli("replay", "--verify", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["is_equal"], told["missing"]) == (0, True, 0), done.stdout


def test_the_alert_of_a_connector_that_is_removed_is_over(tmp_path, origin, begun):
    sink = "  out: { type: file, path: %s/none/out.jsonl, events: [request], delay: 20ms, from: start }" % tmp_path
    other = "  b: { type: file, path: %s, events: [alert] }" % (tmp_path / "b")
    fold = begun(tmp_path, config(origin, sink))
    assert fold.get("/item") == 200
    until(lambda: stands(fold, "alert_connector_failing"))
    reconfigure(fold, config(origin, other))
    until(lambda: not stands(fold, "alert_connector_failing"))


def test_a_reset_to_an_offset_that_is_not_in_the_log_is_refused(tmp_path, origin, begun):
    out = tmp_path / "out.jsonl"
    fold = begun(tmp_path, config(origin, "  out: { type: file, path: %s, events: [request], delay: 20ms }" % out))
    until(lambda: connector(fold, "out"))
    done = fold.cli("connector", "reset", "out", "--at", "999999999")
    assert done.returncode == 2, done.stdout
    assert "offset 999999999 is not in the log" in done.stderr and "0 .. " in done.stderr
    # it works as before
    until(lambda: fold.get("/item") == 200 and os.path.exists(out) and os.path.getsize(out) > 0)
    assert fold.cli("connector", "reset", "out", "--at", "end").returncode == 0
    assert fold.cli("connector", "reset", "out", "--at", "1").returncode == 0


def test_an_empty_file_hides_no_log_and_nothing_compared_is_no_pass(tmp_path, origin, begun):
    fold = begun(tmp_path, config(origin))
    for _ in range(10):
        assert fold.get("/item") == 200
    until(lambda: len(in_log(fold, "request")) >= 10)
    fold.stop()
    log = os.path.join(fold.state, "log")
    stray = os.path.join(log, "%010d-%020d.fbl" % (99, 0))
    with open(stray, "w"):
        pass
    done = fold.cli("events", "query", "SELECT count(*) AS n FROM request", "--format", "json")
    assert done.returncode == 0 and '"n":10' in done.stdout.replace(" ", ""), (done.stdout, done.stderr)
    done = fold.cli("replay", "--verify", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["events"] > 10
    done = fold.cli("log", "check")
    assert done.returncode == 1 and os.path.basename(stray) in done.stdout, done.stdout
    for name in os.listdir(log):
        if name.endswith(".fbl") and name != os.path.basename(stray):
            os.unlink(os.path.join(log, name))
    done = fold.cli("replay", "--verify", "--from-offset", "0")
    assert done.returncode != 0 and "all equal" not in done.stdout, done.stdout


def test_names_of_foldbacks_own_are_refused_at_every_door(tmp_path, origin, begun):
    incoming = tmp_path / "in.jsonl"
    incoming.write_text(json.dumps({"name": "foldback.connector.gap", "value": 5}) + "\n"
                        + json.dumps({"name": "order.placed", "value": 1}) + "\n")
    fold = begun(tmp_path, config(origin, "  shop: { type: file, direction: source, path: %s }" % incoming))
    with open(os.path.join(fold.state, "admin.json")) as f:
        address = json.load(f)["address"]
    token = fold.cli("token", "ingest").stdout.strip()

    def post(path, body):
        c = http.client.HTTPConnection(address, timeout=20)
        try:
            c.request("POST", path, json.dumps(body),
                      {"Authorization": "Bearer " + token, "Content-Type": "application/json"})
            r = c.getresponse()
            return r.status, json.loads(r.read())
        finally:
            c.close()

    def refused(via):
        source = next(s for s in fold.api("GET", "/v1/ingest")["sources"] if s["via"] == via)
        return source["reasons"].get("reserved", 0)

    status, answer = post("/v1/ingest", {"name": "foldback.taken", "value": 7})
    assert status == 422 and "names that begin with foldback. are foldback's own" in answer["detail"], answer
    assert refused("push") == 1
    point = {"asDouble": 3, "timeUnixNano": "1"}
    metric = [{"name": n, "gauge": {"dataPoints": [point]}} for n in ("foldback.connector.pause", "shop.load")]
    status, answer = post("/v1/metrics", {"resourceMetrics": [{"scopeMetrics": [{"metrics": metric}]}]})
    assert status == 200 and int(answer["partialSuccess"]["rejectedDataPoints"]) == 1, answer
    assert refused("otlp") == 1
    c = http.client.HTTPConnection(address, timeout=20)
    c.request("POST", "/v1/events", json.dumps({"name": "foldback.taken", "value": 1}),
              {"Authorization": "Bearer " + fold.cli("token").stdout.strip(), "Content-Type": "application/json"})
    assert c.getresponse().status == 422
    c.close()
    # a source: counted, and in the dead-letter file
    until(lambda: connector(fold, "shop")["dead"] == 1)
    with open(os.path.join(fold.state, "connectors", "shop.dead.jsonl")) as f:
        assert json.loads(f.readline())["reason"] == "names that begin with foldback. are foldback's own"
    until(lambda: {"order.placed", "shop.load"} <= {e["name"] for e in in_log(fold, "custom")})
    assert not [e for e in in_log(fold, "custom") if e["name"].startswith("foldback.")]
