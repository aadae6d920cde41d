# SPDX-License-Identifier: Apache-2.0
"""Who the client is when proxies stand before us (gateway.trust_forwarded, listen.forwarded_from)."""
import os

import pytest

from conftest import config, ok
from h2_util import H2

pytestmark = pytest.mark.short
TRUSTS = "gateway: { trust_forwarded: true }\n"
FROM = '[{ address: "127.0.0.1:%%d", forwarded_from: [%s] }]'
TELLS = ', request_headers: { set: { X-Who: "{client_address} {scheme}" } }, response_headers: { set: { X-Scheme: "{scheme}" } }'


def who(origin):
    return origin.requests[-1].get("x-who")


def test_the_client_that_a_proxy_names_is_the_client_everywhere(world):
    origins = [world.origin() for _ in range(4)]
    proxy = world.proxy(config(*origins, extra=TRUSTS, service="    balance: hash\n    sticky: { cookie: at }\n", route=TELLS))
    for i in range(40):
        m = proxy.get("/", "X-Forwarded-For: 192.0.2.1, 203.0.113.%d" % i, "X-Forwarded-Proto: https")
        assert "Secure" in m.get("set-cookie") and m.get("x-scheme") == "https"
    asked = [r for o in origins for r in o.requests]
    assert {r.get("x-who") for r in asked} == {"203.0.113.%d https" % i for i in range(40)}
    assert {r.get("x-forwarded-for").split(", ")[2] for r in asked} == {"127.0.0.1"}, "who spoke to us is added"
    assert sum(bool(o.requests) for o in origins) >= 3, "hash: address spreads the clients, not the proxies"


@pytest.mark.parametrize("said, client", [
    ("203.0.113.9", "203.0.113.9"), ("203.0.113.9, 10.1.1.1, 127.0.0.9", "203.0.113.9"), ("6.6.6.6, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
    ("10.2.2.2, 10.1.1.1", "10.2.2.2"), ("6.6.6.6, unknown, 10.1.1.1", "10.1.1.1"), ("6.6.6.6, unknown", "127.0.0.1"), ("", "127.0.0.1"),
    ("203.0.113.9:4711, 10.1.1.1", "203.0.113.9"), ("[2001:db8::1]:80", "2001:db8::1"), ("2001:db8::1", "2001:db8::1")])
@pytest.mark.parametrize("is_h2", [False, True])
def test_proxies_of_our_own_networks_are_passed_over(world, said, client, is_h2):
    origin = world.origin()
    proxy = world.proxy(config(origin, route=TELLS), listen=FROM % "127.0.0.0/8, 10.0.0.0/8")
    if is_h2:
        h2 = H2(proxy.port)
        assert h2.get("/", fields=[("x-forwarded-for", said)] if said else []).status == 200
        h2.close()
    else:
        assert proxy.get("/", *(["X-Forwarded-For: " + said] if said else [])).status == 200
    assert who(origin) == client + " http"


def test_several_fields_are_one_list(world):
    origin = world.origin()
    proxy = world.proxy(config(origin, route=TELLS), listen=FROM % "127.0.0.0/8, 10.0.0.0/8")
    proxy.get("/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.9, 10.1.1.1", "X-Forwarded-For: 10.1.1.2")
    assert who(origin) == "203.0.113.9 http"


def test_whoever_else_connects_names_nobody(world):
    """Behind a load balancer a port is seldom shut for all others."""
    origin = world.origin()
    proxy = world.proxy(config(origin, route=TELLS + ", allow: [127.0.0.1]"), listen=FROM % "10.0.0.0/8")
    m = proxy.get("/", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Request-Id: mine")
    r = origin.requests[-1]
    assert m.status == 200 and who(origin) == "127.0.0.1 http" and r.get("x-forwarded-for") == "127.0.0.1"
    assert r.get("x-forwarded-proto") == "http" and r.get("x-request-id") != "mine"


def test_the_access_log_names_the_client(world):
    origin = world.origin(lambda r, w: ok("x"))
    log = os.path.join("/tmp", "fb-forwarded-%d.log" % os.getpid())
    try:
        proxy = world.proxy(config(origin, extra="privacy: { raw_addresses: true }\naccess_log: { format: combined, path: %s }\n" % log),
                            listen=FROM % "127.0.0.0/8")
        proxy.get("/", "X-Forwarded-For: 203.0.113.9")
        proxy.stop()
        with open(log, encoding="ascii") as f:
            assert "203.0.113.9 - - [" in f.read()
    finally:
        if os.path.exists(log):
            os.unlink(log)
