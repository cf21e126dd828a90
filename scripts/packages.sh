#!/bin/bash
# packages.sh [-n]: makes sure that what CA_GOAL needs is there: build (make), test, or another target of
# the Makefile. -n only tells.
#
# Looks for the things themselves, not for packages, so that a PostgreSQL or a Redis built by hand
# counts: headers that compile and link, programs that run, a server of the same major as the headers
# (postgresql.sh). What is missing comes from the distribution's packages when root runs this; otherwise
# it is named, with the one command that installs it, and the exit status is 1. Neither the packages'
# daemons nor a database cluster of the system are started, now or at boot; what that takes is put back
# afterwards.
#
# CA_CC, CA_CPPFLAGS and CA_LIBS are what a make that runs already compiles and links with.
set -euo pipefail
source "$(dirname "$0")/postgresql.sh"

tell=
[ "${1:-}" != -n ] || tell=yes
missing=()  # packages
optional=() # packages that only add to what is tested
what=()     # what is missing, in words
hopeless=   # some of it is in no package
unknown=    # some of it is in no package that apt knows now
scratch=$(mktemp -d)
saved=
trap leave EXIT
trap 'exit 1' INT TERM

leave()
{
	[ -z "$saved" ] || restore_services
	rm -rf "$scratch"
}

# ---- what apt knows ----

have_apt() { type -P apt-get >/dev/null; }
have_lists() { compgen -G "$root/var/lib/apt/lists/*_Packages*" >/dev/null; }
candidate() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([^(].*\)/\1/p'; }

# Without lists anything may be to be had.
obtainable() { ! have_lists || [ -n "$(candidate "$1")" ]; }

first_obtainable() # package ...
{
	local package
	for package in "$@"; do
		if obtainable "$package"; then
			echo "$package"
			return
		fi
	done
	echo "$1"
}

both_obtainable() { obtainable "postgresql-$1" && obtainable "postgresql-server-dev-$1"; }

# The major to install where there is none: that of the package `postgresql`, be it the distribution's
# or PGDG's. Nothing when neither lists nor the name of the system tell.
default_major()
{
	local major
	major=$(apt-cache show --no-all-versions postgresql 2>/dev/null |
		sed -n 's/^Depends:.*postgresql-\([0-9]*\).*/\1/p')
	for major in $major $supported; do
		have_lists || break
		[[ " $supported " != *" $major "* ]] || ! both_obtainable "$major" || { echo "$major"; return; }
	done
	case $(. "$root/etc/os-release"; echo "$ID ${VERSION_ID:-}") in
		'debian 12') echo 15 ;;
		'debian 13' | 'ubuntu 25.'*) echo 17 ;;
		'ubuntu 24.'*) echo 16 ;;
		'debian ' | 'ubuntu 26.'*) echo 18 ;;
	esac
}

# ---- what is missing ----

need() # words, package ...
{
	local package words=$1
	shift
	[ $# -gt 0 ] && have_apt || hopeless=yes
	for package in "$@"; do
		if have_apt && ! obtainable "$package"; then
			words="$words (apt has no $package)"
			unknown=yes
		elif [[ " ${missing[*]} " != *" $package "* ]]; then
			missing+=("$package")
		fi
	done
	what+=("$words")
}

# The major whose packages a pg_config belongs to; nothing if it was made by hand.
major_of_packages()
{
	local bindir
	bindir=$("$1" --bindir 2>/dev/null) || bindir=$(dirname "$1")
	[[ $bindir/pg_config != $(debian_pg_config '*') ]] || basename "$(dirname "$bindir")"
}

# What is not whole is completed by the least: the headers of a server that is there, then the server
# of headers that are there, then all of the default.
major_to_complete()
{
	local major
	for major in $supported; do
		[ -z "$(server_major "$root/usr/lib/postgresql/$major/bin")" ] ||
			! obtainable "postgresql-server-dev-$major" || { echo "$major"; return; }
	done
	for major in $supported; do
		[ ! -f "$root/usr/include/postgresql/$major/server/postgres.h" ] ||
			! obtainable "postgresql-$major" || { echo "$major"; return; }
	done
	default_major
}

need_postgresql()
{
	local lack first
	first=$(candidates | head -n 1)
	major=
	case $goal in
		build) pg_config=$first ;; # make does not look further either
		*) pg_config=$(whole) ;;
	esac
	[ -z "$pg_config" ] || [ -n "$(lacks "$pg_config")" ] || return 0
	if ! is_default; then
		pg_config=${first:-$PG_CONFIG}
		major=$(major_of_packages "$pg_config")
	elif have_apt; then
		major=$(major_to_complete)
		pg_config=$(debian_pg_config "$major")
		if [ -z "$(lacks "$pg_config")" ]; then
			pg_config=$first # what make takes, although another is whole
			major=$(major_of_packages "$first")
		fi
	else
		pg_config=$first
	fi
	for lack in $(lacks "$pg_config"); do
		need_of_postgresql "$lack" "$major"
	done
}

need_of_postgresql() # what lacks() says, major if packages have it
{
	local bindir name="PostgreSQL${2:+ $2}" server=() headers=()
	bindir=$("$pg_config" --bindir 2>/dev/null || true)
	[ -z "$2" ] || { server=("postgresql-$2"); headers=("postgresql-server-dev-$2"); }
	case $1 in
		pg_config) need_all_of_postgresql "$2" ;;
		version) need "PostgreSQL 15 or newer: $pg_config is of $("$pg_config" --version)" ;;
		headers) need "headers of $name's server: $("$pg_config" --includedir-server)/postgres.h" "${headers[@]}" ;;
		pgxs) need "PGXS of $name: $("$pg_config" --pgxs)" "${headers[@]}" ;;
		server) need "$name's server, of the major of its headers: $bindir/{initdb,postgres}" "${server[@]}" ;;
		pgbench) need "pgbench: $bindir/pgbench" "${server[@]}" ;;
		tests) need "$name's test programs and modules, beside $("$pg_config" --pgxs)" "${headers[@]}" ;;
		place) need "a PostgreSQL that can be tried: $pg_config knows no private place for extensions and is not
      in a directory of its own; use 'make install' and then 'make installcheck'" ;;
	esac
}

need_all_of_postgresql()
{
	local packages=("postgresql-${1:-}" "postgresql-server-dev-${1:-}")
	if ! is_default; then
		[ "$goal" != build ] || packages=("${packages[1]}")
		[ -n "$1" ] || packages=()
		need "PostgreSQL as PG_CONFIG names it: $PG_CONFIG does not run" "${packages[@]}"
		return
	fi
	[ -n "$1" ] || packages=(postgresql postgresql-server-dev-all)
	if [ "$goal" = build ]; then
		need "headers of PostgreSQL's server${1:+, $1}: no pg_config is in PATH" "${packages[1]}"
	else
		need "PostgreSQL${1:+ $1}, server and headers" "${packages[@]}"
	fi
}

compiles() # program, flag ...
{
	echo "$1" >"$scratch/probe.c"
	shift
	$cc -o "$scratch/probe" "$scratch/probe.c" "$@" >"$scratch/said" 2>&1
}

need_compiler()
{
	cc=${CA_CC:-$("$pg_config" --cc 2>/dev/null || echo gcc)}
	if ! type -P ${cc%% *} >/dev/null; then
		case $cc in
			gcc* | cc*) need "C compiler: ${cc%% *}" gcc ;;
			*) need "C compiler: ${cc%% *}" "${cc%% *}" ;;
		esac
		[ -f "$root/usr/include/stdio.h" ] || need 'headers of the C library: stdio.h' libc6-dev
		cc=
	elif ! compiles $'#include <stdio.h>\nint main(void) { return puts("") < 0; }'; then
		need "C library to compile and link with: $(grep -m 1 -i error "$scratch/said")" libc6-dev
		cc=
	fi
}

need_hiredis()
{
	local program flags libs
	program=$'#include <sys/time.h>\n#include <hiredis/hiredis.h>
int main(void) { return redisReaderCreate() == NULL; }'
	flags=${CA_CPPFLAGS-$(pkg-config --cflags hiredis 2>/dev/null || true)}
	libs=${CA_LIBS-$(pkg-config --libs hiredis 2>/dev/null || echo -lhiredis)}
	if [ -z "$cc" ]; then
		[ -f "$root/usr/include/hiredis/hiredis.h" ] || pkg-config --exists hiredis 2>/dev/null ||
			need 'hiredis: hiredis/hiredis.h' libhiredis-dev
	elif ! compiles "$program" $flags $libs; then
		need "hiredis: $(grep -m 1 -i error "$scratch/said")" libhiredis-dev
	fi
	# With it the two are found wherever they are; see the Makefile.
	type -P pkg-config >/dev/null || want pkg-config
}

# rediss:// is built with the OpenSSL of PostgreSQL; as in the Makefile.
wants_openssl()
{
	case ${WITH_OPENSSL:-} in
		yes) return 0 ;;
		no) return 1 ;;
	esac
	# packages have it, those that are not there yet too
	! type -P "$pg_config" >/dev/null || "$pg_config" --configure 2>/dev/null | grep -qE -e '--with-(openssl|ssl=openssl)'
}

need_openssl()
{
	local program flags libs
	wants_openssl || return 0
	program=$'#include <openssl/ssl.h>\nint main(void) { return SSL_CTX_new(TLS_client_method()) == NULL; }'
	flags=${CA_CPPFLAGS-$(pkg-config --cflags openssl 2>/dev/null || true)}
	libs=${CA_LIBS-$(pkg-config --libs openssl 2>/dev/null || echo -lssl -lcrypto)}
	if [ -z "$cc" ]; then
		[ -f "$root/usr/include/openssl/ssl.h" ] || pkg-config --exists openssl 2>/dev/null ||
			need 'OpenSSL: openssl/ssl.h' libssl-dev
	elif ! compiles "$program" $flags $libs; then
		need "OpenSSL, unless WITH_OPENSSL=no: $(grep -m 1 -i error "$scratch/said")" libssl-dev
	fi
}

runs() # program ...: one of them does
{
	local program
	for program in "$@"; do
		! PATH=$PATH:$root/usr/local/bin:$root/usr/bin command "$program" --version >/dev/null 2>&1 || return 0
	done
	return 1
}

need_redis()
{
	runs redis-server valkey-server ||
		need 'Redis: redis-server' "$(first_obtainable redis-server valkey-server)"
	[ "$goal" != test ] || runs redis-cli valkey-cli ||
		need "Redis' client: redis-cli" "$(first_obtainable redis-tools valkey-tools)"
}

need_perl()
{
	local modules=(File::Temp FindBin IO::Socket::INET IO::Socket::UNIX JSON::PP List::Util POSIX Storable
		Test::More Time::HiRes)
	perl "${modules[@]/#/-M}" -e 1 2>/dev/null || need "Perl's modules ${modules[*]}" perl
	[ "$goal" != test ] || perl -MIPC::Run -e 1 2>/dev/null || need "Perl's IPC::Run" libipc-run-perl
}

wants_peer() { [[ -z "${PEERS:-}" || " $PEERS " == *" $1 "* ]]; }

# What bench/peers is compared with, as far as PEERS= names it.
need_peers()
{
	local of=${major:-$(major_of_packages "$pg_config")} lib
	lib=$("$pg_config" --pkglibdir 2>/dev/null || true)
	if wants_peer pgmemcache; then
		[ -f "$lib/pgmemcache.so" ] || need "pgmemcache: $lib/pgmemcache.so" ${of:+"postgresql-$of-pgmemcache"}
		type -P memcached >/dev/null || need memcached memcached
	fi
	! wants_peer wal2json || [ -f "$lib/wal2json.so" ] || need "wal2json: $lib/wal2json.so" ${of:+"postgresql-$of-wal2json"}
	type -P gnuplot >/dev/null || need 'for the plots: gnuplot' gnuplot-nox
}

need_for_containers()
{
	type -P buildah >/dev/null || need 'to build images: buildah' buildah
	type -P ip >/dev/null || need 'for a network of their own: ip' iproute2
	need_redis
	runs redis-cli || need "Redis' client: redis-cli" redis-tools
}

want() { ! obtainable "$1" || optional+=("$1"); }

want_more_tests()
{
	type -P python3 >/dev/null || want python3-minimal # test/model
	local module # test/clients, clients/python, examples
	for module in redis psycopg pip django psycopg2 sqlalchemy starlette; do
		"$root/usr/bin/python3" -c "import $module" 2>/dev/null || want "python3-$module"
	done
	for module in active_record:activerecord pg:pg redis:redis; do # examples/rails
		"$root/usr/bin/ruby" -e "require '${module%:*}'" 2>/dev/null || want "ruby-${module#*:}"
	done
	type -P clang >/dev/null || want clang
	[ -x "$root/usr/sbin/pgbouncer" ] || type -P pgbouncer >/dev/null || want pgbouncer
	local of=${major:-$(major_of_packages "$pg_config")} lib tool # test/t/recipes
	lib=$("$pg_config" --pkglibdir 2>/dev/null || true)
	for tool in wal2json pg_repack:repack pg_partman_bgw:partman pglogical; do
		[ -z "$of" ] || [ -f "$lib/${tool%:*}.so" ] || want "postgresql-$of-${tool#*:}"
	done
	local program
	for program in prometheus prometheus-postgres-exporter prometheus-sql-exporter; do # examples/monitoring
		[ -x "$root/usr/bin/$program" ] || type -P "$program" >/dev/null || want "$program"
	done
	[ -x "$root/usr/bin/chromium" ] || type -P chromium >/dev/null || want chromium # examples/console
	# versions of it differ: 14 is the measure
	type -P clang-format >/dev/null || [[ $(candidate clang-format) != 1:14* ]] || want clang-format
}

find_missing()
{
	missing=()
	optional=()
	what=()
	hopeless=
	unknown=
	case $goal in
		bare | upgrade | containers)
			type -P debootstrap >/dev/null || need debootstrap debootstrap
			[ "$goal" != containers ] || need_for_containers
			return
			;;
	esac
	need_postgresql
	need_compiler
	need_hiredis
	need_openssl
	[ "$goal" != build ] || return 0
	type -P make >/dev/null || need make make
	need_redis
	need_perl
	[ "$goal" != lint ] || type -P clang >/dev/null || need 'second compiler: clang' clang
	[ "$goal" != bench-peers ] || need_peers
	[ "$goal" != test ] || want_more_tests
}

nothing_missing() { [ ${#what[@]} = 0 ]; }
wants_packages() { ! nothing_missing || { [ "$goal" = test ] && [ ${#optional[@]} -gt 0 ]; }; }
may_install() { [ -z "$tell$hopeless" ] && [ "$(id -u)" = 0 ] && have_apt; }

# ---- installing ----

rc=$root/usr/sbin/policy-rc.d
cluster=$root/etc/postgresql-common/createcluster.conf

# Daemons stay down and no cluster is made while packages are configured.
hold_services()
{
	saved=$(mktemp -d)
	[ ! -e "$rc" ] || mv "$rc" "$saved/policy-rc.d"
	[ ! -e "$cluster" ] || cp -a "$cluster" "$saved/createcluster.conf"
	printf '#!/bin/sh\nexit 101\n' >"$rc"
	chmod 755 "$rc"
	mkdir -p "$(dirname "$cluster")"
	echo 'create_main_cluster = false' >>"$cluster"
}

restore_services()
{
	local template=$root/usr/share/postgresql-common/createcluster.conf
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
	saved=
}

apt()
{
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" \
		</dev/null >"$scratch/apt.log" 2>&1 || { cat "$scratch/apt.log" >&2; return 1; }
}

daemons()
{
	local service
	for service in redis-server valkey-server pgbouncer memcached \
		prometheus prometheus-postgres-exporter prometheus-sql-exporter; do
		[ ! -e "$root/etc/init.d/$service" ] && [ ! -e "$root/lib/systemd/system/$service.service" ] || echo "$service"
	done
}

install_packages()
{
	local before service
	before=" $(daemons | tr '\n' ' ')"
	hold_services
	apt install -y --no-install-recommends "$@" || true # what is missing then is told
	restore_services
	for service in $(daemons); do
		if [[ $before != *" $service "* ]]; then
			update-rc.d "$service" disable >/dev/null 2>&1 || true
			deb-systemd-helper disable "$service.service" >/dev/null 2>&1 || true # those without an init script
			echo "The service $service stays off."
		fi
	done
}

command_line() { echo "apt-get install -y --no-install-recommends ${missing[*]} ${optional[*]}" | sed 's/ *$//'; }

explain()
{
	local command="make $goal"
	[ "$goal" != build ] || command=make
	echo "Missing for '$command':"
	printf '    %s\n' "${what[@]}"
	if [ ${#missing[@]} -gt 0 ]; then
		echo "As root:"
		echo "    apt-get update && $(command_line)"
	fi
	[ "$goal" != build ] || ! is_default || explain_other_majors
}

# make takes the pg_config in PATH, be it whole or not.
explain_other_majors()
{
	local other newest
	other=$(whole)
	newest=$(ls -v "$root"/usr/lib/postgresql/*/bin/pg_config 2>/dev/null | tail -n 1)
	if [ -n "$other" ]; then
		echo "Or, for $("$other" --version): make PG_CONFIG=$other"
	elif [ -n "$newest" ] && [ "$(major_of_packages "$newest")" != "$major" ]; then
		echo "Then: make PG_CONFIG=$pg_config"
	fi
}

find_missing
if may_install && wants_packages; then
	echo "Fetching the list of packages ..."
	apt update || true # some repository may be broken; others are not
	find_missing       # only now is it known which PostgreSQL there is
	if [ -z "$hopeless$unknown" ]; then
		echo "Installing: ${missing[*]} ${optional[*]}"
		install_packages "${missing[@]}" "${optional[@]}"
		find_missing
	fi
fi
nothing_missing && exit 0
explain >&2
exit 1
