# SPDX-License-Identifier: Apache-2.0
"""Endpoints through the admin API and the command line: added, changed and removed under load, and what lasts."""
import http.client
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import BIN, Foldback, Load, Origin, free_port, until  # noqa: E402

WAIT_S = 60


def conf(origin):
    return ('mode: act\nservices:\n  app:\n    balance: round-robin\n    endpoints: ["127.0.0.1:%d"]\n'
            'routes:\n  - { match: /, service: app }\n' % origin.port)


@pytest.fixture
def origins():
    all_ = [Origin() for _ in range(3)]
    yield all_
    for o in all_:
        o.stop()


@pytest.fixture
def fold(tmp_path, origins):
    f = Foldback(tmp_path, conf(origins[0]))
    f.start()
    yield f
    f.stop()


def ask(fold, method, path, body=None, token=None):
    """(status, answer) of one call."""
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    token = token if token is not None else open(where["token_file"]).read().strip()
    c = http.client.HTTPConnection(where["address"], timeout=WAIT_S)
    try:
        c.request(method, path, json.dumps(body) if body is not None else None,
                  {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        r = c.getresponse()
        return r.status, json.loads(r.read())
    finally:
        c.close()


def at(origin):
    return "127.0.0.1:%d" % origin.port


def settled(fold, status, answer):
    """202 is for a machine so busy that the gateway took 4 s: what was asked comes about all the same."""
    if status != 202:
        return status, answer
    until(lambda: (answer["address"] in members(fold)) == (answer["verb"] != "remove"), WAIT_S, str(answer))
    return 201 if answer["verb"] == "add" else 200, {**answer, "is_in_force": True}


def add(fold, address, **more):
    return settled(fold, *ask(fold, "POST", "/v1/services/app/endpoints", {"address": address, **more}))


def remove(fold, address):
    return settled(fold, *ask(fold, "DELETE", "/v1/services/app/endpoints/" + quote(address, safe="")))


def members(fold):
    """{address: row} of what is in force."""
    return {e["address"]: e for e in fold.api("GET", "/v1/services/app/endpoints", timeout_s=WAIT_S)["endpoints"]
            if e["is_in_force"]}


def rises(origin):
    """It gets requests from now on."""
    seen = origin.hits
    until(lambda: origin.hits > seen + 3, WAIT_S, "requests at the endpoint")


def rests(origin):
    """It gets none any more, once those on their way are there."""
    def is_still():
        seen = origin.hits
        time.sleep(0.3)
        return origin.hits == seen
    until(is_still, WAIT_S, "no requests at the endpoint")


# ---- under load ----

def test_addresses_as_long_as_they_get_are_endpoints_of_their_own(fold):
    longest = ["[2001:db8:1111:2222:3333:4444:5555:6666]:%d" % port for port in (18080, 18081)]
    for address in longest:
        status, answer = add(fold, address)
        assert status == 201, answer
    assert set(longest) <= set(members(fold))


def test_endpoints_come_and_go_under_load_and_no_request_fails(fold, origins):
    load = Load(fold.port)
    rises(origins[0])
    for _ in range(3):
        done = fold.cli("endpoint", "add", "app", at(origins[1]), "--why", "more room", "--timeout", "30")
        assert done.returncode == 0 and "is in app with weight 100 %" in done.stdout, done
        rises(origins[1])
        assert set(members(fold)) == {at(origins[0]), at(origins[1])}
        done = fold.cli("endpoint", "remove", "app", at(origins[1]), "--timeout", "30")
        assert done.returncode == 0 and "has left app" in done.stdout, done
        rests(origins[1])
        assert set(members(fold)) == {at(origins[0])}
    load.stop()
    assert load.bad == [] and load.ok > 0, load.bad[:5]


def test_a_request_in_flight_at_a_removed_endpoint_ends_well(fold, origins):
    assert add(fold, at(origins[1]))[0] == 201
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(fold.get, "/slow/2500", WAIT_S) for _ in range(8)]
        until(lambda: members(fold)[at(origins[1])]["in_flight"] > 0, WAIT_S, "requests in flight there")
        status, answer = remove(fold, at(origins[1]))
        assert status == 200 and answer["is_in_force"], answer
        assert [a.result() for a in asked] == [200] * 8
    rests(origins[1])


def test_a_weight_is_changed_in_place(fold, origins):
    assert add(fold, at(origins[1]))[0] == 201
    status, answer = add(fold, at(origins[1]), weight_pct=25)
    assert status == 200 and answer["verb"] == "change" and answer["weight_pct"] == 25, answer
    assert members(fold)[at(origins[1])]["weight_pct"] == 25
    name = "app " + at(origins[1])

    def weight():
        return next(e for e in fold.api("GET", "/v1/endpoints")["endpoints"] if e["name"] == name)["weight"]
    until(lambda: weight() == 0.25, WAIT_S, "the gateway has the weight")
    done = fold.cli("endpoint", "add", "app", at(origins[1]), "--weight", "50%", "--timeout", "30")
    assert done.returncode == 0 and "is changed in app with weight 50 %" in done.stdout, done
    until(lambda: weight() == 0.5, WAIT_S, "the gateway has the weight")
    assert add(fold, at(origins[1]))[1]["weight_pct"] == 50, "what is not said stays"


def test_one_that_was_drained_and_removed_serves_when_it_is_added_anew(fold, origins):
    assert add(fold, at(origins[1]))[0] == 201
    assert fold.cli("drain", "app " + at(origins[1])).returncode == 0
    until(lambda: members(fold)[at(origins[1])]["is_drained"], WAIT_S, "drained")
    assert remove(fold, at(origins[1]))[0] == 200
    assert add(fold, at(origins[1]))[0] == 201
    assert not members(fold)[at(origins[1])]["is_drained"]
    load = Load(fold.port, threads=1)
    rises(origins[1])
    load.stop()
    assert load.bad == []


# ---- what is refused ----

@pytest.mark.parametrize("body, status, said", [
    ({"address": "10.0.0.5:80", "zone": 'a" }\n  - { address: "1.2.3.4:5'}, 422, "letters"),
    ({"address": "10.0.0.5:80", "version": 'a", backup: true, zone: "b'}, 422, "letters"),
    ({"address": "10.0.0.5"}, 422, "IP:PORT"), ({"address": "10.0.0.5:0"}, 422, "1..65535"),
    ({"address": "10.0.0.5:65536"}, 422, "1..65535"), ({"address": "shop.example"}, 422, "dns://NAME:PORT"),
    ({"address": "http://10.0.0.5"}, 422, "IP:PORT"), ({"address": "*:80"}, 422, "IP:PORT"),
    ({"address": "x" * 300}, 422, "IP:PORT"), ({"address": "10.0.0.5:80\n"}, 422, "IP:PORT"),
    ({"address": ""}, 400, "address"), ({}, 400, "address"), ({"address": 7}, 400, "address"),
    ({"address": "10.0.0.5:80", "weight_pct": 1001}, 422, "0 to 1000"),
    ({"address": "10.0.0.5:80", "weight_pct": -1}, 422, "0 to 1000"),
    ({"address": "10.0.0.5:80", "weight_pct": "half"}, 422, "0 to 1000"),
    ({"address": "10.0.0.5:80", "zone": "a b"}, 422, "zone"), ({"address": "10.0.0.5:80", "zone": "z" * 40}, 422, "zone"),
    ({"address": "10.0.0.5:80", "wieght": 5}, 422, "wieght"), ({"address": "10.0.0.5:80", "why": 5}, 400, "why"),
])
def test_a_wrong_order_says_what_is_legal_and_changes_nothing(fold, origins, body, status, said):
    got, problem = ask(fold, "POST", "/v1/services/app/endpoints", body)
    assert got == status and said in problem["detail"] and problem["remedy"], problem
    assert set(members(fold)) == {at(origins[0])} and fold.get() == 200
    assert not os.path.exists(os.path.join(fold.state, "endpoints", "app.yaml"))


def test_names_that_are_unknown_and_endpoints_of_the_file_are_told_apart(fold, origins):
    status, problem = ask(fold, "POST", "/v1/services/nope/endpoints", {"address": "10.0.0.5:80"})
    assert status == 404 and 'no service "nope"' in problem["detail"], problem
    status, problem = add(fold, at(origins[0]))
    assert status == 409 and "configuration" in problem["detail"], problem
    status, problem = remove(fold, at(origins[0]))
    assert status == 409 and "foldback drain" in problem["detail"], problem
    status, problem = remove(fold, "10.9.9.9:80")
    assert status == 404 and "foldback endpoint list app" in problem["detail"], problem
    token = open(os.path.join(fold.state, "ingest.token")).read().strip()
    assert ask(fold, "POST", "/v1/services/app/endpoints", {"address": at(origins[1])}, token)[0] == 403
    assert ask(fold, "POST", "/v1/services/app/endpoints", {"address": at(origins[1])}, "wrong" * 5)[0] == 401
    assert set(members(fold)) == {at(origins[0])}


@pytest.mark.parametrize("args, code, said", [
    (["add", "app"], 2, "needs SERVICE ADDRESS"), (["add", "nope", "10.0.0.5:80"], 1, "foldback status"),
    (["add", "app", "10.0.0.5"], 2, "IP:PORT"), (["add", "app", "10.0.0.5:80", "--weight", "many"], 2, "0..1000"),
    (["add", "app", "10.0.0.5:80", "--weight", "1001"], 2, "0..1000"), (["remove", "app", "10.0.0.5:80"], 1, "endpoint list app"),
    (["list", "nope"], 1, 'no service "nope"'),
])
def test_the_command_line_says_what_is_wrong(fold, args, code, said):
    # a brain that has just begun may not know all names: such an answer is asked for again by the CLI
    done = fold.cli("endpoint", *args, "--timeout", "30")
    assert done.returncode == code and said in done.stderr and done.stdout == "", done


# ---- a full service ----

def test_a_full_service_refuses_one_more_and_takes_one_when_there_is_room(tmp_path, origins):
    fold = Foldback(tmp_path, conf(origins[0]))
    os.makedirs(os.path.join(fold.state, "endpoints"), mode=0o700)
    with open(os.path.join(fold.state, "endpoints", "app.yaml"), "w") as f:
        f.write("endpoints:\n" + "".join(f'  - "127.0.1.{i}:9"\n' for i in range(1, 255)))
    fold.start()
    try:
        until(lambda: len(members(fold)) == 255, WAIT_S, "all of the list")
        assert add(fold, "127.0.2.1:9")[0] == 201
        status, problem = add(fold, "127.0.2.2:9")
        assert status == 409 and "256" in problem["detail"] and "remove one" in problem["detail"], problem
        assert len(members(fold)) == 256 and "127.0.2.2:9" not in members(fold)
        assert "127.0.2.2" not in open(os.path.join(fold.state, "endpoints", "app.yaml")).read()
        assert remove(fold, "127.0.1.7:9")[0] == 200
        until(lambda: add(fold, "127.0.2.2:9")[0] in (200, 201), WAIT_S, "room for another")
        assert "127.0.2.2:9" in members(fold) and "127.0.1.7:9" not in members(fold)
    finally:
        fold.stop()


# ---- two at once ----

def test_two_callers_at_once_lose_nothing_of_each_other(fold):
    wanted = [f"127.0.3.{i}:9" for i in range(1, 41)]
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(lambda a: add(fold, a)[0], wanted)) == {201}
    assert set(wanted) < set(members(fold))
    with ThreadPoolExecutor(2) as pool:
        got = sorted(pool.map(lambda a: add(fold, a)[0], ["127.0.4.1:9"] * 2))
        assert got == [200, 201], got
        assert sorted(pool.map(lambda a: remove(fold, a)[0], ["127.0.4.1:9"] * 2)) == [200, 404]
        assert set(pool.map(lambda a: remove(fold, a)[0], wanted)) == {200}
    assert len(members(fold)) == 1


# ---- what lasts ----

def test_it_stays_over_reload_gateway_brain_and_restart(fold, origins):
    assert add(fold, at(origins[1]), weight_pct=50, zone="a")[0] == 201
    assert fold.cli("reload").returncode == 0
    assert members(fold)[at(origins[1])]["weight_pct"] == 50
    load = Load(fold.port, threads=2)
    rises(origins[1])
    for name in ("fb-gateway", "fb-brain"):
        old = fold.child(name)
        os.kill(old, signal.SIGKILL)
        until(lambda n=name, o=old: fold.child(n) not in (None, o), WAIT_S, f"a new {name}")
        rises(origins[1])
    load.stop()
    assert add(fold, "127.0.5.1:9")[0] == 201
    old = fold.child("fb-gateway")
    os.kill(old, signal.SIGSTOP)  # it does not hear of the removal, and is replaced
    gone = threading.Thread(target=ask, args=(fold, "DELETE", "/v1/services/app/endpoints/127.0.5.1%3A9"))
    gone.start()
    until(lambda: "127.0.5.1" not in open(os.path.join(fold.state, "endpoints", "app.yaml")).read(), WAIT_S, "written")
    os.kill(old, signal.SIGKILL)
    gone.join()
    until(lambda: set(members(fold)) == {at(origins[0]), at(origins[1])}, WAIT_S, "what the list says")
    fold.process.send_signal(signal.SIGTERM)
    assert fold.process.wait(WAIT_S) == 0
    fold.start()
    assert members(fold)[at(origins[1])]["source"] == "api"
    load = Load(fold.port, threads=1)
    rises(origins[1])
    load.stop()
    assert load.bad == []
    assert remove(fold, at(origins[1]))[0] == 200
    assert os.listdir(os.path.join(fold.state, "endpoints")) == []


def test_it_stays_over_an_upgrade(fold, origins):
    assert add(fold, at(origins[1]))[0] == 201
    load = Load(fold.port, threads=2)
    rises(origins[1])
    done = fold.cli("upgrade", "--binary", BIN, timeout_s=120)
    assert done.returncode == 0, done.stderr + fold.text()
    rises(origins[1])
    load.stop()
    assert load.bad == [], load.bad[:5]

    def is_there():
        try:
            return members(fold).get(at(origins[1]), {}).get("source") == "api"
        except (OSError, AssertionError, http.client.HTTPException):
            return False  # the new brain is on its way
    until(is_there, WAIT_S, "the new brain knows it")


def test_a_list_that_somebody_broke_is_not_written_over(fold, origins):
    path = os.path.join(fold.state, "endpoints", "app.yaml")
    assert add(fold, at(origins[1]))[0] == 201
    with open(path, "w") as f:
        f.write("endpoints:\n  - nonsense\n")
    status, problem = add(fold, at(origins[2]))
    assert status == 409 and "app.yaml, line 2" in problem["detail"], problem
    assert open(path).read() == "endpoints:\n  - nonsense\n"
    load = Load(fold.port, threads=1)
    rises(origins[1])  # the last good one stays in use
    os.unlink(path)
    rests(origins[1])
    load.stop()
    assert load.bad == []
    assert add(fold, at(origins[2]))[0] == 201


# ---- who asks is told ----

def test_why_config_show_and_the_log_say_that_it_comes_from_the_api(fold, origins):
    assert add(fold, at(origins[1]), why="black friday", actor="ops")[0] == 201
    until(lambda: fold.cli("why", "app " + at(origins[1])).returncode == 0, WAIT_S, "the name is known")
    assert "added through the admin API" in fold.cli("why", "app " + at(origins[1])).stdout
    assert "# by the admin API: services.app.endpoints has %s too" % at(origins[1]) in fold.cli("config", "show").stdout
    rows = json.loads(fold.cli("endpoint", "list", "--json").stdout)
    assert [e["source"] for e in rows[0]["endpoints"]] == ["configuration", "api"], rows
    assert at(origins[1]) in fold.cli("endpoint", "list", "app").stdout
    assert remove(fold, at(origins[1]))[0] == 200

    def told():
        out = fold.cli("events", "tail", "--type", "custom", "--limit", "50", "--no-redact").stdout
        return "foldback.endpoint.add" in out and "by ops: black friday" in out and "foldback.endpoint.remove" in out
    until(told, WAIT_S, "both orders in the log")
    assert "not in its service any more" in fold.cli("why", "app " + at(origins[1])).stdout
    names = [e["name"] for e in fold.api("GET", "/v1/endpoints", timeout_s=WAIT_S)["endpoints"]]
    assert names == ["app " + at(origins[0])], names


def test_a_service_may_have_none_in_its_file_and_the_last_one_may_go(tmp_path, origins):
    fold = Foldback(tmp_path, conf(origins[0]).replace('"127.0.0.1:%d"' % origins[0].port, ""))
    os.makedirs(os.path.join(fold.state, "endpoints"), mode=0o700)
    with open(os.path.join(fold.state, "endpoints", "app.yaml"), "w") as f:
        f.write('["%s"]\n' % at(origins[1]))
    fold.start()
    try:
        done = fold.cli("config", "check", fold.file)
        assert done.returncode == 0 and "services.app.endpoints is empty" in done.stderr, done
        until(lambda: fold.get() == 200, WAIT_S, "an answer")
        status, answer = remove(fold, at(origins[1]))
        assert status == 200 and "no endpoint now" in answer["warning"], answer
        assert fold.get() == 503
        assert add(fold, at(origins[2]))[0] == 201
        assert fold.get() == 200
    finally:
        fold.stop()


def test_load_is_spread_by_threads_that_do_not_wait_for_each_other(fold, origins):
    """Orders and traffic at once: forty changes while four clients ask."""
    load = Load(fold.port, threads=4, pause_s=0.005)
    stop = threading.Event()

    def churn(origin):
        codes = set()
        for _ in range(20):
            codes.add(add(fold, at(origin))[0])
            codes.add(remove(fold, at(origin))[0])
            if stop.is_set():
                break
        return codes
    with ThreadPoolExecutor(2) as pool:
        got = [pool.submit(churn, o) for o in origins[1:]]
        codes = set().union(*(g.result() for g in got))
    load.stop()
    assert codes <= {200, 201, 202}, codes  # 202: written down, and the gateway took its time
    assert load.bad == [], load.bad[:5]


# ---- a list that somebody wrote by hand ----

def test_names_of_a_list_leave_with_the_list_and_not_with_the_next_reload(tmp_path, origins):
    f = Foldback(tmp_path, conf(origins[0]))
    folder = os.path.join(f.state, "endpoints")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "app.yaml")
    with open(path, "w") as out:
        out.write('- "dns://localhost:%d"\n- "%s"\n' % (free_port(), at(origins[2])))
    f.start()
    try:
        until(lambda: len(members(f)) >= 3 and at(origins[2]) in members(f), WAIT_S, "the list and its name")
        os.unlink(path)
        until(lambda: set(members(f)) == {at(origins[0])}, WAIT_S, "all of the list has left")
    finally:
        f.stop()
