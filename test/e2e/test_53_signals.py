# SPDX-License-Identifier: Apache-2.0
"""Signals: orders that an application POSTs, a release that sells less, and what foldback does about it.

A baseline needs a minute, so the first story is a long one; the second needs none."""
import http.client
import json
import os
import re
import sys
import threading
import time

from conftest import Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import metrics  # noqa: E402
from fb import Foldback, until  # noqa: E402


VERSIONS = ", compare: versions"


def config(stable, canary, share, more=""):
    return f"""mode: act
upstream: {{ retries: 0 }}
services:
  shop:
    endpoints:
      - "127.0.0.1:{stable.port}"
      - {{ address: "127.0.0.1:{canary.port}", version: canary }}
    eject: false
routes:
  - {{ match: /, service: shop, key: header X-User, split: {{ stable: {100 - share}%, canary: {share}% }} }}
signals:
  orders: {{ event: orders.placed, service: shop, better: higher, harm: 10%{more} }}
  page_speed: {{ event: web.lcp, value: p75, better: lower }}
"""


class Shop:
    """Visitors come one after the other; every second one buys, but for those who got the canary.
    With <names> each order says the version that took it, and one of nine visitors of the canary buys."""

    def __init__(self, fold, names=False):
        self.fold, self.names, self.is_on, self.orders, self.answers = fold, names, True, 0, 0
        with open(os.path.join(fold.state, "admin.json")) as f:
            self.admin = json.load(f)["address"]
        self.token = fold.cli("token", "ingest").stdout.strip()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def post(self, events):
        c = http.client.HTTPConnection(self.admin, timeout=20)
        try:
            c.request("POST", "/v1/ingest", json.dumps(events),
                      {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
            assert c.getresponse().status == 202
        finally:
            c.close()

    def serve(self):
        c = http.client.HTTPConnection("127.0.0.1", self.fold.port, timeout=20)
        while self.is_on:
            bought = []
            for _ in range(10):
                try:
                    c.request("GET", "/", headers={"X-User": f"u{self.answers % 997}"})
                    who = c.getresponse().read()
                except (OSError, http.client.HTTPException):
                    c.close()
                    continue
                self.answers += 1
                if self.answers % 2 and (who == b"stable" or self.names and self.answers % 9 == 0):
                    bought.append(who.decode())
                time.sleep(0.01)
            self.orders += len(bought)
            order = {"name": "orders.placed", "value": 19.9}
            self.post([dict(order, version=v) if self.names else order for v in bought] + [{"name": "web.lcp", "value": 1200}])
        c.close()

    def stop(self):
        self.is_on = False
        self.thread.join(30)
        assert not self.thread.is_alive()


def reload(fold, text):
    with open(fold.file) as f:
        head = f.read().split("mode: act")[0]
    with open(fold.file, "w") as f:
        f.write(head + text)
    assert "error" not in fold.api("POST", "/v1/reload")


def split(fold):
    return next(k for k in fold.api("GET", "/v1/knobs")["knobs"] if k["knob"] == "split_pct")


def taken_back(fold, reason="release_harmed"):
    return [d for d in fold.api("GET", "/v1/decisions?loop=release")["decisions"] if d["reason"] == reason]


def test_a_release_that_sells_less_is_taken_back_and_a_replay_says_the_same(tmp_path):
    stable, canary = Origin(lambda r, w: ok(b"stable")), Origin(lambda r, w: ok(b"canary"))
    fold = Foldback(tmp_path, config(stable, canary, 0)).start()
    try:
        shop = Shop(fold)
        begin = time.monotonic()
        until(lambda: time.monotonic() - begin > 75 and shop.orders > 50, 180, "a minute of orders")
        assert not taken_back(fold)
        reload(fold, config(stable, canary, 60))
        assert split(fold)["value"] == 60
        until(lambda: taken_back(fold), 240, "the release is taken back")
        d = fold.api("GET", "/v1/decisions/%d" % taken_back(fold)[0]["id"])
        assert d["from"] == 60 and d["to"] == 0 and d["is_applied"]
        assert split(fold)["value"] == 0
        why = fold.cli("why", str(d["id"])).stdout
        assert "because signal orders went from" in why and "route shop /" in why, why
        alerts = [a for a in fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_signal_harmed"]
        assert len(alerts) == 1 and "the share went back" in alerts[0]["text"]
        # the gateway follows: the canary is asked no more
        before = len(canary.requests)
        had = shop.answers
        until(lambda: shop.answers > had + 200, 60, "more visitors")
        assert len(canary.requests) <= before + 20
        # where people see it
        seen = {x["name"]: x for x in fold.api("GET", "/v1/signals")["signals"]}
        assert seen["orders"]["state"] in ("harmed", "ok")
        assert seen["page_speed"]["minute"] and len(seen["orders"]["points"]) == 60
        assert re.search(r"^SIGNAL +NOW .*\norders ", fold.cli("status").stdout, re.M)
        assert "rate of the events orders.placed, of service shop" in fold.cli("why", "orders").stdout
        assert 'foldback_signal{signal="orders"}' in metrics(fold) and "foldback_signal_usual" in metrics(fold)
        assert 'foldback_signal_state{signal="orders",state="unusual"}' in metrics(fold)
        shop.stop()
    finally:
        fold.stop()
        stable.close()
        canary.close()
    done = fold.cli("replay", "--verify", "--json", timeout_s=120)
    verdict = json.loads(done.stdout)
    assert done.returncode == 0 and verdict["differing"] == 0, verdict
    assert verdict["recorded"] == verdict["derived"] > 0


def test_a_version_whose_own_orders_are_fewer_is_taken_back_without_a_baseline(tmp_path):
    stable, canary = Origin(lambda r, w: ok(b"stable")), Origin(lambda r, w: ok(b"canary"))
    fold = Foldback(tmp_path, config(stable, canary, 0, VERSIONS)).start()
    try:
        shop = Shop(fold, names=True)
        until(lambda: shop.orders > 150, 120, "some seconds of orders")  # the loop looks once a second
        reload(fold, config(stable, canary, 30, VERSIONS))
        assert split(fold)["value"] == 30
        until(lambda: "compared with" in fold.cli("why", "orders").stdout or taken_back(fold, "release_version_harmed"), 60, "why says with what")
        until(lambda: taken_back(fold, "release_version_harmed"), 240, "the release is taken back")
        d = fold.api("GET", "/v1/decisions/%d" % taken_back(fold, "release_version_harmed")[0]["id"])
        assert d["from"] == 30 and d["to"] == 0 and d["is_applied"] and split(fold)["value"] == 0
        why = fold.cli("why", str(d["id"])).stdout
        assert re.search(r"because signal orders is 0\.\d+ with the new version and 0\.\d+ with the old one, in the \d+ s", why), why
        assert not taken_back(fold)
        # the label is part of the name in the log; facts are those of the name without it
        facts = json.dumps(fold.api("GET", "/v1/custom"))
        assert '"orders.placed"' in facts and "orders.placed@" not in facts
        rows = fold.cli("events", "query", "SELECT DISTINCT name FROM custom WHERE name LIKE 'orders.%'").stdout
        assert "orders.placed@stable" in rows and "orders.placed@canary" in rows, rows
        shop.stop()
    finally:
        fold.stop()
        stable.close()
        canary.close()
    done = fold.cli("replay", "--verify", "--json", timeout_s=120)
    verdict = json.loads(done.stdout)
    assert done.returncode == 0 and verdict["differing"] == 0 and verdict["recorded"] > 0, verdict
