#!/bin/bash
# Writes again what the program prints: doc/reference, doc/man, doc/completion. docs.sh [PROGRAM]
set -euo pipefail
program=$(realpath "${1:-$(dirname "${BASH_SOURCE[0]}")/../build/gcc/cass2es}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
"$program" reference doc
