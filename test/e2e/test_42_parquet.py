# SPDX-License-Identifier: Apache-2.0
"""Export as Parquet: what pyarrow and DuckDB read is, row by row and type by type, what JSON lines of the same log say."""
import datetime
import http.client
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import pytest
from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Foldback  # noqa: E402

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
FILL = pathlib.Path(BIN).parent / "test/bench/log_fill"
CONFIG = """mode: act
log: { sample_rate: 200 }
services:
  shop: { endpoints: ["127.0.0.1:%d"] }
routes:
  - { match: /, service: shop }
"""
ROWS = 70_000  # two row groups of 65,536
TIME = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def export(folder, *args, code=0, **more):
    done = subprocess.run([BIN, "events", "export", "--dir", str(folder), *args], capture_output=True, timeout=300, **more)
    assert done.returncode == code, done.stderr.decode()
    return done


def columns(kind):
    done = subprocess.run([BIN, "events", "tables", kind, "--json"], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)[0]["columns"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path_factory.mktemp("parquet"), CONFIG % origin.port).start()
    try:
        c = http.client.HTTPConnection("127.0.0.1", fold.port, timeout=30)
        for _ in range(50):
            c.request("GET", "/cart?secret=1")
            assert c.getresponse().read() == b"ok"
        c.close()
        for value, text in ((5e9, "größer als 2^31 – ✓"), (-0.5, ""), (0.0, "plain"), (1e300, "日本語")):
            fold.api("POST", "/v1/events", {"name": "orders.value", "value": value, "text": text}, timeout_s=30)
    finally:
        fold.stop()
        origin.close()
    return fold.state


def read(folder, kind, *args):
    file = pathlib.Path(folder) / ("%s-%d.parquet" % (kind, len(args)))
    export(folder, "--types", kind, "--format", "parquet", "--output", str(file), *args)
    return pq.ParquetFile(file, page_checksum_verification=True)


def same(folder, kind, *args):
    """Rows of <kind> by Parquet, after comparing each with JSON lines."""
    found = read(folder, kind, *args).read().to_pylist()
    told = [json.loads(x) for x in export(folder, "--types", kind, *args).stdout.splitlines()]
    assert len(found) == len(told)
    for a, b in zip(found, told):
        assert b.pop("type") == kind
        assert list(a) == list(b)
        a["time"] = (TIME + datetime.timedelta(microseconds=b["time_us"]) == a["time"]) and b["time"]
        assert a == b
    return found


def kinds(folder):
    return sorted({json.loads(x)["type"] for x in export(folder).stdout.splitlines()})


def test_every_type_reads_as_json_lines_say(recorded):
    seen = kinds(recorded)
    assert {"request", "custom", "config", "name", "tick", "gauge"} <= set(seen)
    for kind in seen:
        assert same(recorded, kind), kind


def test_unicode_nulls_and_large_numbers_come_through(recorded):
    rows = same(recorded, "custom", "--no-redact")
    assert {r["text"] for r in rows if r["name"] == "orders.value"} == {"größer als 2^31 – ✓", "", "plain", "日本語"}
    assert {r["value"] for r in rows if r["name"] == "orders.value"} == {5e9, -0.5, 0.0, 1e300}
    assert all(r["time_us"] > 2**31 for r in rows)
    requests = same(recorded, "request")
    assert {r["service"] for r in requests} == {"shop"}
    assert {r["hedge_endpoint"] for r in requests} == {None}
    assert {r["text"] for r in same(recorded, "custom")} == {"-"}  # hidden unless asked for


def test_types_follow_the_table(recorded):
    schema = read(recorded, "request").schema_arrow
    assert schema.names == [c["name"] for c in columns("request")]
    wanted = {"time": pa.timestamp("us", tz="UTC"), "time_us": pa.int64(), "service": pa.string(), "status": pa.uint16(),
              "class_id": pa.uint8(), "total_us": pa.uint32(), "request_id": pa.string(), "sequence": pa.uint32()}
    assert {name: schema.field(name).type for name in wanted} == wanted
    assert schema.field("service").nullable and not schema.field("status").nullable
    assert schema.metadata[b"foldback.events"] == b"request"
    units = json.loads(schema.metadata[b"foldback.units"])
    assert units == {c["name"]: c["unit"] for c in columns("request") if c["unit"]} and units["total_us"] == "us"
    values = read(recorded, "custom").schema_arrow
    assert values.field("value").type == pa.float64() and values.field("value").nullable


def test_an_empty_export_is_a_file_with_columns(recorded):
    file = read(recorded, "request", "--until", "1d")
    assert file.metadata.num_rows == 0 and file.metadata.num_row_groups == 0
    assert file.read().num_rows == 0 and file.schema_arrow.names == [c["name"] for c in columns("request")]


def test_filters_and_offsets_choose_as_everywhere(recorded):
    whole = same(recorded, "request")
    assert len(same(recorded, "request", "--filter", "status=200", "--since", "1d")) == len(whole)
    assert same(recorded, "request", "--filter", "status=999") == []
    assert len(same(recorded, "request", "--from-offset", str(whole[20]["offset"]))) == len(whole) - 20


@pytest.fixture(scope="module")
def large(recorded, tmp_path_factory):
    """A copy of the log with so many requests that they fill several row groups."""
    import shutil
    folder = tmp_path_factory.mktemp("large") / "state"
    shutil.copytree(recorded, folder, ignore=shutil.ignore_patterns("*.parquet"))
    subprocess.run([FILL, str(folder / "log"), str(ROWS)], check=True, timeout=300, capture_output=True)
    return folder


def test_several_row_groups_and_their_statistics(large):
    rows = same(large, "request")
    file = read(large, "request")
    assert len(rows) >= ROWS * 0.99 and file.metadata.num_row_groups == (len(rows) + 65535) // 65536 >= 2
    names = file.schema_arrow.names
    for group in range(file.metadata.num_row_groups):
        part = file.read_row_group(group).to_pylist()
        meta = file.metadata.row_group(group)
        assert meta.sorting_columns[0].column_index == 0
        for i, name in enumerate(names):
            values = [r[name] for r in part if r[name] is not None]
            column = meta.column(i)
            assert column.statistics.null_count == len(part) - len(values)
            assert column.compression == "ZSTD" and column.num_values == len(part)
            if values:
                low, high = (min, max) if not isinstance(values[0], str) else (
                    lambda v: min(v, key=str.encode), lambda v: max(v, key=str.encode))
                assert (column.statistics.min, column.statistics.max) == (low(values), high(values)), name
            else:
                assert not column.statistics.has_min_max
    assert any("RLE_DICTIONARY" in file.metadata.row_group(0).column(i).encodings for i in range(len(names)))


def test_duckdb_answers_as_our_own_query_does(large):
    duckdb = pytest.importorskip("duckdb")
    file = large / "request-0.parquet"
    read(large, "request")
    sql = "SELECT service, reason, count(*), sum(total_us), min(total_us), max(sequence) FROM %s GROUP BY 1, 2"
    done = subprocess.run([BIN, "events", "query", sql % "request", "--dir", str(large), "--format", "json"], check=True,
                          capture_output=True, timeout=300)
    ours = [tuple(r.values()) for r in json.loads(done.stdout)]
    assert len(ours) > 1
    con = duckdb.connect()
    assert sorted(con.execute(sql % ("'%s'" % file)).fetchall(), key=str) == sorted(ours, key=str)
    # statistics leave out whole row groups: the answer must be the same
    last = "SELECT count(*) FROM '%s' WHERE \"offset\" >= (SELECT max(\"offset\") FROM '%s') - 10" % (file, file)
    assert 0 < con.execute(last).fetchone()[0] <= 11
    con.close()


# ---- what goes wrong ----

def test_a_pipe_gets_the_same_bytes_as_a_file(recorded, tmp_path):
    export(recorded, "--types", "request", "--format", "parquet", "--output", str(tmp_path / "x"))
    assert export(recorded, "--types", "request", "--format", "parquet").stdout == (tmp_path / "x").read_bytes()
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_is_one_error_and_leaves_no_file(recorded, tmp_path):
    args = ("--types", "tick", "--format", "parquet", "--output", str(tmp_path / "x"))
    export(recorded, *args[:-1], str(tmp_path / "whole"))
    size = (tmp_path / "whole").stat().st_size
    (tmp_path / "whole").unlink()
    limit = size // 2

    def limited():  # as a disk that is full then; without this the signal would end it
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = export(recorded, *args, code=1, preexec_fn=limited)
    said = done.stderr.decode().splitlines()
    assert len(said) == 1 and "no file was made" in said[0], said
    assert os.listdir(tmp_path) == []
    with open("/dev/full", "wb") as full:
        p = subprocess.run([BIN, "events", "export", "--dir", recorded, *args[:-2]], stdout=full, stderr=subprocess.PIPE,
                           timeout=60, text=True)
    assert p.returncode == 1 and "No space left" in p.stderr and "no whole file" in p.stderr


def test_a_reader_that_leaves_is_an_error(recorded):
    """JSON lines for `head` are fine as they are; half a Parquet file is nothing."""
    r, w = os.pipe()
    os.close(r)
    p = subprocess.run([BIN, "events", "export", "--dir", recorded, "--types", "request", "--format", "parquet"], stdout=w,
                       stderr=subprocess.PIPE, timeout=60, text=True)
    os.close(w)
    assert p.returncode == 1 and "Broken pipe" in p.stderr and "no whole file" in p.stderr


@pytest.mark.parametrize("args, words", [
    ([], "one event type"), (["--types", "request,tick"], "one event type"),
    (["--types", "request", "--follow"], "--follow never reaches")])
def test_wrong_flags_say_what_is_right(recorded, args, words):
    assert words in export(recorded, "--format", "parquet", *args, code=2).stderr.decode()


def test_a_terminal_gets_no_bytes(recorded):
    import pty
    ours, theirs = pty.openpty()
    p = subprocess.run([BIN, "events", "export", "--dir", recorded, "--types", "request", "--format", "parquet"], stdout=theirs,
                       stderr=subprocess.PIPE, timeout=60, text=True)
    os.close(theirs)
    os.close(ours)
    assert p.returncode == 2 and "--output" in p.stderr
