/* cache_aside 1.0: what CREATE EXTENSION runs, put together by make of sql/parts */

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
