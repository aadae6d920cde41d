# SPDX-License-Identifier: Apache-2.0
"""The log under kill -9, full disks, failing syncs, torn tails and power cuts.

Promise under test: no acknowledged event is ever lost and no wrong byte is ever returned.  The program
log_writer (log_writer.c) writes events whose bytes follow from their offset and prints what was acknowledged.
FB_LONG=1 runs 500 kills and 200 power cuts instead of 20.  FB_BUILD names the build directory.
"""
import json
import os
import random
import resource
import selectors
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WRITER = os.path.join(os.environ.get("FB_BUILD", os.path.join(ROOT, "build")), "test/unit/stream/log_writer")
IS_LONG = os.environ.get("FB_LONG") == "1"

# alone: a producer of 100,000 events/s fills its queue when its machine has no time for the log
pytestmark = [pytest.mark.alone, pytest.mark.skipif(not os.path.exists(WRITER), reason=f"{WRITER} is not built")]


class Writer:
    """A running `log_writer append`; reads its lines without waiting for ever."""

    def __init__(self, folder, **options):
        command = [WRITER, "append", str(folder), *[f"{k}={v}" for k, v in options.items()]]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.pending = b""
        self.acknowledged = 0
        self.lines = []

    def read(self, timeout_s=0.0):
        if self.selector.select(timeout_s):
            part = self.process.stdout.read()
            self.pending += part or b""
        *whole, self.pending = self.pending.split(b"\n")
        for line in whole:
            words = line.decode().split()
            self.lines.append(words)
            if words[0] in ("ack", "ready"):
                self.acknowledged = max(self.acknowledged, int(words[1]))

    def run_until(self, done, timeout_s=60.0):
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.read(0.01)
            if done(self):
                return
        self.kill()
        raise AssertionError(f"not reached within {timeout_s} s: {self.lines[-5:]} {self.process.stderr.read()}")

    def saw(self, word):
        return [line for line in self.lines if line[0] == word]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.read()
        self.process.stdout.close()

    def stop(self):
        """SIGTERM; returns (acknowledged, lost, failures) of the end line."""
        self.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.01)
        self.process.wait(1)
        self.read()
        error = self.process.stderr.read().decode()
        assert self.process.returncode == 0, error
        return [int(n) for n in self.saw("end")[0][1:]]


def check(folder):
    done = subprocess.run([WRITER, "check", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def segments(folder):
    return sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".fbl"))


@pytest.fixture
def folder():
    """On the disk of the machine, not in memory: the syncs are real."""
    path = tempfile.mkdtemp(prefix="foldback-log-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("round_", range(25 if IS_LONG else 1))
def test_kill_loses_nothing_that_was_acknowledged(folder, round_):
    """20 kills of one log, at random moments of its start, its writing and its rolling."""
    rng = random.Random(round_)
    acknowledged = 0
    for kill in range(20):
        writer = Writer(folder, seed=kill + 1, rate=200000 if kill % 2 else 0)
        writer.run_until(lambda w: w.saw("ready"))
        ready = int(writer.saw("ready")[0][1])
        assert ready >= acknowledged
        end = time.monotonic() + rng.uniform(0.005, 0.15)
        while time.monotonic() < end:
            writer.read(0.002)
        writer.kill()
        acknowledged = writer.acknowledged
        if kill % 5 == 4:
            seen = check(folder)
            assert seen["next"] >= acknowledged
            assert (seen["holes"], seen["missing"], seen["wrong"], seen["first"]) == (0, 0, 0, 0)
            assert seen["events"] == seen["next"]
    assert acknowledged > 10000


def test_a_restart_scans_only_the_last_segment(folder):
    for seed in range(4):
        writer = Writer(folder, segment=1 << 20, events=60000, seed=seed + 1)
        writer.process.wait(60)
        writer.read()
    others = segments(folder)[:-1]
    assert len(others) > 4
    for path in others[1:]:  # unreadable now; a scan of them would report it
        with open(path, "r+b") as f:
            f.truncate(os.path.getsize(path) // 2)
    seen = subprocess.run([WRITER, "append", folder, "events=1"], capture_output=True, text=True, timeout=30)
    ready = seen.stdout.split("\n")[0].split()
    assert ready[0] == "ready"
    assert int(ready[1]) >= 240000
    assert ready[2:] == ["0", "0", "0"]


def test_a_reader_in_another_process_follows(folder):
    writer = Writer(folder, rate=100000, segment=262144)
    writer.run_until(lambda w: w.saw("ready"))
    followers = [subprocess.Popen([WRITER, "follow", folder, "80000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                 for _ in range(2)]
    for follower in followers:
        while follower.poll() is None:
            writer.read(0.01)
        out, err = follower.communicate(timeout=5)
        assert follower.returncode == 0, err.decode()
        read, ends = [int(n) for n in out.split()]
        assert read == 80000
        assert ends > 0  # it did catch up with the writer
    writer.kill()


def test_a_second_writer_is_refused(folder):
    writer = Writer(folder, rate=1000)
    writer.run_until(lambda w: w.saw("ready"))
    second = subprocess.run([WRITER, "append", folder, "events=1"], capture_output=True, text=True, timeout=10)
    assert second.returncode == 3
    assert "another foldback writes it" in second.stderr
    writer.kill()  # the lock goes with its process
    assert check(folder)["wrong"] == 0


def test_failing_syncs_lose_nothing(folder):
    writer = Writer(folder, sync_fail=4, rate=20000, retry=2)
    writer.run_until(lambda w: w.acknowledged > 20000)
    acknowledged, lost, failures = writer.stop()
    assert failures > 3
    assert lost == 0
    seen = check(folder)
    assert (seen["holes"], seen["wrong"]) == (0, 0)
    assert seen["events"] == seen["next"] == acknowledged
    assert len(segments(folder)) > 3  # a poisoned one is never written again


def test_failing_syncs_and_kill_lose_nothing_that_was_acknowledged(folder):
    acknowledged = 0
    for kill in range(100 if IS_LONG else 8):
        writer = Writer(folder, sync_fail=3, seed=kill + 1, retry=1)
        writer.run_until(lambda w, low=acknowledged: w.acknowledged > low + 500)
        writer.kill()
        acknowledged = writer.acknowledged
    seen = check(folder)
    assert seen["next"] >= acknowledged
    assert (seen["holes"], seen["wrong"]) == (0, 0)


def test_a_limit_of_the_file_size_begins_new_segments(folder):
    """RLIMIT_FSIZE: a write in the middle of a segment fails with EFBIG, without root."""
    writer = Writer(folder, fsize=600000, rate=20000, retry=1)  # any one block fits; a busy machine keeps up
    writer.run_until(lambda w: w.acknowledged > 60000)
    acknowledged, lost, failures = writer.stop()
    assert failures > 2
    assert lost == 0
    seen = check(folder)
    assert (seen["holes"], seen["wrong"]) == (0, 0)
    assert seen["events"] == acknowledged
    assert all(os.path.getsize(s) <= 600000 for s in segments(folder))


@pytest.fixture
def small_disk(folder):
    """A file system of 1 MiB."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folder], capture_output=True,
                          text=True)
    if done.returncode != 0:
        pytest.skip(f"no permission to mount: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_drops_counts_and_recovers(small_disk):
    filler = os.path.join(small_disk, "filler")
    with open(filler, "wb") as f:
        f.write(b"x" * 600_000)
    writer = Writer(small_disk, rate=20000, retry=20, segment=65536, queue=524288)
    writer.run_until(lambda w: w.saw("degraded"))
    assert "No space left" in " ".join(writer.saw("degraded")[0])
    before = writer.acknowledged
    assert before > 0
    time.sleep(1.5)  # 30,000 events against a queue of 6,000
    writer.read()
    os.remove(filler)
    writer.run_until(lambda w: w.saw("gap"))
    seen_then = writer.acknowledged
    writer.run_until(lambda w: w.acknowledged > seen_then + 3000)
    acknowledged, lost, _ = writer.stop()
    told = sum(int(line[1]) for line in writer.saw("gap"))
    assert told == lost > 3000
    seen = check(small_disk)
    assert seen["wrong"] == 0
    assert seen["next"] == acknowledged > before
    assert seen["holes"] == len(writer.saw("gap"))
    assert seen["missing"] == seen["told"] == told  # the log itself says exactly what it lacks


def test_a_disk_without_any_room_does_not_stop_the_start(small_disk):
    writer = Writer(small_disk, events=100)
    assert writer.process.wait(20) == 0
    with open(os.path.join(small_disk, "filler"), "wb", buffering=0) as f:
        try:
            while f.write(b"x" * 4096):
                pass
        except OSError:
            pass
    writer = Writer(small_disk, retry=10)
    writer.run_until(lambda w: w.saw("degraded"))
    writer.kill()
    os.remove(os.path.join(small_disk, "filler"))
    seen = check(small_disk)
    assert (seen["wrong"], seen["holes"]) == (0, 0)
    assert seen["next"] >= 100


@pytest.mark.parametrize("damage", ["cut", "garbage", "zeros", "flip"])
def test_a_torn_tail_takes_only_itself(folder, damage):
    rng = random.Random(damage)
    for turn in range(100 if IS_LONG else 6):
        writer = Writer(folder, events=5000, seed=turn + 1)
        writer.process.wait(20)
        writer.read()
        whole = writer.acknowledged
        # A power cut leaves the watermark as old as it likes: here it is gone.
        os.remove(os.path.join(folder, "watermark"))
        last = segments(folder)[-1]
        size = os.path.getsize(last)
        at = rng.randrange(size // 2, size)
        with open(last, "r+b") as f:
            if damage == "cut":
                f.truncate(at)
            else:
                f.seek(at)
                old = f.read(1)
                f.seek(at)
                f.write({"garbage": rng.randbytes(size - at + 5000), "zeros": bytes(size - at + 4096),
                         "flip": bytes([old[0] ^ (1 << rng.randrange(8))])}[damage])
        seen = check(folder)
        assert seen["wrong"] == 0
        assert seen["next"] <= whole
        if damage != "flip":
            assert seen["holes"] == 0
            assert seen["next"] < whole
        else:
            # One block is damaged: a hole in the middle, or the end is cut.
            assert seen["damaged_places"] + (seen["torn_bytes"] > 0) == 1
        shutil.rmtree(folder)
        os.mkdir(folder)


@pytest.fixture
def image():
    """Cuts the power: runs a writer on ext4 in a file in memory and copies the file while the writer stands.

    The copy is the disk after the cut; mounting it replays the journal.  Returns, per cut, how many
    acknowledged events were missing on it.
    """
    base = tempfile.mkdtemp(prefix="foldback-power-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    disk, copy, live, dead = (os.path.join(base, n) for n in ("disk", "copy", "live", "dead"))
    os.mkdir(live)
    os.mkdir(dead)
    writers = []

    def mount(what, where):
        done = subprocess.run(["mount", "-o", "loop", what, where], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no permission to mount: {done.stderr.strip()}")

    def cuts(count, **options):
        if not shutil.which("mkfs.ext4"):
            pytest.skip("mkfs.ext4 is not installed")
        with open(disk, "wb") as f:
            f.truncate(48 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
        mount(disk, live)
        writer = Writer(os.path.join(live, "log"), rate=20000, segment=262144, **options)
        writers.append(writer)
        writer.run_until(lambda w: w.acknowledged > 100)
        rng = random.Random(5)
        missing = []
        for _ in range(count):
            end = time.monotonic() + rng.uniform(0.01, 0.1)
            while time.monotonic() < end:
                writer.read(0.002)
            writer.process.send_signal(signal.SIGSTOP)
            writer.read()
            subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
            acknowledged = writer.acknowledged
            writer.process.send_signal(signal.SIGCONT)
            mount(copy, dead)
            try:
                seen = check(os.path.join(dead, "log"))
            finally:
                subprocess.run(["umount", dead], check=True)
            assert seen["wrong"] == 0
            missing.append(max(0, acknowledged - seen["next"]) + seen["missing"])
        return missing

    yield cuts
    for writer in writers:
        writer.kill()
    for where in (dead, live):
        if os.path.ismount(where):
            subprocess.run(["umount", "-l", where], check=False)
    shutil.rmtree(base, ignore_errors=True)


def test_a_power_cut_loses_nothing_that_was_acknowledged(image):
    cuts = 200 if IS_LONG else 10
    assert image(cuts) == [0] * cuts


def test_the_power_cut_would_show_a_log_that_does_not_sync(image):
    assert sum(image(5, sync_none=1)) > 0
