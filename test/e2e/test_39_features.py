# SPDX-License-Identifier: Apache-2.0
"""What each feature did, in words, figures and metrics; the whole program."""
import os
import sys

from conftest import Origin, ok
from test_36_shape_whole import get, metrics, value_of

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, until  # noqa: E402


def figures(fold, name):
    """{route, service or endpoint: figures} of one feature."""
    found = [f for f in fold.api("GET", "/v1/features")["features"] if f["name"] == name]
    assert len(found) == 1
    return {x["of"]: x["figures"] for x in found[0]["seen"]}


def test_a_feature_shows_in_words_figures_and_metrics(tmp_path):
    origins = [Origin(lambda r, w: ok("x" * 3000, "Content-Type: text/html")) for _ in range(3)]
    config = ('services:\n  shop: { endpoints: ["127.0.0.1:%d", "127.0.0.1:%d"], sticky: { cookie: route } }\n'
              '  next: { endpoints: ["127.0.0.1:%d"] }\n'
              'routes:\n  - { match: /few/, service: shop, rate_limits: [{ quota: 4/h }] }\n'
              '  - { match: /, service: shop, compress: on, mirror: { service: next, percent: 100%% } }\n'
              % tuple(o.port for o in origins))
    fold = Foldback(tmp_path, config).start()
    try:
        first = get(fold, "/")
        cookie = first.get("set-cookie").split(";")[0]
        for _ in range(4):
            assert get(fold, "/", "Cookie: " + cookie, "Accept-Encoding: gzip").status == 200
        assert get(fold, "/few/", "Cookie: " + cookie).status == 200
        until(lambda: figures(fold, "sticky").get("shop", {}).get("kept") == 5, 30, "the cookies are counted")
        assert figures(fold, "sticky")["shop"] == {"kept": 5, "moved": 0, "new": 1}
        assert "5 kept, 1 new" in fold.cli("why", "sticky").stdout
        assert "Sticky sessions: 5 kept, 1 new" in fold.cli("why", "shop").stdout
        assert value_of(metrics(fold), 'foldback_sticky_requests_total{service="shop",result="kept"}') == 5
        small = figures(fold, "compression")["shop /"]
        assert small["gzip"] == 4 and small["before_bytes"] == 12000 and 0 < small["after_bytes"] < 6000
        # a look before and one behind: the span of 10 s may end in between
        assert value_of(metrics(fold), "foldback_rate_limit_used_ratio{") in (0, 0.25)
        until(lambda: sum(figures(fold, "mirror_copies").get("next", {"answered": 0}).values()) > 0, 30, "copies end")
        mirrored = figures(fold, "mirror")["shop /"]
        assert mirrored["copied"] + mirrored["no_room"] == 5 and mirrored["copied"] > 0
        assert figures(fold, "tcp") == {}
        said = fold.cli("why", "tcp").stdout
        assert "Nothing of it was seen" in said and "doc/guide/tcp.md" in said
        assert "Given up now: " in fold.cli("why", "own_overload").stdout
        assert fold.cli("why", "no_such_feature").returncode != 0
    finally:
        fold.stop()
        for o in origins:
            o.close()


def test_health_checks_show(tmp_path):
    bad = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    origins = [Origin(lambda r, w: ok("x")), Origin(lambda r, w: bad if r.target == "/up" else ok("x"))]
    well, ill = ["shop 127.0.0.1:%d" % o.port for o in origins]
    fold = Foldback(tmp_path, 'services:\n  shop: { endpoints: ["127.0.0.1:%d", "127.0.0.1:%d"], '
                    'health: { path: /up, interval: 100ms, rise: 1, fall: 2 } }\n'
                    'routes:\n  - { match: /, service: shop }\n' % tuple(o.port for o in origins)).start()
    try:
        until(lambda: figures(fold, "health_checks").get(ill, {}).get("failed_in_a_row", 0) > 2, 30, "it fails in a row")
        assert figures(fold, "health_checks")[ill]["passed"] == 0
        until(lambda: figures(fold, "health_checks").get(well, {}).get("passed", 0) > 0, 30, "the other one passes")
        until(lambda: value_of(metrics(fold), 'foldback_endpoint_up{service="shop",endpoint="%s"}' % ill) == 0, 30, "it is out")
        assert value_of(metrics(fold), 'foldback_health_checks_total{service="shop",endpoint="%s",result="failed"}' % ill) > 2
        said = fold.cli("why", ill).stdout
        assert "It is ejected" in said and "Active health checks failed in a row. (health_probe_failed)" in said
        assert "the answer was 503." in said and "Health checks: " in said and "failed in a row" in said
        assert "Its last health check passed" in fold.cli("why", well).stdout
        assert "doc/guide/distribution.md" in fold.cli("why", "health_checks").stdout
    finally:
        fold.stop()
        for o in origins:
            o.close()


def test_refusals_by_regular_expressions_show(tmp_path):
    fold = Foldback(tmp_path, "services:\n  app: { endpoints: [\"127.0.0.1:1\"] }\nroutes:\n"
                    "  - { match: '~^/(a+)+$', service: app }\n  - { match: /, service: app, rewrite: { pattern: '^/b(.*)$', to: /$1 } }\n").start()
    try:
        for path in ("/" + "a" * 300 + "!", "/" + "a" * 300 + "!", "/b../x"):
            assert get(fold, path).status == 400
        until(lambda: figures(fold, "patterns"), 30, "the refusals are counted")
        until(lambda: list(figures(fold, "patterns").values()) == [{"refused": 2, "unsafe_rewrites": 1}], 30, "all of them")
        assert "2 refused, 1 unsafe rewrites" in fold.cli("why", "patterns").stdout
    finally:
        fold.stop()
