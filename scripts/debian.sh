#!/bin/bash
# debian.sh [suite]: the Debian packages of that release, in DIST (dist/), built and tried in a chroot made for it.
#
# What is tried: lintian has nothing to say; installed, the tests of debian/tests run (autopkgtest); purged, no file is
# left that was not there before. How it ends: chroot.sh. It has DEB_SECONDS (1800).
set -euo pipefail
source "$(dirname "$0")/chroot.sh"

suite=${1:-$(. /etc/os-release; echo "${VERSION_CODENAME:-}")}
checkout=$(cd "$(dirname "$0")/.." && pwd)
dist=${DIST:-$checkout/dist}
[ -n "$suite" ] || unable 'the name of the release is not known'
CHROOT_NAME=deb-$suite
export DIST=$dist
enter_namespaces "${DEB_SECONDS:-1800}" "$suite"

install_tools()
{
	inside apt-get install -y --no-install-recommends build-essential debhelper fakeroot lintian autopkgtest \
		postgresql-server-dev-all libhiredis-dev libssl-dev pkg-config
	inside useradd -m builder
	mkdir -p "$tree/etc/postgresql-common"
	echo 'create_main_cluster = false' >"$tree/etc/postgresql-common/createcluster.conf"
}

version=$(sed -n '1s/.*(\(.*\)-.*/\1/p' "$checkout/debian/changelog")
as_builder() { inside setpriv --reuid=builder --regid=builder --init-groups env HOME=/home/builder sh -c "cd /home/builder/$1; $2"; }
step() { "$@" >"$log" 2>&1 || { tail -n 60 "$log"; wrong "$1"; }; }

# The upstream archive has no debian/; all else is the checkout.
build_packages()
{
	local name=cache-aside-$version
	rm -rf "$tree"/home/builder/*
	copy_checkout "home/builder/$name"
	rm -rf "$tree/home/builder/$name"/{.git,dist}
	inside chown -R builder: /home/builder
	as_builder . "tar --exclude=$name/debian -czf cache-aside_$version.orig.tar.gz $name"
	as_builder "$name" 'pg_buildext updatecontrol && dpkg-buildpackage -us -uc'
}

ask_lintian() { as_builder . 'lintian --fail-on error,warning,info --info *.changes'; }

files() { inside find /usr /etc /var/lib/postgresql /var/lib/cache_aside -xdev -not -path '*/__pycache__*' 2>/dev/null | sort; }

install_and_test()
{
	inside sh -c 'autopkgtest -u builder /home/builder/*.dsc /home/builder/*_1*.deb -- null'
}

# Twice: what it depends on is there when the second time is compared.
remove_again()
{
	local time
	for time in first second; do
		files >"$log.before"
		inside sh -c 'apt-get install -y --no-install-recommends /home/builder/postgresql-*-cache-aside_*.deb'
		files >"$log.with"
		inside apt-get purge -y $(inside dpkg-query -W -f '${Package}\n' 'postgresql-*-cache-aside')
	done
	files >"$log.after"
	! diff -q "$log.before" "$log.with" && diff "$log.before" "$log.after"
}

echo "Packages for a Debian $suite ..."
make_chroot "$suite" install_tools
step build_packages
step ask_lintian
step remove_again
step install_and_test
grep -E '^[a-z]+ +(PASS|SKIP)' "$log"
mkdir -p "$dist"
cp "$tree"/home/builder/*.{deb,dsc,changes,tar.*} "$dist/"
(cd "$dist" && ls *.deb)
echo ok
