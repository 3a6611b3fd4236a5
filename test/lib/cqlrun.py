"""One `cqlrun`, a thin shell over src/cql, built beside the program: statements in, parsed JSON lines out."""
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CQLRUN = pathlib.Path(os.environ.get("CASS2ES_BIN") or ROOT / "build/gcc/cass2es").absolute().parent / "cqlrun"


class CqlRun:
    def __init__(self, host, port, *flags, user=None, password=None):
        command = [CQLRUN, "-H", host, "-P", str(port), *(["-u", user] if user else []), "-x", "30000", *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "CQLRUN_PASSWORD": password or ""})

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.process.stdin.close()
        self.process.stdout.close()
        code = self.process.wait(30)
        assert code in (0, 1), f"cqlrun ended with {code}"

    def lines(self, *statements):
        """What the statements answer, up to the end of the last one's."""
        self.process.stdin.write("".join(s.replace("\n", " ") + "\n" for s in statements) + ".token 00\n")
        self.process.stdin.flush()
        out = []
        while True:
            line = self.process.stdout.readline()
            assert line, "cqlrun has ended"
            value = json.loads(line)
            if isinstance(value, int):  # the token that ends every answer
                return out
            out.append(value)

    def token(self, key):
        self.process.stdin.write(f".token {key}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def pages(self, *statements):
        return [line for line in self.ok(*statements) if line.get("page")]

    def rows(self, *statements):
        return [line for line in self.ok(*statements) if isinstance(line, dict) and not line.get("page")]

    def ok(self, *statements):
        out = self.lines(*statements)
        bad = [line for line in out if isinstance(line, dict) and "error" in line]
        assert not bad, bad
        return out

    def error(self, *statements):
        out = self.lines(*statements)
        assert out and "error" in out[-1], out
        return out[-1]


def refused(host, port, *flags, **more):
    """The error with which the cluster could not be opened."""
    r = CqlRun(host, port, *flags, **more)
    out, _ = r.process.communicate("", timeout=30)
    assert r.process.returncode == 1, r.process.returncode
    return json.loads(out.splitlines()[0])
