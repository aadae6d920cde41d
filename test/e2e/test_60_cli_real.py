"""60: the CLI against a foldback that runs: the shapes that the golden tests assume, and what really happens.

One foldback with two endpoints serves the whole file.
"""
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

import cli_util
from cli_util import ALERTS, KNOBS, REQUEST, SERVICES, STATUS, decision, run


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Origin:
    """Answers "hi"; a request for /slow waits until it is let go."""

    def __init__(self):
        origin = self
        self.release = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one segment

            def do_GET(self):
                if self.path.startswith("/slow"):
                    origin.release.wait(10)
                self.send_response(200)
                self.send_header("Content-Length", "3")
                self.end_headers()
                self.wfile.write(b"hi\n")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class Running:
    def __init__(self, folder):
        self.state, self.port = str(folder), free_port()
        self.origins = [Origin(), Origin()]
        self.process = None
        self.log = open(os.path.join(self.state, "out.txt"), "w")

    def start(self):
        to = [x for o in self.origins for x in ("--to", f"127.0.0.1:{o.port}")]
        self.process = subprocess.Popen([cli_util.program(), "run", "--from", f"127.0.0.1:{self.port}", *to, "--state",
                                         self.state, "--admin", "127.0.0.1:0"], stdout=self.log, stderr=self.log)
        done = run("check", "--wait", "--timeout", "20", "--state", self.state, timeout_s=30)
        assert "ok    running" in done.stdout, done.stdout + open(self.log.name).read()

    def run(self, *args, **more):
        return run(*args, "--state", self.state, **more)

    def json(self, *args):
        done = self.run(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def traffic(self, count=60, path="/a?token=1"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        for _ in range(count):
            c.request("GET", path)
            assert c.getresponse().read() == b"hi\n"
        c.close()

    def endpoint(self, i=0):
        return f"127.0.0.1:{self.origins[i].port}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=20)
        self.log.close()
        return code


@pytest.fixture(scope="module")
def fold(tmp_path_factory):
    f = Running(tmp_path_factory.mktemp("state"))
    f.start()
    f.traffic()
    yield f
    if f.process.poll() is None:
        f.stop()
    for o in f.origins:
        o.release.set()
        o.server.shutdown()
        o.server.server_close()


def until(check, seconds=30):
    """The first true answer of <check>; asserts that there is one in time."""
    end = time.monotonic() + seconds
    while True:
        got = check()
        if got:
            return got
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


def lacks(want, got, at=""):
    """Members of <want> (from the stand-in) that <got> (real) does not have."""
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return [f"{at} is no object"]
        return [m for k in want for m in (lacks(want[k], got[k], f"{at}.{k}") if k in got else [f"{at}.{k}"])]
    if isinstance(want, list) and want and isinstance(got, list) and got:
        return lacks(want[0], got[0], at + "[0]")
    return []


def test_shapes_of_the_stand_in_are_the_real_ones(fold):
    root = fold.json("status")
    want = {"status": {**STATUS, "cost": {"gateway": {"cpu_cores": 0, "memory_bytes": 0}, "tick_cpu_ms": 0}},
            "services": [{**SERVICES[0]}], "endpoints": [cli_util.endpoint(0, "a b")], "modes": {"limit": ""}}
    assert lacks(want, until(lambda: (r := fold.json("status"))["status"]["cost"].get("gateway") and r)) == []
    assert isinstance(root["alerts"], list) and set(ALERTS[0]) >= {"reason", "severity"}
    assert lacks({"knobs": KNOBS}, fold.json("get")) == []


def test_status_counts_the_traffic(fold):
    fold.traffic()
    until(lambda: fold.json("status")["status"]["gateway"]["requests"] >= 60)
    text = fold.run("status").stdout
    assert "ready" in text and fold.endpoint(0) in text and fold.endpoint(1) in text


def test_tap_shows_requests_with_path_but_without_query(fold):
    tap = subprocess.Popen([cli_util.program(), "tap", "--json", "--limit", "5", "--state", fold.state],
                           stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        for _ in range(10):
            fold.traffic(2, "/tapped?secret=1")
            time.sleep(0.05)
        out, _ = tap.communicate(timeout=10)
    finally:
        tap.kill()
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 5 and len({r["id"] for r in lines}) == 5
    assert lacks(REQUEST, lines[0]) == []
    assert any(r.get("path") == "/tapped" for r in lines) and "secret" not in out


def test_tap_filter_with_an_error_is_a_sentence(fold):
    done = fold.run("tap", "--filter", "statu=500")
    assert done.returncode == 2 and "statu" in done.stderr


def test_pin_is_in_force_at_once_and_undone(fold):
    name = f"app {fold.endpoint(0)}"
    before = fold.json("get", "limit", name)
    assert fold.json("pin", "limit", name, "7", "--why", "test")["value"] == 7
    got = fold.json("get", "limit", name)
    assert (got["value"], got["pinned"], got["source"]) == (7, 7, "pinned")
    assert "pinned to 7" in fold.run("doctor").stdout
    done = fold.run("unpin", "limit", name)
    assert done.returncode == 0 and fold.json("get", "limit", name)["pinned"] is None
    assert before["hard_max"] == got["hard_max"]
    assert fold.run("set", "limit", name, "0").returncode == 2


def test_decision_of_a_pin_is_shown_everywhere(fold):
    name = f"app {fold.endpoint(1)}"
    fold.json("pin", "weight_pct", name, "50", "--why", "half a machine")
    root = until(lambda: next((d for d in fold.json("decisions")["decisions"] if d["knob"].lower() == "weight_pct"), None))
    assert lacks({**decision(), "outcome": None, "evidence": []}, root) == []
    assert root["to"] == 50 and root["target"]["name"] == name
    shown = fold.run("decisions", "show", str(root["id"]))
    assert shown.returncode == 0 and "half a machine" in shown.stdout and "100 -> 50 %" in shown.stdout
    assert fold.run("why", f"decision {root['id']}").returncode == 0
    assert "weight_pct       50 % (set by an operator; legal are" in fold.run("why", fold.endpoint(1)).stdout
    lines = fold.run("events", "tail", "--type", "decision", "--limit", "1").stdout.splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["type"] == "decision"
    fold.run("unpin", "weight_pct", name)


def test_decisions_tail_shows_one_as_it_is_taken(fold):
    name = f"app {fold.endpoint(0)}"
    tail = subprocess.Popen([cli_util.program(), "decisions", "tail", "--limit", "1", "--json", "--state", fold.state],
                            stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        fold.json("pin", "weight_pct", name, "90")
        out, _ = tail.communicate(timeout=10)
    finally:
        tail.kill()
    assert json.loads(out.splitlines()[0])["to"] == 90
    fold.run("unpin", "weight_pct", name)


def test_mode_freeze_and_reset_show_in_get(fold):
    def timeout_knob():
        return fold.json("get", "timeout_ms")["knobs"][0]

    assert fold.run("mode", "recommend", "--loop", "timeout").returncode == 0
    until(lambda: timeout_knob()["mode"] == "recommend")
    assert fold.run("mode", "act", "--loop", "timeout").returncode == 0
    until(lambda: timeout_knob()["mode"] == "act")
    assert fold.run("freeze", "--loop", "timeout").returncode == 0
    until(lambda: timeout_knob()["is_frozen"])
    assert fold.run("unfreeze", "--loop", "timeout").returncode == 0
    until(lambda: not timeout_knob()["is_frozen"])
    assert fold.run("reset").returncode == 0


def test_a_look_at_recommendations_costs_no_learned_limit(fold):
    """1,024 is held in mode recommend; learned from there nothing would ever be: no endpoint is half full of that."""
    def limits():
        return [e["limit"] for e in fold.json("status")["endpoints"]]
    before = until(lambda: limits() if 1024 not in limits() else None)
    fold.run("mode", "recommend", "--loop", "limit")
    until(lambda: limits() == [1024] * len(before))
    fold.run("mode", "act", "--loop", "limit")
    until(lambda: limits() == before)
    fold.run("pin", "limit", fold.endpoint(0), "2")
    until(lambda: limits()[0] == 2)
    fold.run("unpin", "limit", fold.endpoint(0))
    assert limits()[0] == 2  # from there it goes on; a reset begins where every endpoint does
    fold.run("reset", "--loop", "limit")
    until(lambda: limits() == [4] * len(before))
    until(lambda: [k["learned"] for k in fold.json("get", "limit")["knobs"]] == [4] * len(before))


def test_drain_waits_for_the_last_request(fold):
    fold.run("drain", fold.endpoint(1), "--wait")  # so that the slow one goes to the first
    fold.origins[0].release.clear()
    slow = threading.Thread(target=fold.traffic, args=(1, "/slow"))
    slow.start()
    try:
        until(lambda: [e for e in fold.json("status")["endpoints"] if e["in_flight"] == 1 and e["name"].endswith(fold.endpoint(0))])
        fold.run("undrain", fold.endpoint(1))
        assert fold.run("drain", fold.endpoint(0), "--wait", "--timeout", "1").returncode == 5
        fold.origins[0].release.set()
        done = fold.run("drain", fold.endpoint(0), "--wait", "--timeout", "10")
        assert done.returncode == 0 and "0 in flight" in done.stdout
    finally:
        fold.origins[0].release.set()
        slow.join(10)
    fold.traffic(10)  # goes to the other
    assert fold.run("undrain", fold.endpoint(0)).returncode == 0


def test_the_cache_is_shown_and_purged(fold):
    assert "cache: on" in fold.run("cache", "status").stdout
    assert fold.json("cache", "status")["routes"] == []
    assert fold.run("cache", "purge", "http://example.org/x", "--why", "test").stdout.startswith("No answer in memory fits")
    assert fold.run("cache", "purge", "--tag", "product-7", "--now").returncode == 0
    assert fold.run("cache", "purge", "example.org/img/*").returncode == 0
    assert fold.run("cache", "purge", "--all").returncode == 0
    assert fold.run("cache", "purge").returncode == 2
    assert fold.run("cache", "purge", "x", "--all").returncode == 2


def test_why_speaks_plainly_of_service_route_and_endpoint(fold):
    fold.traffic(20)
    until(lambda: "In the last minute it had" in fold.run("why", "app").stdout, 30)
    told = fold.run("why", "app").stdout
    assert "endpoints" in told and "99 % of them took less than" in told, told
    assert "foldback decisions --service 'app'" in told and "foldback get --service 'app'" in told, told
    route = fold.run("why", "app /").stdout
    assert "In the last minute it had" in route and "Next: foldback why 'app'" in route, route
    one = fold.run("why", fold.endpoint()).stdout
    assert "requests are in flight there now; its limit is" in one and "Settings in force:" in one, one
    for text in (told, route, one):
        assert "insufficient_data" not in text and "_p99" not in text and "nan" not in text, text


def test_an_endpoint_that_starts_slowly_counts_as_one_that_takes_requests(fold):
    def told():
        one = [e for e in fold.json("status")["endpoints"] if e["name"].endswith(":9")]
        return one and one[0]["health"] == "ramping" and fold.run("why", "app").stdout
    fold.run("endpoint", "add", "app", "127.0.0.1:9")
    says = until(told)
    fold.run("endpoint", "remove", "app", "127.0.0.1:9")
    assert f"All of its endpoints ({len(fold.origins) + 1}) take requests." in says, says


def test_why_of_a_request_by_its_id(fold):
    c = http.client.HTTPConnection("127.0.0.1", fold.port, timeout=10)
    c.request("GET", "/why")
    answer = c.getresponse()
    request_id = answer.getheader("X-Request-Id")
    answer.read()
    c.close()
    if not request_id:
        line = until(lambda: fold.run("events", "tail", "--type", "request", "--limit", "1").stdout)
        request_id = "%016x" % json.loads(line)["request_id"]
    done = until(lambda: (d := fold.run("why", request_id)).returncode == 0 and d)
    assert "status 200" in done.stdout and "Next: foldback why 'app'" in done.stdout


def test_events_tail_follows_what_comes(fold):
    tail = subprocess.Popen([cli_util.program(), "events", "tail", "--follow", "--type", "request", "--limit", "3",
                             "--state", fold.state], stdout=subprocess.PIPE, text=True)
    try:
        fold.traffic(5)
        out, _ = tail.communicate(timeout=10)
    finally:
        tail.kill()
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["request"] * 3


def test_check_of_the_running_one_is_ok(fold):
    done = fold.run("check", "--json")
    checks = {c["check"]: c["state"] for c in json.loads(done.stdout)["checks"]}
    assert checks["running"] == checks["port"] == checks["service"] == checks["state"] == "ok"


def test_config_show_is_what_runs(fold):
    assert fold.endpoint(0) in fold.run("config", "show").stdout
    assert fold.endpoint(0) in fold.run("config", "show", "--effective").stdout
    assert fold.json("config", "show")["text"]


def test_top_once_is_the_same_as_status(fold):
    root = json.loads(fold.run("top", "--once", "--json").stdout)
    assert set(root) == {"status", "services", "endpoints"}
    assert "SERVICE" in fold.run("top", "--once").stdout


def test_log_commands_read_what_a_stopped_one_left(fold):
    """Last: it stops the foldback of this file."""
    assert fold.stop() == 0
    assert fold.run("status").returncode == 3
    done = fold.run("log", "check")
    assert done.returncode == 0 and "0 holes" in done.stdout
    assert "decision" in fold.run("log", "stats").stdout
    root = json.loads(fold.run("replay", "--verify", "--json").stdout)
    assert root["is_equal"] is True and root["recorded"] == root["derived"] > 0
