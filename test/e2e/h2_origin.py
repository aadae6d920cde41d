# SPDX-License-Identifier: Apache-2.0
"""An endpoint that speaks HTTP/2, with the state machine of h2; each connection in a thread."""
import socket
import struct
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from tls_util import SharedTls


class Stream:
    """One request.  The answering function gets it when the head is there (is_early) or when the body is whole."""

    def __init__(self, conn, id_, fields):
        self.conn, self.id = conn, id_
        self.fields = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in fields]
        self.body, self.trailers, self.reset = b"", None, None

    def get(self, name, default=None):
        for n, v in self.fields:
            if n == name:
                return v
        return default

    @property
    def path(self):
        return self.get(":path")

    def head(self, status=200, *fields, is_last=False):
        self.conn.do(lambda c: c.send_headers(self.id, [(":status", str(status)), *fields], end_stream=is_last))

    def data(self, payload, is_last=False, wait_s=20):
        """In frames as the windows allow."""
        end = time.monotonic() + wait_s
        while True:
            with self.conn.lock:  # the window is the connection's too: nobody else may use it up in between
                room = min(self.conn.h2.local_flow_control_window(self.id), self.conn.h2.max_outbound_frame_size)
                part = payload[:room]
                is_open = bool(part) or not payload
                if is_open:
                    payload = payload[len(part):]
                    self.conn.do(lambda c: c.send_data(self.id, part, end_stream=is_last and not payload))
                    self.conn.sent_bytes += len(part)
            if is_open and not payload:
                return
            if not is_open:
                assert time.monotonic() < end, "the window stayed closed"
                time.sleep(0.002)

    def end(self, *trailers):
        self.conn.do(lambda c: c.send_headers(self.id, list(trailers), end_stream=True))

    def cancel(self, code=h2.errors.ErrorCodes.CANCEL):
        self.conn.do(lambda c: c.reset_stream(self.id, code))

    def ok(self, body=b"ok", *fields):
        if isinstance(body, str):
            body = body.encode()
        self.head(200, ("content-length", str(len(body))), *fields, is_last=not body)
        if body:
            self.data(body, is_last=True)


class Conn:
    def __init__(self, origin, sock):
        self.origin, self.sock = origin, sock
        self.lock = threading.RLock()
        self.streams, self.sent_bytes, self.goaway, self.pings = {}, 0, None, 0
        self.reads = True
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False))
        self.first = b""

    def do(self, act):
        with self.lock:
            act(self.h2)
            data = self.h2.data_to_send()
            if data:
                self.sock.sendall(data)

    def leave(self, last_id, code=0):
        """GOAWAY by hand: the state machine would send nothing more on the open streams."""
        with self.lock:
            self.sock.sendall(struct.pack(">IBIII", 8 << 8 | 7, 0, 0, last_id, code))

    def serve(self):
        try:
            if self.origin.tls:
                self.sock = SharedTls(self.sock, self.origin.tls)
            if self.origin.first:
                self.origin.first(self)
            if self.origin.settings:
                self.h2.local_settings = h2.settings.Settings(client=False, initial_values=self.origin.settings)
            self.do(lambda c: c.initiate_connection())
            while True:
                while not self.reads:
                    time.sleep(0.005)
                data = self.sock.recv(65536)
                if not data:
                    return
                with self.lock:
                    events = self.h2.receive_data(data)
                for e in events:
                    self.on(e)
                self.do(lambda c: None)
        except (OSError, h2.exceptions.ProtocolError):
            pass
        finally:
            self.sock.close()

    def on(self, e):
        o = self.origin
        if isinstance(e, h2.events.RequestReceived):
            st = self.streams[e.stream_id] = Stream(self, e.stream_id, e.headers)
            with o.lock:
                o.requests.append(st)
                o.in_flight += 1
                o.peak = max(o.peak, o.in_flight)
            if o.is_early:
                self.start(st)
        elif isinstance(e, h2.events.DataReceived):
            self.streams[e.stream_id].body += e.data
            if o.consumes and e.flow_controlled_length:
                self.do(lambda c: c.acknowledge_received_data(e.flow_controlled_length, e.stream_id))
        elif isinstance(e, h2.events.TrailersReceived):
            self.streams[e.stream_id].trailers = [(n.decode(), v.decode()) for n, v in e.headers]
        elif isinstance(e, h2.events.StreamEnded):
            st = self.streams[e.stream_id]
            st.is_ended = True
            if not o.is_early:
                self.start(st)
        elif isinstance(e, h2.events.StreamReset):
            st = self.streams.get(e.stream_id)
            if st:
                st.reset = e.error_code
        elif isinstance(e, h2.events.ConnectionTerminated):
            self.goaway = e.error_code
        elif isinstance(e, h2.events.PingReceived):
            self.pings += 1

    def start(self, st):
        threading.Thread(target=self.answer, args=(st,), daemon=True).start()

    def answer(self, st):
        try:
            self.origin.answer(st)
        except (OSError, h2.exceptions.ProtocolError, AssertionError):
            pass
        finally:
            with self.origin.lock:
                self.origin.in_flight -= 1


class H2Origin:
    def __init__(self, answer=None, port=0, settings=None, is_early=False, consumes=True, first=None, tls=None):
        self.answer = answer or (lambda st: st.ok())
        self.settings, self.is_early, self.consumes, self.first = settings, is_early, consumes, first
        self.tls = tls
        self.lock = threading.Lock()
        self.requests, self.conns, self.in_flight, self.peak = [], [], 0, 0
        self.listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def connections(self):
        return len(self.conns)

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = Conn(self, sock)
            self.conns.append(conn)
            threading.Thread(target=conn.serve, daemon=True).start()

    def drop(self):
        """Cuts every connection; new ones are welcome."""
        for c in list(self.conns):
            try:
                c.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # close alone would not wake accept
        except OSError:
            pass
        self.listener.close()
        for c in self.conns:
            try:
                c.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
