"""A running foldback, its origins and its load, for fault tests.  Everything on 127.0.0.1, everything bounded."""
import contextlib
import http.client
import http.server
import json
import os
import random
import signal
import socket
import socketserver
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("FOLDBACK_BIN", os.path.join(ROOT, "build", "foldback"))


def free_port():
    """Below the ports of outgoing connections: one of those may take what is free now before it is listened at."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        top = min(32000, int(f.read().split()[0]))
    for _ in range(200):
        port = random.SystemRandom().randrange(12000, top) if top > 16000 else 0
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return s.getsockname()[1]
    raise AssertionError("no free port")


class Origin:
    """An HTTP/1.1 server; `delay_s` can be changed while it runs; /slow/N waits N ms."""

    def __init__(self, host="127.0.0.1"):
        origin = self
        self.delay_s = 0.002
        self.hits = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                n = int(self.headers.get("content-length") or 0)
                if n:
                    self.rfile.read(n)
                origin.hits += 1
                part = self.path.split("/")
                time.sleep(int(part[2]) / 1000 if len(part) > 2 and part[1] == "slow" else origin.delay_s)
                self.send_response(200)
                self.send_header("content-length", "3")
                self.end_headers()
                self.wfile.write(b"ok\n")

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self.server = Server((host, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Echo:
    """Says 101 to anything, then sends back what comes."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(s,), daemon=True).start()

    def talk(self, s):
        got = b""
        while b"\r\n\r\n" not in got:
            more = s.recv(4096)
            if not more:
                return
            got += more
        s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := s.recv(4096):
            s.sendall(data)
        s.close()


def config(origin, extra=""):
    return f'''mode: act
services:
  app:
    endpoints: ["127.0.0.1:{origin.port}"]
    objective: {{ latency: 99% < 500ms }}
    tune: {{ limit: {{ min: 8 }} }}  # more than the clients of Load: a slow machine is no reason to shed one of them
{extra}'''


class Foldback:
    def __init__(self, folder, config, state=None, listen='["{host}:%d"]', host="127.0.0.1", within=()):
        """<within>: a command that runs the command behind it somewhere else, where <host> is."""
        self.port = free_port()
        self.host, self.within = host, list(within)
        self.folder = str(folder)
        self.state = state or os.path.join(self.folder, "state")
        self.file = os.path.join(self.folder, "foldback.yaml")
        # what foldback refuses because this machine is busy is the matter of test_34_overload
        calm = "" if "overload:" in config else "overload: { mode: off }\n"
        with open(self.file, "w") as f:
            f.write(f'listen: {listen.replace("{host}", host) % self.port}\nadmin: {{ listen: "{host}:0" }}\nthreads: 1\n{calm}{config}')
        self.log = open(os.path.join(self.folder, "foldback.log"), "a+")
        self.process = None

    def start(self):
        try:
            return self.begin()
        except BaseException:
            self.stop()  # a start that fails leaves no process behind
            raise

    def begin(self):
        self.process = subprocess.Popen([*self.within, BIN, "run", "--config", self.file, "--state", self.state],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        until(lambda: os.path.exists(os.path.join(self.state, "admin.json")) or self.process.poll() is not None, 20,
              "foldback is ready")
        assert self.process.poll() is None, self.text()
        until(lambda: self.api("GET", "/v1/endpoints")["endpoints"], 5, "the brain knows the endpoints")
        # the engine hears of the routes after the endpoints, sometimes a tick later
        until(lambda: any(k["knob"] == "timeout_ms" for k in self.api("GET", "/v1/knobs")["knobs"]), 5,
              "the engine knows the routes")
        return self

    def text(self):
        self.log.flush()
        with open(self.log.name) as f:
            return f.read()

    def child(self, name):
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            with contextlib.suppress(OSError):
                stat = open(f"/proc/{pid}/stat").read()
                if stat.split(")")[-1].split()[1] == str(self.process.pid) and f"({name})" in stat and " Z " not in stat:
                    return int(pid)
        return None

    def api(self, method, path, body=None, timeout_s=3):
        with open(os.path.join(self.state, "admin.json")) as f:
            where = json.load(f)
        token = open(where["token_file"]).read().strip()
        c = http.client.HTTPConnection(where["address"], timeout=timeout_s)
        try:
            c.request(method, path, json.dumps(body) if body is not None else None,
                      {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
            r = c.getresponse()
            text = r.read()
            assert r.status < 300, f"{method} {path}: {r.status} {text!r}"
            return json.loads(text) if text else None
        finally:
            c.close()

    def cli(self, *args, timeout_s=60):
        return subprocess.run([*self.within, BIN, *args, "--state", self.state], capture_output=True, text=True,
                              timeout=timeout_s)

    def get(self, path="/", timeout_s=10):
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            c.request("GET", path)
            r = c.getresponse()
            r.read()
            return r.status
        finally:
            c.close()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        text = self.text()
        self.log.close()
        for word in ("Sanitizer", "runtime error", "promise", "crashed at the stop"):
            assert word not in text, text[-6000:]


def knob_value(fold):
    try:
        return fold.api("GET", "/v1/knobs/timeout_ms/app%20%2F")["value"]
    except (OSError, AssertionError, http.client.HTTPException, KeyError):
        return None


class Load:
    """<threads> keep-alive clients in a closed loop with a pause; counts answers and failures."""

    def __init__(self, port, threads=4, pause_s=0.01, connect=None):
        self.port, self.ok, self.bad, self.stopping = port, 0, [], False
        self.connect = connect or (lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=10))
        self.slowest_s = 0.0
        self.threads = [threading.Thread(target=self.run, args=(pause_s,), daemon=True) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def run(self, pause_s):
        c = None
        while not self.stopping:
            begin = time.monotonic()
            try:
                c = c or self.connect()
                c.request("GET", "/")
                r = c.getresponse()
                r.read()
                if r.status == 200:
                    self.ok += 1
                else:
                    self.bad.append(r.status)
                if r.will_close:
                    c.close()
                    c = None
            except Exception as e:  # noqa: BLE001 - every failure counts
                self.bad.append(repr(e))
                if c:
                    c.close()
                c = None
            self.slowest_s = max(self.slowest_s, time.monotonic() - begin)
            time.sleep(pause_s)

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join(12)


LEAST_S = 30  # a wait for a state ends with the state; a bound on how soon it comes would be a bound on the machine


def until(fact, seconds, what):
    seconds = max(seconds, LEAST_S)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if fact():
            return
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")
