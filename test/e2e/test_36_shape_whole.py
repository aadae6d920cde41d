# SPDX-License-Identifier: Apache-2.0
"""Shaping in the whole program: what people and machines are told of it, and the knob of a split."""
import os
import socket
import sys
import time

from conftest import Origin, Wire, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import metrics  # noqa: E402
from fb import Foldback, until  # noqa: E402


def get(fold, path, *fields):
    s = socket.create_connection(("127.0.0.1", fold.port), 8)
    w = Wire(s).send("GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n"
                     % (path, "".join(f + "\r\n" for f in fields)))
    m = w.response()
    w.close()
    return m


def value_of(text, line_start):
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(line_start))


def shop(tmp_path, extra=""):
    stable, canary = Origin(lambda r, w: ok("stable")), Origin(lambda r, w: ok("canary"))
    config = extra + ("services:\n  shop:\n    endpoints: [{ address: \"127.0.0.1:%d\", version: stable }, "
                      "{ address: \"127.0.0.1:%d\", version: canary }]\n"
                      "routes:\n  - { match: /limited/, service: shop, rate_limits: [{ rate: 1/h, burst: 2 }] }\n"
                      "  - { match: /, service: shop, key: header X-U, split: { stable: 100%%, canary: 0%%, header: V } }\n"
                      % (stable.port, canary.port))
    return Foldback(tmp_path, config).start(), (stable, canary)


def test_an_operator_moves_users_and_is_told_what_was_limited(tmp_path):
    fold, origins = shop(tmp_path)
    try:
        def share():
            return sum(get(fold, "/", "X-U: %d" % i).body == b"canary" for i in range(40)) / 40
        assert share() == 0
        fold.api("PUT", "/v1/knobs/split_pct/shop%20%2F/pin", {"value": 50, "why": "half"})
        until(lambda: 0.2 < share() < 0.8, 5, "half of the users move")
        before = [get(fold, "/", "X-U: %d" % i).body for i in range(40)]
        fold.api("PUT", "/v1/knobs/split_pct/shop%20%2F/pin", {"value": 80, "why": "more"})
        until(lambda: share() > 0.6, 5, "more move")
        after = [get(fold, "/", "X-U: %d" % i).body for i in range(40)]
        assert all(a == b or a == b"canary" for a, b in zip(after, before))
        assert [get(fold, "/limited/").status for _ in range(4)] == [200, 200, 429, 429]
        refused = get(fold, "/limited/")
        time.sleep(0.5)
        text = metrics(fold)
        assert value_of(text, 'foldback_rate_limited_total{route="shop /limited/",service="shop",reason="rate_limited"}') == 3
        assert value_of(text, "foldback_rate_limit_forgotten_total") == 0
        route = next(r for r in fold.api("GET", "/v1/routes")["routes"] if r["name"] == "shop /limited/")
        assert (route["limited"], route["split_fallbacks"]) == (3, 0)
        why = fold.api("GET", "/v1/why?q=" + refused.get("x-request-id"))
        assert any("rate_limits" in s for s in why["sentences"])
        why = fold.api("GET", "/v1/why?q=shop%20%2Flimited%2F")
        assert any("Rate limits and quotas: 3 over rate" in s for s in why["sentences"])
        chosen = get(fold, "/", "V: canary")
        time.sleep(0.3)
        why = fold.api("GET", "/v1/why?q=" + chosen.get("x-request-id"))
        assert any("split of its route chose shop canary" in s for s in why["sentences"])
    finally:
        fold.stop()
        for o in origins:
            o.close()


def test_people_see_what_foldback_itself_runs_short_of(tmp_path):
    fold, origins = shop(tmp_path, "overload: { mode: observe, memory_limit: 1MiB }\n")
    try:
        until(lambda: fold.api("GET", "/v1/status")["own_load"]["stage"] == "pause", 5, "own_load")
        status = fold.api("GET", "/v1/status")
        assert status["own_load"]["used"]["memory"] > 1
        def findings():
            return [f for f in fold.api("GET", "/v1/doctor")["findings"] if "memory" in f["text"]]
        until(findings, 5, "doctor")
        assert "runs short of memory" in findings()[0]["text"]
        text = metrics(fold)
        assert value_of(text, "foldback_own_stage") == 4
        assert value_of(text, 'foldback_own_pressure{resource="memory"}') == 1
        assert value_of(text, 'foldback_own_used_ratio{resource="memory"}') > 1
        assert get(fold, "/").status == 200  # observe refuses nobody
    finally:
        fold.stop()
        for o in origins:
            o.close()
