# SPDX-License-Identifier: Apache-2.0
"""Zones, weights and load as people see them: API, metrics, `why`; weights change at a reload.  Whole program."""
import json
import os
import signal
import subprocess
import time
import urllib.request

import pytest
from conftest import REPO, WAIT_S, Origin, free_port, ok

pytestmark = pytest.mark.short


class Foldback:
    def __init__(self, folder, config):
        self.binary = os.environ.get("FOLDBACK_BIN") or REPO + "/build/foldback"
        if not os.path.exists(self.binary):
            pytest.skip("no foldback; build it or set FOLDBACK_BIN")
        self.folder, self.port, self.admin = folder, free_port(), free_port()
        self.path = folder / "foldback.yaml"
        self.write(config)
        self.process = subprocess.Popen([self.binary, "run", "--config", str(self.path)],
                                        stdout=open(folder / "out", "wb"), stderr=subprocess.STDOUT)
        self.until(lambda: self.status("/") == 200)

    def write(self, config):
        self.path.write_text("listen: [\"127.0.0.1:%d\"]\nthreads: 1\nstate: %s\nadmin: { listen: \"127.0.0.1:%d\" }\n"
                             "overload: { mode: off }\n%s"
                             % (self.port, self.folder / "state", self.admin, config))

    def status(self, path):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.port, path), timeout=2) as r:
                return r.status
        except OSError:
            return 0

    def ask(self, path):
        token = (self.folder / "state" / "admin.token").read_text()
        r = urllib.request.Request("http://127.0.0.1:%d%s" % (self.admin, path),
                                   headers={"Authorization": "Bearer " + token})
        with urllib.request.urlopen(r, timeout=5) as answer:
            return answer.read().decode()

    def endpoints(self):
        return {e["name"]: e for e in json.loads(self.ask("/v1/endpoints"))["endpoints"]}

    def why(self, what):
        return subprocess.run([self.binary, "why", what, "--state", str(self.folder / "state")], capture_output=True,
                              text=True, timeout=10).stdout

    def reload(self, config):
        self.write(config)
        self.process.send_signal(signal.SIGHUP)

    def until(self, check, wait_s=2 * WAIT_S):
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            try:
                if check():
                    return
            except (OSError, KeyError, ValueError, TypeError):
                pass
            time.sleep(0.05)
        raise AssertionError("not in time; " + (self.folder / "out").read_text()[-2000:])

    def stop(self):
        self.process.terminate()
        assert self.process.wait(3 * WAIT_S) == 0


CONFIG = """zone: east
services:
  app:
    endpoints:
      - { address: "127.0.0.1:%d", zone: east, weight: %s }
      - { address: "127.0.0.1:%d", zone: west }
      - { address: "127.0.0.1:%d", backup: true }
routes: [{ match: /, service: app }]
"""


def test_places_are_seen_and_weights_change_at_a_reload(tmp_path):
    ups = [Origin(lambda r, w, i=i: ok("x", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.25")) for i in range(3)]
    names = ["app 127.0.0.1:%d" % o.port for o in ups]
    ports = [o.port for o in ups]
    fb = Foldback(tmp_path, CONFIG % (ports[0], "50%", ports[1], ports[2]))
    try:
        fb.until(lambda: abs((fb.endpoints()[names[0]]["weight"] or 0) - 0.5) < 0.01)
        for _ in range(30):
            assert fb.status("/") == 200
        fb.until(lambda: fb.endpoints()[names[0]]["utilisation"] == 0.25)
        seen = fb.endpoints()
        assert [seen[n]["zone"] for n in names] == ["east", "west", ""]
        assert [seen[n]["is_far"] for n in names] == [False, True, False]
        assert [seen[n]["is_spare"] for n in names] == [False, False, True]
        assert seen[names[1]]["utilisation"] is None
        metrics = fb.ask("/metrics")
        assert 'foldback_cross_zone_ratio{service="app"} 0\n' in metrics
        assert 'foldback_endpoint_utilisation_ratio{service="app",endpoint="%s"} 0.25' % names[0] in metrics
        assert 'foldback_endpoint_weight_ratio{service="app",endpoint="%s"} 1\n' % names[1] in metrics
        assert "zone west, not in that of this node" in fb.why(names[1])
        assert "spare one" in fb.why(names[2]) and "utilisation of 25.0 %" in fb.why(names[0])
        fb.reload(CONFIG % (ports[0], "200%", ports[1], ports[2]))
        fb.until(lambda: abs((fb.endpoints()[names[0]]["weight"] or 0) - 2) < 0.01)
        ups[0].listener.shutdown(2)
        ups[0].close()
        for _ in range(40):
            assert fb.status("/") == 200
        fb.until(lambda: 'foldback_cross_zone_ratio{service="app"} 0\n' not in fb.ask("/metrics"))
    finally:
        fb.stop()
        for o in ups:
            o.close()
