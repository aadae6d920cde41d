# SPDX-License-Identifier: Apache-2.0
"""A brain that stands still: who pushes events is told to come again, and after a while it is started again."""
import http.client
import json
import os
import signal

import pytest
from fb import Foldback, Load, config, until


@pytest.fixture()
def started(tmp_path, origin):
    made = []

    def make(admin=""):
        fold = Foldback(tmp_path, config(origin))
        with open(fold.file) as f:
            text = f.read()
        assert "admin: {" in text
        with open(fold.file, "w") as f:
            f.write(text.replace("admin: {", "admin: {" + admin, 1))
        made.append(fold)
        return fold.start()
    yield make
    for fold in made:
        fold.stop()


def push(fold):
    """Status, Retry-After and the answer of one event that is pushed; None while nobody answers."""
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    token = open(where["token_file"]).read().strip()
    c = http.client.HTTPConnection(where["address"], timeout=20)
    try:
        c.request("POST", "/v1/ingest", json.dumps({"name": "still.here", "value": 1}),
                  {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        r = c.getresponse()
        return r.status, r.getheader("Retry-After"), r.read().decode()
    except OSError:
        return None
    finally:
        c.close()


def test_who_pushes_to_a_brain_that_stands_still_hears_503_and_then_goes_on(started):
    fold = started()
    brain = fold.child("fb-brain")
    assert push(fold)[0] == 202
    os.kill(brain, signal.SIGSTOP)
    try:
        for _ in range(40):  # more than are answered at once, one after another
            got = push(fold)
            assert got and got[:2] == (503, "5") and "stands still" in json.loads(got[2])["detail"], got
        assert fold.get() == 200
    finally:
        os.kill(brain, signal.SIGCONT)
    until(lambda: (push(fold) or [0])[0] == 202, 60, "it goes on")
    assert fold.child("fb-brain") == brain, "and is the same one"


def test_a_brain_that_stands_still_for_long_is_started_again(started):
    fold = started(" stall_timeout: 5s,")
    load = Load(fold.port, threads=2)
    brain = fold.child("fb-brain")
    os.kill(brain, signal.SIGSTOP)
    until(lambda: fold.child("fb-brain") not in (None, brain), 60, "another one")
    until(lambda: (push(fold) or [0])[0] == 202, 60, "which takes events")
    load.stop()
    assert load.bad == []
    assert "stood still for admin.stall_timeout" in fold.text()
