#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a rule of a route costs: CPU of the gateway per request with it and without it, of one process, in turns.

  route_cost.py build/test/e2e/gateway_driver [--rounds 12] [--secs 1] [--conns 16] [--wrk wrk]

One gateway_driver with one thread has all routes; one origin answers them.  A round asks each route for --secs, in an order that
turns with the rounds, so that what else the machine does falls on all of them.  Printed is the median of the rounds and of the
ratios to another route of the same round, with their quartiles.  Needs nginx and wrk."""
import argparse
import base64
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile

USERS = "ann:$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1\n"
# In the order of the file, since each expression is tried on what comes by it: what it is compared with, name, what is
# asked, the keys of its route.
CASES = [
    ("plain", "plain", "/plain/x", "match: /plain/, service: app"),
    ("plain", "plain again", "/again/x", "match: /again/, service: app"),
    ("plain", "auth: basic, remembered", "/staff/x", "match: /staff/, service: app, auth: { basic: { file: USERS, remember: 1h } }"),
    ("plain", "regex route, fixed beginning", "/users/12345", "match: '~^/users/(\\d+)$', service: app"),
    ("regex route, fixed beginning", "the same with rewrite.to", "/items/12345",
     "match: '~^/items/(\\d+)$', service: app, rewrite: { to: '/item?id=$1' }"),
    ("plain", "strip_prefix, map_back: off", "/strip/x",
     "match: /strip/, service: app, rewrite: { strip_prefix: /strip }, map_back: off"),
    ("strip_prefix, map_back: off", "strip_prefix", "/api/x", "match: /api/, service: app, rewrite: { strip_prefix: /api }"),
    ("302 and cookie, map_back: off", "302 and cookie, map_back: off", "/raw/moved",
     "match: /raw/, service: app, rewrite: { strip_prefix: /raw }, map_back: off"),
    ("302 and cookie, map_back: off", "302 and cookie, mapped back", "/back/moved",
     "match: /back/, service: app, rewrite: { strip_prefix: /back }"),
    ("plain", "regex route, no beginning", "/a/b/pic.png", "match: '~\\.(png|jpe?g|webp)$', service: app"),
]


def origin(folder):
    """An nginx of one worker: (port, process)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conf = os.path.join(folder, "nginx.conf")
    with open(conf, "w") as f:
        f.write("worker_processes 1; daemon off; pid %s/pid; error_log /dev/null; events { worker_connections 1024; }\n"
                "http { access_log off; absolute_redirect off; keepalive_requests 100000000;\n"
                "server { listen 127.0.0.1:%d backlog=256; location / { return 200 '%s'; }\n"
                "location ~ moved$ { add_header Set-Cookie 'a=b; Path=/admin' always; return 302 /login; } } }\n"
                % (folder, port, "x" * 128))
    return port, subprocess.Popen(["nginx", "-c", conf], stderr=subprocess.DEVNULL)


def cpu_us(pid):
    """Of all its threads."""
    return sum(int(open(f"/proc/{pid}/task/{t}/schedstat").read().split()[0]) for t in os.listdir(f"/proc/{pid}/task")) / 1e3


def ask(args, port, path):
    token = base64.b64encode(b"ann:secret").decode()
    out = subprocess.run([args.wrk, "-t1", f"-c{args.conns}", f"-d{args.secs}s", "-H", f"Authorization: Basic {token}",
                          f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out and "moved" not in path:
        print(f"{path}: {re.search('Non-2xx.*', out)[0]}", file=sys.stderr)
    return int(re.search(r"(\d+) requests in", out)[1])


def write_conf(folder, origin_port):
    with open(folder + "/users", "w") as f:
        f.write(USERS)
    with open(folder + "/foldback.yaml", "w") as f:
        f.write('listen: ["127.0.0.1:0"]\noverload: { mode: off }\nservices:\n  app: { endpoints: ["127.0.0.1:%d"] }\nroutes:\n' % origin_port
                + "".join("  - { %s }\n" % keys.replace("USERS", folder + "/users") for *_, keys in CASES))


def start(driver, folder):
    """(process, port)"""
    fold = subprocess.Popen([driver, folder + "/foldback.yaml", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)
    return fold, int(fold.stdout.readline().split()[1])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("driver")
    ap.add_argument("--rounds", type=int, default=12)
    ap.add_argument("--secs", type=int, default=1)
    ap.add_argument("--conns", type=int, default=16)
    ap.add_argument("--wrk", default="wrk")
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        number, child = origin(folder)
        write_conf(folder, number)
        fold = None
        try:
            fold, port = start(args.driver, folder)
            took = {name: [] for _, name, _, _ in CASES}
            for turn in range(args.rounds + 1):
                for i in range(len(CASES)):
                    _, name, path, _ = CASES[(i + turn) % len(CASES)]
                    before = cpu_us(fold.pid)
                    count = ask(args, port, path)
                    if turn:  # the first round warms up
                        took[name].append((cpu_us(fold.pid) - before) / count)
            print(f"| {'route':30} | us per request | {'compared with':30} | ratio | quartiles |")
            print("|---" * 5 + "|")
            for base, name, _, _ in CASES:
                ratios = [a / b for a, b in zip(took[name], took[base])]
                low, _, high = statistics.quantiles(ratios, n=4)
                print(f"| {name:30} | {statistics.median(took[name]):14.2f} | {base:30} | {statistics.median(ratios):5.2f} "
                      f"| {low:.2f} to {high:.2f} |")
        finally:
            for process in (fold, child):
                if process:
                    process.terminate()
                    process.wait()


if __name__ == "__main__":
    main()
