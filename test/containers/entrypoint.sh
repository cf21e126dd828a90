#!/bin/bash
# What the official image's entry point does, as far as our image and its users lean on it: -c ... alone is an option of
# postgres; root gives itself up; an empty PGDATA is made, with POSTGRES_DB, a password over TCP, and the files of
# /docker-entrypoint-initdb.d, run against a server that listens on its socket only.
set -Eeo pipefail
[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
	install -d -o postgres -g postgres -m 700 "$PGDATA"
	install -d -o postgres -g postgres -m 3775 /var/run/postgresql
	exec gosu postgres "$BASH_SOURCE" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	export POSTGRES_USER=${POSTGRES_USER:-postgres}
	export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER} PGPASSWORD=${POSTGRES_PASSWORD:?is not set}
	initdb --username="$POSTGRES_USER" --pwfile=<(echo "$POSTGRES_PASSWORD")
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
	pg_ctl -w start -o "$(printf '%q ' "${@:2}" -c listen_addresses=)"
	[ "$POSTGRES_DB" = postgres ] || createdb -U "$POSTGRES_USER" -w "$POSTGRES_DB"
	for file in /docker-entrypoint-initdb.d/*; do
		case $file in
				*.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
			*.sql) psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -w -X -d "$POSTGRES_DB" -f "$file" ;;
		esac
	done
	pg_ctl -w -m fast stop
fi
exec "$@"
