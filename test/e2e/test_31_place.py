# SPDX-License-Identifier: Apache-2.0
"""Requests that belong somewhere: consistent hashing, cookies, zones."""
import collections
import concurrent.futures
import socket

import pytest
from conftest import config, ok

pytestmark = pytest.mark.short

HASH = "    balance: hash\n"


def named(world, count):
    """Origins that answer with their number."""
    return [world.origin(lambda r, w, i=i: ok(str(i))) for i in range(count)]


def stop(origin):
    origin.listener.shutdown(socket.SHUT_RDWR)  # close alone leaves the accept under way open for one more
    origin.close()


def homes(proxy, keys, ask):
    """The origin of each key.  Two at once: a learner that begins at 4 keeps room for three of one endpoint."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda k: ask(k), keys))
    assert all(m.status == 200 for m in got)
    return {k: m.body.decode() for k, m in zip(keys, got)}


@pytest.mark.parametrize("key, ask", [
    ("header X-User", lambda p, k: p.get("/", "X-User: u%d" % k)),
    ("cookie session", lambda p, k: p.get("/", "Cookie: a=b; session=s%d; c=d" % k)),
    ("query user", lambda p, k: p.get("/x?a=1&user=%d" % k)),
    ("path", lambda p, k: p.get("/item/%d?time=%d" % (k, id(object())))),
])
def test_each_key_has_one_home(world, key, ask):
    proxy = world.proxy(config(*named(world, 4), service=HASH, route=", hash: %s" % key))
    keys = list(range(60))
    first = homes(proxy, keys, lambda k: ask(proxy, k))
    again = homes(proxy, keys, lambda k: ask(proxy, k))
    assert first == again
    shares = collections.Counter(first.values())
    assert len(shares) == 4 and max(shares.values()) < 35, shares


def test_the_address_is_the_key_when_none_is_named(world):
    proxy = world.proxy(config(*named(world, 4), service=HASH))
    assert len({proxy.get("/%d" % i).body for i in range(20)}) == 1


def test_requests_without_the_key_go_anywhere(world):
    proxy = world.proxy(config(*named(world, 3), service=HASH, route=", hash: header X-User"))
    assert len({proxy.get("/").body for _ in range(40)}) > 1


def test_homes_outlive_a_restart_and_a_reload(world):
    ups = named(world, 4)
    text = config(*ups, service=HASH, route=", hash: header X-User")
    keys = list(range(40))

    def all_of(proxy):
        return homes(proxy, keys, lambda k: proxy.get("/", "X-User: u%d" % k))
    one, two = world.proxy(text), world.proxy(config(*reversed(ups), service=HASH, route=", hash: header X-User"), 1)
    before = all_of(one)
    assert before == all_of(two), "another process with another order agrees"
    assert one.reload(text + "\n").startswith("reloaded")
    assert before == all_of(one)


def test_only_the_keys_of_a_dead_endpoint_move(world):
    ups = named(world, 4)
    proxy = world.proxy(config(*ups, service=HASH, route=", hash: header X-User"))
    keys = list(range(60))
    before = homes(proxy, keys, lambda k: proxy.get("/", "X-User: u%d" % k))
    stop(ups[2])
    after = homes(proxy, keys, lambda k: proxy.get("/", "X-User: u%d" % k))
    assert {k for k in keys if before[k] != after[k]} == {k for k in keys if before[k] == "2"}
    assert "2" not in after.values()
