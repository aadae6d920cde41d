# SPDX-License-Identifier: Apache-2.0
"""Questions to the log: of a running foldback, of a stopped one, of a copy; the queries of the guide."""
import csv
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Foldback  # noqa: E402

GUIDE = Path(__file__).resolve().parents[2] / "doc/guide/ask-the-stream.md"
CONFIG = """mode: act
log: { sample_rate: 200 }
services:
  shop: { endpoints: ["127.0.0.1:%d"], objective: { latency: 99%% < 500ms } }
  mail: { endpoints: ["127.0.0.1:%d"] }
routes:
  - { match: /mail/, service: mail }
  - { match: /, service: shop }
"""


def send(port, count, path):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(count):
        c.request("GET", path)
        assert c.getresponse().read() == b"ok"
    c.close()


def query(folder, sql, *args, code=0):
    done = subprocess.run([BIN, "events", "query", sql, "--dir", folder, *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def rows(folder, sql, *args):
    return json.loads(query(folder, sql, "--json", *args).stdout)


def value(folder, sql, *args):
    (row,) = rows(folder, sql, *args)
    (v,) = row.values()
    return v


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A foldback that answered 300 + 200 requests, was asked while it ran, and stopped."""
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path_factory.mktemp("query"), CONFIG % (origin.port, origin.port)).start()
    send(fold.port, 300, "/cart?secret=1")
    send(fold.port, 200, "/mail/inbox")
    deadline = time.monotonic() + 30  # what is on disk is found while it is written to
    while value(fold.state, "SELECT count(*) FROM request") < 500 and time.monotonic() < deadline:
        time.sleep(0.1)
    fold.live = rows(fold.state, "SELECT service, count(*) AS n FROM request GROUP BY 1 ORDER BY 1")
    fold.stop()
    origin.close()
    return fold


def test_a_running_foldback_is_asked(recorded):
    assert recorded.live == [{"service": "mail", "n": 200}, {"service": "shop", "n": 300}]


def test_names_stand_for_numbers(recorded):
    found = rows(recorded.state, "SELECT DISTINCT route, service, reason, class, protocol FROM request ORDER BY 1")
    assert found == [{"route": "mail /mail/", "service": "mail", "reason": "answered", "class": "default",
                      "protocol": "http/1.1"},
                     {"route": "shop /", "service": "shop", "reason": "answered", "class": "default",
                      "protocol": "http/1.1"}]


def test_names_are_known_in_the_middle_of_the_log(recorded):
    middle = value(recorded.state, "SELECT max(offset) - 50 FROM request")
    assert value(recorded.state, f"SELECT count(*) FROM request WHERE offset >= {middle} AND service IS NULL") == 0
    assert value(recorded.state, f"SELECT count(*) FROM request WHERE offset >= {middle} AND service = 'mail'") > 0


@pytest.mark.parametrize("part", ["state", "log"])
def test_a_copy_is_as_good(recorded, tmp_path, part):
    where = recorded.state if part == "state" else os.path.join(recorded.state, "log")
    copy = tmp_path / "copy"
    shutil.copytree(where, copy)
    middle = value(copy, "SELECT max(offset) - 20 FROM request")
    assert value(copy, "SELECT count(*) FROM request WHERE service = 'mail'") == 200
    assert value(copy, f"SELECT count(*) FROM request WHERE offset >= {middle} AND service IS NULL") == 0


def test_since_and_until_bound_it(recorded):
    sql = "SELECT count(*) AS n FROM request"
    assert value(recorded.state, sql, "--since", "1d") == 500
    assert value(recorded.state, sql, "--until", "1d") == 0
    middle = value(recorded.state, "SELECT time FROM request ORDER BY offset LIMIT 1 OFFSET 250")
    before, after = value(recorded.state, sql, "--until", middle), value(recorded.state, sql, "--since", middle)
    assert before + after == 500 and 0 < after < 500


def test_every_format_says_the_same(recorded):
    sql = "SELECT offset, time, status, total_us / 1000.0 AS ms, version, NULL AS empty FROM request LIMIT 7"
    want = rows(recorded.state, sql)
    assert [json.loads(x) for x in query(recorded.state, sql, "--format", "jsonl").stdout.splitlines()] == want
    found = list(csv.DictReader(io.StringIO(query(recorded.state, sql, "--format", "csv").stdout)))
    assert [{**r, "offset": int(r["offset"]), "status": int(r["status"]), "ms": float(r["ms"]), "empty": None}
            for r in found] == want
    lines = query(recorded.state, sql).stdout.splitlines()
    assert lines[0].split() == ["offset", "time", "status", "ms", "version", "empty"] and len(lines) == 8


def test_personal_fields_are_hidden_unless_asked_for(recorded):
    assert value(recorded.state, "SELECT DISTINCT path FROM sample") == "-"
    assert value(recorded.state, "SELECT count(*) FROM sample WHERE path = '/cart'", "--no-redact") > 0
    assert "secret" not in query(recorded.state, "SELECT json FROM events", "--no-redact", "--format", "jsonl").stdout


@pytest.mark.parametrize("sql, code, words", [
    ("SELECT foo FROM request", 2, ["no such column: foo", "events tables", "^ character 8"]),
    ("SELEC 1", 2, ["syntax error", "for example: SELECT", "^ character 1"]),
    ("SELECT count(", 2, ["incomplete input", "missing at its end"]),
    ("SELECT reason FROM request WHERE count(*) > 1", 2, ["misuse of aggregate", "HAVING"]),
    ("SELECT 1; SELECT 2", 2, ["one SELECT at a time"]),
    ("SELECT 1 FROM request WHERE time > 'soon'", 2, ["is no time"]),
    ("ATTACH 'x.db' AS x", 4, ["read-only"]),
    ("DELETE FROM request", 4, ["read-only"]),
    ("SELECT load_extension('x')", 4, ["read-only"])])
def test_a_wrong_query_says_what_to_do(recorded, sql, code, words):
    done = query(recorded.state, sql, code=code)
    for w in words:
        assert w in done.stderr


def test_wrong_flags_say_what_is_right(recorded, tmp_path):
    assert "none of table, json" in query(recorded.state, "SELECT 1", "--format", "xml", code=2).stderr
    assert "is no time" in query(recorded.state, "SELECT 1", "--since", "yesterday", code=2).stderr
    assert "no event log" in query(tmp_path, "SELECT 1", code=1).stderr


def test_an_interrupt_ends_a_query(recorded):
    endless = "WITH RECURSIVE t(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM t) SELECT max(a) FROM t"
    p = subprocess.Popen([BIN, "events", "query", endless, "--dir", recorded.state], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30  # until its handler is there
    while time.monotonic() < deadline:
        with open(f"/proc/{p.pid}/status") as f:
            caught = int(re.search(r"SigCgt:\s*(\w+)", f.read()).group(1), 16)
        if caught >> (signal.SIGINT - 1) & 1:
            break
        time.sleep(0.05)
    p.send_signal(signal.SIGINT)
    _, said = p.communicate(timeout=60)
    assert p.returncode == 130 and "stopped" in said


def test_damage_is_said(recorded, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(recorded.state, copy)
    segment = sorted((copy / "log").glob("*.fbl"))[0]
    data = bytearray(segment.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 4] = bytes(b ^ 0xff for b in data[middle:middle + 4])
    segment.write_bytes(data)
    done = query(copy, "SELECT count(*) AS n FROM events", "--json")
    assert "missing from the answer" in done.stderr and "foldback log check" in done.stderr


def test_the_tables_are_listed_with_units():
    done = subprocess.run([BIN, "events", "tables"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert re.search(r"^  total_us +integer +us +From the first byte", done.stdout, re.M) and "p99(x)" in done.stdout
    listed = json.loads(subprocess.run([BIN, "events", "tables", "decision", "--json"], capture_output=True, text=True,
                                       timeout=20).stdout)
    assert listed[0]["table"] == "decision" and "from_value" in [c["name"] for c in listed[0]["columns"]]
    done = subprocess.run([BIN, "events", "tables", "nothing"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "events tables" in done.stderr


QUERIES = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.S)


def test_the_guide_has_ten_queries():
    assert len(QUERIES) == 10


@pytest.mark.parametrize("sql", QUERIES, ids=map(str, range(len(QUERIES))))
def test_a_query_of_the_guide_runs(recorded, sql):
    query(recorded.state, sql)
    if "FROM request" in sql and "<> 'answered'" not in sql:
        assert rows(recorded.state, sql)
