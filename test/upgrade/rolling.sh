#!/bin/bash
# rolling.sh: installs the first release, as the history has it, into a private directory, and runs test/t/upgrade/rolling.pl
# with it: primary, standby, old and new library, one Redis. By hand: make rolling-upgrade
set -euo pipefail

first=bc0eb7e69f7a61a1b4392a924421db32da60239d
cd "$(dirname "$0")/../.."
if ! git cat-file -e "$first^{commit}" 2>/dev/null; then
	echo 'skipped: it takes the history of git back to the first release'
	exit 77
fi
scripts/packages.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/ca-first.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir "$work/src"
git archive "$first" | tar -x -C "$work/src"
pg_config=$(scripts/postgresql.sh)
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C "$work/src" with_llvm=no install \
	"PG_CONFIG=$pg_config" "DESTDIR=$work/install" >"$work/log" 2>&1 || { tail -n 20 "$work/log"; exit 1; }
chmod -R a+rX "$work"
OLD_INSTALL=$work/install PG_CONFIG=$pg_config TAP=upgrade/rolling scripts/private.sh scripts/run-tests.sh
