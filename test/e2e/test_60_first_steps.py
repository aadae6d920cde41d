# SPDX-License-Identifier: Apache-2.0
"""60: doc/guide/first-steps.md as a newcomer does it: with --to first, then with a file, in the same state folder."""
import http.client
import os
import signal
import subprocess

import pytest

import cli_util
from cli_util import run
from test_60_cli_real import Origin, free_port, until

CONFIG = """listen: ["127.0.0.1:{port}"]
admin: {{ listen: "127.0.0.1:0" }}
services:
  shop:
    endpoints: [{endpoints}]
    objective: {{ latency: 99% < 250ms, errors: < 0.1% }}
routes:
  - {{ match: /checkout/, service: shop, priority: critical }}
  - {{ match: /recommendations/, service: shop, priority: best-effort }}
  - {{ match: /, service: shop }}
"""


class Newcomer:
    def __init__(self, folder):
        self.folder, self.state, self.port = folder, str(folder / "foldback-state"), free_port()
        self.file = folder / "foldback.yaml"
        self.origins = [Origin(), Origin()]
        self.process = None

    def start(self, *args):
        with open(self.folder / "out.txt", "a") as log:
            self.process = subprocess.Popen([cli_util.program(), "run", *args, "--state", self.state], stdout=log, stderr=log)
        done = self.run("check", "--wait", "--timeout", "20", timeout_s=30)
        assert "ok    running" in done.stdout, done.stdout + (self.folder / "out.txt").read_text()

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=20) == 0
        self.process = None

    def run(self, *args, **more):
        return run(*args, "--state", self.state, **more)

    def says(self, *args):
        done = self.run(*args)
        assert done.returncode == 0, done
        return done.stdout

    def ask(self, path="/"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        c.request("GET", path)
        answer = c.getresponse()
        assert answer.read() == b"hi\n"
        c.close()
        return answer.headers["X-Request-Id"]


@pytest.fixture
def newcomer(tmp_path):
    n = Newcomer(tmp_path)
    yield n
    n.stop()
    for o in n.origins:
        o.server.shutdown()
        o.server.server_close()


def test_what_was_there_before_is_in_nobodys_way(newcomer):
    n, at = newcomer, [f"127.0.0.1:{o.port}" for o in newcomer.origins]
    n.start("--from", f"127.0.0.1:{n.port}", "--to", at[0], "--to", at[1], "--admin", "127.0.0.1:0")
    n.ask()
    assert "\napp " in n.says("status")
    n.stop()

    n.file.write_text(CONFIG.format(port=n.port, endpoints=", ".join(f'"{a}"' for a in at)))
    n.says("config", "check", str(n.file))
    n.start("--config", str(n.file))
    for path in ("/", "/checkout/1"):
        last = n.ask(path)
    until(lambda: n.run("why", last).returncode == 0)
    for args in (["status"], ["top", "--once"], ["get"], ["doctor"], ["why", "timeout_ms"]):
        done = n.run(*args).stdout
        assert "\napp " not in done and " app " not in done, done
    for a in at:  # the address alone, though another service had it once
        assert "endpoint shop " + a in n.says("why", a)
    n.says("mode", "recommend")
    n.says("pin", "timeout_ms", "shop /", "800")
    n.says("freeze", "--loop", "limit")
    n.says("reset")
    assert "all equal" in n.says("replay", "--verify")
    assert "not in the configuration any more" in n.says("why", "app")

    n.file.write_text(n.file.read_text().replace("  - { match: /recommendations/, service: shop, priority: best-effort }\n", ""))
    n.says("reload")
    until(lambda: "shop /recommendations/" not in n.says("get", "timeout_ms"))
    assert "shop /checkout/" in n.says("get", "timeout_ms") and "app /" not in n.says("get", "timeout_ms")
    assert os.path.isdir(n.state)
