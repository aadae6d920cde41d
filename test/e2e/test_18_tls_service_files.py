# SPDX-License-Identifier: Apache-2.0
"""Certificate files of a service towards its endpoints that change, break and are repaired; the whole program."""
import http.client
import os
import signal
import sys

import pytest
from tls_util import Authority, TlsOrigin, server_context

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, Origin, until  # noqa: E402

WAIT_S = 30


class World:
    """A service with TLS towards an endpoint that asks for a certificate, and one without."""

    def __init__(self, folder):
        self.folder = folder
        authority = Authority(str(folder / "ca"))
        ours, key = authority.leaf("gateway.example")
        self.files = {"ca": authority.cert, "cert": ours, "key": key}
        self.good = {what: open(path, "rb").read() for what, path in self.files.items()}
        self.authority = authority
        self.secure = TlsOrigin(server_context(*authority.leaf("127.0.0.1"), ca=authority.cert))
        self.plain = Origin()
        self.fold = None

    def make(self):
        text = ("services:\n"
                '  plain: { endpoints: ["127.0.0.1:%d"] }\n'
                '  safe: { endpoints: ["127.0.0.1:%d"], tls: { ca: %s, cert: %s, key: %s } }\n'
                "routes:\n  - { match: /plain/, service: plain }\n  - { match: /safe/, service: safe }\n"
                % (self.plain.port, self.secure.port, self.files["ca"], self.files["cert"], self.files["key"]))
        self.fold = Foldback(self.folder, text)
        return self.fold

    def write(self, what, data):
        new = self.files[what] + ".new"
        with open(new, "wb") as f:
            f.write(data)
        os.replace(new, self.files[what])

    def ask(self, path):
        """Status and Proxy-Status, or None while nobody answers."""
        c = http.client.HTTPConnection("127.0.0.1", self.fold.port, timeout=10)
        try:
            c.request("GET", path)
            r = c.getresponse()
            r.read()
            return r.status, r.getheader("proxy-status") or ""
        except (OSError, http.client.HTTPException):
            return None
        finally:
            c.close()

    def serves(self, path):
        got = self.ask(path)
        return bool(got) and got[0] == 200

    def alert(self):
        """The newest about these files; None: none."""
        found = [a for a in self.fold.api("GET", "/v1/alerts")["alerts"] if a["reason"] == "alert_cert_out_refused"]
        return found[0] if found else None

    def stop(self):
        if self.fold:
            self.fold.stop()
        self.plain.stop()
        self.secure.close()


@pytest.fixture
def world(tmp_path):
    w = World(tmp_path)
    yield w
    w.stop()


@pytest.mark.parametrize("broken", ["ca", "cert", "key"])
def test_broken_files_of_a_service_neither_disturb_nor_keep_down_the_gateway(world, broken):
    fold = world.make().start()
    assert world.serves("/plain/") and world.serves("/safe/")
    world.write(broken, b"half of a file")
    until(lambda: "goes on with the files it has" in fold.text(), WAIT_S, "the broken file is seen")
    until(lambda: world.alert(), WAIT_S, "the alert")
    assert "service safe" in world.alert()["text"] and not world.alert()["over"]
    world.secure.drop()  # new connections, too, are made with what was good
    until(lambda: world.serves("/safe/"), WAIT_S, "the old files serve")

    first = fold.child("fb-gateway")
    os.kill(first, signal.SIGKILL)
    until(lambda: fold.child("fb-gateway") not in (None, first), WAIT_S, "a new gateway")
    until(lambda: world.serves("/plain/"), WAIT_S, "the other service is served")
    status, said = world.ask("/safe/")
    assert status == 502 and "upstream_tls_files" in said
    assert "its requests are refused until the files are good" in fold.text()
    until(lambda: not world.alert()["over"], WAIT_S, "the alert stands")
    done = fold.cli("check", "--config", fold.file)
    assert "fail  tls" in done.stdout and done.returncode == 1

    world.write(broken, world.good[broken])
    until(lambda: world.serves("/safe/"), WAIT_S, "the repaired files are in force")
    until(lambda: world.alert()["over"], WAIT_S, "the end of the alert")


def test_new_files_of_a_service_are_in_force_without_a_reload(world):
    fold = world.make().start()
    assert world.serves("/safe/")
    shown = world.secure.peers[-1]["serialNumber"]
    cert, key = world.authority.leaf("gateway.example")
    world.write("cert", open(cert, "rb").read())
    world.write("key", open(key, "rb").read())
    until(lambda: "service safe: the new certificate files are in force" in fold.text(), WAIT_S, "the new files")
    world.secure.drop()
    until(lambda: world.serves("/safe/") and world.secure.peers[-1]["serialNumber"] != shown, WAIT_S,
          "the endpoint sees the new certificate")


def test_a_first_start_with_broken_files_of_a_service_says_which(world):
    world.write("ca", b"nothing\n")
    with pytest.raises(AssertionError) as e:
        world.make().start()
    world.fold = None  # a start that fails leaves nothing to stop
    assert "service safe: tls: ca" in str(e.value)


def test_an_upgrade_beside_broken_files_is_refused_and_the_old_gateway_serves(world):
    fold = world.make().start()
    assert world.serves("/safe/")
    world.write("cert", b"half of a file")
    done = fold.cli("upgrade")
    assert done.returncode != 0, done.stdout
    assert "service safe: tls:" in fold.text()
    world.secure.drop()
    until(lambda: world.serves("/safe/"), WAIT_S, "the old gateway serves with what was good")
