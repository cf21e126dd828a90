#!/bin/bash
# Makes sure that what the build and the tests need is there.
#
# Looks for the things themselves, not for packages, so that a PostgreSQL or a Redis built by hand
# counts. What is missing comes from the distribution's packages when root runs this; otherwise the
# one command that installs it is printed and the exit status is 1. Neither the packages' daemons nor
# a database cluster of the system are started; what that takes is put back afterwards.
set -euo pipefail

pg_config=${PG_CONFIG:-pg_config}
missing=()	# packages, or plain words where a package cannot help
optional=() # checked only: the model, formatting and the second compiler

newest_dev_package()
{
	local version
	for version in 18 17 16 15; do
		if apt-cache show "postgresql-server-dev-$version" >/dev/null 2>&1; then
			echo "$version"
			return
		fi
	done
	case $(. /etc/os-release; echo "${VERSION_ID:-}") in # no package lists: Debian's default
		13) echo 17 ;;
		*) echo 15 ;;
	esac
}

have_pgxs()
{
	local pgxs
	pgxs=$("$pg_config" --pgxs 2>/dev/null) && [ -f "$pgxs" ]
}

need_postgresql()
{
	local version
	if have_pgxs; then
		[ -x "$("$pg_config" --bindir)/initdb" ] && return
		version=$("$pg_config" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
		missing+=("postgresql-$version")
	elif [ "$pg_config" != pg_config ]; then
		echo "PG_CONFIG=$pg_config shows no PostgreSQL development files" >&2
		exit 1
	else
		version=$(newest_dev_package)
		missing+=("postgresql-$version" "postgresql-server-dev-$version")
	fi
}

find_missing()
{
	missing=()
	optional=()
	need_postgresql
	command -v make >/dev/null || missing+=(make)
	command -v gcc >/dev/null || command -v cc >/dev/null || missing+=(gcc)
	[ -f /usr/include/stdlib.h ] || missing+=(libc6-dev)
	command -v pkg-config >/dev/null || missing+=(pkg-config)
	pkg-config --exists hiredis 2>/dev/null || missing+=(libhiredis-dev)
	command -v redis-server >/dev/null || missing+=(redis-server)
	command -v redis-cli >/dev/null || missing+=(redis-tools)
	perl -MIPC::Run -e 1 2>/dev/null || missing+=(libipc-run-perl)
	perl -MTest::More -MTime::HiRes -MIO::Socket::UNIX -e 1 2>/dev/null || missing+=(perl)
	command -v python3 >/dev/null || optional+=(python3-minimal) # test/model
	/usr/bin/python3 -c 'import redis' 2>/dev/null || optional+=(python3-redis) # test/clients
	command -v clang >/dev/null || optional+=(clang)
	[ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || optional+=(pgbouncer)
	command -v clang-format >/dev/null || optional+=(clang-format)
}

rc=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
saved=

# Daemons stay down and no cluster is made while packages are configured.
hold_services()
{
	saved=$(mktemp -d)
	trap restore_services EXIT
	[ ! -e "$rc" ] || mv "$rc" "$saved/policy-rc.d"
	[ ! -e "$cluster" ] || cp -a "$cluster" "$saved/createcluster.conf"
	printf '#!/bin/sh\nexit 101\n' >"$rc"
	chmod 755 "$rc"
	mkdir -p "$(dirname "$cluster")"
	echo 'create_main_cluster = false' >>"$cluster"
}

restore_services()
{
	local template=/usr/share/postgresql-common/createcluster.conf
	rm -f "$rc" "$cluster"
	[ ! -e "$saved/policy-rc.d" ] || mv "$saved/policy-rc.d" "$rc"
	if [ -e "$saved/createcluster.conf" ]; then
		mv "$saved/createcluster.conf" "$cluster"
	elif [ -e "$template" ]; then
		cp "$template" "$cluster" # what the package would have put there
		rm -f "$cluster.ucf-dist"
	fi
	rmdir --ignore-fail-on-non-empty "$(dirname "$cluster")"
	rm -rf "$saved"
	trap - EXIT
}

install_packages()
{
	local status=0
	hold_services
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 install -y \
		--no-install-recommends "$@" </dev/null >"$saved/log" 2>&1 || status=$?
	[ $status = 0 ] || cat "$saved/log" >&2
	restore_services
	return $status
}

find_missing
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	[ $((${#missing[@]} + ${#optional[@]})) -gt 0 ] || exit 0
	trap 'exit 1' INT TERM
	echo "Fetching the list of packages ..."
	apt-get -qq -o Acquire::Retries=3 update </dev/null >/dev/null
	find_missing # only now is it known which PostgreSQL there is
	echo "Installing: ${missing[*]} ${optional[*]}"
	install_packages "${missing[@]}" "${optional[@]}"
	find_missing
fi
[ ${#missing[@]} -gt 0 ] || exit 0
echo "Missing here: ${missing[*]}. As root:" >&2
echo "    apt-get install -y --no-install-recommends ${missing[*]} ${optional[*]}" >&2
exit 1
