#!/bin/bash
# The committed reference and man page are what the program prints: reference.sh PROGRAM
# `PROGRAM reference DIR` writes them all; here into a scratch folder, to be compared.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$program" reference "$scratch"
[ -n "$(ls -A "$scratch")" ] || { echo "the program printed no reference"; exit 1; }
diff -ru doc/reference "$scratch" || { echo "write it again: $1 reference doc/reference"; exit 1; }
