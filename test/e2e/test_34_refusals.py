# SPDX-License-Identifier: Apache-2.0
"""Hundreds of refusals per second leave together (send_batch): each request gets its answer all the same, in its order."""
from conftest import config

CLIENTS, PIPELINED, ROUNDS = 16, 40, 6
REFUSED = "GET /%d HTTP/1.1\r\nHost: x\r\nX-Attempt: 9\r\n\r\n"  # tried too often: refused without asking anybody


def start(world):
    return world.proxy(config(world.origin()), 1)


def burst(wire):
    wire.send("".join(REFUSED % i for i in range(PIPELINED)))


def test_each_of_a_flood_is_answered_and_in_its_order(world):
    proxy = start(world)
    wires = [proxy.connect() for _ in range(CLIENTS)]
    ids = set()
    for _ in range(ROUNDS):
        for w in wires:
            burst(w)
            w.send("GET /served HTTP/1.1\r\nHost: x\r\n\r\n")  # what stands behind refusals
        for w in wires:
            for _ in range(PIPELINED):
                m = w.response()
                assert (m.status, m.body[:4]) == (503, b"503 ")
                assert "shed_attempts" in m.get("proxy-status")
                ids.add(m.get("x-request-id"))
            assert w.response().status == 200
    assert len(ids) == ROUNDS * CLIENTS * PIPELINED


def test_who_leaves_before_its_refusal_hurts_nobody(world):
    proxy = start(world)
    stays = proxy.connect()
    for i in range(ROUNDS):
        leavers = [proxy.connect() for _ in range(CLIENTS)]
        for w in leavers:
            burst(w)
        burst(stays)
        for n, w in enumerate(leavers):
            w.reset() if (n + i) % 2 else w.close()
        assert [stays.response().status for _ in range(PIPELINED)] == [503] * PIPELINED
    assert proxy.get("/").status == 200
