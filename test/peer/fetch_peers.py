#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fetches the jars of a lock file from Maven Central into build/peers/NAME: fetch_peers.py LOCK...

What is there with the right checksum stays; a download is tried four times.  Exit 1 when one is missing in the end."""
import concurrent.futures
import hashlib
import os
import pathlib
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTS = ("https://repo1.maven.org/maven2/", "https://repo.maven.apache.org/maven2/")


def rows(lock):
    for line in pathlib.Path(lock).read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split()


def is_good(path, checksum):
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == checksum
    except OSError:
        return False


def fetch(folder, checksum, place):
    path = folder / place.rsplit("/", 1)[1]
    if is_good(path, checksum):
        return None
    why = ""
    for attempt in range(4):
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with urllib.request.urlopen(HOSTS[attempt % 2] + place, timeout=60) as answer:
                part.write_bytes(answer.read())
            if is_good(part, checksum):
                part.replace(path)
                return None
            why = "another checksum than the lock file says"
        except OSError as e:
            why = str(e)
        part.unlink(missing_ok=True)
        time.sleep(2 ** attempt)
    return f"{place}: {why}"


def fetch_all(lock):
    """The folder with all jars of <lock>; raises when one cannot be had."""
    folder = ROOT / "build" / "peers" / pathlib.Path(lock).stem
    folder.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        bad = [x for x in pool.map(lambda row: fetch(folder, *row), rows(lock)) if x]
    if bad:
        raise RuntimeError("; ".join(bad))
    return folder


if __name__ == "__main__":
    for name in sys.argv[1:]:
        try:
            fetch_all(name)
        except RuntimeError as e:
            sys.exit(f"fetch_peers: {e}")
