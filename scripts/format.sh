#!/bin/bash
# format.sh [-i]: checks the layout of the C files, or with -i puts it right.
set -euo pipefail

cd "$(dirname "$0")/.."
mode=(--dry-run --Werror)
[ "${1:-}" != -i ] || mode=(-i)
exec clang-format "${mode[@]}" src/*.c src/*.h
