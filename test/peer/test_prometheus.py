# SPDX-License-Identifier: Apache-2.0
"""/metrics under promtool, under the OpenMetrics parser, and scraped by a real Prometheus."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from test_admin_api import request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, until  # noqa: E402


def metrics(driver, accept="text/plain"):
    status, headers, text = request(driver, "GET", "/metrics", headers={"Accept": accept}, token=None)
    assert status == 200
    return headers["content-type"], text


def test_promtool_finds_nothing(driver):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    kind, text = metrics(driver)
    assert kind.startswith("text/plain; version=0.0.4")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_openmetrics_parses_and_carries_exemplars(driver):
    kind, text = metrics(driver, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    families = list(openmetrics.text_string_to_metric_families(text))
    names = {f.name for f in families}
    assert {"foldback_requests", "foldback_build", "foldback_endpoint_limit"} <= names
    duration = next(f for f in families if f.name == "foldback_request_duration_seconds")
    exemplars = [s.exemplar for s in duration.samples if s.exemplar]
    assert exemplars and all(len(e.labels["request_id"]) == 16 for e in exemplars)


def test_every_metric_is_in_the_reference_and_bounded(driver):
    _, text = metrics(driver)
    rows = {row["name"]: row for row in json.loads(request(driver, "GET", "/v1/reference")[2])["metrics"]}
    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert exposed == set(rows)
    assert all(row["most_series"] for row in rows.values())
    assert len(text.splitlines()) < 1300  # 4 routes, 2 services, 5 endpoints


def test_counters_only_go_up(driver):
    def counters():
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in metrics(driver)[1].splitlines()
                if "_total" in line.split("{")[0].split(" ")[0] and not line.startswith("#")}

    before = counters()
    time.sleep(1.2)
    after = counters()
    assert set(before) <= set(after)
    assert all(after[k] >= v for k, v in before.items())
    assert any(after[k] > v for k, v in before.items() if k.startswith("foldback_requests_total"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_real_prometheus_scrapes_it(driver, tmp_path):
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed")
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
                      f"  - {{job_name: foldback, static_configs: [{{targets: ['{driver.address}']}}]}}\n")
    port = free_port()
    process = subprocess.Popen(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data",
                                f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def query(text):
        url = f"http://127.0.0.1:{port}/api/v1/query?query=" + urllib.parse.quote(text)
        with urllib.request.urlopen(url, timeout=2) as answer:
            return json.load(answer)["data"]["result"]

    try:
        end, result = time.monotonic() + 25, []
        while time.monotonic() < end and not result:
            time.sleep(0.5)
            try:
                result = query('sum by (route) (rate(foldback_requests_total{route="shop /checkout/"}[5s])) > 0')
            except OSError:
                continue
        assert result, "no rate after 25 s"
        assert 5 < float(result[0]["value"][1]) < 200
        assert float(query("up{job='foldback'}")[0]["value"][1]) == 1
        p99 = query("histogram_quantile(0.99, sum by (le) (foldback_request_duration_seconds_bucket))")
        assert 0.005 < float(p99[0]["value"][1]) < 2.5
        assert len(query("foldback_endpoint_limit")) == 5
    finally:
        process.terminate()
        process.wait(10)


def test_the_page_of_a_go_client_becomes_facts(tmp_path):
    """Prometheus shows metrics of its own by the client library that most services written in Go have."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed")
    (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n")
    port = free_port()
    process = subprocess.Popen(["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                                f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    fold = Foldback(tmp_path, """mode: act
services:
  app: { endpoints: ["127.0.0.1:9"] }
routes:
  - { match: /, service: app }
scrapes:
  prom:
    url: http://127.0.0.1:%d/metrics
    every: 500ms
    metrics:
      - go_goroutines
      - go_gc_duration_seconds as gc
      - prometheus_http_requests_total{handler="/metrics"} as scrapes
      - prometheus_http_request_duration_seconds{handler="/metrics"} as took
      - prometheus_build_info as build
""" % port)

    def facts():
        return {n["name"]: n for n in fold.api("GET", "/v1/custom")["names"]}
    try:
        fold.start()
        until(lambda: facts().get("prom.up", {}).get("last") == 1, 60, "the page is read")
        until(lambda: facts().get("prom.scrapes", {}).get("total_sum", 0) > 0, 60, "it counts our looks")
        until(lambda: {"prom.took.rate", "prom.took.mean", "prom.took.p99", "prom.gc.rate"} <= set(facts()), 60, "histogram, summary")
        got = facts()
        assert got["prom.go_goroutines"]["last"] > 5 and got["prom.build"]["last"] == 1
        assert 0 < got["prom.took.mean"]["last"] < 10
    finally:
        fold.stop()
        process.terminate()
        process.wait(10)
