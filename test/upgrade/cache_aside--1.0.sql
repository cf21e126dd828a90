/* cache_aside 1.0: what CREATE EXTENSION runs, in the order of src/ */

\echo Use "CREATE EXTENSION cache_aside" to load this file. \quit

/* ---- capture: rules, keys, gaps ---- */

GRANT USAGE ON SCHEMA cache_aside TO PUBLIC;

CREATE FUNCTION cache_aside.require_preload() RETURNS void
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_require_preload';

COMMENT ON FUNCTION cache_aside.require_preload() IS
'Fails with a hint unless the library was loaded by shared_preload_libraries';

SELECT cache_aside.require_preload();

CREATE FUNCTION cache_aside.invalidate_row() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_row';

COMMENT ON FUNCTION cache_aside.invalidate_row() IS
'Trigger function, AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW; argument: key template';

CREATE FUNCTION cache_aside.invalidate_statement() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_statement';

COMMENT ON FUNCTION cache_aside.invalidate_statement() IS
'Trigger function, AFTER one event FOR EACH STATEMENT with transition tables; argument: key template, or pattern, query and name of a query rule';

CREATE FUNCTION cache_aside.invalidate_table() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_table';

COMMENT ON FUNCTION cache_aside.invalidate_table() IS
'Trigger function, AFTER TRUNCATE FOR EACH STATEMENT: every key of the rule; same arguments as the rule''s other triggers';

CREATE FUNCTION cache_aside.invalidate(VARIADIC keys text[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate';

COMMENT ON FUNCTION cache_aside.invalidate(text[]) IS
'Deletes these keys from Redis when the transaction commits';

REVOKE ALL ON FUNCTION cache_aside.invalidate(text[]) FROM PUBLIC;

CREATE FUNCTION cache_aside.invalidate_pattern(pattern text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_pattern';

COMMENT ON FUNCTION cache_aside.invalidate_pattern(text) IS
'Deletes every key that matches the glob pattern from Redis when the transaction commits';

REVOKE ALL ON FUNCTION cache_aside.invalidate_pattern(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.pending(OUT kind text, OUT key text) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_pending';

COMMENT ON FUNCTION cache_aside.pending() IS
'What the open transaction will invalidate when it commits';

CREATE FUNCTION cache_aside.attach(relation regclass, template text,
    columns name[] DEFAULT NULL, level text DEFAULT 'row') RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_attach';

COMMENT ON FUNCTION cache_aside.attach(regclass, text, name[], text) IS
'Adds a rule: writes to the table delete the keys the template names; returns the rule''s name';

CREATE FUNCTION cache_aside.attach_query(relation regclass, query text, pattern text,
    name text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_attach_query';

COMMENT ON FUNCTION cache_aside.attach_query(regclass, text, text, text) IS
'Adds a query rule: each row that the query over "changed" returns is a key; returns its name';

CREATE FUNCTION cache_aside.detach(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_detach';

COMMENT ON FUNCTION cache_aside.detach(regclass, text) IS
'Removes a rule, or all rules of the table; returns how many';

CREATE FUNCTION cache_aside.keys(relation regclass, "row" jsonb) RETURNS SETOF text
LANGUAGE c STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_keys';

COMMENT ON FUNCTION cache_aside.keys(regclass, jsonb) IS
'The keys that a write of this row would delete, for people writing rules';

CREATE FUNCTION cache_aside.trigger_arguments(tgargs bytea) RETURNS text[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_trigger_arguments';

COMMENT ON FUNCTION cache_aside.trigger_arguments(bytea) IS
'Splits pg_trigger.tgargs; for the views';

CREATE FUNCTION cache_aside.rule_pattern(arguments text[]) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_pattern';

COMMENT ON FUNCTION cache_aside.rule_pattern(text[]) IS
'Glob pattern that covers every key of a rule, without key_prefix; NULL if it is malformed';

CREATE FUNCTION cache_aside.rule_problem(relation regclass, arguments text[]) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_problem';

COMMENT ON FUNCTION cache_aside.rule_problem(regclass, text[]) IS
'What makes a rule unfit for its table today, or NULL';

-- One row per trigger that belongs to a rule, partitions' copies included.
CREATE VIEW cache_aside.rule_triggers AS
SELECT t.tgrelid::pg_catalog.regclass AS relation,
       CASE pg_catalog.cardinality(a.arguments) WHEN 3 THEN a.arguments[3]
            ELSE coalesce(a.arguments[1], '') END AS rule,
       t.tgname AS trigger,
       CASE p.proname WHEN 'invalidate_row' THEN 'row'
            WHEN 'invalidate_statement' THEN 'statement' ELSE 'table' END AS level,
       a.arguments,
       t.tgtype::integer AS type,
       t.tgenabled AS enabled,
       t.tgparentid <> 0 AS inherited,
       t.oid
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 CROSS JOIN LATERAL (SELECT cache_aside.trigger_arguments(t.tgargs) AS arguments) a
 WHERE n.nspname = 'cache_aside'
   AND p.proname IN ('invalidate_row', 'invalidate_statement', 'invalidate_table');

COMMENT ON VIEW cache_aside.rule_triggers IS
'Triggers that belong to cache rules, one row each; rules and gaps are made from it';

CREATE VIEW cache_aside.rules AS
SELECT t.relation,
       t.rule AS name,
       CASE WHEN pg_catalog.cardinality(t.arguments) < 2 THEN coalesce(t.arguments[1], '') END AS template,
       t.arguments[2] AS query,
       cache_aside.rule_pattern(t.arguments) AS pattern,
       (SELECT pg_catalog.array_agg(DISTINCT c.attname ORDER BY c.attname)
          FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_attribute c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid
         WHERE d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
           AND d.objid = ANY (pg_catalog.array_agg(t.oid))
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
           AND d.refobjid = t.relation AND d.refobjsubid > 0) AS columns,
       CASE WHEN pg_catalog.bool_or(t.level = 'row') THEN 'row'
            WHEN pg_catalog.bool_or(t.level = 'statement') THEN 'statement'
            ELSE 'table' END AS level,
       CASE WHEN pg_catalog.count(DISTINCT t.enabled) > 1 THEN 'mixed'
            ELSE CASE pg_catalog.min(t.enabled) WHEN 'A' THEN 'always' WHEN 'O' THEN 'origin'
                 WHEN 'R' THEN 'replica' ELSE 'disabled' END END AS enabled,
       pg_catalog.array_agg(t.trigger ORDER BY t.trigger) AS triggers
  FROM cache_aside.rule_triggers t
 WHERE NOT t.inherited
 GROUP BY t.relation, t.rule, t.arguments;

COMMENT ON VIEW cache_aside.rules IS
'Cache rules of this database, read from the triggers that are them';

-- Statements that make a rule, as gaps shows them. Internal.
CREATE FUNCTION cache_aside.rule_statement(relation regclass, arguments text[], columns name[], level text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_catalog.cardinality(arguments) > 1
  THEN pg_catalog.format('SELECT cache_aside.attach_query(%L, %L, %L, %L);', relation, arguments[2], arguments[1],
                         coalesce(arguments[3], arguments[1]))
  ELSE pg_catalog.format('SELECT cache_aside.attach(%L, %L%s%s);', relation, arguments[1],
         CASE WHEN columns IS NOT NULL THEN pg_catalog.format(', columns => %L', columns) ELSE '' END,
         CASE WHEN level OPERATOR(pg_catalog.=) 'statement' THEN ', level => ''statement''' ELSE '' END)
  END;

COMMENT ON FUNCTION cache_aside.rule_statement(regclass, text[], name[], text) IS
'The statement that attaches a rule; for the view gaps';

CREATE VIEW cache_aside.gaps AS
WITH RECURSIVE below (ancestor, relation, is_partition) AS (
    SELECT i.inhparent, i.inhrelid, c.relispartition
      FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
     WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
    UNION
    SELECT b.ancestor, i.inhrelid, b.is_partition
      FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.relation
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
     WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
), covered AS (
    SELECT t.relation, t.rule, pg_catalog.min(t.arguments) AS arguments,
           pg_catalog.bit_or(t.type) AS type, pg_catalog.bool_or(t.level = 'statement') AS statement
      FROM cache_aside.rule_triggers t
     GROUP BY t.relation, t.rule
), uncovered AS (
    SELECT v.relation, v.rule, v.arguments, e.name AS event
      FROM covered v
      JOIN pg_catalog.pg_class c ON c.oid = v.relation
     CROSS JOIN (VALUES (4, 'INSERT'), (16, 'UPDATE'), (8, 'DELETE'), (32, 'TRUNCATE')) e (bit, name)
     WHERE v.type & e.bit = 0
       -- foreign tables have TRUNCATE triggers since PostgreSQL 16
       AND NOT (e.bit = 32 AND c.relkind = 'f'
                AND pg_catalog.current_setting('server_version_num')::integer < 160000)
       AND NOT EXISTS (SELECT FROM below b JOIN covered a ON a.relation = b.ancestor AND a.rule = v.rule
                        WHERE b.relation = v.relation AND b.is_partition)
)
SELECT t.relation, t.rule,
       CASE t.enabled
         WHEN 'D' THEN pg_catalog.format('trigger %I is disabled', t.trigger)
         WHEN 'R' THEN pg_catalog.format('trigger %I fires for replicated changes only', t.trigger)
         ELSE pg_catalog.format('trigger %I does not fire for replicated changes', t.trigger) END AS gap,
       pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;', t.relation, t.trigger) AS remedy
  FROM cache_aside.rule_triggers t
 WHERE t.enabled <> 'A'
UNION ALL
SELECT b.relation::pg_catalog.regclass, v.rule,
       'TRUNCATE of the partition fires nothing',
       pg_catalog.format('CREATE TRIGGER %1$I AFTER TRUNCATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION '
                         'cache_aside.invalidate_table(%3$s); ALTER TABLE %2$s ENABLE ALWAYS TRIGGER %1$I;',
                         'cache_aside_' || pg_catalog.substr(pg_catalog.md5(v.rule), 1, 8) || '_truncate',
                         b.relation::pg_catalog.regclass,
                         (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(x.argument), ', ' ORDER BY x.place)
                            FROM pg_catalog.unnest(v.arguments) WITH ORDINALITY x (argument, place)))
  FROM covered v JOIN below b ON b.ancestor = v.relation AND b.is_partition
  JOIN pg_catalog.pg_class c ON c.oid = b.relation
 WHERE NOT EXISTS (SELECT FROM covered o
                    WHERE o.relation = b.relation AND o.rule = v.rule AND o.type & 32 <> 0)
   AND NOT EXISTS (SELECT FROM below m JOIN covered o ON o.relation = m.ancestor AND o.rule = v.rule
                    WHERE m.relation = v.relation AND m.is_partition)
   AND NOT (c.relkind = 'f' AND pg_catalog.current_setting('server_version_num')::integer < 160000)
UNION ALL
SELECT b.relation::pg_catalog.regclass, v.rule,
       pg_catalog.format('the table inherits from %s, whose rule does not see its rows', v.relation),
       cache_aside.rule_statement(b.relation, v.arguments, r.columns, r.level)
  FROM covered v JOIN below b ON b.ancestor = v.relation AND NOT b.is_partition
  LEFT JOIN cache_aside.rules r ON r.relation = v.relation AND r.name = v.rule
 WHERE NOT EXISTS (SELECT FROM covered o WHERE o.relation = b.relation AND o.rule = v.rule)
UNION ALL
SELECT v.relation, v.rule, p.problem,
       pg_catalog.format('SELECT cache_aside.detach(%L, %L);', v.relation, v.rule)
  FROM covered v
 CROSS JOIN LATERAL (SELECT cache_aside.rule_problem(v.relation, v.arguments) AS problem) p
 WHERE p.problem IS NOT NULL
   AND EXISTS (SELECT FROM cache_aside.rules r WHERE r.relation = v.relation AND r.name = v.rule)
UNION ALL
SELECT u.relation, u.rule,
       pg_catalog.format('no trigger fires on %s', pg_catalog.string_agg(u.event, ', ' ORDER BY u.event)),
       pg_catalog.format('SELECT cache_aside.detach(%L, %L); ', u.relation, u.rule)
         || cache_aside.rule_statement(u.relation, u.arguments, r.columns, r.level)
  FROM uncovered u
  LEFT JOIN cache_aside.rules r ON r.relation = u.relation AND r.name = u.rule
 GROUP BY u.relation, u.rule, u.arguments, r.columns, r.level
UNION ALL
SELECT v.relation, v.rule,
       CASE c.relkind WHEN 'p' THEN 'writes that name a partition fire no statement trigger'
            ELSE 'logical replication fires no statement trigger' END,
       CASE WHEN pg_catalog.cardinality(v.arguments) > 1
            THEN '-- call cache_aside.invalidate() for such writes'
            ELSE pg_catalog.format('SELECT cache_aside.detach(%L, %L); ', v.relation, v.rule)
                 || cache_aside.rule_statement(v.relation, v.arguments, NULL, 'row') END
  FROM covered v JOIN pg_catalog.pg_class c ON c.oid = v.relation
 WHERE v.statement
   AND (c.relkind = 'p'
        OR EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = v.relation));

COMMENT ON VIEW cache_aside.gaps IS
'Changes that no trigger of a rule sees, each with the statement that closes the gap';

GRANT SELECT ON cache_aside.rule_triggers, cache_aside.rules, cache_aside.gaps TO PUBLIC;

/* ---- worker: delivery and status ---- */

CREATE TABLE cache_aside.registered_pattern (
	pattern text PRIMARY KEY CHECK (pattern OPERATOR(pg_catalog.<>) '')
);

COMMENT ON TABLE cache_aside.registered_pattern IS
'Patterns of keys that only invalidate() produces, so that a resync deletes them too';

SELECT pg_catalog.pg_extension_config_dump('cache_aside.registered_pattern', '');

CREATE FUNCTION cache_aside.register_pattern(pattern text) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'INSERT INTO cache_aside.registered_pattern VALUES ($1) ON CONFLICT DO NOTHING';

COMMENT ON FUNCTION cache_aside.register_pattern(text) IS
'Names keys that only invalidate() produces by a glob pattern: a resync deletes them too';

REVOKE ALL ON FUNCTION cache_aside.register_pattern(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.unregister_pattern(pattern text) RETURNS boolean
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'WITH gone AS (DELETE FROM cache_aside.registered_pattern AS r
                  WHERE r.pattern OPERATOR(pg_catalog.=) $1 RETURNING 1)
    SELECT EXISTS (SELECT FROM gone)';

COMMENT ON FUNCTION cache_aside.unregister_pattern(text) IS
'Undoes register_pattern(); false if the pattern was not registered';

REVOKE ALL ON FUNCTION cache_aside.unregister_pattern(text) FROM PUBLIC;

CREATE VIEW cache_aside.patterns AS
SELECT r.pattern, c.relpersistence = 'u' AS unlogged
  FROM cache_aside.rules r
  JOIN pg_catalog.pg_class c ON c.oid = r.relation
 WHERE r.pattern IS NOT NULL
UNION
SELECT p.pattern, false FROM cache_aside.registered_pattern p;

COMMENT ON VIEW cache_aside.patterns IS
'What a resync of this database deletes, as glob patterns';

CREATE FUNCTION cache_aside.resync() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_resync';

COMMENT ON FUNCTION cache_aside.resync() IS
'Deletes everything the rules of every database could have cached, when the transaction commits';

REVOKE ALL ON FUNCTION cache_aside.resync() FROM PUBLIC;

CREATE FUNCTION cache_aside.flush(relation regclass) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_flush';

COMMENT ON FUNCTION cache_aside.flush(regclass) IS
'Deletes everything the rules of one table could have cached, when the transaction commits';

CREATE FUNCTION cache_aside.uninstall() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_uninstall';

COMMENT ON FUNCTION cache_aside.uninstall() IS
'Stops delivery until the next restart and drops the replication slot; before the library is taken out';

REVOKE ALL ON FUNCTION cache_aside.uninstall() FROM PUBLIC;

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
	OUT last_error text, OUT last_error_at timestamptz, OUT stats_reset timestamptz)
RETURNS record
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_worker_status';

COMMENT ON FUNCTION cache_aside.worker_status() IS
'The row of the view cache_aside.status';

REVOKE ALL ON FUNCTION cache_aside.worker_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cache_aside.worker_status() TO pg_monitor;

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
'Age of the oldest commit that is not delivered, in milliseconds; 0 if there is none';
COMMENT ON COLUMN cache_aside.status.redelete_waiting IS
'Keys that will be deleted again (cache_aside.redelete)';
COMMENT ON COLUMN cache_aside.status.redelete_dropped IS
'Keys that were not deleted again because too many waited';
COMMENT ON COLUMN cache_aside.status.retained_wal IS
'Bytes of log that the replication slot keeps; null without a slot';

GRANT SELECT ON cache_aside.status TO pg_monitor;

CREATE FUNCTION cache_aside.latency_histogram(OUT below interval, OUT commits bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_latency_histogram';

COMMENT ON FUNCTION cache_aside.latency_histogram() IS
'Commits by the time from their commit to the acknowledgement of Redis; null: all slower ones';

REVOKE ALL ON FUNCTION cache_aside.latency_histogram() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cache_aside.latency_histogram() TO pg_monitor;

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

/* ---- reads: guarded fills ---- */

CREATE FUNCTION cache_aside.read_token() RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'cache_aside_read_token';
COMMENT ON FUNCTION cache_aside.read_token() IS
'proof of how fresh this transaction''s reads are, to pass to a fill; NULL: do not fill (the transaction has written, is very old, or no worker runs)';

CREATE FUNCTION cache_aside.get(key text) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_get';
COMMENT ON FUNCTION cache_aside.get(text) IS
'cached value, NULL when there is none; Redis that does not answer is a WARNING and NULL';
REVOKE ALL ON FUNCTION cache_aside.get(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.fill(
    key text, value text, ttl interval DEFAULT '5 min', token text DEFAULT cache_aside.read_token()
) RETURNS boolean
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_fill';
COMMENT ON FUNCTION cache_aside.fill(text, text, interval, text) IS
'stores a value that this transaction read; false when it may miss an invalidation, or without a token';
REVOKE ALL ON FUNCTION cache_aside.fill(text, text, interval, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.fetch(key text, query text, ttl interval, VARIADIC params text[])
    RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_fetch';
COMMENT ON FUNCTION cache_aside.fetch(text, text, interval, text[]) IS
'cached value, else the query''s, which is stored; params are its $1, $2, ...';
REVOKE ALL ON FUNCTION cache_aside.fetch(text, text, interval, text[]) FROM PUBLIC;

CREATE FUNCTION cache_aside.warm(query text, ttl interval DEFAULT '5 min') RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'cache_aside_warm_query';
COMMENT ON FUNCTION cache_aside.warm(text, interval) IS
'fills the cache from a query that returns key and value; the number of entries stored';
REVOKE ALL ON FUNCTION cache_aside.warm(text, interval) FROM PUBLIC;

CREATE FUNCTION cache_aside.warm(
    relation regclass, template text, ttl interval
) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'cache_aside_warm_table';
COMMENT ON FUNCTION cache_aside.warm(regclass, text, interval) IS
'fills the cache from a table, each row as JSON under the key that the template gives; the number of entries stored';
REVOKE ALL ON FUNCTION cache_aside.warm(regclass, text, interval) FROM PUBLIC;

CREATE FUNCTION cache_aside.warm_progress_slots(
    OUT pid integer, OUT datid oid, OUT started timestamptz, OUT rows bigint, OUT stored bigint,
    OUT refused bigint
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_warm_progress';
COMMENT ON FUNCTION cache_aside.warm_progress_slots() IS 'what the view warm_progress shows';
REVOKE ALL ON FUNCTION cache_aside.warm_progress_slots() FROM PUBLIC;

CREATE VIEW cache_aside.warm_progress AS
    SELECT p.pid, d.datname, p.started, p.rows, p.stored, p.refused
    FROM cache_aside.warm_progress_slots() p
    LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) p.datid;
COMMENT ON VIEW cache_aside.warm_progress IS 'one row per warm() that is running now';
GRANT EXECUTE ON FUNCTION cache_aside.warm_progress_slots() TO pg_monitor;
GRANT SELECT ON cache_aside.warm_progress TO pg_monitor;

CREATE FUNCTION cache_aside.audit(
    relation regclass, template text, sample double precision DEFAULT 0.01,
    value_query text DEFAULT NULL
) RETURNS TABLE (key text, cached text, expected text, verdict text)
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'cache_aside_audit';
COMMENT ON FUNCTION cache_aside.audit(regclass, text, double precision, text) IS
'compares cache entries with the rows they stand for: fresh, absent, in flight or stale; value_query makes the expected value of the row $1, default the row as JSON';
REVOKE ALL ON FUNCTION cache_aside.audit(regclass, text, double precision, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.audit_summary(
    relation regclass, template text, sample double precision DEFAULT 0.01,
    value_query text DEFAULT NULL
) RETURNS TABLE (
    checked bigint, fresh bigint, stale bigint, absent bigint, in_flight bigint,
    nines double precision
)
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    -- no pinned search_path here: value_query is the caller's
    AS $$
    SELECT c.checked, c.fresh, c.stale, c.absent, c.in_flight,
           CASE WHEN c.fresh OPERATOR(pg_catalog.+) c.stale OPERATOR(pg_catalog.=) 0 THEN NULL
                WHEN c.stale OPERATOR(pg_catalog.=) 0 THEN 'infinity'
                ELSE OPERATOR(pg_catalog.-) pg_catalog.log(c.stale::pg_catalog.float8
                     OPERATOR(pg_catalog./) (c.fresh OPERATOR(pg_catalog.+) c.stale)) END
    FROM (SELECT pg_catalog.count(*) AS checked,
                 pg_catalog.count(*) FILTER (WHERE a.verdict OPERATOR(pg_catalog.=) 'fresh') AS fresh,
                 pg_catalog.count(*) FILTER (WHERE a.verdict OPERATOR(pg_catalog.=) 'stale') AS stale,
                 pg_catalog.count(*) FILTER (WHERE a.verdict OPERATOR(pg_catalog.=) 'absent') AS absent,
                 pg_catalog.count(*) FILTER (WHERE a.verdict OPERATOR(pg_catalog.=) 'in flight') AS in_flight
          FROM cache_aside.audit(relation, template, sample, value_query) a) c
$$;
COMMENT ON FUNCTION cache_aside.audit_summary(regclass, text, double precision, text) IS
'audit() in one row; nines: of the entries found, how many nines are fresh, infinity when all are';
REVOKE ALL ON FUNCTION cache_aside.audit_summary(regclass, text, double precision, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.shard(key text, copies integer) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'cache_aside_shard';
COMMENT ON FUNCTION cache_aside.shard(text, integer) IS
'name of one of the copies of a hot key whose rule says {column#copies}';

/* ---- row versions ---- */

CREATE FUNCTION cache_aside.row_version() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_row_version';

COMMENT ON FUNCTION cache_aside.row_version() IS
'Trigger function, BEFORE INSERT OR UPDATE ... FOR EACH ROW: row_version(column, presents [, counted columns...])';

CREATE FUNCTION cache_aside.enable_versioning(relation regclass, version name DEFAULT 'version',
	columns name[] DEFAULT NULL, start text DEFAULT 'one', presents text DEFAULT 'next') RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_enable_versioning';

COMMENT ON FUNCTION cache_aside.enable_versioning(regclass, name, name[], text, text) IS
'Gives each row of a table a version that no writer can skip';

CREATE FUNCTION cache_aside.disable_versioning(relation regclass, drop_column boolean DEFAULT false)
RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_disable_versioning';

COMMENT ON FUNCTION cache_aside.disable_versioning(regclass, boolean) IS
'Takes the version trigger off a table and, if asked, drops the column';

CREATE VIEW cache_aside.versioned AS
SELECT t.tgrelid::pg_catalog.regclass AS relation,
	a.args[1]::pg_catalog.name AS version,
	pg_catalog.split_part(a.args[2], ', ', 1) AS presents,
	CASE WHEN a.args[2] OPERATOR(pg_catalog.~~) '%, sequence' THEN 'sequence' ELSE 'one' END AS start,
	CASE WHEN pg_catalog.cardinality(a.args) OPERATOR(pg_catalog.>) 2
		THEN a.args[3:]::pg_catalog.name[] END AS columns,
	t.tgname AS trigger,
	t.tgenabled OPERATOR(pg_catalog.=) ANY (ARRAY['O', 'A']::pg_catalog."char"[]) AS enabled,
	NOT EXISTS (SELECT FROM pg_catalog.pg_trigger later
		WHERE later.tgrelid OPERATOR(pg_catalog.=) t.tgrelid
			AND later.tgname OPERATOR(pg_catalog.>) t.tgname
			AND (later.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 3) OPERATOR(pg_catalog.=) 3
			AND (later.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 20)
				OPERATOR(pg_catalog.<>) 0) AS fires_last,
	ARRAY(SELECT name FROM pg_catalog.unnest(a.args[1:1] OPERATOR(pg_catalog.||) a.args[3:]) AS name
		WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute c
			WHERE c.attrelid OPERATOR(pg_catalog.=) t.tgrelid
				AND c.attname OPERATOR(pg_catalog.=) name
				AND c.attnum OPERATOR(pg_catalog.>) 0 AND NOT c.attisdropped)) AS missing_columns,
	ARRAY(WITH RECURSIVE below AS (
			SELECT i.inhrelid AS relid FROM pg_catalog.pg_inherits i
			WHERE i.inhparent OPERATOR(pg_catalog.=) t.tgrelid
		UNION ALL
			SELECT i.inhrelid FROM below, pg_catalog.pg_inherits i
			WHERE i.inhparent OPERATOR(pg_catalog.=) below.relid)
		SELECT below.relid::pg_catalog.regclass FROM below
		WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger child
			WHERE child.tgrelid OPERATOR(pg_catalog.=) below.relid
				AND child.tgfoid OPERATOR(pg_catalog.=) t.tgfoid
				AND child.tgenabled OPERATOR(pg_catalog.=) ANY
					(ARRAY['O', 'A']::pg_catalog."char"[]))) AS bare_children
FROM pg_catalog.pg_trigger t,
	LATERAL (SELECT cache_aside.trigger_arguments(t.tgargs) AS args) a
WHERE t.tgfoid OPERATOR(pg_catalog.=) 'cache_aside.row_version()'::pg_catalog.regprocedure
	AND t.tgparentid OPERATOR(pg_catalog.=) 0;

COMMENT ON VIEW cache_aside.versioned IS
'Tables with row versions, how they are kept, and what is wrong with them: a trigger that is off or not the last to fire, columns that are gone, children without one';

GRANT SELECT ON cache_aside.versioned TO PUBLIC;

/* ---- items ---- */

CREATE FUNCTION cache_aside.put_if_absent(relation regclass, item jsonb) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_put_if_absent';

COMMENT ON FUNCTION cache_aside.put_if_absent(regclass, jsonb) IS
'Inserts a row unless its primary key exists; the stored row, or NULL when it existed';

CREATE FUNCTION cache_aside.get_item(relation regclass, key jsonb) RETURNS jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_get_item';

COMMENT ON FUNCTION cache_aside.get_item(regclass, jsonb) IS
'The row with this primary key, or NULL';

CREATE FUNCTION cache_aside.update_item(relation regclass, key jsonb, changes jsonb,
	expected_version bigint DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_update_item';

COMMENT ON FUNCTION cache_aside.update_item(regclass, jsonb, jsonb, bigint) IS
'Changes columns of one row; the new row, NULL when it is absent, error 40001 when its version is not the expected one';

CREATE FUNCTION cache_aside.update_item_if(relation regclass, key jsonb, changes jsonb,
	expected_version bigint) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_update_item_if';

COMMENT ON FUNCTION cache_aside.update_item_if(regclass, jsonb, jsonb, bigint) IS
'Changes columns of one row if it has this version; false when it has not, or is absent';

CREATE FUNCTION cache_aside.delete_item(relation regclass, key jsonb,
	expected_version bigint DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_delete_item';

COMMENT ON FUNCTION cache_aside.delete_item(regclass, jsonb, bigint) IS
'Deletes one row; false when it is absent, error 40001 when its version is not the expected one';

CREATE FUNCTION cache_aside.query_items(relation regclass, match jsonb, range jsonb DEFAULT NULL,
	newest_first boolean DEFAULT true, row_limit integer DEFAULT 20) RETURNS SETOF jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'cache_aside_query_items';

COMMENT ON FUNCTION cache_aside.query_items(regclass, jsonb, jsonb, boolean, integer) IS
'Rows whose columns equal match and whose range column lies in [from, to), in the order of that column';

/* ---- routing ---- */

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

CREATE FUNCTION cache_aside.commit_lsn() RETURNS pg_lsn
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_commit_lsn';
COMMENT ON FUNCTION cache_aside.commit_lsn() IS
'end of this session''s last commit that wrote, NULL if there was none; the token for route() and wait_for()';

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

CREATE FUNCTION cache_aside.stick(name text, ttl interval DEFAULT '30 s') RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_stick';
COMMENT ON FUNCTION cache_aside.stick(text, interval) IS
'when this transaction commits, leaves its LSN in Redis as cache_aside:stick:<name>';
REVOKE ALL ON FUNCTION cache_aside.stick(text, interval) FROM PUBLIC;

CREATE FUNCTION cache_aside.stuck_at(name text) RETURNS pg_lsn
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_stuck_at';
COMMENT ON FUNCTION cache_aside.stuck_at(text) IS
'the LSN that stick() left in Redis under this name, NULL if there is none';
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
