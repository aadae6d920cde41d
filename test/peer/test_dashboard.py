# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser: axe without findings, nothing on the console, strict policy kept."""
import json
import pathlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import ROOT, Driver
from test_admin_api import request

HERE = pathlib.Path(__file__).parent
WEB = ROOT / "web"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


WALKS = [("light", 1440, 900), ("dark", 360, 740), ("dark", 1440, 900), ("light", 360, 740)]


def walk(scheme, width, height):
    """One browser, one driver of its own: walks pin the same knob."""
    driver = Driver(seconds=90)
    try:
        if "/assets/" not in request(driver, "GET", "/", token=None)[2]:
            return None
        done = subprocess.run(["node", HERE / "dashboard.mjs", driver.url, driver.token, scheme, str(width), str(height), WEB, CHROMIUM],
                              capture_output=True, text=True, timeout=300)
        return json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr}
    finally:
        driver.stop()


@pytest.fixture(scope="module")
def walks():
    if not CHROMIUM or not shutil.which("node") or not (WEB / "node_modules/playwright-core").exists():
        pytest.skip("needs chromium, node and npm ci in web/")
    with ThreadPoolExecutor(max_workers=2) as pool:  # two browsers at a time: about 20 s in all
        return dict(zip(WALKS, pool.map(lambda w: walk(*w), WALKS)))


@pytest.mark.parametrize("which", WALKS, ids=lambda w: f"{w[0]}-{w[1]}")
def test_a_walk_through_the_dashboard(walks, which):
    seen = walks[which]
    if seen is None:
        pytest.skip("built without npm: the plain page")
    assert "failed" not in seen, seen
    assert seen["errors"] == []
    assert seen["csp"] == []
    assert {view: found for view, found in seen["axe"].items() if found} == {}
    assert set(seen["axe"]) == {"login", "overview", "endpoints", "protocols", "cache", "no cache", "features", "stream", "refused query", "query", "no connectors", "no fleet", "fleet", "knobs", "requests", "system"}
    assert {view: px for view, px in seen["overflow"].items() if px > 0} == {}
    assert seen["steps"]["canvases"] == 3
    for step in ("login", "evidence", "signals", "paused", "mark", "hedged", "versions", "protocols", "certificates", "cached", "curve", "uncached", "features", "connectors", "trouble", "nothing_in", "ways_in", "facts_in", "refused", "asked", "fleet", "pinned", "tap", "unpinned", "link_seen", "no_heat"):
        assert seen["steps"].get(step) is True, (step, seen["steps"])
