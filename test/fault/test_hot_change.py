# SPDX-License-Identifier: Apache-2.0
"""Binary, configuration and certificates change under load on HTTP/2, TLS and WebSockets: nobody notices."""
import http.client
import os
import socket
import ssl
import subprocess
import threading
import time

import pytest
from fb import Echo, Foldback, Load, free_port, knob_value, until
from h2_load import H2Load


class Talk:
    """A WebSocket that says something every 20 ms and hears it back."""

    def __init__(self, sock):
        self.sock, self.bad, self.count, self.stopping = sock, [], 0, False
        sock.settimeout(10)
        sock.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 101")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping:
                text = b"number %06d" % self.count
                self.sock.sendall(text)
                got = b""
                while len(got) < len(text):
                    more = self.sock.recv(len(text) - len(got))
                    if not more:
                        raise EOFError("end")
                    got += more
                assert got == text
                self.count += 1
                time.sleep(0.02)
        except Exception as e:  # noqa: BLE001 - every failure counts
            self.bad.append(repr(e))

    def stop(self):
        self.stopping = True
        self.thread.join(15)
        self.sock.close()


def certificate(folder, name):
    """A new pair in the same two files; each file is replaced in one step."""
    new = [str(folder / ("new." + x)) for x in ("pem", "key")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", new[1], "-out", new[0], "-days", "2", "-subj", "/CN=" + name, "-addext",
                    "subjectAltName=DNS:a"], check=True, capture_output=True, timeout=30)
    for at, to in zip(new, ("site.pem", "site.key")):
        os.replace(at, folder / to)


@pytest.fixture
def both(tmp_path, origin):
    """A foldback with one listener in clear and one with TLS; fold.secure(protocol) connects to that."""
    certificate(tmp_path, "first")
    echo = Echo()
    port = free_port()
    listen = f'["127.0.0.1:%d", {{ address: "127.0.0.1:{port}", tls: {{ cert: {tmp_path}/site.pem, key: {tmp_path}/site.key }} }}]'
    fold = Foldback(tmp_path, f'''mode: act
services:
  app:
    endpoints: ["127.0.0.1:{origin.port}"]
    objective: {{ latency: 99% < 2s }}
    tune: {{ limit: {{ min: 64 }} }}  # a slow machine is no reason to shed here
  talk:
    endpoints: ["127.0.0.1:{echo.port}"]
routes:
  - {{ match: /ws, service: talk }}
  - {{ match: /, service: app }}
''', listen=listen).start()

    def secure(*protocols):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(list(protocols))
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="a")
    fold.secure, fold.folder = secure, tmp_path
    fold.clear = lambda: socket.create_connection(("127.0.0.1", fold.port), 10)
    yield fold
    fold.stop()
    echo.listener.close()


def https(fold):
    c = http.client.HTTPConnection("127.0.0.1", 1, timeout=10)
    c.sock = fold.secure("http/1.1")
    return c


def serial(fold):
    s = fold.secure("http/1.1")
    try:
        return s.getpeercert(binary_form=True)
    finally:
        s.close()


def upgrade(fold):
    done = fold.cli("upgrade")
    assert done.returncode == 0, done.stderr + fold.text()


def reload(fold):
    text = open(fold.file).read()
    change = "limits: { header_bytes: 20KiB }\n"
    with open(fold.file, "w") as f:
        f.write(text.replace(change, "") if change in text else text + change)
    done = fold.cli("reload")
    assert done.returncode == 0, done.stderr + fold.text()


def renew(fold):
    before = serial(fold)
    certificate(fold.folder, "second")
    until(lambda: serial(fold) != before, 10, "the new certificate")


@pytest.mark.parametrize("change", [upgrade, reload, renew], ids=lambda f: f.__name__)
def test_a_hot_change_breaks_nothing_on_any_protocol(both, change):
    fold = both
    route = "/v1/knobs/timeout_ms/app%20%2F/pin"
    fold.api("PUT", route, {"value": 4321, "why": "test"})
    talks = [Talk(fold.clear()), Talk(fold.secure("http/1.1"))]
    loads = {"h2 over TLS": H2Load(lambda: fold.secure("h2")), "h2c": H2Load(fold.clear),
             "slow h2 streams": H2Load(lambda: fold.secure("h2"), threads=1, path="/slow/700"),
             "HTTPS": Load(0, threads=2, connect=lambda: https(fold)), "HTTP": Load(fold.port, threads=1)}
    until(lambda: all(x.ok > 5 for x in loads.values()), 15, "load")
    for _ in range(2):
        change(fold)
        was = {name: x.ok for name, x in loads.items()}
        until(lambda w=was: all(x.ok > w[name] + 20 or (name.startswith("slow") and x.ok > w[name])
                                for name, x in loads.items()), 30, "answers after it")
    said = [t.count for t in talks]
    until(lambda: all(t.count > n + 5 for t, n in zip(talks, said)) or any(t.bad for t in talks), 10, "echoes after it")
    for x in [*loads.values(), *talks]:
        x.stop()
    assert {name: x.bad for name, x in loads.items() if x.bad} == {}
    assert [t.bad for t in talks] == [[], []]
    assert knob_value(fold) == 4321, "what was pinned and learned is kept"
    if change is upgrade:
        assert loads["h2c"].away and loads["h2 over TLS"].away, "old connections were asked to go, and went"
