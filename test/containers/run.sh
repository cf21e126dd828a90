#!/bin/bash
# run.sh [compose] [cloudnative-pg] [extension]: the images of packaging/container, built and run. make containers
#
# Nothing is pulled: the base of each image is a Debian from debootstrap with what bases.Dockerfile adds, in the place of
# postgres:17, an operand image of CloudNativePG, and node:22-slim. buildah builds our Dockerfiles on them as they are.
# What is built runs in chroots:
#   compose         examples/compose: the services, with what compose.yaml gives them, on addresses of one network
#   cloudnative-pg  the operand image, as user 26, with the parameters of cluster.yaml
#   extension       the extension image, mounted on an untouched PostgreSQL 18, as cluster-image-volume.yaml has it
#
# How it ends: scripts/chroot.sh. It has CONTAINERS_SECONDS (2400).
set -euo pipefail
source "$(dirname "$0")/../../scripts/chroot.sh"

here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
CHROOT_NAME=containers
[ $# -gt 0 ] || set -- compose cloudnative-pg extension
enter_namespaces "${CONTAINERS_SECONDS:-2400}" "$@"
mount -t proc proc /proc # of our own namespace
mkdir -p "$tree"
place=$tree

# ---- images

buildah() { command buildah --root "$place/images" --runroot "$place/run" "$@"; }
built() { buildah images -q "localhost/$1" >/dev/null 2>&1; }

# debian suite: a tree of debootstrap as an image. With our authorities: a proxy may have one of its own.
debian()
{
	local container
	! built "debian:$1" || return 0
	tree=$place/base
	rm -rf --one-file-system "$tree"
	log=$place/log make_chroot "$1" inside apt-get clean
	cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
	umount "$tree/dev/shm" "$tree/proc"
	container=$(buildah from scratch)
	buildah add -q "$container" "$tree" / >/dev/null
	buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env DEBIAN_FRONTEND=noninteractive "$container"
	buildah commit -q --rm "$container" "localhost/debian:$1" >/dev/null
	rm -rf --one-file-system "$tree"
}

# base image suite target [option ...]: what stands for an image that cannot be pulled
base()
{
	debian "$2"
	built "$1" || build "$1" test/containers/bases.Dockerfile --target "$3" --build-arg "DEBIAN=$2" "${@:4}"
}

build() # image Dockerfile [option ...]
{
	local image=$1 file=$2
	shift 2
	buildah bud --layers --isolation chroot --pull-never --ignorefile "$checkout/.dockerignore" -f "$checkout/$file" -t "localhost/$image" "$@" \
		"$checkout" >"$place/log" 2>&1 || { tail -n 40 "$place/log"; wrong "the image $image"; }
	echo "built $image"
}

# ---- running: one network, in which each service has an address and finds the others by name

make_network()
{
	unshare --net sh -c 'ip link set lo up && exec sleep infinity' &
	network=$! # what is begun in the background is a program, not a function: a signal must reach it
	trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
	until in_network ip -o link show up >/dev/null 2>&1; do sleep 0.1; done
	printf '127.0.0.1 localhost\n127.0.0.2 primary\n127.0.0.3 replica\n127.0.0.4 redis\n' >"$place/hosts"
	mount --bind "$place/hosts" /etc/hosts
}

in_network() { nsenter --net="/proc/$network/ns/net" "$@"; }

config() { buildah inspect --type image --format "{{with .OCIv1.Config}}$2{{end}}" "localhost/$1" | grep . || true; }

# root image: a container of it, ready to chroot into; its path in $root, its environment in $image_environment.
root()
{
	local container
	container=$(buildah from --pull-never "localhost/$1")
	root=$(buildah mount "$container")
	mapfile -t image_environment < <(config "$1" '{{range .Env}}{{println .}}{{end}}')
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs tmpfs "$root/dev/shm"
	cp "$place/hosts" "$root/etc/hosts"
}

in_root() { in_network chroot "$root" env -i "${image_environment[@]}" HOME=/tmp "$@"; }

wait_until()
{
	local i what=$1
	shift
	for ((i = 0; i < 600; i++)); do
		! "$@" >/dev/null 2>&1 || { echo "$what"; return 0; }
		sleep 0.1
	done
	tail -n 20 "$place"/*.out 2>/dev/null
	wrong "$what"
}

says() { [ "$("${@:2}")" = "$1" ]; }
is() { [ "$2" = "$3" ] || { tail -n 20 "$place"/*.out; wrong "$1: got '$2', expected '$3'"; }; echo "$1"; }
rc() { in_network redis-cli -h redis "$@"; }
start_redis()
{
	nsenter --net="/proc/$network/ns/net" setpriv --reuid=nobody --clear-groups "$@" --bind 127.0.0.4 --save '' --dir /tmp >"$place/redis.out" 2>&1 &
	wait_until redis rc PING
}

# ---- the stories

# service name address: as compose would start it, which launch does. PostgreSQL listens on the address, for there is one network.
service()
{
	local name=$1 address=$2 volume target directory environment entrypoint command volumes image
	eval "$("$here/compose.pl" "$checkout/examples/compose/compose.yaml" "$name")"
	root "$image"
	roots[$name]=$root
	for volume in "${volumes[@]}"; do
		target=$root$(cut -d : -f 2 <<<"$volume")
		touch "$target"
		mount --bind "$checkout/examples/compose/${volume%%:*}" "$target"
	done
	[ ${#entrypoint[@]} -gt 0 ] || mapfile -t entrypoint < <(config "$image" '{{range .Entrypoint}}{{println .}}{{end}}')
	[ ${#command[@]} -gt 0 ] || mapfile -t command < <(config "$image" '{{range .Cmd}}{{println .}}{{end}}')
	[ -z "$address" ] || command+=(-c "listen_addresses=$address")
	directory=$(config "$image" '{{.WorkingDir}}')
	printf '%q ' exec chroot "$root" env -i "${image_environment[@]}" "${environment[@]}" env -C "${directory:-/}" \
		"${entrypoint[@]}" "${command[@]}" >"$place/$name.sh"
	launch "$name"
}

launch()
{
	nsenter --net="/proc/$network/ns/net" bash "$place/$1.sh" >"$place/$1.out" 2>&1 &
	pids[$1]=$!
}

sql() { root=${roots[$1]} in_root psql -XAtq -v ON_ERROR_STOP=1 -U postgres "${@:2}" shop; }

# http method path [body [cookie]]; the cookie of a PUT goes to $place/cookie.
http()
{
	in_network perl -MHTTP::Tiny -e 'my ($into, $method, $path, $body, $cookie) = @ARGV;
		my $answer = HTTP::Tiny->new(timeout => 10)->request($method, "http://127.0.0.1:3000$path",
			{ headers => { "content-type" => "application/json", $cookie ? (cookie => $cookie) : () }, content => $body // "" });
		if ($method eq "PUT") { open my $file, ">", $into; print $file ($answer->{headers}{"set-cookie"} // "") =~ s/;.*//sr }
		print $answer->{content}' "$place/cookie" "$@"
}

cached() { http GET "/users/$1" >/dev/null; says 1 rc EXISTS "user:$1"; }
replica_reads() { http GET /users/43 >/dev/null; rc DEL user:43 >/dev/null; [[ $(http GET /health) =~ '"name":"replica"'.*'"reads":'[1-9] ]]; }

compose()
{
	local -A roots pids
	local command user
	base postgres:17 trixie postgres
	base node:22-slim trixie node
	build postgres-cache-aside:17 packaging/container/Dockerfile --build-arg BASE=localhost/postgres:17
	build app examples/compose/app/Dockerfile
	make_network
	eval "$("$here/compose.pl" "$checkout/examples/compose/compose.yaml" redis | grep ^command)"
	start_redis "${command[@]}"
	service primary 127.0.0.1,127.0.0.2
	wait_until 'the primary is healthy' in_root pg_isready --host=127.0.0.1 --dbname=shop --username=postgres
	is 'the image makes the extension' "$(sql primary -c "SELECT extname FROM pg_extension WHERE extname ~ 'cache'")" cache_aside
	wait_until 'the worker delivers' says delivering sql primary -c 'SELECT state FROM cache_aside.status'
	service replica 127.0.0.3
	wait_until 'the replica streams' says replica sql primary -c 'SELECT application_name FROM pg_stat_replication'
	wait_until 'and stands by' says standby sql replica -c 'SELECT state FROM cache_aside.status'
	service app ''
	wait_until 'the application answers' says '{"id":"42","name":"Grace","version":1}' http GET /users/42
	wait_until 'what it read is cached' cached 42
	user='{"id":"42","name":"Barbara","version":2}'
	is 'the application writes' "$(http PUT /users/42 '{"name":"Barbara"}')" "$user"
	is 'and sees what it wrote' "$(http GET /users/42 '' "$(cat "$place/cookie")")" "$user"
	wait_until 'everybody does' says "$user" http GET /users/42
	wait_until 'and it is cached' cached 42
	sql primary -c 'SET cache_aside.synchronous = on' -c "UPDATE users SET name = 'Eve' WHERE id = 42"
	is 'a commit deletes the key' "$(rc EXISTS user:42)" 0
	wait_until 'the replica is read from' replica_reads
	kill -INT "${pids[primary]}"
	wait "${pids[primary]}" || true
	launch primary
	wait_until 'it starts again on its volume' says delivering sql primary -c 'SELECT state FROM cache_aside.status'
	is 'with its data' "$(sql primary -c 'SELECT name FROM users WHERE id = 42')" Eve
}

# smoke major: in $root, as $who, with $conf: the extension can be made, and a rule deletes a key.
smoke()
{
	local bin=/usr/lib/postgresql/$1/bin
	in_root install -d -o "$who" /srv/data /srv/run
	as_who() { in_root setpriv --reuid="$who" --regid=postgres --clear-groups env PGHOST=/srv/run PGUSER=postgres "$@"; }
	as_who "$bin/initdb" -D /srv/data -U postgres -A trust >"$place/smoke.out"
	printf '%s\n' "$conf" "unix_socket_directories = '/srv/run'" "listen_addresses = ''" >>"$root/srv/data/postgresql.conf"
	as_who "$bin/pg_ctl" -D /srv/data -l /srv/data/log -w -s start || { cat "$root/srv/data/log"; wrong "PostgreSQL $1 does not start"; }
	ask() { as_who "$bin/psql" -XAtq -v ON_ERROR_STOP=1 "${@/#/-c}" postgres; }
	ask 'CREATE EXTENSION cache_aside' 'CREATE TABLE t (id int PRIMARY KEY)' "SELECT cache_aside.attach('t', 't:{id}')" >/dev/null
	wait_until 'the worker delivers' says delivering ask 'SELECT state FROM cache_aside.status'
	rc MSET t:1 old t:2 old >/dev/null
	ask 'SET cache_aside.synchronous = on' 'INSERT INTO t VALUES (1)'
	is 'a commit deletes the key of its row' "$(rc EXISTS t:1)" 0
	is 'and no other' "$(rc EXISTS t:2)" 1
	as_who "$bin/pg_ctl" -D /srv/data -m fast -w -s stop
}

# As the operator has it: user 26, the manifest's parameters, and the secret of Redis where the manifest projects it.
manifest() # file
{
	conf=$("$here/compose.pl" -p "$checkout/packaging/container/cloudnative-pg/$1")
	start_redis redis-server --requirepass sesame
	mkdir -p "$root/projected/redis"
	echo sesame >"$root/projected/redis/password"
	export REDISCLI_AUTH=sesame
}

cloudnative_pg()
{
	base cloudnative-pg:17 trixie postgres --build-arg ID=26
	build cloudnative-pg-cache-aside:17 packaging/container/Dockerfile --target cloudnative-pg --build-arg BASE=localhost/cloudnative-pg:17
	is 'it runs as the user of the operator' "$(config cloudnative-pg-cache-aside:17 '{{.User}}')" 26
	make_network
	root cloudnative-pg-cache-aside:17
	who=26
	manifest cluster.yaml
	smoke 17
}

extension()
{
	local volume
	base postgres:18 sid postgres --build-arg PG_MAJOR=18
	build cache-aside:18 packaging/container/Dockerfile --target extension --build-arg PG_MAJOR=18 --build-arg BASE=localhost/postgres:18
	volume=$(buildah mount "$(buildah from --pull-never localhost/cache-aside:18)")
	(cd "$volume" && find . -type f | sort)
	make_network
	root postgres:18
	[ -z "$(find "$root/usr/lib" -name '*hiredis*' -o -name '*cache_aside*')" ] || wrong 'the server is not untouched'
	mkdir -p "$root/extensions/cache-aside"
	mount --bind -o ro "$volume" "$root/extensions/cache-aside"
	who=999
	manifest cluster-image-volume.yaml
	conf+=$'\n'"extension_control_path = '\$system:/extensions/cache-aside/share'"
	conf+=$'\n'"dynamic_library_path = '\$libdir:/extensions/cache-aside/lib'"
	smoke 18
}

for story in "$@"; do
	echo "---- $story"
	("${story//-/_}") || exit $?
done
echo ok
