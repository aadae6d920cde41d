#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""build: the dashboard, from web/src to one C file.  Called by meson; also by hand:

  web/build.py WORK_DIR src/output/embed.py OUT.c

With npm: `npm ci` once per lock file (into web/node_modules, shared by all build directories), then
esbuild.  Without npm, or when it cannot install: the plain page of web/fallback, so that the C build
never depends on node.  FOLDBACK_WEB=require makes that an error (releases), FOLDBACK_WEB=off skips npm.
"""
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

WEB = pathlib.Path(__file__).resolve().parent


def install():
    """True when web/node_modules is what the lock file says."""
    made = WEB / "node_modules" / ".package-lock.json"  # npm's own note of what it installed
    lock_file = WEB / "package-lock.json"
    with open(lock_file) as lock:  # two builds at once: one installs, one waits
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists() and made.stat().st_mtime >= lock_file.stat().st_mtime:
            return True
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=WEB,
                              timeout=300, capture_output=True, text=True)
        if done.returncode != 0:
            print("web: npm ci failed:", done.stderr.strip()[-500:], file=sys.stderr)
            return False
        made.touch()
    return True


def bundle(dist):
    done = subprocess.run(["node", "esbuild.mjs", str(dist)], cwd=WEB, timeout=120,
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit("web: esbuild: " + (done.stderr or done.stdout).strip())


def main():
    work, embed, out = (pathlib.Path(a).resolve() for a in sys.argv[1:4])
    dist = work / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir(parents=True)
    mode = os.environ.get("FOLDBACK_WEB", "")
    has_npm = mode != "off" and (WEB / "package-lock.json").exists() and shutil.which("npm") and shutil.which("node")
    try:
        has_npm = has_npm and install()
    except (OSError, subprocess.TimeoutExpired) as problem:
        print("web:", problem, file=sys.stderr)
        has_npm = False
    if has_npm:
        bundle(dist)
    elif mode == "require":
        sys.exit("web: npm is needed to build the dashboard")
    else:
        shutil.copytree(WEB / "fallback", dist, dirs_exist_ok=True)
    subprocess.run([sys.executable, str(embed), "assets", str(dist), str(out)], check=True)


if __name__ == "__main__":
    main()
