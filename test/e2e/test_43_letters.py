# SPDX-License-Identifier: Apache-2.0
"""Dead letters are sent again: through the handler they belong to, with the key of the first time, and go out of the
file when the receiver has acknowledged them, not before."""
import json
import os
import time

import pytest
from conftest import Origin, ok
from test_41_connectors import connector, in_log, lines, reconfigure, send_many, until
from test_43_handlers import config, foldback, receivers, script  # noqa: F401
from test_47_keys import encryption, events, write_key


class Gate:
    """Refuses with <status> whatever <is_bad> says of; 0: takes all."""

    def __init__(self, status=422):
        self.status, self.is_bad, self.wait_s = status, lambda event: True, 0

    def __call__(self, event, times):
        time.sleep(self.wait_s)
        return self.status if self.status and self.is_bad(event) else 204


def shown(fold, *args):
    done = fold.cli("letters", "show", *args)
    assert done.returncode == 0, done.stderr
    return [json.loads(x) for x in done.stdout.splitlines()]


def customs(fold, name):
    return [e for e in events(fold, "--type", "custom") if e["name"] == name]


def refused(fold, path, body):
    with pytest.raises(AssertionError) as e:  # what the helper says of any status that is not 2xx
        fold.api("POST", path, body)
    return str(e.value)


def buried(fold, name, count):
    dead = os.path.join(fold.state, "connectors", name + ".dead.jsonl")
    until(lambda: len(lines(dead)) >= count, 60)


def test_all_are_sent_again_with_the_key_of_the_first_time_and_removed(tmp_path, origin, receivers, foldback):  # noqa: F811
    gate = Gate()
    hook = receivers(gate)
    key = tmp_path / "sign.key"
    key.write_text("a key of more than sixteen bytes\n")
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start, sign_key_file: %s }' % (hook.url, key)))
    send_many(fold.port, 12)
    buried(fold, "hook", 12)
    first = {e["id"]: (h["webhook-id"], h["foldback-offset"], h["foldback-node"], b) for _, e, h, b in list(hook.seen)}
    until(lambda: any(not a["over"] for a in fold.api("GET", "/v1/alerts")["alerts"]
                      if a["reason"] == "alert_connector_dead"), 60)
    gate.status = 0
    assert connector(fold, "hook")["has_letters"] is True
    done = fold.cli("letters", "send", "--all", "--why", "the receiver was wrong")
    assert done.returncode == 0 and "12 dead letters were delivered and removed" in done.stdout, (done.stdout, done.stderr)
    assert connector(fold, "hook")["has_letters"] is False
    assert shown(fold) == [] and "No dead letters." in fold.cli("letters", "list").stdout
    again = [(e["id"], (h["webhook-id"], h["foldback-offset"], h["foldback-node"], b)) for s, e, h, b in list(hook.seen) if s == 204]
    assert len(again) == 12 and dict(again) == first
    assert [o for o, _ in again] == sorted((o for o, _ in again), key=lambda x: int(x.split("/")[1])), "the oldest first"
    until(lambda: customs(fold, "foldback.letters.sent"), 60)
    asked, sent = customs(fold, "foldback.letters.send")[0], customs(fold, "foldback.letters.sent")[0]
    assert "hook all by" in asked["text"] and "the receiver was wrong" in asked["text"] and sent["value"] == 12
    until(lambda: not any(not a["over"] for a in fold.api("GET", "/v1/alerts")["alerts"]
                          if a["reason"] == "alert_connector_dead"), 60)
    send_many(fold.port, 3)  # and what comes goes on
    until(lambda: len(set(hook.offsets())) == 15, 60)


def test_a_kill_in_the_middle_repeats_one_slice_and_loses_none(origin, receivers, foldback):  # noqa: F811
    """The receiver is slow, so that there are many slices: what one of them delivered is known when it is over."""
    gate = Gate()
    hook = receivers(gate)
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start }' % hook.url))
    send_many(fold.port, 60)
    buried(fold, "hook", 60)
    folder = os.path.join(fold.state, "connectors")
    dead, sent = os.path.join(folder, "hook.dead.jsonl"), os.path.join(folder, "hook.resent")
    order = [e["id"] for _, e, h, b in list(hook.seen)]
    hook.seen.clear()
    gate.status, gate.wait_s = 0, 0.15
    newest = max(x["offset"] for x in lines(dead))
    fold.api("POST", "/v1/connectors/hook/letters/send", {"all": True})
    until(lambda: hook.seen, 60)
    # kept before the first letter went out: else the kill has the events sent again, beside their letters
    assert connector(fold, "hook")["offset"] > newest
    until(lambda: os.path.exists(sent) and os.path.getsize(sent) >= 17, 60)
    known = os.path.getsize(sent) // 17
    assert len(lines(dead)) == 60  # written anew once, at the end
    pid = fold.child("fb-brain")
    os.kill(pid, 9)
    until(lambda: fold.child("fb-brain") not in (None, pid), 60)
    until(lambda: not os.path.exists(sent), 60)
    left = len(lines(dead))
    assert 0 < left <= 60 - known
    gate.wait_s = 0
    until(lambda: fold.cli("letters", "send", "--all").returncode == 0, 60)
    assert not os.path.exists(dead) or not lines(dead)
    seen = [e["id"] for _, e, h, b in list(hook.seen)]
    assert set(seen) == set(order)
    again = {i for i in seen if seen.count(i) > 1}
    assert not again & set(order[:known]) and all(seen.count(i) == 2 for i in again), (known, left, len(again))


def test_one_by_its_id_and_what_is_refused_again_stays(tmp_path, origin, receivers, foldback):  # noqa: F811
    gate = Gate()
    hook = receivers(gate)
    master = write_key(tmp_path / "master.key")  # sealed ones are opened
    fold = foldback(encryption(master) + config(origin, '  hook: { url: "%s", events: [request], from: start }' % hook.url))
    send_many(fold.port, 3)
    buried(fold, "hook", 3)
    ids = [x["id"] for x in shown(fold, "hook")]
    wanted = shown(fold, "hook")[1]["offset"]
    assert len(set(ids)) == 3
    done = fold.cli("letters", "send", ids[1])
    assert done.returncode == 1 and "1 stay" in done.stderr and "refused by the receiver again" in done.stderr, done.stderr
    assert [x["id"] for x in shown(fold)] == ids
    gate.is_bad = lambda event: event["data"]["offset"] != wanted
    done = fold.cli("letters", "send", ids[1], "--handler", "hook", "--json")
    row = json.loads(done.stdout)
    assert done.returncode == 0 and row["letters_send"]["sent"] == 1 and row["letters_send"]["kept"] == 0, done.stderr
    assert hook.offsets() == [wanted] and [x["id"] for x in shown(fold)] == [ids[0], ids[2]]
    done = fold.cli("letters", "send", "--all")
    assert done.returncode == 1 and "0 dead letters were delivered" in done.stdout and "2 stay" in done.stderr
    assert [x["id"] for x in shown(fold)] == [ids[0], ids[2]]


def test_while_the_receiver_is_away_all_stay_and_errors_say_what_to_do(origin, receivers, foldback):  # noqa: F811
    gate = Gate()
    hook = receivers(gate)
    text = config(origin, '  hook: { url: "%s", events: [request], from: start, backoff_max: 200ms }' % hook.url)
    fold = foldback(text)
    assert "No dead letters of hook" in fold.cli("letters", "show", "hook").stderr
    assert "No dead letters in" in fold.cli("letters", "show").stderr
    assert "no dead letters" in fold.cli("letters", "send", "--all").stderr
    send_many(fold.port, 3)
    buried(fold, "hook", 3)
    ids = [x["id"] for x in shown(fold)]
    gate.status = 503
    done = fold.cli("letters", "send", "--all", "--connector", "hook")
    assert done.returncode == 1 and "503" in done.stderr and "what is left stays" in done.stderr, done.stderr
    assert [x["id"] for x in shown(fold)] == ids
    for args, code, said in ((["0123456789abcdef"], 1, "has the id"), ([ids[0], "--handler", "other"], 1, "of other has the id"),
                             (["--all", "--connector", "a/b"], 2, "not the name"),
                             (["--all", "--connector", "a", "--handler", "b"], 2, "given once"),
                             ([], 2, "or --all"), ([ids[0], "--all"], 2, "or --all")):
        done = fold.cli("letters", "send", *args)
        assert done.returncode == code and said in done.stderr, (args, done.stderr)
    assert fold.cli("connector", "pause", "hook").returncode == 0
    done = fold.cli("letters", "send", "--all")
    assert done.returncode == 1 and "is paused" in done.stderr, done.stderr
    assert fold.cli("connector", "resume", "hook").returncode == 0
    reconfigure(fold, config(origin, '  other: { url: "%s", events: [request], from: start }' % hook.url))
    done = fold.cli("letters", "send", "--all")
    assert done.returncode == 1 and "letters remove hook" in done.stderr, done.stderr
    assert [x["id"] for x in shown(fold)] == ids
    reconfigure(fold, text)  # it is back, and so is its receiver
    until(lambda: (connector(fold, "hook") or {}).get("state") in ("running", "starting", "failing"), 60)
    gate.status = 0
    until(lambda: fold.cli("letters", "send", "--all").returncode == 0, 60)
    assert shown(fold) == [] and len(set(hook.offsets())) == 3


def test_a_command_gets_it_again_and_a_source_says_who_must_send(tmp_path, origin, foldback):  # noqa: F811
    out, full, incoming = tmp_path / "out", tmp_path / "full", tmp_path / "in.jsonl"
    full.write_text("")
    incoming.write_text("no JSON\n")
    run = script(tmp_path, "run", '[ -e "$2" ] && exit 3; cat >> "$1"\n')
    fold = foldback(config(origin, "  run: { command: [%s, %s, %s], events: [request], from: start, tries: 1 }" % (run, out, full))
                    + "connectors:\n  shop: { type: file, direction: source, path: %s }\n" % incoming)
    send_many(fold.port, 4)
    buried(fold, "run", 4)
    buried(fold, "shop", 1)
    full.unlink()
    done = fold.cli("letters", "send", "--all")
    assert done.returncode == 1 and "run: 4 dead letters" in done.stdout and "shop is a source" in done.stderr, (done.stdout, done.stderr)
    assert [x["connector"] for x in shown(fold)] == ["shop"]
    assert [x["data"]["offset"] for x in lines(out)] == [x["offset"] for x in in_log(fold, "request")]


def test_bad_orders_are_refused_with_what_is_right(origin, receivers, foldback):  # noqa: F811
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request] }' % receivers().url))
    path = "/v1/connectors/hook/letters/send"
    for body in ({}, {"id": "x" * 17}, {"id": "x", "all": True}, {"all": False}):
        said = refused(fold, path, body)
        assert ": 422 " in said and "say id" in said, (body, said)
    assert ": 404 " in refused(fold, "/v1/connectors/none/letters/send", {"all": True})
    assert "letters_send" not in connector(fold, "hook")
    number = fold.api("POST", path, {"id": "0123456789abcdef"})["number"]
    until(lambda: (connector(fold, "hook").get("letters_send") or {}).get("state") == "ended", 60)
    said = connector(fold, "hook")["letters_send"]
    assert said["number"] == number and "has the id 0123456789abcdef" in said["text"]
