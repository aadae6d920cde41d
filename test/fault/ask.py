# SPDX-License-Identifier: Apache-2.0
"""What tests ask of a running foldback, and how they wait for its answer; shared by test/e2e and test/peer."""
import http.client
import json
import os

import fb

NOT_YET = (OSError, AssertionError, http.client.HTTPException, KeyError, TypeError, ValueError)


def until(fact, seconds=60, what="see the line of the test", not_yet=NOT_YET):
    """Processes may be in the middle of a restart: what fails then is asked again."""
    def is_so():
        try:
            return fact()
        except not_yet:
            return False
    fb.until(is_so, seconds, what)


def in_log(fold, kind, *more):
    """Every event of a kind that the log holds."""
    done = fold.cli("events", "tail", "--json", *more, "--from-offset", "0", "--limit", "100000", "--type", kind)
    assert done.returncode == 0, done.stderr
    return [json.loads(x) for x in done.stdout.splitlines()]


def connector(fold, name):
    return next((c for c in fold.api("GET", "/v1/connectors", timeout_s=10)["connectors"] if c["name"] == name), None)


def alerts(fold, reason):
    return [a for a in fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == reason]


def metrics(fold):
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    with open(where["token_file"]) as f:
        token = f.read().strip()
    c = http.client.HTTPConnection(where["address"], timeout=20)
    try:
        c.request("GET", "/metrics", headers={"Authorization": "Bearer " + token})
        r = c.getresponse()
        text = r.read().decode()
    finally:
        c.close()
    assert r.status == 200, text
    return text


def send_many(port, count, path="/item"):
    """One client, one request after the other; <path> may tell each by its number."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for i in range(count):
        c.request("GET", path(i) if callable(path) else path)
        r = c.getresponse()
        r.read()
        assert r.status == 200
    c.close()


def reconfigure(fold, text):
    """Another configuration behind the head that fb.Foldback wrote, and a reload."""
    with open(fold.file) as f:
        head = f.read().split("mode: act")[0]
    with open(fold.file, "w") as f:
        f.write(head + text)
    done = fold.cli("reload")
    assert done.returncode == 0, done.stderr
