# SPDX-License-Identifier: Apache-2.0
"""Names through the admin API and the command line: followed as those of the configuration are, and kept as addresses are."""
import json
import os
import signal
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from ask import reconfigure  # noqa: E402
from fb import BIN, Foldback, Load, Origin, free_port, until  # noqa: E402
from test_32_discover import Dns  # noqa: E402
from test_63_endpoints import WAIT_S, ask, at, members, remove, rests, rises  # noqa: E402


def conf(origin, dns, more=""):
    return ('mode: act\ndns: { servers: "127.0.0.1:%d" }\nservices:\n  app:\n    balance: round-robin\n    endpoints: [%s]\n'
            '%sroutes:\n  - { match: /, service: app }\n' % (dns.port, '"%s"' % at(origin) if origin else "", more))


@pytest.fixture
def dns():
    server = Dns()
    yield server
    server.close()


@pytest.fixture
def origins():
    all_ = [Origin() for _ in range(3)]
    yield all_
    for o in all_:
        o.stop()


@pytest.fixture
def fold(tmp_path, origins, dns):
    f = Foldback(tmp_path, conf(origins[0], dns))
    f.start()
    yield f
    f.stop()


def add(fold, name, **more):
    """201 or 200, also when the name server took longer than the API waits."""
    return ask(fold, "POST", "/v1/services/app/endpoints", {"address": name, **more})


def names(fold):
    return {n["name"]: n for n in fold.api("GET", "/v1/services/app/endpoints", timeout_s=WAIT_S)["names"]}


def state(fold, name):
    try:
        return names(fold).get(name, {}).get("state")
    except (OSError, AssertionError):
        return None  # a brain or gateway that is on its way


def reaches(fold, name, wanted):
    until(lambda: state(fold, name) == wanted, WAIT_S, f"{name} is {wanted}")


# ---- followed ----

def test_a_name_is_followed_under_load_and_no_request_fails(fold, origins, dns):
    name = "dns://shop.test:%d" % origins[1].port
    dns.a("shop.test", "127.0.0.1")
    load = Load(fold.port)
    rises(origins[0])
    for _ in range(2):
        done = fold.cli("endpoint", "add", "app", name, "--weight", "50", "--why", "more room", "--timeout", "30")
        assert done.returncode == 0 and f"{name} is in app with weight 50 %." in done.stdout, done
        reaches(fold, name, "resolved")
        rises(origins[1])
        # requests may be there before the gateway's next report, which says the weight
        until(lambda: members(fold)[at(origins[1])]["weight_pct"] is not None, WAIT_S, "the weight in force")
        row = members(fold)[at(origins[1])]
        assert (row["source"], row["name"], row["weight_pct"]) == ("api", name, 50), row
        assert names(fold)[name]["addresses"] == 1 and names(fold)[name]["source"] == "api"
        done = fold.cli("endpoint", "remove", "app", name, "--timeout", "30")
        assert done.returncode == 0 and f"{name} has left app" in done.stdout, done
        rests(origins[1])
        assert names(fold) == {} and set(members(fold)) == {at(origins[0])}
    load.stop()
    assert load.bad == [] and load.ok > 0, load.bad[:5]


def test_what_a_name_says_anew_is_followed(fold, origins, dns):
    name = "dns://shop.test:%d" % origins[1].port
    dns.a("shop.test", "127.0.0.1")
    load = Load(fold.port, threads=2)
    assert add(fold, name)[0] in (201, 202)
    rises(origins[1])
    dns.a("shop.test", "127.0.0.2")  # the origin listens on 127.0.0.1 alone
    until(lambda: "127.0.0.2:%d" % origins[1].port in members(fold), WAIT_S, "the other address")
    until(lambda: at(origins[1]) not in members(fold), WAIT_S, "the first one has left")
    dns.a("shop.test", "127.0.0.1")
    until(lambda: at(origins[1]) in members(fold), WAIT_S, "and is back")
    rises(origins[1])
    load.stop()


def test_srv_records_of_the_api_are_followed(fold, origins, dns):
    dns.a("node.test", "127.0.0.1")
    dns.srv("_http._tcp.shop.test", (1, 10, origins[1].port, "node.test"), (1, 30, origins[2].port, "node.test"))
    name = "dns+srv://_http._tcp.shop.test"
    load = Load(fold.port, threads=2)
    assert add(fold, name)[0] in (201, 202)
    reaches(fold, name, "resolved")
    rises(origins[1])
    rises(origins[2])
    until(lambda: names(fold)[name]["addresses"] == 2, WAIT_S, "both records")
    assert members(fold)[at(origins[2])]["name"] == name
    until(lambda: (members(fold)[at(origins[1])]["weight_pct"], members(fold)[at(origins[2])]["weight_pct"]) == (50, 150),
          WAIT_S, "weights of the records")
    dns.srv("_http._tcp.shop.test", (1, 10, origins[2].port, "node.test"))
    rests(origins[1])
    assert remove(fold, name)[0] == 200
    rests(origins[2])
    load.stop()
    assert load.bad == [], load.bad[:5]


# ---- no address yet ----

def test_a_name_without_an_address_is_taken_and_says_so_until_it_has_one(fold, origins, dns):
    name = "dns://late.test:%d" % origins[1].port
    done = fold.cli("endpoint", "add", "app", name, "--timeout", "30")
    assert done.returncode == 0 and f"{name} is in app" in done.stdout and "endpoint list app" in done.stdout, done
    reaches(fold, name, "unresolved")
    row = names(fold)[name]
    assert row["addresses"] == 0 and row["why"], row
    out = fold.cli("endpoint", "list", "app").stdout
    assert name in out and "no address yet: " + row["why"] in out, out
    for q in (name, "app " + name, "app"):
        done = fold.cli("why", q)
        assert done.returncode == 0 and "It has no address: " + row["why"] in done.stdout, done
    assert "added through" not in fold.cli("why", "app " + at(origins[0])).stdout
    assert "comes from the admin API" in fold.cli("why", name).stdout
    assert fold.get() == 200  # the others are not touched by it
    assert add(fold, name, weight_pct=50)[1]["warning"].startswith("It has no address yet")
    dns.a("late.test", "127.0.0.1")
    load = Load(fold.port, threads=2)
    rises(origins[1])
    load.stop()
    assert load.bad == []
    reaches(fold, name, "resolved")
    assert "has 1 address" in fold.cli("why", name).stdout
    until(lambda: fold.cli("why", "app " + at(origins[1])).returncode == 0, WAIT_S, "the endpoint has a name")
    assert f"The name {name} brought it, which was added through the admin API" in \
        fold.cli("why", "app " + at(origins[1])).stdout


def test_a_name_that_fails_later_keeps_its_addresses_and_says_so(fold, origins, dns):
    name = "dns://shop.test:%d" % origins[1].port
    dns.a("shop.test", "127.0.0.1")
    assert add(fold, name)[0] in (201, 202)
    reaches(fold, name, "resolved")
    dns.is_broken = True
    reaches(fold, name, "stale")
    assert names(fold)[name]["addresses"] == 1 and names(fold)[name]["why"]
    assert "the 1 address of before stay" in fold.cli("why", name).stdout
    assert "of before, the last look-up failed" in fold.cli("endpoint", "list", "app").stdout
    load = Load(fold.port, threads=1)
    rises(origins[1])
    load.stop()
    dns.is_broken = False
    reaches(fold, name, "resolved")
    assert load.bad == []


def test_a_service_may_live_of_a_name_of_the_api_alone(tmp_path, origins, dns):
    fold = Foldback(tmp_path, conf(None, dns))
    os.makedirs(os.path.join(fold.state, "endpoints"), mode=0o700)
    name = "dns://shop.test:%d" % origins[1].port
    dns.a("shop.test", "127.0.0.1")
    with open(os.path.join(fold.state, "endpoints", "app.yaml"), "w") as f:
        f.write('- { address: "shop.test:%d", weight: 30%% }\n' % origins[1].port)
    fold.start()
    try:
        until(lambda: fold.get() == 200, WAIT_S, "an answer")
        assert names(fold)[name]["source"] == "api" and names(fold)[name]["weight_pct"] == 30
        assert add(fold, "shop.test:%d" % origins[1].port, weight_pct=40)[1]["verb"] == "change"
        assert names(fold)[name]["weight_pct"] == 40
        status, answer = remove(fold, name)
        assert status == 200 and "no endpoint now" in answer["warning"], answer
        assert fold.get() == 503
    finally:
        fold.stop()


# ---- what is refused, what is the same ----

@pytest.mark.parametrize("address, status, said", [
    ("dns://shop.test", 422, "dns://NAME:PORT"), ("dns://shop.test:0", 422, "1..65535"), ("dns://10.0.0.1:80", 422, "IP:PORT"),
    ("dns+srv://_http._tcp.shop.test:80", 422, "dns+srv://NAME"), ("dns+srv://", 422, "dns+srv://NAME"),
    ("file:///etc/passwd", 422, "of the file"), ("consul://shop", 422, "dns://NAME:PORT"), ("https://shop.test", 422, "tls: on"),
    ('dns://a.test:80"]\n#', 422, "dns://NAME:PORT"), ("dns://" + "a." * 126 + "test:80", 422, "dns://NAME:PORT"),
    ("dns://a b.test:80", 422, "dns://NAME:PORT"), ("dns://shöp.test:80", 422, "dns://NAME:PORT"),
])
def test_what_is_no_name_is_refused_and_changes_nothing(fold, address, status, said):
    got, problem = add(fold, address)
    assert got == status and said in problem["detail"], problem
    assert names(fold) == {} and fold.get() == 200
    assert not os.path.exists(os.path.join(fold.state, "endpoints", "app.yaml"))


def test_one_name_is_one_however_it_is_written_and_that_of_the_file_is_the_files(tmp_path, origins, dns):
    dns.a("shop.test", "127.0.0.1")
    dns.a("file.test", "127.0.0.1")
    text = conf(origins[0], dns).replace('"%s"' % at(origins[0]), '"dns://file.test:%d"' % origins[0].port)
    fold = Foldback(tmp_path, text)
    fold.start()
    try:
        mine, its = "shop.test:%d" % origins[1].port, "dns://file.test:%d" % origins[0].port
        assert add(fold, mine)[0] in (201, 202)
        for same in ("dns://" + mine, "DNS://".lower() + mine.upper(), "http://" + mine + "/"):
            status, answer = add(fold, same)
            assert status == 200 and (answer["verb"], answer["address"]) == ("change", "dns://" + mine), answer
        assert names(fold)[its]["source"] == "configuration" and names(fold)["dns://" + mine]["source"] == "api"
        status, problem = add(fold, its)
        assert status == 409 and "configuration" in problem["detail"], problem
        status, problem = remove(fold, its)
        assert status == 409 and "configuration" in problem["detail"], problem
        until(lambda: at(origins[1]) in members(fold), WAIT_S, "its address")
        status, problem = add(fold, at(origins[1]))  # it has that one, through a name
        assert status == 409 and "from dns://" + mine in problem["detail"], problem
        assert remove(fold, "dns://nope.test:80")[0] == 404
        assert remove(fold, mine)[0] == 200
        until(lambda: set(names(fold)) == {its}, WAIT_S, "that of the file alone")
    finally:
        fold.stop()


# ---- while it is looked up ----

def test_a_name_that_is_added_anew_while_it_is_looked_up_stays(fold, origins, dns):
    """The gateway reads the list between the two orders: its word on the first add must not undo the second."""
    seen = []

    def order(*args):
        seen.append(args[1:2] + ask(fold, *args))

    for i in range(3):
        host, name = f"slow{i}.test", "dns://slow%d.test:%d" % (i, origins[1].port)
        dns.silent.add(host)
        add_it = ("POST", "/v1/services/app/endpoints", {"address": name})
        first = threading.Thread(target=order, args=add_it)
        first.start()
        reaches(fold, name, "pending")
        brain = fold.child("fb-brain")
        answers = {}
        waits = [threading.Thread(target=lambda k=k, a=a: answers.update({k: ask(fold, *a)}))
                 for k, a in (("remove", ("DELETE", "/v1/services/app/endpoints/" + name.replace("/", "%2F"))), ("add", add_it))]
        os.kill(brain, signal.SIGSTOP)  # it finds both when it goes on, and writes the list twice in one go
        try:
            for t in waits:
                t.start()
                t.join(0.2)
        finally:
            os.kill(brain, signal.SIGCONT)
        waits[0].join(WAIT_S)
        dns.silent.discard(host)
        dns.a(host, "127.0.0.1")
        for t in (first, waits[1]):
            t.join(WAIT_S)
        assert answers["remove"][0] == 200 and answers["add"][0] in (200, 201, 202), answers
        if answers["add"][1]["verb"] == "add":  # else the brain took the removal last
            reaches(fold, name, "resolved")
            with open(os.path.join(fold.state, "endpoints", "app.yaml")) as f:
                assert name in f.read()
    assert all(status < 300 for _, status, _ in seen), seen


def test_a_service_that_leaves_while_its_name_is_looked_up_has_it_when_it_is_back(tmp_path, origins, dns):
    name, path = "dns://slow.test:%d" % origins[1].port, "/v1/services/two/endpoints"
    without = conf(origins[0], dns)
    text = without.replace("routes:", '  two: { endpoints: ["%s"] }\nroutes:\n  - { match: /two, service: two }' % at(origins[2]))
    dns.silent.add("slow.test")
    fold = Foldback(tmp_path, text)
    fold.start()

    def is_in(wanted):
        return [n["state"] for n in fold.api("GET", path, timeout_s=WAIT_S)["names"] if n["name"] == name] == [wanted]

    try:
        first = threading.Thread(target=ask, args=(fold, "POST", path, {"address": name}))
        first.start()
        until(lambda: is_in("pending"), WAIT_S, "the name is looked up")
        reconfigure(fold, without)
        until(lambda: is_in("not_in_force"), WAIT_S, "the gateway follows it no more")
        first.join(WAIT_S)
        reconfigure(fold, text)
        dns.silent.clear()
        dns.a("slow.test", "127.0.0.1")
        until(lambda: is_in("resolved"), WAIT_S, "the name is back with its service")
    finally:
        fold.stop()


def test_adding_a_name_anew_ends_a_drain_of_its_addresses(fold, origins, dns):
    name = "dns://shop.test:%d" % origins[1].port
    dns.a("shop.test", "127.0.0.1")
    assert add(fold, name)[0] in (201, 202)
    until(lambda: all(members(fold).get(at(o), {}).get("health", "unknown") != "unknown" for o in origins[:2]), WAIT_S, "both")
    for drained in (origins[0], origins[1]):
        done = fold.cli("drain", "app " + at(drained))
        assert done.returncode == 0, done
        until(lambda d=drained: members(fold)[at(d)]["is_drained"], WAIT_S, "it is drained")
    assert remove(fold, name)[0] == 200
    until(lambda: at(origins[1]) not in members(fold), WAIT_S, "its address has left")
    assert add(fold, name)[0] in (201, 202)
    until(lambda: members(fold).get(at(origins[1]), {}).get("is_drained") is False, WAIT_S, "the drain has ended")
    assert members(fold)[at(origins[0])]["is_drained"], "what it did not bring is left alone"


# ---- what lasts ----

def test_a_name_stays_over_reload_gateway_brain_and_restart(fold, origins, dns):
    name = "dns://shop.test:%d" % origins[1].port
    dns.a("shop.test", "127.0.0.1")
    assert add(fold, name, weight_pct=50)[0] in (201, 202)
    assert add(fold, "dns://never.test:80")[0] in (201, 202)
    reaches(fold, name, "resolved")
    assert fold.cli("reload").returncode == 0
    assert names(fold)[name]["state"] == "resolved"
    load = Load(fold.port, threads=2)
    rises(origins[1])
    for child in ("fb-gateway", "fb-brain"):
        old = fold.child(child)
        os.kill(old, signal.SIGKILL)
        until(lambda n=child, o=old: fold.child(n) not in (None, o), WAIT_S, f"a new {child}")
        rises(origins[1])
        reaches(fold, name, "resolved")
        reaches(fold, "dns://never.test:80", "unresolved")
    load.stop()
    fold.process.send_signal(signal.SIGTERM)
    assert fold.process.wait(WAIT_S) == 0
    fold.start()
    reaches(fold, name, "resolved")
    assert names(fold)[name]["weight_pct"] == 50 and names(fold)[name]["source"] == "api"
    load = Load(fold.port, threads=1)
    rises(origins[1])
    load.stop()
    assert load.bad == []
    assert f"services.app.endpoints has {name} too" in fold.cli("config", "show").stdout
    assert remove(fold, "dns://never.test:80")[0] == 200
    assert remove(fold, name)[0] == 200
    assert os.listdir(os.path.join(fold.state, "endpoints")) == []


def test_a_name_stays_over_an_upgrade(fold, origins, dns):
    name = "dns://shop.test:%d" % origins[1].port
    dns.a("shop.test", "127.0.0.1")
    assert add(fold, name)[0] in (201, 202)
    reaches(fold, name, "resolved")
    load = Load(fold.port, threads=2)
    done = fold.cli("upgrade", "--binary", BIN, timeout_s=120)
    assert done.returncode == 0, done.stderr + fold.text()
    rises(origins[1])
    load.stop()
    assert load.bad == [], load.bad[:5]
    reaches(fold, name, "resolved")
    assert list(names(fold)) == [name], "the gateway that left says nothing more"


def test_more_names_than_there_are_rows_are_followed_and_said_to_be_unknown(tmp_path, origins):
    """800 of the API: both gateways of an upgrade have not room for theirs; 1,000 and 30 of the file: nor has one."""
    dns = Dns(ttl=3600)
    some = ", ".join('"dns://f%02d.test:%d"' % (i, origins[0].port) for i in range(30))
    text = conf(origins[0], dns)
    fold = Foldback(tmp_path, text)
    own = os.path.join(fold.state, "endpoints", "app.yaml")
    os.makedirs(os.path.dirname(own), mode=0o700)
    for i in range(1000):
        dns.a("n%03d.test" % i, "127.0.0.1")
        dns.a("f%02d.test" % (i % 30), "127.0.0.1")

    def write(count):
        with open(own + ".new", "w") as f:
            f.write("endpoints:\n" + "".join('  - { address: "dns://n%03d.test:%d" }\n' % (i, origins[1].port)
                                            for i in range(count)))
        os.rename(own + ".new", own)

    def count():
        """(of how many it is told how they are, how many are unknown)"""
        time.sleep(0.2)  # 1,000 names are a long answer: the brain has other things to do too
        try:
            got = [n["state"] for n in names(fold).values()]
        except (OSError, AssertionError):
            return None  # a brain that is on its way
        return sum(s not in ("unknown", "not_in_force") for s in got), got.count("unknown")

    write(800)
    fold.start()
    try:
        until(lambda: count() == (800, 0), WAIT_S, "a row for each")
        done = fold.cli("upgrade", "--binary", BIN, timeout_s=120)
        assert done.returncode == 0, done.stderr + fold.text()
        until(lambda: count() == (800, 0), WAIT_S, "a row for each, of the new gateway: the old one has none any more")
        reconfigure(fold, text.replace('endpoints: [', 'endpoints: [%s, ' % some))
        until(lambda: count() == (830, 0), WAIT_S, "a row for those of the file")
        write(1000)
        name = "dns://n000.test:%d" % origins[1].port
        assert add(fold, name)[1]["verb"] == "change"  # the brain reads the list when somebody changes it
        until(lambda: count() == (1024, 6), WAIT_S, "those without a row")
        until(lambda: "cannot be told" in fold.text(), WAIT_S, "that it is full is in the log")
        lost = next(n for n, row in names(fold).items() if row["state"] == "unknown")
        assert "1024 names" in names(fold)[lost]["why"]
        done = fold.cli("why", lost)
        assert done.returncode == 0 and "How it is is not known" in done.stdout, done
        assert "not known: the gateway tells how 1024 names are" in fold.cli("endpoint", "list", "app").stdout
        reconfigure(fold, text)
        until(lambda: count() == (1000, 0), WAIT_S, "a row for each again")
    finally:
        fold.stop()
        dns.close()


def test_the_order_is_in_the_log_with_who_and_why(fold, dns):
    name = "dns://shop.test:%d" % free_port()
    assert add(fold, name, why="black friday", actor="ops")[0] in (201, 202)

    def told():
        out = fold.cli("events", "tail", "--type", "custom", "--limit", "50", "--no-redact").stdout
        return "foldback.endpoint.add" in out and name in out and "by ops: black friday" in out
    until(told, WAIT_S, "the order in the log")
    rows = json.loads(fold.cli("endpoint", "list", "--json").stdout)
    assert [n["name"] for n in rows[0]["names"]] == [name], rows
