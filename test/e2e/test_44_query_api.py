# SPDX-License-Identifier: Apache-2.0
"""Questions to the log over the admin API: answers by their schema, who may, what is refused, and that nothing holds the
brain up."""
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Foldback, until  # noqa: E402

jsonschema = pytest.importorskip("jsonschema")
CONFIG = """mode: act
log: { sample_rate: 200 }
services:
  shop: { endpoints: ["127.0.0.1:%d"] }
routes:
  - { match: /, service: shop }
"""
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def where(fold):
    with open(os.path.join(fold.state, "admin.json")) as f:
        return json.load(f)


def token(fold, name="admin.token"):
    with open(os.path.join(fold.state, name)) as f:
        return [x for x in f.read().split() if not x.startswith("#")][0]


def call(fold, body, method="POST", bearer=None, **headers):
    """Status, headers, document."""
    c = http.client.HTTPConnection(where(fold)["address"], timeout=60)
    try:
        c.request(method, "/v1/events/query", body if isinstance(body, str) else json.dumps(body),
                  {"Authorization": "Bearer " + (bearer or token(fold)), "Content-Type": "application/json", **headers})
        r = c.getresponse()
        text = r.read()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, json.loads(text) if text else None
    finally:
        c.close()


def ask(fold, sql, **more):
    status, _, answer = call(fold, {"sql": sql, **more})
    assert status == 200, answer
    return answer


def refused(fold, status, body, *words):
    got, headers, problem = call(fold, body)
    assert (got, headers["content-type"]) == (status, "application/problem+json"), problem
    assert all(w in problem["detail"] for w in words), problem
    return problem


@contextlib.contextmanager
def waiting(fold, sql, count=1):
    """Connections with a query that is under way."""
    host, port = where(fold)["address"].split(":")
    body = json.dumps({"sql": sql})
    head = (f"POST /v1/events/query HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token(fold)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    with contextlib.ExitStack() as all_:
        opened = [all_.enter_context(socket.create_connection((host, int(port)), timeout=60)) for _ in range(count)]
        for s in opened:
            s.sendall((head + body).encode())
        yield opened


@pytest.fixture(scope="module")
def fold(tmp_path_factory):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path_factory.mktemp("query"), CONFIG % origin.port).start()
    try:
        c = http.client.HTTPConnection("127.0.0.1", fold.port, timeout=30)
        for _ in range(100):
            c.request("GET", "/cart?secret=1")
            assert c.getresponse().read() == b"ok"
        c.close()
        # what is on disk is what can be asked
        until(lambda: ask(fold, "SELECT count(*) FROM request")["rows"] == [[100]], 30, "all requests are in the log")
        yield fold
    finally:  # also when the setup fails: no process stays behind
        fold.stop()
        origin.close()


def test_rows_columns_and_types(fold):
    answer = ask(fold, "SELECT service, count(*) AS n, p99(total_us), max(hedge_endpoint) AS none, 1 AS a, 'x' AS a "
                       "FROM request GROUP BY service")
    assert answer["columns"] == [{"name": "service", "type": "text"}, {"name": "n", "type": "integer"},
                                 {"name": "p99(total_us)", "type": "real"}, {"name": "none", "type": "null"},
                                 {"name": "a", "type": "integer"}, {"name": "a", "type": "text"}]
    row = answer["rows"][0]
    assert row[:2] == ["shop", 100] and row[2] > 0 and row[3:] == [None, 1, "x"]
    assert answer["row_count"] == 1 and not answer["is_cut"] and answer["cut_by"] is None
    assert answer["events_read"] >= 100 and answer["events_missing"] == 0 and answer["limit"] == 1000
    mixed = ask(fold, "SELECT 1 AS a, 1 AS b UNION ALL SELECT 'x', 0.5")
    assert [c["type"] for c in mixed["columns"]] == ["mixed", "real"]
    assert ask(fold, "SELECT offset FROM request WHERE 0")["rows"] == []


def test_the_command_line_says_the_same(fold):
    sql = "SELECT offset, time, request_id, route, status, total_us FROM request ORDER BY offset"
    done = subprocess.run([BIN, "events", "query", sql, "--dir", fold.state, "--format", "jsonl"], capture_output=True, text=True,
                          timeout=60, check=True)
    told = [list(json.loads(x).values()) for x in done.stdout.splitlines()]
    assert len(told) == 100 and ask(fold, sql)["rows"] == told


def test_the_answer_fits_its_schema(fold):
    document = fold.api("GET", "/v1/openapi.json", timeout_s=30)
    operation = document["paths"]["/v1/events/query"]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    body = {"sql": "SELECT * FROM request", "limit": 3, "redact": True}
    jsonschema.validate(body, {**operation["requestBody"]["content"]["application/json"]["schema"],
                               "components": document["components"]})
    jsonschema.validate(call(fold, body)[2], {**schema, "components": document["components"]})


def test_the_limit_of_rows_is_said(fold):
    answer = ask(fold, "SELECT offset FROM request ORDER BY 1", limit=7)
    assert (answer["row_count"], len(answer["rows"]), answer["is_cut"], answer["cut_by"], answer["limit"]) == \
        (7, 7, True, "limit", 7)
    assert not ask(fold, "SELECT offset FROM request ORDER BY 1 LIMIT 7", limit=7)["is_cut"]
    numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000) SELECT x FROM c"
    answer = ask(fold, numbers, limit=10000)
    assert (answer["row_count"], answer["cut_by"]) == (10000, "limit")
    large = ask(fold, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 200) "
                      "SELECT x, hex(zeroblob(30000)) FROM c")
    assert large["cut_by"] == "bytes" and 50 < large["row_count"] < 90 and len(large["rows"][-1][1]) == 60000


def test_personal_fields_are_hidden_unless_asked_for(fold):
    sql = "SELECT DISTINCT path FROM sample"
    assert ask(fold, sql)["rows"] == [["-"]] == ask(fold, sql, redact=True)["rows"]
    assert ask(fold, sql, redact=False)["rows"] == [["/cart"]]


@pytest.mark.parametrize("sql, position, words", [
    ("SELECT foo FROM request", 8, "no such column: foo"),
    ("SELECT * FROM nowhere", None, "no such table: nowhere"),
    ("SELEC 1", 1, "syntax error"),
    ("SELECT 1; SELECT 2", 10, "one SELECT at a time"),
    ("SELECT * FROM request WHERE time > 'soon'", None, "is no time"),
    ("SELECT load_extension('x')", None, "read-only"),
    ("SELECT 1 FROM " + ", ".join("request AS r%d" % i for i in range(9)), None, "more than 8 tables"),
    ("  ", None, "empty"), ("", None, "sql is missing")])
def test_bad_sql_is_told_with_its_place(fold, sql, position, words):
    problem = refused(fold, 400, {"sql": sql}, words)
    assert problem["remedy"] and (position is None or problem["position"] == position), problem


@pytest.mark.parametrize("sql", ["DELETE FROM request", "CREATE TABLE x(a)", "DROP TABLE request", "PRAGMA user_version",
                                 "ATTACH '/tmp/foldback-x.db' AS x", "INSERT INTO request(status) VALUES (1)", "VACUUM",
                                 "BEGIN", "VACUUM INTO '/tmp/foldback-x.db'"])
def test_nothing_can_be_written(fold, sql):
    refused(fold, 400, {"sql": sql}, "read-only")
    assert not os.path.exists("/tmp/foldback-x.db")
    assert ask(fold, "SELECT count(*) FROM request")["rows"] == [[100]]


@pytest.mark.parametrize("body, status, words", [
    ({"sql": "SELECT 1", "limit": 0}, 422, "1 to 10000"), ({"sql": "SELECT 1", "limit": 10001}, 422, "1 to 10000"),
    ({"sql": "SELECT 1", "limit": 1.5}, 422, "1 to 10000"), ({"sql": "SELECT 1", "limit": "1"}, 422, "1 to 10000"),
    ({"sql": "SELECT 1", "redact": "no"}, 422, "true or false"), ({"sql": 1}, 400, "sql is missing"), ({}, 400, "sql is missing"),
    ("SELECT 1", 400, "")])
def test_wrong_bodies_say_what_is_right(fold, body, status, words):
    refused(fold, status, body, words)


def test_who_may_and_how(fold):
    body = {"sql": "SELECT 1"}
    status, _, problem = call(fold, body, method="GET")
    assert status == 405 and "method" in problem["detail"]
    assert call(fold, body, bearer="x" * 32)[0] == 401
    status, _, problem = call(fold, body, bearer=token(fold, "ingest.token"))
    assert status == 403 and "bring events in" in problem["detail"]
    assert call(fold, body, Origin="http://evil.example")[0] == 403
    assert call(fold, body)[0] == 200


def test_pipelined_requests_are_answered_in_order(fold):
    host, port = where(fold)["address"].split(":")
    one = ""
    for sql in ("SELECT 'first'", "SELECT 'second'"):
        body = json.dumps({"sql": sql})
        one += (f"POST /v1/events/query HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token(fold)}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    with socket.create_connection((host, int(port)), timeout=60) as s:
        s.sendall((one + "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").encode())
        got = b""
        while more := s.recv(65536):
            got += more
    assert 0 < got.index(b'"first"') < got.index(b'"second"') < got.rindex(b"HTTP/1.1 200")


@contextlib.contextmanager
def busy(fold):
    """Both places taken, and what a third query is told then.  Begins again when the two were over before anybody looked."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with waiting(fold, ENDLESS, 2) as two:
            look_until = time.monotonic() + 7
            while time.monotonic() < look_until:
                told = call(fold, {"sql": "SELECT 1"})
                if told[0] == 429:
                    yield two, told
                    return
    raise AssertionError("no third query was refused")


def test_a_long_query_is_stopped_and_holds_nothing_up(fold):
    with busy(fold) as (two, (_, headers, problem)):
        assert headers["retry-after"] == "1" and "2 queries run" in problem["detail"]
        assert fold.api("GET", "/v1/status", timeout_s=30)  # the brain answers meanwhile
        for s in two:
            got = b""
            while b"\r\n\r\n" not in got or not got.endswith(b"}"):
                more = s.recv(65536)
                assert more, got
                got += more
            assert got.startswith(b"HTTP/1.1 504 ") and b"stopped after 10 s" in got
    assert ask(fold, "SELECT 1")["rows"] == [[1]]


def test_a_query_whose_client_left_makes_room(fold):  # and does so at once: brain_query_test.c
    with busy(fold):
        pass
    until(lambda: call(fold, {"sql": "SELECT 1"})[0] == 200, 60, "there is room again")


def test_a_query_that_needs_too_much_memory_is_stopped(fold):
    sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x, hex(zeroblob(30000)) AS h FROM c ORDER BY h, x"
    refused(fold, 422, {"sql": sql}, "more than 64 MiB")
    assert fold.api("GET", "/v1/status", timeout_s=30)
    assert ask(fold, "SELECT count(*) FROM request")["rows"] == [[100]]


def test_a_query_that_grows_while_it_is_prepared_is_stopped(fold):
    """Each of these names the one before twice: a gigabyte of parse tree for a kilobyte of SQL."""
    parts = ["t0(x) AS (SELECT 1)"] + ["t%d(x) AS (SELECT a.x FROM t%d a, t%d b)" % (i, i - 1, i - 1) for i in range(1, 22)]
    refused(fold, 422, {"sql": "WITH %s SELECT x FROM t21" % ", ".join(parts)}, "more than 64 MiB")
    assert ask(fold, "SELECT count(*) FROM request")["rows"] == [[100]]


def test_no_function_leads_out_of_the_log_and_no_step_takes_long(fold):
    refused(fold, 400, {"sql": "SELECT hex(fts3_tokenizer('simple'))"}, "")
    refused(fold, 400, {"sql": "SELECT 'a' LIKE printf('%.*c', 300, 'a')"}, "")


def test_numbers_have_all_their_digits(fold):
    row = ask(fold, "SELECT 1795386003.25, 0.1, 1e300, 2.5")["rows"][0]
    assert row == [1795386003.25, 0.1, 1e300, 2.5]


def test_a_stop_does_not_wait_for_queries(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, CONFIG % origin.port).start()
    try:
        with busy(fold):
            fold.stop()
    finally:
        fold.stop() if fold.process.poll() is None else None
        origin.close()
