/*
 * queries.mjs: what is asked. Each answer is bounded, in rows and in the length of its texts; `every` is the shortest
 * time between two askings, in seconds.
 *
 * Names are qualified, and the session's search_path is pg_catalog: nothing that somebody made in a schema is called by
 * accident, and a regclass is shown with its schema.
 */

export const ROWS = 200;
const TEXT = 2000;

const text = (column) => `pg_catalog.left(${column}::pg_catalog.text, ${TEXT}) AS ${column.replace(/.*\./, "")}`;

export const session = `
  SET search_path = pg_catalog, pg_temp;
  SET default_transaction_read_only = on;
  SET statement_timeout = '4s';
  SET lock_timeout = '1s';
  SET jit = off;
  SET TimeZone = 'UTC';
  SET DateStyle = 'ISO';
  SET IntervalStyle = 'postgres'`;

export const identity = `
  SELECT pg_catalog.current_database() AS database, CURRENT_USER AS role,
         pg_catalog.current_setting('server_version') AS version,
         (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER) AS superuser,
         (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'cache_aside') AS extension,
         pg_catalog.pg_size_bytes(pg_catalog.current_setting('cache_aside.max_wal_retained', true)) AS max_wal_retained`;

const endpoints = `
  SELECT ${text("e.endpoint")}, e.redis_state, e.redis_since, e.redis_version, e.redis_mode, e.in_flight, e.acknowledged_lsn,
         ${text("e.last_error")}, e.last_error_at
    FROM cache_aside.endpoints e LIMIT ${ROWS + 1}`;

const replicas = `
  SELECT p.name, p.region, p.weight, p.state, p.replayed, p.lag_bytes,
         (pg_catalog.date_part('epoch', p.lag) * 1000)::pg_catalog.float8 AS lag_ms,
         p.last_seen, p.eligible, ${text("p.why_not")}
    FROM cache_aside.replica_status p ORDER BY p.name LIMIT ${ROWS + 1}`;

const progress = `
  SELECT g.pid, g.datname, g.command, g.phase, g.done, g.total, g.unit, g.started
    FROM cache_aside.progress g ORDER BY g.started LIMIT ${ROWS + 1}`;

// Those that fire most come first: with more rules than rows these are the ones to see.
const rules = `
  SELECT s.relation::pg_catalog.text AS relation, ${text("s.rule")}, s.fired, s.keys, s.patterns, s.failures, s.last_fired
    FROM cache_aside.rule_stats s
   ORDER BY s.fired DESC, s.relation::pg_catalog.text, s.rule LIMIT ${ROWS + 1}`;

const kinds = `
  SELECT r.relation::pg_catalog.text AS relation, pg_catalog.left(r.name, ${TEXT}) AS rule, r.level, r.enabled
    FROM cache_aside.rules r LIMIT 5000`;

const gaps = `
  SELECT g.relation::pg_catalog.text AS relation, ${text("g.rule")}, ${text("g.gap")}, ${text("g.remedy")}
    FROM cache_aside.gaps g ORDER BY 1, 2, 3 LIMIT ${ROWS + 1}`;

const check = `
  SELECT c.severity, ${text("c.what")}, ${text("c.detail")}, ${text("c.remedy")} FROM cache_aside.check() c LIMIT ${ROWS + 1}`;

const sentinels = `
  SELECT ${text("n.sentinel")}, n.names, n.agrees, ${text("n.problem")}, n.master FROM cache_aside.sentinels n LIMIT ${ROWS + 1}`;

export const sections = [
  { name: "status", every: 1, sql: "SELECT * FROM cache_aside.status" },
  { name: "latency", every: 1, sql: "SELECT pg_catalog.date_part('epoch', h.below) * 1000 AS below, h.commits FROM cache_aside.latency_histogram() h" },
  { name: "endpoints", every: 1, sql: endpoints },
  { name: "replicas", every: 1, sql: replicas },
  { name: "progress", every: 1, sql: progress },
  { name: "rules", every: 2, sql: rules },
  { name: "kinds", every: 15, sql: kinds },
  { name: "gaps", every: 15, sql: gaps },
  { name: "check", every: 10, sql: check },
  { name: "sentinels", every: 5, sql: sentinels },
];
