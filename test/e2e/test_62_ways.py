# SPDX-License-Identifier: Apache-2.0
"""What an operator is told is what happened: reload, config diff, orders to the admin API, purges, checks, tokens."""
import concurrent.futures
import http.client
import json
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Foldback, Origin, free_port, until  # noqa: E402


def conf(origin, more=""):
    return ('mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n  - { match: /, service: app }\n%s'
            % (origin.port, more))


@pytest.fixture
def origin():
    o = Origin()
    yield o
    o.stop()


@pytest.fixture
def fold(tmp_path, origin):
    f = Foldback(tmp_path, conf(origin))
    f.start()
    yield f
    f.stop()


def change(fold, old, new):
    with open(fold.file) as f:
        text = f.read()
    assert old in text
    with open(fold.file, "w") as f:
        f.write(text.replace(old, new))


def ask(fold, method, path, body=None, token=None, source=None):
    """(status, answer) of one call; <source>: the address that it comes from."""
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    token = token or open(where["token_file"]).read().strip()
    host, port = where["address"].rsplit(":", 1)
    c = http.client.HTTPConnection(host, int(port), timeout=30, source_address=(source, 0) if source else None)
    try:
        c.request(method, path, body if isinstance(body, bytes) else json.dumps(body) if body is not None else None,
                  {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        r = c.getresponse()
        text = r.read()
        return r.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()
    finally:
        c.close()


# ---- reload ----

def test_a_reload_says_that_the_file_is_in_force_when_it_is(fold):
    change(fold, "mode: act", "mode: act\nlimits: { header_count: 77 }")
    done = fold.cli("reload")
    assert done.returncode == 0 and done.stdout.startswith("The file is in force."), done.stderr
    shown = fold.cli("config", "show", "--effective").stdout
    assert [x.split()[1] for x in shown.splitlines() if x.startswith("limits.header_count ")] == ["77"]
    assert ask(fold, "POST", "/v1/reload") == (200, {"verb": "reload", "is_in_force": True, "file": fold.file,
                                                     "needs_restart": [], "warnings": []})


@pytest.mark.parametrize("new, said", [
    ("mode: act\nlimits: { header_count: 0 }", ":6:25: error: limits.header_count must be 10..200, got 0"),  # outside of its range
    ("mode: [act", "error"),  # no YAML
])
def test_a_file_with_errors_is_refused_with_each_line(fold, new, said):
    change(fold, "mode: act", new)
    done = fold.cli("reload")
    assert done.returncode == 2 and done.stdout == "", done.stdout
    assert said in done.stderr and "stays in force" in done.stderr, done.stderr
    status, problem = ask(fold, "POST", "/v1/reload")
    assert status == 422 and problem["errors"] and problem["file"] == fold.file, problem
    found = [x for x in fold.api("GET", "/v1/doctor")["findings"] if x["check"] == "config"]
    assert found and "refused" in found[0]["text"], found
    change(fold, new, "mode: act")
    assert fold.cli("reload").returncode == 0
    assert not [x for x in fold.api("GET", "/v1/doctor")["findings"] if x["check"] == "config"]


@pytest.mark.parametrize("tls, said", [
    ("{ cert: /nowhere/a.pem, key: /nowhere/a.key }", "/nowhere/a.pem"),
    ("{ cert: %s/a.pem, key: %s/a.key, ciphers: bogus }", "bogus"),
])
def test_files_and_ciphers_that_tls_cannot_take_refuse_the_reload(tmp_path, fold, tls, said):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", str(tmp_path / "a.key"), "-out", str(tmp_path / "a.pem"), "-days", "2", "-subj",
                    "/CN=a"], check=True, capture_output=True, timeout=60)
    address = '"127.0.0.1:%d"' % fold.port
    change(fold, address, "{ address: %s, tls: %s }" % (address, tls.replace("%s", str(tmp_path))))
    done = fold.cli("reload")
    assert done.returncode == 2 and said in done.stderr, (done.stdout, done.stderr)
    assert said in json.dumps(fold.api("GET", "/v1/doctor"))
    assert fold.get() == 200  # plain, as before


def test_what_waits_for_the_next_start_is_named_until_then(fold):
    change(fold, "mode: act", 'mode: act\ndns: { servers: "127.0.0.9:53" }')
    for _ in range(2):  # the second one changes nothing and says it again
        done = fold.cli("reload")
        assert done.returncode == 0 and "dns.servers" in done.stdout, (done.stdout, done.stderr)
    assert ask(fold, "POST", "/v1/reload")[1]["needs_restart"] == ["dns.servers"]
    [line] = [x for x in fold.cli("config", "show", "--effective").stdout.splitlines() if x.startswith("dns.servers")]
    assert "waits for the next start: " in line and "127.0.0.9" in line.split("#")[1], line
    assert "127.0.0.9" not in line.split("#")[0], line
    assert "waits for the next start: dns.servers" in fold.cli("config", "show").stdout
    assert "dns.servers waits" in json.dumps(fold.api("GET", "/v1/doctor"))


def test_what_waits_is_still_known_to_a_brain_that_was_started_again(fold):
    change(fold, "mode: act", 'mode: act\ndns: { servers: "127.0.0.9:53" }')
    assert fold.cli("reload").returncode == 0
    change(fold, "mode: act", "mode: cat")
    assert fold.cli("reload").returncode == 2
    os.kill(fold.child("fb-brain"), 9)

    def is_known():
        try:
            text = json.dumps(fold.api("GET", "/v1/doctor"))
        except (OSError, AssertionError, http.client.HTTPException):
            return False
        return "dns.servers waits" in text and "was refused" in text
    until(is_known, 40, "the new brain knows")
    change(fold, "mode: cat", "mode: act")
    assert fold.cli("reload").returncode == 0


def test_without_a_file_a_reload_says_so(tmp_path, origin):
    state = str(tmp_path / "state")
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([BIN, "run", "--to", f"127.0.0.1:{origin.port}", "--from",
                                    f"127.0.0.1:{free_port()}", "--admin", "127.0.0.1:0", "--state", state],
                                   stdout=log, stderr=subprocess.STDOUT)
    try:
        until(lambda: os.path.exists(os.path.join(state, "admin.json")) or process.poll() is not None, 40, "it runs")
        done = subprocess.run([BIN, "reload", "--state", state], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "--config FILE" in done.stderr and done.stdout == "", done
    finally:
        process.terminate()
        process.wait(30)


# ---- orders to the admin API ----

@pytest.mark.parametrize("method, path, body, says", [
    ("POST", "/v1/freeze", {"rout": "app /"}, '"rout"'),
    ("POST", "/v1/unfreeze", {"rout": "app /"}, "route"),
    ("POST", "/v1/mode", {"mode": "observe", "sevice": "app"}, "service"),
    ("POST", "/v1/reset", {"target": "nope"}, "endpoint"),
    ("POST", "/v1/drain", {"endpoint": "a", "whi": "x"}, "why"),
    ("POST", "/v1/undrain", {"endpoint": "a", "whi": "x"}, "why"),
    ("POST", "/v1/cache/purge", {"all": True, "nwo": True}, "now"),
    ("POST", "/v1/connectors/x/pause", {"at": 3}, "offset"),
    ("POST", "/v1/events", {"name": "a", "vlaue": 3}, "value"),
    ("POST", "/v1/events/query", {"sql": "SELECT 1", "limits": 1}, "limit"),
    ("POST", "/v1/reload", {"file": "/etc/passwd"}, "none"),
    ("POST", "/v1/login", {"token": "0123456789abcdef", "user": "me"}, "token"),
    ("PUT", "/v1/knobs/timeout_ms/app%20%2F/pin", {"value": 900, "expires": 3}, "expires_s"),
    ("DELETE", "/v1/knobs/timeout_ms/app%20%2F/pin", {"wyh": "x"}, "why"),
    ("POST", "/v1/freeze?route=app", {}, '"route"'),
    ("GET", "/v1/decisions?servce=app", None, "service"),
    ("GET", "/v1/decisions?service=" + "a" * 300, None, "longer"),
    ("GET", "/v1/decisions?limit=1&limit=2", None, "twice"),
    ("GET", "/v1/events?follow=zz", None, "true or false"),
    ("GET", "/v1/tap?redact=zz", None, "true or false"),
])
def test_a_name_that_a_call_does_not_know_is_refused_with_those_it_knows(fold, method, path, body, says):
    before = fold.api("GET", "/v1/knobs")["knobs"]
    status, problem = ask(fold, method, path, body)
    assert status == 422 and says in problem["detail"], problem
    assert "--" not in problem["remedy"], problem
    after = fold.api("GET", "/v1/knobs")["knobs"]
    assert [(k["is_frozen"], k["mode"]) for k in after] == [(k["is_frozen"], k["mode"]) for k in before]


def test_a_problem_tells_who_speaks_http_nothing_of_the_command_line(fold):
    status, problem = ask(fold, "POST", "/v1/drain", {})
    assert status == 400 and "--help" not in json.dumps(problem) and "openapi" in problem["remedy"], problem
    status, problem = ask(fold, "POST", "/v1/ingest", b"{")
    assert status == 400 and "log check" not in problem["remedy"] and "Correct the body" in problem["remedy"], problem


# ---- tokens ----

def test_a_client_with_an_old_token_keeps_nobody_out(fold):
    old = "0123456789abcdef0123"
    seen = [ask(fold, "POST", "/v1/ingest", {"name": "a", "value": 1}, token=old)[0] for _ in range(14)]
    assert seen == [401] * 10 + [429] * 4
    assert ask(fold, "GET", "/v1/status")[0] == 200  # the same address, the right token
    assert ask(fold, "POST", "/v1/ingest", {"name": "a", "value": 1})[0] == 202
    assert ask(fold, "POST", "/v1/ingest", {"name": "a", "value": 1}, token=old, source="127.0.0.77")[0] == 401
    assert ask(fold, "POST", "/v1/logs", {}, token=old)[0] == 429
    text = ask(fold, "GET", "/metrics")[1]
    assert 'foldback_ingest_refused_total{via="push",reason="unauthorized"} 15' in text
    assert 'foldback_ingest_refused_total{via="otlp",reason="unauthorized"} 1' in text


# ---- config diff ----

def test_config_diff_names_each_value_and_when_it_applies(fold):
    done = fold.cli("config", "diff")
    assert done.returncode == 0 and "is what is in force" in done.stdout, done
    change(fold, "mode: act", 'mode: observe\ndns: { servers: "127.0.0.9:53" }')
    done = fold.cli("config", "diff", "--json")
    assert done.returncode == 1, done.stderr
    changes = {c["key"]: c for c in json.loads(done.stdout)["changes"]}
    assert changes["mode"] == {"key": "mode", "in_force": "act", "file": "observe", "applies": "reload"}
    assert changes["dns.servers"]["applies"] == "restart" and changes["dns.servers"]["file"] == "127.0.0.9:53"
    assert fold.cli("reload").returncode == 0
    done = fold.cli("config", "diff", "--config", fold.file)  # what waits is still different
    assert done.returncode == 1 and "mode " not in done.stdout, done.stdout
    assert "dns.servers" in done.stdout and "at the next start" in done.stdout, done.stdout
    change(fold, "mode: observe", "mode: cat")
    done = fold.cli("config", "diff")
    assert done.returncode == 2 and "mode" in done.stderr and done.stdout == "", done


# ---- keys without effect ----

def test_keys_without_effect_are_told_everywhere_and_nothing_is_refused(tmp_path, origin):
    fold = Foldback(tmp_path, conf(origin, "cache: { memory: 2MiB }\nupstream: { retries: 0, retry_on: [connect] }\n"))
    said = ("cache.memory has no effect: no route keeps answers: write `cache: on` at a route, or remove it",
            "upstream.retry_on has no effect: upstream.retries is 0: write 1..3, or remove it")
    done = fold.cli("config", "check", fold.file)
    assert done.returncode == 0 and all("warning: " + x in done.stderr for x in said), done
    assert ":10:1: warning: cache.memory" in done.stderr, done.stderr
    fold.start()
    try:
        assert all("warning: " + x in fold.text() for x in said), fold.text()
        done = fold.cli("reload")
        assert done.returncode == 0 and all(x in done.stderr for x in said), done
        status, answer = ask(fold, "POST", "/v1/reload")
        assert status == 200 and [w["text"] for w in answer["warnings"]] == list(said), answer
        assert answer["warnings"][0]["line"] == 10, answer
        found = json.dumps(fold.api("GET", "/v1/doctor"))
        assert said[0] in found and said[1] in found, found
        change(fold, "cache: { memory: 2MiB }\n", "")
        status, answer = ask(fold, "POST", "/v1/reload")
        assert status == 200 and [w["text"] for w in answer["warnings"]] == [said[1]], answer
    finally:
        fold.stop()


# ---- purges ----

@pytest.mark.parametrize("body", [
    {"url": "bogus"}, {"url": "*"}, {"prefix": "http://"}, {"url": "not a url"}, {"url": "ftp://a/b"}, {"prefix": "/a"},
    {"url": "http://a/b", "now": "x"}])
def test_what_is_no_url_is_not_purged(fold, body):
    status, problem = ask(fold, "POST", "/v1/cache/purge", body)
    assert status == 422 and ("HOST/PATH" in problem["detail"] or "now" in problem["detail"]), problem


def test_a_purge_that_hits_nothing_says_so(fold):
    for what in ("http://a/b", "a/b", "a/*", "https://a"):
        done = fold.cli("cache", "purge", what, "--timeout", "30")
        assert done.returncode == 0 and "nothing was purged" in done.stdout, done
    assert fold.cli("cache", "purge", "http://*").returncode == 2


class Pages(Origin):
    """Pages that may be kept; those below /a/ have the tag `news`."""

    def __init__(self):
        super().__init__()

        def answer(handler):
            self.hits += 1
            handler.send_response(200)
            handler.send_header("Content-Length", "3")
            handler.send_header("Cache-Control", "max-age=3600")
            if handler.path.startswith("/a/"):
                handler.send_header("Surrogate-Key", "news")
            handler.end_headers()
            handler.wfile.write(b"ok\n")
        self.server.RequestHandlerClass.do_GET = answer


def test_a_purge_says_how_many_answers_it_hit(tmp_path):
    pages = Pages()
    fold = Foldback(tmp_path, conf(pages).replace("service: app }", "service: app, cache: on }"))
    fold.start()

    def fill():
        for path in ("/a/1", "/a/2", "/a/3", "/b/1", "/b/2"):
            for _ in range(2):
                assert fold.get(path) == 200
    try:
        site = "http://127.0.0.1:%d" % fold.port
        for body, count in (({"url": site + "/b/1"}, 1), ({"url": site + "/nowhere"}, 0),
                            ({"prefix": site + "/a/", "now": True}, 3), ({"prefix": site + "/b/"}, 2),
                            ({"tag": "news", "now": True}, 3), ({"tag": "other"}, 0), ({"all": True, "now": True}, 5)):
            for _ in range(5):  # 202: a machine so busy that the gateway took 4 s
                ask(fold, "POST", "/v1/cache/purge", {"all": True, "now": True})
                fill()
                status, answer = ask(fold, "POST", "/v1/cache/purge", body)
                if status == 200:
                    break
            assert status == 200 and answer["purged"] == count, (body, answer)
            assert answer["is_paced"] == ("now" not in body and "url" not in body), answer
        fill()
        done = fold.cli("cache", "purge", "--tag", "news", "--now", "--timeout", "30")
        assert done.returncode == 0 and done.stdout.startswith("Purged 3 answers."), done
        done = fold.cli("cache", "purge", "--all", "--timeout", "30")
        assert done.returncode == 0 and "Purged 2 answers: each is fetched anew" in done.stdout, done
    finally:
        fold.stop()
        pages.stop()


# ---- why, straight after the answer ----

def test_why_of_a_request_is_known_when_its_answer_is(fold):
    c, got = http.client.HTTPConnection("127.0.0.1", fold.port, timeout=30), []
    for i in range(30):
        c.request("GET", "/just/%d" % i)
        r = c.getresponse()
        r.read()
        got.append(ask(fold, "GET", "/v1/why?q=" + r.getheader("X-Request-Id")))
        assert got[-1][0] != 200 or got[-1][1]["kind"] == "request", got[-1]
    c.close()
    # at once; a gateway that was stopped for a second behind its answer may miss one
    assert sum(status == 200 for status, _ in got) >= 25, got


def test_why_of_a_request_that_never_was_is_refused_and_holds_nobody_up(fold):
    until(lambda: ask(fold, "GET", "/v1/why?q=0123456789abcdef")[0] == 404, 60, "404 once the names are known")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(ask, fold, "GET", "/v1/why?q=fedcba987654321%d" % i) for i in range(3)]
        assert ask(fold, "GET", "/v1/status")[0] == 200
        for w in waits:
            status, problem = w.result()
            assert status == 404 and "no recent request" in problem["detail"], problem


# ---- checks before a start ----

@pytest.mark.parametrize("tls, more, said", [
    ("cert: a.pem, key: a.key, ciphers: bogus", "", "bogus"),
    ("cert: a.pem, key: a.key, client_ca: a.key", "", "client_ca"),
    ("cert: a.pem, key: b.key", "", "b.key"),
    ("cert: a.pem, key: a.key, ocsp: junk.der", "", "junk.der"),
    ("cert: a.pem, key: a.key", "dns: { servers: zz }\n", "dns.servers"),
    ("cert: a.pem, key: a.key", "dns: { servers: \"127.0.0.1, 127.0.0.2:99999\" }\n", "127.0.0.2:99999"),
    ("cert: a.pem, key: a.key", "", None),
])
def test_config_check_finds_what_a_start_would_refuse(tmp_path, tls, more, said):
    for name in ("a", "b"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", str(tmp_path / (name + ".key")), "-out", str(tmp_path / (name + ".pem")), "-days",
                        "2", "-subj", "/CN=a"], check=True, capture_output=True, timeout=60)
    (tmp_path / "junk.der").write_bytes(b"junk")
    for name in ("a.pem", "a.key", "b.key", "junk.der"):
        tls = tls.replace(": " + name, ": %s/%s" % (tmp_path, name))
    port = free_port()
    file = tmp_path / "foldback.yaml"
    file.write_text('listen: [{ address: "127.0.0.1:%d", tls: { %s } }]\nadmin: { listen: "127.0.0.1:0" }\n%s'
                    'services: { app: { endpoints: ["127.0.0.1:1"] } }\nroutes: [{ match: /, service: app }]\n'
                    % (port, tls, more))
    done = subprocess.run([BIN, "config", "check", str(file)], capture_output=True, text=True, timeout=60)
    looked = subprocess.run([BIN, "check", "--config", str(file), "--state", str(tmp_path / "none")],
                            capture_output=True, text=True, timeout=60)
    if said is None:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 2 and said in done.stderr, (done.stdout, done.stderr)
    assert looked.returncode == 1 and said in looked.stdout, looked.stdout
    begun = subprocess.run([BIN, "run", "--config", str(file), "--state", str(tmp_path / "state")],
                           capture_output=True, text=True, timeout=60)
    assert begun.returncode != 0 and "starting it again" not in begun.stdout + begun.stderr, begun


def test_config_check_and_a_start_look_at_the_authority_of_tls_internal_alike(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    file = tmp_path / "foldback.yaml"
    file.write_text('listen: [{ address: "127.0.0.1:%d", tls: internal }]\nadmin: { listen: "127.0.0.1:0" }\nstate: %s\n'
                    'services: { app: { endpoints: ["127.0.0.1:1"] } }\nroutes: [{ match: /, service: app }]\n' % (free_port(), state))

    def check():
        done = subprocess.run([BIN, "config", "check", str(file)], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    assert check() == (0, "")  # a start makes it
    for name in ("internal-ca.pem", "internal-ca.key"):
        (state / name).write_text("junk")
    code, said = check()
    assert code == 2 and "internal-ca" in said and ":1: error" in said, said
    begun = subprocess.run([BIN, "run", "--config", str(file)], capture_output=True, text=True, timeout=60)
    assert begun.returncode != 0 and "internal-ca" in begun.stdout + begun.stderr, begun


def test_the_banner_names_the_scheme_of_each_listener(tmp_path):
    ports = [free_port() for _ in range(4)]
    fold = Foldback(tmp_path, 'services: { app: { endpoints: ["127.0.0.1:1"] }, raw: { endpoints: ["127.0.0.1:1"] } }\n'
                    'routes: [{ match: /, service: app }]\n',
                    listen='["127.0.0.1:%%d", { address: "127.0.0.1:%d", tls: internal }, { address: "127.0.0.1:%d", '
                    'protocol: tcp, service: raw }, { address: "127.0.0.1:%d", protocol: tcp, service: raw, tls: internal }]'
                    % tuple(ports[1:])).start()
    try:
        for scheme, port in zip(("http", "https", "tcp", "tls"), [fold.port] + ports[1:]):
            until(lambda: "serves %s://127.0.0.1:%d " % (scheme, port) in fold.text(), 20, scheme)
    finally:
        fold.stop()
