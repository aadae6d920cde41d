# SPDX-License-Identifier: Apache-2.0
"""Encryption at rest, rotation, erasure: the whole program with keys, without them, and with the wrong ones."""
import base64
import hashlib
import http.client
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Foldback, until  # noqa: E402

CANARY = "canary-7f3a"  # stands for a person: in a path, in a text, as an account
OTHER = "other-5d21"


def write_key(path, digits="0123456789abcdef"):
    path.write_text(digits * 4 + "\n")
    path.chmod(0o600)
    return path


def config(origin, extra=""):
    return ('services:\n  app: { endpoints: ["127.0.0.1:%d"] }\nlog: { sample_rate: 1000 }\n%s' % (origin.port, extra))


def encryption(key, more=""):
    return "encryption: { master_key: file:%s%s }\n" % (key, more)


def events(fold, *args):
    done = fold.cli("events", "tail", "--json", "--limit", "100000", "--from-offset", "0", "--no-redact", "--timeout", "60", *args)
    assert done.returncode == 0, done.stderr
    return [json.loads(x) for x in done.stdout.splitlines()]


def fill(fold):
    """Traffic and commands that name two people, all on the disk when it returns."""
    for who in (CANARY, OTHER):
        fold.api("POST", "/v1/events", {"name": "order.paid", "value": 9.5, "text": f"mail {who.upper()}@example.org"},
                 timeout_s=30)
        fold.api("POST", "/v1/freeze", {"loop": "timeout", "actor": who, "why": "a test"}, timeout_s=30)

    def are_sampled():  # a sample is taken of some requests, not of all
        for who in (CANARY, OTHER):
            assert fold.get(f"/users/{who}/orders/17") == 200
        paths = [e["path"] for e in events(fold) if e["type"] == "sample"]
        return all(sum(who in p for p in paths) >= 20 for who in (CANARY, OTHER))

    until(are_sampled, 60, "the samples are in the log")


def erase(fold, who):
    """Erases until nothing is left: on a busy machine the last requests of fill may reach the log late."""
    results = []

    def is_gone():
        done = fold.cli("erase", "--subject", who, "--json")
        assert done.returncode == 0, (done.stdout, done.stderr)
        results.append(json.loads(done.stdout))
        return not [e for e in events(fold) if who.lower() in json.dumps(e).lower()]

    until(is_gone, 60, "erased")
    return results


def on_disk(folder, *words):
    """Files of the folder whose bytes hold one of the words, in any case."""
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            data = open(os.path.join(root, name), "rb").read().lower()
            found += [f"{name}: {w}" for w in words if w.lower().encode() in data]
    return found


def digest(folder):
    h = hashlib.sha256()
    for name in sorted(os.listdir(os.path.join(folder, "log"))):
        if name.endswith(".fbl"):
            h.update(name.encode() + open(os.path.join(folder, "log", name), "rb").read())
    h.update(open(os.path.join(folder, "keys"), "rb").read() if os.path.exists(os.path.join(folder, "keys")) else b"")
    return h.hexdigest()


def run(*args, timeout_s=60):
    return subprocess.run([BIN, *args], capture_output=True, text=True, timeout=timeout_s)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """An encrypted state folder with two people in it; tests copy it."""
    folder = tmp_path_factory.mktemp("sealed")
    origin = Origin(lambda r, w: ok())
    key = write_key(folder / "master.key")
    fold = Foldback(folder, config(origin, encryption(key)), state=str(folder / "state"))
    fold.start()
    try:
        fill(fold)
    finally:
        fold.stop()
    fold.key = key
    fold.origin = origin
    yield fold
    origin.close()


@pytest.fixture
def copy(sealed, tmp_path):
    """The same folder under a master key file of its own."""
    shutil.copytree(sealed.state, tmp_path / "state")
    key = write_key(tmp_path / "master.key")
    fold = Foldback(tmp_path, config(sealed.origin, encryption(key)), state=str(tmp_path / "state"))
    done = fold.cli("key", "rewrap", f"file:{key}")
    assert done.returncode == 0, done.stderr
    fold.key = key
    yield fold
    if not fold.log.closed:
        fold.stop()


def test_all_readers_work_with_the_key(copy):
    assert copy.cli("log", "check").returncode == 0
    done = copy.cli("replay", "--verify", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["is_equal"]
    row = json.loads(copy.cli("key", "list", "--json").stdout)
    assert row["is_encrypted"] and row["clear_blocks"] == 0 and row["unknown_blocks"] == 0
    assert row["keys"][0]["blocks"] > 0 and row["keys"][0]["snapshots"] > 0
    copy.start()
    assert sum(CANARY in json.dumps(e) for e in events(copy)) >= 20


def test_status_and_metrics_say_how_the_log_is_kept(copy):
    copy.start()
    stream = copy.api("GET", "/v1/status", timeout_s=30)["stream"]
    assert stream["is_encrypted"] and stream["key_id"] >= 1 and stream["key_periods"] >= 1
    assert f"encrypted with key {stream['key_id']}" in copy.cli("status", "--timeout", "60").stdout
    c = http.client.HTTPConnection(json.load(open(os.path.join(copy.state, "admin.json")))["address"], timeout=30)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    value = {x.split()[0]: float(x.split()[1]) for x in text.splitlines() if x.count(" ") == 1}
    assert value["foldback_log_encrypted"] == 1 and value["foldback_keys_up"] == 1
    assert value["foldback_key_age_seconds"] > 0 and value["foldback_key_seals"] > 0
    assert value["foldback_personal_bytes"] > 0
    assert value["foldback_key_rotations_total"] == 0 and value["foldback_erasures_total"] == 0


def test_nothing_of_a_person_can_be_read_from_the_disk(sealed):
    assert on_disk(sealed.state, CANARY, OTHER, "order.paid", "127.0.0.1:%d" % sealed.origin.port) == []
    for name in ("keys", "secret", "admin.token"):
        assert stat.S_IMODE(os.stat(os.path.join(sealed.state, name)).st_mode) == 0o600


@pytest.mark.parametrize("how", ["gone", "wrong", "open to all", "short"])
def test_a_wrong_or_missing_master_key_is_one_clear_error_and_no_damage(copy, how):
    if how == "gone":
        copy.key.unlink()
    elif how == "wrong":
        write_key(copy.key, "fedcba9876543210")
    elif how == "open to all":
        copy.key.chmod(0o644)
    else:
        copy.key.write_text("0123\n")
        copy.key.chmod(0o600)
    before = digest(copy.state)
    for args in (["log", "check"], ["log", "stats"], ["replay", "--verify"], ["key", "list"], ["key", "rotate"],
                 ["erase", "--subject", CANARY]):
        done = copy.cli(*args)
        assert done.returncode == 4, (args, done.stdout, done.stderr)
        assert done.stderr.count("\n") == 1 and str(copy.key) in done.stderr, (args, done.stderr)
    done = run("run", "--config", copy.file, "--state", copy.state)
    assert done.returncode == 4, done.stderr
    assert str(copy.key) in done.stderr
    done = copy.cli("config", "check", copy.file)  # told before a start, but for what only the sealed keys can tell
    assert done.returncode == (0 if how == "wrong" else 2) and (str(copy.key) in done.stderr) == (how != "wrong"), done.stderr
    assert digest(copy.state) == before
    write_key(copy.key)
    assert copy.cli("log", "check").returncode == 0


def test_a_missing_key_file_or_configuration_is_refused_and_nothing_begins_anew(copy, tmp_path):
    keys = os.path.join(copy.state, "keys")
    os.rename(keys, tmp_path / "away")
    before = digest(copy.state)
    for args in (["log", "check"], ["replay", "--verify"]):
        done = copy.cli(*args)
        assert done.returncode == 4 and "key" in done.stderr and done.stderr.count("\n") == 1, (args, done.stderr)
    done = run("run", "--config", copy.file, "--state", copy.state)
    assert done.returncode == 4 and "is missing" in done.stderr, done.stderr
    assert not os.path.exists(keys) and digest(copy.state) == before
    os.rename(tmp_path / "away", keys)
    before = digest(copy.state)
    text = open(copy.file).read()
    open(copy.file, "w").write(text.replace(encryption(copy.key), ""))
    done = run("run", "--config", copy.file, "--state", copy.state)
    assert done.returncode == 4 and "encryption.master_key" in done.stderr, done.stderr
    assert digest(copy.state) == before


def test_rotation_and_a_new_master_key_need_no_stop_and_survive_kill_9(copy, sealed, tmp_path):
    copy.start()
    for turn in range(4):
        assert copy.cli("key", "rotate").returncode == 0
        assert copy.get(f"/turn/{turn}", timeout_s=30) == 200
        if turn % 2:
            until(lambda: copy.child("fb-brain"), 30, "a brain")
            os.kill(copy.child("fb-brain"), signal.SIGKILL)
    second = write_key(tmp_path / "second.key", "00112233aabbccdd")
    assert copy.cli("key", "rewrap", f"file:{second}").returncode == 0
    copy.key.unlink()  # the old one opens nothing any more, and nobody asks for it

    def said():
        with_ops = [e["op"] for e in events(copy) if e["type"] == "key"]
        return with_ops.count(2) >= 4 and 3 in with_ops

    until(said, 60, "each rotation is an event")
    rows = json.loads(copy.cli("key", "list", "--json").stdout)
    assert rows["master"] == f"file:{second}"
    assert [k["state"] for k in rows["keys"]] == ["retired"] * (len(rows["keys"]) - 1) + ["active"]
    assert len(rows["keys"]) >= 5 and rows["keys"][0]["blocks"] > 0
    copy.stop()
    assert copy.cli("log", "check").returncode == 0
    assert json.loads(copy.cli("replay", "--verify", "--json").stdout)["is_equal"]
    assert copy.cli("key", "prune").returncode == 0
    assert copy.cli("log", "check").returncode == 0
    again = Foldback(tmp_path, config(sealed.origin, encryption(second)), state=copy.state)
    again.start()
    assert sum(CANARY in json.dumps(e) for e in events(again)) >= 20
    again.stop()


def test_encryption_that_is_ended_says_so_and_all_is_read_without_a_key(copy, sealed, tmp_path):
    copy.start()
    was = json.loads(copy.cli("key", "list", "--json").stdout)["keys"]
    done = copy.cli("key", "rewrap", "none")
    assert done.returncode == 0 and "encryption has ended" in done.stdout and "remove encryption.master_key" in done.stdout, done
    until(lambda: not copy.api("GET", "/v1/status")["stream"]["is_encrypted"], 30, "new blocks are clear")
    assert copy.get("/clear") == 200
    assert copy.cli("key", "rotate").returncode == 4  # there is none to rotate
    copy.stop()
    copy.key.unlink()
    assert copy.cli("log", "check").returncode == 0
    again = Foldback(tmp_path, config(sealed.origin), state=copy.state).start()
    assert sum(CANARY in json.dumps(e) for e in events(again)) >= 20
    rows = json.loads(again.cli("key", "list", "--json").stdout)
    assert not rows["is_encrypted"] and rows["clear_blocks"] > 0 and len(rows["keys"]) == len(was)
    again.stop()


def test_an_erased_person_is_gone_and_decisions_and_figures_are_not(copy):
    copy.start()
    replay_before = [e for e in events(copy) if e["type"] in ("decision", "outcome", "request")]
    dry = json.loads(copy.cli("erase", "--subject", CANARY, "--dry-run", "--json").stdout)
    assert dry["mentioned"] >= 22 and dry["erased"] == 0
    got = erase(copy, CANARY.upper())[0]
    assert got["erased"] >= 22 and got["left"] == 0 and got["file_hits"] == 0 and got["files"] > 3
    until(lambda: any(e["type"] == "key" and e["op"] == 7 for e in events(copy)), 30, "the erasure is audited")
    after = events(copy)
    assert not [e for e in after if CANARY in json.dumps(e).lower()]
    assert sum(OTHER in json.dumps(e).lower() for e in after) >= 22  # nobody else lost a letter
    audit = [e for e in after if e["type"] == "key" and e["op"] == 7]
    assert audit[0]["count"] == got["erased"] and "%016x" % int(audit[0]["erasure"]) == got["erasure"]
    proof = copy.cli("events", "query", "SELECT erasure, count FROM key WHERE op = 'erased'", "--format", "csv").stdout.split()
    assert proof[1] == "%s,%d" % (got["erasure"], got["erased"]), proof  # the number that the command printed
    seen = {(e["type"], e["offset"]): e for e in after}
    for e in replay_before:
        assert seen[(e["type"], e["offset"])] == e
    copy.stop()
    assert json.loads(copy.cli("replay", "--verify", "--json").stdout)["is_equal"]
    assert on_disk(copy.state, CANARY) == []


def test_without_a_master_key_personal_fields_are_sealed_and_erased_all_the_same(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, config(origin), state=str(tmp_path / "state")).start()
    fill(fold)
    assert erase(fold, CANARY)[0]["erased"] >= 22
    fold.stop()
    row = json.loads(fold.cli("key", "list", "--json").stdout)
    assert row["master"] == "none" and not row["is_encrypted"] and row["clear_blocks"] > 0
    os.unlink(os.path.join(fold.state, "keys"))  # without them only the personal fields are lost
    assert fold.cli("log", "check").returncode == 0
    assert json.loads(fold.cli("replay", "--verify", "--json").stdout)["is_equal"]
    assert on_disk(fold.state, CANARY, OTHER) == []
    origin.close()


def letter(value, key=b"", reason="not JSON"):
    return json.dumps({"time_ms": int(time.time() * 1000), "connector": "shop", "reason": reason, "topic": "t", "position": "1",
                       "key_base64": base64.b64encode(key).decode(),
                       "value_base64": base64.b64encode(value).decode()}, separators=(",", ":")) + "\n"


def test_a_person_in_a_dead_letter_is_erased_and_the_others_stay(tmp_path):
    origin = Origin(lambda r, w: ok())
    incoming = tmp_path / "in.jsonl"
    incoming.write_text("")
    extra = "connectors:\n  shop: { type: file, direction: source, path: %s }\n" % incoming
    fold = Foldback(tmp_path, config(origin, extra), state=str(tmp_path / "state")).start()
    dead = os.path.join(fold.state, "connectors", "shop.dead.jsonl")

    def bury(text):
        size = os.path.getsize(dead) if os.path.exists(dead) else 0
        with open(incoming, "a") as f:
            f.write(text + "\n")
        until(lambda: os.path.exists(dead) and os.path.getsize(dead) > size, 60, "a dead letter")

    bury(f"no JSON about {OTHER}")
    bury(f"no JSON about {CANARY}@example.org")
    mine = [letter(b"x" * 5000 + CANARY.upper().encode()), letter(b"v", key=b"k " + CANARY.encode()),
            letter(b'{"user":"canary\\u002d7f3a"}'), letter(b"/users/canary%2D7f3a"), letter(b"v", reason=CANARY),
            letter(CANARY.encode() * 9)[:-30] + "\n"]  # a line that was cut short
    kept = [letter(OTHER.encode()), "no line of ours\n"]
    with open(dead + ".1", "w") as f:
        f.writelines([kept[0], *mine, kept[1]])
    os.chmod(dead + ".1", 0o640)
    row = json.loads(fold.cli("erase", "--subject", CANARY, "--dry-run", "--json").stdout)
    assert row["dead_letters_mentioned"] == 1 + len(mine) and row["dead_letters_removed"] == 0
    done = fold.cli("erase", "--subject", CANARY, "--json")
    row = json.loads(done.stdout)
    assert done.returncode == 0 and row["left"] == 0, (done.stdout, done.stderr)
    assert row["dead_letters_removed"] == 1 + len(mine)
    with open(dead + ".1") as f:
        assert f.readlines() == kept
    assert stat.S_IMODE(os.stat(dead + ".1").st_mode) == 0o640
    with open(dead) as f:
        values = [base64.b64decode(json.loads(x)["value_base64"]).decode() for x in f]
    assert [OTHER in x for x in values] == [True]
    assert sorted(os.listdir(os.path.dirname(dead))) == ["shop.dead.jsonl", "shop.dead.jsonl.1"]
    audits = []

    def audited():
        audits[:] = [e for e in events(fold) if e["type"] == "key" and e["op"] == 7]
        return audits

    until(audited, 60, "the erasure is audited")
    assert audits[0]["key_id"] == 1 + len(mine)
    bury(f"no JSON again about {CANARY}")  # into the file that is there now
    text = fold.cli("erase", "--subject", CANARY).stdout
    assert "removed         1 dead letters" in text, text
    fold.stop()
    origin.close()


def test_the_proof_does_not_say_clean_while_a_dead_letter_cannot_be_taken_out(copy):
    folder = os.path.join(copy.state, "connectors")
    os.makedirs(folder, exist_ok=True)
    dead = os.path.join(folder, "k.dead.jsonl")
    with open(dead, "w") as f:
        f.write(letter(CANARY.encode()))
    os.makedirs(dead + ".new/in the way")  # a folder: the new file cannot be made, by root neither
    done = copy.cli("erase", "--subject", CANARY)
    assert done.returncode != 0 and dead in done.stderr, (done.stdout, done.stderr)
    shutil.rmtree(dead + ".new")
    done = copy.cli("erase", "--subject", CANARY, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["dead_letters_removed"] == 1, (done.stdout, done.stderr)
    assert os.path.getsize(dead) == 0


def test_a_program_can_keep_the_master_key(tmp_path):
    origin = Origin(lambda r, w: ok())
    kms = tmp_path / "kms"
    kms.write_text('#!/bin/sh\nread verb text\ncase $verb in wrap) echo "ok k:$text";; '
                   'unwrap) [ -e "$1" ] && echo "error no access" || echo "ok ${text#k:}";; esac\n')
    kms.chmod(0o700)
    text = "encryption: { master_key: 'exec:%s %s/closed' }\n" % (kms, tmp_path)
    fold = Foldback(tmp_path, config(origin, text), state=str(tmp_path / "state")).start()
    assert fold.get("/a") == 200
    assert fold.cli("key", "rotate").returncode == 0
    before = fold.child("fb-brain")
    os.kill(before, signal.SIGKILL)  # the next one asks the program again
    until(lambda: fold.child("fb-brain") not in (None, before), 30, "a new brain")
    fold.stop()
    assert fold.cli("log", "check").returncode == 0
    (tmp_path / "closed").write_text("")
    done = fold.cli("log", "check")
    assert done.returncode == 4 and "no access" in done.stderr, done.stderr
    assert fold.cli("config", "check", fold.file).returncode == 0  # the program is not asked, only looked for
    kms.chmod(0o600) if os.getuid() else kms.rename(tmp_path / "away")
    done = fold.cli("config", "check", fold.file)
    assert done.returncode == 2 and "cannot be run" in done.stderr, done.stderr
    origin.close()


def test_the_key_file_out_of_reach_is_an_alert(copy):
    copy.start()
    keys = os.path.join(copy.state, "keys")
    os.rename(keys, keys + ".away")

    def alert():
        return [a for a in copy.api("GET", "/v1/alerts", timeout_s=30)["alerts"] if a["reason"] == "alert_key_file"]

    until(lambda: alert() and not alert()[0]["over"], 30, "alert_key_file")
    assert copy.get("/b") == 200
    os.rename(keys + ".away", keys)
    until(lambda: alert()[0]["over"], 30, "it is over")


def test_whole_addresses_are_written_only_on_demand_and_said(tmp_path):
    origin = Origin(lambda r, w: ok())
    log = tmp_path / "access.log"
    base = config(origin, "access_log: { format: combined, path: %s }\n" % log)
    fold = Foldback(tmp_path, base, state=str(tmp_path / "state")).start()
    assert fold.get("/a") == 200
    until(lambda: log.exists() and log.read_text(), 30, "a line")
    assert log.read_text().startswith("127.0.0.0 ")
    with open(fold.file, "a") as f:
        f.write("privacy: { raw_addresses: true }\n")
    assert fold.cli("reload").returncode == 0
    until(lambda: [a for a in fold.api("GET", "/v1/alerts", timeout_s=30)["alerts"] if a["reason"] == "alert_raw_addresses"], 30, "said")
    assert fold.get("/b") == 200
    until(lambda: "127.0.0.1 " in log.read_text(), 30, "the whole address")
    fold.stop()
    origin.close()


def test_as_many_keys_as_fit_are_an_alert_before_it_matters(copy):
    copy.start()
    for _ in range(300):
        done = copy.cli("key", "rotate")
        if done.returncode:
            break
    assert done.returncode == 4 and "foldback key prune" in done.stderr, done.stderr

    def alert():
        return [a for a in copy.api("GET", "/v1/alerts", timeout_s=30)["alerts"] if a["reason"] == "alert_key_bound"]

    until(lambda: alert() and not alert()[0]["over"], 30, "alert_key_bound")
    assert copy.cli("key", "prune").returncode == 0
    until(lambda: alert()[0]["over"], 30, "it is over")


def test_prune_destroys_nothing_while_it_cannot_see_what_needs_a_key(copy, tmp_path):
    assert copy.cli("key", "rotate").returncode == 0
    log, db = os.path.join(copy.state, "log"), os.path.join(copy.state, "state.db")
    keys = open(os.path.join(copy.state, "keys"), "rb").read()

    def refused(word):
        done = copy.cli("key", "prune")
        assert done.returncode != 0 and word in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert open(os.path.join(copy.state, "keys"), "rb").read() == keys

    os.rename(log, tmp_path / "log")
    os.mkdir(log)
    refused("no event log")
    name = sorted(n for n in os.listdir(tmp_path / "log") if n.endswith(".fbl"))[0]
    os.mkdir(os.path.join(log, name))  # it is there and cannot be read, even by root
    refused(name)
    os.rmdir(os.path.join(log, name))
    os.rmdir(log)
    os.rename(tmp_path / "log", log)
    os.rename(db, tmp_path / "state.db")
    refused("no state.db")
    row = json.loads(copy.cli("key", "list", "--json").stdout)
    assert row["keys"][0]["snapshots"] == 0 and not os.path.exists(db)


def test_an_erasure_over_damage_is_not_clean(copy):
    assert copy.cli("erase", "--subject", CANARY, "--json").returncode == 0
    log = os.path.join(copy.state, "log")
    path = os.path.join(log, sorted(n for n in os.listdir(log) if n.endswith(".fbl"))[0])
    with open(path, "r+b") as f:
        f.seek(140)
        byte = f.read(1)[0]
        f.seek(140)
        f.write(bytes([byte ^ 16]))
    done = copy.cli("erase", "--subject", CANARY)
    assert done.returncode == 1 and "\ndamaged " in done.stdout, (done.stdout, done.stderr)


def test_the_key_file_of_another_folder_is_refused(copy, tmp_path):
    """It has keys of the same numbers under the same master key, and opens nothing."""
    folder = tmp_path / "second"
    folder.mkdir()
    second = Foldback(folder, open(copy.file).read().split("overload:", 1)[1].split("\n", 1)[1],
                      state=str(folder / "state")).start()
    second.stop()
    shutil.copy(os.path.join(second.state, "keys"), os.path.join(copy.state, "keys"))
    log = os.path.join(copy.state, "log")
    before = {n: open(os.path.join(log, n), "rb").read() for n in os.listdir(log) if n.endswith(".fbl")}
    done = run("run", "--config", copy.file, "--state", copy.state)
    assert done.returncode == 4 and "is not the one of this log" in done.stderr, done.stderr
    done = copy.cli("log", "repair", "--apply")
    assert {n: open(os.path.join(log, n), "rb").read() for n in os.listdir(log) if n.endswith(".fbl")} == before


def test_dead_letters_are_encrypted_shown_counted_erased_and_removed(tmp_path):
    origin, key = Origin(lambda r, w: ok()), write_key(tmp_path / "master.key")
    incoming = tmp_path / "in.jsonl"
    incoming.write_text("")
    extra = encryption(key) + "connectors:\n  shop: { type: file, direction: source, path: %s }\n" % incoming
    fold = Foldback(tmp_path, config(origin, extra), state=str(tmp_path / "state")).start()
    dead = os.path.join(fold.state, "connectors", "shop.dead.jsonl")

    def letters():
        rows = json.loads(fold.cli("letters", "list", "--json").stdout)["dead_letters"]
        return rows[0]["letters"] if rows else 0

    def bury(text):
        count = letters()
        with open(incoming, "a") as f:
            f.write(text + "\n")
        until(lambda: letters() > count, 60, "a dead letter")

    def alerts():
        return [a for a in fold.api("GET", "/v1/alerts")["alerts"]
                if a["reason"] == "alert_connector_dead" and not a["over"]]

    bury(f"no JSON about {CANARY}")
    bury(f"no JSON about {OTHER}")
    coded = [base64.b64encode(f"no JSON about {w}".encode()).decode() for w in (CANARY, OTHER)]
    assert on_disk(fold.state, CANARY, OTHER, *coded) == []
    shown = [json.loads(x) for x in fold.cli("letters", "show", "shop").stdout.splitlines()]
    assert [base64.b64decode(x["value_base64"]).decode() for x in shown] == [f"no JSON about {w}" for w in (CANARY, OTHER)]
    assert "reason" in shown[0] and shown[0]["connector"] == "shop"
    row = json.loads(fold.cli("letters", "list", "--json").stdout)["dead_letters"][0]
    assert row["name"] == "shop" and row["encrypted"] == 2 and row["newest_ms"] >= row["oldest_ms"] > 0
    assert "all" in fold.cli("letters", "list").stdout.splitlines()[1]

    # a new key: old letters need the old one, and prune leaves it
    assert fold.cli("key", "rotate").returncode == 0
    until(lambda: fold.api("GET", "/v1/status")["stream"]["key_id"] == 2, 60, "the new key is used")
    bury("no JSON at all")
    keys = json.loads(fold.cli("key", "list", "--json").stdout)["keys"]
    assert [k["dead_letters"] for k in keys] == [2, 1]
    assert "LETTERS" in fold.cli("key", "list").stdout
    done = fold.cli("erase", "--subject", CANARY, "--json")
    row = json.loads(done.stdout)
    assert done.returncode == 0 and row["dead_letters_removed"] == 1 and row["dead_letters"] == 2, (done.stdout, done.stderr)
    assert [CANARY in base64.b64decode(json.loads(x)["value_base64"]).decode()
            for x in fold.cli("letters", "show").stdout.splitlines()] == [False, False]

    # without the master key, with another one, without the key file: one sentence, nothing lost
    before = open(dead, "rb").read()
    key.rename(tmp_path / "away")
    done = fold.cli("letters", "show")
    assert done.returncode == 4 and str(key) in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert letters() == 2
    write_key(tmp_path / "master.key", "fedcba9876543210")
    done = fold.cli("letters", "show")
    assert done.returncode == 4 and len(done.stderr.splitlines()) == 1, done.stderr
    os.unlink(key)
    (tmp_path / "away").rename(key)
    other = tmp_path / "other" / "connectors"  # letters without their keys
    os.makedirs(other)
    shutil.copy(dead, other)
    done = subprocess.run([BIN, "letters", "show", "--state", str(tmp_path / "other")], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 4 and "key 1" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert open(dead, "rb").read() == before

    until(alerts, 60, "the alert")
    assert fold.cli("letters", "remove", "nobody").returncode == 1
    assert "2 dead letters are removed" in fold.cli("letters", "remove", "shop").stdout
    until(lambda: not alerts(), 60, "the alert is over")
    fold.stop()
    origin.close()


def test_dead_letters_end_with_their_retention(tmp_path):
    origin = Origin(lambda r, w: ok())
    extra = "dead_letters: { retain_age: %s }\n"
    fold = Foldback(tmp_path, config(origin, extra % "2d"), state=str(tmp_path / "state"))
    folder = os.path.join(fold.state, "connectors")
    os.makedirs(folder)
    hour_ms = 3600 * 1000
    now_ms = int(time.time() * 1000)
    with open(os.path.join(folder, "shop.dead.jsonl"), "w") as f:
        f.writelines(letter(b"x").replace(f'"time_ms":', f'"time_ms":{now_ms - age * hour_ms},"was":')
                     for age in (50, 49, 30, 1))
    fold.start()

    def letters():
        return sum(x["letters"] for x in json.loads(fold.cli("letters", "list", "--json").stdout)["dead_letters"])

    until(lambda: letters() == 2, 60, "two are older than two days")
    text = open(fold.file).read()
    with open(fold.file, "w") as f:
        f.write(text.replace(extra % "2d", extra % "1d"))
    assert fold.cli("reload").returncode == 0
    until(lambda: letters() == 1, 60, "a shorter retention is in force")
    fold.stop()
    origin.close()
