/* cache_aside 1.0 to 1.1: what ALTER EXTENSION UPDATE runs, put together by make as sql/upgrade/README says */

\echo Use "ALTER EXTENSION cache_aside UPDATE" to load this file. \quit

SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

-- Each object of the extension and its schema: the rights on it, and those that the extension gave it.
CREATE VIEW cache_aside.upgrade_object AS
SELECT o.classid, o.objid, o.kind, o.name, o.shown, o.owner, COALESCE(o.acl, o.preset) AS acl,
       COALESCE(i.initprivs, o.preset) AS own
  FROM (SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AS classid, p.oid AS objid,
               CASE WHEN p.prokind OPERATOR(pg_catalog.=) 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END AS kind,
               p.proname AS name, p.oid::pg_catalog.regprocedure::pg_catalog.text AS shown, p.proowner AS owner,
               p.proacl AS acl, pg_catalog.acldefault('f', p.proowner) AS preset
          FROM pg_catalog.pg_proc p
        UNION ALL
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, c.oid, 'TABLE', c.relname,
               c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner, c.relacl, pg_catalog.acldefault('r', c.relowner)
          FROM pg_catalog.pg_class c
        UNION ALL
        SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid, n.oid, 'SCHEMA', n.nspname,
               n.oid::pg_catalog.regnamespace::pg_catalog.text, n.nspowner, n.nspacl, pg_catalog.acldefault('n', n.nspowner)
          FROM pg_catalog.pg_namespace n) o
  JOIN pg_catalog.pg_extension e ON e.extname OPERATOR(pg_catalog.=) 'cache_aside'
  LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid OPERATOR(pg_catalog.=) o.classid
   AND i.objoid OPERATOR(pg_catalog.=) o.objid AND i.objsubid OPERATOR(pg_catalog.=) 0
 WHERE (o.kind OPERATOR(pg_catalog.=) 'SCHEMA' AND o.objid OPERATOR(pg_catalog.=) e.extnamespace)
    OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                WHERE d.classid OPERATOR(pg_catalog.=) o.classid AND d.objid OPERATOR(pg_catalog.=) o.objid
                  AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
                  AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.deptype OPERATOR(pg_catalog.=) 'e');

-- What somebody granted beyond what version 1.0 grants, and what was taken away of that. GRANT and REVOKE below
-- undo some of it, and enter all rights of an object into pg_init_privs, as the extension's own, which no dump contains; so
-- both is put right at the end.
CREATE TABLE cache_aside.upgrade_grant AS
SELECT o.classid, o.objid, o.kind, o.name, a.grantee, a.privilege_type, a.is_grantable
  FROM cache_aside.upgrade_object o
 CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
 WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
   AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(o.own) b
                    WHERE b.grantee OPERATOR(pg_catalog.=) a.grantee
                      AND b.privilege_type OPERATOR(pg_catalog.=) a.privilege_type);
CREATE TABLE cache_aside.upgrade_revoke AS
SELECT o.classid, o.objid, o.kind, o.name, a.grantee, a.privilege_type
  FROM cache_aside.upgrade_object o
 CROSS JOIN LATERAL pg_catalog.aclexplode(o.own) a
 WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
   AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(o.acl) b
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

