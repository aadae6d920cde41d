# SPDX-License-Identifier: Apache-2.0
"""What operators see of a file of users that is not good any more, and of a full queue of password checks."""
import base64
import http.client
import os
import signal
import socket
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Origin, until  # noqa: E402
from test_38_auth import SHA512, slow_hash  # noqa: E402

WAIT_S = 90


@pytest.fixture
def fold(tmp_path):
    origin = Origin()
    path = str(tmp_path / "users.htpasswd")
    write(path, "ann:" + SHA512)
    f = Foldback(tmp_path, 'mode: act\nservices:\n  app:\n    endpoints: ["127.0.0.1:%d"]\nroutes:\n'
                 '  - { match: /staff/, service: app, auth: { basic: { file: %s } } }\n'
                 '  - { match: /office/, service: app, auth: { basic: { file: %s } } }\n'
                 '  - { match: /, service: app }\n' % (origin.port, path, path))
    f.users = path
    f.start()
    yield f
    f.stop()
    origin.stop()


def write(path, *lines):
    with open(path + ".new", "w") as out:
        out.write("".join(line + "\n" for line in lines))
    os.rename(path + ".new", path)


def field(password="secret", user="ann"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def asks(fold, password="secret"):
    c = http.client.HTTPConnection("127.0.0.1", fold.port, timeout=WAIT_S)
    try:
        c.request("GET", "/staff/", headers={"Authorization": field(password)})
        r = c.getresponse()
        r.read()
        return r.status
    finally:
        c.close()


def metric(fold, line):
    """Value of a line of /metrics, None when it has none."""
    import json
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    c = http.client.HTTPConnection(where["address"], timeout=WAIT_S)
    try:
        c.request("GET", "/metrics", headers={"Authorization": "Bearer " + open(where["token_file"]).read().strip()})
        for text in c.getresponse().read().decode().splitlines():
            if text.startswith(line + " "):
                return float(text.split()[-1])
        return None
    finally:
        c.close()


def stands(fold, reason):
    """The text of the alert that stands, None."""
    try:
        alerts = fold.api("GET", "/v1/alerts", timeout_s=WAIT_S)["alerts"]
    except (OSError, AssertionError, http.client.HTTPException):
        return None  # the brain is on its way
    return next((a["text"] for a in alerts if a["reason"] == reason and a["over"] is None), None)


def node_figures(fold):
    auth = next(f for f in fold.api("GET", "/v1/features", timeout_s=WAIT_S)["features"] if f["name"] == "auth")
    return next((x["figures"] for x in auth["seen"] if x["of"] == "node"), None)


@pytest.mark.parametrize("harm,says", [
    (lambda p: write(p, "bob:" + SHA512, "eve:nothing"), "line 2"),
    (os.unlink, "No such file"),
    (lambda p: (os.unlink(p), os.mkdir(p)), "users.htpasswd"),
])
def test_a_file_that_is_not_good_any_more_is_told_until_it_is(fold, harm, says):
    assert asks(fold) == 200
    until(lambda: node_figures(fold) == {"files_not_good": 0, "checks_waiting": 0, "checks_without_room": 0}, WAIT_S, "its file")
    assert metric(fold, "foldback_auth_files_refused") == 0 and stands(fold, "alert_users_refused") is None
    assert "Its files of users are good (1)." in fold.cli("why", "auth").stdout
    harm(fold.users)
    until(lambda: stands(fold, "alert_users_refused"), WAIT_S, "the alert")
    text = stands(fold, "alert_users_refused")
    assert says in text and "the users read last stay" in text, text
    assert metric(fold, "foldback_auth_files_refused") == 1, "two routes, one file"
    assert metric(fold, 'foldback_auth_file_reads_total{result="refused"}') == 1
    out = fold.cli("why", "auth").stdout
    assert "1 of 1 files of users is not good now" in out and says in out, out
    assert node_figures(fold)["files_not_good"] == 1
    assert asks(fold) == 200 and asks(fold, "wrong") == 401  # the users read last
    old = fold.child("fb-brain")
    os.kill(old, signal.SIGKILL)  # it stands, and is not told twice
    until(lambda: fold.child("fb-brain") not in (None, old), WAIT_S, "a new brain")
    until(lambda: stands(fold, "alert_users_refused"), WAIT_S, "it stands still")
    if os.path.isdir(fold.users):
        os.rmdir(fold.users)
    write(fold.users, "ann:" + SHA512, "bob:" + SHA512)
    until(lambda: stands(fold, "alert_users_refused") is None and metric(fold, "foldback_auth_files_refused") == 0, WAIT_S,
          "it is over")
    assert metric(fold, 'foldback_auth_file_reads_total{result="ok"}') == 1

    def told():
        return fold.cli("events", "tail", "--type", "alert", "--limit", "100").stdout.count('"reason":772,')
    until(lambda: told() >= 2, WAIT_S, "its end is in the log too")
    assert told() == 2, "it began once and ended once"


def test_a_gateway_that_comes_back_beside_a_bad_file_says_that_nobody_is_let_in(fold):
    write(fold.users, "ann:secret")
    until(lambda: stands(fold, "alert_users_refused"), WAIT_S, "the alert")
    old = fold.child("fb-gateway")
    os.kill(old, signal.SIGKILL)
    until(lambda: fold.child("fb-gateway") not in (None, old), WAIT_S, "a new gateway")
    until(lambda: "nobody is let in by a file of users" in fold.cli("why", "auth").stdout, WAIT_S, "it says so")
    assert asks(fold) == 503 and metric(fold, "foldback_auth_files_refused") == 1
    write(fold.users, "ann:" + SHA512)
    until(lambda: asks(fold) == 200, WAIT_S, "the users are let in")
    until(lambda: stands(fold, "alert_users_refused") is None, WAIT_S, "it is over")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_be_read_again_is_read_again(fold):
    write(fold.users, "bob:" + SHA512)
    os.chmod(fold.users, 0)
    until(lambda: stands(fold, "alert_users_refused"), WAIT_S, "the alert")
    os.chmod(fold.users, 0o600)
    until(lambda: stands(fold, "alert_users_refused") is None, WAIT_S, "it is over")


def guess(fold, source, number):
    s = socket.create_connection(("127.0.0.1", fold.port), timeout=WAIT_S, source_address=(source, 0))
    s.sendall(f"GET /staff/ HTTP/1.1\r\nHost: a\r\nAuthorization: {field('guess%d' % number)}\r\n\r\n".encode())
    return s


def test_a_full_queue_is_counted_and_told_until_there_is_room(fold):
    write(fold.users, "ann:" + slow_hash())
    until(lambda: metric(fold, 'foldback_auth_file_reads_total{result="ok"}') == 1, WAIT_S, "the slow hash is in force")
    full = 'foldback_auth_checks_refused_total{cause="full"}'
    client = 'foldback_auth_checks_refused_total{cause="client"}'
    wires = [guess(fold, "127.0.0.1", i) for i in range(40)]  # of one client 16 may wait
    until(lambda: metric(fold, client) >= 1, WAIT_S, "one client is held back")
    assert metric(fold, full) == 0 and stands(fold, "alert_auth_full") is None, "its own affair"
    until(lambda: metric(fold, "foldback_auth_checks_waiting") >= 1, WAIT_S, "some wait")
    number = 1000

    def is_full():
        nonlocal number
        for host in range(2, 16):
            wires.extend(guess(fold, f"127.0.0.{host}", number + i) for i in range(16))
            number += 16
        return metric(fold, full) >= 1
    until(is_full, WAIT_S, "the queue is full")
    until(lambda: stands(fold, "alert_auth_full"), WAIT_S, "the alert")
    assert "foldback why auth" in stands(fold, "alert_auth_full")
    assert "because as many waited as may" in fold.cli("why", "auth").stdout
    assert node_figures(fold)["checks_without_room"] >= 1
    for s in wires:
        s.close()  # who leaves takes his password out of the queue
    until(lambda: metric(fold, "foldback_auth_checks_waiting") == 0, WAIT_S, "the queue is empty")
    until(lambda: stands(fold, "alert_auth_full") is None, WAIT_S, "it is over")
    assert asks(fold) == 200
