#!/bin/bash
# bare.sh [suite]: the first minute of a newcomer, for real: a bare Debian in a chroot, with git, make and
# what looks like PostgreSQL's development files but is not (libpq-dev and a client, which bring pg_config
# and PGXS). A user's `make demo` names what is missing, the command it prints is run as it stands, and
# then `make demo` works. Run by `make bare` and continuous integration.
#
# How it ends: chroot.sh. It has BARE_SECONDS (180).
set -euo pipefail
source "$(dirname "$0")/chroot.sh"

suite=${1:-$(. /etc/os-release; echo "${VERSION_CODENAME:-}")}
checkout=$(cd "$(dirname "$0")/.." && pwd)
[ -n "$suite" ] || unable 'the name of the release is not known'
CHROOT_NAME=bare-$suite
enter_namespaces "${BARE_SECONDS:-180}" "$suite"

install_little()
{
	inside apt-get install -y --no-install-recommends git make libpq-dev postgresql-client
	inside useradd -m ada
	copy_checkout home/ada/cache_aside
	inside chown -R ada: /home/ada
}

as_ada()
{
	inside setpriv --reuid=ada --regid=ada --init-groups env HOME=/home/ada SECONDS_OF_LOAD=2 CLIENTS=2 "$@"
}

# What a demonstration could leave behind.
leftovers()
{
	find "$tree/tmp" "$tree/var/tmp" "$tree/dev/shm" -mindepth 1
	grep -hsE '^(postgres|redis)' "$tree"/proc/[0-9]*/comm || true # of our own namespace
}

first_minute()
{
	local command
	! as_ada make -C /home/ada/cache_aside demo >"$log" 2>&1 || wrong 'nothing was missing'
	cat "$log"
	grep -q 'postgres\.h$' "$log" || wrong 'the headers are not named'
	! grep -qE 'error:|The build failed' "$log" || wrong 'the compiler said it'
	command=$(sed -n '/^As root:$/{n;s/^ *//p;}' "$log")
	[ -n "$command" ] || wrong 'no command is printed'
	inside sh -c "$command" >"$log" 2>&1 || { tail -n 40 "$log"; unless_mirror; wrong 'the command does not work'; }
	as_ada make -C /home/ada/cache_aside demo >"$log" 2>&1 || { cat "$log"; wrong 'make demo'; }
	grep -E '^Building|^PostgreSQL|stale$' "$log"
	grep -qE '^[1-9].* 0 stale$' "$log" || wrong 'no verdict'
	[ -z "$(leftovers)" ] || { leftovers; wrong 'something is left behind'; }
}

echo "A bare Debian $suite ..."
make_chroot "$suite" install_little
first_minute
echo ok
