# SPDX-License-Identifier: Apache-2.0
"""The same bytes to foldback, nginx and HAProxy; a recording backend keeps what each passed on.

Whatever foldback passes on is read by a family of parsers that differ in everything in which real ones do.  All of them must see
the same requests: then no backend can understand it differently from us."""
import itertools
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fault"))
from fb import Foldback, free_port  # noqa: E402
from shapes import LEGAL, hostile  # noqa: E402

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Recorder:
    """Keeps the bytes of each connection and answers once per thing that looks like a request."""

    def __init__(self):
        self.taken = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        got = bytearray()
        self.taken.append(got)
        sock.settimeout(20)
        answered = 0
        try:
            while True:
                data = sock.recv(65536)
                if not data:
                    break
                got += data
                seen = sum(r[0] != "rest" for r in STRICT.requests(bytes(got)))
                if seen > answered:
                    sock.sendall(ANSWER * (seen - answered))
                    answered = seen
        except OSError:
            pass
        sock.close()


class Reader:
    """One way to read HTTP/1.  <quirks> name where it departs from RFC 9112, as real parsers do."""

    def __init__(self, quirks):
        self.q = quirks

    def lines(self, data, at):
        """Field lines until the empty one: (list, position behind), or None when incomplete or refused."""
        out = []
        while True:
            end = data.find(b"\n", at)
            if end < 0:
                return None
            line = data[at:end]
            if line.endswith(b"\r"):
                line = line[:-1]
            elif "bare-lf" not in self.q:
                return None
            at = end + 1
            if line == b"":
                return out, at
            if "bare-cr" in self.q and b"\r" in line:
                out += [p for p in line.split(b"\r") if p]
            elif line[:1] in (b" ", b"\t") and out:
                if "fold-join" in self.q:
                    out[-1] += b" " + line.strip()
                elif "fold-field" in self.q:
                    out.append(line.strip())
                else:
                    return None
            else:
                out.append(line)

    def framing(self, fields):
        te, cl = [], []
        for f in fields:
            name, _, value = f.partition(b":")
            if "name-trim" in self.q:
                name = name.strip(b" \t\x0b\x00")
            if "underscore" in self.q:
                name = name.replace(b"_", b"-")
            value = value.strip(b" \t\x0b\x0c\x00" if "value-trim" in self.q else b" \t")
            if name.lower() == b"transfer-encoding":
                te.append(value.lower())
            if name.lower() == b"content-length":
                cl.append(value)
        length = None
        if cl:
            m = re.match(rb"\+?(\d+)", cl[-1 if "cl-last" in self.q else 0])
            length = int(m.group(1)) if m else 0
        is_chunked = bool(te) and ("te-substring" in self.q and any(b"chunked" in v for v in te) or
                                   te[-1 if "te-last" in self.q else 0].split(b",")[-1].strip() == b"chunked")
        if "cl-wins" in self.q and length is not None:
            is_chunked = False
        return is_chunked, length or 0

    def chunked(self, data, at):
        body = b""
        while True:
            end = data.find(b"\n", at)
            if end < 0:
                return None
            m = re.match(rb"[ \t]*(?:0[xX])?([0-9a-fA-F]+)", data[at:end])
            if not m:
                return None
            size = int(m.group(1), 16)
            at = end + 1
            if size == 0:
                rest = self.lines(data, at)
                return rest and (body, rest[1])
            body += data[at:at + size]
            at += size
            at += 2 if data[at:at + 2] == b"\r\n" else 1 if data[at:at + 1] == b"\n" else 0

    def requests(self, data):
        out, at = [], 0
        while at < len(data):
            head = self.lines(data, at)
            if head is None or not head[0]:
                out.append(("rest", bytes(data[at:])))
                return out
            fields, at = head
            hosts = [f.split(b":", 1)[1].strip() for f in fields[1:] if f.lower().startswith(b"host:")]
            is_chunked, length = self.framing(fields[1:])
            if is_chunked:
                read = self.chunked(data, at)
                if read is None:
                    out.append(("rest", bytes(data[at:])))
                    return out
                body, at = read
            else:
                if len(data) - at < length:
                    out.append(("rest", bytes(data[at:])))
                    return out
                body, at = bytes(data[at:at + length]), at + length
            out.append((fields[0], tuple(hosts), body))
        return out


QUIRKS = ["bare-lf", "bare-cr", "fold-join", "fold-field", "name-trim", "underscore", "value-trim", "te-substring", "te-last", "cl-last", "cl-wins"]
STRICT = Reader(set())
READERS = [Reader(set(c)) for n in (0, 1, 2) for c in itertools.combinations(QUIRKS, n)] + [Reader(set(QUIRKS)), Reader(set(QUIRKS) - {"cl-wins"})]


def disagreement(data):
    """None when all readers see the same; else what two of them see."""
    seen = {}
    for r in READERS:
        seen.setdefault(repr(r.requests(data)), r.q)
    return None if len(seen) == 1 else list(seen.items())[:2]


class Peer:
    def __init__(self, port, recorder, process):
        self.port, self.recorder, self.process = port, recorder, process

    def send(self, data):
        """What came back, and the bytes that the backend got for it."""
        before = len(self.recorder.taken)
        old = [len(t) for t in self.recorder.taken]
        back = b""
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            s.settimeout(0.25)
            s.sendall(data)
            try:
                while True:
                    part = s.recv(65536)
                    if not part:
                        break
                    back += part
                    s.settimeout(0.06)
            except OSError:
                pass
        time.sleep(0.005)
        parts = [bytes(t[old[i] if i < before else 0:]) for i, t in enumerate(list(self.recorder.taken))]
        return back, [p for p in parts if p]


def start_nginx(folder, recorder):
    port = free_port()
    (folder / "nginx.conf").write_text(f"""daemon off; worker_processes 1; error_log /dev/null; pid {folder}/nginx.pid;
events {{}} http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; upstream o {{ server 127.0.0.1:{recorder.port}; keepalive 8; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; }} }} }}
""")
    return port, ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def start_haproxy(folder, recorder):
    port = free_port()
    (folder / "haproxy.cfg").write_text(f"""defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:{recorder.port}
""")
    return port, ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    made = {}
    folder = tmp_path_factory.mktemp("foldback")
    recorder = Recorder()
    fb = Foldback(folder, f"services: {{ o: {{ endpoints: ['127.0.0.1:{recorder.port}'], eject: false }} }}\nroutes: [{{ match: /, service: o }}]\n")
    fb.start()
    made["foldback"] = Peer(fb.port, recorder, None)
    for name, start in (("nginx", start_nginx), ("haproxy", start_haproxy)):
        if not (shutil.which(name) or shutil.which(name, path="/usr/sbin")):
            continue
        folder = tmp_path_factory.mktemp(name)
        recorder = Recorder()
        port, argv = start(folder, recorder)
        argv[0] = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        made[name] = Peer(port, recorder, p)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
    yield made
    fb.stop()
    for peer in made.values():
        if peer.process:
            peer.process.terminate()
            peer.process.wait(10)


def test_there_are_enough_shapes():
    assert len(list(hostile())) + len(LEGAL) >= 300


def test_the_readers_disagree_about_what_is_known_to_be_ambiguous():
    both = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    assert disagreement(both)
    assert disagreement(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 30\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n12")
    assert disagreement(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") is None


def test_both_peers_are_there(peers):
    assert set(peers) == {"foldback", "nginx", "haproxy"}


def test_what_is_legal_is_passed_on(peers):
    refused = []
    for name, data in LEGAL:
        back, taken = peers["foldback"].send(data)
        if not back.startswith(b"HTTP/1.1 200") or len(taken) != 1 or disagreement(taken[0]):
            refused.append((name, back[:60]))
    assert refused == []


def test_nothing_is_passed_on_that_two_parsers_could_read_differently(peers, record_property):
    counts = {name: {"passed on": 0, "ambiguous": 0} for name in peers}
    bad = []
    for shape, data in hostile():
        for name, peer in peers.items():
            _, taken = peer.send(data)
            counts[name]["passed on"] += bool(taken)
            for t in taken:
                why = disagreement(t)
                if why:
                    counts[name]["ambiguous"] += 1
                    if name == "foldback":
                        bad.append((shape, t, why))
    for name, c in counts.items():
        record_property(name, str(c))
    print(counts)
    assert bad == [], "%d shapes, first: %r" % (len(bad), bad[0])
    assert counts["foldback"]["passed on"] > 50  # it does not win by refusing everything
