
/* ---- resync: registered patterns, resync ---- */

CREATE TABLE cache_aside.registered_pattern (
	pattern text PRIMARY KEY CHECK (pattern OPERATOR(pg_catalog.<>) '')
);

COMMENT ON TABLE cache_aside.registered_pattern IS
'Patterns of keys that only invalidate() produces, so that a resync deletes them too';

SELECT pg_catalog.pg_extension_config_dump('cache_aside.registered_pattern', '');

CREATE FUNCTION cache_aside.check_pattern(pattern text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_check_pattern';

COMMENT ON FUNCTION cache_aside.check_pattern(text) IS
'The pattern, or an error if it is empty, too long, or can match nothing but reserved keys';

REVOKE ALL ON FUNCTION cache_aside.check_pattern(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.register_pattern(pattern text) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'INSERT INTO cache_aside.registered_pattern VALUES (cache_aside.check_pattern($1))
    ON CONFLICT DO NOTHING';

COMMENT ON FUNCTION cache_aside.register_pattern(text) IS
'Names keys that only invalidate() produces by a glob pattern: a resync deletes them too';

REVOKE ALL ON FUNCTION cache_aside.register_pattern(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.unregister_pattern(pattern text) RETURNS boolean
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'WITH gone AS (DELETE FROM cache_aside.registered_pattern AS r
                  WHERE r.pattern OPERATOR(pg_catalog.=) $1 RETURNING 1),
          stray AS (DELETE FROM cache_aside.stray_pattern AS s
                  WHERE s.pattern OPERATOR(pg_catalog.=) $1 RETURNING 1)
    SELECT EXISTS (SELECT FROM gone) OR EXISTS (SELECT FROM stray)';

COMMENT ON FUNCTION cache_aside.unregister_pattern(text) IS
'Undoes register_pattern(), and forgets what stray_pattern remembers; false if the pattern was not there';

REVOKE ALL ON FUNCTION cache_aside.unregister_pattern(text) FROM PUBLIC;

CREATE VIEW cache_aside.patterns AS
SELECT r.pattern, c.relpersistence OPERATOR(pg_catalog.=) 'u' AS unlogged
  FROM cache_aside.rules r
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.relation
 WHERE r.pattern IS NOT NULL
UNION
SELECT p.pattern, false FROM cache_aside.registered_pattern p
UNION
SELECT s.pattern, false FROM cache_aside.stray_pattern s;

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
