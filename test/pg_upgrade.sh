#!/bin/bash
# pg_upgrade.sh: a real pg_upgrade from PostgreSQL 15 to 17, in a Debian 13 (trixie) in a chroot, with the
# packages of both; FROM=17: from 17 to 18, in sid. One Redis, the same keys: tokens of the old system are refused
# once the new one delivers, what was cached from the old one is deleted, rules, row versions and fills go on, and
# the old server, started by mistake, does no harm. By hand: make upgrade
#
# How it ends: scripts/chroot.sh. It has UPGRADE_SECONDS (600).
set -euo pipefail
source "$(dirname "$0")/../scripts/chroot.sh"

checkout=$(cd "$(dirname "$0")/.." && pwd)
case ${FROM:-15} in
	15) old=15 new=17 suite=trixie suite_of_old=bookworm ;;
	17) old=17 new=18 suite=sid suite_of_old=trixie ;;
	*) wrong 'FROM is 15 or 17' ;;
esac
CHROOT_NAME=upgrade-$old-$new
enter_namespaces "${UPGRADE_SECONDS:-600}"

# ---- the tree

install_both()
{
	echo "deb $(awk '/^deb /{ print $2; exit }' "$tree/etc/apt/sources.list") $suite_of_old main" >"$tree/etc/apt/sources.list.d/old.list"
	mkdir -p "$tree/etc/postgresql-common"
	echo 'create_main_cluster = false' >"$tree/etc/postgresql-common/createcluster.conf"
	inside apt-get -qq update
	inside apt-get install -y --no-install-recommends postgresql-$old postgresql-$new \
		postgresql-server-dev-$new libhiredis-dev redis-server make gcc libc6-dev pkg-config
	# Headers and PGXS alone: the package wants the compilers of its release.
	inside sh -c "cd /root && apt-get -qq download postgresql-server-dev-$old && dpkg -x postgresql-server-dev-${old}_*.deb /"
}

build()
{
	local version
	for version in $old $new; do
		rm -rf "$tree/root/build"
		copy_checkout root/build
		inside make -C /root/build -s with_llvm=no PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config install
	done
}

# ---- servers; postgres runs them

as_postgres() { inside setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/srv/pg "$@"; }
program() { local version=$1 name=$2; shift 2; as_postgres "/usr/lib/postgresql/$version/bin/$name" "$@"; }
start() { program "$1" pg_ctl -D "/srv/pg/$1" -l "/srv/pg/$1.log" -w -s start; }
stop() { program "$1" pg_ctl -D "/srv/pg/$1" -m fast -w -s stop; }
q() { local version=$1; shift; program $new psql -h /srv/pg -p "54$version" -XAtq -v ON_ERROR_STOP=1 postgres "${@/#/-c}"; }
rc() { inside redis-cli -s /srv/pg/redis.sock "$@"; }

cluster()
{
	program "$1" initdb -D "/srv/pg/$1" -U postgres -A trust --locale=C --encoding=UTF8 -N -k >/dev/null
	cat >>"$tree/srv/pg/$1/postgresql.conf" <<-CONF
		port = 54$1
		listen_addresses = ''
		unix_socket_directories = '/srv/pg'
		shared_preload_libraries = 'cache_aside'
		cache_aside.redis_url = 'unix:///srv/pg/redis.sock'
		fsync = off
	CONF
}

# PostgreSQL 15.20 and 17.12 note a pg_attver in the options of every column, which pg_dump for pg_upgrade hands on.
# A new server of an older date (18.6) refuses it, whatever is in the database; a newer one would not need this.
forget_attver()
{
	! grep -q pg_attver "$tree/usr/lib/postgresql/$old/bin/postgres" || grep -q pg_attver "$tree/usr/lib/postgresql/$new/bin/postgres" || {
		echo "$new does not know the column option pg_attver of $old: taken out"
		q $old 'SET allow_system_table_mods = on' "UPDATE pg_attribute SET attoptions =
			(SELECT nullif(array_agg(o), '{}') FROM unnest(attoptions) o WHERE o NOT LIKE 'pg_attver=%') WHERE attoptions IS NOT NULL"
	}
}

wait_until()
{
	local i what=$1
	shift
	for ((i = 0; i < 300; i++)); do
		! "$@" || return 0
		sleep 0.1
	done
	wrong "$what"
}

is() { [ "$2" = "$3" ] || wrong "$1: got '$2', expected '$3'"; echo "$1"; }
refused() { case $(rc FCALL cache_aside_fill 1 "$2" old 60000 "$3" 2>&1) in 0 | *CA_TOKEN*) echo "$1" ;; *) wrong "$1" ;; esac; }
fills() { [ "$(q "$1" "SELECT cache_aside.fill('$2', 'v')")" = t ]; }
well() { [ "$(q "$1" "SELECT state || coalesce(trouble, '') FROM cache_aside.status")" = delivering ]; }
second() { [ "$(q "$1" "SELECT state || coalesce(trouble, '') FROM cache_aside.status")" = deliveringsecond ]; }
gone() { [ "$(rc EXISTS "$1")" = 0 ]; }

story()
{
	rm -rf "$tree/srv/pg"
	mkdir -p "$tree/srv/pg"
	inside chown postgres: /srv/pg
	as_postgres redis-server --port 0 --unixsocket /srv/pg/redis.sock --save '' --dir /srv/pg --daemonize yes >/dev/null
	cluster $old
	start $old
	q $old 'CREATE EXTENSION cache_aside' 'CREATE TABLE u (id int PRIMARY KEY, n int)' \
		"SELECT cache_aside.attach('u', 'u:{id}')" "SELECT cache_aside.enable_versioning('u')" 'INSERT INTO u VALUES (1, 1), (2, 1)' >/dev/null
	wait_until "$old delivers" well $old
	wait_until "fills on $old" fills $old u:1
	local token version
	token=$(q $old 'SELECT cache_aside.read_token()')
	version=$(q $old 'SELECT version FROM u WHERE id = 1')
	rc SET u:2 cached >/dev/null
	forget_attver
	stop $old
	cluster $new
	as_postgres sh -c "cd /srv/pg && /usr/lib/postgresql/$new/bin/pg_upgrade -b /usr/lib/postgresql/$old/bin \
		-B /usr/lib/postgresql/$new/bin -d /srv/pg/$old -D /srv/pg/$new -p 54$old -P 54$new -U postgres --retain" >"$log" 2>&1 ||
		{ tail -n 8 "$log"; grep -rhE '(error|ERROR|FATAL|PANIC):' "$tree/srv/pg/$new/pg_upgrade_output.d" | head; wrong pg_upgrade; }
	# Remedy: IsBinaryUpgrade in ca_worker_init() (src/worker/init.c)
	! grep -rq 'cache_aside worker' "$tree/srv/pg/$new/pg_upgrade_output.d" || wrong 'a worker ran in the servers of pg_upgrade'
	start $new
	wait_until "$new has its fills admitted" well $new
	echo "$new delivers, its fills are admitted"
	wait_until 'what was cached before is deleted' gone u:2
	refused "a token of $old is refused" u:1 "$token"
	q $new 'UPDATE u SET n = 2 WHERE id = 1' >/dev/null
	wait_until 'a write of the new system is delivered' gone u:1
	refused 'and again' u:1 "$token"
	wait_until "fills on $new" fills $new u:1
	is 'row versions go on' "$(q $new 'SELECT version FROM u WHERE id = 1')" $((version + 1))
	is 'nothing is amiss with the rules' "$(q $new 'SELECT count(*) FROM cache_aside.gaps')" 0
	start $old
	wait_until "$old, started by mistake, is second" second $old
	q $old 'UPDATE u SET n = 9 WHERE id = 2' >/dev/null
	refused 'its new tokens are refused, too' u:2 "$(q $old 'SELECT cache_aside.read_token()')"
	wait_until "fills on $new go on" fills $new u:2
	stop $old
	stop $new
	rc SHUTDOWN NOSAVE >/dev/null 2>&1 || true
}

echo "A Debian $suite with PostgreSQL $old and $new ..."
make_chroot "$suite" install_both
build >"$log" 2>&1 || { tail -n 20 "$log"; wrong 'the build'; }
story
echo ok
