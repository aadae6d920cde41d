# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 clients that keep a promise: what a GOAWAY leaves out is asked again, everything else must be answered."""
import socket
import struct
import threading
import time

import hpack

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ALL = 2**31 - 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Connection:
    def __init__(self, sock):
        self.sock, self.buffer, self.next = sock, b"", 1
        self.pack, self.unpack = hpack.Encoder(), hpack.Decoder()
        self.open, self.status = {}, {}
        self.last = None  # of the newest GOAWAY
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))

    def ask(self, path):
        stream, self.next = self.next, self.next + 2
        head = self.pack.encode([(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)])
        self.open[stream] = path
        self.sock.sendall(frame(HEADERS, END_STREAM | END_HEADERS, stream, head))

    def read(self, wait_s):
        """What came within <wait_s>; raises EOFError at the end."""
        self.sock.settimeout(wait_s)
        try:
            more = self.sock.recv(65536)
        except (socket.timeout, TimeoutError):
            return
        if not more:
            raise EOFError("end")
        self.buffer += more
        while len(self.buffer) >= 9:
            n = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + n:
                return
            kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big") & ALL
            payload, self.buffer = self.buffer[9:9 + n], self.buffer[9 + n:]
            self.take(kind, flags, stream, payload)

    def take(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            self.sock.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.sock.sendall(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.last = int.from_bytes(payload[:4], "big") & ALL
            assert payload[4:8] == bytes(4), "a GOAWAY in peace"
        elif kind == RST:
            raise AssertionError(f"stream {stream} was reset: {payload!r}")
        elif kind == HEADERS and stream not in self.status:
            self.status[stream] = int(dict(self.unpack.decode(payload))[":status"])
        elif kind == DATA and payload:
            self.sock.sendall(frame(WINDOW, 0, 0, struct.pack(">I", len(payload))))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            del self.open[stream]


class H2Load:
    """<threads> connections, each with <streams> requests at once in a closed loop; `bad` must stay empty."""

    def __init__(self, connect, threads=2, streams=4, path="/"):
        self.connect, self.streams, self.path = connect, streams, path
        self.ok, self.bad, self.away, self.stopping = 0, [], 0, False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.stopping:
            try:
                self.one_connection()
            except Exception as e:  # noqa: BLE001 - every failure counts
                self.bad.append(repr(e))
                time.sleep(0.05)

    def one_connection(self):
        c = Connection(self.connect())
        try:
            while not self.stopping and c.last is None:
                for _ in range(self.streams):
                    c.ask(self.path)
                self.answers(c)
                if c.last is None:  # else it may have ended by now, as it was told to
                    c.read(0.01)
            self.away += c.last is not None
        finally:
            c.sock.close()

    def answers(self, c):
        end = time.monotonic() + 15
        while any(c.last is None or s <= c.last for s in c.open):
            if time.monotonic() > end:
                raise AssertionError("no answer")
            c.read(0.5)
        for s in list(c.open):  # left out by a GOAWAY: nobody has seen it
            del c.open[s]
        for status in c.status.values():
            if status != 200:
                self.bad.append(status)
        self.ok += len(c.status)
        c.status.clear()

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join(20)
