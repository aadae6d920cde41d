# SPDX-License-Identifier: Apache-2.0
"""TLS towards endpoints: who is trusted, by which name, with which certificate of ours, and what happens otherwise."""
import os
import ssl
import time

import pytest
from conftest import config, ok
from tls_util import Authority, TlsOrigin, openssl, server_context


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("ca")))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("stranger")), "a stranger")


@pytest.fixture
def pair(world, authority):
    """pair(names, tls=...) -> TLS endpoint whose certificate has these names, proxy that goes there."""

    def make(*names, tls="{ ca: %(ca)s }", answer=None, threads=1, ca=None, raw=None, more=None, **parts):
        cert, key = (ca or authority).leaf(*(names or ("127.0.0.1",)))
        origin = TlsOrigin(server_context(cert, key, **(more or {})), answer, raw)
        world.origins.append(origin)
        service = "    tls: %s\n" % (tls % {"ca": authority.cert})
        return origin, world.proxy(config(origin, service=service + parts.pop("service", ""), **parts), threads)

    return make


def why(m):
    return m.get("proxy-status").split('details="')[1].rstrip('"')


def test_an_endpoint_with_the_right_certificate_is_used_and_its_connection_kept(pair):
    origin, proxy = pair(answer=lambda r, w: ok(b"y" * 200000))
    w = proxy.connect()
    for _ in range(5):
        w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        m = w.response()
        assert (m.status, len(m.body)) == (200, 200000)
    assert origin.connections == 1


def test_bodies_arrive_whole_in_both_directions(pair):
    origin, proxy = pair(answer=lambda r, w: ok(r.body))
    w = proxy.connect()
    for size in (1, 16384, 70000, 2000000):
        body = bytes(i * 7 & 255 for i in range(size))
        w.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
        assert w.response().body == body


@pytest.mark.parametrize("says, names, tls, status, reason", [
    ("an authority that we do not trust", ["127.0.0.1"], "on", 502, "upstream_cert"),
    ("a certificate for another name", ["other.example"], "{ ca: %(ca)s }", 502, "upstream_cert"),
    ("a name that is asked for and not in it", ["a.example"], "{ ca: %(ca)s, name: b.example }", 502, "upstream_cert"),
    ("the name that is asked for", ["a.example"], "{ ca: %(ca)s, name: a.example }", 200, None),
    ("anybody, when we say so", ["other.example"], "{ verify: false }", 200, None),
], ids=lambda x: x.replace(" ", "-") if isinstance(x, str) and " " in x and "{" not in x else "")
def test_the_endpoints_certificate_is_judged(pair, says, names, tls, status, reason):
    origin, proxy = pair(*names, tls=tls)
    m = proxy.get("/")
    assert m.status == status, says
    if reason:
        assert why(m) == reason
        assert origin.requests == []
        assert "failed: cert" in proxy.log()


def test_an_endpoint_that_speaks_without_tls_is_a_502_with_its_own_reason(world):
    origin = world.origin(raw=lambda w: w.send("HTTP/1.1 400 no\r\n\r\n") and w.rest())
    proxy = world.proxy(config(origin, service="    tls: on\n"), 1)
    m = proxy.get("/")
    assert (m.status, why(m)) == (502, "upstream_not_tls")


def test_an_endpoint_that_leaves_in_the_handshake_is_a_502(world):
    origin = world.origin(raw=lambda w: w.fill())
    proxy = world.proxy(config(origin, service="    tls: on\n"), 1)
    m = proxy.get("/")
    assert (m.status, why(m)) == (502, "upstream_tls")


def test_an_endpoint_that_speaks_tls_where_we_do_not_is_a_502_with_its_own_reason(world):
    origin = world.origin(raw=lambda w: w.fill() and w.send(b"\x15\x03\x03\x00\x02\x02\x0a"))
    proxy = world.proxy(config(origin), 1)
    m = proxy.get("/")
    assert (m.status, why(m)) == (502, "upstream_wants_tls")
    assert "https://" in proxy.log()


def test_an_endpoint_that_never_ends_its_handshake_is_given_up_in_time(world):
    origin = world.origin(raw=lambda w: time.sleep(10))
    proxy = world.proxy(config(origin, service="    tls: on\n", extra="upstream: { connect_timeout: 300ms, retry_pct: 0 }\n"), 1)
    begun = time.monotonic()
    m = proxy.get("/")
    assert m.status in (502, 504)
    assert time.monotonic() - begun < 9  # the endpoint says nothing for 10 s


def test_an_expired_certificate_of_an_endpoint_is_refused(world, authority, tmp_path):
    cert, key = authority.leaf("127.0.0.1")
    old = str(tmp_path / "old.pem")
    openssl("x509", "-req", "-in", cert + ".csr", "-CA", authority.cert, "-CAkey", authority.key, "-out", old, "-days", "-1",
            "-extfile", cert + ".ext")
    origin = TlsOrigin(server_context(old, key))
    world.origins.append(origin)
    proxy = world.proxy(config(origin, service="    tls: { ca: %s }\n" % authority.cert), 1)
    assert why(proxy.get("/")) == "upstream_cert"
    assert "expired" in proxy.log()


def test_we_show_our_certificate_where_the_endpoint_asks_for_it(world, authority, stranger):
    cert, key = authority.leaf("127.0.0.1")
    ours, our_key = authority.leaf("gateway.example")
    theirs, their_key = stranger.leaf("gateway.example")
    for shown, status in (((ours, our_key), 200), ((theirs, their_key), 502), (None, 502)):
        origin = TlsOrigin(server_context(cert, key, ca=authority.cert))
        world.origins.append(origin)
        more = ", cert: %s, key: %s" % shown if shown else ""
        proxy = world.proxy(config(origin, service="    tls: { ca: %s%s }\n" % (authority.cert, more)), 1)
        assert proxy.get("/").status == status
        if status == 200:
            assert origin.peers[0]["subject"][0][0] == ("commonName", "gateway.example")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shows", ["none", "another"])
def test_an_endpoint_that_refuses_our_certificate_says_so(world, authority, stranger, version, shows):
    """With TLS 1.3 the handshake is over for us when the endpoint looks; a body may be under way already."""
    cert, key = authority.leaf("127.0.0.1")
    more = ", cert: %s, key: %s" % stranger.leaf("gateway.example") if shows == "another" else ""
    origin = TlsOrigin(server_context(cert, key, ca=authority.cert, maximum_version=version))
    world.origins.append(origin)
    proxy = world.proxy(config(origin, service="    tls: { ca: %s%s }\n    eject: false\n" % (authority.cert, more)), 1)
    for body in (b"", b"x" * 1000, os.urandom(200000)):
        m = proxy.get("/", method="POST" if body else "GET", body=body)
        assert (m.status, why(m)) == (502, "upstream_cert_refused"), len(body)
        assert 'error=tls_alert_received' in m.get("proxy-status")
    assert origin.requests == []
    assert "failed: alert" in proxy.log()


def test_a_health_check_that_fails_for_its_certificate_is_in_the_log(world, authority):
    cert, key = authority.leaf("127.0.0.1")
    origin = TlsOrigin(server_context(cert, key, ca=authority.cert))
    world.origins.append(origin)
    proxy = world.proxy(config(origin, service="    tls: { ca: %s }\n    health: { path: /, interval: 100ms, timeout: 5s }\n" % authority.cert), 1)
    deadline = time.monotonic() + 30
    while "failed: alert" not in proxy.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "failed: alert" in proxy.log()


def test_sessions_are_resumed_with_an_endpoint(pair):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        origin, proxy = pair("a.example", tls="{ ca: %(ca)s, name: a.example }", more={"maximum_version": version},
                             answer=lambda r, w: ok(b"x", "Connection: close"))
        for _ in range(4):
            assert proxy.get("/").status == 200
        assert origin.connections == 4
        assert origin.resumed >= 2, version


def test_https_in_the_address_means_tls_that_is_verified(world, authority):
    cert, key = authority.leaf("localhost")
    origin = TlsOrigin(server_context(cert, key))
    world.origins.append(origin)
    text = "services:\n  app:\n    endpoints: [\"https://localhost:%d\"]\n%s" % (origin.port, "%s")
    proxy = world.proxy(text % ("    tls: { ca: %s }\n" % authority.cert), 1)
    deadline = time.monotonic() + 5
    while (m := proxy.get("/")).status == 503 and time.monotonic() < deadline:
        time.sleep(0.05)  # the name is looked up
    assert m.status == 200
    strict = world.proxy(text % "", 1)
    deadline = time.monotonic() + 5
    while "failed: cert" not in strict.log() and time.monotonic() < deadline:
        assert strict.get("/").status in (502, 503)  # the name is also ::1, where nobody listens
        time.sleep(0.05)
    assert "failed: cert" in strict.log()


def test_health_checks_go_over_tls(pair):
    origin, proxy = pair(service="    health: { path: /health, interval: 100ms, timeout: 500ms }\n")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and len(origin.requests) < 2:
        time.sleep(0.05)
    assert {r.target for r in origin.requests} == {"/health"}
    if not proxy.is_whole:
        assert [e for e in proxy.events("health") if e.get("status") == 200]


def test_an_answer_without_length_that_ends_without_a_goodbye_is_cut(pair):
    def raw(w):
        w.request()
        w.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it")
        time.sleep(0.2)
        os.close(w.sock.detach())  # TCP ends, TLS does not

    origin, proxy = pair(raw=raw)
    w = proxy.connect()
    w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    m = w.head()
    assert m.status == 200
    rest = w.rest()
    assert not rest.endswith(b"0\r\n\r\n"), "the client must not take the half for the whole"


def test_a_reload_to_other_trust_does_not_use_old_connections(pair, authority, world):
    origin, proxy = pair("other.example", tls="{ verify: false }")
    assert proxy.get("/").status == 200
    said = proxy.reload(config(origin, service="    tls: { ca: %s }\n" % authority.cert))
    assert said.startswith("reloaded")
    assert why(proxy.get("/")) == "upstream_cert"
