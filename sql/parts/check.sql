/* ---- check: what an operator should mend ---- */

CREATE FUNCTION cache_aside.check_server(OUT severity text, OUT what text, OUT detail text, OUT remedy text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 5
AS 'MODULE_PATHNAME', 'cache_aside_check_server';

COMMENT ON FUNCTION cache_aside.check_server() IS
'The part of check() about the server: library, worker, delivery, slot, settings';

CREATE FUNCTION cache_aside.redis_findings()
RETURNS TABLE (item text, ok boolean, value text, follows text, repair text)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5
AS 'MODULE_PATHNAME', 'cache_aside_redis_findings';

COMMENT ON FUNCTION cache_aside.redis_findings() IS
'What check_redis() finds wrong, for check(); nothing for those who may not call that, or while nothing is delivered anyway';

CREATE FUNCTION cache_aside.check(OUT severity text, OUT what text, OUT detail text, OUT remedy text)
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
WITH found AS (
SELECT s.severity, s.what, s.detail, s.remedy FROM cache_aside.check_server() s
UNION ALL
SELECT 'warning', 'Redis', pg_catalog.concat_ws(': ', r.item, r.value, r.follows), pg_catalog.concat('-- ', r.repair)
  FROM cache_aside.redis_findings() r
UNION ALL
SELECT c.severity, 'log', pg_catalog.format('%s since %s: %s', c.count, t.stats_reset, c.what),
       'SELECT cache_aside.reset_stats(); -- once that was looked into'
  FROM cache_aside.status t
 CROSS JOIN LATERAL (VALUES
       ('warning', t.unreadable_records, 'messages in the log were of a newer release; each cost a resync'),
       ('warning', t.log_skips, 'parts of the log were skipped because the worker died of reading them; please report it'),
       ('warning', t.skipped, 'sticks were given up: something that is none has their name'),
       ('warning', t.redelete_dropped, 'keys were not deleted again: too many waited'),
       ('advice', t.foreign_records, 'messages in the log bear the name of cache_aside and are not its own; somebody calls pg_logical_emit_message()')
       ) c (severity, count, what)
 WHERE c.count OPERATOR(pg_catalog.>) 0
   AND pg_catalog.current_setting('shared_preload_libraries') OPERATOR(pg_catalog.~) '\mcache_aside\M' -- else it is an error
UNION ALL
SELECT 'warning', 'Sentinel', pg_catalog.format('%s: %s', n.sentinel,
           COALESCE(n.problem, pg_catalog.format('names %s, the majority %s', n.names, n.master))),
       '-- compare its configuration with that of the others, or take it out of cache_aside.redis_url'
  FROM cache_aside.sentinels n
 WHERE (NOT n.agrees OR n.problem IS NOT NULL)
   AND pg_catalog.current_setting('shared_preload_libraries') OPERATOR(pg_catalog.~) '\mcache_aside\M' -- likewise
UNION ALL
SELECT CASE WHEN g.gap OPERATOR(pg_catalog.~) 'whole pattern|every UPDATE counts' THEN 'warning' ELSE 'error' END,
       pg_catalog.format('rule %s of %s', g.rule, g.relation), g.gap, g.remedy
  FROM cache_aside.gaps g
UNION ALL -- for a role, a database, or one in the other
SELECT CASE WHEN c.name OPERATOR(pg_catalog.=) 'enabled' THEN 'error' ELSE 'warning' END, 'settings',
       pg_catalog.format('cache_aside.%s is off for%s%s%s', c.name, ' role ' OPERATOR(pg_catalog.||) r.rolname,
                         ' database ' OPERATOR(pg_catalog.||) d.datname,
                         CASE WHEN r.rolname IS NULL AND d.datname IS NULL THEN ' all roles' END),
       CASE WHEN r.rolname IS NULL AND d.datname IS NULL THEN pg_catalog.format('ALTER ROLE ALL RESET cache_aside.%s;', c.name)
            WHEN r.rolname IS NULL THEN pg_catalog.format('ALTER DATABASE %I RESET cache_aside.%s;', d.datname, c.name)
            WHEN d.datname IS NULL THEN pg_catalog.format('ALTER ROLE %I RESET cache_aside.%s;', r.rolname, c.name)
            ELSE pg_catalog.format('ALTER ROLE %I IN DATABASE %I RESET cache_aside.%s;', r.rolname, d.datname, c.name) END
  FROM pg_catalog.pg_db_role_setting s
 CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) u (setting)
 CROSS JOIN LATERAL (SELECT pg_catalog.substring(u.setting, '^cache_aside\.(enabled|ddl_invalidates)=') AS name) c
  LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.setrole
  LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase
 WHERE u.setting OPERATOR(pg_catalog.~*) '^cache_aside\.(enabled|ddl_invalidates)=(of|off|f|fa|fal|fals|false|n|no|0)$'
UNION ALL
SELECT 'warning', pg_catalog.format('replica %s', p.name),
       pg_catalog.format('route() does not choose it: %s%s', p.why_not, ', last seen ' OPERATOR(pg_catalog.||) p.last_seen::pg_catalog.text),
       pg_catalog.format('SELECT cache_aside.remove_replica(%L); -- unless it comes back', p.name)
  FROM cache_aside.replica_status p
 WHERE NOT p.eligible AND p.weight OPERATOR(pg_catalog.>) 0
   AND pg_catalog.current_setting('shared_preload_libraries') OPERATOR(pg_catalog.~) '\mcache_aside\M' -- likewise
UNION ALL
SELECT 'error', 'registry', 'changes of the registry of replicas are not told to anybody: its trigger is off',
       pg_catalog.format('ALTER TABLE cache_aside.replica ENABLE ALWAYS TRIGGER %I;', t.tgname)
  FROM pg_catalog.pg_trigger t
 WHERE t.tgrelid OPERATOR(pg_catalog.=) 'cache_aside.replica'::pg_catalog.regclass
   AND t.tgname OPERATOR(pg_catalog.=) 'replica_changed' AND t.tgenabled OPERATOR(pg_catalog.<>) 'A'
UNION ALL
SELECT DISTINCT 'warning', 'privileges',
       pg_catalog.format('role %I owns tables with rules and may not use the schema cache_aside: it can neither see nor mend them', r.rolname),
       pg_catalog.format('GRANT USAGE ON SCHEMA cache_aside TO %I;', r.rolname)
  FROM cache_aside.rule_triggers t
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.relation
  JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) c.relowner
 WHERE NOT pg_catalog.has_schema_privilege(r.oid, 'cache_aside', 'USAGE')
UNION ALL
SELECT 'warning', 'version', pg_catalog.format('the SQL objects are of version %s, the files of %s', e.extversion, a.default_version),
       'ALTER EXTENSION cache_aside UPDATE;'
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_available_extensions() a ON a.name OPERATOR(pg_catalog.=) e.extname
 WHERE e.extname OPERATOR(pg_catalog.=) 'cache_aside' AND e.extversion OPERATOR(pg_catalog.<>) a.default_version
)
SELECT f.severity, f.what, f.detail, f.remedy
  FROM found f
 ORDER BY pg_catalog.array_position(ARRAY['error', 'warning', 'advice'], f.severity), f.what, f.detail;
END;

COMMENT ON FUNCTION cache_aside.check() IS
'Everything that should be mended on this server and in this database, the worst first, each with the statement that does it; no row: all is well';

-- What it reads, it reads with the rights of who asks.
REVOKE ALL ON FUNCTION cache_aside.check(), cache_aside.check_server(), cache_aside.redis_findings() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cache_aside.check(), cache_aside.check_server(), cache_aside.redis_findings() TO pg_monitor;
