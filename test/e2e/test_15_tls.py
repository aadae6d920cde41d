# SPDX-License-Identifier: Apache-2.0
"""TLS towards clients: versions, names, protocols, sessions, certificates that change, and peers that misbehave."""
import os
import resource
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from conftest import WAIT_S, Wire, config, free_port, ok
import h2_util
from tls_util import Authority, TlsProxy, openssl

pytestmark = pytest.mark.short


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
        assert proxy.counted("full", 1)


def test_bodies_of_every_size_arrive_whole_in_both_directions(secure, authority):
    origin, proxy = secure(lambda r, w: ok(r.body))
    w = proxy.secure(authority.context())
    for size in (0, 1, 1299, 1300, 1301, 16383, 16384, 16385, 65536, 300001, 3000000):
        body = os.urandom(size)
        w.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + body)
        assert w.response().body == body, size
    w.close()


# ---- names and certificates ----

def shown(proxy, context, name):
    w = proxy.secure(context, name)
    names = [v for k, v in w.sock.getpeercert()["subjectAltName"]]
    w.close()
    return names


def test_the_name_that_is_asked_for_chooses_the_certificate(secure, authority):
    files = [authority.leaf("default.example"), authority.leaf("a.example", "*.a.example"), authority.leaf("x.a.example")]
    tls = "{ certs: [%s] }" % ", ".join("{ cert: %s, key: %s }" % f for f in files)
    _, proxy = secure(tls=tls)
    context = authority.context(check_hostname=False)
    assert shown(proxy, context, "a.example")[0] == "a.example"
    assert shown(proxy, context, "A.Example")[0] == "a.example"
    assert shown(proxy, context, "y.a.example")[0] == "a.example"
    assert shown(proxy, context, "x.a.example") == ["x.a.example"]
    assert shown(proxy, context, "unknown.example") == ["default.example"]
    assert shown(proxy, context, None) == ["default.example"]


def test_rsa_and_ecdsa_stand_beside_each_other(secure, authority):
    files = [authority.leaf("first.example"), authority.leaf("a.example", kind="rsa"), authority.leaf("a.example")]
    tls = "{ certs: [%s] }" % ", ".join("{ cert: %s, key: %s }" % f for f in files)
    _, proxy = secure(tls=tls)
    for cipher in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        context = authority.context(maximum_version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(cipher)
        w = proxy.secure(context, "a.example")
        assert w.sock.cipher()[0] == cipher
        w.close()


def test_internal_certificates_are_made_for_each_name(secure, world):
    _, proxy = secure(tls="internal")
    ca, deadline = str(proxy.dir / "state" / "internal-ca.pem"), time.monotonic() + WAIT_S
    while not os.path.exists(ca) and time.monotonic() < deadline:
        time.sleep(0.02)
    context = ssl.create_default_context(cafile=ca)
    assert os.stat(str(proxy.dir / "state" / "internal-ca.key")).st_mode & 0o77 == 0
    for name in ("localhost", "app.test", "other.test", "app.test"):
        assert proxy.fetch(context, name=name).status == 200


def test_alpn_agrees_on_what_we_speak_or_ends(secure, authority):
    _, proxy = secure()
    for offered, got in ((["http/1.1"], "http/1.1"), (["foo", "http/1.1"], "http/1.1"), (["http/1.0"], "http/1.0")):
        context = authority.context()
        context.set_alpn_protocols(offered)
        w = proxy.secure(context)
        assert w.sock.selected_alpn_protocol() == got
        w.close()
    context = authority.context()
    context.set_alpn_protocols(["foo"])
    with pytest.raises(ssl.SSLError):
        proxy.secure(context)
    if not proxy.is_whole:
        assert proxy.counted("alpn", 1)


def test_old_versions_and_weak_ciphers_are_refused(secure, authority):
    _, proxy = secure()
    for more in ("-tls1_1", "-no_tls1_3 -cipher AES128-SHA@SECLEVEL=0", "-no_tls1_3 -cipher ECDHE-ECDSA-AES128-SHA@SECLEVEL=0"):
        done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % proxy.port, *more.split()],
                              input=b"", capture_output=True, timeout=10)
        assert done.returncode != 0, more
    if not proxy.is_whole:
        assert proxy.counted("version", 1)
        assert proxy.counted("cipher", 2)


def test_only_13_when_the_file_says_so(secure, authority):
    cert, key = authority.leaf("localhost")
    _, proxy = secure(tls="{ cert: %s, key: %s, min_version: 1.3 }" % (cert, key))
    with pytest.raises(ssl.SSLError):
        proxy.secure(authority.context(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert proxy.fetch(authority.context()).status == 200


def test_an_ocsp_answer_is_stapled(secure, authority, tmp_path):
    cert, key = authority.leaf("localhost", serial=4711)
    index, answer = tmp_path / "index.txt", str(tmp_path / "answer.der")
    index.write_text("V\t491231235959Z\t\t1267\tunknown\t/CN=localhost\n")
    openssl("ocsp", "-index", index, "-CA", authority.cert, "-rsigner", authority.cert, "-rkey", authority.key, "-issuer",
            authority.cert, "-serial", 4711, "-ndays", 2, "-respout", answer)
    _, proxy = secure(tls="{ cert: %s, key: %s, ocsp: %s }" % (cert, key, answer))
    out = openssl("s_client", "-connect", "127.0.0.1:%d" % proxy.port, "-status", "-servername", "localhost", "-CAfile",
                  authority.cert, data=b"")
    assert b"OCSP Response Status: successful" in out
    assert b"Cert Status: good" in out


# ---- sessions ----

def session_of(proxy, context, session=None):
    w = proxy.secure(context, session=session)
    w.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert w.response().status == 200
    got, reused = w.sock.session, w.sock.session_reused
    w.sock.unwrap()
    return got, reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_on_every_thread_and_after_a_reload(secure, authority, version):
    origin, proxy = secure(threads=2)
    context = authority.context(maximum_version=version)
    session, reused = session_of(proxy, context)
    assert not reused
    for _ in range(8):
        before = session.id
        session, reused = session_of(proxy, context, session)
        assert reused
        if version == ssl.TLSVersion.TLSv1_3:
            assert session.id != before, "a ticket is for one use: the next one comes with each resumption"
    assert proxy.reload(config(origin)).startswith("reloaded")
    session, reused = session_of(proxy, context, session)
    assert reused
    if not proxy.is_whole:
        assert proxy.counted("resumed", 9)


def test_a_ticket_dies_with_its_key(secure, authority):
    origin, proxy = secure(extra="tls: { ticket_rotation: 2s }\n")
    context = authority.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    first, _ = session_of(proxy, context)
    time.sleep(2.2)
    assert session_of(proxy, context, first)[1], "the key before this one still opens"
    time.sleep(4.5)
    assert not session_of(proxy, context, first)[1], "three rotations later nothing does"


def test_a_session_without_a_client_certificate_is_none_where_one_is_asked_for(secure, authority):
    cert, key = authority.leaf("localhost")
    port = free_port()
    strict = ', { address: "127.0.0.1:%d", tls: { cert: %s, key: %s, client_ca: %s } }' % (port, cert, key, authority.cert)
    _, proxy = secure(cert=(cert, key), more_listen=strict)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.context(maximum_version=version)
        session, _ = session_of(proxy, context)
        plain = socket.create_connection(("127.0.0.1", port), WAIT_S)
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            w = Wire(context.wrap_socket(plain, server_hostname="localhost", session=session))
            w.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            w.response()


# ---- client certificates ----

def test_clients_must_show_a_certificate_where_the_file_says_so(secure, authority, tmp_path):
    cert, key = authority.leaf("localhost")
    stranger = Authority(str(tmp_path / "stranger"), "stranger")
    origin, proxy = secure(tls="{ cert: %s, key: %s, client_ca: %s }" % (cert, key, authority.cert))
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        proxy.fetch(authority.context())
    context = authority.context()
    context.load_cert_chain(*stranger.leaf("client"))
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        proxy.fetch(context)
    context = authority.context()
    context.load_cert_chain(*authority.leaf("client", subject="/O=Team A/CN=client"))
    assert proxy.fetch(context, fields=["X-Client-Cert-Subject: CN=admin"]).status == 200
    assert origin.requests[-1].all("x-client-cert-subject") == ["CN=client,O=Team A"]
    session, _ = session_of(proxy, context)
    assert session_of(proxy, context, session)[1]
    assert origin.requests[-1].all("x-client-cert-subject") == ["CN=client,O=Team A"]
    if not proxy.is_whole:
        assert proxy.counted("cert", 2)


def test_an_optional_certificate_may_be_missing_but_not_wrong(secure, authority, tmp_path):
    cert, key = authority.leaf("localhost")
    stranger = Authority(str(tmp_path / "stranger"), "stranger")
    origin, proxy = secure(tls="{ cert: %s, key: %s, client_ca: %s, verify: optional }" % (cert, key, authority.cert))
    assert proxy.fetch(authority.context(), fields=["X-Client-Cert-Subject: CN=admin"]).status == 200
    assert origin.requests[-1].all("x-client-cert-subject") == []
    context = authority.context()
    context.load_cert_chain(*stranger.leaf("client"))
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        proxy.fetch(context)


# ---- change ----

def replace(files, fresh):
    for path, new in zip(files, fresh):
        shutil.copy(new, path + ".new")
        os.rename(path + ".new", path)


def serial_of(proxy, context):
    w = proxy.secure(context)
    serial = w.sock.getpeercert()["serialNumber"]
    w.close()
    return serial


def test_certificates_change_under_load_and_no_request_fails(secure, authority):
    origin, proxy = secure(threads=2)
    context, stop, failures, done = authority.context(), threading.Event(), [], [0]

    def load(is_kept):
        w = None
        while not stop.is_set():
            try:
                w = w or proxy.secure(context)
                w.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert w.response().status == 200
                done[0] += 1
                if not is_kept:
                    w.close()
                    w = None
            except Exception as e:  # whatever it is, it is the failure we look for
                failures.append(repr(e))
                return

    threads = [threading.Thread(target=load, args=(i % 2 == 0,)) for i in range(4)]
    for t in threads:
        t.start()
    serials = {serial_of(proxy, context)}
    for _ in range(3):
        replace(proxy.files, authority.leaf("localhost"))
        deadline = time.monotonic() + WAIT_S
        while (now := serial_of(proxy, context)) in serials and time.monotonic() < deadline:
            time.sleep(0.05)
        assert now not in serials
        serials.add(now)
    stop.set()
    for t in threads:
        t.join()
    assert failures == []
    assert done[0] > 100


def test_files_that_do_not_fit_change_nothing_and_the_log_says_why(secure, authority):
    _, proxy = secure()
    context = authority.context()
    was = serial_of(proxy, context)
    fresh = authority.leaf("localhost")
    replace(proxy.files[:1], fresh[:1])  # the key does not follow
    deadline = time.monotonic() + WAIT_S
    while "does not belong" not in proxy.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "does not belong" in proxy.log()
    assert serial_of(proxy, context) == was
    if not proxy.is_whole:
        assert proxy.counted("refused", 1)
    replace(proxy.files[1:], fresh[1:])
    deadline = time.monotonic() + WAIT_S
    while serial_of(proxy, context) == was and time.monotonic() < deadline:
        time.sleep(0.05)
    assert serial_of(proxy, context) != was
    if not proxy.is_whole:
        assert proxy.counted("refused", 0)
    with open(proxy.files[0], "w") as f:
        f.write("-----BEGIN CERTIFICATE-----\nhalf")
    time.sleep(1.5)
    assert proxy.fetch(context).status == 200


def test_a_certificate_that_could_not_be_read_is_read_later(secure, authority):
    _, proxy = secure()
    context = authority.context()
    was = serial_of(proxy, context)
    soft, hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (3, hard))
    replace(proxy.files, authority.leaf("localhost"))
    deadline = time.monotonic() + WAIT_S
    while "Too many open files" not in proxy.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert proxy.counted("refused", 1)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    deadline = time.monotonic() + WAIT_S
    while serial_of(proxy, context) == was and time.monotonic() < deadline:
        time.sleep(0.05)
    assert serial_of(proxy, context) != was
    assert proxy.counted("refused", 0) and proxy.log().count("Too many open files") == 1


def test_a_reload_with_a_bad_certificate_is_refused_and_the_old_one_serves(secure, authority):
    origin, proxy = secure()
    if proxy.is_whole:
        pytest.skip("the answer to a reload is the driver's")
    context, tls = authority.context(), proxy.tls
    proxy.tls = "{ cert: %s, key: %s }" % (authority.leaf("localhost")[0], proxy.files[1])
    assert "does not belong" in proxy.reload(config(origin))
    assert proxy.fetch(context).status == 200
    proxy.tls = tls
    assert proxy.reload(config(origin)).startswith("reloaded")


# ---- peers that misbehave ----

SHORT = "limits: { header_timeout: 400ms, idle_timeout: 500ms }\n"


def test_http_without_tls_is_told_to_use_https(secure):
    _, proxy = secure()
    m = proxy.get("/")
    assert m.status == 400
    assert b"https://" in m.body
    if not proxy.is_whole:
        assert proxy.counted("not_tls", 1)


@pytest.mark.parametrize("bytes_sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01"],
                         ids=["nothing", "one-byte", "half-a-hello", "half-a-header"])
def test_a_handshake_that_stands_still_is_closed(secure, bytes_sent):
    _, proxy = secure(extra=SHORT)
    begun = time.monotonic()
    w = proxy.connect()
    w.send(bytes_sent)
    assert w.is_closed()
    assert 0.2 < time.monotonic() - begun < 5
    if not proxy.is_whole:
        assert proxy.counted("timeout", 1)


def test_a_handshake_that_drips_is_closed(secure):
    _, proxy = secure(extra=SHORT)
    w = proxy.connect()
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 400
    begun = time.monotonic()
    try:
        for b in hello:
            w.send(bytes([b]))
            time.sleep(0.02)
    except OSError:
        pass
    assert time.monotonic() - begun < 7  # to the end of it 8 s are needed


def test_garbage_is_closed_and_harms_nobody(secure, authority):
    _, proxy = secure()
    for i in range(60):
        w = proxy.connect()
        try:
            w.send(os.urandom(1 + i * 97 % 3000))
            if i % 3 == 0:
                w.reset()
                continue
            w.sock.shutdown(socket.SHUT_WR)
            w.rest()
        except OSError:
            pass
        w.close()
    assert proxy.fetch(authority.context()).status == 200


def test_garbage_after_the_handshake_is_closed(secure, authority):
    _, proxy = secure()
    w = proxy.secure(authority.context())
    raw = socket.socket(fileno=os.dup(w.sock.fileno()))
    raw.sendall(b"\x17\x03\x03\x00\x20" + os.urandom(32))
    raw.settimeout(WAIT_S)
    data = b""
    try:
        while part := raw.recv(4096):
            data += part
    except ConnectionResetError:
        pass
    raw.close()
    w.close()
    assert proxy.fetch(authority.context()).status == 200


def test_renegotiation_is_refused(secure, authority):
    _, proxy = secure()
    p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % proxy.port, "-tls1_2", "-CAfile", authority.cert],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(0.5)
    try:
        out, _ = p.communicate(b"R\n", timeout=5)
    except subprocess.TimeoutExpired:
        p.kill()
        out, _ = p.communicate()
    assert b"no renegotiation" in out or b"handshake failure" in out or b"unexpected" in out
    assert proxy.fetch(authority.context()).status == 200


def test_too_many_handshakes_close_the_oldest(secure, authority):
    _, proxy = secure(extra="tls: { handshakes: 10 }\n")
    idle = [proxy.connect() for _ in range(30)]
    time.sleep(0.3)
    assert proxy.fetch(authority.context()).status == 200
    closed = sum(w.is_closed(3) for w in idle[:20])
    assert closed == 20
    if not proxy.is_whole:
        assert proxy.counters()["busy"] >= 20
    for w in idle:
        w.close()


def test_a_kept_connection_that_is_idle_is_closed_with_a_goodbye(secure, authority):
    _, proxy = secure(extra=SHORT)
    context = authority.context()
    plain = socket.create_connection(("127.0.0.1", proxy.port), WAIT_S)
    w = Wire(context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False))
    w.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert w.response().status == 200
    assert w.sock.recv(1) == b"", "an end without close_notify would raise"


def test_an_answer_that_is_cut_has_no_goodbye(secure, authority):
    def raw(w):
        w.request()
        w.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        time.sleep(0.1)
        w.reset()

    _, proxy = secure(raw=raw)
    plain = socket.create_connection(("127.0.0.1", proxy.port), WAIT_S)
    w = Wire(authority.context().wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False))
    w.send("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        while w.sock.recv(4096):
            pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_connections_that_rested_go_on_as_before(secure, authority, version):
    """After a second of silence a connection of TLS 1.3 gives up what only the handshake needed."""
    origin, proxy = secure(lambda r, w: ok(r.body or b"x" * 1000))
    context = authority.context(minimum_version=version, maximum_version=version)
    used, fresh = proxy.secure(context), proxy.secure(context)
    used.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert used.response().status == 200
    time.sleep(1.5)  # what is checked holds whether they rest already or not
    for w in (used, fresh):
        for size in (1, 20000, 1000000):
            body = os.urandom(size)
            w.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + body)
            assert w.response().body == body
    used.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert len(used.response().body) == 1000
    assert used.sock.recv(1) == b""
    used.close()
    fresh.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_answer_that_closes_arrives_whole_and_ends_with_a_goodbye(secure, authority, version):
    origin, proxy = secure(lambda r, w: ok(b"x" * int(r.target.rsplit("/", 1)[-1])))
    context = authority.context(minimum_version=version, maximum_version=version)
    for size in (0, 100, 1300, 5000, 70000, 3000000):
        plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_S)
        w = Wire(context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False))
        w.send("GET /%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % size)
        m = w.response()
        assert (m.status, len(m.body)) == (200, size)
        assert w.sock.recv(1) == b"", "an end without close_notify would raise"
        w.close()


def test_a_slow_reader_gets_everything(secure, authority):
    body = os.urandom(1 << 20) * 8
    _, proxy = secure(lambda r, w: ok(body))
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(WAIT_S)
    plain.connect(("127.0.0.1", proxy.port))
    w = Wire(authority.context().wrap_socket(plain, server_hostname="localhost"))
    w.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _ in range(2):
        m = w.head()
        got = bytearray(w.buffer)
        w.buffer = b""
        while len(got) < len(body):
            got += w.sock.recv(min(65536, len(body) - len(got)))
            if len(got) % 7 == 0:
                time.sleep(0.001)
        assert bytes(got) == body


def test_a_proxy_header_comes_before_tls(secure, authority):
    cert, key = authority.leaf("localhost")
    port = free_port()
    more = ', { address: "127.0.0.1:%d", proxy_protocol: true, tls: { cert: %s, key: %s } }' % (port, cert, key)
    origin, proxy = secure(more_listen=more)
    plain = socket.create_connection(("127.0.0.1", port), WAIT_S)
    plain.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
    w = Wire(authority.context().wrap_socket(plain, server_hostname="localhost"))
    w.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert w.response().status == 200
    assert origin.requests[-1].get("x-forwarded-for") == "192.0.2.7"
    assert origin.requests[-1].get("x-forwarded-proto") == "https"


def test_a_tunnel_runs_through_tls(secure, authority):
    def raw(w):
        w.request()
        w.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        while w.fill():
            w.send(w.buffer)
            w.buffer = b""

    _, proxy = secure(raw=raw)
    w = proxy.secure(authority.context())
    w.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    assert w.head().status == 101
    for size in (1, 20000, 200000):
        data = os.urandom(size)
        for at in range(0, size, 16000):  # in turn: a TLS object of Python is not for two threads
            w.send(data[at:at + 16000])
            assert w.exactly(len(data[at:at + 16000])) == data[at:at + 16000]


# ---- ACME ----

def test_a_challenge_is_answered_from_its_file_and_nothing_else_is(secure, authority, tmp_path):
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "tok-en_1").write_text("tok-en_1.thumbprint")
    (folder / "empty").write_text("")
    (folder / "large").write_text("x" * 5000)
    (tmp_path / "secret").write_text("no")
    (folder / "link").symlink_to(tmp_path / "secret")
    origin, proxy = secure(lambda r, w: ok("endpoint"), extra="tls: { acme_dir: %s }\n" % folder)
    at = "/.well-known/acme-challenge/"
    context = authority.context()
    m = proxy.fetch(context, at + "tok-en_1")
    assert (m.status, m.body) == (200, b"tok-en_1.thumbprint")
    for other in ("empty", "large", "link", "none", "", "..%2fsecret", "../secret", "tok-en_1/", "a" * 200):
        assert b"no" != proxy.fetch(context, at + other).body
        assert proxy.fetch(context, at + other).body != b"x" * 5000
    assert proxy.fetch(context, at + "none").body == b"endpoint", "what we do not have is the endpoint's to answer"


# ---- a flood ----

def test_a_flood_of_handshakes_leaves_open_connections_their_turn(secure, authority):
    _, proxy = secure()
    w = proxy.secure(authority.context())
    rows = [subprocess.Popen(["openssl", "s_time", "-connect", "127.0.0.1:%d" % proxy.port, "-new", "-time", "3"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(6)]
    waits, until = [], time.monotonic() + 2.5
    while time.monotonic() < until:
        begun = time.monotonic()
        w.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert w.response().status == 200
        waits.append(time.monotonic() - begun)
        time.sleep(0.005)
    for r in rows:
        r.wait(10)
    waits.sort()
    if not proxy.is_whole:
        assert proxy.counters()["full"] > 50, "there was a flood"
    # the clients share the cores with us: what is judged is that nobody waits for the queue of handshakes
    assert waits[len(waits) // 2] < 1
    assert waits[-1] < 10


class Records:
    """A client that sees the records: the length of each one that carries data for it, without its type and tag."""

    def __init__(self, proxy, context):
        self.sock = socket.create_connection(("127.0.0.1", proxy.port), WAIT_S)
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes, server_hostname="localhost")
        self.left, self.sizes = b"", []
        self.until(self.tls.do_handshake)

    def until(self, act):
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                self.sock.sendall(self.goes.read())
                data = self.sock.recv(1 << 20)
                assert data, "it closed"
                self.came.write(data)
                self.left += data
                while len(self.left) >= 5 and len(self.left) >= (n := 5 + int.from_bytes(self.left[3:5], "big")):
                    self.sizes.append(n - 5 - 17)
                    self.left = self.left[n:]
            finally:
                self.sock.sendall(self.goes.read())

    def get(self, target, body_bytes):
        """The sizes of the records of one answer."""
        self.sizes.clear()
        self.tls.write(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode())
        got = b""
        while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < body_bytes:
            got += self.until(lambda: self.tls.read(1 << 20))
        assert got.split(b"\r\n\r\n", 1)[1] == b"x" * body_bytes
        return list(self.sizes)


@pytest.mark.parametrize("rests", [False, True])
def test_records_are_small_at_first_large_in_bulk_and_small_again_after_silence(secure, authority, rests):
    """A browser can use nothing of a record before its end, a slow start has few packets; bulk wants few records."""
    _, proxy = secure(lambda r, w: ok(b"x" * int(r.target[1:])))
    c = Records(proxy, authority.context(minimum_version=ssl.TLSVersion.TLSv1_3))
    if rests:
        c.get("/100", 100)
        time.sleep(2.5)  # it gives up its SSL; if not, the sizes are the same
    sizes = c.get("/5000000", 5000000)
    assert max(sizes[:10]) <= 1300, sizes[:20]
    for _ in range(10):  # a machine that stands still for a second in the middle begins anew
        if 4096 in sizes and 16384 in sizes[sizes.index(4096):] and len(sizes) < 900:
            break
        sizes = c.get("/5000000", 5000000)
    assert 4096 in sizes and 16384 in sizes[sizes.index(4096):] and len(sizes) < 900, sizes[:300]
    time.sleep(1.5)
    sizes = c.get("/10000", 10000)
    assert max(sizes) <= 1300, sizes


def test_an_alert_says_why_a_connection_ends_also_before_the_first_request(secure, authority):
    _, proxy = secure()
    context = authority.context()
    plain = socket.create_connection(("127.0.0.1", proxy.port), WAIT_S)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            if outgoing.pending:
                plain.sendall(outgoing.read())
            incoming.write(plain.recv(65536))
    plain.sendall(outgoing.read())
    plain.sendall(b"\x17\x03\x03\x00\x20" + os.urandom(32))  # a record that does not decrypt
    got = b""
    plain.settimeout(WAIT_S)
    while part := plain.recv(65536):
        got += part
    incoming.write(got)
    incoming.write_eof()
    with pytest.raises(ssl.SSLError, match="(?i)bad record mac"):
        client.read(1)


def test_streams_over_tls_carry_who_showed_a_certificate(secure, authority):
    cert, key = authority.leaf("localhost")
    tls = "{ cert: %s, key: %s, client_ca: %s }, protocols: [h2, http1]" % (cert, key, authority.cert)
    origin, proxy = secure(tls=tls)
    context = authority.context()
    context.load_cert_chain(*authority.leaf("client", subject="/O=Team A/CN=client"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", proxy.port), WAIT_S)
    sock = context.wrap_socket(plain, server_hostname="localhost")
    assert sock.selected_alpn_protocol() == "h2"
    c = h2_util.H2(proxy.port, sock=sock)
    for _ in range(2):
        assert c.wait(c.begin("/", fields=[("x-client-cert-subject", "CN=admin")])).status == 200
    assert [r.all("x-client-cert-subject") for r in origin.requests] == [["CN=client,O=Team A"]] * 2
    assert origin.requests[0].get("x-forwarded-proto") == "https"


def test_forwarded_says_https(secure, authority):
    origin, proxy = secure(extra="gateway: { forwarded: rfc7239 }\n")
    assert proxy.fetch(authority.context()).status == 200
    assert origin.requests[0].get("forwarded").endswith("proto=https")
