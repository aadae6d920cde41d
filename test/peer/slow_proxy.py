# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that makes a server slow: bytes towards it trickle, what it answers comes late, or nothing moves at all."""
import selectors
import socket
import threading
import time


class Slow:
    """Listens on <port> of its own; `to` is where the server is, and may be told later.

    `mode`: "fast"; "trickle" (rate bytes a second towards the server); "late" (each answer `late_s` seconds later);
    "stalled" (nothing is read from anybody).  A change holds for connections that are open too."""

    CHUNK = 65536

    def __init__(self, to=None, rate=20000, late_s=10.0):
        self.to, self.rate, self.late_s, self.mode = to, rate, late_s, "fast"
        self.bytes_up = self.connections = 0
        self.is_over = False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def close(self):
        self.is_over = True
        self.listener.close()

    def accept(self):
        while not self.is_over:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self.to), timeout=20)
        except OSError:
            near.close()
            return
        for s in (near, far):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(60)
        back = threading.Thread(target=self.pump, args=(far, near, False), daemon=True)
        back.start()
        self.pump(near, far, True)
        back.join(120)
        near.close()
        far.close()

    def readable(self, s):
        """True: there are bytes or an end, and they may be read now."""
        with selectors.DefaultSelector() as sel:
            sel.register(s, selectors.EVENT_READ)
            while not self.is_over:
                if self.mode == "stalled":
                    time.sleep(0.05)
                elif sel.select(0.2):
                    return True
        return False

    def wait(self, seconds):
        """Less, when the mode changes."""
        mode, end = self.mode, time.monotonic() + seconds
        while not self.is_over and self.mode == mode and time.monotonic() < end:
            time.sleep(min(0.05, max(0.0, end - time.monotonic())))

    def pump(self, a, b, is_up):
        try:
            while self.readable(a):
                is_slow = is_up and self.mode == "trickle"
                data = a.recv(max(1, self.rate // 10) if is_slow else self.CHUNK)
                if not data:
                    break
                if is_slow:
                    self.wait(len(data) / self.rate)
                if not is_up and self.mode == "late":
                    self.wait(self.late_s)
                b.sendall(data)
                if is_up:
                    self.bytes_up += len(data)
        except OSError:
            pass
        for s, how in ((b, socket.SHUT_WR), (a, socket.SHUT_RD)):
            try:
                s.shutdown(how)
            except OSError:
                pass
