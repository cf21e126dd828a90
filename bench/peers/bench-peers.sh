#!/bin/bash
# bench-peers.sh: run.pl in a private copy (private.sh), and what it wrote to OUT= (a new directory in /tmp), data,
# table and plots. PUBLISH=yes puts table and plots into docs/benchmarks, in place of those of an earlier run.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
own=
if [ -z "${WORK:-}" ]; then
	own=$(mktemp -d /tmp/ca-peers.XXXXXX)
	trap 'rm -rf "$own"' EXIT
	trap 'exit 1' INT TERM
fi
export WORK=${WORK:-$own}
out=${OUT:-$(mktemp -d /tmp/cache_aside-peers.XXXXXX)}
mkdir -p "$out"
rm -rf "$WORK/peers"
OUT=$WORK/peers "$checkout/scripts/private.sh" bench/peers/run.pl
cp "$WORK"/peers/* "$out/"
echo "Data, table and plots are in $out."
[ -z "${PUBLISH:-}" ] || perl "$here/publish.pl" "$out" "$checkout/docs/benchmarks"
