#!/bin/bash
# private.sh script [argument ...]: copies the checkout into a private directory and runs `script` (a
# path inside the checkout) in the copy, as an unprivileged user, through inside.sh.
#
# Root is given up before anything is built: PostgreSQL does not run as root. The checkout is only
# read. WORK=dir keeps the directory, so that the next run builds only what changed. CA_GOAL tells what
# the script needs; see packages.sh.
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
"$checkout/scripts/packages.sh"

# A make around us, or a login's PostgreSQL settings, must not reach the makes and servers inside.
pg_config=$("$checkout/scripts/postgresql.sh")
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES $(compgen -v PG | grep -v ^PG_TEST_)

unprivileged()
{
	local user=postgres
	id "$user" >/dev/null 2>&1 || user=nobody
	echo "$user"
}

as_user=()
parent=${TMPDIR:-/tmp}
if [ "$(id -u)" = 0 ]; then
	user=$(unprivileged)
	as_user=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups --)
	parent=/tmp # root's TMPDIR may be closed to others
fi

if [ -n "${WORK:-}" ]; then
	keep=yes
	work=$WORK
	mkdir -p "$work"
else
	keep=
	work=$(mktemp -d "$parent/cache_aside.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' INT TERM
fi
work=$(cd "$work" && pwd)
rm -rf "$work/tmp"
mkdir -p "$work/src" "$work/tmp"
find "$work/src" -type f ! -name '*.o' ! -name '*.bc' ! -name '*.so' -delete
tar -C "$checkout" -cf - --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' \
	--exclude=./tmp_check --exclude=./tmp_check_iso --exclude=node_modules . |
	tar -C "$work/src" -xf - --no-same-owner
[ ${#as_user[@]} = 0 ] || chown -R "$user" "$work"

export PG_CONFIG=$pg_config CA_WORK=$work CA_KEEP=$keep HOME=$work LC_ALL=C.UTF-8
export TMPDIR=$work/tmp # a failed test keeps its directories; a socket's path must be short
[ ${#work} -le 40 ] || TMPDIR=$parent
cd "$work/src"
exec ${as_user[@]+"${as_user[@]}"} bash scripts/inside.sh "$@"
