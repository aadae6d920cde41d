# SPDX-License-Identifier: Apache-2.0
"""What the tests of reasons share: the table, an endpoint that does what its path says, a client that looks."""
import json
import os
import re
import socket
import sys
import time

from conftest import Wire, ok
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import ROOT  # noqa: E402

REASONS = {}
with open(os.path.join(ROOT, "src", "event", "reasons.def")) as reasons_def:
    for m in re.finditer(r'^REASON\((\w+), \w+, (\w+), (\d+), (\d+), "([^"]*)"', reasons_def.read(), re.M):
        REASONS[m[2]] = {"kind": m[1], "id": int(m[3]), "status": int(m[4]), "token": m[5]}

LIMITS = """limits:
  line_bytes: 1KiB
  header_bytes: 4KiB
  header_count: 20
  body_bytes: 10KiB
  header_timeout: 300ms
  body_timeout: 400ms
  idle_timeout: 2s
  write_timeout: 1s
  tunnel_idle_timeout: 1s
  min_rate: 1000B/s
  min_rate_grace: 500ms
upstream: { connect_timeout: 300ms, timeout: 700ms, idle_timeout: 400ms, retries: 0 }
"""
WIDE = "tune: { limit: { min: 64, value: 64, max: 64 } }"
ONE = "tune: { limit: { min: 1, value: 1, max: 1 } }"


class Seen:
    """What a client saw."""

    def __init__(self, status=None, proxy_status=""):
        self.status, self.proxy_status = status, proxy_status or ""


def connect(fold, receive_bytes=0):
    s = socket.socket()
    if receive_bytes:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    s.settimeout(8)
    s.connect(("127.0.0.1", fold.port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Wire(s)


def look(wire, method="GET"):
    m = wire.response(method)
    return Seen(m.status, m.get("proxy-status"))


def send(fold, text):
    w = connect(fold)
    try:
        return look(w.send(text))
    finally:
        w.close()


def get(path, *fields):
    return "GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (path, "".join(f + "\r\n" for f in fields))


def post(path, *fields, body=""):
    return "POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n%s" % (path, "".join(f + "\r\n" for f in fields), body)


# ---- the endpoint: what it does is in the path ----

def no_tls(wire):
    """Somebody who speaks first, and no TLS; it hears the greeting out, as closing over it would be a reset."""
    wire.fill()
    wire.send("no TLS here\r\n")
    wire.rest()


def answer(request, wire):
    word = request.target.split("/")[2] if request.target.count("/") > 1 else ""
    if word.startswith("slow"):
        time.sleep(int(word[4:]) / 1000)
    elif word == "error":
        return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
    elif word == "forbidden":
        return b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    elif word == "close":
        return False
    elif word == "fresh":
        return ok("fresh", "Cache-Control: max-age=60")
    elif word == "asked" and request.get("if-none-match"):
        return b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n"
    elif word == "asked":
        return ok("old", "Cache-Control: no-cache", 'ETag: "1"')
    elif word == "old":
        return ok("old", "Cache-Control: max-age=0, stale-while-revalidate=60")
    elif word == "ages":
        return ok("aged", "Cache-Control: max-age=600", "Age: 599")
    elif word == "once":
        time.sleep(0.4)
        return ok("once", "Cache-Control: max-age=60")
    elif word == "cut":
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        return False
    elif word == "still":
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        time.sleep(1.5)
        return False
    elif word == "grpc14":
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n"
    elif word == "bad":
        return b"nonsense\r\n\r\n"
    elif word == "large":
        return b"HTTP/1.1 200 OK\r\nX: %s\r\nContent-Length: 0\r\n\r\n" % (b"x" * 8000)
    elif word == "much":
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            wire.send(b"x" * 1000000)
        return None
    elif word == "tunnel":
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while wire.fill():
            wire.send(wire.buffer)
            wire.buffer = b""
        return False
    return ok()


def service(name, address, parts):
    return '  %s: { endpoints: ["%s"], %s }\n' % (name, address, parts)


def all_events(fold, kind):
    """The whole log, from the file, page by page through the API while foldback runs."""
    done = fold.cli("events", "tail", "--from-offset", "0", "--type", kind, "--limit", "100000", "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(x) for x in done.stdout.splitlines()]


# Reasons of endpoints: test_20_reasons_health.py provokes each.
HEALTH = ["health_passive_errors", "health_passive_connect", "health_probe_failed", "health_probe_passed",
          "health_half_open", "health_recovered", "health_relapsed", "health_drained", "health_undrained",
          "health_added", "health_removed", "health_panic", "health_panic_over",
          "health_stalled", "health_unstalled"]
PLACES = ["health_agent_down", "health_agent_out", "health_agent_back", "health_agent_weight", "health_agent_lost",
          "health_zone_spill", "health_zone_home", "health_list_bad", "health_list_read"]
