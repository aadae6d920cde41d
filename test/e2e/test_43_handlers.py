# SPDX-License-Identifier: Apache-2.0
"""Handlers: events are posted to a URL or given to a command, at least once and in order; what the receiver refuses
is kept, what it cannot take now is sent again."""
import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import signal
import ssl
import subprocess
import threading
import time
from email.utils import formatdate

import pytest
from conftest import Origin, ok
from test_41_connectors import BIN, Foldback, brain_pid, connector, in_log, lines, reconfigure, send_many, until

KEY = "a key of more than sixteen bytes"


class Receiver:
    """An HTTP server that keeps what was posted; <answer>(record, nth time) -> status or None to stay silent."""

    def __init__(self, answer=lambda event, times: 204):
        self.lock, self.seen, self.times, self.at_once, self.most = threading.Lock(), [], {}, 0, 0
        self.release, self.retry_after, self.at = threading.Event(), None, []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_block = self.headers["Content-Type"] == "application/x-ndjson"
                event = {"lines": body.splitlines()} if is_block else json.loads(body)
                with receiver.lock:
                    receiver.at.append((event.get("id", ""), time.monotonic()))
                    key = event.get("id", body)
                    receiver.times[key] = receiver.times.get(key, 0) + 1
                    times = receiver.times[key]
                    receiver.at_once += 1
                    receiver.most = max(receiver.most, receiver.at_once)
                status = answer(event, times)
                if status is None:
                    receiver.release.wait(30)
                    self.close_connection = True
                else:
                    with receiver.lock:
                        receiver.seen.append((status, event, dict(self.headers), body))
                with receiver.lock:
                    receiver.at_once -= 1
                if status is None:
                    return
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                if receiver.retry_after:
                    self.send_header("Retry-After", receiver.retry_after())
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d/hook?secret=1" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def taken(self):
        with self.lock:
            return [e for s, e, _, _ in self.seen if 200 <= s < 300]

    def offsets(self):
        return [int(e["id"].split("/")[1]) for e in self.taken()]

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture()
def receivers():
    made = []

    def make(*args):
        made.append(Receiver(*args))
        return made[-1]
    yield make
    for r in made:
        r.close()


@pytest.fixture()
def foldback(tmp_path):
    """Started ones are stopped whatever happens: another test may get the port of a receiver."""
    made = []

    def make(text):
        made.append(Foldback(tmp_path, text))
        return made[-1].start()
    yield make
    for fold in made:
        fold.stop()


def config(origin, handlers):
    return ('mode: act\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n  - { match: /, service: app }\n'
            "handlers:\n%s\n" % (origin.port, handlers))


def check(tmp_path, handlers):
    path = tmp_path / "check.yaml"
    path.write_text('listen: ["127.0.0.1:1"]\nservices:\n  app: { endpoints: ["127.0.0.1:2"] }\nhandlers:\n' + handlers)
    done = subprocess.run([BIN, "config", "check", str(path)], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def test_each_event_is_posted_once_in_order_as_a_signed_cloudevent(tmp_path, origin, receivers, foldback):
    hook = receivers()
    key = tmp_path / "sign.key"
    key.write_text(KEY + "\n")
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], filter: "status=200", from: start,'
                                             " sign_key_file: %s }" % (hook.url, key)))
    send_many(fold.port, 60)
    until(lambda: len(hook.taken()) >= 60, 30)
    assert hook.offsets() == [x["offset"] for x in in_log(fold, "request")]
    for _, event, headers, body in hook.seen:
        assert headers["Content-Type"].startswith("application/cloudevents+json")
        assert event["specversion"] == "1.0" and event["type"] == "foldback.request.v1" and event["subject"] == "app"
        assert event["data"]["status"] == 200
        t, v1 = (x.split("=", 1)[1] for x in headers["Foldback-Signature"].split(","))
        want = hmac.new(KEY.encode(), t.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(v1, want)
        assert headers["foldback-offset"] == event["id"].split("/")[1]
    assert connector(fold, "hook")["type"] == "http"


def is_standard(secret, headers, body):
    """As the specification of Standard Webhooks has it."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    want = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(headers["webhook-signature"], want) and abs(time.time() - int(headers["webhook-timestamp"])) < 300


@pytest.mark.parametrize("secret", ["whsec_" + base64.b64encode(b"twenty-four bytes or so!").decode(), KEY])
def test_receivers_of_standard_webhooks_can_verify_it_also_when_it_comes_again(tmp_path, origin, receivers, foldback, secret):
    hook = receivers(lambda event, times: 503 if times == 1 else 204)
    key = tmp_path / "sign.key"
    key.write_text(secret + "\n")
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start, backoff_max: 100ms, sign_key_file: %s }'
                           % (hook.url, key)))
    send_many(fold.port, 5)
    until(lambda: len(hook.taken()) >= 5, 30)
    ids = {}
    for status, event, headers, body in list(hook.seen):
        assert is_standard(secret, headers, body)
        assert not is_standard(secret, headers, body + b" ")
        assert headers["webhook-id"] == event["id"]
        ids.setdefault(event["id"], []).append(status)
    assert all(got == [503, 204] for got in ids.values())


def test_a_key_that_is_no_base64_is_told(tmp_path, origin, receivers, foldback):
    hook = receivers()
    key = tmp_path / "sign.key"
    key.write_text("whsec_not base64 at all\n")
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start, sign_key_file: %s }' % (hook.url, key)))
    until(lambda: "behind whsec_ comes base64" in (connector(fold, "hook") or {}).get("last_error", ""), 30)
    assert not hook.seen


def test_what_fails_is_sent_again_and_the_order_stays(origin, receivers, foldback):
    flaky = receivers(lambda event, times: 500 if times == 1 and event["data"]["offset"] % 3 == 0 else 429
                      if times == 1 and event["data"]["offset"] % 5 == 0 else 200)
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start, backoff_max: 100ms }'
                                     % flaky.url))
    send_many(fold.port, 40)
    until(lambda: len(flaky.taken()) >= 40, 60)
    assert flaky.offsets() == [x["offset"] for x in in_log(fold, "request")]
    until(lambda: connector(fold, "hook")["retries"] >= 5, 20)


@pytest.mark.parametrize("status, after", [(429, lambda: "2"), (503, lambda: formatdate(time.time() + 4, usegmt=True))])
def test_retry_after_is_waited_for_before_the_same_event_and_all_others(origin, receivers, foldback, status, after):
    busy, other = receivers(lambda event, times: status if not busy.seen else 200), receivers()
    busy.retry_after = after
    fold = foldback(config(origin, '  busy: { url: "%s", events: [request], from: start, backoff_max: 100ms }\n'
                           '  other: { url: "%s", events: [request], from: start }' % (busy.url, other.url)))
    send_many(fold.port, 1)
    until(lambda: busy.seen and str(status) in connector(fold, "busy")["last_error"], 60)
    send_many(fold.port, 4)
    until(lambda: len(other.taken()) == 5, 60)  # it waits for nobody
    until(lambda: len(busy.taken()) == 5, 60)
    first, again = busy.at[:2]
    assert first[0] == again[0]
    assert again[1] - first[1] >= 2  # without it: 100 ms
    assert busy.offsets() == other.offsets() == [x["offset"] for x in in_log(fold, "request")]


@pytest.mark.parametrize("body", ["short", "endless", "drip"])
def test_a_status_is_an_answer_whatever_comes_of_the_body(origin, foldback, body):
    """The receiver has the event; sent again because of its body it would have it for ever."""
    seen, ends = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["id"])
            self.send_response(200)
            if body == "short":
                self.send_header("Content-Length", "1000")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(b"taken")
                while body != "short" and not ends.wait(0.05 if body == "drip" else 0):
                    self.wfile.write(b"." if body == "drip" else b"." * 65536)

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        fold = foldback(config(origin, '  hook: { url: "http://127.0.0.1:%d/", events: [request], from: start, timeout: 2s,'
                               " backoff_max: 100ms }" % server.server_port))
        send_many(fold.port, 3)
        until(lambda: connector(fold, "hook")["events"] == 3, 60)
        assert len(seen) == len(set(seen)) == 3
        assert connector(fold, "hook")["retries"] == 0
    finally:
        ends.set()
        server.shutdown()
        server.server_close()


def test_a_receiver_that_stays_silent_is_given_up_and_asked_again(origin, receivers, foldback):
    silent = receivers(lambda event, times: None if times == 1 else 200)
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start, timeout: 300ms,'
                                             " backoff_max: 100ms }" % silent.url))
    send_many(fold.port, 3)
    until(lambda: sorted(set(silent.offsets())) == [x["offset"] for x in in_log(fold, "request")], 60)
    assert all(n >= 2 for n in silent.times.values())


@pytest.mark.parametrize("status, reason", [(422, "refused by the receiver"), (413, "larger than the receiver takes")])
def test_a_refused_event_is_kept_as_a_dead_letter_and_the_next_goes_on(origin, receivers, status, reason, foldback):
    picky = receivers(lambda event, times: status if event["data"]["status"] == 404 else 200)
    lost = Origin(lambda r, w: b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" if "missing" in r.target else ok())
    fold = foldback(config(lost, '  hook: { url: "%s", events: [request], from: start }' % picky.url))
    send_many(fold.port, 5)
    assert fold.get("/missing") == 404
    send_many(fold.port, 5)
    dead = os.path.join(fold.state, "connectors", "hook.dead.jsonl")
    until(lambda: len(picky.taken()) == 10 and len(lines(dead)) == 1, 30)
    assert lines(dead)[0]["reason"] == reason
    assert lines(dead)[0]["offset"] not in picky.offsets()
    assert connector(fold, "hook")["dead"] == 1
    lost.close()


@pytest.mark.parametrize("status", [403, 404, 410, 302])
def test_a_wrong_address_or_key_buries_nothing(origin, receivers, status, foldback):
    wrong, right = receivers(lambda event, times: status), receivers()
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start }' % wrong.url))
    send_many(fold.port, 5)
    until(lambda: connector(fold, "hook")["state"] == "misconfigured", 30)
    said = connector(fold, "hook")["last_error"]
    assert str(status) in said and "secret" not in said
    until(lambda: any("needs a hand" in x["text"] for x in in_log(fold, "alert")), 20)
    reconfigure(fold, config(origin, '  hook: { url: "%s", events: [request], from: start }' % right.url))
    until(lambda: len(right.taken()) >= 5, 30)
    assert right.offsets() == [x["offset"] for x in in_log(fold, "request")]
    assert not lines(os.path.join(fold.state, "connectors", "hook.dead.jsonl"))


def test_a_killed_brain_loses_no_event(origin, receivers, foldback):
    hook = receivers()
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start }' % hook.url))
    for _ in range(2):
        send_many(fold.port, 60)
        os.kill(brain_pid(fold), signal.SIGKILL)
    send_many(fold.port, 20)
    until(lambda: len(set(hook.offsets())) >= 140, 60)
    assert sorted(set(hook.offsets())) == [x["offset"] for x in in_log(fold, "request")]


def test_a_chat_hook_gets_a_sentence_for_each_decision_and_alert(tmp_path, origin, receivers, foldback):
    chat = receivers()
    url = tmp_path / "url"
    url.write_text(chat.url + "\n")
    wrong = receivers(lambda event, times: 401)
    fold = foldback(config(origin, "  chat: { url_file: %s, format: chat, events: [alert, decision, key] }\n"
                                             '  broken: { url: "%s", events: [request], from: start }'
                                     % (url, wrong.url)))
    until(lambda: connector(fold, "chat")["state"] == "running" or connector(fold, "chat")["offset"] > 0, 20)
    send_many(fold.port, 3)
    until(lambda: any("connector broken needs a hand" in e["text"] for e in chat.taken()), 30)
    assert all(list(e) == ["text"] and e["text"] for e in chat.taken())


def test_a_rate_is_kept_and_paused_handlers_wait(origin, receivers, foldback):
    hook = receivers()
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start, rate: 5 }'
                                     % hook.url))
    assert fold.cli("connector", "pause", "hook").returncode == 0
    send_many(fold.port, 12)
    until(lambda: connector(fold, "hook")["state"] == "paused", 20)
    had = len(hook.taken())
    assert fold.cli("connector", "resume", "hook").returncode == 0
    until(lambda: len(hook.taken()) >= 12, 30)
    assert had < 12 and hook.most <= 4


def script(tmp_path, name, text):
    path = tmp_path / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_a_command_gets_each_event_on_its_input_in_order(tmp_path, origin, foldback):
    out = tmp_path / "out.jsonl"
    # a loop, as scripts have it: it does nothing at all with a line that has no end
    run = script(tmp_path, "run", 'while read -r line; do printf "%s\\n" "$line" >> "$1"; done; env > "$2"\n')
    fold = foldback(config(origin, "  run: { command: [%s, %s, '%s'], events: [request], from: start }"
                                     % (run, out, tmp_path / "env, of it")))
    send_many(fold.port, 20)
    until(lambda: len(lines(out)) >= 20, 60)
    os.kill(brain_pid(fold), signal.SIGKILL)
    send_many(fold.port, 10)
    until(lambda: len({x["id"] for x in lines(out)}) >= 30, 60)
    got = [int(x["id"].split("/")[1]) for x in lines(out)]
    assert sorted(set(got)) == [x["offset"] for x in in_log(fold, "request")]
    until(lambda: {x.split("=")[0] for x in (tmp_path / "env, of it").read_text().splitlines()} -
          {"PWD", "OLDPWD", "_", "SHLVL"} == {"PATH", "LANG", "HOME", "FOLDBACK_HANDLER"}, 20)


def test_a_command_that_fails_is_tried_again_and_then_buried(tmp_path, origin, foldback):
    seen = tmp_path / "seen"
    run = script(tmp_path, "run", 'cat >> "$1"; echo it is full; exit 3\n')
    fold = foldback(config(origin, "  run: { command: [%s, %s], events: [request], from: start, tries: 3,"
                                             " backoff_max: 100ms }" % (run, seen)))
    send_many(fold.port, 2)
    dead = os.path.join(fold.state, "connectors", "run.dead.jsonl")
    until(lambda: len(lines(dead)) >= 2, 60)
    seen_at = [x["data"]["offset"] for x in lines(seen)]
    assert [seen_at.count(x["offset"]) for x in lines(dead)[:2]] == [3, 3]
    assert "ended with code 3: it is full" in fold.text()


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path, origin, foldback):
    pids = tmp_path / "pids"
    run = script(tmp_path, "run", 'sleep 600 & echo $! >> "$1"; yes\n')  # and writes without end
    fold = foldback(config(origin, "  run: { command: [%s, %s], events: [request], from: start, tries: 1,"
                                             " timeout: 500ms }" % (run, pids)))
    send_many(fold.port, 1)
    dead = os.path.join(fold.state, "connectors", "run.dead.jsonl")
    until(lambda: len(lines(dead)) == 1, 60)
    assert "took too long and was ended" in fold.text()
    until(lambda: not any(os.path.exists("/proc/" + x) and b"sleep" in open("/proc/%s/cmdline" % x, "rb").read()
                          for x in pids.read_text().split()), 20)


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "sleep 600"])
def test_what_a_command_put_into_a_session_of_its_own_ends_with_it(tmp_path, origin, foldback, end):
    pids = tmp_path / "pids"
    run = script(tmp_path, "run", """: > "$1"
setsid sh -c 'echo $$ >> "$1"; (setsid sleep 601 & echo $! >> "$1"); exec sleep 602' - "$1" &
while [ "$(wc -l < "$1")" -lt 2 ]; do sleep 0.05; done
%s
""" % end)
    fold = foldback(config(origin, "  run: { command: [%s, %s], events: [request], from: start, tries: 1, timeout: 20s }"
                           % (run, pids)))
    send_many(fold.port, 1)
    until(lambda: len(pids.read_text().split()) >= 2, 60)

    def is_there(pid):
        with contextlib.suppress(OSError), open("/proc/%s/cmdline" % pid, "rb") as f:
            return b"sleep" in f.read()
        return False
    until(lambda: not any(is_there(x) for x in pids.read_text().split()), 60)


def test_a_command_that_is_not_there_buries_nothing(tmp_path, origin, foldback):
    out, run = tmp_path / "out", tmp_path / "later"
    fold = foldback(config(origin, "  run: { command: [%s, %s], events: [request], from: start }" % (run, out)))
    send_many(fold.port, 2)
    until(lambda: connector(fold, "run")["state"] == "misconfigured", 30)
    assert "No such file" in connector(fold, "run")["last_error"]
    script(tmp_path, "later", 'cat >> "$1"\n')
    assert fold.cli("connector", "pause", "run").returncode == 0
    until(lambda: connector(fold, "run")["state"] == "paused", 20)
    assert fold.cli("connector", "resume", "run").returncode == 0
    until(lambda: len(lines(out)) == 2, 30)


def test_a_reload_changes_the_command(tmp_path, origin, foldback):
    one, two = tmp_path / "one", tmp_path / "two"
    run = script(tmp_path, "run", 'cat >> "$1"\n')
    line = "  run: { command: [%s, %s], events: [request], from: start }"
    fold = foldback(config(origin, line % (run, one)))
    send_many(fold.port, 3)
    until(lambda: len(lines(one)) == 3, 30)
    reconfigure(fold, config(origin, line % (run, two)))
    send_many(fold.port, 3)
    until(lambda: len(lines(one)) + len(lines(two)) >= 6 and lines(two), 30)
    send_many(fold.port, 1)
    until(lambda: lines(two)[-1]["id"].endswith("/%d" % in_log(fold, "request")[-1]["offset"]), 30)


def test_a_reload_adds_and_removes_handlers(origin, receivers, foldback):
    one, two = receivers(), receivers()
    fold = foldback(config(origin, '  one: { url: "%s", events: [request], from: start }' % one.url))
    send_many(fold.port, 5)
    until(lambda: len(one.taken()) >= 5, 30)
    reconfigure(fold, config(origin, '  two: { url: "%s", events: [request], from: start }' % two.url))
    until(lambda: connector(fold, "two") and not connector(fold, "one"), 20)
    send_many(fold.port, 5)
    until(lambda: len(two.taken()) >= 10, 30)
    assert len(one.taken()) == 5


@pytest.mark.parametrize("text, says", [
    ("  x: { events: [alert] }", "needs either `url`"),
    ("  x: { url: 'https://a/', command: [/bin/true] }", "needs either `url`"),
    ("  x: { url: 'ftp://a/' }", "must be http://HOST"),
    ("  x: { url: 'https://me:pw@a/' }", "must not hold a password"),
    ("  x: { url: 'https://a/', type: http }", "has no `type`"),
    ("  x: { url: 'https://a/', direction: source }", "only sends"),
    ("  x: { url: 'https://a/', events: [alrt] }", "did you mean alert"),
    ("  x: { url: 'https://a/', concurrency: 65 }", "1..64"),
    ("  x: { url: 'https://a/', sign_key_file: /does/not/exist }", "No such file"),
    ("  x: { url: 'https://a/', sgn_key_file: abc }", "did you mean `sign_key_file`"),
    ("  x: { command: [true] }", "full path of a program"),
    ("  x: { command: [/bin/true], concurrency: 4 }", "`concurrency` is a key of handlers with `url` (connectors of type http)"),
    ("  x: { command: [/bin/true], sign_key_file: /etc/hostname }", "`sign_key_file` is a key of handlers with `url`"),
    ("  x: { url: 'https://a/', tries: 3 }", "`tries` is a key of handlers with `command` (connectors of type exec)"),
    ("  x: { command: [/bin/true], tries: 0 }", "tries"),
    ("  x: { url: 'https://a/', format: binary }", "leave out `format: binary`"),
])
def test_a_wrong_handler_is_told_with_its_line_and_the_next_step(tmp_path, text, says):
    code, out = check(tmp_path, text + "\n")
    assert code != 0 and says in out and ":5" in out, out


def test_handlers_and_connectors_have_names_of_their_own(tmp_path):
    path = tmp_path / "check.yaml"
    code, out = check(tmp_path, "  x: { url: 'https://a/' }\nconnectors:\n  x: { type: file, path: %s }\n" % path)
    assert code != 0 and "already a name in handlers" in out, out


def test_a_password_in_a_url_file_is_told_to_nobody(tmp_path, origin, receivers, foldback):
    wrong = receivers(lambda event, times: 403)
    secret = tmp_path / "url"
    secret.write_text(wrong.url.replace("://", "://me:pa@ss@") + "\n")
    fold = foldback(config(origin, '  hook: { url_file: "%s", events: [request], from: start }' % secret))
    send_many(fold.port, 1)
    until(lambda: connector(fold, "hook")["state"] == "misconfigured", 30)
    said = connector(fold, "hook")["last_error"]
    assert "http://127.0.0.1:" in said and "pa@ss" not in said and "me:" not in said


def test_check_reaches_the_url_and_finds_the_program_but_sends_nothing(tmp_path, receivers):
    hook = receivers()
    path = tmp_path / "check.yaml"
    path.write_text('listen: ["127.0.0.1:1"]\nservices:\n  app: { endpoints: ["127.0.0.1:2"] }\nhandlers:\n'
                    '  good: { url: "%s" }\n  run: { command: [/bin/true] }\n  gone: { url: "http://127.0.0.1:1/" }\n'
                    "  none: { command: [/does/not/exist] }\n" % hook.url)
    done = {n: subprocess.run([BIN, "connector", "check", n, "--config", str(path)], capture_output=True, text=True,
                              timeout=60) for n in ("good", "run", "gone", "none")}
    assert [done[n].returncode == 0 for n in done] == [True, True, False, False], done
    assert "reached; no event was sent" in done["good"].stdout and not hook.seen
    assert "secret" not in done["good"].stdout
    assert "cannot be run" in done["none"].stdout + done["none"].stderr


def test_a_handler_speaks_tls_and_knows_its_authority(tmp_path, origin, receivers, foldback):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=hook", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True, timeout=60)
    hook = receivers()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    hook.server.socket = context.wrap_socket(hook.server.socket, server_side=True)
    url = hook.url.replace("http://", "https://")
    fold = foldback(config(origin, '  hook: { url: "%s", events: [request], from: start }' % url))
    send_many(fold.port, 3)
    until(lambda: connector(fold, "hook")["state"] == "misconfigured", 30)
    assert not hook.seen
    reconfigure(fold, config(origin, '  hook: { url: "%s", events: [request], from: start, ca_file: %s }' % (url, cert)))
    until(lambda: len(hook.taken()) >= 3, 30)
