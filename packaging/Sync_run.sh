#!/bin/sh
# Sunbird's sync job, by its own command line: Sync_run.sh --context_param name=value ...
# The program is found beside this script (or beside what it is a link to), else in PATH.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
if [ ! -x "$here/cass2es" ] && [ -L "$0" ]; then
    here=$(dirname -- "$(readlink -f -- "$0")")
fi
if [ -x "$here/cass2es" ]; then
    program=$here/cass2es
elif command -v cass2es >/dev/null; then
    program=cass2es
else
    echo "Sync_run.sh: no program cass2es beside this script or in PATH" >&2
    exit 2
fi
if [ $# -eq 0 ]; then
    "$program" sync --help >&2
    exit 2
fi
exec "$program" sync "$@"
