# SPDX-License-Identifier: Apache-2.0
"""/metrics pages of services become facts; a target that is dead, slow, endless or no page of metrics is told as such
and disturbs nobody."""
import base64
import gzip
import http.server
import json
import ssl
import subprocess
import threading

import prometheus_client
import pytest
from test_41_connectors import BIN, Foldback, connector, metrics, reconfigure, send_many, until
from tls_util import Authority

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Target:
    """An HTTP server whose answer is <page>: (status, type, body), or a function that writes the answer itself."""

    def __init__(self, page=(200, TEXT, b"depth 1\n"), context=None):
        self.page, self.seen, self.release = page, [], threading.Event()
        target = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                target.seen.append(dict(self.headers))
                page = target.page
                try:
                    if callable(page):
                        page(self)
                        return
                    status, kind, body = page
                    self.send_response(status)
                    if kind:
                        self.send_header("Content-Type", kind)
                    if status == 302:
                        self.send_header("Location", "/elsewhere")
                    if body[:2] == b"\x1f\x8b":
                        self.send_header("Content-Encoding", "gzip")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = "http%s://127.0.0.1:%d/metrics" % ("s" if context else "", self.port)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture()
def targets():
    made = []

    def make(*args, **more):
        made.append(Target(*args, **more))
        return made[-1]
    yield make
    for t in made:
        t.close()


@pytest.fixture()
def foldback(tmp_path):
    made = []

    def make(text):
        made.append(Foldback(tmp_path, text))
        return made[-1].start()
    yield make
    for fold in made:
        fold.stop()


def config(origin, scrapes):
    return ('mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n  - { match: /, service: app }\n'
            "scrapes:\n%s\n" % (origin.port, scrapes))


def facts(fold):
    return {n["name"]: n for n in fold.api("GET", "/v1/custom")["names"]}


def last(fold, name):
    return facts(fold).get(name, {}).get("last")


def test_gauges_counters_and_histograms_of_a_service_become_facts(origin, targets, foldback):
    """A client library's own page, in OpenMetrics, as it comes."""
    registry = prometheus_client.CollectorRegistry()
    depth = prometheus_client.Gauge("queue_depth", "jobs", ["queue"], registry=registry)
    hits = prometheus_client.Counter("hits", "requests", ["code"], registry=registry)
    wait = prometheus_client.Histogram("wait_seconds", "waits", registry=registry)
    prometheus_client.ProcessCollector(registry=registry)
    depth.labels("mail").set(7)
    depth.labels("web").set(2)
    hits.labels("200").inc(5)

    def page(handler):
        handler.registry = registry
        prometheus_client.MetricsHandler.do_GET(handler)
    target = targets(page)
    fold = foldback(config(origin, """  api:
    url: %s
    every: 500ms
    metrics:
      - queue_depth
      - max(queue_depth) as deepest
      - queue_depth{queue="mail"} as mail
      - hits_total
      - hits_total{code="5*"} as errors
      - wait_seconds as wait
      - process_open_fds as fds""" % target.url))
    until(lambda: last(fold, "api.up") == 1, 60)
    until(lambda: (last(fold, "api.queue_depth"), last(fold, "api.deepest"), last(fold, "api.mail")) == (9, 7, 7), 60)
    until(lambda: last(fold, "api.hits_total") == 0, 60)
    assert target.seen[0]["Accept"].startswith("application/openmetrics-text;version=1.0.0")
    assert last(fold, "api.fds") > 3
    before = facts(fold)["api.hits_total"]["total_sum"]
    hits.labels("200").inc(100)
    for _ in range(10):
        wait.observe(0.02)
    depth.labels("mail").set(1)
    # A rate of a page is what came since the last one: summed up over the pages it is all that came.
    until(lambda: facts(fold)["api.hits_total"]["total_sum"] > before, 60)
    until(lambda: last(fold, "api.mail") == 1, 60)
    until(lambda: abs(last(fold, "api.wait.mean") - 0.02) < 1e-9, 60)
    assert 0.01 < last(fold, "api.wait.p99") <= 0.025
    assert "api.errors" not in facts(fold)
    hits.labels("503").inc(4)
    until(lambda: last(fold, "api.errors") == 0, 60)
    hits.labels("503").inc(4)
    until(lambda: facts(fold)["api.errors"]["total_sum"] > 0, 60)
    shown = metrics(fold)
    assert shown['foldback_custom{name="api.queue_depth"}'] == 3
    c = connector(fold, "api")
    assert (c["type"], c["direction"]) == ("prometheus", "source")
    row = next(x for x in fold.cli("stream", "status").stdout.splitlines() if x.startswith("api "))
    assert "prometheus" in row and "source" in row
    send_many(fold.port, 3)


def test_names_of_utf8_and_paths_of_windows_on_a_page_spoil_nothing(origin, targets, foldback):
    """As Prometheus 3 reads them; a rule has the name with `_`, as targets write it for readers that ask for no UTF-8."""
    page = ('# TYPE "jobs.waiting/now" gauge\n{"jobs.waiting/now","queue.name"="mail"} 7\n'
            '{"jobs.waiting/now","queue.name"="web"} 2\n'
            'disk_free{path="C:\\data\\x"} 5\nmany{%s} 3\n' % ",".join('l%d="v"' % i for i in range(200)))
    target = targets((200, "text/plain; version=1.0.0; charset=utf-8", page.encode()))
    fold = foldback(config(origin, """  api:
    url: %s
    every: 500ms
    metrics: ['jobs_waiting_now{queue_name="mail"} as mail', jobs_waiting_now, 'disk_free{path="C:*"} as disk', many]""" % target.url))
    until(lambda: last(fold, "api.up") == 1, 60)
    until(lambda: [last(fold, "api." + n) for n in ("mail", "jobs_waiting_now", "disk", "many")] == [7, 9, 5, 3], 60)


def test_a_counter_that_began_anew_is_no_negative_rate(origin, targets, foldback):
    target = targets((200, TEXT, b"# TYPE jobs_total counter\njobs_total 1000000\n"))
    fold = foldback(config(origin, "  w: { url: %s, every: 500ms, metrics: [jobs_total] }" % target.url))
    until(lambda: last(fold, "w.jobs_total") == 0, 60)
    target.page = (200, TEXT, b"# TYPE jobs_total counter\njobs_total 3\n")
    until(lambda: facts(fold)["w.jobs_total"]["total_sum"] > 0, 60)
    until(lambda: last(fold, "w.jobs_total") == 0, 60)
    done = fold.cli("events", "query", "SELECT min(value) AS low, max(value) AS high FROM custom WHERE name = "
                                       "'w.jobs_total'", "--format", "json")
    got = json.loads(done.stdout.splitlines()[0] if done.stdout.startswith("{") else done.stdout)
    got = got[0] if isinstance(got, list) else got
    assert got["low"] == 0
    assert 0 < got["high"] < 100


def endless(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", TEXT)
    handler.end_headers()
    while True:
        handler.wfile.write(b"depth{i=\"1\"} 1\n" * 5000)


def endless_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-More: " + b"y" * 1000 + b"\r\n")


def drip(handler):
    """A page that would be good, a byte at a time, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", TEXT)
    handler.end_headers()
    while not handler.server.drip.wait(0.05):
        handler.wfile.write(b"#")
        handler.wfile.flush()


def cut(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", TEXT)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"depth 77\n")


BAD = {
    "garbage": ((200, TEXT, b"depth 77\n\x00\xff\xfe not metrics\n"), "line 2"),
    "html": ((200, "text/html", b"<html>depth 77</html>"), "text/html"),
    "missing": ((404, TEXT, b"depth 77\n"), "answers 404"),
    "failing": ((500, TEXT, b"depth 77\n"), "answers 500"),
    "elsewhere": ((302, TEXT, b"depth 77\n"), "answers 302"),
    "denied": ((401, TEXT, b""), "bearer_file"),
    "half": ((200, TEXT, b"depth 77\ndepth{a=\"b\"} 7"), "line 2"),
    "noeof": ((200, "application/openmetrics-text; version=1.0.0", b"depth 77\n"), "# EOF"),
    "cut": (cut, "http://"),
    "bomb": ((200, TEXT, gzip.compress(b"# nothing\n" * 4000000)), "page_max"),
    "endless": (endless, "page_max"),
    "head": (endless_head, "page_max"),
    "drip": (drip, "imeout"),
}


def test_bad_targets_are_down_with_a_reason_and_disturb_nobody(origin, targets, foldback):
    rows = ["  good: { url: %s, every: 500ms, metrics: [depth] }" % targets().url]
    drips = threading.Event()
    for name, (page, _) in BAD.items():
        t = targets(page)
        t.server.drip = drips
        rows.append("  %s: { url: %s, every: 1s, metrics: [depth] }" % (name, t.url))
    dead = targets()
    dead.close()
    rows.append("  dead: { url: %s, every: 500ms }" % dead.url)
    fold = foldback(config(origin, "\n".join(rows)))
    try:
        for name, (_, says) in BAD.items():
            until(lambda name=name: last(fold, name + ".up") == 0, 60)  # a fact, though the page gave none
            until(lambda name=name: connector(fold, name)["errors"] > 1, 60)
            until(lambda name=name, says=says: says in connector(fold, name)["last_error"], 60)
            assert name + ".depth" not in facts(fold)
        until(lambda: last(fold, "dead.up") == 0, 60)
        until(lambda: connector(fold, "dead")["state"] == "failing", 60)
        seen = facts(fold)["good.up"]["total"]
        until(lambda: facts(fold)["good.up"]["total"] > seen + 3, 60)
        assert last(fold, "good.depth") == 1
        send_many(fold.port, 20)
        assert metrics(fold)['foldback_connector_errors_total{connector="garbage"}'] > 1
    finally:
        drips.set()


def test_a_target_that_comes_back_is_up_again(origin, targets, foldback):
    target = targets((503, TEXT, b""))
    fold = foldback(config(origin, "  api: { url: %s, every: 500ms, metrics: [depth] }" % target.url))
    until(lambda: connector(fold, "api")["state"] == "failing", 60)
    assert last(fold, "api.depth") is None
    target.page = (200, TEXT, b"depth 5\n")
    until(lambda: last(fold, "api.up") == 1 and last(fold, "api.depth") == 5, 60)
    until(lambda: connector(fold, "api")["state"] == "running", 60)
    # What is paused is not asked.
    assert fold.cli("connector", "pause", "api").returncode == 0
    until(lambda: connector(fold, "api")["state"] == "paused", 60)
    seen = len(target.seen)
    assert fold.cli("connector", "resume", "api").returncode == 0
    until(lambda: len(target.seen) > seen, 60)
    # A reload takes a changed rule.
    reconfigure(fold, config(origin, "  api: { url: %s, every: 500ms, metrics: [depth as d] }" % target.url))
    until(lambda: last(fold, "api.d") == 5, 60)


def test_tls_and_a_token_that_is_replaced(tmp_path, origin, targets, foldback):
    authority = Authority(str(tmp_path / "ca"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.leaf("127.0.0.1"))
    token = tmp_path / "token"
    token.write_text("first-token\n")
    target = targets(context=context)
    text = "  api: { url: %s, every: 2s, timeout: 1900ms, ca_file: %s, bearer_file: %s, metrics: [depth] }\n"
    fold = foldback(config(origin, text % (target.url, authority.cert, token)
                           + "  bare: { url: %s, every: 2s, timeout: 1900ms }" % target.url))
    until(lambda: last(fold, "api.up") == 1, 60)
    assert target.seen[-1]["Authorization"] == "Bearer first-token"
    token.write_text("second-token\n")
    until(lambda: target.seen[-1].get("Authorization") == "Bearer second-token", 60)
    until(lambda: last(fold, "bare.up") == 0, 60)
    until(lambda: "certificate" in connector(fold, "bare")["last_error"], 60)
    assert "second-token" not in json.dumps(fold.api("GET", "/v1/connectors"))


def test_a_password_that_is_replaced(tmp_path, origin, targets, foldback):
    who = tmp_path / "who"
    who.write_text("scraper:a:b é\n")

    def page(handler):
        good = "Basic " + base64.b64encode(who_is_good.encode()).decode()
        body = b"depth 1\n" if handler.headers["Authorization"] == good else b""
        handler.send_response(200 if body else 401)
        handler.send_header("Content-Type", TEXT)
        handler.send_header("WWW-Authenticate", 'Basic realm="metrics"')
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
    who_is_good = "scraper:a:b é"
    target = targets(page)
    fold = foldback(config(origin, "  api: { url: %s, every: 500ms, basic_file: %s, metrics: [depth] }" % (target.url, who)))
    until(lambda: last(fold, "api.depth") == 1, 60)
    assert "Authorization" in target.seen[0]  # at once: no question before it
    who_is_good = "scraper:new"
    until(lambda: "answers 401; see the URL and `basic_file`" in connector(fold, "api")["last_error"], 60)
    who.write_text("no colon\n")
    until(lambda: "must hold USER:PASSWORD" in connector(fold, "api")["last_error"], 60)
    who.write_text(who_is_good + "\n")
    until(lambda: connector(fold, "api")["state"] == "running" and last(fold, "api.up") == 1, 60)
    assert "scraper" not in json.dumps(fold.api("GET", "/v1/connectors"))


def test_check_looks_at_the_page_and_names_what_is_not_there(tmp_path, targets):
    target = targets((200, TEXT, b"depth{a=\"1\"} 1\ndepth{a=\"2\"} 1\n"))
    path = tmp_path / "check.yaml"

    def check(scrape):
        path.write_text('listen: ["127.0.0.1:1"]\nservices:\n  app: { endpoints: ["127.0.0.1:2"] }\nscrapes:\n' + scrape)
        done = subprocess.run([BIN, "connector", "check", "--config", str(path)], capture_output=True, text=True,
                              timeout=60)
        return done.returncode, done.stdout + done.stderr
    code, says = check("  api: { url: %s, metrics: [depth] }\n" % target.url)
    assert code == 0, says
    assert "2 samples" in says and "depth: 2 series" in says
    code, says = check("  api: { url: %s, metrics: [depth, width] }\n" % target.url)
    assert code == 1 and "width: 0 series" in says
    target.page = (200, "text/html", b"<html>")
    code, says = check("  api: { url: %s }\n" % target.url)
    assert code == 1 and "no page of metrics" in says
