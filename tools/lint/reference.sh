#!/bin/bash
# The committed reference, man page and completion are what the program prints: reference.sh PROGRAM
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$program" reference "$scratch"
[ -n "$(ls -A "$scratch")" ] || { echo "the program printed no reference"; exit 1; }
for part in "$scratch"/*; do
    part=$(basename "$part")
    diff -ru "doc/$part" "$scratch/$part" || { echo "write it again: tools/docs.sh $1"; exit 1; }
done
scdoc <"$scratch/man/cass2es.1.scd" >/dev/null
