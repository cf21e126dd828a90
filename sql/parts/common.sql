/* cache_aside 1.1: what CREATE EXTENSION runs, put together by make of sql/parts */

\echo Use "CREATE EXTENSION cache_aside" to load this file. \quit

-- The path that CREATE EXTENSION sets has the schema before pg_temp; what the script means is
-- written out instead: every name, type and operator below is qualified, and test/t/security/qualified_names sees to it.
-- So no IN, BETWEEN, LIKE and CASE x WHEN, which take their operator from the path.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

CREATE FUNCTION cache_aside.check_installation() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_check_installation';

COMMENT ON FUNCTION cache_aside.check_installation() IS
'Fails with a hint unless the library was preloaded and nobody else could have put anything into the schema; CREATE EXTENSION calls it';

REVOKE ALL ON FUNCTION cache_aside.check_installation() FROM PUBLIC;

SELECT cache_aside.check_installation();

GRANT USAGE ON SCHEMA cache_aside TO PUBLIC;

CREATE FUNCTION cache_aside.library_version() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_library_version';

COMMENT ON FUNCTION cache_aside.library_version() IS
'The release of the library that this server has loaded; for version()';

CREATE FUNCTION cache_aside.version(OUT library text, OUT objects text, OUT remedy text) RETURNS record
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT l.release, e.extversion,
         CASE WHEN NOT pg_catalog.starts_with(l.release, pg_catalog.concat(e.extversion, '.'))
              THEN 'ALTER EXTENSION cache_aside UPDATE;' END
    FROM pg_catalog.pg_extension e
   CROSS JOIN LATERAL (SELECT cache_aside.library_version() AS release) l
   WHERE e.extname OPERATOR(pg_catalog.=) 'cache_aside';
END;

COMMENT ON FUNCTION cache_aside.version() IS
'The release of the library, the version of this database''s SQL objects, and the statement that makes them fit if they do not';

-- A function for its ROWS and SET: as a part of the views it would be taken for millions of rows, and they be
-- compiled (jit) for seconds to find nothing.
CREATE FUNCTION cache_aside.tables_below(above oid)
RETURNS TABLE (ancestor oid, relation oid, is_partition boolean)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
SET search_path = pg_catalog, pg_temp
SET jit TO off
BEGIN ATOMIC
  WITH RECURSIVE child AS (
    SELECT i.inhparent, i.inhrelid, c.relispartition
      FROM pg_catalog.pg_inherits i
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
     WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'f']::pg_catalog."char"[])
  ), below (ancestor, relation, is_partition) AS (
    SELECT c.inhparent, c.inhrelid, c.relispartition
      FROM child c
     WHERE above IS NULL OR c.inhparent OPERATOR(pg_catalog.=) above
    UNION
    SELECT b.ancestor, c.inhrelid, b.is_partition
      FROM below b
      JOIN child c ON c.inhparent OPERATOR(pg_catalog.=) b.relation
  )
  SELECT b.ancestor, b.relation, b.is_partition FROM below b;
END;

COMMENT ON FUNCTION cache_aside.tables_below(oid) IS
'Partitions and children of a table, at every depth; NULL: of every table. Is the first step to it one to a partition?';
