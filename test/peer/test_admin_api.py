# SPDX-License-Identifier: Apache-2.0
"""The admin API over real sockets: every call of its own OpenAPI document, its schemas, its guards."""
import http.client
import json
import re
import socket
import threading
import time
from urllib.parse import quote

import jsonschema
import pytest

from conftest import TOKEN, Driver


def request(driver, method, path, body=None, headers=None, token=TOKEN):
    host, port = driver.address.rsplit(":", 1)
    c = http.client.HTTPConnection(host, int(port), timeout=5)
    h = dict(headers or {})
    if token:
        h.setdefault("Authorization", f"Bearer {token}")
    if isinstance(body, dict):
        body = json.dumps(body)
        h.setdefault("Content-Type", "application/json")
    try:
        c.request(method, path, body, h)
        r = c.getresponse()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read().decode()
    finally:
        c.close()


def read_stream(driver, path, want, seconds=5):
    """Lines of a live stream until want(lines) or the time is over."""
    host, port = driver.address.rsplit(":", 1)
    lines = []
    with socket.create_connection((host, int(port)), 5) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: {driver.address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        s.settimeout(0.5)
        rest, end = b"", time.monotonic() + seconds
        while time.monotonic() < end and not want(lines):
            try:
                part = s.recv(65536)
            except TimeoutError:
                continue
            if not part:
                break
            *more, rest = (rest + part).split(b"\n")
            lines += [m.decode() for m in more]
    return lines


@pytest.fixture(scope="module")
def openapi(driver):
    status, _, text = request(driver, "GET", "/v1/openapi.json", token=None)
    assert status == 200
    return json.loads(text)


def test_the_document_lists_exactly_the_routing_table(driver, openapi):
    reference = json.loads(request(driver, "GET", "/v1/reference")[2])
    table = {(row["method"], row["path"]) for row in reference["api"]}
    listed = {(m.upper(), p) for p, item in openapi["paths"].items() for m in item}
    assert listed == table
    assert len(table) >= 35


CALLS = [
    ("GET", "/v1/status", None), ("GET", "/v1/services", None), ("GET", "/v1/routes?window=60s", None),
    ("GET", "/v1/endpoints", None), ("GET", "/v1/versions", None), ("GET", "/v1/facts?scope=" + quote("endpoint:shop 10.0.0.1:80"), None),
    ("GET", "/v1/history?seconds=60", None), ("GET", "/v1/heatmap?scope=service:shop&seconds=20", None),
    ("GET", "/v1/knobs?service=shop", None), ("GET", "/v1/knobs/limit/" + quote("shop 10.0.0.1:80", safe=""), None),
    ("PUT", "/v1/knobs/limit/" + quote("shop 10.0.0.3:80", safe="") + "/pin", {"value": 17, "why": "test"}),
    ("DELETE", "/v1/knobs/limit/" + quote("shop 10.0.0.3:80", safe="") + "/pin", None),
    ("POST", "/v1/mode", {"mode": "recommend", "loop": "timeout", "route": "shop /"}),
    ("POST", "/v1/freeze", {"loop": "shed", "service": "shop"}), ("POST", "/v1/unfreeze", {"loop": "shed", "service": "shop"}),
    ("POST", "/v1/reset", {"loop": "timeout"}), ("POST", "/v1/drain", {"endpoint": "10.0.1.2:80"}),
    ("POST", "/v1/undrain", {"endpoint": "10.0.1.2:80"}), ("GET", "/v1/decisions?limit=20&service=shop&since=3600", None),
    ("GET", "/v1/alerts", None), ("GET", "/v1/why?q=shop", None), ("GET", "/v1/why?q=limit", None), ("GET", "/v1/why?q=sticky", None), ("GET", "/v1/features", None), ("GET", "/v1/doctor", None),
    ("POST", "/v1/events", {"name": "deploy.done", "value": 2, "text": "v2"}), ("GET", "/v1/config", None),
    ("GET", "/v1/reference", None), ("GET", "/v1/cache", None),
    ("POST", "/v1/events/query", {"sql": "SELECT service, count(*) FROM request GROUP BY 1", "limit": 10, "redact": True}),
    ("POST", "/v1/cache/purge", {"url": "http://shop/x", "why": "test"}),
    ("POST", "/v1/metrics", {"resourceMetrics": []}), ("POST", "/v1/logs", {}), ("POST", "/v1/traces", {}),
    ("POST", "/v1/ingest", {"name": "orders.placed", "value": 3}), ("GET", "/v1/custom", None), ("GET", "/v1/signals", None), ("GET", "/v1/ingest", None),
    ("GET", "/v1/connectors", None), ("POST", "/v1/connectors/events/pause", {"why": "test"}),
    ("POST", "/v1/connectors/events/resume", {}), ("POST", "/v1/connectors/events/reset", {"to": "end"}),
    ("POST", "/v1/connectors/events/reset", {"offset": 12}),
    ("POST", "/v1/connectors/events/letters/send", {"all": True, "why": "test"}),
    ("GET", "/v1/services/shop/endpoints", None),
    ("POST", "/v1/services/shop/endpoints", {"address": "10.0.9.9:80", "weight_pct": 50, "why": "test"}),
    ("DELETE", "/v1/services/shop/endpoints/10.0.9.9%3A80", {"why": "test"}),
    ("POST", "/v1/cache/purge", {"tag": "product-7", "now": True}), ("POST", "/v1/cache/purge", {"all": True}),
]


@pytest.mark.parametrize("method,path,body", CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_an_answer_fits_its_schema(driver, openapi, method, path, body):
    status, _, text = request(driver, method, path, body)
    plain = path.split("?")[0]
    match = [p for p in openapi["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", p), plain) and method.lower() in openapi["paths"][p]]
    operation = openapi["paths"][match[0]][method.lower()]
    good = next(code for code in operation["responses"] if code != "default")
    assert status in (int(good), 200, 202), text
    schema = operation["responses"][good]["content"]["application/json"]["schema"]
    jsonschema.validate(json.loads(text), {**schema, "components": openapi["components"]})
    if body is not None:
        asked = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(body, {**asked, "components": openapi["components"]})


def test_a_decision_tells_its_evidence_and_a_request_its_story(driver, openapi):
    decisions = json.loads(request(driver, "GET", "/v1/decisions?limit=200")[2])["decisions"]
    assert len(decisions) > 20
    assert any(d["outcome"] for d in decisions)
    one = next(d for d in decisions if d["actor"] == "loop")
    status, _, text = request(driver, "GET", f"/v1/decisions/{one['id']}")
    assert status == 200
    assert json.loads(text)["evidence"]
    assert json.loads(request(driver, "GET", f"/v1/why?q=decision%20{one['id']}")[2])["kind"] == "decision"
    lines = read_stream(driver, "/v1/tap?rate=50", lambda all_: sum(x.startswith("data: ") for x in all_) >= 3)
    asked = json.loads(next(x for x in lines if x.startswith("data: "))[6:])
    why = json.loads(request(driver, "GET", f"/v1/why?q={asked['id']}")[2])
    assert why["kind"] == "request"
    assert why["request"]["id"] == asked["id"]


def test_why_of_a_drain_names_the_endpoint_next(driver):
    assert request(driver, "POST", "/v1/drain", {"endpoint": "10.0.1.2:80"})[0] in (200, 202)
    end, drains = time.monotonic() + 3, []
    while not drains and time.monotonic() < end:
        decisions = json.loads(request(driver, "GET", "/v1/decisions?limit=200")[2])["decisions"]
        drains = [d for d in decisions if d["reason"] == "operator_drain"]
    why = json.loads(request(driver, "GET", f"/v1/why?q=decision%20{drains[0]['id']}")[2])
    assert request(driver, "POST", "/v1/undrain", {"endpoint": "10.0.1.2:80"})[0] in (200, 202)
    assert not any("null" in x for x in why["next"] + why["sentences"]), why
    assert "10.0.1.2:80" in why["next"][0]
    assert not any("verifier" in x for x in why["sentences"])


def test_a_pin_is_in_force_and_in_the_log(driver):
    path = "/v1/knobs/limit/" + quote("shop 10.0.0.2:80", safe="")
    _, headers, text = request(driver, "GET", path)
    status, _, text = request(driver, "PUT", path + "/pin", {"value": 33}, {"If-Match": headers["etag"]})
    assert status == 200, text
    knob = json.loads(text)
    assert (knob["value"], knob["source"], knob["pinned"]) == (33, "pinned", 33)
    assert request(driver, "PUT", path + "/pin", {"value": 34}, {"If-Match": headers["etag"]})[0] == 412
    lines = read_stream(driver, "/v1/events?limit=60000&type=command&from=0", lambda all_: False, 2)
    assert any('"verb":0' in x or '"verb":"pin"' in x for x in lines)
    assert request(driver, "DELETE", path + "/pin")[0] == 200
    assert json.loads(request(driver, "GET", path)[2])["pinned"] is None


@pytest.mark.parametrize("method,path,body,status,says", [
    ("GET", "/v1/nothing", None, 404, "openapi"), ("POST", "/v1/status", None, 405, "method"),
    ("GET", "/v1/routes?window=2s", None, 422, "100ms"), ("GET", "/v1/facts?scope=service:nope", None, 404, "nope"),
    ("GET", "/v1/decisions?limit=0", None, 422, "1 to 2048"), ("GET", "/v1/decisions/999999", None, 404, "foldback events"),
    ("GET", "/v1/tap?filter=status%3E", None, 400, "expected a number"), ("GET", "/v1/events?type=nope", None, 404, "nope"),
    ("PUT", "/v1/knobs/limit/nope/pin", {"value": 1}, 404, "each endpoint"),
    ("PUT", "/v1/knobs/shed_threshold/shop/pin", {"value": 5000}, 422, "128 to 512"),
    ("PUT", "/v1/knobs/shed_threshold/shop/pin", "{", 400, "expected a field"), ("POST", "/v1/mode", {"mode": "fast"}, 422, "observe"),
    ("POST", "/v1/events/query", {"sql": "SELECT foo FROM request"}, 400, "no such column"),
    ("POST", "/v1/events/query", {"sql": "SELECT 1", "limit": 0}, 422, "1 to 10000"),
    ("POST", "/v1/events", {"name": "Bad Name"}, 422, "a-z"), ("POST", "/v1/reload", None, 422, "line 3"),
])
def test_a_refusal_says_what_and_what_next(driver, method, path, body, status, says):
    headers = {"Content-Type": "application/json"} if isinstance(body, str) else None
    got, headers, text = request(driver, method, path, body, headers)
    assert got == status, text
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(text)
    assert says in problem["detail"]
    assert problem["remedy"]


def test_live_brings_facts_and_decisions(driver):
    lines = read_stream(driver, "/v1/live?interval_ms=250",
                        lambda all_: all_.count("event: facts") >= 4 and "event: decision" in all_, 8)
    assert lines.count("event: facts") >= 4
    assert "event: decision" in lines
    behind = lines[lines.index("event: facts"):]  # a decision may come first
    facts = json.loads(next(x for x in behind if x.startswith("data: "))[6:])
    assert {s["name"] for s in facts["services"]} == {"shop", "search"}


def test_tap_filters_and_hides_personal_parts(driver):
    enough = lambda all_: sum("path" in x for x in all_) >= 3
    lines = read_stream(driver, "/v1/tap?filter=" + quote('path=~"^/products"'), enough)
    rows = [json.loads(x[6:]) for x in lines if x.startswith("data: ") and '"id"' in x]
    assert rows and all(r["path"] == "/products/*" for r in rows)
    assert len({r["id"] for r in rows}) == len(rows), "one message per request"
    lines = read_stream(driver, "/v1/tap?redact=false&filter=" + quote('path=~"^/products"'), enough)
    assert any('"path":"/products/4711"' in x for x in lines)


def test_tap_keeps_to_its_rate(driver):
    lines = read_stream(driver, "/v1/tap?rate=5", lambda all_: False, 2.5)
    assert 5 <= lines.count("event: request") <= 20
    assert "event: lost" in lines


def test_events_come_by_offset_without_holes(driver):
    lines = [json.loads(x) for x in read_stream(driver, "/v1/events?from=100000000&limit=5", lambda all_: False, 1) if x.startswith("{")]
    assert lines == []
    first = json.loads(request(driver, "GET", "/v1/status")[2])["stream"]["next_offset"] - 3000
    got = [json.loads(x)["offset"] for x in read_stream(driver, f"/v1/events?from={first}&limit=2500", lambda all_: False, 3) if x.startswith("{")]
    assert got == list(range(first, first + 2500))


def test_follow_goes_on_at_the_end(driver):
    lines = read_stream(driver, "/v1/events?type=tick&limit=1&follow=true", lambda all_: sum(x.startswith("{") for x in all_) >= 4, 4)
    assert sum(x.startswith("{") for x in lines) >= 4


def test_nothing_without_a_token(driver, openapi):
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            if operation.get("security") == []:
                continue
            status, headers, _ = request(driver, method.upper(), re.sub(r"\{\w+\}", "x", path), token=None)
            assert status == 401, path
            assert headers["www-authenticate"].startswith("Bearer")
    assert request(driver, "GET", "/healthz", token=None)[0] == 200
    assert request(driver, "GET", "/readyz", token=None)[0] == 200


def test_headers_are_strict_everywhere(driver):
    for path in ("/", "/v1/status", "/v1/nothing", "/metrics"):
        h = request(driver, "GET", path)[1]
        assert h["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
            "frame-ancestors 'none'; require-trusted-types-for 'script'")
        assert h["x-content-type-options"] == "nosniff"
        assert h["referrer-policy"] == "no-referrer"


def test_a_cache_has_a_curve_once_there_are_enough_samples(driver):
    busy, idle = json.loads(request(driver, "GET", "/v1/cache")[2])["routes"]
    misses = [p["miss_ratio"] for p in busy["curve"]]
    assert busy["route"] == "shop /" and 5 < len(misses) <= 32 and misses == sorted(misses, reverse=True)
    assert 0 <= misses[-1] < misses[0] <= 1 and busy["origin_ms"] > 0
    assert idle["curve"] == [] and idle["origin_ms"] is None


def test_assets_are_cached_by_their_names(driver):
    status, _, page = request(driver, "GET", "/", token=None)
    script = re.search(r'src="(/assets/[^"]+\.js)"', page)
    if not script:
        pytest.skip("built without npm: the plain page")
    plain = request(driver, "GET", script[1], token=None)
    assert "immutable" in plain[1]["cache-control"]
    assert request(driver, "GET", script[1], headers={"If-None-Match": plain[1]["etag"]}, token=None)[0] == 304
    c = http.client.HTTPConnection(driver.address, timeout=5)
    c.request("GET", script[1], headers={"Accept-Encoding": "gzip"})
    packed = c.getresponse()
    assert packed.getheader("Content-Encoding") == "gzip"
    assert len(packed.read()) < len(plain[2]) / 2
    c.close()


def test_a_session_opens_by_url_and_by_login(driver):
    status, headers, _ = request(driver, "GET", f"/?token={TOKEN}", token=None)
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    bare = cookie.split(";")[0]
    assert request(driver, "GET", "/v1/status", headers={"Cookie": bare}, token=None)[0] == 200
    assert request(driver, "GET", "/v1/status", headers={"Cookie": bare[:-1] + ("0" if bare[-1] != "0" else "1")}, token=None)[0] == 401
    status, headers, _ = request(driver, "POST", "/v1/login", {"token": TOKEN}, token=None)
    assert status == 204 and "set-cookie" in headers
    # A page of another origin may read nothing (no CORS) and write nothing.
    origin = {"Cookie": bare, "Origin": "http://evil.example"}
    assert request(driver, "POST", "/v1/freeze", {}, origin, token=None)[0] == 403


def test_a_rebound_host_is_refused(driver):
    assert request(driver, "GET", "/v1/status", headers={"Host": "evil.example"})[0] == 421
    assert request(driver, "GET", "/metrics", headers={"Host": "evil.example:9180"}, token=None)[0] == 421


def test_malformed_requests_are_closed_and_the_server_goes_on(driver):
    host, port = driver.address.rsplit(":", 1)
    for raw in (b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"POST /v1/login HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection((host, int(port)), 3) as s:
            s.sendall(raw)
            s.settimeout(3)
            first = s.recv(64)
            assert first.startswith(b"HTTP/1.1 4") or first == b"", raw[:30]
    assert request(driver, "POST", "/v1/login", "x" * 70000, {"Content-Type": "application/json"})[0] == 413
    assert request(driver, "GET", "/healthz")[0] == 200


def test_a_body_in_pieces_is_one_body(driver):
    host, port = driver.address.rsplit(":", 1)
    body = json.dumps({"name": "deploy.done", "text": "x" * 100}) + " " * 30000
    head = (f"POST /v1/events HTTP/1.1\r\nHost: {driver.address}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n")
    with socket.create_connection((host, int(port)), 3) as s:
        s.settimeout(3)
        for part in (head[:40], head[40:] + body[:10], body[10:9000], body[9000:]):
            s.sendall(part.encode())
            time.sleep(0.05)
        got = b""
        while part := s.recv(65536):
            got += part
    assert got.startswith(b"HTTP/1.1 202"), got[:300]


def test_pipelined_requests_are_answered_in_order(driver):
    host, port = driver.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 3) as s:
        one = f"Host: {driver.address}\r\n\r\n"
        s.sendall(f"GET /healthz HTTP/1.1\r\n{one}GET /readyz HTTP/1.1\r\n{one}HEAD / HTTP/1.1\r\nConnection: close\r\n{one}".encode())
        s.settimeout(3)
        got = b""
        while part := s.recv(65536):
            got += part
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert got.index(b"ok\n") < got.index(b"ready\n")


def test_many_connections_and_a_slow_reader_do_not_hold_the_server_up(driver):
    host, port = driver.address.rsplit(":", 1)
    idle = [socket.create_connection((host, int(port)), 3) for _ in range(80)]
    slow = socket.create_connection((host, int(port)), 3)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    slow.sendall(f"GET /v1/events?from=0&limit=60000 HTTP/1.1\r\nHost: {driver.address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    begin = time.monotonic()
    for _ in range(20):
        assert request(driver, "GET", "/v1/status")[0] == 200
    assert time.monotonic() - begin < 15  # the slow reader takes nothing at all
    for s in [*idle, slow]:
        s.close()


def test_wrong_tokens_are_slowed_down():
    d = Driver(past_s=1, seconds=30)
    try:
        codes = [request(d, "GET", "/v1/status", token="wrong-token-0123456789")[0] for _ in range(12)]
        assert codes == [401] * 10 + [429] * 2
        assert request(d, "GET", "/v1/status")[0] == 200  # the right one is let in at any time
    finally:
        d.stop()


def test_reads_from_threads_at_once(driver):
    bad = []

    def work():
        for _ in range(20):
            if request(driver, "GET", "/v1/endpoints")[0] != 200:
                bad.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert not bad
