# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests (made with the openssl command) and a proxy that listens with TLS."""
import os
import socket
import ssl
import subprocess
import threading
import time

from conftest import Origin, Proxy, WAIT_S, Wire


def openssl(*args, data=None):
    done = subprocess.run(["openssl", *map(str, args)], input=data, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class Authority:
    """A CA in a folder; leaf() gives (certificate file, key file)."""

    def __init__(self, folder, name="test CA"):
        self.dir, self.count = folder, 0
        os.makedirs(folder, exist_ok=True)
        self.cert, self.key = f"{folder}/ca.pem", f"{folder}/ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key,
                "-out", self.cert, "-days", 30, "-subj", "/CN=" + name, "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def leaf(self, *names, kind="ec", days=20, subject=None, serial=None):
        self.count += 1
        cert, key = f"{self.dir}/leaf{self.count}.pem", f"{self.dir}/leaf{self.count}.key"
        make = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["rsa:2048"]
        openssl("req", "-newkey", *make, "-nodes", "-keyout", key, "-out", cert + ".csr", "-subj",
                subject or "/CN=" + names[0])
        text = "subjectAltName=" + ",".join(("IP:" if n[0].isdigit() else "DNS:") + n for n in names)
        with open(cert + ".ext", "w") as f:
            f.write(text + "\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", cert + ".csr", "-CA", self.cert, "-CAkey", self.key, "-out", cert, "-days", days,
                "-extfile", cert + ".ext", "-set_serial", serial or 1000 + self.count)
        return cert, key

    def context(self, **more):
        c = ssl.create_default_context(cafile=self.cert)
        for name, value in more.items():
            setattr(c, name, value)
        return c


class TlsProxy(Proxy):
    """A proxy whose first listener has TLS; `tls` is the value of the key."""

    def __init__(self, tls, config, threads=1, more_listen=""):
        self.tls, self.more_listen = tls, more_listen
        super().__init__(config, threads)

    def write(self, config):
        state = "state: %s\n" % (self.dir / "state")
        os.makedirs(str(self.dir / "state"), exist_ok=True)
        if os.environ.get("FOLDBACK_BIN"):
            state += "admin:\n  listen: \"off\"\n"
        with open(self.path, "w") as f:
            f.write('listen: [{ address: "127.0.0.1:%d", tls: %s }%s]\nthreads: %d\n%s%s'
                    % (self.port, self.tls, self.more_listen, self.threads, state, config))

    def secure(self, context, name="localhost", session=None):
        plain = socket.create_connection(("127.0.0.1", self.port), WAIT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Wire(context.wrap_socket(plain, server_hostname=name, session=session))

    def fetch(self, context, path="/", name="localhost", fields=()):
        w = self.secure(context, name)
        w.send("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n"
               % (path, name, "".join(f + "\r\n" for f in fields)))
        m = w.response()
        w.close()
        return m

    def counters(self):
        self.command("tls")
        return {k: int(v) for k, v in (x.split("=") for x in self.expect("tls ").split()[1:])}

    def counted(self, name, count):
        """The counter reaches <count>; what a client sees may come a moment before it."""
        deadline = time.monotonic() + WAIT_S
        while (now := self.counters()[name]) != count and time.monotonic() < deadline:
            time.sleep(0.02)
        return now == count


class SharedTls:
    """The server's end of TLS for threads that read and write at once, which one object of the ssl module does not
    stand: it is used under a lock and never waits, and the socket carries records only."""

    def __init__(self, sock, context):
        self.sock, self.lock, self.write_lock = sock, threading.Lock(), threading.Lock()
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes, server_side=True)
        self.until_done(self.tls.do_handshake)

    def until_done(self, act):
        while True:
            try:
                with self.lock:
                    done = act()
                self.flush()
                return done
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                with self.lock:
                    self.came.write(data) if data else self.came.write_eof()
            except ssl.SSLError:
                self.flush()  # the alert
                raise

    def flush(self):
        with self.write_lock:
            with self.lock:
                data = self.goes.read()
            if data:
                self.sock.sendall(data)

    def recv(self, room):
        try:
            return self.until_done(lambda: self.tls.read(room))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def sendall(self, data):
        with self.lock:
            self.tls.write(data)
        self.flush()

    def shutdown(self, how):
        self.sock.shutdown(how)

    def close(self):
        self.sock.close()


class TlsOrigin(Origin):
    """An endpoint behind TLS; handshakes that fail are counted."""

    def __init__(self, context, answer=None, raw=None):
        self.context, self.failed, self.resumed, self.peers = context, 0, 0, []
        super().__init__(answer, raw=raw)

    def serve(self, wire):
        try:
            wire.sock = self.context.wrap_socket(wire.sock, server_side=True)
        except (ssl.SSLError, OSError):
            self.failed += 1
            wire.close()
            return
        self.resumed += bool(wire.sock.session_reused)
        self.peers.append(wire.sock.getpeercert())
        super().serve(wire)


def server_context(cert, key, ca=None, **more):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(cert, key)
    if ca:
        c.load_verify_locations(ca)
        c.verify_mode = ssl.CERT_REQUIRED
    for name, value in more.items():
        setattr(c, name, value)
    return c
