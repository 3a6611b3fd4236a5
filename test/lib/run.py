#!/usr/bin/python3
"""Runs the tests by groups and counts every single case: run.py [--long] [--list] [NAME…]

NAME is a group (build unit lint flow live fuzz dist), a lint check (layers format tidy …) or a part of a test's name.
The last line is `N passed, N failed`; exit 1 when one failed. Called by ./dev test, which sees to the packages.
What can't run (its build failed, its server did not start) counts as failed.
"""
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
SERVERS = str(ROOT / "tools/servers/servers")
PYTHON = "/usr/bin/python3"
JOBS = str(os.cpu_count() or 2)
GROUPS = ["build", "unit", "lint", "flow", "live", "fuzz", "dist"]
UNIT_BUILDS, FLOW_BUILDS, LIVE_BUILD, FUZZ_BUILD, TIDY_BUILD = ["gcc", "asan"], ["asan", "tsan"], "gcc", "fuzz", "asan"
CHECKS = ["layers", "format", "tidy", "cppcheck", "shell", "python", "reference"]
# Seconds a step may take before it is stopped and counted as failed.
LIMIT = {"build": 900, "unit": 600, "lint": 1800, "flow": 1500, "live": 1500, "fuzz": 600, "long": 5400}
BESIDE = "beside"  # threads of this name run what only needs the processor, and leave it to the tests that wait
# A session of its own is an own group to Linux, which has a nice value, too.
POLITE = ["sh", "-c", 'echo 15 2>/dev/null >/proc/self/autogroup; exec nice -n 15 "$@"', "sh"]
FLOW_PARTS = 2  # of each build, all at once: these tests wait more than they work

# Exit codes that the program never uses itself, and a file for every report.
SANITIZER = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=86:log_path={log}",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=86:log_path={log}",
    "TSAN_OPTIONS": "exitcode=86:second_deadlock_stack=1:log_path={log}:suppressions={root}/test/lib/tsan.supp",
    "LSAN_OPTIONS": "suppressions={root}/test/lib/lsan.supp:print_suppressions=0",
}


class Tally:
    """Counts, by group, and what the summary file needs."""

    def __init__(self):
        self.passed = self.failed = 0
        self.lines = []
        self.servers = []  # that the live tests ran against
        self.beside = {}  # checks that run beside the tests: futures of their results
        self.lock = threading.Lock()

    def add(self, title, passed, failed, seconds, details="", skipped=0):
        more = f", {skipped} left for --long" if skipped else ""
        line = f"{'ok  ' if not failed else 'FAIL'} {title:<18} {passed} passed, {failed} failed{more} ({seconds:.1f} s)"
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.lines.append(line)
            if details.strip():
                print(details.rstrip())
            print(line, flush=True)


alive = set()  # process groups to be ended when we are


def interrupted(number, frame):
    for group in list(alive):
        try:
            os.killpg(group, signal.SIGTERM)
        except ProcessLookupError:
            pass
    print("interrupted")
    os._exit(130)


def shell(command, limit, env=None, log=None):
    """Runs a command to its end, or stops it and its children; returns (exit code, output)."""
    begin = time.monotonic()
    if threading.current_thread().name.startswith(BESIDE):
        command = [*POLITE, *command]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                               text=True, errors="replace")
    alive.add(process.pid)
    try:
        output, code = process.communicate(timeout=limit)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0] + f"\nstopped after {time.monotonic() - begin:.0f} s\n"
        code = 124
    finally:
        alive.discard(process.pid)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(output)
    return code, output


def tail(text, lines=60):
    return "\n".join(text.rstrip().splitlines()[-lines:])


# --- builds ------------------------------------------------------------------------------------------

class Builds:
    """Builds on demand, each once, each counted as one case: no warning, no error."""

    def __init__(self, tally):
        self.tally, self.done = tally, {}

    def ok(self, name):
        if name not in self.done:
            begin = time.monotonic()
            code, output = shell(["./dev", "build", name], LIMIT["build"], {"DEV_JOBS": JOBS}, BUILD / f"log/build-{name}.log")
            if code == 0 and re.search(r"\bwarning: ", output):
                code = 1
            self.done[name] = code == 0
            errors = [line for line in output.splitlines() if re.search(r"error|warning|FAILED", line)]
            details = "" if code == 0 else "\n".join(errors[:30]) or tail(output)
            self.tally.add(f"build {name}", int(code == 0), int(code != 0), time.monotonic() - begin, details)
        return self.done[name]


# --- unit tests: TAP from meson ----------------------------------------------------------------------

def tap_counts(text):
    """(passed, failed, skipped, failing lines) of one TAP output; a plan that was not kept is a failure."""
    passed = failed = skipped = 0
    bad, plan = [], None
    for line in text.splitlines():
        if match := re.match(r"1\.\.(\d+)", line):
            plan = int(match[1])
        elif line.startswith("not ok"):
            failed += 1
            bad.append(line)
        elif line.startswith("ok"):
            if "# SKIP" in line:
                skipped += 1
            else:
                passed += 1
        elif line.startswith("#") and failed:
            bad.append(line)
    if plan is None or passed + failed + skipped < plan:
        failed += 1 if plan is None else plan - passed - failed - skipped
        bad.append("the test ended before its plan did")
    return passed, failed, skipped, bad


def unit(tally, builds, pattern, long):
    files = len(list((ROOT / "test/unit").rglob("*_test.c")))
    for name in UNIT_BUILDS:
        begin = time.monotonic()
        if not builds.ok(name):
            tally.add(f"unit {name}", 0, max(files, 1), 0, "not run: the build failed")
            continue
        path = BUILD / name / "meson-logs/testlog.json"
        path.unlink(missing_ok=True)
        code, output = shell(["meson", "test", "-C", f"build/{name}", "--no-rebuild", "--num-processes", JOBS, "-q"],
                             LIMIT["unit"], sanitizer_env(f"unit-{name}"), BUILD / f"log/unit-{name}.log")
        passed = failed = skipped = 0
        details = []
        results = path.read_text().splitlines() if path.exists() else []
        for test in map(json.loads, results):
            if pattern and not re.search(pattern, test["name"] + test.get("stdout", "")):
                continue
            counts = tap_counts(test.get("stdout", ""))
            bad = counts[1]
            if not bad and test["result"] not in ("OK", "SKIP"):
                bad = 1
            passed, failed, skipped = passed + counts[0], failed + bad, skipped + counts[2]
            if bad:
                details += [f"--- {test['name']}: {test['result']}"] + counts[3] + [tail(test.get("stderr", ""), 40)]
        if not results and code:
            failed, details = failed + 1, [tail(output)]
        reports = sanitizer_reports(f"unit-{name}")
        tally.add(f"unit {name}", passed, failed or len(reports), time.monotonic() - begin,
                  "\n".join(details + reports), skipped)


# --- pytest: flow and live ---------------------------------------------------------------------------

def sanitizer_env(name):
    folder = BUILD / "log/sanitizer" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return {key: value.format(log=folder / "report", root=ROOT) for key, value in SANITIZER.items()}


# What the search for leaks at a program's end says when a test kills the program right then.
KILLED_AT_ITS_END = re.compile(r"(==\d+==Unable to get registers from thread \d+\.\s*)*")


def sanitizer_reports(name):
    texts = (path.read_text(errors="replace") for path in sorted((BUILD / "log/sanitizer" / name).glob("report*")))
    return [f"--- sanitizer report\n{tail(text, 80)}" for text in texts if not KILLED_AT_ITS_END.fullmatch(text)]


def pytest(step, build, pattern, long, env=None, part=1, parts=1):
    """Runs test/<step> with one build, or a part of it; returns (passed, failed, skipped, seconds, details)."""
    begin = time.monotonic()
    name = f"{step}-{build}" + (f"-{part}" if parts > 1 else "")
    junit = BUILD / f"log/{name}.xml"
    junit.unlink(missing_ok=True)
    junit.parent.mkdir(parents=True, exist_ok=True)
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--no-header",
               f"--junitxml={junit}", f"--part={part}/{parts}", f"test/{step}"]
    command += ["-k", pattern] if pattern else []
    command += ["--long"] if long else []
    env = {**sanitizer_env(name), "CASS2ES_BIN": str(BUILD / build / "cass2es"), "CASS2ES_BUILD": build,
           "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
    code, output = shell(command, LIMIT["long" if long else step], env, BUILD / f"log/{name}.log")
    passed = failed = skipped = 0
    if junit.exists():
        for case in xml.etree.ElementTree.parse(junit).iter("testcase"):
            kinds = {child.tag for child in case}
            if kinds & {"failure", "error"}:
                failed += 1
            elif "skipped" in kinds:
                skipped += 1
            else:
                passed += 1
    if code not in (0, 1, 5):
        failed += 1  # stopped, or broken before any test
    elif code == 1 and not failed:
        failed = 1
    reports = sanitizer_reports(name)
    details = output if failed else ""
    return passed, failed or len(reports), skipped, time.monotonic() - begin, "\n".join([details] + reports)


def count_cases(step, pattern, long):
    """How many cases a step has, for when it can't run."""
    command = [PYTHON, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", f"test/{step}"]
    command += ["-k", pattern] if pattern else []
    return max(1, sum("::" in line for line in shell(command, 120)[1].splitlines()))


def flow(tally, builds, pattern, long):
    ready = [name for name in FLOW_BUILDS if builds.ok(name)]
    for name in FLOW_BUILDS:
        if name not in ready:
            tally.add(f"flow {name}", 0, count_cases("flow", pattern, long), 0, "not run: the build failed")
    parts = [(name, part) for name in ready for part in range(1, FLOW_PARTS + 1)]
    with concurrent.futures.ThreadPoolExecutor(max(1, len(parts))) as pool:
        results = pool.map(lambda p: pytest("flow", p[0], pattern, long, None, p[1], FLOW_PARTS), parts)
        for (name, part), (passed, failed, skipped, seconds, details) in zip(parts, results):
            tally.add(f"flow {name} {part}/{FLOW_PARTS}", passed, failed, seconds, details, skipped)


def live(tally, builds, pattern, long):
    begin = time.monotonic()
    if not builds.ok(LIVE_BUILD):
        tally.add("live", 0, count_cases("live", pattern, long), 0, "not run: the build failed")
        return
    before = running()
    code, output = shell([SERVERS, "start", "cassandra", "elasticsearch"], 600)
    try:
        if code:
            tally.add("live", 0, count_cases("live", pattern, long), time.monotonic() - begin, tail(output))
            return
        env = dict(re.findall(r"(CASS2ES_TEST_\w+)='([^']*)'", shell([SERVERS, "env"], 60)[1]))
        passed, failed, skipped, _, details = pytest("live", LIVE_BUILD, pattern, long, env)
        tally.add("live", passed, failed, time.monotonic() - begin, details, skipped)
        tally.servers = servers_met(BUILD / f"log/live-{LIVE_BUILD}.xml")
    finally:
        started = sorted(running() - before)
        if started:
            shell([SERVERS, "stop", *started], 120)


def servers_met(junit):
    """The servers of tools/servers/table that a live run met: the two that it starts itself, and those that a case is named after."""
    rows = [line.split() for line in (ROOT / "tools/servers/table").read_text().splitlines()]
    table = {row[0]: row[1] for row in rows if row and not row[0].startswith("#")}
    met = {"cassandra", "elasticsearch"}
    if junit.exists():
        for case in xml.etree.ElementTree.parse(junit).iter("testcase"):
            if not any(child.tag == "skipped" for child in case):
                met.update(re.findall(r"[a-z0-9]+", case.get("name").partition("[")[2]))
    return sorted({server for instance, server in table.items() if instance in met})


def running():
    """The instances that run now; those that ran before are left running."""
    return {line.split()[0] for line in shell([SERVERS, "status"], 60)[1].splitlines() if "running, pid" in line}


# --- lint --------------------------------------------------------------------------------------------

def c_sources(*folders):
    return [str(p.relative_to(ROOT)) for f in folders for p in sorted((ROOT / f).rglob("*.[ch]"))]


def tree_files():
    """Every file of the tree; works without git, as in an unpacked archive."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(f for f in folders if f not in (".git", "__pycache__", ".pytest_cache") and (folder, f) != (str(ROOT), "build"))
        yield from (os.path.relpath(os.path.join(folder, name), ROOT) for name in sorted(names))


def lint_layers():
    return shell([PYTHON, "tools/lint/layers.py", "."], 60)


def lint_format():
    code, output = shell(["clang-format-19", "--dry-run", "--Werror", *c_sources("src", "test", "bench")], 120)
    files = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", output, re.M)))
    return code, "\n".join(f"{f}: ./dev fmt would change it" for f in files) or output


def lint_tidy(deep):
    """deep: with the analyzer, which follows paths and takes most of the time."""
    database = BUILD / TIDY_BUILD
    if not (database / "compile_commands.json").exists():
        return 1, f"build/{TIDY_BUILD} is missing: its build failed"
    begin, found = time.monotonic(), []
    # One process for a few files: starting costs more than a small file. The slowest need not be last.
    files = [f for f in c_sources("src") if f.endswith(".c") and f != "src/base/err.c"]
    parts = [["src/base/err.c"]] + [files[i:i + 4] for i in range(0, len(files), 4)]

    def one(part):
        left = max(1, LIMIT["lint"] - (time.monotonic() - begin))
        known = [f"--extra-arg-before=-include{ROOT}/tools/lint/analyzer.h"] if "src/base/err.c" not in part else []
        checks = [] if deep else ["--checks=-clang-analyzer-*"]
        return shell(["clang-tidy-19", "--quiet", "-p", str(database), *checks, *known, *part], left)

    with concurrent.futures.ThreadPoolExecutor(int(JOBS), BESIDE) as pool:
        for code, output in pool.map(one, parts):
            if code:
                found.append(output)
    (BUILD / "log/tidy.log").write_text("\n".join(found))
    lines = [line for part in found for line in part.splitlines() if re.search(r": (error|warning): ", line)]
    if found and not lines:
        return 1, "\n".join(found)
    lines += ["the paths that lead there: build/log/tidy.log"] if found else []
    return (1 if found else 0), "\n".join(lines)


def lint_cppcheck():
    return shell(["cppcheck", "--quiet", "--std=c11", "--language=c", "--enable=warning,portability,performance",
                  "--inline-suppr", "--error-exitcode=1", "-j", JOBS, "-Isrc", "-D_GNU_SOURCE",
                  "-DCASS2ES_VERSION=\"0\"", "--suppressions-list=tools/lint/cppcheck.supp",
                  "--template={file}:{line}: {severity}: {message} [{id}]", "src"], LIMIT["lint"])


def lint_shell():
    scripts = [p for p in tree_files() if p.endswith(".sh") or re.match(rb"#!/bin/(ba)?sh\b", open(ROOT / p, "rb").read(20))]
    return shell(["shellcheck", *scripts], 120)


def lint_python():
    code = "import ast,sys\nfor p in sys.argv[1:]: ast.parse(open(p, encoding='utf-8').read(), p)"
    return shell([PYTHON, "-W", "error", "-c", code, *(p for p in tree_files() if p.endswith(".py"))], 60)


def lint_reference():
    program = BUILD / "gcc/cass2es"
    if not program.exists():
        return 1, "build/gcc/cass2es is missing"
    return shell(["tools/lint/reference.sh", str(program)], 60)


def timed(check):
    begin = time.monotonic()
    return *check(), time.monotonic() - begin


def lint_result(tally, name, result):
    code, output, seconds = result
    tally.add(f"lint {name}", int(code == 0), int(code != 0), seconds, output[-8000:] if code else "")


def lint(tally, builds, pattern, long):
    chosen = [c for c in CHECKS if not pattern or re.search(pattern, c)]
    if "tidy" in chosen:
        builds.ok(TIDY_BUILD)
    if "reference" in chosen:
        builds.ok("gcc")
    for name in chosen:
        if name == "tidy":
            asked = len(sys.argv) > 1  # all but the plain ./dev test
            tally.beside[name] = concurrent.futures.ThreadPoolExecutor(1, BESIDE).submit(timed, lambda: lint_tidy(asked))
            continue
        lint_result(tally, name, timed(globals()[f"lint_{name}"]))


# --- fuzz --------------------------------------------------------------------------------------------

def fuzz(tally, builds, pattern, long):
    begin = time.monotonic()
    sources = sorted(p.name[:-len("_fuzz.c")] for p in (ROOT / "test/fuzz").glob("*_fuzz.c"))
    if not builds.ok(FUZZ_BUILD):
        tally.add("fuzz", 0, max(1, len(sources)), 0, "not run: the build failed")
        return
    amount, title = ["-max_total_time=60"], "fuzz, 60 s each"
    if not long:  # what a change broke, by the same inputs each time; the long form looks for what nobody has found yet
        amount, title = ["-seed=1", "-runs=50000"], "fuzz, 50000 each"
        shutil.rmtree(BUILD / "log/fuzz", ignore_errors=True)

    def one(name):
        program = BUILD / "fuzz/test/fuzz" / f"fuzz_{name}"
        if not program.exists():
            return 1, f"{program} was not built"
        fresh, corpus = BUILD / "log/fuzz" / name, ROOT / "test/fuzz/corpus" / name
        fresh.mkdir(parents=True, exist_ok=True)
        folders = [str(fresh)] + ([str(corpus)] if corpus.is_dir() else [])
        return shell([str(program), *amount, "-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1",
                      f"-artifact_prefix={BUILD}/log/fuzz-{name}-", *folders], LIMIT["fuzz"])

    chosen = [n for n in sources if not pattern or re.search(pattern, n)]
    details, failed = [], 0
    with concurrent.futures.ThreadPoolExecutor(int(JOBS), BESIDE) as pool:
        for name, (code, output) in zip(chosen, pool.map(one, chosen)):
            if code:
                failed += 1
                details.append(f"--- fuzz {name}\n{tail(output, 50)}")
    tally.add(title, len(chosen) - failed, failed, time.monotonic() - begin, "\n".join(details))


# --- the archive -------------------------------------------------------------------------------------

def dist(tally, builds, pattern, long):
    if not builds.ok("release"):
        tally.add("dist", 0, 1, 0, "not run: the build failed")
        return
    steps = [("dist archive", ["tools/dev/dist", "build/release", "build/dist"]),
             ("dist libraries", ["tools/dev/dist-check", "build/dist"])]
    if long:
        steps.append(("dist bare root", ["tools/dev/dist-check", "--bare-root", "build/dist"]))
    for title, command in steps:
        begin = time.monotonic()
        code, output = shell(command, 600)
        tally.add(title, int(code == 0), int(code != 0), time.monotonic() - begin, tail(output) if code else "")


# --- the whole ---------------------------------------------------------------------------------------

def build(tally, builds, pattern, long):
    for name in ("gcc", TIDY_BUILD):  # both compilers
        builds.ok(name)


def list_groups():
    print("groups:", *GROUPS)
    print("lint checks:", *CHECKS)


def write_result(tally, seconds):
    """The dated record of a long run, to be committed."""
    def first(*command):
        try:
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()[0]
        except (OSError, IndexError):
            return f"{command[0]}: -"

    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) // 1048576
    lines = [f"./dev test --long, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {seconds / 60:.0f} minutes",
             f"machine: {os.cpu_count()} x {cpu[1] if cpu else platform.machine()}, {memory} GiB, {platform.system()} {platform.release()}",
             f"tree: {first('git', 'describe', '--always', '--dirty')}",
             first("gcc", "--version"), first("clang-19", "--version"), first("/usr/bin/java", "--version"),
             "servers: " + (", ".join(tally.servers) or "none"),
             "", *tally.lines, "", f"{tally.passed} passed, {tally.failed} failed"]
    path = ROOT / "doc/results/test-long.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print(f"written: {path.relative_to(ROOT)}")


def main():
    arguments = sys.argv[1:]
    if "--list" in arguments:
        return list_groups()
    long = "--long" in arguments
    names = [a for a in arguments if not a.startswith("--")]
    unknown = [a for a in arguments if a.startswith("--") and a != "--long"]
    if unknown:
        sys.exit(f"run.py: unknown option {unknown[0]}")
    groups = [g for g in GROUPS if g in names] or GROUPS
    patterns = [n for n in names if n not in GROUPS]
    if patterns and groups == GROUPS:
        groups = ["lint"] if all(p in CHECKS for p in patterns) else ["unit", "flow", "live"]
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    begin, tally = time.monotonic(), Tally()
    builds = Builds(tally)

    def run(group):
        # pytest wants `a or b`, re wants `a|b`.
        pattern = (" or " if group in ("flow", "live") else "|").join(patterns)
        try:
            globals()[group](tally, builds, pattern, long)
        except Exception:  # a defect of this file must not pass for a success
            tally.add(group, 0, 1, 0, traceback.format_exc())

    for group in [g for g in groups if g not in ("live", "fuzz", "dist")]:
        run(group)
    with concurrent.futures.ThreadPoolExecutor(1, BESIDE) as pool:
        later = [pool.submit(run, "dist")] if "dist" in groups else []
        later += [pool.submit(run, "fuzz")] if "fuzz" in groups else []
        if "live" in groups:
            run("live")
        for done in later:
            done.result()
    for name, check in tally.beside.items():
        try:
            lint_result(tally, name, check.result())
        except Exception:
            tally.add(f"lint {name}", 0, 1, 0, traceback.format_exc())
    if tally.passed + tally.failed == 0:
        print("no test of that name")
        tally.failed = 1
    if long and not names:
        write_result(tally, time.monotonic() - begin)
    print(f"{time.monotonic() - begin:.0f} s")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
