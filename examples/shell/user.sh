#!/bin/sh
# user.sh id: a user as JSON, or null: from the cache, else from PostgreSQL, which is then cached if Redis finds it fresh.
# Where they are: PGHOST, PGDATABASE ... for psql; REDISCLI for redis-cli's options. Redis may be away: that is a miss.
set -eu
key=user:$1

redis() { redis-cli -e ${REDISCLI:-} "$@" 2>/dev/null; }

value=$(redis GET "$key") || value=
if [ -z "$value" ]; then
	# One statement, so that the token is of the snapshot in which the row was read. It has no "|" in it.
	answer=$(psql -XAt -v ON_ERROR_STOP=1 -v id="$1" <<-'EOS'
		SELECT cache_aside.read_token(), COALESCE(row_to_json(u)::text, 'null')
		  FROM (SELECT) o LEFT JOIN users u ON u.id = :'id';
	EOS
	)
	token=${answer%%|*} value=${answer#*|}
	# 1: stored; 0: it may have missed a write. Either way the value is right to use.
	[ -z "$token" ] || redis FCALL cache_aside_fill 1 "$key" "$value" 300000 "$token" >/dev/null || :
fi
printf '%s\n' "$value"
