# SPDX-License-Identifier: Apache-2.0
"""Endpoints that come and go by the hundred: more of them than there are numbers, in one life of the process."""
import os
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Origin, until  # noqa: E402

WAIT_S = 60
EACH = 60  # endpoints of one list
LISTS = 20  # 1,200 endpoints: more than the 1,024 numbers


@pytest.fixture
def origin():
    o = Origin()
    yield o
    o.stop()


def address(n):
    return "127.9.%d.%d:9" % (n // 250, n % 250 + 1)


def put(path, addresses):
    with open(path + ".new", "w") as f:
        f.write("endpoints: [%s]\n" % ", ".join('"%s"' % a for a in addresses))
    os.rename(path + ".new", path)


def shown(fold, service):
    """{address: row} of the endpoints that the API shows, which are those with a number."""
    names = {}
    for e in fold.api("GET", "/v1/endpoints", timeout_s=WAIT_S)["endpoints"]:
        of, _, at = e["name"].rpartition(" ")
        if of == service:
            names[at] = e
    return names


def test_more_endpoints_than_numbers_come_and_go_and_the_last_ones_are_known(tmp_path, origin):
    path = str(tmp_path / "list.yaml")
    put(path, [address(0)])
    fold = Foldback(tmp_path, "mode: act\nservices:\n  crowd: { endpoints: [\"file://%s\"] }\n"
                    "  app: { endpoints: [\"127.0.0.1:%d\"] }\nroutes:\n  - { match: /crowd/, service: crowd }\n"
                    "  - { match: /, service: app }\n" % (path, origin.port))
    fold.start()
    try:
        own = "127.0.0.1:%d" % origin.port
        until(lambda: own in shown(fold, "app"), WAIT_S, "the endpoint of app")
        number = shown(fold, "app")[own]["number"]
        n = 0
        for _ in range(LISTS):
            now = [address(n + i) for i in range(EACH)]
            n += EACH
            put(path, now)
            until(lambda: fold.api("GET", "/v1/services/crowd/endpoints", timeout_s=WAIT_S)["endpoints"] is not None
                  and (set(now) & set(shown(fold, "crowd")) or n > 1024), WAIT_S, "list %d" % n)
        until(lambda: set(now) <= set(shown(fold, "crowd")), WAIT_S, "all of the last list have numbers")
        rows = shown(fold, "crowd")
        numbers = [rows[a]["number"] for a in now]
        assert len(set(numbers)) == EACH and max(numbers) < 1024 and number not in numbers
        # who stayed kept its number and is served; the log names the owner of its time
        assert shown(fold, "app")[own]["number"] == number
        assert fold.get("/") == 200
        for _ in range(5):
            fold.get("/crowd/")  # nobody listens there

        def told(service):
            done = fold.cli("events", "query", "SELECT DISTINCT endpoint FROM request WHERE service = '%s'" % service,
                            "--format", "csv", "--dir", fold.state)
            return {row.strip('"').rpartition(" ")[2] for row in done.stdout.split("\n")[1:] if row.strip('"')}
        until(lambda: told("app") == {own} and told("crowd"), WAIT_S, "both are in the log")
        assert told("crowd") <= set(now)
    finally:
        fold.stop()
    done = fold.cli("replay", "--verify")  # whoever reads the log in order meets each owner in its turn
    assert done.returncode == 0, done.stdout + done.stderr
