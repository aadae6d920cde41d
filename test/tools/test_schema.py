"""The JSON Schema that the binary prints, against texts that the parser takes or refuses."""
import json
import os
import pathlib
import subprocess

import pytest

jsonschema = pytest.importorskip("jsonschema")
ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("FOLDBACK_BIN", ROOT / "build" / "foldback"))
CORPUS = ROOT / "test" / "fuzz" / "corpus" / "conf"


@pytest.fixture(scope="module")
def validator():
    if not BINARY.exists():
        pytest.skip(f"{BINARY} is not built")
    done = subprocess.run([BINARY, "config", "schema"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.json")), ids=lambda p: p.stem)
def test_the_schema_takes_what_the_parser_takes(validator, path):
    done = subprocess.run([BINARY, "config", "check", path], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr  # JSON is YAML
    assert [e.message for e in validator.iter_errors(json.loads(path.read_text()))] == []


@pytest.mark.parametrize("change", [
    {"services": {"a": {}}},
    {"services": {"a": {"endpoints": ["a:1"], "objectiv": {}}}},
    {"services": {"a": {"endpoints": ["a:1"], "objective": {"latency": "99 < 1ms"}}}},
    {"services": {"a b": {"endpoints": ["a:1"]}}},
    {"limits": {"idle_timeout": 10}},
    {"limits": {"idle_timeout": "10"}},
    {"limits": {"header_count": 201}},
    {"limits": {"line_bytes": "8KB"}},
    {"mode": "akt"},
    {"routes": [{"match": "/"}]},
    {"listen": []},
    {"endpoints": ["a:1"]},
], ids=json.dumps)
def test_the_schema_refuses_what_the_parser_refuses(validator, change, tmp_path):
    whole = {"listen": [":1"], "services": {"a": {"endpoints": ["a:1"]}}, **change}
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(whole))
    done = subprocess.run([BINARY, "config", "check", path], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert list(validator.iter_errors(whole))
