# SPDX-License-Identifier: Apache-2.0
"""What people see of TLS: metrics, status, check, and alerts about certificates; the whole program."""
import http.client
import json
import os
import ssl
import sys

import pytest
from tls_util import Authority

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Origin, until  # noqa: E402


@pytest.fixture
def authority(tmp_path):
    return Authority(str(tmp_path / "ca"))


@pytest.fixture
def started(tmp_path):
    """started(cert, key, more) -> a foldback with one TLS listener, stopped at the end."""
    things = []

    def make(cert, key, more="", tls=None):
        folder = tmp_path / ("fb%d" % len(things))
        folder.mkdir()
        origin = Origin()
        listen = '[{ address: "127.0.0.1:%%d", tls: %s }]' % (tls or "{ cert: %s, key: %s }" % (cert, key))
        fold = Foldback(folder, "%sservices: { app: { endpoints: [\"127.0.0.1:%d\"] } }\n" % (more, origin.port),
                        listen=listen)
        things.extend([fold, origin])
        return fold.start()

    yield make
    for x in things:
        x.stop()


def get(fold, context):
    c = http.client.HTTPSConnection("localhost", fold.port, timeout=10, context=context)
    c.request("GET", "/")
    r = c.getresponse()
    r.read()
    c.close()
    return r.status


def metric(fold, start):
    return [line for line in scrape(fold).splitlines() if line.startswith(start)]


def scrape(fold):
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    c = http.client.HTTPConnection(where["address"], timeout=5)
    c.request("GET", "/metrics", headers={"Authorization": "Bearer " + open(where["token_file"]).read().strip()})
    text = c.getresponse().read().decode()
    c.close()
    return text


def alerts(fold, reason):
    return [a for a in fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == reason]


def test_handshakes_and_certificates_show_in_metrics_status_and_log(started, authority):
    fold = started(*authority.leaf("localhost", days=100))
    assert get(fold, authority.context()) == 200
    with pytest.raises(ssl.SSLError):
        get(fold, ssl.create_default_context())  # it does not trust us
    until(lambda: metric(fold, 'foldback_tls_handshake_failures_total{cause="alert"} 1'), 5, "the failure is counted")
    assert metric(fold, 'foldback_tls_handshakes_total{kind="full"} ')
    assert metric(fold, 'foldback_tls_certificate_not_after_seconds{name="localhost"')
    assert metric(fold, "foldback_tls_reloads_total 0") and metric(fold, "foldback_tls_files_refused 0")
    tls = fold.api("GET", "/v1/status")["tls"]
    assert tls["handshakes"] >= 1 and tls["failed"]["alert"] == 1
    assert 98 < tls["certificates"][0]["days_left"] < 101
    assert "localhost ends in" in fold.cli("status").stdout
    done = fold.cli("check", "--config", fold.file)
    assert "is good for" in done.stdout, done.stdout
    until(lambda: '"tls": 2' in (t := fold.cli("events", "tail", "--from-offset", "0", "--type", "request", "--limit", "10",
                                               "--json").stdout) or '"tls":2' in t, 5, "the event says TLS 1.3")


def test_an_alert_stands_before_a_certificate_ends_and_goes_when_it_is_renewed(started, authority):
    cert, key = authority.leaf("localhost", days=5)
    fold = started(cert, key, "tls: { expiry_warning: 10d }\n")
    until(lambda: alerts(fold, "alert_cert_expires"), 10, "the alert")
    assert "ends in" in alerts(fold, "alert_cert_expires")[0]["text"]
    done = fold.cli("check", "--config", fold.file)
    assert "warn  tls" in done.stdout, done.stdout
    for path, new in zip((cert, key), authority.leaf("localhost", days=60)):
        os.replace(new, path)
    until(lambda: alerts(fold, "alert_cert_expires")[0]["over"], 10, "the end of the alert")


def test_an_alert_stands_while_changed_files_are_not_good(started, authority):
    cert, key = authority.leaf("localhost")
    fold = started(cert, key)
    fresh, fresh_key = authority.leaf("localhost")
    os.replace(fresh, cert)
    until(lambda: alerts(fold, "alert_cert_refused"), 10, "the alert")
    assert "does not belong" in alerts(fold, "alert_cert_refused")[0]["text"]
    assert get(fold, authority.context()) == 200
    done = fold.cli("check", "--config", fold.file)
    assert "fail  tls" in done.stdout and done.returncode == 1
    os.replace(fresh_key, key)
    until(lambda: alerts(fold, "alert_cert_refused")[0]["over"], 10, "the end of the alert")


def test_a_start_with_a_certificate_that_is_none_says_why(tmp_path, authority):
    cert, key = authority.leaf("localhost")
    with open(cert, "w") as f:
        f.write("nothing\n")
    fold = Foldback(tmp_path, "services: { app: { endpoints: [\"127.0.0.1:1\"] } }\n",
                    listen='[{ address: "127.0.0.1:%%d", tls: { cert: %s, key: %s } }]' % (cert, key))
    with pytest.raises(AssertionError) as e:
        fold.start()
    assert "holds no certificate" in str(e.value)


def test_the_renewal_program_runs_and_what_it_writes_is_served(started, authority, tmp_path):
    cert, key = authority.leaf("localhost", days=3)
    fresh, fresh_key = authority.leaf("localhost", days=80)
    script = tmp_path / "renew.sh"
    script.write_text("#!/bin/sh\nsleep 1\nmv %s %s\nmv %s %s\necho \"$FOLDBACK_STATE $FOLDBACK_ACME_DIR\" > %s/ran\n"
                      % (fresh, cert, fresh_key, key, tmp_path))
    script.chmod(0o755)
    fold = started(cert, key, "tls: { renew_exec: %s, acme_dir: %s }\n" % (script, tmp_path))
    until(lambda: os.path.exists(tmp_path / "ran"), 10, "the program runs")
    assert (tmp_path / "ran").read_text() == "%s %s\n" % (fold.state, tmp_path)
    until(lambda: fold.api("GET", "/v1/status")["tls"]["certificates"][0]["days_left"] > 70, 10, "the new certificate")
    assert get(fold, authority.context()) == 200
    until(lambda: "ended well" in fold.text(), 5, "the log says so")


def test_a_renewal_program_that_fails_or_is_missing_is_told_and_harms_nothing(started, authority, tmp_path):
    script = tmp_path / "renew.sh"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    for program, says in ((script, "ended with code 3"), (tmp_path / "none", "ended with code 127")):
        fold = started(*authority.leaf("localhost"), "tls: { renew_exec: %s, renew_every: 1s }\n" % program)
        until(lambda: says in fold.text(), 10, says)
        assert get(fold, authority.context()) == 200
