#!/bin/bash
# lint.sh compiler ...: builds with strict warnings in a throw-away copy; any warning fails. Then who knows
# whom, by src/LAYERS (check-layers.sh), what the documentation names (check-docs.pl), who writes what in
# shared memory (check-shared.pl), and whether docs/reference is what the server says of itself (reference.pl).
set -euo pipefail

strict='-Wextra -Wshadow -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers'
# PostgreSQL's own flags were chosen for the compiler that built it; the other may not know them.
foreign='-Wno-unknown-warning-option -Wno-unused-command-line-argument'
foreign="$foreign -Wno-ignored-optimization-argument -Wno-ignored-attributes"
copy=$(mktemp -d "${TMPDIR:-/tmp}/ca-lint.XXXXXX")
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' INT TERM

for compiler in "$@"; do
	flags="$strict -Werror"
	case $compiler in *clang*) flags="$flags $foreign" ;; esac
	mkdir "$copy/$compiler"
	cp -R Makefile cache_aside.control sql src scripts test "$copy/$compiler/"
	echo "strict warnings with $compiler"
	find "$copy/$compiler/src" \( -name '*.o' -o -name '*.bc' \) -delete
	# Some of gcc's warnings are guesses that change with the optimisation; clang's do not, and it is quicker without.
	optimisation=-O2
	case $compiler in *clang*) optimisation=-O0 ;; esac
	make -s -k -j2 -C "$copy/$compiler" all "CC=$compiler" "PG_CFLAGS=$flags" "COPT=$optimisation" with_llvm=no
done
"$copy/$1/scripts/check-layers.sh" "$copy/$1"
perl scripts/check-docs.pl .
perl scripts/check-shared.pl .
[ "$1" != gcc ] || perl scripts/reference.pl --check
