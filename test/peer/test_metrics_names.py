# SPDX-License-Identifier: Apache-2.0
"""/metrics holds the families of src/output/metrics.def, no fewer, no more, with their types and help."""
import http.client
import json
import os
import re
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "fault"))
from fb import ROOT, Foldback, Load, Origin, free_port  # noqa: E402

ROW = re.compile(r'^METRIC\((\w+), \w+, "([^"]+)", "([^"]*)", "[^"]*", "([^"]*)"', re.M)
with open(os.path.join(ROOT, "src", "output", "metrics.def")) as metrics_def:
    FAMILIES = {m[2]: (m[1], m[3], m[4]) for m in ROW.finditer(metrics_def.read())}


@pytest.fixture(scope="module")
def scrape(tmp_path_factory):
    origin = Origin()
    fold = Foldback(tmp_path_factory.mktemp("metrics"), f'''upstream: {{ retries: 0 }}
limits: {{ body_bytes: 1KiB }}
services:
  app: {{ endpoints: ["127.0.0.1:{origin.port}"], objective: {{ latency: 99% < 500ms }} }}
  dead: {{ endpoints: ["127.0.0.1:{free_port()}"] }}
  door: {{ endpoints: ["127.0.0.1:{origin.port}"] }}
routes:
  - {{ match: /dead/, service: dead }}
  - {{ match: /door/, service: door }}
  - {{ match: /app/, service: app, priority: critical }}
  - {{ match: /, service: app }}
''').start()
    try:
        load = Load(fold.port, threads=3)
        fold.api("PUT", "/v1/knobs/shed_threshold/door/pin", {"value": 128, "why": "test"})
        time.sleep(1)
        assert {fold.get("/app/x"), fold.get("/y")} == {200}
        assert fold.get("/dead/") == 502 and fold.get("/door/") == 503
        time.sleep(2)
        load.stop()
        time.sleep(0.5)
        with open(os.path.join(fold.state, "admin.json")) as f:
            address = json.load(f)["address"]
        texts = {}
        for accept in ("text/plain", "application/openmetrics-text"):
            c = http.client.HTTPConnection(address, timeout=5)
            c.request("GET", "/metrics", headers={"Accept": accept})
            r = c.getresponse()
            assert r.status == 200
            texts[accept] = r.read().decode()
            c.close()
        yield texts
    finally:
        fold.stop()
        origin.stop()


def lines_of(text, word):
    return {m[1]: m[2] for m in re.finditer(r"^# %s (\S+) (.*)$" % word, text, re.M)}


def test_each_family_of_the_table_is_there_and_no_other(scrape):
    assert set(lines_of(scrape["text/plain"], "TYPE")) == set(FAMILIES)
    assert set(lines_of(scrape["text/plain"], "HELP")) == set(FAMILIES)


def test_types_and_help_are_those_of_the_table(scrape):
    types, help_texts = lines_of(scrape["text/plain"], "TYPE"), lines_of(scrape["text/plain"], "HELP")
    for name, (kind, _, what) in FAMILIES.items():
        assert types[name] == {"INFO": "gauge"}.get(kind, kind.lower()), name
        assert help_texts[name] == what, name


def test_open_metrics_has_the_same_families(scrape):
    text = scrape["application/openmetrics-text"]
    assert text.endswith("# EOF\n")
    strip = {re.sub("_total$", "", n) if k == "COUNTER" else re.sub("_info$", "", n) if k == "INFO" else n
             for n, (k, _, _) in FAMILIES.items()}
    assert set(lines_of(text, "TYPE")) == strip


def test_each_sample_has_the_labels_of_its_row(scrape):
    for line in scrape["text/plain"].splitlines():
        if line.startswith("#"):
            continue
        name, labels = re.match(r"^([a-z_0-9]+)(?:\{(.*)\})? ", line).groups()
        family = name if name in FAMILIES else re.sub("_(bucket|sum|count)$", "", name)
        assert family in FAMILIES, line
        got = [x for x in re.findall(r'(\w+)="', labels or "") if x != "le"]
        assert got == [x for x in FAMILIES[family][1].split(",") if x], line


def test_traffic_of_every_kind_is_counted(scrape):
    text = scrape["text/plain"]

    def value(pattern):
        found = re.findall(r"^%s\S* (\S+)$" % pattern, text, re.M)
        assert found, pattern
        return sum(float(x) for x in found)
    assert value(r'foldback_requests_total\{[^}]*code_class="2xx"') > 100
    assert value(r'foldback_request_ends_total\{reason="connect_refused"') >= 1
    assert value(r'foldback_shed_total\{service="door",reason="shed_priority"') >= 1
    assert value(r'foldback_class_requests_total\{service="app",class="critical"') >= 1
    assert value(r'foldback_knob_pinned\{knob="shed_threshold"') == 1
    assert value("foldback_log_up") == 1
    assert value("foldback_events_total") > 100
    assert value("foldback_events_lost_total") == 0
