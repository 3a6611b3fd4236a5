#!/usr/bin/python3
"""Checks every #include under src/ against the layers: who may include whom, and which library lives where.

usage: layers.py [ROOT]     exit 1 and one line per broken rule
"""
import pathlib
import re
import sys

# A module may include itself, base, what is named here, and metrics unless it is in NO_METRICS.
MAY = {
    "base": "",
    "metrics": "",
    "net": "",
    "model": "",
    "http": "net",
    "cql": "net model",
    "mapping": "model",
    "source": "model net cql",
    "sink": "model net http",
    "journal": "",
    "engine": "source mapping sink journal model cql",
    "config": "",
    "serve": "engine journal",
    "cmd": "*",
}
NO_METRICS = {"base", "model", "mapping"}

# A library's header, and the only places where it may be included.
HOMES = [
    (r"openssl/.*", ["src/net/", "src/base/hash."]),
    (r"curl/.*", ["src/http/"]),
    (r"sqlite3\.h", ["src/journal/"]),
    (r"microhttpd\.h", ["src/serve/"]),
    (r"yaml\.h", ["src/config/", "src/mapping/yaml."]),
    (r"librdkafka/.*", ["src/source/"]),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def faults(root):
    for path in sorted((root / "src").rglob("*.[ch]")):
        where = path.relative_to(root).as_posix()
        module = where.split("/")[1] if where.count("/") > 1 else None
        text = path.read_text(encoding="utf-8")
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            kind, name = match.groups()
            fault = project(root, module, name) if kind == '"' else library(where, name)
            if fault:
                yield f"{where}:{line}: #include {name}: {fault}"


def project(root, module, name):
    if "/" not in name:
        return "write the module's name too (module/file.h)"
    target = name.split("/")[0]
    if target not in MAY:
        return f"{target} is no module of ours"
    if module is None:  # main.c picks the command
        return None if target in ("cmd", "base") else "main.c includes cmd and base only"
    if module not in MAY:
        return f"the folder src/{module} is not in the list of layers"
    if target == "cmd" and module != "cmd":
        return "nothing includes cmd"
    allowed = MAY[module].split()
    if target in (module, "base") or target in allowed or "*" in allowed:
        return None
    if target == "metrics" and module not in NO_METRICS:
        return None
    return f"{module} may not include {target}"


def library(where, name):
    for pattern, homes in HOMES:
        if re.fullmatch(pattern, name) and not any(where.startswith(home) for home in homes):
            return f"belongs in {' or '.join(homes)} only"
    return None


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    found = list(faults(root))
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
