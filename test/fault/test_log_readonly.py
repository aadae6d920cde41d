# SPDX-License-Identifier: Apache-2.0
"""The log on a file system that is mounted read-only, for real: a tmpfs in a mount namespace of its own.

Promise under test: who only reads is not disturbed, who must write says what is wrong and changes nothing, and when the
file system can be written again everything goes on where it was.
"""
import json
import os
import shutil
import signal
import subprocess
import tempfile

import pytest
from fb import BIN, Origin, config, free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WRITER = os.path.join(os.environ.get("FB_BUILD", os.path.join(ROOT, "build")), "test/unit/stream/log_writer")

pytestmark = pytest.mark.skipif(not os.path.exists(WRITER), reason=f"{WRITER} is not built")


class Mounted:
    """A tmpfs that only the processes started by run() see."""

    def __init__(self, folder):
        self.folder = folder
        self.state = os.path.join(folder, "state")
        self.log = os.path.join(self.state, "log")
        script = 'mount -t tmpfs -o size=64m,mode=700 tmpfs "$1" && mkdir "$1/state" && echo mounted && exec sleep 600'
        self.holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", folder],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.holder.stdout.readline().strip() != "mounted":
            self.holder.wait(20)
            pytest.skip(f"no mount namespace here: {self.holder.stderr.read().strip()}")

    def run(self, *command, timeout_s=60):
        return subprocess.run(["nsenter", "-t", str(self.holder.pid), "-m", *command], capture_output=True, text=True,
                              timeout=timeout_s)

    def remount(self, how):
        done = self.run("mount", "-o", f"remount,{how}", self.folder)
        assert done.returncode == 0, done.stderr

    def files(self):
        """Names, sizes and bytes of everything."""
        done = self.run("sh", "-c", 'cd "$1" && find . -type f | sort | xargs -r sha256sum', "sh", self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self):
        self.holder.send_signal(signal.SIGKILL)
        self.holder.wait(20)
        self.holder.stdout.close()
        self.holder.stderr.close()


@pytest.fixture
def disk():
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("unshare and nsenter are not installed")
    folder = tempfile.mkdtemp(prefix="foldback-ro-")
    mounted = None
    try:
        mounted = Mounted(folder)
        yield mounted
    finally:
        if mounted:
            mounted.close()  # the mount goes with its namespace
        shutil.rmtree(folder, ignore_errors=True)


def write(disk, events):
    done = disk.run(WRITER, "append", disk.log, f"events={events}", "rate=100000", "segment=65536")
    assert done.returncode == 0, done.stderr


def checked(disk):
    done = disk.run(WRITER, "check", disk.log)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_readers_read_writers_say_so_and_it_goes_on_when_it_can(disk):
    write(disk, 20000)
    disk.remount("ro")
    before = disk.files()
    follow = disk.run(WRITER, "follow", disk.log, "20000")
    assert follow.returncode == 0, follow.stderr
    assert int(follow.stdout.split()[0]) == 20000
    stats = disk.run(BIN, "log", "stats", "--json", "--state", disk.state)
    assert stats.returncode == 0, stats.stderr
    events = json.loads(stats.stdout)["events"]
    assert events >= 20000
    assert disk.run(BIN, "log", "check", "--state", disk.state).returncode == 0
    refused = disk.run(WRITER, "append", disk.log, "events=10")
    assert refused.returncode == 3
    assert "Read-only file system" in refused.stderr and disk.log in refused.stderr
    assert disk.files() == before
    disk.remount("rw")
    write(disk, 5000)
    seen = checked(disk)
    assert seen["first"] == 0 and seen["events"] == seen["next"] > events
    assert (seen["holes"], seen["wrong"], seen["missing"]) == (0, 0, 0)


def test_a_repair_of_a_damaged_log_waits_for_a_disk_that_can_be_written(disk):
    write(disk, 20000)
    first = disk.run("sh", "-c", 'ls "$1"/*.fbl | head -1', "sh", disk.log).stdout.strip()
    spoil = disk.run("sh", "-c", 'printf spoiled | dd of="$1" bs=1 seek=300 conv=notrunc', "sh", first)
    assert spoil.returncode == 0, spoil.stderr
    disk.remount("ro")
    before = disk.files()
    assert disk.run(BIN, "log", "check", "--state", disk.state).returncode == 1
    assert disk.run(BIN, "log", "repair", "--state", disk.state).returncode == 1
    refused = disk.run(BIN, "log", "repair", "--apply", "--state", disk.state)
    assert refused.returncode != 0
    assert "Read-only file system" in refused.stderr and "read-only" in refused.stderr
    assert disk.files() == before
    disk.remount("rw")
    done = disk.run(BIN, "log", "repair", "--apply", "--state", disk.state)
    assert done.returncode == 0, done.stdout + done.stderr
    assert disk.run(BIN, "log", "check", "--state", disk.state).returncode == 0


def test_foldback_itself_names_the_folder_that_cannot_be_written(disk):
    origin = Origin()
    file = os.path.join(disk.folder, "foldback.yaml")
    text = (f'listen: ["127.0.0.1:{free_port()}"]\nadmin: {{ listen: "127.0.0.1:0" }}\nthreads: 1\n'
            + config(origin))
    try:
        assert subprocess.run(["nsenter", "-t", str(disk.holder.pid), "-m", "tee", file], input=text, text=True,
                              capture_output=True, timeout=20).returncode == 0
        disk.remount("ro")
        done = disk.run(BIN, "run", "--config", file, "--state", disk.state)
        assert done.returncode != 0
        said = done.stdout + done.stderr
        assert "Read-only file system" in said and disk.state in said
    finally:
        origin.stop()
