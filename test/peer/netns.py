# SPDX-License-Identifier: Apache-2.0
"""Network namespaces for tests: hosts with a cable each to two bridges, so that a cable can be pulled.

The front bridge is the way of clients and endpoints, the bus bridge that of the broker; this process is at both of
them.  Everything has the number of this process in its name and is removed by close(), whatever happened before."""
import os
import subprocess

import pytest


def ip(*args):
    done = subprocess.run(["ip", *args], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"ip {' '.join(args)}: {done.stderr}"


class Host:
    def __init__(self, net, number):
        self.net, self.number = net, number
        self.name = f"fb{os.getpid()}h{number}"
        self.front, self.bus = (f"{base}.{number + 2}" for base in (net.front, net.bus))
        self.within = ["ip", "netns", "exec", self.name]  # before a command that is to run here
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        for side, bridge, address in (("f", net.front_bridge, self.front), ("b", net.bus_bridge, self.bus)):
            outer = self.cable(side)
            ip("link", "add", outer, "type", "veth", "peer", "name", f"eth{side}", "netns", self.name)
            ip("link", "set", outer, "master", bridge, "up")
            ip("-n", self.name, "addr", "add", f"{address}/24", "dev", f"eth{side}")
            ip("-n", self.name, "link", "set", f"eth{side}", "up")

    def cable(self, side):
        return f"fb{os.getpid()}{side}{self.number}"

    def cut_bus(self):
        ip("link", "set", self.cable("b"), "down")

    def mend_bus(self):
        ip("link", "set", self.cable("b"), "up")


class Net:
    def __init__(self):
        self.hosts = []
        self.front_bridge, self.bus_bridge = f"fb{os.getpid()}front", f"fb{os.getpid()}bus"
        third = os.getpid() % 250
        self.front, self.bus = f"198.18.{third}", f"198.19.{third}"  # for tests of networks: RFC 2544
        self.here_front, self.here_bus = f"{self.front}.1", f"{self.bus}.1"
        try:
            for bridge, address in ((self.front_bridge, self.here_front), (self.bus_bridge, self.here_bus)):
                ip("link", "add", bridge, "type", "bridge")
                ip("addr", "add", f"{address}/24", "dev", bridge)
                ip("link", "set", bridge, "up")
            self.host()
        except (AssertionError, OSError) as e:
            self.close()
            if os.environ.get("FB_NEED_NETNS"):
                raise
            pytest.skip(f"no network namespaces here (root and CAP_NET_ADMIN are needed): {str(e).strip()[:200]}")

    def host(self):
        number = len(self.hosts)
        self.hosts.append(None)  # so that what is half made is removed too
        self.hosts[number] = Host(self, number)
        return self.hosts[number]

    def close(self):
        for number in range(len(self.hosts)):
            subprocess.run(["ip", "netns", "del", f"fb{os.getpid()}h{number}"], capture_output=True, timeout=30)
            for side in "fb":
                subprocess.run(["ip", "link", "del", f"fb{os.getpid()}{side}{number}"], capture_output=True, timeout=30)
        for bridge in (self.front_bridge, self.bus_bridge):
            subprocess.run(["ip", "link", "del", bridge], capture_output=True, timeout=30)
        self.hosts = []
