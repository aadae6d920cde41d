# SPDX-License-Identifier: Apache-2.0
"""A gateway that dies while certificate files are broken comes back with what is good."""
import os
import signal
import socket
import ssl
import subprocess
import time

import pytest
from fb import Foldback, free_port, until


def make(folder, name):
    cert, key = folder / (name + ".pem"), folder / (name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                    "/CN=" + name, "-addext", "subjectAltName=DNS:" + name, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def served(port, name):
    """Whether <name> is answered with its own certificate."""
    c = ssl.create_default_context()
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain, c.wrap_socket(plain, server_hostname=name) as s:
            return name.encode() in s.getpeercert(True)
    except OSError:
        return False


@pytest.mark.parametrize("broken", [["a.example"], ["a.example", "b.example"]])
def test_a_gateway_that_dies_while_certificates_are_broken_comes_back(tmp_path, origin, broken):
    port = free_port()
    files = {name: make(tmp_path, name) for name in ("a.example", "b.example")}
    certs = ", ".join("{ cert: %s, key: %s }" % f for f in files.values())
    listen = '["127.0.0.1:%%d", { address: "127.0.0.1:%d", tls: { certs: [%s] } }]' % (port, certs)
    fold = Foldback(tmp_path, "services: { app: { endpoints: [\"127.0.0.1:%d\"] } }\nroutes: [{ match: /, service: app }]\n"
                    % origin.port, listen=listen)
    fold.start()
    try:
        until(lambda: all(served(port, n) for n in files), 15, "both certificates")
        good = {name: files[name][0].read_bytes() for name in broken}
        for name in broken:
            files[name][0].write_text("half of a file")
        until(lambda: "go on with" in fold.text() or "goes on with" in fold.text(), 15, "the broken file is seen")
        first = fold.child("fb-gateway")
        os.kill(first, signal.SIGKILL)
        until(lambda: fold.child("fb-gateway") not in (None, first), 15, "a new gateway")
        until(lambda: fold.get() == 200, 15, "requests without TLS are served")
        for name in files:
            assert served(port, name) == (name not in broken)
        assert "serves without it until it is good" in fold.text()
        for name in broken:
            files[name][0].write_bytes(good[name])
        until(lambda: all(served(port, n) for n in files), 15, "the repaired files are in force")
    finally:
        fold.stop()


def test_a_refused_upgrade_leaves_the_alert_about_certificates(tmp_path, origin):
    port, (cert, key) = free_port(), make(tmp_path, "a.example")
    listen = '["127.0.0.1:%%d", { address: "127.0.0.1:%d", tls: { cert: %s, key: %s } }]' % (port, cert, key)
    fold = Foldback(tmp_path, "services: { app: { endpoints: [\"127.0.0.1:%d\"] } }\nroutes: [{ match: /, service: app }]\n"
                    % origin.port, listen=listen).start()

    def alert():
        found = [a for a in fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_cert_refused"]
        return found[0] if found else None
    try:
        until(lambda: served(port, "a.example"), 20, "the certificate")
        good = cert.read_bytes()
        cert.write_text("half of a file")
        until(lambda: alert() and not alert()["over"], 30, "the alert")
        done = fold.cli("upgrade")
        assert done.returncode == 1, "the new gateway cannot start with this file"
        for _ in range(20):  # two seconds of the brain's looks
            assert not alert()["over"], "what serves has not changed"
            time.sleep(0.1)
        assert served(port, "a.example")
        cert.write_bytes(good)
        until(lambda: alert()["over"], 30, "the end of the alert")
        cert.write_text("half of a file")
        until(lambda: not alert()["over"], 30, "the alert again")
        cert.write_bytes(good)  # the gateway that sees it may be the old one or the new one, and the brain is another
        assert fold.cli("upgrade").returncode == 0
        until(lambda: alert()["over"], 30, "one that is taken has good files")
    finally:
        fold.stop()
