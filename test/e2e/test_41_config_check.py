# SPDX-License-Identifier: Apache-2.0
"""`foldback config check` of connectors: what stands in their files, and the configurations that the guide shows."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD = "listen: ['127.0.0.1:8080']\nservices: { app: { endpoints: ['127.0.0.1:1'] } }\n"
CONNECTION = "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=c2VjcmV0"


def check(folder, text, *options, program=BIN):
    file = folder / "foldback.yaml"
    file.write_text(text)
    return subprocess.run([program, "config", "check", *options, str(file)], capture_output=True, text=True, timeout=60)


def openssl(folder, *args):
    subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=folder, timeout=60)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name in ("one", "two"):
        openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", "/CN=" + name,
                "-keyout", name + ".key", "-out", name + ".pem")
    (folder / "rubbish").write_text("no certificate\n")
    (folder / "secret").write_text("secret-of-sixteen-bytes\n")
    (folder / "url").write_text("https://hooks.example.com/T0/B0\n")
    (folder / "empty").write_text("")
    account = {"type": "service_account", "project_id": "shop-1", "private_key_id": "1", "client_email": "a@b.example",
               "private_key": (folder / "one.key").read_text(), "token_uri": "https://oauth2.googleapis.com/token"}
    (folder / "account.json").write_text(json.dumps(account))
    (folder / "half.json").write_text(json.dumps(account)[:100])
    (folder / "user.json").write_text(json.dumps({**account, "type": "authorized_user"}))
    (folder / "connection").write_text(CONNECTION + ";EntityPath=hub\n")
    (folder / "no-name").write_text("Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKey=c2VjcmV0;EntityPath=hub\n")
    (folder / "no-key").write_text("Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=send;EntityPath=hub\n")
    (folder / "no-path").write_text(CONNECTION + "\n")
    return folder


GOOD = ["type: kafka, brokers: b:9093, topic: t, tls: true, ca_file: one.pem, cert_file: one.pem, key_file: one.key",
        "type: kafka, direction: source, brokers: b:9093, topic: t, sasl: plain, username: u, password_file: secret",
        "type: eventhubs, connection_string_file: connection", "type: eventhubs, topic: hub, connection_string_file: no-path",
        "type: pubsub, topic: events, key_file: account.json",
        "type: redis, address: 'r:6379', stream: s, tls: true, ca_file: two.pem, cert_file: one.pem, key_file: one.key",
        "type: kinesis, stream: s, aws_region: eu-central-1, ca_file: one.pem", "type: file, path: out.jsonl"]
BAD = [("type: kafka, brokers: b:9093, topic: t, tls: true, ca_file: gone.pem", "ca_file", "No such file"),
       ("type: kafka, brokers: b:9093, topic: t, tls: true, ca_file: rubbish", "ca_file", ""),
       ("type: kafka, brokers: b:9093, topic: t, tls: true, cert_file: one.pem, key_file: two.key", "cert_file", ""),
       ("type: kafka, brokers: b:9093, topic: t, sasl: plain, username: u, password_file: empty", "password_file", "is empty"),
       ("type: redis, address: 'r:6379', stream: s, tls: true, cert_file: one.pem, key_file: two.key", "cert_file", ""),
       ("type: redis, address: 'r:6379', stream: s, tls: true, ca_file: rubbish", "ca_file", ""),
       ("type: kinesis, stream: s, aws_region: eu-central-1, ca_file: rubbish", "ca_file", ""),
       ("type: pubsub, topic: events, key_file: half.json", "key_file", "JSON"),
       ("type: pubsub, topic: events, key_file: user.json", "key_file", "service"),
       ("type: eventhubs, connection_string_file: no-name", "connection_string_file", "has no SharedAccessKeyName="),
       ("type: eventhubs, connection_string_file: no-key", "connection_string_file", "has no SharedAccessKey="),
       ("type: eventhubs, connection_string_file: no-path", "topic", "has no EntityPath"),
       ("type: eventhubs, topic: other, connection_string_file: connection", "connection_string_file", "is for the event hub hub"),
       ("type: http, direction: source, url: 'http://127.0.0.1:1/x'", "http", "")]


def placed(files, keys):
    return re.sub(r"(_file: |path: )([^,/]+)", lambda m: m[1] + str(files / m[2]), keys)


def test_good_files_pass_and_nothing_is_written_or_reached(tmp_path, files):
    before = sorted(os.listdir(files))
    rows = "".join("  c%d: { %s }\n" % (i, placed(files, keys)) for i, keys in enumerate(GOOD))
    done = check(tmp_path, HEAD + "connectors:\n" + rows)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert sorted(os.listdir(files)) == before


@pytest.mark.parametrize("keys,key,says", BAD)
def test_what_stands_in_files_is_refused_at_its_line(tmp_path, files, keys, key, says):
    lines = placed(files, keys).split(", ")
    text = HEAD + "connectors:\n  good: { type: file, path: /tmp/x }\n  shop:\n" + "".join("    %s\n" % x for x in lines)
    done = check(tmp_path, text)
    assert done.returncode == 2, done.stdout
    assert says in done.stderr and key in done.stderr and "shop" in done.stderr, done.stderr
    found = re.search(r"foldback\.yaml:(\d+)", done.stderr)
    assert found and 5 <= int(found[1]) < 5 + len(lines) + 1, done.stderr
    assert "c2VjcmV0" not in done.stderr
    done = check(tmp_path, text, "--json")
    assert not json.loads(done.stdout)["is_valid"]


def test_brokers_are_reached_on_demand_only_and_a_fault_has_its_line(tmp_path, files):
    folder = tmp_path / "out"
    folder.mkdir()
    good = HEAD + "connectors:\n  good: { type: file, path: %s }\n" % (folder / "out.jsonl")
    done = check(tmp_path, good, "--connectors")
    assert done.returncode == 0 and "connectors reached 1" in done.stdout, done.stderr
    assert not os.listdir(folder)
    rows = {"kafka": "type: kafka, brokers: 'localhost:1', topic: t", "redis": "type: redis, address: 'localhost:1', stream: s",
            "pubsub": "type: pubsub, project: p-123456, topic: events, endpoint: 'http://localhost:1'",
            "kinesis": "type: kinesis, stream: s, aws_region: eu-central-1, endpoint: 'http://localhost:1', credentials_file: %s"
            % (files / "aws")}
    (files / "aws").write_text("[default]\naws_access_key_id = AKIA1\naws_secret_access_key = c2VjcmV0\n")
    text = good + "".join("  %s: { %s }\n" % row for row in rows.items())
    assert check(tmp_path, text).returncode == 0
    done = check(tmp_path, text, "--connectors", "--timeout", "3")
    assert done.returncode == 2, done.stdout
    for i, name in enumerate(rows):
        assert re.search(r"foldback\.yaml:%d: error: connectors\.%s: .*localhost:1" % (5 + i, name), done.stderr), done.stderr
    assert "good" not in done.stderr and "c2VjcmV0" not in done.stderr
    done = json.loads(check(tmp_path, text, "--connectors", "--timeout", "3", "--json").stdout)
    assert not done["is_valid"] and {p["line"] for p in done["problems"]} == {5, 6, 7, 8}


def test_every_type_is_named_where_one_is_wrong(tmp_path):
    done = check(tmp_path, HEAD + "connectors: { k: { type: pubsbu, topic: t } }\n")
    assert "exec, prometheus, kafka, eventhubs, kinesis or pubsub, got" in done.stderr and "did you mean `pubsub`" in done.stderr


def test_a_missing_library_names_its_package(tmp_path):
    program = tmp_path / "alone" / "foldback"
    program.parent.mkdir()
    shutil.copy(BIN, program)
    done = check(tmp_path, HEAD + "connectors: { k: { type: kafka, brokers: b, topic: t } }\n", program=program)
    if done.returncode == 0:
        pytest.skip("a foldback is installed on this machine: its library is found")
    assert done.returncode == 2
    assert "connectors.k" in done.stderr and "foldback-kafka.so" in done.stderr and "the package foldback-kafka" in done.stderr


# ---- the guide ----
def blocks():
    """(page and number, text) of each block of the guide that configures a connector, a handler or a scrape."""
    for page in sorted((ROOT / "doc/guide").rglob("*.md")):
        for i, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.S | re.M)):
            if re.search(r"^(connectors|handlers|scrapes):", text, re.M):
                yield pytest.param(text, id="%s-%d" % (page.stem, i))


@pytest.mark.parametrize("text", list(blocks()))
def test_each_block_of_the_guide_is_good_as_it_stands(tmp_path, files, text):
    """With its files in another folder, for the machine of the test has none under /etc/foldback."""
    kinds = {"ca_file": "one.pem", "cert_file": "one.pem", "key_file": "one.key", "connection_string_file": "connection",
             "url_file": "url"}

    def put(found):
        name = kinds.get(found[1], "secret")
        if found[1] == "key_file" and "pubsub" in text:
            name = "account.json"
        return "%s: %s" % (found[1], files / name)
    text = re.sub(r"(\w+_file): *(/[^\s,}]+)", put, text)
    for key, value in (("listen", "['127.0.0.1:8080']"), ("services", "{ app: { endpoints: ['127.0.0.1:1'] } }")):
        if not re.search(r"^%s:" % key, text, re.M):
            text = "%s: %s\n%s" % (key, value, text)
    done = check(tmp_path, text)
    assert done.returncode == 0, done.stderr + text
