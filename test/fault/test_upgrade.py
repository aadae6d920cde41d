"""Another binary takes over: no request breaks, and whatever fails on the way leaves the old one in charge."""
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import time

import pytest
from fb import Echo, BIN, Foldback, Load, config, free_port, knob_value, until


def script(path, body):
    """A binary that behaves in one role and is foldback in the others."""
    path.write_text(f'#!/bin/sh\n{body}\nexec {BIN} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def answer(fold):
    with open(os.path.join(fold.state, "upgrade.answer")) as f:
        return json.load(f)


def connect(fold):
    s = socket.create_connection(("127.0.0.1", fold.port), 30)
    s.settimeout(30)
    return s


def ask(s, path="/"):
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    got = b""
    while b"ok\n" not in got:
        more = s.recv(4096)
        assert more, f"the connection ended after {got!r}"
        got += more
    return got


def test_an_upgrade_under_load_breaks_no_request_and_keeps_what_was_learned(fold, tmp_path):
    fold.api("PUT", "/v1/knobs/timeout_ms/app%20%2F/pin", {"value": 4321, "why": "test"})
    load = Load(fold.port)
    time.sleep(1)
    limit = fold.api("GET", "/v1/endpoints")["endpoints"][0]["limit"]
    before = {n: fold.child(n) for n in ("fb-gateway", "fb-brain")}
    next_binary = str(tmp_path / "foldback-next")
    shutil.copy(BIN, next_binary)
    done = fold.cli("upgrade", "--binary", next_binary)
    assert done.returncode == 0, done.stderr + fold.text()
    assert "runs in place of" in done.stdout
    for name, pid in before.items():
        until(lambda n=name, p=pid: fold.child(n) not in (None, p), 5, f"a new {name}")
    assert os.readlink(f"/proc/{fold.process.pid}/exe") == next_binary, "the supervisor is the new binary, same process"
    assert os.readlink(f"/proc/{fold.child('fb-brain')}/exe") == next_binary
    time.sleep(1)
    assert fold.api("GET", "/v1/endpoints")["endpoints"][0]["limit"] >= limit / 2, "no start from the first value"
    assert knob_value(fold) == 4321
    load.stop()
    assert load.bad == []
    assert load.ok > 20
    assert fold.cli("log", "check").returncode == 0
    assert "lost" not in fold.text()


def test_sigusr2_takes_the_file_that_was_started(fold):
    before = fold.child("fb-gateway")
    fold.process.send_signal(signal.SIGUSR2)
    until(lambda: os.path.exists(os.path.join(fold.state, "upgrade.answer")), 10, "an answer")
    assert answer(fold)["state"] == "done", answer(fold)
    until(lambda: fold.child("fb-gateway") != before, 5, "the old gateway has ended")
    assert fold.get() == 200


def test_requests_and_idle_connections_of_before_end_in_peace(fold):
    slow, idle = connect(fold), connect(fold)
    ask(idle)
    slow.sendall(b"GET /slow/1500 HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    old = fold.child("fb-gateway")
    assert fold.cli("upgrade").returncode == 0
    got = slow.recv(4096)
    assert got.startswith(b"HTTP/1.1 200") and b"onnection: close" in got
    time.sleep(2)  # longer than a drain would leave an idle connection
    got = ask(idle)
    assert b"onnection: close" in got, "the last answer says so"
    assert idle.recv(100) == b""
    until(lambda: not os.path.exists(f"/proc/{old}"), 5, "the old gateway has ended")
    assert ask(connect(fold)).startswith(b"HTTP/1.1 200")


def test_a_websocket_goes_on_through_an_upgrade(tmp_path):
    echo = Echo()
    fold = Foldback(tmp_path, config(echo)).start()
    s = connect(fold)
    s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert s.recv(4096).startswith(b"HTTP/1.1 101")
    s.sendall(b"before")
    assert s.recv(100) == b"before"
    assert fold.cli("upgrade").returncode == 0
    for i in range(30):  # longer than a drain would let an idle one be
        s.sendall(b"after %d" % i)
        assert s.recv(100) == b"after %d" % i
        time.sleep(0.05)
    s.close()
    until(lambda: len(children(fold, "fb-gateway")) == 1, 12, "the old gateway has ended with its tunnel")
    fold.stop()
    echo.listener.close()


def test_more_upgrades_than_seats_hurry_the_oldest(fold):
    idle = [connect(fold)]
    ask(idle[0])
    for _ in range(4):
        assert fold.cli("upgrade").returncode == 0, fold.text()
        idle.append(connect(fold))
        ask(idle[-1])
    assert fold.get() == 200
    assert b"onnection: close" in ask(idle[-2]), "the gateway before this one is there"


@pytest.mark.parametrize("body,says", [
    ("exit 0", "no foldback that can take over"),
    ("[ $1 = __check ] && exit 7", "exit 7"),
    ("[ $1 = __check ] && exec sleep 60", "within 10 s"),
    ("[ $1 = __gateway ] && exit 3", "the new gateway ended by exit 3"),
    ("[ $1 = __gateway ] && kill -9 $$", "the new gateway ended by signal 9"),
], ids=["another program", "a check that fails", "a check that hangs", "a gateway that ends", "a gateway that is killed"])
def test_a_bad_binary_leaves_the_old_one(fold, tmp_path, body, says):
    load = Load(fold.port)
    gateway, brain = fold.child("fb-gateway"), fold.child("fb-brain")
    done = fold.cli("upgrade", "--binary", script(tmp_path / "bad", body))
    assert done.returncode == 1
    assert says in done.stderr, done.stderr
    assert (fold.child("fb-gateway"), fold.child("fb-brain")) == (gateway, brain)
    assert os.readlink(f"/proc/{fold.process.pid}/exe") == os.path.realpath(BIN)
    load.stop()
    assert load.bad == []
    assert fold.cli("upgrade").returncode == 0, "the next one may be better"


def test_a_bad_file_leaves_the_old_one(fold):
    with open(fold.file, "a") as f:
        f.write("nonsense: 1\n")
    done = fold.cli("upgrade")
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert fold.get() == 200


def listen_on(fold, *ports):
    lines = open(fold.file).read().split("\n", 1)
    with open(fold.file, "w") as f:
        f.write("listen: [%s]\n" % ", ".join(f'"127.0.0.1:{p}"' for p in ports) + lines[1])


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except ConnectionRefusedError:
        return True
    return False


def test_another_listen_address_is_served_after_an_upgrade(fold):
    kept, was = connect(fold), fold.port
    ask(kept)
    listen_on(fold, free_port(), free_port())
    first, second = [int(p.split('"')[0]) for p in open(fold.file).readline().split("127.0.0.1:")[1:]]
    done = fold.cli("upgrade")
    assert done.returncode == 0, done.stderr
    for fold.port in (first, second):
        assert fold.get() == 200
    until(lambda: is_refused(was), 5, "nobody listens at the old address")
    assert ask(kept).startswith(b"HTTP/1.1 200"), "a connection of before ends in peace"
    load = Load(second, threads=2)
    listen_on(fold, second)
    assert fold.cli("upgrade").returncode == 0, "what is kept is known after an upgrade too"
    until(lambda: is_refused(first), 5, "nobody listens at what was removed")
    load.stop()
    assert load.ok and load.bad == []


def test_an_address_in_use_leaves_everything_as_it_is(fold):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        gateway, free = fold.child("fb-gateway"), free_port()
        listen_on(fold, fold.port, free, taken)
        done = fold.cli("upgrade")
        assert done.returncode == 1
        assert str(taken) in done.stderr, done.stderr
        assert fold.get() == 200 and fold.child("fb-gateway") == gateway
        assert is_refused(free), "what was opened for nothing is closed"


@pytest.mark.parametrize("victim", ["fb-gateway", "fb-brain"])
def test_kill_9_of_an_old_process_while_the_new_gateway_starts(fold, tmp_path, victim):
    slow_start = script(tmp_path / "slow", "[ $1 = __gateway ] && sleep 1")
    load = Load(fold.port, threads=1)
    before = fold.child("fb-gateway")
    pid = os.fork()
    if pid == 0:
        time.sleep(0.5)
        os.kill(fold.child(victim), signal.SIGKILL)
        os._exit(0)
    done = fold.cli("upgrade", "--binary", slow_start)
    os.waitpid(pid, 0)
    assert done.returncode == 0, done.stderr
    until(lambda: fold.child("fb-gateway") not in (None, before), 5, "the old gateway has ended")
    until(lambda: _try(fold) == 200, 5, "an answer")
    load.stop()
    if victim == "fb-brain":
        assert load.bad == []
    assert len(load.bad) < 20, "only what was in flight, or came in the moment of the restart"


@pytest.mark.parametrize("victim", ["fb-gateway", "fb-brain"])
def test_kill_9_of_a_new_process_is_as_any_other(fold, victim):
    assert fold.cli("upgrade").returncode == 0
    until(lambda: len(children(fold, victim)) == 1, 5, "the old one has ended")
    new = fold.child(victim)
    os.kill(new, signal.SIGKILL)
    until(lambda: fold.child(victim) not in (None, new), 5, f"a new {victim}")
    until(lambda: _try(fold) == 200, 5, "an answer")
    until(lambda: _status(fold) is not None, 10, "the brain answers")


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.02, 0.03, 0.2])
def test_kill_9_of_the_supervisor_on_the_way_leaves_nothing_that_a_start_minds(tmp_path, origin, delay_s):
    fold = Foldback(tmp_path, config(origin)).start()
    fold.process.send_signal(signal.SIGUSR2)
    time.sleep(delay_s)
    fold.process.kill()
    fold.process.wait(60)
    until(lambda: _try(fold) is None, 5, "the old gateways accept nothing more")
    again = Foldback(tmp_path, config(origin), state=fold.state)
    os.remove(os.path.join(fold.state, "admin.json"))
    again.start()
    assert again.get() == 200
    again.stop()


def test_sigterm_during_an_upgrade_ends_everything(tmp_path, origin):
    fold = Foldback(tmp_path, config(origin)).start()
    idle = connect(fold)
    ask(idle)
    assert fold.cli("upgrade").returncode == 0
    fold.process.send_signal(signal.SIGUSR2)
    time.sleep(0.01)
    fold.process.send_signal(signal.SIGTERM)
    assert fold.process.wait(60) == 0
    with pytest.raises(OSError):
        connect(fold)
    fold.stop()


def children(fold, name):
    found = []
    for pid in os.listdir("/proc"):
        try:
            text = open(f"/proc/{pid}/stat").read()
        except OSError:
            continue
        if f"({name})" in text and text.split(")")[-1].split()[1] == str(fold.process.pid):
            found.append(int(pid))
    return found


def _status(fold):
    try:
        return fold.api("GET", "/v1/status")
    except (OSError, AssertionError, http.client.HTTPException):
        return None


def _try(fold):
    try:
        return fold.get(timeout_s=1)
    except (OSError, http.client.HTTPException):
        return None
