# SPDX-License-Identifier: Apache-2.0
"""Every command line that foldback, its pages and its dashboard tell a person to type exists, with its flags."""
import functools
import glob
import os
import re
import subprocess

import pytest
from cli_util import ROOT, program

PLACES = ["README.md", "ARCHITECTURE.md", "doc/**/*.md", "src/**/*.c", "src/**/*.def", "web/src/*.js", "deploy/**/*"]
# In prose a command stands in backticks; the dashboard gives it to CopyCli, pages have it at the begin of a line of code.
SAID = re.compile(r'`foldback ([^`\n]+)`|CopyCli\}? text=[{"`]+foldback ([^"`}]+)|^ *(?:\$ )?foldback ([a-z].*)$', re.M)


@functools.lru_cache
def commands():
    """{"events tail": {"--limit", ...}}, flags of every command under ""."""
    text = subprocess.run([program(), "reference", "commands"], capture_output=True, text=True, check=True).stdout
    found, now = {}, ""
    for line in text.splitlines():
        if m := re.match(r"## foldback (.+)|## Flags of every", line):
            now = m[1] or ""
            found[now] = set()
        elif m := re.match(r"\| `(--[a-z-]+)", line):
            found[now].add(m[1])
    return found


def mentions():
    for pattern in PLACES:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern), recursive=True)):
            if not os.path.isfile(path) or path.endswith((".svg", "reference/commands.md")):
                continue
            with open(path, encoding="utf-8", errors="replace") as f:
                text = f.read()
            if path.endswith((".c", ".def")):  # a string may go on in the next line of C
                text = re.sub(r'"\s*\n\s*"', "", text)
            for m in SAID.finditer(text):
                is_code_line = m[3] is not None
                if is_code_line and not path.endswith(".md"):
                    continue
                yield os.path.relpath(path, ROOT), (m[1] or m[2] or m[3]).strip(), is_code_line


def complaint(said, is_code_line):
    said = re.split(r"[|>#;&]|\\n| {2,}", said)[0].strip()
    words = said.split()
    known = commands()
    name = next((n for n in sorted(known, key=len, reverse=True) if n and words[:len(n.split())] == n.split()), None)
    if words and words[0].startswith("-"):
        name = ""
    if name is None:  # a line of prose may begin with the name of the program
        is_open = is_code_line or words[0] in ("help", "COMMAND", "...") or words[0][0] in "%$_"
        return None if is_open else "no such command"
    flags = {re.split(r"[=`,.)]", w)[0] for w in words if w.startswith("--")} - {"--"}
    unknown = flags - known[name] - known[""]
    return "no flag %s" % ", ".join(sorted(unknown)) if unknown else None


def test_the_reference_was_understood():
    assert len(commands()) > 30 and "--json" in commands()[""] and "--follow" in commands()["events tail"]


def test_a_wrong_mention_is_found():
    assert complaint("status --endpoints", False) == "no flag --endpoints"
    assert complaint("bugreport", False) == "no such command"
    assert complaint("events tail --limit 10 | head", False) is None


@pytest.mark.parametrize("place", sorted({p for p, _, _ in mentions()}))
def test_what_is_said_to_be_typed_exists(place):
    wrong = ["foldback %s: %s" % (said, why) for p, said, code in mentions() if p == place and (why := complaint(said, code))]
    assert wrong == []
