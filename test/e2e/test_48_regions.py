# SPDX-License-Identifier: Apache-2.0
"""Regions: what is tagged goes to receivers of its region only.

The filter stands in the runner, before a connector of any type gets a byte (stream/connectors/runner.c), so the file
type proves it for all; that each type takes `region` and is refused without it is asked per type."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import Origin, ok
from test_53_signals import VERSIONS, Shop, reload, taken_back
from test_53_signals import config as shop_config

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Foldback, until  # noqa: E402

TYPES = re.findall(r"^CONNECTOR\((\w+),", open(os.path.join(os.path.dirname(BIN), "..", "src", "conf", "connectors.def"))
                   .read(), re.M)


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [json.loads(x) for x in f if x.endswith("\n")]


def config(origin, folder, shop_region="region: eu, "):
    sink = "{ type: file, path: %s, delay: 50ms, from: start%s }"
    return """mode: act
region: eu
services:
  shop: { %sendpoints: ["127.0.0.1:%d"] }
  blog: { endpoints: ["127.0.0.1:%d"] }
routes:
  - { match: /shop/, service: shop }
  - { match: /account/, service: blog, region: eu }
  - { match: /, service: blog }
connectors:
  home: %s
  abroad: %s
""" % (shop_region, origin.port, origin.port, sink % (folder / "home.jsonl", ", region: eu"),
       sink % (folder / "abroad.jsonl", ", region: us"))


def requests_of(path, service):
    """Requests of a service in a file, by the names in the same file: numbers of what stayed at home have none there."""
    numbers = {e["number"] for e in lines(path) if e["type"] == "name" and e["kind"] == 2 and e["name"] == service}
    return [e for e in lines(path) if e["type"] == "request" and e["service"] in numbers]


def test_tagged_events_reach_only_receivers_of_their_region(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, config(origin, tmp_path)).start()
    home, abroad = str(tmp_path / "home.jsonl"), str(tmp_path / "abroad.jsonl")
    for i in range(10):
        for path in ("/shop/", "/account/", "/news/"):
            assert fold.get(f"{path}{i}", timeout_s=30) == 200
    until(lambda: len(requests_of(home, "blog")) >= 20 and len(requests_of(home, "shop")) >= 10, 60, "all at home")
    last = max(e["offset"] for e in lines(home))
    until(lambda: max((e["offset"] for e in lines(abroad)), default=0) > last, 60, "abroad is as far")
    routes = {e["number"]: e["name"] for e in lines(home) if e["type"] == "name" and e["kind"] == 1}
    seen = [e for e in lines(abroad) if e["type"] == "request"]
    assert len(seen) == 10 and {routes[e["route"]] for e in seen} == {"blog /"}
    text = open(abroad).read()
    for word in ("shop", "/account/"):  # no name, sample, health, decision or configuration of it either
        assert word not in text, word
    # an export for abroad is what the receiver abroad got; the region is that of now
    def exported(*args):
        done = fold.cli("events", "export", *args)
        return done.returncode, done.stdout, done.stderr
    code, out, _ = exported("--region", "us")
    assert code == 0 and "shop" not in out and "/account/" not in out
    rows = [json.loads(x) for x in out.splitlines()]
    assert [e["offset"] for e in rows if e["type"] == "request"] == [e["offset"] for e in seen]
    assert {e["type"] for e in rows} >= {"request", "tick", "name"} and "config" not in {e["type"] for e in rows}
    code, out, _ = exported("--region", "eu", "--types", "request")
    assert code == 0 and len(out.splitlines()) == 30
    code, out, _ = exported("--region", "us", "--types", "request", "--format", "csv", "--dir", fold.state)
    assert code == 0 and len(out.splitlines()) == 11
    # a service that gets a region while foldback runs: nothing of it goes out any more
    with open(fold.file) as f:
        text = f.read()
    with open(fold.file, "w") as f:
        f.write(text.replace("blog: { endpoints", "blog: { region: eu, endpoints"))
    assert fold.cli("reload").returncode == 0
    until(lambda: "region: eu, endpoints" in fold.cli("config", "show", "--timeout", "60").stdout.split("blog:")[-1], 30,
          "the new configuration")
    before = len([e for e in lines(home) if e["type"] == "request"])
    for i in range(5):
        assert fold.get(f"/news/late{i}", timeout_s=30) == 200
    until(lambda: len([e for e in lines(home) if e["type"] == "request"]) >= before + 5, 60, "at home")
    last = max(e["offset"] for e in lines(home))
    until(lambda: max(e["offset"] for e in lines(abroad)) >= last - 20, 60, "abroad is as far")
    assert len([e for e in lines(abroad) if e["type"] == "request"]) == 10
    assert exported("--region", "us", "--types", "request")[:2] == (0, "")  # its past too
    fold.stop()
    origin.close()


@pytest.mark.parametrize("kind", [t for t in TYPES if t != "prometheus"])  # which only reads
def test_each_type_of_connector_is_refused_without_a_region_beside_tagged_services(tmp_path, kind):
    file = tmp_path / "c.yaml"
    file.write_text('listen: ["127.0.0.1:1"]\nregion: eu\nservices:\n  shop: { endpoints: ["10.0.0.1:80"], region: eu }\n'
                    "routes:\n  - { match: /, service: shop }\nconnectors:\n  out: { type: %s }\n" % kind)
    done = subprocess.run([BIN, "config", "check", str(file)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "say where its receiver is with `region: eu`" in done.stdout + done.stderr
    file.write_text(file.read_text().replace("type: %s" % kind, "type: %s, region: eu" % kind))
    done = subprocess.run([BIN, "config", "check", str(file)], capture_output=True, text=True, timeout=30)
    assert "receiver" not in done.stdout + done.stderr


HEAD = 'listen: ["127.0.0.1:1"]\nregion: eu\nservices:\n  shop: { endpoints: ["10.0.0.1:80"], region: eu }\n'
BAD_HANDLER = "handlers:\n  hook: { url: 'https://hooks.example.com/x' }\n"
GOOD_SINK = "connectors:\n  out: { type: file, path: /tmp/x, region: eu }\n"


@pytest.mark.parametrize("text,line,name", [(HEAD + BAD_HANDLER, 6, "handlers.hook"), (HEAD + BAD_HANDLER + GOOD_SINK, 6, "handlers.hook"),
                                            (HEAD + GOOD_SINK + BAD_HANDLER, 8, "handlers.hook"),
                                            (HEAD + BAD_HANDLER + GOOD_SINK.replace(", region: eu", ""), 8, "connectors.out")])
def test_a_handler_is_refused_without_a_region_beside_tagged_services(tmp_path, text, line, name):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    done = subprocess.run([BIN, "config", "check", str(file)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert re.search(r"c\.yaml:%d:\d+: error: %s sends events, and some services are of a region: .*`region: eu`" % (line, name),
                     done.stderr), done.stderr
    file.write_text(text.replace("/x' }", "/x', region: eu }").replace("/tmp/x }", "/tmp/x, region: eu }"))
    done = subprocess.run([BIN, "config", "check", str(file)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_an_export_for_a_region_is_refused_where_nothing_has_one(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, config(origin, tmp_path, "").replace(", region: eu }", " }").replace(", region: eu", "")
                    .replace(", region: us", "")).start()
    until(lambda: fold.cli("events", "export", "--types", "config").stdout, 60, "the log holds the configuration")
    done = fold.cli("events", "export", "--region", "us")
    assert done.returncode != 0 and done.stdout == "" and "no service or route has a region" in done.stderr
    fold.stop()
    origin.close()


def test_an_export_for_a_region_does_not_go_on_over_a_hole_that_may_hide_the_configuration(tmp_path):
    origin = Origin(lambda r, w: ok())
    fold = Foldback(tmp_path, config(origin, tmp_path)).start()

    def recorded():
        return len(fold.cli("events", "export", "--types", "request").stdout.splitlines())

    def damage(state):
        """In the block in the middle of what a file of the log has."""
        with open(max(glob.glob(state + "/log/*.fbl"), key=os.path.getsize), "r+b") as f:
            data = f.read().rstrip(b"\0")
            at = len(data) // 2
            f.seek(at)
            f.write(bytes([data[at] ^ 0x55]))

    for i in range(6):  # some commits of the log
        for k in range(5):
            assert fold.get(f"/news/{k}", timeout_s=30) == 200
        until(lambda: recorded() == (i + 1) * 5, 60, "they are in the log")
    fold.stop()
    state = str(tmp_path / "copy")
    shutil.copytree(fold.state + "/log", state + "/log")  # without the snapshots: the log alone
    done = fold.cli("events", "export", "--region", "us", "--dir", state)
    assert done.returncode == 0 and done.stdout, done.stderr
    damage(state)
    done = fold.cli("events", "export", "--region", "us", "--dir", state)
    assert done.returncode == 1 and done.stdout == "", done.stdout
    assert "a stored block is damaged. The newest configuration may be missing: repair first with `foldback log repair`" in done.stderr
    # a start writes it again, behind the hole: nothing is hidden
    again = Foldback(tmp_path, config(origin, tmp_path).replace("blog: { ", "blog: { region: eu, "), state=state).start()
    try:
        until(lambda: "region: eu, endpoints" in "".join(
            e["text"] for e in map(json.loads, again.cli("events", "export", "--types", "config").stdout.splitlines())), 60,
            "the configuration is in the log")
    finally:
        again.stop()
        origin.close()
    alone = str(tmp_path / "alone")
    shutil.copytree(state + "/log", alone + "/log")
    done = fold.cli("events", "export", "--region", "us", "--dir", alone, "--types", "request")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_what_is_told_of_a_signal_stays_at_home(tmp_path):
    """The alert of a release that harms the orders of a shop has no target: its region is that of the node."""
    stable, canary = Origin(lambda r, w: ok(b"stable")), Origin(lambda r, w: ok(b"canary"))

    def text(share):
        sink = "{ type: file, path: %s, region: %s, delay: 50ms, from: start }"
        return (shop_config(stable, canary, share, VERSIONS).replace("  shop:\n", "  shop:\n    region: eu\n")
                + "region: eu\nconnectors:\n  home: %s\n  abroad: %s\n"
                % (sink % (tmp_path / "home.jsonl", "eu"), sink % (tmp_path / "abroad.jsonl", "us")))

    fold = Foldback(tmp_path, text(0)).start()
    home, abroad = str(tmp_path / "home.jsonl"), str(tmp_path / "abroad.jsonl")

    def told(path):
        return [e for e in lines(path) if e["type"] == "alert" and "orders" in e["text"]]
    try:
        shop = Shop(fold, names=True)
        until(lambda: shop.orders > 150, 120, "some seconds of orders")
        reload(fold, text(30))
        until(lambda: taken_back(fold, "release_version_harmed"), 240, "the release is taken back")
        shop.stop()
        until(lambda: told(home), 60, "the alert is at home")
        last = told(home)[0]["offset"]
        until(lambda: max((e["offset"] for e in lines(abroad)), default=0) > last, 60, "abroad is as far")
        with open(abroad) as f:
            assert "orders" not in f.read()
        done = fold.cli("events", "export", "--region", "us", timeout_s=120)
        assert done.returncode == 0 and '"tick"' in done.stdout and "orders" not in done.stdout, done.stderr
        done = fold.cli("events", "export", "--region", "eu", "--types", "alert", timeout_s=120)
        assert done.returncode == 0 and "orders: " in done.stdout, done.stderr
    finally:
        fold.stop()
        stable.close()
        canary.close()
