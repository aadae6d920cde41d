# SPDX-License-Identifier: Apache-2.0
"""Facts per version of a service: two endpoints of two versions, real requests, what API, CLI and /metrics say."""
import http.client
import json
import os
import re
import sys

import pytest
from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import metrics  # noqa: E402
from fb import Foldback, Load, until  # noqa: E402

FAILS = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def config(stable, canary, version="canary"):
    return f"""mode: observe
upstream: {{ retries: 0 }}
services:
  app:
    endpoints:
      - "127.0.0.1:{stable.port}"
      - {{ address: "127.0.0.1:{canary.port}", version: {version} }}
    balance: round-robin
    eject: false
    objective: {{ latency: 99% < 250ms }}
routes:
  - {{ match: /, service: app }}
"""


def versions(fold, window="10s"):
    return {v["name"]: v for v in fold.api("GET", "/v1/versions?window=" + window)["versions"]}


def counted(fold, version, code_class):
    m = re.search(r'^foldback_version_requests_total\{service="app",version="%s",code_class="%s"\} (\d+)$'
                  % (version, code_class), metrics(fold), re.M)
    return int(m[1]) if m else None


def names(fold):
    lines = fold.cli("events", "tail", "--from-offset", "0", "--limit", "1000", "--type", "name").stdout.splitlines()
    return [(e["name"], e["is_gone"]) for e in map(json.loads, lines)]


@pytest.fixture
def two(tmp_path):
    """A stable endpoint that answers and a canary that fails each time."""
    stable, canary = Origin(lambda request, wire: ok()), Origin(lambda request, wire: FAILS)
    fold = Foldback(tmp_path, config(stable, canary)).start()
    yield fold, stable, canary
    fold.stop()
    stable.close()
    canary.close()


def test_each_version_has_its_own_facts(two):
    fold, stable, canary = two
    load = Load(fold.port, threads=4, pause_s=0.005)
    try:
        until(lambda: all((versions(fold).get(n) or {"facts": {"error_ratio": None}})["facts"]["error_ratio"] is not None
                          for n in ("app stable", "app canary")), 15, "facts of both versions")
    finally:
        load.stop()
    seen = versions(fold)
    assert set(seen) == {"app stable", "app canary"}
    assert seen["app stable"]["facts"]["error_ratio"] == 0
    assert seen["app canary"]["facts"]["error_ratio"] == 1
    assert seen["app canary"]["service"] == "app" and seen["app canary"]["version"] == "canary"
    assert seen["app stable"]["endpoints"] == seen["app canary"]["endpoints"] == 1
    # facts of one scope, by name; every request that an endpoint saw is in the count of its version
    scope = "/v1/facts?window=60s&scope=version:app%20stable"
    until(lambda: fold.api("GET", scope)["facts"]["latency_p99"]["n"] == len(stable.requests), 5, "all answers in the facts")
    facts = fold.api("GET", scope)
    assert facts["scope"]["kind"] == "version" and facts["scope"]["name"] == "app stable"
    assert counted(fold, "stable", "2xx") == len(stable.requests)
    assert counted(fold, "canary", "5xx") == len(canary.requests)
    assert counted(fold, "canary", "2xx") == 0
    ends = {e["name"].split(":")[-1]: e["version"] for e in fold.api("GET", "/v1/endpoints")["endpoints"]}
    assert ends == {str(stable.port): "stable", str(canary.port): "canary"}
    text = fold.cli("status").stdout
    assert re.search(r"^VERSION .*\n(.*\n)*?app stable +1 ", text, re.M), text
    assert re.search(r"^app canary .* 100.0 %", text, re.M), text
    told = {v["name"]: v["facts"]["error_ratio"] for v in json.loads(fold.cli("status", "--json").stdout)["versions"]}
    assert told["app canary"] == 1


def test_a_reload_that_promotes_the_canary_ends_its_version(two):
    fold, stable, canary = two
    until(lambda: set(versions(fold)) == {"app stable", "app canary"}, 5, "both versions")
    with open(fold.file) as f:
        text = f.read()
    with open(fold.file, "w") as f:
        f.write(text.replace("version: canary", "version: stable"))
    fold.api("POST", "/v1/reload")
    until(lambda: set(versions(fold)) == {"app stable"}, 5, "one version")
    assert versions(fold)["app stable"]["endpoints"] == 2
    before = counted(fold, "stable", "5xx")
    for _ in range(4):
        fold.get()
    until(lambda: counted(fold, "stable", "5xx") == before + 2, 5, "failures count for the version of now")
    # names are told in order: a version before its first endpoint, its end after its last
    until(lambda: ("app canary", 1) in names(fold), 5, "the end of the version")
    told = names(fold)
    assert told.index(("app canary", 0)) < told.index(("app 127.0.0.1:%d" % canary.port, 0))
    assert told[-2:] == [("app 127.0.0.1:%d" % canary.port, 0), ("app canary", 1)]


def test_versions_keep_their_numbers_when_the_brain_and_the_gateway_die(two):
    fold, stable, canary = two
    until(lambda: len(versions(fold)) == 2, 5, "both versions")
    before = {n: v["number"] for n, v in versions(fold).items()}
    for who in ("fb-brain", "fb-gateway"):
        pid = fold.child(who)
        assert pid, who
        os.kill(pid, 9)
        until(lambda p=pid, w=who: fold.child(w) not in (None, p), 5, who)

    def back():
        try:
            return fold.get() in (200, 500) and {n: v["number"] for n, v in versions(fold).items()} == before
        except (OSError, AssertionError, http.client.HTTPException):
            return False
    until(back, 10, "the same versions")
    had = counted(fold, "stable", "2xx") + counted(fold, "canary", "5xx")
    for _ in range(6):
        fold.get()
    until(lambda: counted(fold, "stable", "2xx") + counted(fold, "canary", "5xx") >= had + 6, 5, "requests of both")
