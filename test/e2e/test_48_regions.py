# SPDX-License-Identifier: Apache-2.0
"""Regions: what is tagged goes to receivers of its region only.

The filter stands in the runner, before a connector of any type gets a byte (stream/connectors/runner.c), so the file
type proves it for all; that each type takes `region` and is refused without it is asked per type."""
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import Origin, ok

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
    assert fold.get("/news/1", timeout_s=30) == 200
    done = fold.cli("events", "export", "--region", "us")
    assert done.returncode != 0 and done.stdout == "" and "no service or route has a region" in done.stderr
    fold.stop()
    origin.close()
