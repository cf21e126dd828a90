
/* ---- shared: what the worker tells; waiting for it; read tokens ---- */

CREATE FUNCTION cache_aside.uninstall() RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_uninstall';

COMMENT ON FUNCTION cache_aside.uninstall() IS
'Stops delivery until the next restart, takes along what is in Redis and drops the replication slot; returns what is left there';

REVOKE ALL ON FUNCTION cache_aside.uninstall() FROM PUBLIC;

-- Columns come at the end only: an older script's function shows the first of them, and its view can be replaced.
CREATE FUNCTION cache_aside.worker_status(
	OUT role text, OUT pid integer, OUT state text,
	OUT endpoint text, OUT redis_state text, OUT redis_since timestamptz, OUT redis_version text,
	OUT timeline integer, OUT confirmed_lsn pg_lsn, OUT restart_lsn pg_lsn, OUT read_lsn pg_lsn,
	OUT visible_lsn pg_lsn, OUT lag_bytes bigint, OUT lag_ms double precision,
	OUT oldest_undelivered timestamptz, OUT retained_wal bigint,
	OUT commits bigint, OUT keys bigint, OUT patterns bigint, OUT batches bigint,
	OUT retries bigint, OUT reply_errors bigint, OUT skipped bigint, OUT reconnects bigint,
	OUT resyncs bigint, OUT resync_scanned bigint,
	OUT redeleted bigint, OUT redelete_waiting bigint, OUT redelete_dropped bigint,
	OUT last_error text, OUT last_error_at timestamptz, OUT stats_reset timestamptz,
	OUT foreign_records bigint, OUT unreadable_records bigint, OUT stray_keys bigint,
	OUT log_skips bigint, OUT log_skipped_from pg_lsn, OUT log_skipped_to pg_lsn,
	OUT log_skipped_at timestamptz,
	OUT trouble text, OUT trouble_since timestamptz, OUT first_error text, OUT hint text,
	OUT backend_connections bigint, OUT redis_mode text, OUT redis_credentials text)
RETURNS record
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_worker_status';

COMMENT ON FUNCTION cache_aside.worker_status() IS
'The row of the view cache_aside.status';

CREATE VIEW cache_aside.status AS
SELECT * FROM cache_aside.worker_status();

COMMENT ON VIEW cache_aside.status IS
'The worker: its state, Redis, the position of delivery, lag, counters and the last error';
COMMENT ON COLUMN cache_aside.status.confirmed_lsn IS
'Every commit at or below it that had to be delivered was delivered and acknowledged';
COMMENT ON COLUMN cache_aside.status.restart_lsn IS
'Where reading resumes: the first message of the oldest transaction open or not yet delivered';
COMMENT ON COLUMN cache_aside.status.lag_bytes IS
'Flushed (standby: replayed) log that is not confirmed';
COMMENT ON COLUMN cache_aside.status.lag_ms IS
'Age of the oldest commit that is not delivered, in milliseconds; 0 if there is none; null: not known here';
COMMENT ON COLUMN cache_aside.status.redelete_waiting IS
'Keys that will be deleted again (cache_aside.redelete)';
COMMENT ON COLUMN cache_aside.status.redelete_dropped IS
'Keys that were not deleted again because too many waited';
COMMENT ON COLUMN cache_aside.status.foreign_records IS
'Messages in the log under the name cache_aside that any role can write; they were not followed';
COMMENT ON COLUMN cache_aside.status.unreadable_records IS
'Messages of cache_aside in the log that this version cannot read; each asked for a resync';
COMMENT ON COLUMN cache_aside.status.stray_keys IS
'Keys that query rules gave outside their declared patterns; the view gaps names the rules';
COMMENT ON COLUMN cache_aside.status.log_skips IS
'How often log was skipped because the worker died of reading it; a resync made up for it';
COMMENT ON COLUMN cache_aside.status.log_skipped_from IS
'Begin of the log skipped last; null: none ever was';
COMMENT ON COLUMN cache_aside.status.log_skipped_to IS
'End of the log skipped last';
COMMENT ON COLUMN cache_aside.status.log_skipped_at IS
'When log was skipped last; kept over restarts of the server';
COMMENT ON COLUMN cache_aside.status.last_error IS
'The last error; it stays when all is well again';
COMMENT ON COLUMN cache_aside.status.trouble IS
'What is wrong now, by its cause; null: nothing';
COMMENT ON COLUMN cache_aside.status.trouble_since IS
'Since when something has been wrong, whatever the cause was at first';
COMMENT ON COLUMN cache_aside.status.first_error IS
'The error with which the present trouble began; null: there is none';
COMMENT ON COLUMN cache_aside.status.hint IS
'What to do about the present trouble';
COMMENT ON COLUMN cache_aside.status.redis_mode IS
'functions: guarded fills are to be had; plain: this Redis has no functions, or forbids them';
COMMENT ON COLUMN cache_aside.status.redis_credentials IS
'Where the password for Redis comes from: command, password file, URL, none; and what is set beside it and not used';
COMMENT ON COLUMN cache_aside.status.retained_wal IS
'Bytes of log that the replication slot keeps; null without a slot';

CREATE FUNCTION cache_aside.worker_endpoints(
	OUT endpoint text, OUT redis_state text, OUT redis_since timestamptz, OUT redis_version text,
	OUT redis_mode text, OUT in_flight integer, OUT acknowledged_lsn pg_lsn,
	OUT last_error text, OUT last_error_at timestamptz, OUT events text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_worker_endpoints';

COMMENT ON FUNCTION cache_aside.worker_endpoints() IS
'The rows of the view cache_aside.endpoints';

CREATE VIEW cache_aside.endpoints AS
SELECT * FROM cache_aside.worker_endpoints();

COMMENT ON VIEW cache_aside.endpoints IS
'Each Redis that this server delivers to, or follows as a standby: its state and what is under way';
COMMENT ON COLUMN cache_aside.endpoints.endpoint IS
'Where it is, without secrets';
COMMENT ON COLUMN cache_aside.endpoints.in_flight IS
'Calls of the worker that it has not answered yet';
COMMENT ON COLUMN cache_aside.endpoints.acknowledged_lsn IS
'The confirmed LSN as this Redis holds it; on a standby, as the primary wrote it; null: not known';
COMMENT ON COLUMN cache_aside.endpoints.last_error IS
'What ended the last session with it; it stays when all is well again';
COMMENT ON COLUMN cache_aside.endpoints.events IS
'Are others told there which keys are deleted: off, publish or stream, as cache_aside.events has it; refused: Redis does not let it happen, see trouble in status';

CREATE FUNCTION cache_aside.sentinel_answers(
	OUT sentinel text, OUT names text, OUT agrees boolean, OUT problem text,
	OUT master text, OUT master_since timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_sentinel_answers';

COMMENT ON FUNCTION cache_aside.sentinel_answers() IS
'The rows of the view cache_aside.sentinels';

CREATE VIEW cache_aside.sentinels AS
SELECT * FROM cache_aside.sentinel_answers();

COMMENT ON VIEW cache_aside.sentinels IS
'The Sentinels that cache_aside.redis_url lists, as the worker heard them last; empty if it lists none';
COMMENT ON COLUMN cache_aside.sentinels.names IS
'The master that this Sentinel names; null: none, see problem';
COMMENT ON COLUMN cache_aside.sentinels.agrees IS
'It names the master that is delivered to';
COMMENT ON COLUMN cache_aside.sentinels.problem IS
'Why it names none';
COMMENT ON COLUMN cache_aside.sentinels.master IS
'The master that a majority of those listed named last; null: none yet';
COMMENT ON COLUMN cache_aside.sentinels.master_since IS
'Since when, as far as this server knows';

CREATE FUNCTION cache_aside.latency_histogram(OUT below interval, OUT commits bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_latency_histogram';

COMMENT ON FUNCTION cache_aside.latency_histogram() IS
'Commits by the time from their commit to the acknowledgement of Redis; null: all slower ones';

-- What monitoring reads. A view's function is asked with the rights of who selects from the view.
REVOKE ALL ON FUNCTION cache_aside.worker_status(), cache_aside.worker_endpoints(), cache_aside.sentinel_answers(),
	cache_aside.latency_histogram() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cache_aside.worker_status(), cache_aside.worker_endpoints(), cache_aside.sentinel_answers(),
	cache_aside.latency_histogram() TO pg_monitor;
GRANT SELECT ON cache_aside.status, cache_aside.endpoints, cache_aside.sentinels TO pg_monitor;

CREATE FUNCTION cache_aside.long_work(
	OUT pid integer, OUT datid oid, OUT relid oid, OUT command text, OUT phase text,
	OUT done bigint, OUT total bigint, OUT unit text, OUT started timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 5
AS 'MODULE_PATHNAME', 'cache_aside_long_work';

COMMENT ON FUNCTION cache_aside.long_work() IS
'The rows of the view progress';

CREATE VIEW cache_aside.progress AS
SELECT p.pid, p.datid, d.datname, p.relid, p.command, p.phase, p.done, p.total, p.unit, p.started
  FROM cache_aside.long_work() p
  LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) p.datid;

COMMENT ON VIEW cache_aside.progress IS
'Long work that goes on now: warm(), audit(), attach() on many partitions, a scan of Redis by the worker';
COMMENT ON COLUMN cache_aside.progress.relid IS
'The table, where there is one; an oid of that database';
COMMENT ON COLUMN cache_aside.progress.command IS
'warm, audit, attach; of the worker: resync, or patterns (TRUNCATE, invalidate_pattern, DDL)';
COMMENT ON COLUMN cache_aside.progress.total IS
'Estimated; null: not known. Of warm and audit as much as the table was said to hold when it was analysed last';
COMMENT ON COLUMN cache_aside.progress.unit IS
'Of done and total: rows, triggers, keys';

REVOKE ALL ON FUNCTION cache_aside.long_work() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cache_aside.long_work() TO pg_monitor;
GRANT SELECT ON cache_aside.progress TO pg_monitor;

CREATE FUNCTION cache_aside.reset_stats() RETURNS void
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_reset_stats';

COMMENT ON FUNCTION cache_aside.reset_stats() IS
'Sets the counters and the latency histogram of the worker to zero';

REVOKE ALL ON FUNCTION cache_aside.reset_stats() FROM PUBLIC;

CREATE FUNCTION cache_aside.wait_delivered(
	lsn pg_lsn DEFAULT NULL, timeout interval DEFAULT '10 s')
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_wait_delivered';

COMMENT ON FUNCTION cache_aside.wait_delivered(pg_lsn, interval) IS
'True once everything up to the LSN (null: all that is in the log now) is delivered to Redis';

REVOKE ALL ON FUNCTION cache_aside.wait_delivered(pg_lsn, interval) FROM PUBLIC;

CREATE FUNCTION cache_aside.ping(OUT round_trip interval, OUT error text)
RETURNS record
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_ping';

COMMENT ON FUNCTION cache_aside.ping() IS
'Round trip to Redis on the worker''s connection, or why there is none';

REVOKE ALL ON FUNCTION cache_aside.ping() FROM PUBLIC;

CREATE FUNCTION cache_aside.read_token() RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'cache_aside_read_token';
COMMENT ON FUNCTION cache_aside.read_token() IS
'proof of how fresh this transaction''s reads are, to pass to a fill; NULL: do not fill (the transaction has written, is very old, or no worker runs)';
