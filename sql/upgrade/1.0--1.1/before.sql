/* cache_aside 1.0 to 1.1: what ALTER EXTENSION UPDATE runs, put together by make as sql/upgrade/README says */

\echo Use "ALTER EXTENSION cache_aside UPDATE" to load this file. \quit

SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

-- What somebody granted beyond what version 1.0 grants. GRANT and REVOKE below enter all rights of an object
-- into pg_init_privs, as the extension's own, which no dump contains; so the others are taken out again at the end.
CREATE TABLE cache_aside.upgrade_grant AS
SELECT o.classid, o.objid, o.kind, o.name, a.grantee, a.privilege_type, a.is_grantable
  FROM (SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AS classid, p.oid AS objid,
               CASE WHEN p.prokind OPERATOR(pg_catalog.=) 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END AS kind,
               p.proname AS name, p.proowner AS owner, p.proacl AS acl,
               pg_catalog.acldefault('f', p.proowner) AS preset
          FROM pg_catalog.pg_proc p
        UNION ALL
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, c.oid, 'TABLE', c.relname, c.relowner,
               c.relacl, pg_catalog.acldefault('r', c.relowner)
          FROM pg_catalog.pg_class c) o
  JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) o.classid AND d.objid OPERATOR(pg_catalog.=) o.objid
   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
   AND d.deptype OPERATOR(pg_catalog.=) 'e'
  JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid AND e.extname OPERATOR(pg_catalog.=) 'cache_aside'
  LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) o.classid
   AND i.objoid OPERATOR(pg_catalog.=) o.objid AND i.objsubid OPERATOR(pg_catalog.=) 0
 CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
 WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
   AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(COALESCE(i.initprivs, o.preset)) b
                    WHERE b.grantee OPERATOR(pg_catalog.=) a.grantee
                      AND b.privilege_type OPERATOR(pg_catalog.=) a.privilege_type);

-- The function behind status has more columns, so that it has to go first. The view gives way, and others that
-- show it can stay: its columns of version 1.0 come first in 1.1, too.
CREATE OR REPLACE VIEW cache_aside.status AS
SELECT NULL::pg_catalog.text AS role, NULL::pg_catalog.int4 AS pid, NULL::pg_catalog.text AS state,
	NULL::pg_catalog.text AS endpoint, NULL::pg_catalog.text AS redis_state,
	NULL::pg_catalog.timestamptz AS redis_since, NULL::pg_catalog.text AS redis_version,
	NULL::pg_catalog.int4 AS timeline, NULL::pg_catalog.pg_lsn AS confirmed_lsn,
	NULL::pg_catalog.pg_lsn AS restart_lsn, NULL::pg_catalog.pg_lsn AS read_lsn,
	NULL::pg_catalog.pg_lsn AS visible_lsn, NULL::pg_catalog.int8 AS lag_bytes,
	NULL::pg_catalog.float8 AS lag_ms, NULL::pg_catalog.timestamptz AS oldest_undelivered,
	NULL::pg_catalog.int8 AS retained_wal, NULL::pg_catalog.int8 AS commits, NULL::pg_catalog.int8 AS keys,
	NULL::pg_catalog.int8 AS patterns, NULL::pg_catalog.int8 AS batches, NULL::pg_catalog.int8 AS retries,
	NULL::pg_catalog.int8 AS reply_errors, NULL::pg_catalog.int8 AS skipped, NULL::pg_catalog.int8 AS reconnects,
	NULL::pg_catalog.int8 AS resyncs, NULL::pg_catalog.int8 AS resync_scanned,
	NULL::pg_catalog.int8 AS redeleted, NULL::pg_catalog.int8 AS redelete_waiting,
	NULL::pg_catalog.int8 AS redelete_dropped, NULL::pg_catalog.text AS last_error,
	NULL::pg_catalog.timestamptz AS last_error_at, NULL::pg_catalog.timestamptz AS stats_reset;

DROP FUNCTION cache_aside.worker_status();
DROP FUNCTION cache_aside.uninstall();  -- returns a text now

