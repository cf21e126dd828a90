# Sourced by the entry point: the replica may stream. Here as the superuser, whose password both know.
echo "host replication $POSTGRES_USER all scram-sha-256" >>"$PGDATA/pg_hba.conf"
