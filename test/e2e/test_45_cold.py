# SPDX-License-Identifier: Apache-2.0
"""What an empty cache would mean is told by every face before it happens (the whole program)."""
import json
import os
import socket
import sys
import time

import pytest
from conftest import WAIT_S, Origin, ok

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, until  # noqa: E402

PAGES = 200


def answer(request, wire):
    time.sleep(0.05)
    return ok(b"x" * 1000, "Cache-Control: max-age=%d" % (600 if request.target.startswith("/kept/") else 0))


@pytest.fixture(scope="module")
def fold(tmp_path_factory):
    """An endpoint for 20 requests a second (one at a time, 50 ms each) behind a cache that spares it far more."""
    origin = Origin(answer)
    f = Foldback(tmp_path_factory.mktemp("cold"), "services:\n  app: { endpoints: [\"127.0.0.1:%d\"], tune: { limit: { min: 1, value: 1, max: 1 } } }\n"
                 "routes:\n  - { match: /kept/, service: app, cache: on }\n  - { match: /, service: app }\n" % origin.port).start()
    yield f
    f.stop()
    origin.close()


def ask(fold, paths):
    s = socket.create_connection(("127.0.0.1", fold.port), WAIT_S)
    s.settimeout(WAIT_S)
    data = b""
    for path in paths:
        s.sendall(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path).encode())
        while b"\r\n\r\n" not in data:
            data += s.recv(65536)
        head, data = data.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(data) < length:
            data += s.recv(65536)
        data = data[length:]
    s.close()


def cold_of(fold):
    routes = fold.api("GET", "/v1/cache")["routes"]
    return next(r for r in routes if r["route"] == "app /kept/")["cold"]


def test_every_face_tells_that_the_endpoints_depend_on_the_cache(fold):
    pages = ["/kept/%d" % i for i in range(PAGES)]

    def is_told():
        ask(fold, pages * 4 + ["/other"])
        cold = cold_of(fold)
        return cold and cold["load_ratio"] is not None and cold["load_ratio"] > 1
    until(is_told, 60, "the load with an empty cache is known and too much")
    cold = cold_of(fold)
    assert cold["cold_per_s"] > cold["now_per_s"] >= 0 and cold["capacity_per_s"] > 0
    told = fold.api("GET", "/v1/why?q=app%20/kept/")["sentences"]
    assert any("what their limits let through: too much, so purges are paced" in s for s in told), told
    assert any(f["check"] == "cold_cache" and f["severity"] == "info" for f in fold.api("GET", "/v1/doctor")["findings"])
    facts = fold.api("GET", "/v1/facts?scope=route:app%20/kept/&window=60s")["facts"]
    assert facts["cache_spared_rate"]["value"] > facts["sent_rate"]["value"]
    status = fold.cli("cache", "status").stdout
    assert "IF EMPTY" in status and "REFILL" in status
    purged = fold.api("POST", "/v1/cache/purge", {"prefix": "a/kept/"})
    assert "Old answers fill in" in purged["warning"] or "what its endpoints take" in purged["warning"], json.dumps(purged)
    assert "warning" not in fold.api("POST", "/v1/cache/purge", {"url": "a/kept/1"})


def test_metrics_have_it(fold):
    from test_36_shape_whole import metrics, value_of
    ask(fold, ["/kept/%d" % i for i in range(20)])
    until(lambda: value_of(metrics(fold), 'foldback_cache_cold_requests_per_second{route="app /kept/"}') > 0, 60, "the metric")
    text = metrics(fold)
    assert 'foldback_cache_cold_load_ratio{route="app /kept/"}' in text
    assert 'foldback_cache_refill_seconds{route="app /kept/"}' in text
