"""An HTTP/2 client for the tests: the state machine of h2, raw frames where a test breaks the rules."""
import socket
import struct
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

from conftest import WAIT_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PRIORITY_UPDATE = 16
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
NO_ERROR, PROTOCOL_ERROR, CALM, REFUSED = 0, 1, 11, 7


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def read_some(conn, wait_s):
    """The bytes of one read; b"" when none came in time, or at the end, which conn.is_closed tells."""
    conn.sock.settimeout(wait_s)
    try:
        data = conn.sock.recv(65536)
    except (socket.timeout, TimeoutError):
        return b""
    except OSError:
        data = b""
    conn.is_closed = conn.is_closed or not data
    return data


class Answer:
    def __init__(self):
        self.interim, self.fields, self.body, self.trailers = [], {}, b"", None
        self.is_over, self.reset = False, None

    @property
    def status(self):
        return int(self.fields.get(":status", 0))


class H2:
    """One connection.  get() is one exchange; begin(), send(), wait() are its parts."""

    def __init__(self, port, window=None, checks=True, settings=None, sock=None):
        self.sock = sock or socket.create_connection(("127.0.0.1", port), WAIT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conf = h2.config.H2Configuration(client_side=True, header_encoding="utf-8",
                                         validate_outbound_headers=checks, normalize_outbound_headers=checks)
        self.c = h2.connection.H2Connection(conf)
        if window is not None:
            self.c.local_settings = h2.settings.Settings(
                client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.c.initiate_connection()
        if settings:
            self.c.update_settings(settings)
        self.answers, self.goaway, self.is_closed, self.reads = {}, None, False, True
        self.flush()

    def flush(self):
        data = self.c.data_to_send()
        if data:
            self.sock.sendall(data)

    def raw(self, data):
        self.flush()
        self.sock.sendall(data)

    def begin(self, path="/", method="GET", fields=(), is_last=True, authority="test", pseudo=None):
        stream = self.c.get_next_available_stream_id()
        head = pseudo if pseudo is not None else [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
        self.c.send_headers(stream, list(head) + list(fields), end_stream=is_last)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def send(self, stream, data, is_last=False):
        """All of it, as the windows allow."""
        deadline = time.monotonic() + WAIT_S
        while data:
            n = min(len(data), self.c.local_flow_control_window(stream), self.c.max_outbound_frame_size)
            if n == 0:
                if self.answers[stream].is_over or self.answers[stream].reset is not None:
                    return
                assert time.monotonic() < deadline, "the window stayed shut"
                self.pump(0.2)
                continue
            self.c.send_data(stream, data[:n], end_stream=is_last and n == len(data))
            data = data[n:]
            self.flush()
        self.flush()

    def pump(self, wait_s=WAIT_S):
        """One read; False at the end of the connection or when nothing came."""
        data = read_some(self, wait_s)
        if not data:
            return False
        for e in self.c.receive_data(data):
            self.take(e)
        try:
            self.flush()
        except OSError:
            pass
        return True

    def take(self, e):
        a = self.answers.get(getattr(e, "stream_id", None))
        if isinstance(e, h2.events.ConnectionTerminated):
            self.goaway = int(e.error_code)
        if a is None:
            return
        if isinstance(e, h2.events.InformationalResponseReceived):
            a.interim.append(dict(e.headers))
        elif isinstance(e, h2.events.ResponseReceived):
            a.fields = dict(e.headers)
            a.list = list(e.headers)
        elif isinstance(e, h2.events.DataReceived):
            a.body += e.data
            if self.reads:
                self.c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.TrailersReceived):
            a.trailers = dict(e.headers)
        elif isinstance(e, h2.events.StreamEnded):
            a.is_over = True
        elif isinstance(e, h2.events.StreamReset):
            a.reset = int(e.error_code)

    def wait(self, stream, wait_s=WAIT_S):
        a, deadline = self.answers[stream], time.monotonic() + wait_s
        while not a.is_over and a.reset is None and not self.is_closed and time.monotonic() < deadline:
            self.pump(max(0.01, deadline - time.monotonic()))
        return a

    def wait_end(self, wait_s=WAIT_S):
        """Until the connection is closed; its GOAWAY code."""
        deadline = time.monotonic() + wait_s
        while not self.is_closed and time.monotonic() < deadline:
            self.pump(max(0.01, deadline - time.monotonic()))
        assert self.is_closed, "the connection is still open"
        return self.goaway

    def get(self, path="/", method="GET", fields=(), body=None, **k):
        stream = self.begin(path, method, fields, is_last=body is None, **k)
        if body is not None:
            self.send(stream, body, is_last=True)
        return self.wait(stream)

    def close(self):
        self.sock.close()


class Raw:
    """Frames without a state machine: what a client that breaks the rules sends, and what comes back."""

    def __init__(self, port, preface=PREFACE + frame(SETTINGS, 0, 0), receive_bytes=0):
        self.sock = socket.socket()
        if receive_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(("127.0.0.1", port))
        self.buf, self.frames, self.is_closed = b"", [], False
        self.send(preface)

    def send(self, data):
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def pump(self, wait_s):
        data = read_some(self, wait_s)
        if not data:
            return False
        self.buf += data
        while len(self.buf) >= 9:
            n = int.from_bytes(self.buf[:3], "big")
            if len(self.buf) < 9 + n:
                break
            self.frames.append((self.buf[3], self.buf[4], int.from_bytes(self.buf[5:9], "big"), self.buf[9:9 + n]))
            self.buf = self.buf[9 + n:]
        return True

    def wait(self, kind, wait_s=WAIT_S):
        """Payload of the first frame of this kind, or None."""
        deadline = time.monotonic() + wait_s
        while True:
            for f in self.frames:
                if f[0] == kind and not (kind == SETTINGS and f[1] & 1):
                    return f[3]
            left = deadline - time.monotonic()
            if left <= 0 or self.is_closed:
                return None
            self.pump(left)

    def goaway(self, wait_s=WAIT_S):
        p = self.wait(GOAWAY, wait_s)
        return None if p is None else int.from_bytes(p[4:8], "big")

    def close(self):
        self.sock.close()


def literal(name, value, pad=True):
    """HPACK: a literal field without indexing, without Huffman coding."""
    def number(v, bits):
        top = (1 << bits) - 1
        if v < top:
            return bytes([v])
        out, v = [top], v - top
        while v >= 128:
            out.append(v % 128 + 128)
            v //= 128
        return bytes(out + [v])

    def text(x):
        x = x.encode("latin-1") if isinstance(x, str) else x
        return number(len(x), 7) + x
    return b"\0" + text(name) + text(value)


def block(path="/", method="GET", extra=b""):
    return (literal(":method", method) + literal(":scheme", "http") + literal(":authority", "test")
            + literal(":path", path) + extra)
