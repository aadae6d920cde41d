# SPDX-License-Identifier: Apache-2.0
"""Every configuration with services in README and doc/guide is one that foldback accepts."""
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = os.environ.get("FOLDBACK_BIN", str(ROOT / "build/foldback"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "doc/guide").rglob("*.md"))]


def full_configs():
    for page in PAGES:
        for i, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)):
            if re.search(r"^services:", block, re.M) and "..." not in block and "…" not in block:
                yield pytest.param(block, id="%s-%d" % (page.stem, i))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    f = tmp_path_factory.mktemp("docs")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                    "/CN=site", "-keyout", f / "site.key", "-out", f / "site.pem"], check=True, capture_output=True)
    return f


@pytest.mark.parametrize("text", list(full_configs()))
def test_a_configuration_in_the_documents_is_accepted(folder, text):
    names = set(re.findall(r"(?:cert|key|ca|client_ca|ocsp|secret_file|token_file|ca_file|cert_file|key_file|password_file): ([\w./-]+\.(?:pem|key|crt|der|txt|token|password))", text))
    for name in names:  # whatever file it names is there
        path = folder / Path(name).name
        if not path.exists():
            path.write_bytes((folder / ("site.key" if name.endswith(".key") else "site.pem")).read_bytes())
        text = text.replace(name, str(path))
    for name in re.findall(r"file: ([\w./-]+\.htpasswd)", text):
        path = folder / Path(name).name
        path.write_text("ann:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n")
        text = text.replace(name, str(path))
    for name in re.findall(r"file://([\w./-]+)", text):
        path = folder / Path(name).name
        path.write_text("[127.0.0.1:3000]\n")
        text = text.replace("file://" + name, "file://" + str(path))
    if not re.search(r"^listen:", text, re.M):  # a part of a file: the rest is added
        text = 'listen: ["127.0.0.1:8080"]\n' + text
    if not re.search(r"^routes:", text, re.M):
        text += "routes: [{ match: /, service: %s }]\n" % re.search(r"^services:\s*\{?\s*(\w+)", text, re.M).group(1)
    file = folder / "foldback.yaml"
    file.write_text(text)
    p = subprocess.run([BIN, "config", "check", str(file)], capture_output=True, text=True, timeout=20)
    assert p.returncode == 0, p.stdout + p.stderr


def test_there_are_such_configurations():
    assert len(list(full_configs())) >= 5
