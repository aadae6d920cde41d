# SPDX-License-Identifier: Apache-2.0
"""Certificates by ACME as doc/guide/tls.md says it: uacme gets them from pebble (Let's Encrypt's test authority), foldback
serves the challenge, takes the files when they are there and runs the renewal.  The two scripts are the page's own."""
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/fault"))
from fb import Foldback, Origin, free_port, until  # noqa: E402

PEBBLED = pathlib.Path(os.environ.get("FB_BUILD", ROOT / "build")) / "peers/pebbled"
NAME = "example.org"
WAIT_S = 60

pytestmark = [pytest.mark.skipif(not PEBBLED.exists(), reason="pebble is not built: needs Go 1.23 (./dev deps says why)"),
              pytest.mark.skipif(not shutil.which("uacme") or not shutil.which("cc"), reason="uacme or cc is not installed")]


def page_script(name):
    """The block of the page behind the first mention of `/etc/foldback/NAME`."""
    page = (ROOT / "doc/guide/tls.md").read_text()
    return re.search(r"`/etc/foldback/%s`.*?```sh\n(.*?)```" % re.escape(name), page, re.S)[1]


# Which authorities uacme trusts when it speaks to its own is compiled into libcurl; this names others.
TRUST = """#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
void *curl_easy_init(void)
{
    void *(*init)(void) = (void *(*)(void))dlsym(RTLD_NEXT, "curl_easy_init");
    int (*set)(void *, int, ...) = (int (*)(void *, int, ...))dlsym(RTLD_NEXT, "curl_easy_setopt");
    void *curl = init();
    if (curl)
        set(curl, 10065 /* CAINFO */, getenv("TEST_CA"));
    return curl;
}
"""


def trusting(folder, ca):
    """The words before a program with which its libcurl trusts <ca>."""
    (folder / "trust.c").write_text(TRUST)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "trust.so", folder / "trust.c", "-ldl"], check=True)
    return "env LD_PRELOAD=%s/trust.so TEST_CA=%s " % (folder, ca)


class Authority:
    """pebble; its certificates last so shortly that uacme, which renews 30 days before the end, always renews them."""

    def __init__(self, folder, http_port, days=20):
        self.root, self.cert = folder / "root.pem", folder / "pebble.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=pebble", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "pebble.key",
                        "-out", self.cert], check=True, capture_output=True)
        env = dict(os.environ, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0", PEBBLE_AUTHZREUSE="0")
        self.log = open(folder / "pebble.log", "wb")
        self.process = subprocess.Popen([PEBBLED, str(http_port), self.root, str(days), self.cert, folder / "pebble.key"],
                                        stdout=subprocess.PIPE, stderr=self.log, env=env)
        line = []
        reader = threading.Thread(target=lambda: line.append(self.process.stdout.readline().decode().strip()), daemon=True)
        reader.start()
        reader.join(WAIT_S)
        self.url = line[0] if line else ""
        if not self.url.startswith("https"):
            self.stop()
            raise AssertionError((folder / "pebble.log").read_text())

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Site:
    """What somebody who follows the page has: two scripts, a folder of uacme, a foldback."""

    def __init__(self, folder):
        self.folder, self.tokens, self.certs = folder, folder / "acme", folder / "uacme"
        self.tokens.mkdir()
        self.http_port = free_port()
        self.authority = Authority(folder, self.http_port)
        self.origin = Origin()
        self.fold = None
        self.command = trusting(folder, self.authority.cert) + "uacme -v -y -a %s -c %s" % (self.authority.url, self.certs)
        self.hook = self.script("challenge.sh")
        self.renew = self.script("renew.sh", "echo ran >> %s\n" % (folder / "ran"))

    def script(self, name, more=""):
        text = page_script(name).replace("uacme ", self.command + " ").replace("/etc/foldback/", "%s/" % self.folder)
        path = self.folder / name
        path.write_text(text.replace("#!/bin/sh\n", "#!/bin/sh\n" + more, 1))
        path.chmod(0o755)
        return path

    def run(self, words):
        env = dict(os.environ, FOLDBACK_ACME_DIR=str(self.tokens))
        done = subprocess.run(words.split(), capture_output=True, text=True, timeout=120, env=env)
        return done.returncode, done.stdout + done.stderr

    def start(self, name, tls=""):
        """The plain listener is first; `tls` are the listener with the certificate and the keys of `tls:`."""
        folder = self.folder / name
        folder.mkdir()
        secure = ""
        if tls:
            self.tls_port = free_port()
            secure = ', { address: "127.0.0.1:%d", tls: { cert: %s/%s/cert.pem, key: %s/private/%s/key.pem } }' % (
                self.tls_port, self.certs, NAME, self.certs, NAME)
        self.fold = Foldback(folder, "tls: { acme_dir: %s%s }\nservices: { app: { endpoints: [\"127.0.0.1:%d\"] } }\n"
                             % (self.tokens, tls, self.origin.port), listen='["127.0.0.1:%%d"%s]' % secure)
        text = pathlib.Path(self.fold.file).read_text()
        pathlib.Path(self.fold.file).write_text(text.replace(":%d\"" % self.fold.port, ":%d\"" % self.http_port, 1))
        self.fold.port = self.http_port
        return self.fold.start()

    def shown(self):
        """The serial number of what a client is shown, which it must trust for NAME; None: it does not."""
        context = ssl.create_default_context(cafile=str(self.authority.root))
        try:
            with socket.create_connection(("127.0.0.1", self.tls_port), 10) as plain, \
                    context.wrap_socket(plain, server_hostname=NAME) as s:
                return s.getpeercert()["serialNumber"]
        except OSError:
            return None

    def stop(self):
        if self.fold:
            self.fold.stop()
        self.origin.stop()
        self.authority.stop()


@pytest.fixture
def site(tmp_path):
    s = Site(tmp_path)
    yield s
    s.stop()


def test_a_certificate_is_had_served_and_renewed_as_the_page_says(site):
    fold = site.start("first")
    for step in ("new", "-h %s issue %s" % (site.hook, NAME)):
        code, said = site.run("%s %s" % (site.command, step))
        assert code == 0, said
    assert list(site.tokens.iterdir()) == []  # the hook takes its tokens away
    assert "acme_challenge" in fold.cli("events", "tail", "--from-offset", "0", "--type", "request", "--limit", "100", "--json").stdout
    fold.stop()

    # the renewal waits for the client to have seen the first certificate
    text = site.renew.read_text()
    gate = site.folder / "go"
    site.renew.write_text(text.replace("#!/bin/sh\n", "#!/bin/sh\nfor _ in $(seq 1200); do [ -e %s ] && break; sleep 0.05; done\n" % gate, 1))
    fold = site.start("second", ", renew_exec: %s" % site.renew)
    first = site.shown()
    assert first, fold.text()
    gate.touch()
    until(lambda: site.shown() not in (None, first), WAIT_S, "the renewed certificate is served: " + fold.text())
    until(lambda: "ended well" in fold.text(), WAIT_S, "the log says how the renewal ended")
    assert fold.get() == 200


def test_a_renewal_that_its_authority_refuses_changes_nothing_and_is_told(site):
    site.start("first")
    for step in ("new", "-h %s issue %s" % (site.hook, NAME)):
        code, said = site.run("%s %s" % (site.command, step))
        assert code == 0, said
    site.fold.stop()
    site.hook.write_text("#!/bin/sh\n[ \"$2\" = http-01 ]\n")  # nobody puts the token there
    fold = site.start("second", ", renew_exec: %s" % site.renew)
    first = site.shown()
    assert first, fold.text()
    until(lambda: "ended with code" in fold.text(), WAIT_S, "the log says that it failed")
    assert (site.folder / "ran").exists()
    assert site.shown() == first
