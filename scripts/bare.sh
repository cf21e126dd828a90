#!/bin/bash
# bare.sh [suite]: the first minute of a newcomer, for real: a bare Debian in a chroot, with git, make and
# what looks like PostgreSQL's development files but is not (libpq-dev and a client, which bring pg_config
# and PGXS). A user's `make demo` names what is missing, the command it prints is run as it stands, and
# then `make demo` works. Run by `make bare` and continuous integration.
#
# Ends with "ok", "FAILED: reason" (exit status 1) or "skipped: reason" (77): no root, no debootstrap, a
# chroot cannot be made, or it is not done in BARE_SECONDS (180). Suite, mirror and proxies are the
# host's. Mount and process namespaces of its own see to it that nothing stays mounted or goes on.
set -euo pipefail

suite=${1:-$(. /etc/os-release; echo "${VERSION_CODENAME:-}")}
checkout=$(cd "$(dirname "$0")/.." && pwd)

unable()
{
	echo "skipped: $1"
	exit 77
}

outside()
{
	local seconds=${BARE_SECONDS:-180} status=0
	[ "$(id -u)" = 0 ] || unable 'only root can make a chroot'
	[ -n "$suite" ] || unable 'the name of the release is not known'
	type -P debootstrap >/dev/null || unable 'debootstrap is not installed'
	unshare --mount --pid --fork true 2>/dev/null || unable 'no namespaces here'
	BARE_TREE=$(mktemp -d /tmp/ca-bare.XXXXXX)
	export BARE_TREE
	trap 'rm -rf --one-file-system "$BARE_TREE" "$BARE_TREE.log"' EXIT
	trap 'exit 1' INT TERM
	timeout "$seconds" unshare --mount --pid --fork --kill-child "$0" "$suite" || status=$?
	[ $status != 124 ] || unable "not done in $seconds s"
	exit $status
}

[ -n "${BARE_TREE:-}" ] || outside
tree=$BARE_TREE
log=$BARE_TREE.log

# Of this machine; none: the default of debootstrap.
mirror()
{
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(CODENAME)' 'Created-By: Packages' 2>/dev/null |
		awk -v suite="$suite" '$2 == suite || $3 == suite { print $1; exit }'
}

proxy() { apt-config dump --format '%v' "Acquire::$1::Proxy"; }

make_chroot()
{
	local fast=
	! type -P eatmydata >/dev/null || fast=eatmydata
	http_proxy=${http_proxy:-$(proxy http)} https_proxy=${https_proxy:-$(proxy https)} \
		$fast debootstrap --variant=minbase --include=ca-certificates "$suite" "$tree" $(mirror)
	chmod 755 "$tree"
	apt-config dump --format '%F "%v";%n' Acquire |
		grep -E '^Acquire::(https?::Proxy|Check-|Retries)' >"$tree/etc/apt/apt.conf.d/99host" || true
	echo force-unsafe-io >"$tree/etc/dpkg/dpkg.cfg.d/unsafe"
	printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d" # the ports are the host's
	chmod 755 "$tree/usr/sbin/policy-rc.d"
	cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
	mount -t proc proc "$tree/proc"
	mount -t tmpfs tmpfs "$tree/dev/shm"
	inside apt-get -qq update
	inside apt-get install -y --no-install-recommends git make libpq-dev postgresql-client
	inside useradd -m ada
	tar -C "$checkout" -cf - --exclude='*.o' --exclude='*.so' --exclude=node_modules . |
		tar -C "$tree/home/ada" -xf - --no-same-owner --one-top-level=cache_aside
	inside chown -R ada: /home/ada
}

inside()
{
	chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive SECONDS_OF_LOAD=2 CLIENTS=2 "$@" </dev/null
}

as_ada() { inside setpriv --reuid=ada --regid=ada --init-groups env HOME=/home/ada "$@"; }

wrong()
{
	echo "FAILED: $1"
	exit 1
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
	inside sh -c "$command" >"$log" 2>&1 || { tail -n 40 "$log"; wrong 'the command does not work'; }
	as_ada make -C /home/ada/cache_aside demo >"$log" 2>&1 || { cat "$log"; wrong 'make demo'; }
	grep -E '^Building|^PostgreSQL|stale$' "$log"
	grep -qE '^[1-9].* 0 stale$' "$log" || wrong 'no verdict'
	[ -z "$(leftovers)" ] || { leftovers; wrong 'something is left behind'; }
}

echo "A bare Debian $suite ..."
make_chroot >"$log" 2>&1 &
wait $! || { tail -n 5 "$log"; unable "a chroot of $suite cannot be made here"; }
first_minute
echo ok
