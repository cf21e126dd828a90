#!/bin/bash
# postgresql.sh: which PostgreSQL is built for and run. Prints the pg_config of the first installation
# that has everything for CA_GOAL (build: only headers and PGXS; test: all; anything else: a server and
# pgbench), or nothing. packages.sh and inside.sh source it for its functions.
#
# PG_CONFIG=/path/to/pg_config decides alone. Otherwise the pg_config in PATH is asked first, then those
# that packages put beside it, newest first. That in PATH need not do: Debian's is a script that names
# the newest major of which there is a pg_config, and one comes with every client; libpq-dev's names
# paths that are not there.
#
# CA_ROOT is put in front of every fixed path, so that a test can show another machine.
set -euo pipefail

root=${CA_ROOT:-}
goal=${CA_GOAL:-test}
supported='18 17 16 15 19' # best first; 19 only where nothing else is

is_default() { [ "${PG_CONFIG:-pg_config}" = pg_config ]; }

# Where Debian's packages have the pg_config of a major.
debian_pg_config() { echo "$root/usr/lib/postgresql/$1/bin/pg_config"; }

candidates()
{
	local found
	found=$(type -P "${PG_CONFIG:-pg_config}") && realpath -s "$found"
	! is_default ||
		ls -vr "$root"/usr/lib/postgresql/*/bin/pg_config "$root"/usr/pgsql-*/bin/pg_config \
			"$root"/usr/local/pgsql/bin/pg_config 2>/dev/null || true
}

# "postgres (PostgreSQL) 15.20 (Debian ...)" -> 15
major_in() { sed -n '1s/^[^0-9]*\([0-9]*\).*/\1/p'; }

# The three below print nothing where the thing is missing or does not run.
pg_config_major() { "$1" --version 2>/dev/null | major_in || true; }

server_major() # directory of programs
{
	"$1/initdb" --version >/dev/null 2>&1 || return 0
	"$1/postgres" --version 2>/dev/null | major_in || true
}

headers_major() # include directory
{
	[ ! -f "$1/postgres.h" ] ||
		sed -n 's/^#define PG_MAJORVERSION "\([0-9]*\).*/\1/p' "$1"/pg_config*.h | head -n 1
}

# How a server can find an extension that is not in its own directories; nothing: not at all.
#   Debian's 15 to 17   extension_destdir
#   18 and newer        extension_control_path
#   any other           copy: a private copy of the whole installation, if it has a directory of its own
#                       (PostgreSQL finds its files relative to its programs)
private_place() # pg_config
{
	local bindir prefix
	bindir=$("$1" --bindir)
	prefix=$(dirname "$bindir")
	"$bindir/postgres" --describe-config 2>/dev/null |
		sed -n 's/^\(extension_control_path\|extension_destdir\)	.*/\1/p' | head -n 1 | grep . && return
	case $prefix:$("$1" --pkglibdir):$("$1" --sharedir) in
		/:* | /usr:* | /usr/local:*) ;;
		"$prefix:$prefix/"*":$prefix/"*) echo copy ;;
	esac
}

# What the installation lacks for the goal, a word a line.
lacks() # pg_config
{
	local bindir headers server tests
	headers=$(pg_config_major "$1")
	[ -n "$headers" ] || { echo pg_config; return; }
	[ "$headers" -ge 15 ] || { echo version; return; }
	headers=$(headers_major "$("$1" --includedir-server)")
	[ -n "$headers" ] || echo headers
	[ -f "$("$1" --pgxs)" ] || echo pgxs
	[ "$goal" != build ] || return 0
	bindir=$("$1" --bindir)
	server=$(server_major "$bindir")
	if [ -z "$server" ] || [ "$server" != "${headers:-$server}" ]; then
		echo server
		return
	fi
	"$bindir/pgbench" --version >/dev/null 2>&1 || echo pgbench
	[ -n "$(private_place "$1")" ] || echo place
	[ "$goal" = test ] || return 0
	tests=$(dirname "$("$1" --pgxs)")/../test
	[ -x "$tests/regress/pg_regress" ] && [ -x "$tests/isolation/pg_isolation_regress" ] &&
		[ -f "$tests/perl/PostgreSQL/Test/Cluster.pm" ] || echo tests
}

# The first installation that lacks nothing.
whole()
{
	local candidate
	while read -r candidate; do
		if [ -z "$(lacks "$candidate")" ]; then
			echo "$candidate"
			return
		fi
	done < <(candidates)
}

[ "${BASH_SOURCE[0]}" != "$0" ] || whole
