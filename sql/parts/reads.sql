
/* ---- reads: guarded fills ---- */

CREATE FUNCTION cache_aside.get(key text) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_get';
COMMENT ON FUNCTION cache_aside.get(text) IS
'cached value, NULL when there is none; Redis that does not answer is a WARNING and NULL';
REVOKE ALL ON FUNCTION cache_aside.get(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.fill(
    key text, value text, ttl interval DEFAULT '5 min', token text DEFAULT cache_aside.read_token(),
    lease text DEFAULT NULL
) RETURNS boolean
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_fill';
COMMENT ON FUNCTION cache_aside.fill(text, text, interval, text, text) IS
'stores a value that this transaction read; false when it may miss an invalidation, or without a token; a lease ends with it';
REVOKE ALL ON FUNCTION cache_aside.fill(text, text, interval, text, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.release(key text, lease text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_release';
COMMENT ON FUNCTION cache_aside.release(text, text) IS
'gives back a lease that cache_aside_get gave in Redis, when nothing is stored; true if it was held';
REVOKE ALL ON FUNCTION cache_aside.release(text, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.fetch(key text, query text, ttl interval, VARIADIC params text[])
    RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_fetch';
COMMENT ON FUNCTION cache_aside.fetch(text, text, interval, text[]) IS
'cached value, else the query''s, which is stored; params are its $1, $2, ...';
REVOKE ALL ON FUNCTION cache_aside.fetch(text, text, interval, text[]) FROM PUBLIC;

CREATE FUNCTION cache_aside.fetch(key text, query text, ttl interval) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_fetch';
COMMENT ON FUNCTION cache_aside.fetch(text, text, interval) IS
'cached value, else the query''s, which is stored; for a query without parameters';
REVOKE ALL ON FUNCTION cache_aside.fetch(text, text, interval) FROM PUBLIC;

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

CREATE FUNCTION cache_aside.check_redis()
    RETURNS TABLE (item text, ok boolean, value text, follows text, repair text)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'cache_aside_check_redis';
COMMENT ON FUNCTION cache_aside.check_redis() IS
'what this Redis and its user can, what follows from what they cannot, and how it is repaired; ok is null where Redis does not tell';
REVOKE ALL ON FUNCTION cache_aside.check_redis() FROM PUBLIC;
