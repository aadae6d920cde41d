"""Helpers of the CLI tests: a stand-in for the admin server, and golden files.

The stand-in answers with the shapes of src/output (api_*.c, put*.c) and fixed figures, so that what the
commands print does not depend on a clock or on traffic.  FB_GOLDEN=1 rewrites the golden files.
"""
import http.server
import json
import os
import subprocess
import threading
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
GOLDEN = os.path.join(HERE, "golden")
TOKEN = "0123456789abcdef"


def program():
    return os.environ.get("FOLDBACK_BIN", os.path.join(ROOT, "build", "foldback"))


def target(kind, number, name):
    return {"kind": kind, "number": number, "name": name}


def facts(rate, errors, p50, p99, shed=0.0, wait=0.4):
    return {"rate": rate, "offered_rate": rate, "error_ratio": errors, "shed_ratio": shed, "latency_p50": p50,
            "latency_p90": (p50 + p99) / 2, "latency_p99": p99, "queue_wait_p99": wait, "in_time_ratio": 0.998}


def knob(name, kind, number, who, unit, value, source, loop, low, high, **more):
    row = {"knob": name, "target": target(kind, number, who), "unit": unit, "value": value, "source": source,
           "configured": None, "learned": None, "pinned": None, "min": low, "max": high, "hard_min": low,
           "hard_max": high, "safe": high, "loop": loop, "mode": "act", "is_frozen": False, "decision_id": 0,
           "learned_at": None, "version": 7, "what": "What it is."}
    row.update(more)
    return row


KNOBS = [
    knob("limit", "endpoint", 0, "shop 10.0.0.1:80", "requests", 18.0, "learned", "limit", 1.0, 4096.0, learned=18.0,
         decision_id=42, learned_at="2026-03-01T12:00:05.100Z",
         what="How many requests may be in flight to one endpoint."),
    knob("limit", "endpoint", 1, "shop 10.0.0.2:80", "requests", 24.0, "pinned", "limit", 1.0, 4096.0, learned=16.0,
         pinned=24.0, what="How many requests may be in flight to one endpoint."),
    knob("shed_threshold", "service", 0, "shop", "level", 512.0, "safe", "shed", 128.0, 512.0),
    knob("timeout_ms", "route", 0, "shop /", "ms", 420.0, "configured", "timeout", 50.0, 600000.0, configured=420.0,
         learned=380.0, mode="recommend", what="Longest wait for the first byte of an answer."),
    knob("retry_pct", "service", 0, "shop", "%", 10.0, "safe", "retry", 0.0, 10.0, is_frozen=True),
    knob("weight_pct", "endpoint", 0, "shop 10.0.0.1:80", "%", 100.0, "safe", "none", 0.0, 1000.0),
]

CLASSES = [{"class": c, "rate": 30.0, "offered_rate": 30.0, "shed_ratio": 0.0, "latency_p99": 40.0,
            "in_time_ratio": 1.0, "queued": q}
           for c, q in (("critical", 0), ("default", 3), ("degraded", 0), ("best_effort", 1))]

SERVICES = [{"number": 0, "name": "shop", "facts": facts(1234.5, 0.0021, 3.21, 38.4, 0.013), "classes": CLASSES,
             "in_flight": 21, "limit": 42, "shed_threshold": 512.0, "retry_pct": 10.0},
            {"number": 1, "name": "blog", "facts": dict.fromkeys(facts(0, 0, 0, 0)), "classes": [],
             "unknown": {"rate": "insufficient_data"}, "in_flight": 0, "limit": 1024, "shed_threshold": None,
             "retry_pct": None}]

ROUTES = [{"number": 0, "name": "shop /", "service": "shop", "facts": facts(1234.5, 0.0021, 3.21, 38.4),
           "timeout_ms": 420.0}]


def endpoint(number, name, health="ok", drained=False, in_flight=11):
    return {"number": number, "name": name, "service": name.split()[0], "health": health, "is_drained": drained,
            "in_flight": in_flight, "limit": 18, "latency_ms": 3.1, "error_ratio": 0.0005, "share": 0.52,
            "connections": 12, "version": "stable", "facts": facts(640.0, 0.0005, 3.1, 35.0)}


def version(number, name, endpoints=1):
    return {"number": number, "name": name, "service": name.split()[0], "version": name.split()[1], "endpoints": endpoints,
            "facts": facts(640.0, 0.0005, 3.1, 35.0)}


STREAM = {"first_offset": 0, "next_offset": 500, "durable_offset": 490, "events": 500, "events_lost": 0,
          "events_per_s": 1310.2, "blocks": 12, "segments": 1, "log_bytes": 3565158, "lag_ms": 12.0,
          "snapshot_offset": 400, "recovered_events": 0, "recovered_ms": 0.0, "is_disk_ok": True, "disk_error": "",
          "is_encrypted": True, "key_id": 3, "key_periods": 48}

STATUS = {"node": "edge-1", "version": "0.1.0", "address": "127.0.0.1:9180", "time": "2026-03-01T12:00:09.250Z",
          "is_ready": True,
          "gateway": {"beat_age_ms": 4.0, "epoch": 1, "threads": 2, "connections": 64, "requests": 99000,
                      "is_draining": False},
          "brain": {"epoch": 1, "tick": 75000, "uptime_s": 7500.0}, "config_hash": "00000000deadbeef",
          "traffic": {"facts": facts(1234.5, 0.0021, 3.21, 38.4, 0.013)}, "routes": 1, "services": 2, "endpoints": 2,
          "decisions": 42, "alerts": 1, "stream": STREAM,
          "cost": {"host": {"cpu_cores": 1.2, "cores": 4, "memory_bytes": 2 << 30, "threads": 300},
                   "supervisor": {"cpu_cores": 0.0, "cores": 4, "memory_bytes": 3 << 20, "threads": 1},
                   "gateway": {"cpu_cores": 0.31, "cores": 4, "memory_bytes": 24 << 20, "threads": 3},
                   "brain": {"cpu_cores": 0.04, "cores": 4, "memory_bytes": 40 << 20, "threads": 3},
                   "tick_cpu_ms": 0.8, "tick_lag_ms": 0.1, "admin_connections": 1}}

ALERTS = [{"reason": "objective_missed", "severity": "warning", "time": "2026-03-01T12:00:01.000Z", "over": None,
           "target": target("service", 0, "shop"), "text": "shop answers 97.1 % in time", "value": 0.971,
           "threshold": 0.99, "decision_id": 0},
          {"reason": "disk_low", "severity": "critical", "time": "2026-03-01T11:00:01.000Z",
           "over": "2026-03-01T11:05:01.000Z", "target": target("all", 65535, "all"), "text": "over", "value": 0.0,
           "threshold": 0.0, "decision_id": 0}]


def decision(number=42, verdict="better", **more):
    row = {"id": number, "time": "2026-03-01T12:00:05.100Z", "time_ms": 1772366405100, "offset": 470, "loop": "limit",
           "knob": "limit", "unit": "requests", "target": target("endpoint", 0, "shop 10.0.0.1:80"), "from": 16.0,
           "to": 18.0, "mode": "act", "is_applied": True, "actor": "loop", "reason": "limit_higher",
           "sentence": "limit of shop 10.0.0.1:80 raised from 16 to 18: the endpoint answers as fast as when it is idle.",
           "outcome": {"verdict": verdict, "fact": "latency_p99", "unit": "ms", "before": 40.2, "after": 38.4,
                       "n_before": 900, "n_after": 950, "is_reverted": False, "is_frozen": False, "knob_value": 18.0,
                       "reason": "verified"},
           "cli": f"foldback decisions show {number}", "min": 1.0, "max": 4096.0, "supersedes": 41,
           "cooldown_until": None, "verify_at": "2026-03-01T12:00:08.100Z", "delay_ms": 112.5,
           "config_hash": "00000000deadbeef", "reason_sentence": "The endpoint has room.", "note": "",
           "expected": {"effect": "keep", "fact": "latency_p99", "unit": "ms", "before": 40.2},
           "evidence": [{"fact": "learner_ratio", "unit": "", "what": "1 is no queue in the endpoint.",
                         "window_ms": 1000, "n": 210, "value": 1.04, "threshold": 1.2},
                        {"fact": "in_flight", "unit": "requests", "what": "Mean in flight.", "window_ms": 1000,
                         "n": 210, "value": 15.6, "threshold": None}], "n_needed": 30}
    row.update(more)
    return row


DECISIONS = [decision(),
             decision(41, loop="timeout", knob="timeout_ms", unit="ms", mode="recommend", is_applied=False,
                      target=target("route", 0, "shop /"), outcome=None, **{"from": 420.0, "to": 380.0},
                      sentence="timeout of shop / would go from 420 to 380 ms."),
             decision(40, outcome=None, sentence="limit of shop 10.0.0.1:80 raised from 14 to 16.", **{"from": 14.0, "to": 16.0})]

REQUEST = {"id": "0190f3a25b7c11d2", "time": "2026-03-01T12:00:09.123Z", "route": "shop /", "service": "shop",
           "endpoint": "shop 10.0.0.1:80", "class": "default", "status": 200, "reason": "answered", "total_ms": 12.34,
           "queue_ms": 0.0, "upstream_ms": 11.9, "attempts": 1, "in_flight": 9, "sent_bytes": 512}

CONFIG = "listen: [\"127.0.0.1:8080\"]\nservices:\n  shop: { endpoints: [10.0.0.1:80, 10.0.0.2:80] }\n" \
         "routes:\n  - { match: /, service: shop }\n"


def sse(*messages):
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in messages)


def problem(status, detail, remedy="Try otherwise.", code="NOT_FOUND"):
    return status, {"type": "about:blank", "title": "", "status": status, "detail": detail, "code": code,
                    "remedy": remedy}


class FakeAdmin:
    """with FakeAdmin(tmp_path) as fake: fake.run("status")"""

    def __init__(self, folder):
        self.state = str(folder)
        self.asked = []  # (method, path with query, body)
        self.endpoints = [endpoint(0, "shop 10.0.0.1:80"), endpoint(1, "shop 10.0.0.2:80", "ejected", False, 0)]
        self.versions = [version(0, "shop stable", 2)]
        self.knobs = json.loads(json.dumps(KNOBS))
        self.answers = {
            ("GET", "/readyz"): "ready\n",
            ("GET", "/v1/status"): STATUS,
            ("GET", "/v1/services"): {"window_ms": 10000, "services": SERVICES},
            ("GET", "/v1/routes"): {"window_ms": 10000, "routes": ROUTES},
            ("GET", "/v1/endpoints"): lambda q, b: {"window_ms": 10000, "endpoints": self.endpoints},
            ("GET", "/v1/versions"): lambda q, b: {"window_ms": 10000, "versions": self.versions},
            ("GET", "/v1/alerts"): {"alerts": ALERTS},
            ("GET", "/v1/knobs"): lambda q, b: {"knobs": self.knobs},
            ("GET", "/v1/decisions"): {"total": 42, "decisions": DECISIONS},
            ("GET", "/v1/decisions/42"): decision(),
            ("GET", "/v1/doctor"): {"is_healthy": True, "findings": []},
            ("GET", "/v1/config"): {"hash": "00000000deadbeef", "text": CONFIG, "file": "/etc/foldback.yaml", "needs_restart": [], "effective": {"listen": ["127.0.0.1:8080"]}},
            ("POST", "/v1/reload"): (200, {"verb": "reload", "is_in_force": True, "file": "/etc/foldback.yaml", "needs_restart": []}),
            ("POST", "/v1/drain"): lambda q, b: self.drain(b, True),
            ("POST", "/v1/undrain"): lambda q, b: self.drain(b, False),
        }
        for verb in ("freeze", "unfreeze", "reset", "mode"):
            self.answers[("POST", f"/v1/{verb}")] = lambda q, b, v=verb: (202, {
                "verb": v, "target": target("all", 65535, "all"), "loop": json.loads(b).get("loop", "all"),
                "knob": "all"})

    def drain(self, body, is_drained):
        for e in self.endpoints:
            if e["name"] == json.loads(body)["endpoint"]:
                e["is_drained"] = is_drained
        return 202, {"verb": "drain" if is_drained else "undrain", "target": target("endpoint", 0, "x"), "loop": "all",
                     "knob": "all"}

    def knob_call(self, method, path, body):
        parts = [urllib.parse.unquote(p) for p in path.split("/")]
        row = next((k for k in self.knobs if k["knob"] == parts[3] and k["target"]["name"] == parts[4]), None)
        if row is None:
            return problem(404, f"knob {parts[3]} has no target \"{parts[4]}\"; it belongs to each endpoint",
                           "List what there is with `foldback status` or `foldback get`.")
        if method == "PUT":
            value = json.loads(body)["value"]
            if not row["hard_min"] <= value <= row["hard_max"]:
                return problem(422, f"value must be a number from {row['hard_min']:g} to {row['hard_max']:g} {row['unit']}",
                               "Use a value inside the range that the message names.", "RANGE")
            row.update(pinned=value, value=value, source="pinned")
        if method == "DELETE":
            row.update(pinned=None, value=row["learned"] or row["safe"],
                       source="learned" if row["learned"] else "safe")
        return row

    def answer(self, method, path, query, body):
        if path.startswith("/v1/knobs/"):
            return self.knob_call(method, path, body)
        found = self.answers.get((method, path))
        if found is None:
            return problem(404, f"no such path {path}")
        return found(query, body) if callable(found) else found

    def __enter__(self):
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def run(self):
                url = urllib.parse.urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                fake.asked.append((self.command, self.path, body))
                if self.headers.get("authorization") != f"Bearer {TOKEN}":
                    got = problem(401, "the token is wrong", "Use the token file.", "DENIED")
                else:
                    got = fake.answer(self.command, url.path, urllib.parse.parse_qs(url.query), body)
                status, data = got if isinstance(got, tuple) else (200, got)
                raw = (data if isinstance(data, str) else json.dumps(data)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Connection", "close")
                if not isinstance(data, str) or status != 200:
                    self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_PUT = do_POST = do_DELETE = run

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        token_file = os.path.join(self.state, "admin.token")
        with open(token_file, "w") as f:
            f.write(TOKEN + "\n")
        with open(os.path.join(self.state, "admin.json"), "w") as f:
            json.dump({"address": self.address, "token_file": token_file, "pid": os.getpid()}, f)
        return self

    def __exit__(self, *args):
        self.server.shutdown()
        self.server.server_close()

    def run(self, *args, **more):
        """The command against this server."""
        return run(*args, "--state", self.state, **more)

    def clean(self, text):
        """Without what differs from run to run."""
        return text.replace(self.address, "ADDRESS").replace(self.state, "STATE")


def run(*args, timeout_s=20, env=None, cwd=None, stdin=""):
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    clean.update(TERM="xterm", LC_ALL="C.UTF-8", **(env or {}))
    return subprocess.run([program(), *args], capture_output=True, text=True, timeout=timeout_s, env=clean, cwd=cwd,
                          input=stdin)


def golden(name, text):
    """Compares with golden/NAME.txt, or writes it."""
    path = os.path.join(GOLDEN, name + ".txt")
    if os.environ.get("FB_GOLDEN") == "1":
        os.makedirs(GOLDEN, exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return
    assert os.path.exists(path), f"{path} is missing: run once with FB_GOLDEN=1 and read it"
    with open(path) as f:
        want = f.read()
    assert text == want, f"differs from {path}; if that is meant, run with FB_GOLDEN=1 and read the difference"


def picture(done, args, clean=lambda t: t):
    """What a golden file holds: the command, its exit code and both outputs."""
    out = f"$ foldback {' '.join(args)}\nexit {done.returncode}\n"
    for title, text in (("stdout", done.stdout), ("stderr", done.stderr)):
        if text:
            out += f"--- {title}\n{clean(text)}"
    return out
