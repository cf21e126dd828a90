# chroot.sh: a Debian of its own in a chroot, for what must be seen on a bare or on another machine. Sourced by
# bare.sh, matrix.sh, debian.sh and test/pg_upgrade.sh.
#
# enter_namespaces starts the sourcing script again in mount and process namespaces of its own, so that nothing stays
# mounted or goes on. Suite, mirror and proxies are the host's. CHROOTS names a directory where trees are kept to be
# used again; else they go when the script ends. A script ends with "ok", "FAILED: reason" (exit status 1) or
# "skipped: reason" (77): no root, no debootstrap, a chroot cannot be made, or it is not done in time.

unable()
{
	echo "skipped: $1"
	exit 77
}

wrong()
{
	echo "FAILED: $1"
	exit 1
}

# The mirror, and no command, was at fault: apt says so.
unless_mirror()
{
	! grep -qE 'Failed to fetch|Could not resolve|Temporary failure resolving|Could not connect|Connection (failed|timed out)' "$log" ||
		unable 'the mirror does not answer'
}

# enter_namespaces seconds [argument ...]: returns only inside, with $tree (maybe empty) and $log set. The arguments
# are those of the script.
enter_namespaces()
{
	local seconds=$1 status=0 parent
	shift
	if [ -n "${CA_TREE:-}" ]; then
		tree=$CA_TREE
		log=$CA_TREE.log
		return
	fi
	[ "$(id -u)" = 0 ] || unable 'only root can make a chroot'
	type -P debootstrap >/dev/null || unable 'debootstrap is not installed'
	unshare --mount --pid --fork true 2>/dev/null || unable 'no namespaces here'
	if [ -n "${CHROOTS:-}" ]; then
		mkdir -p "$CHROOTS"
		CA_TREE=$(cd "$CHROOTS" && pwd)/${CHROOT_NAME:?}
	else
		CA_TREE=$(mktemp -d /tmp/ca-chroot.XXXXXX)
		trap 'rm -rf --one-file-system "$CA_TREE" "$CA_TREE".log*' EXIT
		trap 'exit 1' INT TERM
	fi
	export CA_TREE
	timeout "$seconds" unshare --mount --pid --fork --kill-child "$0" "$@" || status=$?
	[ $status != 124 ] || unable "not done in $seconds s"
	exit $status
}

# Of this machine; none: the default of debootstrap.
mirror()
{
	apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 2>/dev/null |
		awk '$1 ~ /debian\/?$/ { print $1; exit }'
}

proxy() { apt-config dump --format '%v' "Acquire::$1::Proxy"; }

# Runs a command in the tree, as root, with nothing of our environment.
inside()
{
	chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}

bootstrap() # suite
{
	local fast=
	! type -P eatmydata >/dev/null || fast=eatmydata
	http_proxy=${http_proxy:-$(proxy http)} https_proxy=${https_proxy:-$(proxy https)} \
		$fast debootstrap --variant=minbase --include=ca-certificates "$1" "$tree" $(mirror)
	chmod 755 "$tree"
	apt-config dump --format '%F "%v";%n' Acquire |
		grep -E '^Acquire::(https?::Proxy|Check-|Retries)' >"$tree/etc/apt/apt.conf.d/99host" || true
	echo force-unsafe-io >"$tree/etc/dpkg/dpkg.cfg.d/unsafe"
	printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d" # the ports are the host's
	chmod 755 "$tree/usr/sbin/policy-rc.d"
}

mount_tree()
{
	cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
	mount -t proc proc "$tree/proc"
	mount -t tmpfs tmpfs "$tree/dev/shm"
}

# make_chroot suite [command ...]: the tree, mounted; the command, if any, prepares it, once. What is printed goes to
# $log. In the background, so that a signal ends it.
make_chroot()
{
	local suite=$1
	shift
	if [ ! -e "$tree/made" ]; then
		rm -rf --one-file-system "$tree"
		{ bootstrap "$suite" && mount_tree && inside apt-get -qq update && "$@" && touch "$tree/made"; } >"$log" 2>&1 &
		wait $! || { tail -n 5 "$log"; unable "a chroot of $suite cannot be made here"; }
	fi
	mountpoint -q "$tree/proc" || mount_tree
}

# copy_checkout folder: the checkout, without what was built, into that folder of the tree.
copy_checkout()
{
	mkdir -p "$tree/$1"
	tar -C "$checkout" -cf - --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude=node_modules . |
		tar -C "$tree/$1" -xf - --no-same-owner
}
