"""The checkers of tools/: the tree passes each of them, and each finds a violation that is planted."""
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
BUILD = pathlib.Path(os.environ.get("FB_BUILD", ROOT / "build"))
BINARY = pathlib.Path(os.environ.get("FOLDBACK_BIN", BUILD / "foldback"))


def run(tool, *arguments):
    done = subprocess.run([TOOLS / tool, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def tree(tmp_path):
    plant(tmp_path, {"tools/lengths.allow": "# empty\n", "doc/guide/x.md": "", "src/base/a.h": "", "test/t.c": ""})
    shutil.copy(TOOLS / "layers.txt", tmp_path / "tools")
    return tmp_path


# ---- the tree itself ----


def test_the_tree_keeps_its_layers():
    code, said = run("layers")
    assert code == 0, said


def test_the_tree_keeps_its_lengths():
    code, said = run("lengths")
    assert code == 0, said


def test_pure_folders_are_pure():
    if not list(BUILD.glob("src/control/**/*.o")):
        pytest.skip(f"{BUILD} is not built")
    code, said = run("purity", BUILD)
    assert code == 0, said


def test_tables_and_reference_agree():
    if not BINARY.exists():
        pytest.skip(f"{BINARY} is not built")
    code, said = run("reference", "--binary", BINARY)
    assert code == 0, said


def test_tours_name_what_exists():
    code, said = run("tours")
    assert code == 0, said


def test_each_tool_is_short():
    for tool in TOOLS.iterdir():
        if tool.is_file() and not tool.suffix:
            assert len(tool.read_text().splitlines()) <= 60, tool


# ---- layers ----


def test_layers_accepts_what_the_table_allows(tree):
    plant(tree, {"src/knob/a.c": '#include "base/a.h"\n#include "event/b.h"\n#include "knob/c.h"\n#include <time.h>\n',
                 "src/main/a.c": '#include "control/x.h"\n'})
    assert run("layers", "--root", tree)[0] == 0


@pytest.mark.parametrize("name, text, says", [
    ("src/analytics/a.c", '#include "control/engine.h"\n', "analytics must not include control"),
    ("src/base/b.h", '#  include "event/event.h"\n', "base must not include event"),
    ("src/gateway/b.c", '\n#include "stream/log.h"\n', "src/gateway/b.c:2: gateway must not include stream"),
    ("src/knob/b.c", '#include "knob.h"\n', "with its folder"),
    ("src/conf/b.c", '#include "knob/x_int.h"\n', "internal to knob"),
    ("src/new/b.c", "\n", "folder new has no row"),
])
def test_layers_finds(tree, name, text, says):
    plant(tree, {name: text})
    code, said = run("layers", "--root", tree)
    assert code == 1
    assert says in said


# ---- lengths ----

SHORT = "static int add(int a, int (*f)(int, int), struct x *c, int d, int e)\n{\n    return a;\n}\n"


def function(lines):
    return "int long_one(void)\n{\n" + "    work();\n" * (lines - 3) + "}\n"


def test_lengths_accepts_what_is_short(tree):
    plant(tree, {"src/base/b.c": SHORT + "\n" + function(60) + "\nvoid say(const char *fmt, ...) FB_PRINTF(1, 2)\n{\n}\n"})
    code, said = run("lengths", "--root", tree)
    assert (code, said) == (0, "lengths: 0 errors, 0 warnings\n")


def test_lengths_warns_above_sixty_lines(tree):
    plant(tree, {"src/base/b.c": function(61)})
    code, said = run("lengths", "--root", tree)
    assert code == 0
    assert "warning: src/base/b.c:1: long_one has 61 lines" in said


@pytest.mark.parametrize("text, says", [
    (function(101), "long_one has 101 lines"),
    ("int x;\n" * 801, "801 lines, the most is 800"),
    ("// " + "x" * 98 + "\n", ":1: 101 characters"),
    (SHORT.replace("int e", "int e,\n               int f"), "add has 6 parameters"),
])
def test_lengths_finds(tree, text, says):
    plant(tree, {"test/unit/b.c": text})
    code, said = run("lengths", "--root", tree)
    assert code == 1
    assert says in said


def test_lengths_reads_its_allow_list(tree):
    plant(tree, {"src/base/b.c": function(101), "tools/lengths.allow": "src/base/b.c:long_one  a table\n"})
    assert run("lengths", "--root", tree)[0] == 0


# ---- purity ----


def compiled(tmp_path, folder, text):
    plant(tmp_path, {f"{folder}.c": text})
    target = tmp_path / "build" / "src" / folder
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O1", "-fPIC", "-w", "-c", tmp_path / f"{folder}.c", "-o",
                    target / "a.c.o"], check=True)
    return tmp_path / "build"


def test_purity_accepts_pure_code(tmp_path):
    build = compiled(tmp_path, "control", """
        #include <math.h>
        #include <stdlib.h>
        #include <string.h>
        static const char *const names[] = {"a", "b"};  /* in .data.rel.ro: it never changes */
        const char *name(int i) { return names[i]; }
        double f(double x, void *a, const void *b) { memcpy(a, b, 5000); return pow(x, sqrt(x)) + (malloc(3) != 0); }
        """)
    code, said = run("purity", build)
    assert code == 0, said


@pytest.mark.parametrize("text, says", [
    ("#include <time.h>\nlong f(void) { return time(0); }", "calls time"),
    ("#include <stdlib.h>\nint f(void) { return rand(); }", "calls rand"),
    ("#include <stdio.h>\nvoid f(void) { puts(\"x\"); }", "calls puts"),
    ("#include <unistd.h>\nlong f(void) { return write(1, 0, 0); }", "calls write"),
    ("long fb_mono_us(void); long f(void) { return fb_mono_us(); }", "calls fb_mono_us"),
    ("static int count; int f(void) { return ++count; }", "count is a global that changes"),
    ("int level = 3;", "level is a global that changes"),
    ("static __thread int n; int f(void) { return ++n; }", "n is a global that changes"),
    ("const char *name = \"x\";", "name is a global that changes"),
])
def test_purity_finds(tmp_path, text, says):
    code, said = run("purity", compiled(tmp_path, "analytics", text))
    assert code == 1
    assert says in said


def test_purity_without_a_build_is_an_error(tmp_path):
    code, said = run("purity", tmp_path)
    assert code == 1
    assert "build first" in said


# ---- reference ----

ROW = 'PARAM(limits, line_bytes, bytes, .def = "8KiB",\n      .what = "Longest (really), request line.", .why = "Memory.")\n'


def printer(tree, text):
    binary = tree / "foldback"
    binary.write_text(f"#!/bin/sh\nprintf '%s' '{text}'\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    return "--root", tree, "--binary", binary


def test_reference_accepts_what_agrees(tree):
    plant(tree, {"src/conf/params.def": ROW, "doc/reference/config.md": "# x", "test/t.c": "p.limits_line_bytes",
                 "src/output/m.def": 'METRIC(COUNTER, X, "foldback_x_total", "", "1", "All x.")\n', "doc/guide/x.md": "`foldback_x_total`"})
    code, said = run("reference", *printer(tree, "# x"))
    assert code == 0, said


@pytest.mark.parametrize("files, says", [
    ({"doc/reference/config.md": "# old"}, "differs from"),
    ({"src/conf/params.def": ROW.replace("line_bytes", "other_bytes")}, "PARAM other_bytes is named in no test"),
    ({"src/conf/params.def": ROW.replace('"Longest (really), request line."', '""')}, "PARAM line_bytes has no meaning"),
    ({"src/event/reasons.def": 'REASON(LOOP, MOVED_ON, 9, 0, "", "It moved on.")\n'}, "REASON MOVED_ON is named in no test"),
    ({"src/event/reasons.def": 'REASON(LOOP, LINE_BYTES, 9, 0, "", "")\n'}, "REASON LINE_BYTES has no meaning"),
    ({"src/output/m.def": 'METRIC(COUNTER, X, "foldback_y_total", "", "1", "All y.")\n'}, "foldback_y_total is named in no"),
    ({"src/knob/knobs.def": 'KNOB(ROUTE, LIMIT, 1, "x", .min = 1,\n .what = "")\n'}, "KNOB LIMIT has no meaning"),
])
def test_reference_finds(tree, files, says):
    plant(tree, {"src/conf/params.def": ROW, "doc/reference/config.md": "# x", "test/t.c": "line_bytes"})
    plant(tree, files)
    code, said = run("reference", *printer(tree, "# x"))
    assert code == 1
    assert says in said


def test_the_generated_reference_is_no_mention(tree):
    plant(tree, {"src/conf/params.def": ROW, "doc/reference/config.md": "line_bytes"})
    assert run("reference", *printer(tree, "line_bytes"))[0] == 1


# ---- tours ----


@pytest.mark.parametrize("text, says", [
    ("see `base/b.c:add`", "tours: ok"),
    ("see `src/base/b.c:add()`", "tours: ok"),
    ("first\nsee `base/b.c:subtract`", "ARCHITECTURE.md:2: base/b.c has no subtract"),
    ("see `base/c.c:add`", "there is no base/c.c"),
])
def test_tours(tree, text, says):
    plant(tree, {"src/base/b.c": SHORT, "ARCHITECTURE.md": text})
    code, said = run("tours", "--root", tree)
    assert says in said
    assert code == (0 if says.endswith("ok") else 1)


def test_a_missing_tour_is_an_error(tree):
    assert run("tours", "--root", tree)[0] == 1


# ---- dev ----


def test_dev_is_a_clean_script():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", ROOT / "dev"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_dev_installs_each_program_that_a_test_looks_for():
    """With the package that brings it."""
    package = {"chromium": "chromium", "chromium-browser": "chromium", "node": "nodejs", "promtool": "prometheus", "prometheus": "prometheus",
               "nghttpd": "nghttp2-server", "mkfs.ext4": "e2fsprogs", "shellcheck": "shellcheck",
               "redis-server": "redis-server", "uacme": "uacme", "cc": "build-essential", "unshare": "util-linux", "nsenter": "util-linux"}
    listed = set()
    for names in re.findall(r'^APT\w*="([^"]*)"', (ROOT / "dev").read_text(), re.M):
        listed |= set(names.split())
    asked = {n for f in (ROOT / "test").rglob("test_*.py") for n in re.findall(r'which\("([\w.-]+)"\)', f.read_text())}
    assert {n for n in asked if package.get(n) not in listed} == set()


def test_dev_installs_each_library_that_the_build_asks_for():
    package = {"threads": "build-essential", "libzstd": "libzstd-dev", "libxxhash": "libxxhash-dev", "jansson": "libjansson-dev",
               "libfyaml": "libfyaml-dev", "libcares": "libc-ares-dev", "sqlite3": "libsqlite3-dev", "libcrypto": "libssl-dev",
               "openssl": "libssl-dev", "libseccomp": "libseccomp-dev", "libcrypt": "libcrypt-dev", "libnghttp2": "libnghttp2-dev", "libpcre2-8": "libpcre2-dev", "ncursesw": "libncurses-dev",
               "cmocka": "libcmocka-dev", "zlib": "zlib1g-dev", "libbrotlienc": "libbrotli-dev",
               "hiredis": "libhiredis-dev", "libcurl": "libcurl4-openssl-dev"}
    listed = set((re.search(r'^APT="([^"]*)"', (ROOT / "dev").read_text(), re.M)[1]).split())
    asked = set(re.findall(r"\bdependency\('([\w.-]+)'", (ROOT / "meson.build").read_text()))
    assert len(asked) > 10 and {n for n in asked if package.get(n) not in listed} == set()
