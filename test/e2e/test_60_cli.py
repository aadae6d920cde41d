"""60: what each command prints, as text and as JSON, and how each ends when it is used wrongly.

All against the stand-in of cli_util, so that the figures are fixed; a real foldback is asked in the other files.
"""
import json
import os
import re
import shutil
import subprocess
import tempfile

import pytest

import cli_util
from cli_util import DECISIONS, REQUEST, STATUS, FakeAdmin, decision, endpoint, golden, picture, problem, run, sse


@pytest.fixture
def fake(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    with FakeAdmin(state) as f:
        yield f


def shown(fake, name, *args):
    """Runs, compares with the golden file, returns what was done."""
    done = fake.run(*args)
    golden(name, picture(done, args, fake.clean))
    return done


WHY = {"kind": "endpoint", "subject": "shop 10.0.0.1:80",
       "sentences": ["It is ok: 11 in flight of a limit of 18, first byte 3.1 ms on average, 0.05 % failed.",
                     "In the last minute it had 38400 requests, 640 per second."],
       "knobs": [cli_util.KNOBS[0]], "decisions": [decision()], "next": ["foldback why 'shop'", "foldback decisions --service 'shop'", "foldback get --service 'shop'"]}
WHY_REQUEST = {"kind": "request", "subject": REQUEST["id"],
               "sentences": ["Answered by the endpoint. (answered)", "It took 12.3 ms: 0.0 ms in the queue."],
               "request": {**REQUEST, "method": "GET", "host": "shop", "path": "/cart"}, "offset": 480,
               "next": ["foldback why 'shop'"]}
FINDINGS = {"is_healthy": False, "findings": [
    {"rank": 1, "severity": "critical", "check": "objective", "text": "Service shop answered 89.0 % within its objective (n = 900).",
     "command": "foldback why 'shop'"},
    {"rank": 2, "severity": "info", "check": "pinned", "text": "limit of shop 10.0.0.2:80 is pinned to 24 requests.",
     "command": "foldback unpin limit 'shop 10.0.0.2:80'"}]}
TAP = sse(("request", REQUEST), ("request", {**REQUEST, "method": "GET", "host": "shop", "path": "/again"}),
          ("request", {**REQUEST, "id": "0190f3a25b7c11d3", "status": 503, "reason": "shed_queue_full", "endpoint": "",
                       "method": "POST", "host": "shop", "path": "/buy", "attempts": 2}),
          ("lost", {"lost": 0, "over_rate": 3}), ("request", {**REQUEST, "id": "0190f3a25b7c11d4"}))
LIVE = sse(("facts", {"time_ms": 1}), ("decision", decision()), ("outcome", decision()), ("decision", DECISIONS[1]))
EVENTS = "".join(json.dumps({"offset": i, "type": "decision" if i % 3 == 0 else "tick"}) + "\n" for i in range(9))

GOLDENS = [
    ("status", ["status"]), ("status_json", ["status", "--json"]), ("status_window", ["status", "--window", "60s"]),
    ("top_once", ["top", "--once"]), ("top_once_json", ["top", "--once", "--json"]),
    ("tap", ["tap", "--limit", "3"]), ("tap_json", ["tap", "--limit", "2", "--json"]),
    ("decisions", ["decisions"]), ("decisions_json", ["decisions", "--json", "--limit", "3"]),
    ("decisions_tail", ["decisions", "tail", "--limit", "2"]),
    ("decisions_tail_json", ["decisions", "tail", "--limit", "1", "--json"]),
    ("decisions_show", ["decisions", "show", "42"]), ("decisions_show_json", ["decisions", "show", "42", "--json"]),
    ("why_endpoint", ["why", "10.0.0.1:80"]), ("why_request", ["why", "0190f3a25b7c11d2"]),
    ("why_json", ["why", "10.0.0.1:80", "--json"]),
    ("doctor", ["doctor"]), ("doctor_json", ["doctor", "--json"]),
    ("get", ["get"]), ("get_json", ["get", "--json"]), ("get_knob", ["get", "limit"]),
    ("get_one", ["get", "timeout_ms", "shop /"]), ("get_one_json", ["get", "timeout_ms", "shop /", "--json"]),
    ("set", ["set", "weight_pct", "shop 10.0.0.1:80", "50", "--why", "half a machine"]),
    ("set_json", ["set", "weight_pct", "shop 10.0.0.1:80", "50", "--json"]),
    ("pin", ["pin", "limit", "shop 10.0.0.1:80", "24", "--expires", "3600"]),
    ("pin_here", ["pin", "limit", "shop 10.0.0.1:80"]), ("pin_json", ["pin", "limit", "shop 10.0.0.1:80", "24", "--json"]),
    ("unpin", ["unpin", "limit", "shop 10.0.0.2:80"]), ("unpin_json", ["unpin", "limit", "shop 10.0.0.2:80", "--json"]),
    ("freeze", ["freeze"]), ("freeze_json", ["freeze", "--json"]),
    ("unfreeze", ["unfreeze", "--loop", "timeout"]), ("unfreeze_json", ["unfreeze", "--loop", "timeout", "--json"]),
    ("reset", ["reset", "--loop", "limit", "--target", "10.0.0.1:80"]), ("reset_json", ["reset", "--json"]),
    ("mode", ["mode", "recommend"]), ("mode_json", ["mode", "act", "--loop", "shed", "--json"]),
    ("drain", ["drain", "10.0.0.2:80", "--wait"]), ("drain_json", ["drain", "10.0.0.2:80", "--json"]),
    ("undrain", ["undrain", "10.0.0.1:80"]), ("undrain_json", ["undrain", "10.0.0.1:80", "--json"]),
    ("events_tail", ["events", "tail", "--limit", "9"]), ("events_tail_json", ["events", "tail", "--limit", "3", "--json"]),
    ("config_show_running", ["config", "show"]), ("config_show_running_json", ["config", "show", "--json"]),
    ("config_show_running_effective", ["config", "show", "--effective"]),
    ("reload", ["reload"]), ("reload_json", ["reload", "--json"]), ("token", ["token"]), ("token_json", ["token", "--json"]),
]


@pytest.mark.short
@pytest.mark.parametrize("name,args", GOLDENS, ids=[g[0] for g in GOLDENS])
def test_output_is_the_golden_one(fake, name, args):
    fake.answers.update({
        ("GET", "/v1/why"): lambda q, b: WHY if q["q"] == ["10.0.0.1:80"] else WHY_REQUEST,
        ("GET", "/v1/doctor"): FINDINGS, ("GET", "/v1/tap"): TAP, ("GET", "/v1/live"): LIVE,
        ("GET", "/v1/events"): EVENTS})
    done = shown(fake, name, *args)
    if "--json" in args and "tail" not in args and args[0] != "tap":
        json.loads(done.stdout)
    assert "\033" not in done.stdout, "colour without a terminal"


CONNECTORS = {"connectors": [
    {"name": "events", "type": "kafka", "direction": "sink", "state": "running", "offset": 904, "lag_events": 11,
     "lag_s": 0.4, "events": 893, "errors": 0, "dead": 0, "last_error": ""},
    {"name": "orders", "type": "redis", "direction": "source", "state": "failing", "lag_events": None, "lag_s": 0,
     "events": 12, "errors": 7, "dead": 0, "last_error": "10.0.0.9:6379 refuses connections"},
    {"name": "pager", "type": "http", "direction": "sink", "state": "paused", "offset": 3, "lag_events": 912,
     "lag_s": 61, "events": 3, "errors": 0, "dead": 2, "last_error": "dead letter: refused by the receiver"},
    {"name": "api", "type": "prometheus", "direction": "source", "state": "failing", "lag_events": None, "lag_s": 0,
     "events": 40, "errors": 3, "dead": 0, "last_error": "http://10.0.0.5:9100/metrics answers 503"}]}
INGEST = {"sources": [
    {"via": "push", "state": "open", "error": "", "events": 1200, "samples": 1200, "refused": 1003, "put_off": 0,
     "reasons": {"value": 3, "queue_full": 1000}},
    {"via": "statsd", "state": "failing", "error": "ingest.statsd: cannot listen on 127.0.0.1:8125 (UDP): Address already in use",
     "events": 60, "samples": 90000, "refused": 0, "put_off": 4, "reasons": {"tags_dropped": 7}},
    {"via": "otlp", "state": "open", "error": "", "events": 0, "samples": 0, "refused": 0, "put_off": 0, "reasons": {}}],
    "queued_bytes": 65536, "queue_bytes_max": 4194304}


@pytest.mark.short
@pytest.mark.parametrize("name,args", [("stream_status", ["stream", "status"]),
                                       ("stream_status_json", ["stream", "status", "--json"])])
def test_the_stream_is_shown_with_its_connectors(fake, name, args):
    fake.answers[("GET", "/v1/connectors")] = CONNECTORS
    fake.answers[("GET", "/v1/ingest")] = INGEST
    shown(fake, name, *args)


OWN = {"service": "shop", "endpoints": [
    {"address": "10.0.0.1:80", "source": "configuration", "weight_pct": 100.0, "health": "ok", "is_drained": False,
     "in_flight": 11, "is_in_force": True},
    {"address": "10.0.0.5:8080", "source": "api", "weight_pct": 50.0, "health": "ok", "is_drained": True, "in_flight": 0,
     "is_in_force": True},
    {"address": "10.0.0.9:8080", "source": "api", "name": "dns://shop.internal:8080", "weight_pct": 100.0, "health": "ok",
     "is_drained": False, "in_flight": 2, "is_in_force": True},
    {"address": "[2001:db8::7]:8080", "source": "api", "weight_pct": None, "health": "unknown", "is_drained": False,
     "in_flight": 0, "is_in_force": False}], "names": [
    {"name": name, "source": source, "weight_pct": 100.0, "state": state, "addresses": count, "why": why}
    for name, source, state, count, why in (
        ("dns://shop.internal:8080", "api", "resolved", 1, ""), ("dns://b.internal:80", "configuration", "resolved", 12, ""),
        ("dns://late.internal:80", "api", "unresolved", 0, "the name does not exist"),
        ("dns+srv://_http._tcp.c.internal", "list", "stale", 2, "no answer within 2 s"),
        ("dns://new.internal:80", "api", "pending", 0, ""), ("dns://waits.internal:80", "api", "not_in_force", 0, ""),
        ("dns://many.internal:80", "api", "unknown", 0, "the gateway tells how 1024 names are"))]}
CHANGED = {"verb": "add", "service": "shop", "address": "10.0.0.5:8080", "weight_pct": 50.0, "is_in_force": True}


@pytest.mark.short
@pytest.mark.parametrize("name,args", [
    ("endpoint_list", ["endpoint", "list"]), ("endpoint_list_json", ["endpoint", "list", "shop", "--json"]),
    ("endpoint_add", ["endpoint", "add", "shop", "10.0.0.5:8080", "--weight", "50", "--zone", "a", "--why", "more room"]),
    ("endpoint_remove", ["endpoint", "remove", "shop", "10.0.0.5:8080"])])
def test_endpoints_are_shown_added_and_removed(fake, name, args):
    path = "/v1/services/shop/endpoints"
    fake.answers[("GET", path)] = OWN
    fake.answers[("GET", "/v1/services/blog/endpoints")] = {"service": "blog", "endpoints": []}
    fake.answers[("POST", path)] = (201, CHANGED)
    fake.answers[("DELETE", path + "/10.0.0.5%3A8080")] = {
        "verb": "remove", "service": "shop", "address": "10.0.0.5:8080", "is_in_force": True,
        "warning": "3 requests in flight there end by themselves."}
    shown(fake, name, *args)
    if args[1] == "add":
        assert json.loads(fake.asked[-1][2]) == {"address": "10.0.0.5:8080", "weight_pct": 50.0, "zone": "a",
                                                 "why": "more room"}


@pytest.mark.short
@pytest.mark.parametrize("answer,says", [
    ({"purged": 3, "is_paced": False}, "Purged 3 answers."), ({"purged": 1, "is_paced": False}, "Purged 1 answer."),
    ({"purged": 7, "is_paced": True, "warning": "Mind."}, "fetched anew when it is asked for and there is room; --now drops them at once.  Mind."),
    ({"purged": 0, "is_paced": False}, "nothing was purged"), ({"is_paced": False}, "under way")])
def test_a_purge_tells_how_many_answers_it_hit(fake, answer, says):
    fake.answers[("POST", "/v1/cache/purge")] = {"verb": "purge", **answer}
    done = fake.run("cache", "purge", "--tag", "a")
    assert done.returncode == 0 and says in done.stdout, done


@pytest.mark.short
def test_a_stream_without_connectors_says_how_to_get_one(fake):
    fake.answers[("GET", "/v1/connectors")] = {"connectors": []}
    fake.answers[("GET", "/v1/ingest")] = {"sources": [], "queued_bytes": 0, "queue_bytes_max": 0}
    fake.answers[("GET", "/v1/status")] = {**STATUS, "stream": {**STATUS["stream"], "is_disk_ok": False,
                                                               "disk_error": "No space left on device"}}
    done = shown(fake, "stream_status_bare", "stream", "status")
    assert "No space left" in done.stdout and "handlers" in done.stdout


@pytest.mark.short
def test_status_shows_tls_and_http2_where_clients_speak_them(fake):
    fake.answers[("GET", "/v1/status")] = {
        **STATUS,
        "tls": {"handshakes": 4210, "resumed": 3900, "failed": {"protocol": 3, "version": 9}, "certificates": [
            {"name": "shop.example", "file": "shop.pem", "ends": "2026-05-21T00:00:00.000Z", "days_left": 80.4},
            {"name": "api.example", "file": "api.pem", "ends": "2026-03-10T00:00:00.000Z", "days_left": 8.5}]},
        "protocols": {"requests": {"http1": 250, "http2": 740, "tcp": 10}, "tls": {"none": 10, "1.2": 90, "1.3": 900},
                      "grpc": {"ok": 30, "failed": 1},
                      "http2": {"connections": 12, "streams_open": 31, "streams": 9000, "refused": 0, "resets_by_client": 4,
                                "resets_by_foldback": 1, "control_frames": 80,
                                "floods": {"resets": 1, "control": 0, "headers": 2}}}}
    shown(fake, "status_protocols", "status")


# ---- commands that need no foldback ----
PLAIN = [
    ("help", ["help"]), ("help_status", ["help", "status"]), ("help_decisions_show", ["help", "decisions", "show"]),
    ("completion_bash", ["completion", "bash"]), ("completion_zsh", ["completion", "zsh"]),
    ("completion_fish", ["completion", "fish"]), ("man", ["man"]), ("simulate_list", ["simulate", "--list"]),
    ("reference", ["reference"]), ("reference_json", ["reference", "--json"]),
]


@pytest.mark.parametrize("name,args", PLAIN, ids=[g[0] for g in PLAIN])
def test_plain_output_is_the_golden_one(name, args):
    golden(name, picture(run(*args), args))


def test_help_flag_and_help_command_say_the_same():
    assert run("status", "--help").stdout == run("help", "status").stdout
    assert run("--help").stdout == run("help").stdout
    assert run("-h").stdout == run("help").stdout


def test_help_of_a_group_lists_its_commands():
    for args in (["help", "config"], ["config", "--help"], ["config", "-h"]):
        done = run(*args)
        assert done.returncode == 0 and done.stdout.count("\n") == 4 and "config schema" in done.stdout


def test_help_names_every_command():
    """The overview is made of groups of first words: one that no group has would be known to nobody."""
    commands = re.findall(r"^## foldback (.+)$", run("reference", "commands").stdout, re.M)
    shown = re.findall(r"^  (\S+(?: \S+)?)  +\S", run("help").stdout, re.M)
    assert len(commands) > 50 and sorted(c for c in shown if c in commands) == sorted(commands)


def test_no_arguments_is_usage():
    done = run()
    assert done.returncode == 2 and "Examples:" in done.stdout


def test_version_is_the_same_in_all_forms():
    text = run("version").stdout
    assert re.fullmatch(r"foldback \d+\.\d+\.\d+\n", text)
    assert run("--version").stdout == text
    root = json.loads(run("version", "--json").stdout)
    assert f"foldback {root['version']}\n" == text
    assert set(root) == {"name", "version", "compiler", "architecture", "license"}


def test_commands_page_is_the_committed_one():
    path = os.path.join(cli_util.ROOT, "doc", "reference", "commands.md")
    assert run("reference", "commands").stdout == open(path).read(), "print it again: foldback reference commands"


def test_bash_takes_the_completion_and_offers_names(tmp_path):
    script = tmp_path / "foldback.bash"
    script.write_text(run("completion", "bash").stdout)

    def offers(*words):
        line = f". {script}; COMP_WORDS=(foldback {' '.join(words)}); COMP_CWORD={len(words)}; _foldback; echo \"${{COMPREPLY[@]}}\""
        return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=10, check=True).stdout.split()

    assert offers("dec") == ["decisions"]
    assert "limit" in offers("get", "''") and "timeout_ms" in offers("pin", "ti")
    assert offers("decisions", "--loop", "ti") == ["timeout"]
    assert "--wait" in offers("drain", "--w")
    assert set(offers("config", "''")) == {"check", "show", "diff", "schema"}
    assert offers("mode", "o") == ["observe"]
    assert "--limit" in offers("decisions", "tail", "--l")


def test_manual_page_has_no_roff_errors():
    page = run("man").stdout
    try:
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page, capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        assert page.startswith(".TH FOLDBACK 1") and ".SH EXIT STATUS" in page
        return
    assert done.returncode == 0 and done.stderr == ""


# ---- wrong use: one row per command ----
WRONG = [
    ([], 2, "Examples:"),
    (["staus"], 2, "did you mean `foldback status`"),
    (["config"], 2, "check show diff schema"),
    (["config", "chek", "x.yaml"], 2, "did you mean `foldback config check`"),
    (["key", "burn"], 2, "there is no command \"key burn\"; key has list rotate"),
    (["help", "letters", "sennd"], 2, "did you mean `foldback letters send`"),
    (["frobnicate"], 2, "there is no command"),
    (["--json"], 2, "a command is missing"),
    (["help", "nothing"], 2, "there is no command"),
    (["run"], 2, "--to :3000"),
    (["run", "--to", ":3000", "--config", "x"], 2, "not both"),
    (["run", "--too", ":3000"], 2, "did you mean --to"),
    (["run", "--to"], 2, "--to needs ADDRESS"),
    (["run", "site.yaml"], 2, "a file is --config site.yaml"),
    (["drain", "shop", "10.0.0.1:80", "now"], 2, "does not know what to do with \"10.0.0.1:80\""),
    (["demo", "a", "b"], 2, "does not know what to do with \"b\""),
    (["demo", "--seconds", "soon"], 2, "whole number in 5..3600"),
    (["check", "--wait=yes"], 2, "takes no value"),
    (["check", "--timeout", "0"], 2, "1..3600"),
    (["status", "--window", "5s"], 2, "100ms, 1s, 10s or 60s"),
    (["status", "--timeout", "x"], 2, "1 to 3600"),
    (["top", "now"], 2, "does not know"),
    (["tap", "--rate", "5000"], 2, "1..1000"),
    (["decisions", "--loop", "timout"], 2, "did you mean timeout"),
    (["decisions", "--limit", "-1"], 2, "whole number"),
    (["decisions", "--since", "15x"], 2, "such as 15m, 2h"), (["decisions", "--since", "2d"], 2, "1..86400"),
    (["decisions", "--since", "m"], 2, "got \"m\""), (["decisions", "--since", "99999999999999999999h"], 2, "got"),
    (["decisions", "tail", "--limit", "0"], 2, "whole number"),
    (["decisions", "show"], 2, "needs ID"),
    (["decisions", "show", "last"], 2, "the number of a decision"),
    (["why"], 2, "needs REQUEST_ID"),
    (["doctor", "who"], 2, "does not know"),
    (["get", "limt"], 2, "did you mean limit"),
    (["set", "limit", "x"], 2, "needs KNOB TARGET VALUE"),
    (["set", "limit", "shop 10.0.0.1:80", "many"], 2, "wants a number"),
    (["set", "limit", "shop 10.0.0.1:80", "0"], 2, "from 1 to 4096"),
    (["pin", "limit"], 2, "needs KNOB TARGET"),
    (["pin", "limit", "shop 10.0.0.1:80", "3", "--why", "x" * 60], 2, "room for 47 bytes"),
    (["pin", "limit", "shop 10.0.0.1:80", "3", "--expires", "never"], 2, "whole number"),
    (["pin", "limit", "elsewhere", "3"], 1, "has no target"),
    (["unpin", "weight", "shop 10.0.0.1:80"], 2, "knows no knob"),
    (["freeze", "--target", "10.0.0.9:80"], 1, "did you mean"),
    (["unfreeze", "--loop", "x"], 2, "knows no loop"),
    (["reset", "--target", "nothing-like-it"], 1, "foldback status"),
    (["mode", "acting"], 2, "observe, recommend or act"),
    (["cache", "status", "x"], 2, "cache status"),
    (["fleet", "status", "x"], 2, "fleet status"),
    (["cache", "purge"], 2, "needs one of: a URL"),
    (["cache", "purge", "x", "--all"], 2, "needs one of: a URL"),
    (["stream", "status", "x"], 2, "stream status"),
    (["connector", "list", "x"], 2, "connector list"),
    (["connector", "pause"], 2, "needs NAME"),
    (["connector", "resume", "a/b"], 2, "not the name"),
    (["connector", "reset", "a", "--at", "middle"], 2, "start, end or an offset"),
    (["connector", "check"], 2, "--config"),
    (["drain", "10.0.0.9:80"], 1, "there is no endpoint"),
    (["undrain"], 2, "needs ENDPOINT"),
    (["events", "tail", "--type", "decison"], 2, "did you mean decision"),
    (["events", "query"], 2, "needs SELECT"),
    (["events", "query", "SELECT 1", "--format", "xml"], 2, "none of table, json, jsonl, csv"),
    (["events", "export", "--format", "xml"], 2, "none of jsonl, csv"),
    (["events", "export", "--format", "parquet"], 2, "one event type"),
    (["events", "tables", "nothing"], 2, "`foldback events tables` lists them"),
    (["replay", "--from-offset", "9", "--until-offset", "3"], 2, "not before"),
    (["simulate"], 2, "--list"),
    (["simulate", "s99"], 2, "knows no scenario"),
    (["simulate", "s1", "--set", "load"], 2, "KEY=VALUE"),
    (["simulate", "s1", "--set", "colour=red"], 2, "no parameter \"colour\""),
    (["simulate", "--trace", "/nonexistent"], 2, "cannot read the trace"),
    (["config", "check"], 2, "needs FILE"),
    (["config", "check", "/nonexistent.yaml"], 2, "/nonexistent.yaml"),
    (["config", "show", "/nonexistent.yaml"], 2, "/nonexistent.yaml"),
    (["config", "schema", "x"], 2, "does not know"), (["config", "diff", "x"], 2, "does not know"),
    (["key", "list", "x"], 2, "does not know"),
    (["key", "rotate", "--all"], 2, "has no flag --all"),
    (["key", "rewrap", "a", "b"], 2, "does not know"),
    (["key", "prune", "x"], 2, "does not know"),
    (["erase"], 2, "needs --subject"),
    (["erase", "--subject", "ab"], 2, "3..200 letters"),
    (["letters", "list", "x"], 2, "does not know"),
    (["letters", "show", "a", "b"], 2, "does not know"),
    (["letters", "remove"], 2, "needs NAME"),
    (["letters", "send"], 2, "or --all"),
    (["log", "check", "x"], 2, "does not know"),
    (["log", "stats", "--follow"], 2, "has no flag --follow"),
    (["log", "repair", "--force"], 2, "has no flag --force"),
    (["reload", "now"], 2, "does not know"),
    (["upgrade", "now"], 2, "does not know"),
    (["upgrade", "--binary", "/nonexistent"], 1, "/nonexistent"),
    (["reference", "knob"], 2, "did you mean knobs"),
    (["completion", "tcsh"], 2, "bash, zsh and fish"),
    (["man", "x"], 2, "does not know"),
    (["endpoint", "list", "a", "b"], 2, "does not know"), (["endpoint", "add", "shop"], 2, "needs SERVICE ADDRESS"),
    (["endpoint", "add", "shop", "10.0.0.5:80", "--weight", "1001"], 2, "0..1000 percent"),
    (["endpoint", "remove", "shop"], 2, "needs SERVICE ADDRESS"),
    (["why", ""], 2, "needs REQUEST_ID"), (["cache", "purge", "--tag", ""], 2, "1 to 2000 bytes"),
    (["freeze", "--loop", "nope"], 2, "there are limit, shed, timeout"), (["mode", "fast"], 2, "observe, recommend or act"),
    (["events", "tail", "--type", "nope"], 2, "foldback reference events"), (["nope"], 2, "`foldback help` lists them"),
    (["version", "2"], 2, "does not know"), (["token", "mine"], 2, "is no role"),
]


@pytest.mark.parametrize("args,code,says", WRONG, ids=["_".join(w[0])[:40] or "nothing" for w in WRONG])
def test_wrong_use_ends_with_a_sentence(fake, args, code, says):
    done = fake.run(*args) if args else run()
    assert done.returncode == code, done.stderr
    assert says in done.stderr + ("" if args else done.stdout)
    if args:
        assert done.stderr.startswith("foldback: ") and done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_every_command_has_a_row_of_wrong_use():
    page = run("reference", "commands").stdout
    commands = re.findall(r"^## foldback (.+)$", page, re.M)
    used = {" ".join(w[0][:n]) for w in WRONG for n in (1, 2)}
    assert len(commands) > 25
    assert [c for c in commands if c not in used] == []


# ---- exit codes of the way to the daemon ----
ASKING = [["status"], ["top", "--once"], ["tap"], ["decisions"], ["decisions", "tail"], ["decisions", "show", "1"],
          ["why", "x"], ["doctor"], ["get"], ["set", "limit", "x", "1"], ["pin", "limit", "x"], ["unpin", "limit", "x"],
          ["freeze"], ["unfreeze"], ["reset"], ["mode", "act"], ["drain", "x"], ["undrain", "x"], ["events", "tail"],
          ["config", "show"], ["config", "diff"], ["reload"], ["upgrade"],
          ["cache", "status"], ["cache", "purge", "x"], ["stream", "status"],
          ["endpoint", "list"], ["endpoint", "add", "shop", "10.0.0.5:80"], ["endpoint", "remove", "shop", "10.0.0.5:80"]]


@pytest.mark.parametrize("args", ASKING, ids=[" ".join(a) for a in ASKING])
def test_no_daemon_is_code_3(tmp_path, args):
    done = run(*args, "--state", str(tmp_path))
    assert done.returncode == 3
    assert "foldback run" in done.stderr and "--state" in done.stderr and done.stdout.count("\n") <= 1


WITH_TOKEN = [a for a in ASKING if a != ["upgrade"]]  # that one needs the right to signal


FILES = [["replay"], ["log", "check"], ["log", "repair"], ["log", "stats"], ["key", "list"], ["key", "rotate"], ["key", "prune"],
         ["letters", "list"], ["letters", "show"], ["letters", "send", "--all"], ["letters", "remove", "x"],
         ["erase", "--subject", "nobody"], ["events", "query", "SELECT 1"], ["events", "export"]]


@pytest.mark.parametrize("args", FILES, ids=[" ".join(a) for a in FILES])
def test_a_state_folder_that_is_none_is_named(tmp_path, args):
    """Never "nothing found": who mistyped --state must not believe that all is well."""
    for state in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        done = run(*args, "--state", str(state))
        assert done.returncode == 1 and str(state) in done.stderr and "--state" in done.stderr and done.stdout == "", done
    (tmp_path / "empty").mkdir()
    done = run(*args, "--state", str(tmp_path / "empty"))
    assert done.returncode == 1 and str(tmp_path / "empty") in done.stderr and "--state" in done.stderr, done


def without_rights(args):
    """Runs as a user who is not root and owns nothing."""
    if os.geteuid() != 0:
        return run(*args)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = shutil.copy(cli_util.program(), folder)
        return subprocess.run([program, *args], capture_output=True, text=True, timeout=20, user=65534, group=65534, extra_groups=[])


@pytest.mark.parametrize("args", ASKING + FILES, ids=[" ".join(a) for a in ASKING + FILES])
def test_a_state_folder_of_another_user_is_code_4(args):
    """An operator beside a foldback of systemd: it runs, and he may not ask it; that is no reason to start a second one."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        state = os.path.join(folder, "state")
        os.mkdir(state)
        with open(os.path.join(state, "admin.json"), "w") as f:
            f.write('{"address": "127.0.0.1:1", "pid": 2}')
        os.chmod(state, 0o700 if os.geteuid() == 0 else 0)
        done = without_rights([*args, "--state", state])
        os.chmod(state, 0o700)
    assert done.returncode == 4, done
    assert state in done.stderr and "Permission denied" in done.stderr and "as the user of foldback" in done.stderr
    assert "foldback run" not in done.stderr and done.stdout.count("\n") <= 1


def test_upgrade_signals_nobody_who_would_die_of_it(fake):
    done = fake.run("upgrade")  # admin.json names this very process
    assert done.returncode == 3 and "no foldback that can be upgraded" in done.stderr


@pytest.mark.parametrize("args", WITH_TOKEN, ids=[" ".join(a) for a in WITH_TOKEN])
def test_wrong_token_is_code_4(fake, tmp_path, args):
    wrong = tmp_path / "wrong.token"
    wrong.write_text("nonsense\n")
    done = fake.run(*args, "--token-file", str(wrong))
    assert done.returncode == 4 and "the token is wrong" in done.stderr


@pytest.mark.parametrize("form", ["localhost:{}", ":{}", "0.0.0.0:{}", "http://127.0.0.1:{}/?token=x", "*:{}"])
def test_admin_address_may_be_written_in_many_ways(fake, form):
    done = fake.run("doctor", "--admin", form.format(fake.address.split(":")[1]))
    assert done.returncode == 0, done.stderr


def test_refused_host_is_code_4(fake):
    fake.answers[("GET", "/v1/doctor")] = problem(421, "Host is no loopback name")
    assert fake.run("doctor").returncode == 4


def test_missing_token_file_is_code_4(fake):
    done = fake.run("status", "--token-file", "/nonexistent")
    assert done.returncode == 4 and "/nonexistent" in done.stderr


def test_silent_server_is_code_5(fake):
    import socket
    with socket.create_server(("127.0.0.1", 0)) as s:
        done = fake.run("status", "--admin", f"127.0.0.1:{s.getsockname()[1]}", "--timeout", "1")
    assert done.returncode == 5 and "did not answer within 1000 ms" in done.stderr


def test_server_that_is_no_http_is_named(fake):
    import socket
    import threading
    with socket.create_server(("127.0.0.1", 0)) as s:
        def answer():
            c, _ = s.accept()
            c.recv(4096)
            c.sendall(b"220 mail ready\r\n\r\n")
            c.close()
        threading.Thread(target=answer, daemon=True).start()
        done = fake.run("status", "--admin", f"127.0.0.1:{s.getsockname()[1]}")
    assert done.returncode in (1, 3) and "\n" == done.stderr[-1]


def test_problem_of_the_server_is_shown_with_its_remedy(fake):
    fake.answers[("GET", "/v1/why")] = problem(404, "\"x\" is nothing", "List what there is.")
    done = fake.run("why", "x")
    assert done.returncode == 1 and done.stderr == "foldback: \"x\" is nothing. List what there is.\n"
    fake.answers[("GET", "/v1/why")] = problem(404, "no y is called x; `foldback y` shows all", "List what there is.")
    assert fake.run("why", "x").stderr == "foldback: no y is called x; `foldback y` shows all\n"


def test_stream_that_ends_is_code_3(fake):
    fake.answers[("GET", "/v1/tap")] = sse(("request", REQUEST))
    done = fake.run("tap")
    assert done.returncode == 3 and "ended the stream" in done.stderr and REQUEST["id"] in done.stdout


# ---- what is asked ----
def test_tap_passes_filter_rate_and_redaction(fake):
    fake.answers[("GET", "/v1/tap")] = sse(("request", REQUEST))
    fake.run("tap", "--filter", "status>=500 and path=~\"/a b\"", "--rate", "7", "--no-redact", "--limit", "1")
    asked = fake.asked[-1][1]
    assert asked == "/v1/tap?filter=status%3E%3D500%20and%20path%3D~%22%2Fa%20b%22&rate=7&redact=false"


def test_decisions_pass_their_filters(fake):
    fake.run("decisions", "--service", "shop", "--loop", "limit", "--since", "60", "--limit", "5")
    assert fake.asked[-1][1] == "/v1/decisions?limit=5&service=shop&loop=limit&since=60"
    fake.run("decisions", "--since", "15m")
    assert fake.asked[-1][1] == "/v1/decisions?limit=20&since=900"


def test_pin_says_who_why_and_how_long(fake):
    fake.run("pin", "limit", "shop 10.0.0.1:80", "24", "--why", "test", "--expires", "60")
    put = [a for a in fake.asked if a[0] == "PUT"]
    assert put[0][1] == "/v1/knobs/limit/shop%2010.0.0.1%3A80/pin"
    assert json.loads(put[0][2]) == {"actor": "cli", "why": "test", "expires_s": 60, "value": 24.0}


def test_unpin_of_a_free_knob_changes_nothing(fake):
    done = fake.run("unpin", "limit", "shop 10.0.0.1:80")
    assert done.returncode == 0 and [a[0] for a in fake.asked] == ["GET"]


def test_target_is_found_by_its_short_name_and_kind(fake):
    fake.run("freeze", "--loop", "timeout", "--target", "shop /", "--why", "night")
    assert json.loads(fake.asked[-1][2]) == {"actor": "cli", "why": "night", "route": "shop /", "loop": "timeout"}
    fake.run("reset", "--target", "10.0.0.2:80")
    assert json.loads(fake.asked[-1][2])["endpoint"] == "shop 10.0.0.2:80"
    fake.run("mode", "observe", "--target", "shop")
    assert json.loads(fake.asked[-1][2]) == {"actor": "cli", "service": "shop", "mode": "observe"}


def test_short_name_of_two_endpoints_is_refused(fake):
    fake.endpoints.append(endpoint(2, "blog 10.0.0.1:80"))
    done = fake.run("drain", "10.0.0.1:80")
    assert done.returncode == 1 and "in full" in done.stderr
    assert not [a for a in fake.asked if a[0] == "POST"]


@pytest.mark.parametrize("target", [["shop 10.0.0.1:80"], ["shop", "10.0.0.1:80"]], ids=["in one", "apart"])
def test_drain_waits_until_nothing_is_in_flight(fake, target):
    left = iter([3, 3, 2, 1, 0, 0])

    def endpoints(query, body):
        fake.endpoints[0]["in_flight"] = next(left, 0)
        return {"window_ms": 1000, "endpoints": fake.endpoints}

    fake.answers[("GET", "/v1/endpoints")] = endpoints
    done = fake.run("drain", *target, "--wait")
    assert done.returncode == 0 and "drained: 0 in flight" in done.stdout
    assert next(left, "none") in (0, "none")


def test_drain_that_does_not_end_is_code_5(fake):
    done = fake.run("drain", "shop 10.0.0.1:80", "--wait", "--timeout", "1")
    assert done.returncode == 5 and "11 in flight after 1 s" in done.stderr


def test_drain_twice_asks_once(fake):
    fake.run("drain", "shop 10.0.0.2:80")
    done = fake.run("drain", "shop 10.0.0.2:80")
    assert done.returncode == 0 and "already drained" in done.stdout
    assert len([a for a in fake.asked if a[0] == "POST"]) == 1
    assert "back" in fake.run("undrain", "shop 10.0.0.2:80").stdout
    assert "already back" in fake.run("undrain", "shop 10.0.0.2:80").stdout


def test_pin_that_never_comes_into_force_is_code_5(fake):
    fake.knob_call = lambda method, path, body: cli_util.KNOBS[0]
    done = fake.run("pin", "limit", "shop 10.0.0.1:80", "7")
    assert done.returncode == 5 and "not in force" in done.stderr


def test_events_tail_with_a_type_means_the_last_ones(fake):
    fake.answers[("GET", "/v1/events")] = EVENTS
    done = fake.run("events", "tail", "--type", "tick", "--limit", "2")
    assert [json.loads(line)["offset"] for line in done.stdout.splitlines()] == [7, 8]
    assert fake.asked[-1][1] == "/v1/events?from=0&limit=1000000&type=tick"


def test_events_tail_follows_until_its_limit(fake):
    fake.answers[("GET", "/v1/events")] = EVENTS
    done = fake.run("events", "tail", "--follow", "--limit", "4", "--from-offset", "0")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 4
    assert fake.asked[-1][1] == "/v1/events?from=0&limit=4&follow=true"


def test_doctor_without_findings_is_code_0(fake):
    done = fake.run("doctor")
    assert done.returncode == 0 and "Nothing stands out" in done.stdout


# ---- colour and terminals ----
def on_terminal(fake, *args, env=None, keys=b"", seconds=10):
    import pty
    import select
    import time
    master, slave = pty.openpty()
    clean = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **(env or {})}
    if not env or "NO_COLOR" not in env:
        clean.pop("NO_COLOR", None)
    p = subprocess.Popen([cli_util.program(), *args, "--state", fake.state], stdin=slave, stdout=slave, stderr=slave, env=clean)
    os.close(slave)
    out, end, is_sent = b"", time.monotonic() + seconds, not keys
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            out += part
        elif p.poll() is not None:
            break
        if not is_sent and b"shop" in out and b"quit" in out:
            os.write(master, keys)
            is_sent = True
    p.wait(timeout=5)
    os.close(master)
    return p.returncode, out.decode(errors="replace")


def test_colour_only_on_a_terminal_that_wants_it(fake):
    assert "\033[1m" in on_terminal(fake, "get")[1]
    assert "\033[" not in on_terminal(fake, "get", env={"NO_COLOR": "1"})[1]
    assert "\033[" not in on_terminal(fake, "get", env={"TERM": "dumb"})[1]
    assert "\033[" not in on_terminal(fake, "get", "--no-color")[1]


def test_top_is_a_full_screen_that_q_ends(fake):
    code, out = on_terminal(fake, "top", keys=b"rq")
    assert code == 0
    assert "shop 10.0.0.1:80" in out and "q quit" in out


def test_top_off_a_terminal_prints_a_line_per_service_each_second(fake):
    p = subprocess.Popen([cli_util.program(), "top", "--state", fake.state], stdout=subprocess.PIPE, text=True)
    try:
        lines = [p.stdout.readline() for _ in range(4)]
    finally:
        p.terminate()
        p.wait(timeout=5)
        p.stdout.close()
    assert [line.split()[1] for line in lines] == ["shop", "blog", "shop", "blog"]


# ---- files ----
GOOD = cli_util.CONFIG
BAD = "listen: [\"127.0.0.1:8080\"]\nservices:\n  shop: { endpionts: [10.0.0.1:80] }\nroutes:\n  - { match: /, service: shup }\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


FILES = [("config_check", ["config", "check", "good.yaml"]), ("config_check_json", ["config", "check", "good.yaml", "--json"]),
         ("config_check_bad", ["config", "check", "bad.yaml"]), ("config_check_bad_json", ["config", "check", "bad.yaml", "--json"]),
         ("config_show", ["config", "show", "good.yaml"]),
         ("config_show_effective", ["config", "show", "good.yaml", "--effective"])]


@pytest.mark.parametrize("name,args", FILES, ids=[f[0] for f in FILES])
def test_config_output_is_the_golden_one(files, name, args):
    done = run(*args, cwd=files)
    golden(name, picture(done, args))
    assert done.returncode == (2 if "bad" in name else 0)


def test_config_check_shows_all_errors_in_one_run(files):
    done = run("config", "check", "bad.yaml", cwd=files)
    assert "bad.yaml:3:" in done.stderr and "bad.yaml:5:" in done.stderr and "^" in done.stderr


def test_config_show_as_json_is_json(files):
    assert json.loads(run("config", "show", "good.yaml", "--json", cwd=files).stdout)


def test_config_schema_is_a_json_schema():
    schema = json.loads(run("config", "schema").stdout)
    assert "services" in schema["properties"]


# ---- check ----
def test_check_names_each_thing_it_looked_at(fake, tmp_path):
    import socket
    with socket.create_server(("127.0.0.1", 0)) as up, socket.create_server(("127.0.0.1", 0)) as used:
        port, busy = up.getsockname()[1], used.getsockname()[1]
        (tmp_path / "c.yaml").write_text(
            f"listen: [\"127.0.0.1:{busy}\"]\nadmin: {{ listen: \"off\" }}\nservices:\n"
            f"  a: {{ endpoints: [127.0.0.1:{port}, 127.0.0.1:1] }}\n  b: {{ endpoints: [127.0.0.1:1] }}\n"
            "routes:\n  - { match: /b, service: b }\n  - { match: /, service: a }\n")
        done = fake.run("check", "--config", "c.yaml", "--json", cwd=tmp_path)
    root = json.loads(done.stdout)
    seen = {}
    for c in root["checks"]:
        seen.setdefault(c["check"], []).append(c)
        assert c["state"] == "ok" or c["hint"], c
    assert done.returncode == 1 and root["is_ok"] is False
    assert seen["port"][0]["state"] == "fail" and str(busy) in seen["port"][0]["text"]
    assert [c["state"] for c in seen["service"]] == ["ok", "fail"] and "1 of 2" in seen["service"][0]["text"]
    assert seen["running"][0]["state"] == "ok" and seen["config"][0]["state"] == "ok"
    assert set(seen) == {"running", "config", "port", "endpoint", "service", "files", "backlog", "clock", "state"}


def test_check_takes_the_ports_of_the_running_one_as_its_own(fake):
    import socket
    with socket.create_server(("127.0.0.1", 0)) as s:
        text = cli_util.CONFIG.replace("8080", str(s.getsockname()[1])) + "admin: { listen: \"off\" }\n"
        fake.answers[("GET", "/v1/config")] = {"hash": "0", "text": text, "effective": None}
        done = fake.run("check", "--json")
    port = [c for c in json.loads(done.stdout)["checks"] if c["check"] == "port"]
    assert [c["state"] for c in port] == ["ok"] and "held by the running foldback" in port[0]["text"]


def test_check_without_daemon_and_file_only_warns(tmp_path):
    done = run("check", "--state", str(tmp_path))
    assert done.returncode == 0 and "warn  running" in done.stdout and "Next: " in done.stdout


def test_check_of_a_bad_file_fails(files):
    done = run("check", "--config", "bad.yaml", "--state", str(files), cwd=files)
    assert done.returncode == 1 and "fail  config" in done.stdout


def test_check_waits_until_ready(fake):
    answers = iter([problem(503, "starts"), problem(503, "starts")])
    fake.answers[("GET", "/readyz")] = lambda q, b: next(answers, "ready\n")
    fake.answers[("GET", "/v1/config")] = problem(501, "none")
    done = fake.run("check", "--wait", "--timeout", "10")
    assert done.returncode == 0 and "ok    running" in done.stdout


def test_check_that_waits_in_vain_is_code_5(tmp_path):
    done = run("check", "--wait", "--timeout", "1", "--state", str(tmp_path))
    assert done.returncode == 5 and "fail  running" in done.stdout


# ---- simulate ----
def test_simulation_is_the_same_each_time_and_json_says_the_same():
    text = run("simulate", "s1", "--seeds", "2", "--set", "time=0.2").stdout
    assert text == run("simulate", "s1", "--seeds", "2", "--set", "time=0.2").stdout
    assert "s1 (seed 1)" in text and "s1 (seed 2)" in text and text.splitlines()[-1].startswith("2 seeds: good")
    root = json.loads(run("simulate", "s1", "--seeds", "2", "--set", "time=0.2", "--json").stdout)
    assert root["scenario"] == "s1" and len(root["runs"]) == 2 and 0 <= root["good_pct_worst"] <= 100


def test_simulation_of_a_trace_counts_its_requests(tmp_path):
    trace = tmp_path / "t.csv"
    trace.write_text("seconds,requests\n10,1000\n10,3000\n10,1000\n")
    root = json.loads(run("simulate", "--trace", str(trace), "--json").stdout)
    by_phase = root["runs"][0]
    assert by_phase["scenario"] == "s1"
    assert 1500 < by_phase["all"]["offered"] < 6000


def test_simulate_list_as_json_names_every_scenario():
    names = [s["name"] for s in json.loads(run("simulate", "--list", "--json").stdout)]
    assert "s1" in names and len(names) == len(set(names)) > 10
