# SPDX-License-Identifier: Apache-2.0
"""`token_url`: bearer tokens that foldback asks an identity provider for (client credentials, as Entra ID gives them for
Event Hubs), whatever librdkafka was built with: right, wrong, slow, away, ended, renewed before their end."""
import base64
import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Load  # noqa: E402
from kafka_try import connector, in_log, kafka, offsets, origin, send_many, shop, until  # noqa: E402,F401

SECRET = "s3cret &=+%/~ of the shop"  # what must be escaped on its way
ID = "client:one"


class Provider:
    """An identity provider.  The broker takes unsecured JWTs and looks at their times."""

    def __init__(self):
        self.life_s, self.token_life_s, self.how = 600, None, "right"
        self.given = self.refused = 0
        self.forms = []
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
                status, out = provider.answer(dict(urllib.parse.parse_qsl(body)), self.headers.get("authorization", ""))
                if status is None:
                    return
                self.send_response(status)
                self.send_header("content-length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/tenant/oauth2/v2.0/token" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def is_known(self, form, login):
        if self.how == "body only":
            return not login and form.get("client_id") == ID and form.get("client_secret") == SECRET
        if not login.startswith("Basic "):
            return False
        user, password = base64.b64decode(login[6:]).decode().split(":")
        return urllib.parse.unquote(user) == ID and urllib.parse.unquote(password) == SECRET

    def answer(self, form, login):
        if self.how == "away":
            return None, b""
        if self.how == "slow":
            time.sleep(20)
        if self.how == "busy":
            return 503, b"<html>"
        if self.how == "rubbish":
            return 200, b'{"token_type": "Bearer"'
        self.forms.append(form)
        if form.get("grant_type") != "client_credentials" or not self.is_known(form, login):
            self.refused += 1
            return 401, json.dumps({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret"}).encode()
        self.given += 1
        life_s = self.life_s if self.token_life_s is None else self.token_life_s

        def part(o):
            return base64.urlsafe_b64encode(json.dumps(o).encode()).decode().rstrip("=")
        token = "%s.%s." % (part({"alg": "none"}), part({"sub": "carol", "iat": time.time() - 60, "exp": time.time() + life_s}))
        out = {"token_type": "Bearer", "access_token": token}
        if self.token_life_s is None:
            out["expires_in"] = str(self.life_s) if self.how == "body only" else self.life_s
        return 200, json.dumps(out).encode()


@pytest.fixture()
def provider():
    p = Provider()
    yield p
    p.close()


def keys(kind, kafka, topic, provider, tmp_path):  # noqa: F811
    (tmp_path / "secret").write_text(SECRET + "\n")
    extra = "tls: true, sasl: oauthbearer, " if kind == "kafka" else ""
    return ("type: %s, brokers: '127.0.0.1:%d', topic: %s, ca_file: %s, %stoken_url: '%s', client_id: '%s',\n"
            "       client_secret_file: %s, scope: https://shop.servicebus.windows.net/.default, backoff_max: 1s"
            % (kind, kafka.sasl, topic, kafka.folder / "ca.pem", extra, provider.url, ID, tmp_path / "secret"))


def check(fold):
    return subprocess.run([BIN, "connector", "check", "--config", fold.file], capture_output=True, text=True, timeout=90)


@pytest.mark.parametrize("kind", ["kafka", "eventhubs"])
def test_tokens_are_asked_for_and_renewed_before_they_end(kafka, shop, tmp_path, provider, kind):  # noqa: F811
    provider.life_s = 15
    provider.how = "body only" if kind == "eventhubs" else "right"
    topic = kafka.topic("oidc-" + kind)
    fold = shop("  k: { %s, events: [request], from: start }" % keys(kind, kafka, topic, provider, tmp_path))
    load = Load(fold.port, threads=1, pause_s=0.05)
    reader = kafka.reader(topic)
    try:
        until(lambda: provider.given >= 3, 90, "renewed while the old token was good")
        seen = len(set(offsets(reader.poll())))
        until(lambda: len(set(offsets(reader.poll()))) > seen + 20, 60, "events go on with a new token")
        how, provider.how = provider.how, "busy"  # the old token serves on, or else the connector waits
        time.sleep(5)
        provider.how, given = how, provider.given
        until(lambda: provider.given > given, 90)
        seen = len(set(offsets(reader.poll())))
        until(lambda: len(set(offsets(reader.poll()))) > seen + 20, 90, "events go on after the provider was away")
    finally:
        load.stop()
    want = {e["offset"] for e in in_log(fold, "request")}
    until(lambda: want <= set(offsets(reader.poll())), 90)
    assert all(f["scope"] == "https://shop.servicebus.windows.net/.default" for f in provider.forms)
    until(lambda: connector(fold, "k")["state"] == "running", 60)
    reader.close()


def test_a_refusal_names_its_reason_and_never_the_secret(kafka, shop, tmp_path, provider):  # noqa: F811
    topic = kafka.topic("oidc-wrong")
    text = "  k: { %s, events: [request], from: start }" % keys("kafka", kafka, topic, provider, tmp_path)
    (tmp_path / "secret").write_text("not-the-secret\n")
    fold = shop(text)
    send_many(fold.port, 10)
    until(lambda: connector(fold, "k")["state"] == "misconfigured", 60)
    error = connector(fold, "k")["last_error"]
    assert "401" in error and "AADSTS7000215" in error and "client_secret_file" in error, error
    assert "not-the-secret" not in error
    done = check(fold)
    assert done.returncode == 1 and "AADSTS7000215" in done.stdout and "not-the-secret" not in done.stdout + done.stderr
    (tmp_path / "secret").write_text(SECRET + "\n")
    assert fold.cli("connector", "resume", "k").returncode == 0
    until(lambda: connector(fold, "k")["events"] >= 10, 90)
    until(lambda: connector(fold, "k")["state"] == "running", 60)
    assert check(fold).returncode == 0


@pytest.mark.parametrize("how,says", [("slow", "gave no token within 10 s"), ("away", "is not reached"),
                                      ("busy", "status 503"), ("rubbish", "without a readable access_token")])
def test_a_provider_that_is_away_for_a_while_is_waited_for(kafka, shop, tmp_path, provider, how, says):  # noqa: F811
    topic = kafka.topic("oidc-" + how)
    provider.how = how
    fold = shop("  k: { %s, events: [request], from: start }" % keys("kafka", kafka, topic, provider, tmp_path))
    send_many(fold.port, 10)
    until(lambda: says in connector(fold, "k")["last_error"], 90)
    until(lambda: connector(fold, "k")["state"] == "failing", 30)  # it passes: nobody needs to do anything
    assert "token_url" in connector(fold, "k")["last_error"]
    provider.how = "right"
    until(lambda: connector(fold, "k")["events"] >= 10, 90)
    until(lambda: connector(fold, "k")["state"] == "running", 60)


def test_a_token_that_has_ended_already_is_one_clear_error(kafka, shop, tmp_path, provider):  # noqa: F811
    provider.token_life_s = -30
    topic = kafka.topic("oidc-ended")
    fold = shop("  k: { %s, events: [request], from: start }" % keys("kafka", kafka, topic, provider, tmp_path))
    send_many(fold.port, 10)
    until(lambda: connector(fold, "k")["state"] == "misconfigured", 60)
    assert "the token has ended: the provider gives an old one" in connector(fold, "k")["last_error"]
