#!/usr/bin/env python3
"""Runs every suite and prints one sum.  Standard library only.

Rows: each builds (if needed) and runs one suite and yields (passed, failed, names of failures).  C suites speak
TAP; a program that ends badly, times out or prints no plan is one failure.  pytest speaks JUnit XML.
"""
import argparse
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.chdir(ROOT)
ASAN = ["--native-file", "test/clang.ini", "-Db_sanitize=address,undefined", "-Db_lundef=false",
        "-Doptimization=1"]
TSAN = ["--native-file", "test/clang.ini", "-Db_sanitize=thread", "-Db_lundef=false", "-Doptimization=1"]
ENV = {"CMOCKA_MESSAGE_OUTPUT": "TAP", "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
       "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=1:suppressions=" + os.path.abspath("test/tsan.supp")}
results = []  # (suite, passed, failed, skipped)
failures = []
unsteady = []  # failed once beside others, passed alone: printed at the end, to be looked into
AGAIN = 5  # so many failures of one run get a second try; more are no accident
NO_ACCIDENT = re.compile("Sanitizer|runtime error|promise|did not stop")


def note(text):
    print(text, flush=True)


def fuzzers():
    return sorted(f.removesuffix(".c") for f in os.listdir("test/fuzz") if f.endswith("_fuzz.c"))


def build_now(folder, options, before=()):
    if not os.path.exists(f"{folder}/build.ninja"):
        code, text = run_beside([*before, "meson", "setup", folder, *options])
        if code:
            return text[-4000:]
    targets = [f"test/fuzz/{p}" for p in fuzzers()] if folder == "build-fuzz" else []  # of that tree nothing else is run
    code, text = run_beside([*before, "ninja", "-C", folder, *(["-j2"] if before else []), *targets])
    return "" if code == 0 else text[-4000:]


building = set()  # process groups that build now
still = threading.RLock()  # held while they stand


def run_beside(command):
    """-> (exit code, what it said)"""
    with still:
        p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                             start_new_session=True)
        building.add(p)
    try:
        text = p.communicate()[0]
        return p.returncode, text
    finally:
        building.discard(p)


def signal_builds(number):
    for p in list(building):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(p.pid, number)


@contextlib.contextmanager
def quiet():
    """What is built beside the rows stands still: tests that measure, and second tries, have the machine for themselves."""
    with still:
        signal_builds(signal.SIGSTOP)
        try:
            yield
        finally:
            signal_builds(signal.SIGCONT)


early = {}  # folder -> the build that runs beside rows which mostly wait


def build(folder, options):
    if folder in early:
        early.pop(folder).result()  # what it could not do is tried again, and told, below
    return build_now(folder, options)


def build_early(wanted):
    """One after the other, with what the rows leave of the cores."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    for folder, options in wanted:
        early[folder] = pool.submit(build_now, folder, options, ("nice", "-n", "19"))
    pool.shutdown(wait=False)


def run_tap(name, command, timeout_s, env):
    """One C test program -> (name, passed, failed, text of failures)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s,
                              env={**os.environ, **ENV, **env}, cwd=ROOT)
        out, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as e:
        out = (e.stdout or b"").decode(errors="replace")
        code = f"time-out after {timeout_s} s"
    passed = len(re.findall(r"^ok ", out, re.M))
    # cmocka writes a skipped test as "not ok N # SKIP name": it neither passed nor failed
    skipped = len(re.findall(r"^(?:not )?ok \d+ # SKIP", out, re.M))
    passed -= len(re.findall(r"^ok \d+ # SKIP", out, re.M))
    bad = re.findall(r"^not ok (?!\d+ # SKIP).*$", out, re.M)
    failed = len(bad)
    planned = sum(int(n) for n in re.findall(r"^1\.\.(\d+)", out, re.M))
    if not planned or passed + failed + skipped != planned or (code != 0 and not failed):
        failed += 1
        bad.append(f"ended with {code}, {passed + failed + skipped - 1} of {planned} tests")
    return name, passed, failed, ("\n".join(bad) + "\n" + out[-3000:]) if failed else ""


# Units that wait for other threads or for a server.  All others are the same each time, what fails there fails again; and
# what a kill or a power cut lost once (stream/kill, stream/power) is a broken promise.
WAITS = re.compile("stream/(kafka|source|resend|letters|operational)|fleet/lease|main/(brain_query|fleet_link)|io/(busy_poll|dns|socket)")


def again_if_it_waits(done, test, args, timeout_s, env):
    """A second try, behind the others and alone, for an assertion in a program that waits; a crash, a time-out or a report has none."""
    name, _, failed, text = done
    if not (failed and WAITS.search(name)) or NO_ACCIDENT.search(text) or re.search("time-out after|ended with", text):
        return done
    with quiet():
        again = run_tap(name, [*test["cmd"], *args], timeout_s, {**test.get("env", {}), **(env or {})})
    if again[2]:
        return done
    unsteady.append(f"UNSTEADY {name}: {text.splitlines()[0][:160]}")
    note("   " + unsteady[-1])
    return again


def without_bands(done):
    """A program that ran to its plan is one pass, whatever it measured: only the sanitizers are asked."""
    name, passed, failed, text = done
    broken = failed and not (passed and re.search(r"^1\.\.\d+", text, re.M) and not re.search(
        "runtime error|Sanitizer|time-out|ended with", text))
    return name, int(not broken), int(bool(broken)), text if broken else ""


SLOWEST = ("stream/kafka", "stream/compact", "stream/source", "stream/power", "fleet/lease", "stream/kill")  # of the units; they wait


def c_suite(suite, folder, options, wanted, timeout_s=300, env=None, jobs=2, args=(), has_bands=True):
    start = time.time()
    broken = build(folder, options)
    if broken:
        record(suite, 0, 1, [f"{folder} does not build:\n{broken}"], start)
        return
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", folder], capture_output=True,
                                      text=True, check=True).stdout)
    chosen = [t for t in tests if set(t["suite"]) & {f"foldback:{w}" for w in wanted}]
    if not chosen:
        record(suite, 0, 1, [f"no test of {wanted} in {folder}"], start)
        return
    chosen.sort(key=lambda t: not t["name"].endswith(SLOWEST))  # begin first, so that nobody waits for them at the end
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        done = list(pool.map(lambda t: run_tap(t["name"], [*t["cmd"], *args], timeout_s,
                                               {**t.get("env", {}), **(env or {})}), chosen))
    done = [again_if_it_waits(d, t, args, timeout_s, env) for d, t in zip(done, chosen)]
    if not has_bands:
        done = [without_bands(d) for d in done]
    record(suite, sum(d[1] for d in done), sum(d[2] for d in done), [f"{d[0]}: {d[3]}" for d in done if d[2]], start)


def pytest_cases(name, args, timeout_s, env):
    """One run of pytest -> (its cases, what it printed, whether time ran out); no cases: it did not come to its end."""
    stem = f"build/{name.replace('/', '-')}"
    xml, log = os.path.abspath(stem + ".xml"), stem + ".log"
    if os.path.exists(xml):
        os.remove(xml)
    with open(log, "w") as out:
        run = subprocess.Popen(["build/venv/bin/pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={xml}", *args],
                               stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                               start_new_session=True)
        is_late = False
        try:
            run.wait(timeout_s)
        except subprocess.TimeoutExpired:
            is_late = True
            note(f"{name}: time-out after {timeout_s} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)  # its workers, and what they started and left behind
            run.wait()
    with open(log, errors="replace") as f:
        text = f.read()
    return list(ET.parse(xml).getroot().iter("testcase")) if os.path.exists(xml) else [], text, is_late


def is_bad(case):  # of JUnit XML
    return case.find("failure") is not None or case.find("error") is not None


def second_try(suite, cases, env):
    """The failed tests of whole programs on a busy machine, once more and alone -> those that passed now.
    A report of a sanitizer, a broken promise or a program that does not stop has no second try."""
    texts = {(c.get("classname"), c.get("name")): " ".join(e.get("message", "") + (e.text or "") for e in c)
             for c in cases if is_bad(c)}
    if not texts or len(texts) > AGAIN or any(NO_ACCIDENT.search(t) for t in texts.values()):
        return set()
    files = [f"{where.replace('.', '/')}.py::{name}" for where, name in texts]
    with quiet():
        again, text, is_late = pytest_cases(f"{suite}, second try", files, 600, env)
    bad = {(c.get("classname"), c.get("name")) for c in again if is_bad(c)}
    passed = {(c.get("classname"), c.get("name")) for c in again} & set(texts) - bad
    if is_late or NO_ACCIDENT.search(text):
        return set()
    for key in sorted(passed):
        unsteady.append(f"UNSTEADY {suite}: {key[1]}: {texts[key].strip().splitlines()[0][:160]}")
        note("   " + unsteady[-1])
    return passed


def py_suite(suite, paths, timeout_s=600, env=None, mark="", workers=1, has_second_try=False):
    """With workers: files side by side first, then the tests marked `alone`, one after the other and with no build beside them."""
    start = time.time()
    runs = [(suite, mark, [])]
    if workers > 1:
        both = f"({mark}) and " if mark else ""
        runs = [(suite, f"{both}not alone", ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"]),
                (f"{suite}, alone", f"{both}alone", [])]
    passed = failed = skipped = 0
    texts = []
    for name, chosen, args in runs:
        with quiet() if name != suite else contextlib.nullcontext():
            case, text, is_late = pytest_cases(name, [*args, *(["-m", chosen] if chosen else []), *paths], timeout_s, env)
        bad = {(c.get("classname"), c.get("name")) for c in case if is_bad(c)}
        if has_second_try and not is_late:
            bad -= second_try(name, case, env)
        bad = len(bad)
        skips = [c for c in case if c.find("skipped") is not None]
        for c in skips:
            note(f"   skipped: {c.get('name')}: {c.find('skipped').get('message', '')[:150]}")
        if is_late or not case and not (name != suite and re.search("deselected|no tests ran", text)):
            bad = max(1, bad)
        names = {(c.get("classname"), c.get("name")) for c in case}
        passed, failed, skipped = passed + max(0, len(names) - bad - len(skips)), failed + bad, skipped + len(skips)
        if bad:  # by name first: the end of the output may be warnings
            names = [n for n in re.findall(r"^(?:FAILED|ERROR) .*$", text, re.M)] or ["no test is named as failed"]
            texts.append("\n".join([*names, text[-6000:]]))
    record(suite, passed, failed, texts, start, skipped)


def e2e(folder, suffix="", env=None, mark=""):
    """Against the whole program, and against the data plane without a brain, whose events the tests can read."""
    wide = {**(env or {}), "FB_BUILD": os.path.abspath(folder)}
    driver = {**wide, "FB_E2E": "driver", "GATEWAY_DRIVER": os.path.abspath(f"{folder}/test/e2e/gateway_driver")}
    whole = {**wide, "FB_E2E": "whole", "FOLDBACK_BIN": os.path.abspath(f"{folder}/foldback")}
    os.environ.pop("FOLDBACK_BIN", None)  # conftest.py takes the driver when it is not set
    py_suite(f"e2e{suffix}", ["test/e2e"], timeout_s=900, env=whole, mark=mark, workers=3, has_second_try=True)
    py_suite(f"e2e, gateway alone{suffix}", ["test/e2e"], timeout_s=900, env=driver, mark=mark, workers=3,
             has_second_try=True)


def record(suite, passed, failed, texts, start, skipped=0):
    results.append((suite, passed, failed, skipped))
    failures.extend((suite, t) for t in texts)
    also = f", {skipped} skipped" if skipped else ""
    note(f"-- {suite}: {passed} passed, {failed} failed{also} ({time.time() - start:.0f} s)")
    for t in texts:
        note("   " + t.strip().replace("\n", "\n   "))


FUZZ_OPTIONS = ["--native-file", "test/clang.ini", "-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false",
                "-Doptimization=1", "-Dc_args=-fsanitize=fuzzer-no-link"]


def fuzz_one(stem, seconds):
    """-> (row, 0 or 1 failed, text, begin)"""
    begin = time.time()
    work, corpus = f"build-fuzz/corpus-{stem}", f"test/fuzz/corpus/{stem}"
    os.makedirs(work, exist_ok=True)
    try:
        done = subprocess.run([f"build-fuzz/test/fuzz/{stem}_fuzz", f"-max_total_time={seconds}", "-print_final_stats=1",
                               "-rss_limit_mb=2048", work] + ([corpus] if os.path.isdir(corpus) else []),
                              capture_output=True, text=True, errors="replace", timeout=seconds + 120)
    except subprocess.TimeoutExpired:
        return f"fuzz/{stem}", 1, f"no end after {seconds + 120} s: an input that takes for ever", begin
    rate = re.search(r"average_exec_per_sec:\s+(\d+)", done.stderr)
    return (f"fuzz/{stem} ({rate.group(1) if rate else '?'}/s)", int(done.returncode != 0),
            done.stderr[-3000:] if done.returncode else "", begin)


def fuzz(seconds, names):
    """One on each core."""
    start = time.time()
    broken = build("build-fuzz", FUZZ_OPTIONS)
    if broken:
        record("fuzz", 0, 1, [broken], start)
        return
    stems = [p.removesuffix("_fuzz") for p in fuzzers()]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for row, failed, text, begin in pool.map(lambda s: fuzz_one(s, seconds),
                                                 [s for s in stems if not names or s in names]):
            record(row, 1 - failed, failed, [text] if failed else [], begin)


def bench():
    for root, _, files in os.walk("build/test/bench"):
        for f in sorted(files):
            path = os.path.join(root, f)
            if f.endswith("_bench") and os.access(path, os.X_OK):
                note(f"== {f}")
                subprocess.run([path], check=False)


def main():
    ap = argparse.ArgumentParser(description="runs the suites of foldback")
    ap.add_argument("--only", default="", help="suites by name, comma separated: unit,sim,tools,e2e,fault,peer,asan,tsan,clang,fuzz")
    ap.add_argument("--long", action="store_true", help="50 seeds instead of 10, 500 crash rounds, 60 s of fuzzing")
    ap.add_argument("--bench", action="store_true")
    ap.add_argument("--fuzz", action="store_true")
    ap.add_argument("--short", action="store_true")
    ap.add_argument("--seconds", type=int, default=0)
    ap.add_argument("names", nargs="*")
    a = ap.parse_args()
    only = set(filter(None, a.only.split(",")))
    long_env = {"FB_LONG": "1"} if a.long else {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays behind
    binary = os.path.abspath("build/foldback")
    pyenv = {"FOLDBACK_BIN": binary, "FB_BUILD": os.path.abspath("build"), **long_env}
    start = time.time()
    if a.bench:
        return bench()
    if a.fuzz:
        fuzz(a.seconds or (5 if a.short else 60), a.names)
    else:
        def want(name):
            return not only or name in only
        if want("tools"):
            py_suite("tools", ["test/tools"], env=pyenv)
        if want("unit"):
            c_suite("unit (gcc)", "build", [], ["unit"], jobs=4)
        if want("sim"):
            c_suite("sim", "build", [], ["sim"], timeout_s=3600 if a.long else 300, env=long_env,
                    args=["--long"] if a.long else [])
        if want("e2e"):
            e2e("build", env=long_env)
        build_early([row[1:] for row in (("asan", "build-asan", ASAN), ("tsan", "build-tsan", TSAN),
                                         ("fuzz", "build-fuzz", FUZZ_OPTIONS)) if want(row[0])])
        if want("fault"):
            py_suite("fault", ["test/fault"], env=pyenv, timeout_s=3600 if a.long else 600, workers=2,
                     has_second_try=True)
        if want("peer"):
            py_suite("peer", ["test/peer"], env=pyenv, timeout_s=1800, workers=3, has_second_try=True)
        if want("asan"):
            c_suite("unit (clang, ASan + UBSan)", "build-asan", ASAN, ["unit"], timeout_s=600, jobs=4)
            c_suite("sim (clang, ASan + UBSan)", "build-asan", ASAN, ["sim"], timeout_s=900, args=["--seeds", "2"],
                    env={"FB_SIM_SEEDS": "2"}, has_bands=False)
            e2e("build-asan", " (ASan + UBSan)", {**ENV, **long_env}, "short")
        if want("tsan"):
            c_suite("unit (clang, TSan)", "build-tsan", TSAN, ["unit"], timeout_s=600, jobs=4)
            e2e("build-tsan", " (TSan)", {**ENV, **long_env}, "short")
        if want("fuzz"):
            fuzz(60 if a.long else 5, [])
    passed = sum(r[1] for r in results)
    failed = sum(r[2] for r in results)
    note(f"\nall suites in {time.time() - start:.0f} s")
    for suite, text in failures:
        note(f"FAILED {suite}: {text.strip().splitlines()[0][:160] if text.strip() else ''}")
    for line in unsteady:
        note(line)
    skipped = sum(r[3] for r in results)
    note(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        signal_builds(signal.SIGKILL)
