
/* ---- routing: replicas, classification, waiting for replay ---- */

CREATE FUNCTION cache_aside.classify(query text, OUT read_only boolean, OUT reason text)
RETURNS record LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_classify';
COMMENT ON FUNCTION cache_aside.classify(text) IS
'may this SQL text run on a read replica, and if not, why not; parsed, analysed and rewritten, never executed';

CREATE FUNCTION cache_aside.is_read_only(query text)
RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_is_read_only';
COMMENT ON FUNCTION cache_aside.is_read_only(text) IS
'may this SQL text run on a read replica; see classify()';

CREATE FUNCTION cache_aside.caught_up(lsn pg_lsn) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_caught_up';
COMMENT ON FUNCTION cache_aside.caught_up(pg_lsn) IS
'on a standby: was this LSN replayed; on a primary: was it written';

CREATE PROCEDURE cache_aside.wait_for(lsn pg_lsn, timeout interval DEFAULT '1 s',
									  INOUT result text DEFAULT NULL)
LANGUAGE c
AS 'MODULE_PATHNAME', 'cache_aside_wait_for';
COMMENT ON PROCEDURE cache_aside.wait_for(pg_lsn, interval, text) IS
'on a standby: wait until this LSN was replayed; reached, timeout, not in recovery or other timeline';

CREATE FUNCTION cache_aside.stick(name text, ttl interval DEFAULT '30 s', wait boolean DEFAULT true)
RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_stick';
COMMENT ON FUNCTION cache_aside.stick(text, interval, boolean) IS
'when this transaction commits, leaves its LSN in Redis as cache_aside:stick:<name>; COMMIT waits for it';
REVOKE ALL ON FUNCTION cache_aside.stick(text, interval, boolean) FROM PUBLIC;

CREATE FUNCTION cache_aside.stuck_at(name text) RETURNS pg_lsn
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_stuck_at';
COMMENT ON FUNCTION cache_aside.stuck_at(text) IS
'the LSN that stick() left in Redis under this name, NULL if there is certainly none';
REVOKE ALL ON FUNCTION cache_aside.stuck_at(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.check_conninfo(conninfo text) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_check_conninfo';
COMMENT ON FUNCTION cache_aside.check_conninfo(text) IS
'true, or an error if libpq rejects the connection string or it holds a password';

CREATE TABLE cache_aside.replica (
	name text CONSTRAINT replica_pkey PRIMARY KEY
		CONSTRAINT replica_name_check
		CHECK (name OPERATOR(pg_catalog.~) '^[!-~]{1,63}$'),
	conninfo text NOT NULL
		CONSTRAINT replica_conninfo_check CHECK (cache_aside.check_conninfo(conninfo))
		CONSTRAINT replica_conninfo_length
		CHECK (pg_catalog.octet_length(conninfo) OPERATOR(pg_catalog.<=) 1000),
	region text
		CONSTRAINT replica_region_check
		CHECK (pg_catalog.octet_length(region) OPERATOR(pg_catalog.<=) 60),
	weight integer NOT NULL DEFAULT 1
		CONSTRAINT replica_weight_check
		CHECK (weight OPERATOR(pg_catalog.>=) 0 AND weight OPERATOR(pg_catalog.<=) 1000000)
);
COMMENT ON TABLE cache_aside.replica IS 'replicas that route() may choose';
COMMENT ON COLUMN cache_aside.replica.name IS
'application_name of the replica''s walreceiver, cache_aside.replica_name or cluster_name on the replica';
COMMENT ON COLUMN cache_aside.replica.conninfo IS
'how applications reach it, as libpq has it, without a password';
COMMENT ON COLUMN cache_aside.replica.region IS 'route() prefers replicas of the caller''s region';
COMMENT ON COLUMN cache_aside.replica.weight IS 'share of the reads; 0: none';

SELECT pg_catalog.pg_extension_config_dump('cache_aside.replica', '');

CREATE FUNCTION cache_aside.replica_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_replica_changed';
COMMENT ON FUNCTION cache_aside.replica_changed() IS
'Trigger function: every session reads the registry anew';
REVOKE ALL ON FUNCTION cache_aside.replica_changed() FROM PUBLIC;

CREATE TRIGGER replica_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON cache_aside.replica FOR EACH STATEMENT EXECUTE FUNCTION cache_aside.replica_changed();
ALTER TABLE cache_aside.replica ENABLE ALWAYS TRIGGER replica_changed;
COMMENT ON TRIGGER replica_changed ON cache_aside.replica IS
'tells sessions and worker that the registry changed';

CREATE FUNCTION cache_aside.add_replica(name text, conninfo text, region text DEFAULT NULL,
										weight integer DEFAULT 1) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'INSERT INTO cache_aside.replica (name, conninfo, region, weight) VALUES ($1, $2, $3, $4)';
COMMENT ON FUNCTION cache_aside.add_replica(text, text, text, integer) IS
'registers a replica for route()';
REVOKE ALL ON FUNCTION cache_aside.add_replica(text, text, text, integer) FROM PUBLIC;

CREATE FUNCTION cache_aside.set_replica(name text, conninfo text DEFAULT NULL,
										region text DEFAULT NULL, weight integer DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_set_replica';
COMMENT ON FUNCTION cache_aside.set_replica(text, text, text, integer) IS
'changes a registered replica; NULL leaves things as they are, region => '''' removes the region';
REVOKE ALL ON FUNCTION cache_aside.set_replica(text, text, text, integer) FROM PUBLIC;

CREATE FUNCTION cache_aside.remove_replica(name text) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_remove_replica';
COMMENT ON FUNCTION cache_aside.remove_replica(text) IS 'route() does not choose it any more';
REVOKE ALL ON FUNCTION cache_aside.remove_replica(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.route(after pg_lsn DEFAULT NULL, region text DEFAULT NULL,
								  max_lag interval DEFAULT NULL,
								  OUT role text, OUT name text, OUT conninfo text, OUT lsn pg_lsn,
								  OUT reason text)
RETURNS record LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_route';
COMMENT ON FUNCTION cache_aside.route(pg_lsn, text, interval) IS
'where a read should go that must see the token `after`: a replica, else the primary';

CREATE FUNCTION cache_aside.replica_states(
	OUT name text, OUT conninfo text, OUT region text, OUT weight integer, OUT state text,
	OUT replayed pg_lsn, OUT lag_bytes bigint, OUT lag interval, OUT last_seen timestamptz,
	OUT eligible boolean, OUT why_not text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_replica_states';
COMMENT ON FUNCTION cache_aside.replica_states() IS 'rows of the view replica_status';
REVOKE ALL ON FUNCTION cache_aside.replica_states() FROM PUBLIC;

CREATE VIEW cache_aside.replica_status AS
SELECT s.name, s.conninfo, s.region, s.weight, s.state, s.replayed, s.lag_bytes, s.lag,
	s.last_seen, s.eligible, s.why_not
FROM cache_aside.replica_states() s;
COMMENT ON VIEW cache_aside.replica_status IS
'each registered replica: how far it replayed, what it lags, and whether route() may choose it';
GRANT EXECUTE ON FUNCTION cache_aside.replica_states() TO pg_monitor;
GRANT SELECT ON cache_aside.replica_status TO pg_monitor;
