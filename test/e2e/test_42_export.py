# SPDX-License-Identifier: Apache-2.0
"""Export of the log: every format, whole files only, on from an offset, CloudEvents and AsyncAPI by their schemas.

test/e2e/schema holds the official schemas, both Apache-2.0: AsyncAPI 3.0.0 of npm @asyncapi/specs, CloudEvents 1.0 of npm
cloudevents."""
import csv
import gzip
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Foldback  # noqa: E402

jsonschema = pytest.importorskip("jsonschema")
HERE = Path(__file__).resolve().parent
CONFIG = """mode: act
log: { sample_rate: 200 }
services:
  shop: { endpoints: ["127.0.0.1:%d"] }
routes:
  - { match: /, service: shop }
"""


def run(*args, code=0):
    done = subprocess.run([BIN, *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def export(folder, *args, code=0):
    return run("events", "export", "--dir", str(folder), *args, code=code)


def lines(folder, *args):
    return [json.loads(x) for x in export(folder, *args).stdout.splitlines()]


def send(port, count):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(count):
        c.request("GET", "/cart?secret=1")
        assert c.getresponse().read() == b"ok"
    c.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path_factory.mktemp("export"), CONFIG % origin.port).start()
    send(fold.port, 100)
    fold.stop()
    origin.close()
    return fold.state


def test_json_lines_have_names_and_all_events(recorded):
    found = lines(recorded)
    assert [e["offset"] for e in found] == list(range(len(found)))
    requests = [e for e in found if e["type"] == "request"]
    assert len(requests) == 100
    assert {(e["service"], e["route"], e["reason"]) for e in requests} == {("shop", "shop /", "answered")}


def test_types_filters_and_times_choose(recorded):
    assert {e["type"] for e in lines(recorded, "--types", "name,tick")} == {"name", "tick"}
    assert len(lines(recorded, "--filter", "type=request and service=shop and status=200")) == 100
    assert lines(recorded, "--until", "1d") == []
    assert len(lines(recorded, "--since", "1d", "--types", "request")) == 100


def test_csv_has_the_columns_of_one_type(recorded):
    found = list(csv.DictReader(io.StringIO(export(recorded, "--format", "csv", "--types", "request").stdout)))
    assert len(found) == 100 and found[0]["service"] == "shop" and found[0]["hedge_endpoint"] == ""
    assert "one event type" in export(recorded, "--format", "csv", code=2).stderr


def test_an_export_goes_on_where_one_ended(recorded, tmp_path):
    file = tmp_path / "all.jsonl"
    told = json.loads(export(recorded, "--output", str(file), "--json").stdout)
    whole = [json.loads(x) for x in file.read_text().splitlines()]
    assert told["events"] == len(whole) and told["next_offset"] == whole[-1]["offset"] + 1
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    middle = whole[len(whole) // 2]["offset"]
    assert lines(recorded, "--from-offset", str(middle)) == whole[len(whole) // 2:]
    assert lines(recorded, "--from-offset", str(told["next_offset"])) == []


def test_a_file_is_whole_or_not_there(recorded, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text("before")
    assert "partial" in export(recorded, "--output", str(tmp_path / "nowhere" / "x"), code=1).stderr
    with open("/dev/full", "w") as full:  # what cannot be written is said
        done = subprocess.run([BIN, "events", "export", "--dir", recorded], stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=60)
    assert done.returncode == 1 and "could not be written" in done.stderr
    assert file.read_text() == "before" and os.listdir(tmp_path) == ["x.jsonl"]
    export(recorded, "--output", str(file))
    assert len(file.read_text().splitlines()) > 100 and os.listdir(tmp_path) == ["x.jsonl"]


def test_personal_fields_are_hidden_unless_asked_for(recorded):
    for form in ("jsonl", "cloudevents"):
        assert "/cart" not in export(recorded, "--types", "sample", "--format", form).stdout
        shown = export(recorded, "--types", "sample", "--format", form, "--no-redact").stdout
        assert "/cart" in shown and "secret" not in shown
    assert "/cart" not in export(recorded, "--types", "sample", "--format", "csv").stdout


def test_a_follower_gets_what_comes(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, CONFIG % origin.port).start()
    send(fold.port, 5)
    p = subprocess.Popen([BIN, "events", "export", "--dir", fold.state, "--types", "request", "--follow"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    guard = threading.Timer(60, p.kill)  # a line that never comes ends the wait
    guard.start()

    def five():
        got = [p.stdout.readline() for _ in range(5)]
        assert all(got), p.stderr.read()
        return [json.loads(x) for x in got]
    try:
        first = five()
        send(fold.port, 5)
        more = five()
        assert len({e["offset"] for e in first + more}) == 10
        p.send_signal(signal.SIGINT)
        rest, said = p.communicate(timeout=30)
        assert p.returncode == 0 and rest == "" and "--from-offset" in said
    finally:
        guard.cancel()
        p.kill()
        p.wait()
        fold.stop()
        origin.close()


def test_a_follower_ends_when_nobody_reads_or_nothing_can_be_written(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, CONFIG % origin.port).start()
    send(fold.port, 400)  # more than a pipe and a buffer hold
    while len(lines(fold.state, "--types", "request")) < 400:
        time.sleep(0.1)
    ask = [BIN, "events", "export", "--dir", fold.state, "--format", "cloudevents", "--follow"]
    try:
        p = subprocess.Popen(ask, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        guard = threading.Timer(60, p.kill)
        guard.start()
        assert p.stdout.readline()
        p.stdout.close()  # as `| head -1`: ticks go on coming
        assert p.wait() == 0, p.stderr.read()
        guard.cancel()
        told = int(re.search(r"--from-offset (\d+)", p.stderr.read())[1])
        assert told < lines(fold.state, "--types", "request")[-1]["offset"]  # it did not read on over what nobody took
        with open("/dev/full", "w") as full:  # not over a hole
            done = subprocess.run(ask, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 1 and "No space left" in done.stderr, done.stderr
    finally:
        fold.stop()
        origin.close()


@pytest.mark.parametrize("args, words", [
    (["--format", "xml"], "none of jsonl, csv"), (["--types", "request,nothing"], "no event type \"nothing\""),
    (["--follow", "--output", "x"], "leave out --output"), (["--since", "soon"], "is no time"),
    (["--filter", "status>>3"], "filter:")])
def test_wrong_flags_say_what_is_right(recorded, args, words):
    assert words in export(recorded, *args, code=2).stderr


# ---- CloudEvents and AsyncAPI ----

@pytest.fixture(scope="module")
def document():
    return json.loads(run("reference", "asyncapi").stdout)


def test_cloudevents_are_valid_by_the_official_schema(recorded):
    schema = json.loads((HERE / "schema/cloudevents-1.0.json").read_text())
    official = jsonschema.Draft7Validator(schema)
    assert list(official.iter_errors({"specversion": "1.0", "id": ""})), "the schema refuses nothing"
    found = lines(recorded, "--format", "cloudevents")
    assert len(found) > 100
    for e in found:
        assert not list(official.iter_errors(e)), e
        assert e["id"] == "%s/%d" % (e["source"].rsplit("/", 1)[1], e["data"]["offset"])
    assert len({(e["source"], e["id"]) for e in found}) == len(found)
    assert {e["subject"] for e in found if e["type"] == "foldback.request.v1"} == {"shop"}


def test_events_are_valid_by_our_own_schemas(recorded, document):
    schemas = document["components"]["schemas"]
    for e in lines(recorded, "--format", "cloudevents"):
        name = e["data"]["type"]
        assert e["dataschema"] == schemas[name]["$id"]
        jsonschema.Draft202012Validator(schemas[name]).validate(e["data"])
        assert set(e["data"]) | {"trait_names"} == set(schemas[name]["properties"]) | {"trait_names"}  # a request's, if any
        envelope = {**schemas[name + "CloudEvent"]}
        envelope["properties"] = {**envelope["properties"], "data": True}
        jsonschema.Draft202012Validator(envelope).validate(e)


def test_the_asyncapi_document_is_valid_by_the_official_schema(document):
    official = jsonschema.Draft7Validator(json.loads(gzip.decompress((HERE / "schema/asyncapi-3.0.0.json.gz").read_bytes())))
    assert not [e.message for e in official.iter_errors(document)]
    assert list(official.iter_errors({**document, "channels": 3})), "the schema refuses nothing"


def test_every_reference_of_the_asyncapi_document_leads_somewhere(document):
    refs = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    assert len(refs) > 100
    for ref in refs:
        at = document
        for part in ref.split("/"):
            at = at[part]
