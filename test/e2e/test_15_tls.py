# SPDX-License-Identifier: Apache-2.0
"""TLS towards clients: versions, names, protocols, sessions, certificates that change, and peers that misbehave."""
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from conftest import WAIT_S, Wire, config, ok
from tls_util import Authority, TlsProxy, openssl


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("ca")))


@pytest.fixture
def secure(world, authority):
    """secure(answer, tls=..., ...) -> origin, proxy with one certificate for localhost."""

    def make(answer=None, tls=None, cert=None, threads=1, more_listen="", raw=None, **parts):
        origin = world.origin(answer, raw=raw)
        cert, key = cert or authority.leaf("localhost")
        proxy = TlsProxy(tls or "{ cert: %s, key: %s }" % (cert, key), config(origin, **parts), threads, more_listen)
        world.proxies.append(proxy)
        proxy.files = (cert, key)
        return origin, proxy

    return make


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_over_tls_is_answered_and_its_event_says_the_version(secure, authority, version):
    origin, proxy = secure(lambda r, w: ok(b"x" * 100000))
    context = authority.context(minimum_version=version, maximum_version=version)
    w = proxy.secure(context)
    for i in range(3):
        w.send("GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % i)
        m = w.response()
        assert (m.status, len(m.body)) == (200, 100000)
    w.close()
    assert origin.requests[0].get("x-forwarded-proto") == "https"
    if not proxy.is_whole:
        events = proxy.wait_events(3)
        assert [e["tls"] for e in events] == [1 if version == ssl.TLSVersion.TLSv1_2 else 2] * 3
        assert proxy.counters()["full"] == 1


def test_bodies_of_every_size_arrive_whole_in_both_directions(secure, authority):
    origin, proxy = secure(lambda r, w: ok(r.body))
    w = proxy.secure(authority.context())
    for size in (0, 1, 1299, 1300, 1301, 16383, 16384, 16385, 65536, 300001, 3000000):
        body = os.urandom(size)
        w.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + body)
        assert w.response().body == body, size
    w.close()
