# SPDX-License-Identifier: Apache-2.0
"""A running admin_driver (engine, facts and admin server, fed by a modelled shop) for all peer tests."""
import os
import pathlib
import select
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FB_BUILD", ROOT / "build"))
TOKEN = "peer-test-token-0123456789"


# Begin first, so that no worker has the others wait for it at the end.
LONGEST = ["test_%s.py" % x for x in ("kafka", "slow", "kafka_exact", "refused", "kafka_oidc", "dashboard", "receivers", "pubsub",
                                      "kinesis", "fleet_netns")]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda i: (LONGEST + [i.path.name]).index(i.path.name))


class Driver:
    def __init__(self, *options, past_s=130, seconds=120):
        binary = BUILD / "test/unit/output/admin_driver"
        self.process = subprocess.Popen(
            [binary, "--token", TOKEN, "--past", str(past_s), "--seconds", str(seconds), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        line = self.process.stdout.readline() if ready else ""
        assert line.startswith("ready "), f"admin_driver did not start: {self.process.stderr.read() if not line else line}"
        self.address = line.split()[1]
        self.url = f"http://{self.address}"
        self.token = TOKEN

    def stop(self):
        self.process.terminate()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        errors = self.process.stderr.read()
        assert code == 0, f"admin_driver ended with {code}: {errors}"


@pytest.fixture(scope="module")
def driver():
    d = Driver()
    time.sleep(0.3)
    yield d
    d.stop()
