"""Runs the program under test: CASS2ES_BIN, else build/gcc/cass2es."""
import os
import pathlib
import re
import select
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("CASS2ES_BIN") or ROOT / "build" / "gcc" / "cass2es").absolute()

SANITIZER = re.compile(rb"(Address|Thread|Leak|UndefinedBehavior)Sanitizer|runtime error:")


class Result:
    def __init__(self, code, out, err, seconds):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    def __repr__(self):
        return "exit %d after %.2f s\n--- stdout\n%s\n--- stderr\n%s" % (self.code, self.seconds, self.out[-3000:], self.err[-6000:])


class Program:
    """The program in one working folder, with a state folder and an environment of its own."""

    def __init__(self, cwd):
        self.cwd, self.state, self.logs = pathlib.Path(cwd), pathlib.Path(cwd) / "state", pathlib.Path(cwd) / "logs"
        self.logs.mkdir(exist_ok=True)
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(cwd), "LANG": "C.UTF-8"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.env[name] = os.environ[name]
        self.common = ["--state-dir", str(self.state)]
        self.started = []

    def command(self, *args):
        args = [str(a) for a in args]
        return [str(BIN), args[0], *self.common, *args[1:]] if args and not args[0].startswith("-") else [str(BIN), *args]

    def start(self, *args, stdin=None, env=None, command=None, **more):
        p = subprocess.Popen(command or self.command(*args), cwd=self.cwd, env={**self.env, **(env or {})},
                             stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        p.began = time.monotonic()
        self.started.append(p)
        if isinstance(stdin, (str, bytes)):
            p.stdin.write(stdin.encode() if isinstance(stdin, str) else stdin)
            p.stdin.close()
            p.stdin = None
        return p

    def finish(self, p, timeout=30):
        try:
            out, err = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            out, err = p.communicate()
            raise AssertionError("still running after %s s\n%s\n%s" % (timeout, out.decode(errors="replace")[-2000:], err.decode(errors="replace")[-6000:]))
        assert not SANITIZER.search(err), err.decode(errors="replace")[:8000]
        return Result(p.returncode, out.decode(errors="replace"), err.decode(errors="replace"), time.monotonic() - p.began)

    def run(self, *args, timeout=30, **more):
        return self.finish(self.start(*args, **more), timeout)

    def kill(self, p):
        """SIGKILL, and wait for its end."""
        p.send_signal(signal.SIGKILL)
        return self.finish(p)

    def stop_all(self):
        for p in self.started:
            if p.poll() is None:
                p.kill()
                p.communicate()

    def file(self, name, content):
        path = self.cwd / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def log(self, kind):
        """The text of the Success or Failure log of the last run, or None."""
        files = sorted(self.logs.glob("Sync%s_*.log" % kind), key=lambda f: int(re.search(r"_(\d+)\.log$", f.name).group(1)))
        return files[-1].read_bytes().decode() if files else None

    def places_of(self, secret, *texts):
        """Where a secret can be read: texts given, every file under the working folder."""
        found = ["text %d" % i for i, t in enumerate(texts) if secret in t]
        for f in self.cwd.rglob("*"):
            if f.is_file() and secret.encode() in f.read_bytes():
                found.append(str(f))
        return found


def command_line(pid):
    return pathlib.Path("/proc/%d/cmdline" % pid).read_bytes()


def wait_for_text(p, pattern, timeout=60):
    """Reads stderr of a running program until the pattern appears; returns what was read."""
    got, end = b"", time.monotonic() + timeout
    while not re.search(pattern.encode(), got):
        left = end - time.monotonic()
        if left <= 0 or not select.select([p.stderr], [], [], left)[0]:
            raise AssertionError("no %r within %s s in %r" % (pattern, timeout, got))
        data = os.read(p.stderr.fileno(), 65536)
        if not data:
            raise AssertionError("it ended without %r: %r" % (pattern, got))
        got += data
    return got.decode(errors="replace")


LOG_ENTRY = re.compile(r"Request No : (\d+)\nRequest : (.*)\nResponse : (.*)\n\n")


def log_entries(text):
    """[(number, request, response)]; the whole text must be entries of the exact form."""
    entries = LOG_ENTRY.findall(text)
    assert "".join("Request No : %s\nRequest : %s\nResponse : %s\n\n" % e for e in entries) == text, text[:1000]
    return [(int(n), q, a) for n, q, a in entries]
