# SPDX-License-Identifier: Apache-2.0
"""Descriptors, memory, and many connections."""
import socket
import subprocess
import time

from conftest import ok, config


def open_many(proxy, count):
    conns = []
    for _ in range(count):
        w = proxy.connect()
        w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert w.response().status == 200
        conns.append(w)
    return conns


def test_an_idle_connection_costs_less_than_a_kibibyte(world):
    origin, proxy = world.pair(threads=1)
    warm = open_many(proxy, 20)
    before = proxy.rss_kib()
    conns = open_many(proxy, 800)
    if not proxy.is_sanitized:
        assert (proxy.rss_kib() - before) / 800 < 1.0
    assert warm and conns


def test_out_of_descriptors_pauses_accepting_and_recovers(world):
    origin, proxy = world.pair(threads=1)
    subprocess.run(["prlimit", "--pid", str(proxy.gateway_pid()), "--nofile=64:64"], check=True)
    conns = []
    for _ in range(100):
        s = socket.create_connection(("127.0.0.1", proxy.port), 1)
        conns.append(s)
    time.sleep(0.3)
    assert "accepting pauses" in proxy.log()
    for s in conns:
        s.close()
    deadline = time.monotonic() + 5
    status = 0
    while status != 200 and time.monotonic() < deadline:
        try:
            status = proxy.get("/").status
        except (OSError, EOFError):
            time.sleep(0.1)
    assert status == 200


def test_more_connections_than_allowed_get_503(world):
    origin, proxy = world.pair(threads=1, extra="limits: { connections: 5 }\n")
    conns = open_many(proxy, 5)
    w = proxy.connect()
    m = w.response()
    assert m.status == 503 and "shed_overload" in m.get("proxy-status") and w.is_closed()
    w.close()
    conns.pop().close()
    time.sleep(0.1)
    assert proxy.get("/").status == 200


def test_a_port_in_use_is_one_clear_sentence(world):
    origin, proxy = world.pair()
    from conftest import driver
    p = subprocess.run([driver(), proxy.path], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    assert p.returncode == 1
    assert ("cannot listen on 127.0.0.1:%d: another process has this port" % proxy.port).encode() in p.stderr


def test_access_log_lines_say_what_happened(world, tmp_path):
    path = str(tmp_path / "access.log")
    origin, proxy = world.pair(extra="access_log: { format: json, path: %s }\n" % path)
    assert proxy.get("/hello?secret=1", "User-Agent: me").status == 200
    deadline, text = time.monotonic() + 5, ""
    while "hello" not in text and time.monotonic() < deadline:
        time.sleep(0.05)
        with open(path) as f:
            text = f.read()
    assert '"/hello"' in text and "secret" not in text and "200" in text and "127.0.0.0" in text
