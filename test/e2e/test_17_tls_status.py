# SPDX-License-Identifier: Apache-2.0
"""What people see of TLS: metrics, status, check, and alerts about certificates; the whole program."""
import http.client
import json
import os
import socket
import ssl
import sys
import time

import pytest
from conftest import WAIT_S
from h2_util import H2
from tls_util import Authority

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import alerts  # noqa: E402
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


def staple(authority, cert, path, made_h, until_h):
    """An OCSP answer about <cert>, from <made_h> hours from now until <until_h> from now."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509 import ocsp
    now = datetime.datetime.now(datetime.timezone.utc)
    with open(cert, "rb") as leaf, open(authority.cert, "rb") as ca, open(authority.key, "rb") as key:
        leaf, ca = (x509.load_pem_x509_certificate(f.read()) for f in (leaf, ca))
        key = serialization.load_pem_private_key(key.read(), None)
    answer = ocsp.OCSPResponseBuilder().add_response(
        cert=leaf, issuer=ca, algorithm=hashes.SHA1(), cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=now + datetime.timedelta(hours=made_h), next_update=now + datetime.timedelta(hours=until_h),
        revocation_time=None, revocation_reason=None).responder_id(ocsp.OCSPResponderEncoding.HASH, ca)
    with open(path + ".new", "wb") as f:
        f.write(answer.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    os.replace(path + ".new", path)


def test_an_old_ocsp_answer_is_told_until_a_fresh_one_comes(started, authority, tmp_path):
    cert, key = authority.leaf("localhost", days=100)
    path = str(tmp_path / "answer.der")
    staple(authority, cert, path, -7 * 24 + 20, 20)
    fold = started(cert, key, tls="{ cert: %s, key: %s, ocsp: %s }" % (cert, key, path))
    until(lambda: alerts(fold, "alert_staple_old"), 30, "the last quarter of its week")
    assert "ends in" in alerts(fold, "alert_staple_old")[0]["text"]
    age = float(metric(fold, 'foldback_tls_staple_age_seconds{name="localhost"')[0].rsplit(" ", 1)[1])
    assert abs(age - (7 * 24 - 20) * 3600) < 600
    ends = float(metric(fold, 'foldback_tls_staple_until_seconds{name="localhost"')[0].rsplit(" ", 1)[1])
    assert abs(ends - time.time() - 20 * 3600) < 600
    shown = fold.api("GET", "/v1/status")["tls"]["certificates"][0]
    assert abs(shown["staple_left_s"] - 20 * 3600) < 600
    assert "1 staples" in fold.cli("why", "ocsp").stdout
    staple(authority, cert, path, -1, 7 * 24)
    until(lambda: alerts(fold, "alert_staple_old")[0]["over"], 30, "the end of the alert")
    assert get(fold, authority.context()) == 200


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


def test_a_renewal_that_fails_is_an_alert_with_its_code_until_one_ends_well(started, authority, tmp_path):
    script, good = tmp_path / "renew.sh", tmp_path / "good"
    script.write_text("#!/bin/sh\n[ -e %s ] || exit 3\n" % good)
    script.chmod(0o755)
    fold = started(*authority.leaf("localhost"), "tls: { renew_exec: %s, renew_every: 1s }\n" % script)
    until(lambda: alerts(fold, "alert_renew_failed"), 30, "the alert")
    assert "ended with code 3" in alerts(fold, "alert_renew_failed")[0]["text"]
    assert float(metric(fold, 'foldback_tls_renewals_total{result="failed"}')[0].rsplit(" ", 1)[1]) >= 1
    assert "failed" in fold.cli("why", "acme").stdout
    good.touch()
    until(lambda: alerts(fold, "alert_renew_failed")[0]["over"], 30, "the end of the alert")
    until(lambda: not metric(fold, 'foldback_tls_renewals_total{result="ok"} 0'), 30, "the good run is counted")
    assert float(metric(fold, "foldback_tls_renewal_next_seconds ")[0].rsplit(" ", 1)[1]) > time.time() - 60


def ask(fold, context, session=None):
    """One request on a connection of its own: its session, and whether that was resumed."""
    plain = socket.create_connection(("127.0.0.1", fold.port), WAIT_S)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as s:
        s.sendall(b"GET /app/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while s.recv(65536):
            pass
        return s.session, s.session_reused


def why_all(fold, count):
    """What `why` says of each request, oldest first."""
    def events():
        done = fold.cli("events", "tail", "--from-offset", "0", "--type", "request", "--limit", "1000", "--json")
        return [json.loads(x) for x in done.stdout.splitlines()]

    until(lambda: len(events()) >= count, 30, "the events")
    return [fold.api("GET", "/v1/why?q=%016x" % e["request_id"]) for e in events()]


@pytest.mark.parametrize("version, name", [(ssl.TLSVersion.TLSv1_2, "1.2"), (ssl.TLSVersion.TLSv1_3, "1.3")])
def test_why_tells_protocol_version_cipher_and_resumption(started, authority, version, name):
    fold = started(*authority.leaf("localhost"))
    context = authority.context(minimum_version=version, maximum_version=version)
    session, _ = ask(fold, context)
    _, is_resumed = ask(fold, context, session)
    assert is_resumed
    first, second = why_all(fold, 2)
    for told, resumed in ((first, False), (second, True)):
        r = told["request"]
        assert (r["protocol"], r["tls"], r["tls_resumed"]) == ("HTTP/1", name, resumed), r
        assert r["tls_cipher"].startswith("TLS_") and "grpc_status" not in r
        assert any("HTTP/1 over TLS %s (%s), in a session that was %s." % (name, r["tls_cipher"], "resumed" if resumed else "new")
                   in x for x in told["sentences"]), told["sentences"]


def test_why_tells_the_status_of_a_grpc_call(started, authority):
    fold = started(*authority.leaf("localhost"), more="routes: [{ match: /app/, service: app }]\n")
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("127.0.0.1", fold.port), WAIT_S)
    c = H2(fold.port, sock=context.wrap_socket(plain, server_hostname="localhost"))
    a = c.get("/other", "POST", [("content-type", "application/grpc")], b"\0\0\0\0\0")
    assert a.fields.get("grpc-status") == "12", (a.reset, a.is_over, c.goaway, c.is_closed, fold.text()[-600:])
    c.close()
    [told] = why_all(fold, 1)
    assert (told["request"]["protocol"], told["request"]["grpc_status"]) == ("HTTP/2", 12)
    assert "The gRPC call ended with status 12 (UNIMPLEMENTED)." in told["sentences"]
