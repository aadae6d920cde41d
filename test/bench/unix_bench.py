# SPDX-License-Identifier: Apache-2.0
"""CPU per request of foldback in front of one nginx that listens at a port and at a Unix socket, in turn.

python3 test/bench/unix_bench.py [--seconds 4] [--pairs 5] [--connections 64] [--bytes 128] [--foldback build/foldback]
wants nginx and wrk; the CPU is that of the whole tree of processes, brain and supervisor included."""
import argparse
import os
import re
import socket
import statistics
import subprocess
import tempfile
import time

NGINX = """worker_processes 1; pid %(d)s/pid; error_log %(d)s/errors; daemon off;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path %(d)s/1; proxy_temp_path %(d)s/2;
fastcgi_temp_path %(d)s/3; uwsgi_temp_path %(d)s/4; scgi_temp_path %(d)s/5;
server { listen 127.0.0.1:%(port)d backlog=4096; listen unix:%(d)s/n.sock backlog=4096; root %(d)s; } }
"""
FOLDBACK = """listen: ["127.0.0.1:%(port)d"]
admin: { listen: "127.0.0.1:0" }
threads: 1
overload: { mode: off }
state: %(d)s/state.%(port)d
services: { app: { endpoints: ["%(endpoint)s"], tune: { limit: { min: 256 } } } }
routes: [{ match: /, service: app }]
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nothing listens on port %d after 20 s" % port)


def tree(pid):
    out = [pid]
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % p) as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                    out += tree(int(p))
        except OSError:
            pass
    return out


def cpu_us(pid):
    us = 0
    for p in tree(pid):
        for t in os.listdir("/proc/%d/task" % p):
            with open("/proc/%d/task/%s/schedstat" % (p, t)) as f:
                us += int(f.read().split()[0]) / 1e3
    return us


def load(port, seconds, connections):
    done = subprocess.run(["wrk", "-t1", "-c", str(connections), "-d", "%ds" % seconds, "http://127.0.0.1:%d/file" % port],
                          capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in done and "Socket errors" not in done, done
    return int(re.search(r"(\d+) requests in", done).group(1))


def measure(args, d, started):
    ports = {"nginx": free_port(), "tcp": free_port(), "unix": free_port()}
    with open(d + "/file", "w") as f:
        f.write("x" * args.bytes)
    with open(d + "/nginx.conf", "w") as f:
        f.write(NGINX % {"d": d, "port": ports["nginx"]})
    started["nginx"] = subprocess.Popen(["nginx", "-c", d + "/nginx.conf"])
    for name, endpoint in (("tcp", "127.0.0.1:%d" % ports["nginx"]), ("unix", "unix:%s/n.sock" % d)):
        with open("%s/%s.yaml" % (d, name), "w") as f:
            f.write(FOLDBACK % {"d": d, "port": ports[name], "endpoint": endpoint})
        started[name] = subprocess.Popen([args.foldback, "run", "--config", "%s/%s.yaml" % (d, name), "--quiet"])
    for port in ports.values():
        wait_for(port)
    own, nginx = {"tcp": [], "unix": []}, {"tcp": [], "unix": []}
    for name in own:
        load(ports[name], 1, args.connections)
    for i in range(args.pairs):
        for name in list(own)[::-1 if i % 2 else 1]:
            before, before_nginx = cpu_us(started[name].pid), cpu_us(started["nginx"].pid)
            count = load(ports[name], args.seconds, args.connections)
            own[name].append((cpu_us(started[name].pid) - before) / count)
            nginx[name].append((cpu_us(started["nginx"].pid) - before_nginx) / count)
    for name in own:
        print("%-4s foldback %.2f us per request (%s), nginx itself %.2f us" % (
            name, statistics.mean(own[name]), ", ".join("%.2f" % x for x in own[name]), statistics.mean(nginx[name])))
    print("ratio %.2f" % (statistics.mean(own["unix"]) / statistics.mean(own["tcp"])))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=int, default=4)
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--connections", type=int, default=64)
    p.add_argument("--bytes", type=int, default=128)
    p.add_argument("--foldback", default="build/foldback")
    args, started = p.parse_args(), {}
    with tempfile.TemporaryDirectory(prefix="ub", dir="/tmp") as d:
        os.chmod(d, 0o755)  # the worker of nginx is another user
        try:
            measure(args, d, started)
        finally:
            for x in started.values():
                x.terminate()
            for x in started.values():
                x.wait(20)


if __name__ == "__main__":
    main()
