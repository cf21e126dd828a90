#!/bin/bash
# The replica's entry point: a copy of the primary in an empty data directory, then what the image does.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	install -d -o postgres -g postgres -m 700 "$PGDATA"
	gosu postgres pg_basebackup -h primary -U postgres -D "$PGDATA" -R -c fast
fi
exec docker-entrypoint.sh "$@"
