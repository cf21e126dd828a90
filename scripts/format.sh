#!/bin/bash
# format.sh [-i]: checks the layout of the C files, or with -i puts it right.
set -euo pipefail

cd "$(dirname "$0")/.."
mode=(--dry-run --Werror)
[ "${1:-}" != -i ] || mode=(-i)
shopt -s extglob
exec clang-format "${mode[@]}" src/*.[ch] src/*/*.c src/*/!(lua_text).h test/fuzz/{*,*/*}.[ch] # lua_text.h is generated
