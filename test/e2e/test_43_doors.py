# SPDX-License-Identifier: Apache-2.0
"""StatsD whose address is taken: nothing else stops, each face says so, and it opens when the address is free."""
import json
import os
import socket
import time

import pytest
from test_43_ingest import CONFIG, Foldback, Ingest, datagrams, refused, until


@pytest.fixture()
def taken():
    """A UDP address that somebody else holds."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    yield s
    s.close()


@pytest.fixture()
def foldback(tmp_path):
    made = []

    def make(ingest):
        if made:
            made.pop().stop()
        made.append(Foldback(tmp_path, CONFIG % 9 + ("ingest: { %s }\n" % ingest if ingest else "")))
        return made[-1]
    yield make
    for fold in made:
        fold.stop()


def door(i):
    sources = i.fold.api("GET", "/v1/ingest")["sources"]
    return next((s["state"], s["error"]) for s in sources if s["via"] == "statsd")


def test_an_address_in_use_is_told_everywhere_and_taken_when_it_is_free(foldback, taken):
    port = taken.getsockname()[1]
    fold = foldback(f"statsd: 127.0.0.1:{port}, interval: 100ms")
    fold.start()
    i = Ingest(fold)
    says = f"cannot listen on 127.0.0.1:{port} (UDP): Address already in use"
    until(lambda: door(i)[0] == "failing", 30, "the state says so")
    assert says in door(i)[1]
    assert i.metrics()['foldback_ingest_up{via="statsd"}'] == 0
    assert i.metrics()['foldback_ingest_up{via="push"}'] == 1
    assert 'foldback_ingest_up{via="beacon"}' not in i.metrics()

    def alerts():
        return [a for a in fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_ingest_door"]
    until(lambda: len(alerts()) == 1, 30, "an alert stands")
    assert says in alerts()[0]["text"]
    assert says in fold.cli("status").stdout
    doctor = fold.cli("doctor").stdout
    assert says in doctor and "foldback stream status" in doctor
    assert says in fold.cli("check").stdout
    assert says in fold.cli("stream", "status").stdout
    assert i.post({"name": "beside.it"})[0] == 202

    taken.close()
    until(lambda: door(i) == ("open", ""), 60, "it opens by itself")
    i.port = port
    datagrams(i, "late.count:3|c")
    until(lambda: i.facts().get("late.count", {}).get("total_sum") == 3, 30, "it is read")
    until(lambda: alerts()[0]["over"], 30, "the alert is over")
    assert i.metrics()['foldback_ingest_up{via="statsd"}'] == 1
    assert "held by the running foldback" in fold.cli("check").stdout


def test_an_alert_of_an_earlier_run_ends_when_statsd_is_off(foldback, taken):
    fold = foldback(f"statsd: 127.0.0.1:{taken.getsockname()[1]}")
    fold.start()

    def standing():
        return [a for a in fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_ingest_door" and not a["over"]]
    until(lambda: len(standing()) == 1, 30, "an alert stands")
    fold = foldback("")
    fold.start()
    until(lambda: standing() == [], 30, "it is over")


@pytest.mark.parametrize("kind", ["stale", "live", "file"])
def test_a_socket_is_made_where_a_dead_one_lies_and_nothing_else(foldback, tmp_path, kind):
    path = str(tmp_path / "s.sock")
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if kind == "file":
        open(path, "w").close()
    else:
        other.bind(path)
    if kind == "stale":
        other.close()
    fold = foldback(f"statsd_socket: {path}, interval: 100ms")
    fold.start()
    i = Ingest(fold)
    i.path = path
    if kind == "stale":
        until(lambda: door(i)[0] == "open", 30, "it is open")
        assert os.stat(path).st_mode & 0o777 == 0o660
        datagrams(i, "by.path:1|c", by_path=True)
        until(lambda: "by.path" in i.facts(), 30, "it is read")
    else:
        until(lambda: door(i)[0] == "failing", 30, "it says so")
        assert "Address already in use" in door(i)[1]
        assert os.path.exists(path)
        os.unlink(path)
        until(lambda: door(i)[0] == "open", 60, "it opens by itself")
    other.close()


@pytest.mark.parametrize(("ingest", "says"), [
    ("statsd: 203.0.113.7:8125", "take an address of this host"),
    ("statsd_socket: /nowhere/at/all/s.sock", "the folder /nowhere/at/all is not there"),
    ("statsd_socket: %s", "is there and is no socket"),
])
def test_config_check_finds_what_can_never_be_opened(foldback, tmp_path, ingest, says):
    plain = tmp_path / "plain"
    plain.write_text("")
    fold = foldback(ingest % plain if "%" in ingest else ingest)
    done = fold.cli("config", "check", str(fold.file))
    assert done.returncode != 0
    assert says in done.stderr
    answer = json.loads(fold.cli("config", "check", str(fold.file), "--json").stdout)
    assert any(says in p["text"] for p in answer["problems"])


def test_check_before_the_start_says_that_the_address_is_taken(foldback, taken, tmp_path):
    port = taken.getsockname()[1]
    fold = foldback(f"statsd: 127.0.0.1:{port}")
    done = fold.cli("check", "--config", str(fold.file), "--state", str(tmp_path / "none"))
    assert f"127.0.0.1:{port} (UDP): Address already in use" in done.stdout
    taken.close()
    done = fold.cli("check", "--config", str(fold.file), "--state", str(tmp_path / "none"))
    assert f"127.0.0.1:{port} (UDP) is free" in done.stdout


def test_datagrams_of_any_size_and_all_kinds_are_taken_or_counted(foldback, tmp_path):
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    fold = foldback(f"statsd: 127.0.0.1:{port}, statsd_socket: {path}, interval: 200ms")
    fold.start()
    i = Ingest(fold)
    i.port, i.path = port, path
    until(lambda: door(i)[0] == "open", 30, "it is open")
    line = "big.count:1|c\n"
    datagrams(i, line * (65507 // len(line)))  # the largest datagram of UDP
    until(lambda: i.facts().get("big.count", {}).get("total_sum") == 65507 // len(line), 30, "all of it")
    before = refused(i, "too_large")
    datagrams(i, line * 5000, by_path=True)  # 70,000 bytes: more than a datagram may have
    until(lambda: refused(i, "too_large") == before + 1, 30, "the large one is counted")
    datagrams(i, "k.c:1:2:3|c|@0.5", "k.g:7|g", "k.g:+2|g", "k.ms:10:20|ms", "k.h:4|h|@0.25", "k.d:0.5:1.5|d", "k.s:a|s", "k.s:b|s",
              "_e{3,2}:one|go|d:1|h:x|k:y|p:low|s:src|t:error|#a:b", "_sc|disk|1|d:1|h:x|#a:b|m:is full | soon",
              "k.t:5|g|T1656581400|c:cid", "k.m:2|m")
    until(lambda: {"k.c", "k.g", "k.ms", "k.h", "k.d", "k.s", "statsd.event", "check.disk", "k.t", "k.m"} <= set(i.facts()),
          30, "each kind")
    until(lambda: i.facts()["k.s"]["total"] > 0 and i.facts()["k.g"]["last"] == 9, 30, "the last one")
    facts = i.facts()
    assert (facts["k.c"]["total_sum"], facts["k.ms"]["last"], facts["k.h"]["last"], facts["k.d"]["last"]) == (12, 15, 4, 1)
    assert (facts["check.disk"]["last"], facts["k.t"]["last"], facts["k.m"]["last"]) == (1, 5, 2)


def test_a_flood_is_bounded_and_counted(foldback):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    fold = foldback(f"statsd: 127.0.0.1:{port}, interval: 200ms")
    fold.start()
    i = Ingest(fold)
    i.port = port
    until(lambda: door(i)[0] == "open", 30, "it is open")
    sent, lines = 0, 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for n in range(20000):
            s.sendto(("flood.%d:1|c\n" % (n % 2000) + "flood.one:1|c\n" * (lines - 1)).encode(), ("127.0.0.1", port))
            sent += 1

    def settled():
        """Each datagram was read or counted as dropped by the kernel."""
        m = i.metrics()
        return m['foldback_ingest_samples_total{via="statsd"}'] == (sent - refused(i, "too_fast")) * lines

    def settles():
        """What the kernel dropped last comes with the next datagram."""
        nonlocal sent
        datagrams(i, "flood.one:1|c\n" * lines)
        sent += 1
        end = time.monotonic() + 3
        while time.monotonic() < end and not settled():
            time.sleep(0.05)
        return settled()
    until(settles, 60, "all is counted")
    m = i.metrics()
    assert m['foldback_ingest_refused_total{via="statsd",reason="names_full"}'] > 0  # 512 names an interval
    assert i.post({"name": "after.flood"})[0] == 202
