-- classify() and is_read_only(): a list checked by hand. Each statement stands with the answer it
-- must get; the query at the end shows all reasons and, first of all, any answer that is wrong.
\set VERBOSITY terse
CREATE SCHEMA classify;
SET search_path = classify, cache_aside, public;

CREATE TABLE t (id serial PRIMARY KEY, a int, b text);
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_u (id int) PARTITION BY RANGE (id);
CREATE UNLOGGED TABLE parted_u1 PARTITION OF parted_u FOR VALUES FROM (0) TO (10);
CREATE UNLOGGED TABLE unlogged (id int);
CREATE TEMP TABLE temporary (id int);
CREATE SEQUENCE s;

CREATE FUNCTION writer(int DEFAULT 0) RETURNS int LANGUAGE sql VOLATILE
	AS 'INSERT INTO classify.t (a) VALUES ($1) RETURNING a';
CREATE FUNCTION stable_one(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION hidden_default(bigint DEFAULT nextval('classify.s')) RETURNS bigint
	LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION unlabelled(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE FUNCTION rows_of(int) RETURNS SETOF int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION valid(int) RETURNS boolean LANGUAGE plpgsql VOLATILE
	AS 'BEGIN PERFORM nextval(''classify.s''); RETURN true; END';
CREATE FUNCTION add_written(int, int) RETURNS int LANGUAGE sql VOLATILE
	AS 'SELECT $1 + $2 + classify.writer($2)';
CREATE FUNCTION equal_written(int, int) RETURNS boolean LANGUAGE sql VOLATILE
	AS 'SELECT $1 = classify.writer($2)';
CREATE AGGREGATE sum_written(int) (SFUNC = add_written, STYPE = int, INITCOND = '0');
CREATE AGGREGATE sum_plain(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE OPERATOR +! (LEFTARG = int, RIGHTARG = int, FUNCTION = add_written);
CREATE OPERATOR =! (LEFTARG = int, RIGHTARG = int, FUNCTION = equal_written);
CREATE DOMAIN checked AS int CHECK (classify.valid(VALUE));
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE TYPE pair AS (x int, y checked);
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql VOLATILE
	AS 'SELECT to_json(classify.writer(1))';
CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
CREATE FUNCTION mood_int(mood) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT classify.writer(1)';
CREATE CAST (mood AS int) WITH FUNCTION mood_int(mood) AS IMPLICIT;
CREATE TABLE moods (m mood, p pair);
CREATE TYPE plain_pair AS (x int, y small);
CREATE DOMAIN pairs AS pair[];
CREATE TYPE checked_range AS RANGE (SUBTYPE = checked, MULTIRANGE_TYPE_NAME = checked_ranges);
CREATE FUNCTION keep_pair(pair, int) RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE AGGREGATE first_pair(int) (SFUNC = keep_pair, STYPE = pair, INITCOND = '(1,2)');
ALTER SEQUENCE s RESTART; -- the last statement has read its initial value
CREATE FUNCTION takes_pair(pair) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION pg_temp.brief(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TYPE pg_temp.brief_mood AS ENUM ('sad');
CREATE DOMAIN pg_temp.brief_int AS int;

CREATE VIEW v_plain AS SELECT a, now() FROM t;
CREATE VIEW v_next AS SELECT nextval('s');
CREATE VIEW v_deep AS SELECT * FROM v_next, v_plain;
CREATE VIEW v_lock AS SELECT * FROM t FOR UPDATE;
CREATE VIEW v_lock_deep AS SELECT count(*) FROM v_lock;
CREATE MATERIALIZED VIEW mv AS SELECT 1 AS x;

CREATE TABLE secured (id int);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON secured USING (classify.valid(id));
CREATE ROLE regress_classify_reader;
GRANT USAGE ON SCHEMA classify, cache_aside TO regress_classify_reader;
GRANT SELECT ON secured, t TO regress_classify_reader;

PREPARE reading(int) AS SELECT a FROM t WHERE id = $1;
PREPARE writing(int) AS UPDATE t SET a = $1;
PREPARE calling AS SELECT writer(1);

CREATE TABLE cases (n serial, expected boolean, query text);
INSERT INTO cases (expected, query) VALUES
-- reads
(true, 'SELECT 1'),
(true, 'SELECT * FROM t'),
(true, 'TABLE t'),
(true, 'VALUES (1), (2)'),
(true, 'SELECT a FROM t WHERE id = $1 AND b = $2 LIMIT $3'),
(true, 'SELECT $1'),
(true, 'SELECT $2'),
(true, 'SELECT $1::int + $2'),
(true, 'SELECT count(*), sum_plain(a), string_agg(b, '','' ORDER BY b) FROM t GROUP BY a'),
(true, 'SELECT row_number() OVER (ORDER BY a RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM t'),
(true, 'WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r'),
(true, 'SELECT * FROM t WHERE id IN (SELECT id FROM parted) UNION SELECT 1, 2, ''x'''),
(true, 'SELECT now(), clock_timestamp(), random(), gen_random_uuid(), pg_sleep(0)'),
(true, 'SELECT pg_is_in_recovery(), pg_relation_size(''t'')'),
(true, 'SELECT stable_one(a) FROM v_plain'),
(true, 'SELECT * FROM mv'),
(true, 'SELECT last_value FROM s'),
(true, 'SELECT * FROM parted'),
(true, 'SELECT 5::small, GREATEST(1, 2), ARRAY[1, 2]::small[]'),
(true, 'SELECT row_to_json(t) FROM t'),
(true, 'SELECT * FROM pg_stat_activity, pg_locks'),
(true, 'SELECT * FROM information_schema.columns'),
(true, 'SELECT * FROM t TABLESAMPLE BERNOULLI (10)'),
(true, 'SELECT cache_aside.is_read_only(''SELECT 1'')'),
(true, 'EXPLAIN SELECT nextval(''s'')'),
(true, 'EXPLAIN (ANALYZE false) SELECT nextval(''s'')'),
(true, 'EXPLAIN ANALYZE SELECT 1'),
(true, 'EXPLAIN EXECUTE calling'),
(true, 'COPY t TO STDOUT'),
(true, 'COPY (SELECT 1) TO STDOUT'),
(true, 'DECLARE c CURSOR FOR SELECT 1'),
(true, 'PREPARE q AS SELECT 1'),
(true, 'PREPARE q(int, int) AS SELECT $1 + $2'),
(true, 'EXECUTE reading(1)'),
(true, 'SHOW work_mem'),
(true, 'SELECT 1; SELECT 2;'),
(true, 'BEGIN READ ONLY'),
(true, 'BEGIN; SELECT 1; SAVEPOINT a; SELECT 2; ROLLBACK TO a; RELEASE a; COMMIT'),
(true, 'BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1; ROLLBACK'),
-- writes on their face
(false, 'INSERT INTO t (a) VALUES (1)'),
(false, 'INSERT INTO missing VALUES (1)'),
(false, 'UPDATE t SET a = 1 WHERE false'),
(false, 'DELETE FROM t'),
(false, 'MERGE INTO t USING parted p ON t.id = p.id WHEN MATCHED THEN DELETE'),
(false, 'TRUNCATE t'),
(false, 'WITH w AS (INSERT INTO t (a) VALUES (1) RETURNING a) SELECT * FROM w'),
(false, 'WITH w AS (DELETE FROM t) SELECT 1'),
(false, 'SELECT * FROM (WITH w AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM w) x'),
(false, 'SELECT * FROM t FOR UPDATE'),
(false, 'SELECT * FROM t FOR KEY SHARE'),
(false, 'SELECT * FROM t WHERE id IN (SELECT id FROM t FOR SHARE SKIP LOCKED)'),
(false, 'SELECT 1 INTO made'),
(false, 'SELECT 1 INTO TEMP made UNION SELECT 2'),
(false, 'CREATE TABLE made AS SELECT 1'),
(false, 'CREATE TEMP TABLE made (x int)'),
(false, 'CREATE VIEW made AS SELECT 1'),
(false, 'DROP TABLE t'),
(false, 'ALTER TABLE t ADD c int'),
(false, 'CREATE INDEX ON t (a)'),
(false, 'REFRESH MATERIALIZED VIEW mv'),
(false, 'GRANT SELECT ON t TO PUBLIC'),
(false, 'COMMENT ON TABLE t IS ''x'''),
(false, 'VACUUM t'),
(false, 'ANALYZE t'),
(false, 'CLUSTER'),
(false, 'CHECKPOINT'),
(false, 'REINDEX TABLE t'),
(false, 'LOCK TABLE t IN ACCESS SHARE MODE'),
(false, 'LISTEN x'),
(false, 'UNLISTEN *'),
(false, 'NOTIFY x'),
(false, 'DO $$ BEGIN END $$'),
(false, 'CALL something()'),
(false, 'LOAD ''x'''),
(false, 'DISCARD ALL'),
(false, 'COPY t FROM STDIN'),
(false, 'COPY t TO ''/tmp/x'''),
(false, 'COPY t TO PROGRAM ''cat'''),
(false, 'COPY (INSERT INTO t (a) VALUES (1) RETURNING a) TO STDOUT'),
(false, 'EXPLAIN INSERT INTO t (a) VALUES (1)'),
(false, 'EXPLAIN ANALYZE INSERT INTO t (a) VALUES (1)'),
(false, 'EXPLAIN SELECT * FROM t FOR UPDATE'),
(false, 'EXPLAIN CREATE TABLE made AS SELECT 1'),
(false, 'IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z'),
(false, 'SECURITY LABEL ON TABLE t IS ''x'''),
-- functions
(false, 'SELECT writer(1)'),
(false, 'SELECT unlabelled(1)'),
(false, 'SELECT * FROM rows_of(1)'),
(false, 'SELECT * FROM t, LATERAL writer(t.a)'),
(false, 'SELECT * FROM ROWS FROM (generate_series(1, 2), rows_of(1))'),
(false, 'SELECT 1 WHERE false AND writer(1) = 1'),
(false, 'SELECT 1 LIMIT writer(1)'),
(false, 'SELECT a FROM t ORDER BY writer(a)'),
(false, 'SELECT a FROM t GROUP BY a HAVING writer(a) > 0'),
(false, 'SELECT count(*) FILTER (WHERE writer(a) > 0) FROM t'),
(false, 'SELECT DISTINCT ON (writer(a)) a FROM t'),
(false, 'SELECT sum(a) OVER (ORDER BY writer(a)) FROM t'),
(false, 'SELECT sum(a) OVER (ROWS writer(1) PRECEDING) FROM t'),
(false, 'VALUES (writer(1))'),
(false, 'SELECT * FROM t JOIN parted p ON writer(p.id) = t.id'),
(false, 'SELECT (SELECT writer(1))'),
(false, 'SELECT EXISTS (SELECT writer(1))'),
(false, 'WITH w AS (SELECT writer(1)) SELECT 1'),
(false, 'SELECT 1 UNION ALL SELECT writer(1)'),
(false, 'SELECT CASE WHEN false THEN writer(1) END'),
(false, 'SELECT COALESCE(1, writer(1))'),
(false, 'SELECT ARRAY[writer(1)]'),
(false, 'SELECT ROW(writer(1))'),
(false, 'SELECT * FROM t TABLESAMPLE BERNOULLI (writer(1))'),
(false, 'SELECT stable_one(writer(1))'),
(false, 'SELECT hidden_default()'),
(true, 'SELECT hidden_default(1)'),
(false, 'SELECT 1 +! 2'),
(false, 'SELECT 1 =! ANY (ARRAY[1]) FROM t'),
(false, 'SELECT sum_written(a) FROM t'),
(false, 'SELECT sum_written(a) OVER () FROM t'),
(false, 'SELECT nextval(''s'')'),
(false, 'SELECT setval(''s'', 1)'),
(false, 'SELECT currval(''s'')'),
(false, 'SELECT txid_current()'),
(false, 'SELECT pg_current_xact_id()'),
(false, 'SELECT pg_current_wal_lsn()'),
(false, 'SELECT table_to_xml(''v_next'', true, true, '''')'),
(false, 'SELECT query_to_xml(''SELECT writer(1)'', true, true, '''')'),
(false, 'SELECT pg_notify(''a'', ''b'')'),
(false, 'SELECT pg_advisory_lock(1)'),
(false, 'SELECT lo_create(0)'),
(false, 'SELECT set_config(''a.b'', ''c'', false)'),
(false, 'SELECT pg_terminate_backend(1)'),
(false, 'SELECT pg_export_snapshot()'),
(false, 'SELECT setseed(0.5)'),
-- domains, casts, composite types
(false, 'SELECT 5::checked'),
(false, 'SELECT a::checked FROM t'),
(false, 'SELECT ARRAY[a]::checked[] FROM t'),
(false, 'SELECT b::checked FROM t'),
(false, 'SELECT ROW(1, a)::pair FROM t'),
(false, 'SELECT json_populate_record(NULL::pair, $1)'),
(false, 'SELECT * FROM json_to_record($1) AS x(y checked)'),
(false, 'SELECT to_json(m) FROM moods'),
(false, 'SELECT row_to_json(moods) FROM moods'),
(false, 'SELECT m + 1 FROM moods'),
-- literals and parameters of such types are read before anything runs, also by EXPLAIN; analysis reads none
(false, 'SELECT ''(1,2)''::pair'),
(false, 'SELECT ''{1,2}''::checked[]'),
(false, 'SELECT ''{"(1,2)"}''::pairs'),
(false, 'SELECT ''[1,2)''::checked_range'),
(false, 'SELECT ''{[1,2)}''::checked_ranges'),
(false, 'SELECT checked ''1'''),
(false, 'SELECT 1 FROM moods WHERE p = ''(1,2)'''),
(false, 'SELECT 1 FROM moods WHERE p IN (''(1,2)'', ''(1,3)'')'),
(false, 'SELECT CASE WHEN true THEN p ELSE ''(1,2)'' END IS NULL FROM moods'),
(false, 'SELECT p FROM moods UNION SELECT ''(1,2)'''),
(false, 'SELECT takes_pair(''(1,2)'')'),
(false, 'SELECT takes_pair($1)'),
(false, 'SELECT $1::checked'),
(false, 'SELECT $1::pair IS NULL'),
(false, 'EXPLAIN SELECT ''(1,2)''::pair'),
(false, 'EXPLAIN SELECT takes_pair($1)'),
(false, 'EXPLAIN SELECT * FROM unnest(''{1}''::checked[])'),
(false, 'EXECUTE reading(takes_pair(''(1,2)''))'),
(false, 'EXPLAIN EXECUTE reading(takes_pair(''(1,2)''))'),
(false, 'EXPLAIN EXECUTE reading(nextval(''s'')::int)'),
(true, 'EXPLAIN EXECUTE reading(1)'),
(false, 'SELECT first_pair(a) FROM t'),
(true, 'SELECT ''(1,2)''::plain_pair, ''{1,2}''::small[], ''5''::small'),
-- a literal is what it was: of the type its place gives it, equal to its equal
(true, 'SELECT a || ''x'' FROM t GROUP BY a || ''x'' HAVING a || ''x'' > '''''),
(true, 'SELECT DISTINCT b || ''x'' FROM t ORDER BY b || ''x'''),
(true, 'SELECT ''1'' + 1, ''1'' || ''1'', ''1''::int, ''1'' IS NULL, NULL, ''a'' < ''b'', ''1'' COLLATE "C"'),
(true, 'SELECT ''x'' AS x UNION SELECT b FROM t UNION ALL VALUES (''y'')'),
(true, 'SELECT COALESCE(''1'', a::text), ARRAY[''a'', ''b''], ROW(''a''), GREATEST(''a'', b), NULLIF(''a'', b) FROM t'),
(true, 'SELECT json_build_object(''a'', ''b''), format(''%s'', ''x''), concat(''a'', 1), to_char(now(), ''YYYY'')'),
(true, 'SELECT interval ''1'' year, date ''2020-01-01'' + ''1 day''::interval, numeric(5,2) ''1.5'', time with time zone ''01:00'''),
(true, 'SELECT extract(year FROM now()), now() AT TIME ZONE ''UTC'', trim(both ''x'' FROM b), b LIKE ''a%'' ESCAPE ''!'' FROM t'),
(true, 'SELECT * FROM t TABLESAMPLE BERNOULLI (''10'') LIMIT ''5'' OFFSET ''1'''),
(true, 'SELECT a FROM t WHERE b IN (''x'', ''y'') AND a = ANY (''{1,2}'') AND ''t'' AND id BETWEEN ''1'' AND $1'),
(true, 'SELECT xmlelement(name x, xmlattributes(''v'' AS a), ''y''), (''{"a": 1}''::jsonb)[''a''], ''[1]''::jsonb -> ''a'''),
(true, 'SELECT * FROM json_to_recordset(''[]'') AS x(a int, b text), regexp_matches(''a'', ''b''), generate_series(''1''::int, 2)'),
(true, 'SELECT regclass(''t''), small(''5''), "varchar"(''x''), int8(NULL), pg_catalog.date(''2020-01-01'')'),
(false, 'SELECT checked(''5'')'),
(true, 'SELECT $1 IS NULL, B''101'', 1.5, E''\n'', $$x$$, true'),
-- what fails in recovery
(false, 'SELECT pg_walfile_name(''0/1'')'),
(false, 'SELECT pg_walfile_name_offset(''0/1'')'),
(false, 'EXPLAIN SELECT 1 WHERE pg_walfile_name(''0/1'') = ''x'''),
(false, 'SELECT pg_replication_origin_oid(''x'')'),
(false, ''),
(false, ' ; -- nothing'),
(false, '/* nothing */ -- at all'),
-- views and row security
(true, 'SELECT * FROM v_plain'),
(false, 'SELECT * FROM v_next'),
(false, 'SELECT * FROM v_deep'),
(false, 'SELECT * FROM v_lock'),
(false, 'SELECT * FROM v_lock_deep'),
(true, 'SELECT * FROM secured'),
-- what a standby does not have
(false, 'SELECT * FROM unlogged'),
(false, 'SELECT * FROM parted_u'),
(true, 'SELECT * FROM ONLY parted_u'),
(false, 'SELECT * FROM temporary'),
(false, 'EXPLAIN SELECT * FROM unlogged'),
(false, 'SELECT pg_temp.brief(1)'),
(false, 'EXPLAIN SELECT pg_temp.brief(1)'),
(false, 'SELECT ''sad''::pg_temp.brief_mood'),
(false, 'SELECT NULL::pg_temp.brief_int, a FROM t'),
(false, 'EXPLAIN SELECT a::pg_temp.brief_int FROM t'),
(false, 'COPY unlogged TO STDOUT'),
-- session and transaction
(false, 'SET work_mem = ''8MB'''),
(false, 'BEGIN; SET LOCAL search_path = x; SELECT 1; COMMIT'),
(false, 'RESET ALL'),
(false, 'SET ROLE NONE'),
(false, 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY'),
(false, 'SET TRANSACTION SNAPSHOT ''x'''),
(false, 'BEGIN'),
(false, 'COMMIT'),
(false, 'ROLLBACK'),
(false, 'SAVEPOINT a'),
(false, 'BEGIN READ WRITE; SELECT 1; COMMIT'),
(false, 'BEGIN READ ONLY; SET TRANSACTION READ WRITE; COMMIT'),
(false, 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT'),
(false, 'PREPARE TRANSACTION ''x'''),
(false, 'COMMIT PREPARED ''x'''),
(false, 'FETCH c'),
(false, 'CLOSE c'),
(false, 'DEALLOCATE ALL'),
(false, 'EXECUTE writing(1)'),
(false, 'EXECUTE calling'),
(false, 'EXECUTE reading(writer(1))'),
(false, 'EXECUTE reading((SELECT a FROM t FOR UPDATE))'),
(false, 'EXECUTE missing'),
(false, 'EXPLAIN ANALYZE EXECUTE calling'),
(false, 'PREPARE q AS DELETE FROM t'),
(false, 'PREPARE q AS SELECT writer(1)'),
(false, 'DECLARE c CURSOR FOR SELECT writer(1)'),
(false, 'DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE'),
-- several
(false, 'SELECT 1; DELETE FROM t'),
(false, 'SELECT 1; SELECT writer(1); SELECT * FROM missing');

SELECT query AS "wrong answer", read_only, reason
	FROM cases, classify(query) WHERE read_only IS DISTINCT FROM expected;
SELECT query FROM cases WHERE is_read_only(query) IS DISTINCT FROM expected;
SELECT query, reason FROM cases, classify(query) WHERE NOT read_only ORDER BY n;

-- A read-only answer carries no reason; NULL in, NULL out.
SELECT count(*) FROM cases, classify(query) WHERE read_only AND reason IS NOT NULL;
SELECT is_read_only(NULL), classify(NULL);

-- Nothing was executed: no row, no sequence value.
SELECT (SELECT count(*) FROM t) AS rows, is_called FROM s;
-- Not even a CHECK that says so aloud, and calls itself immutable: core's analysis would have called it.
CREATE FUNCTION loud(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''called''; END';
CREATE DOMAIN loud_int AS int CHECK (loud(VALUE));
CREATE TYPE loud_pair AS (x loud_int);
SELECT is_read_only('SELECT ''(1)''::loud_pair, ''{1}''::loud_int[]'), is_read_only('EXECUTE reading((''(1)''::loud_pair).x)');
PREPARE loudly(loud_pair) AS SELECT $1;
SELECT is_read_only('EXECUTE loudly(''(1)'')'), is_read_only('SELECT 1 WHERE ''(1)'' = ANY (ARRAY[NULL::loud_pair])');
SHOW transaction_read_only;

-- The policy applies to the reader, not to the owner.
SET ROLE regress_classify_reader;
SELECT * FROM classify('SELECT * FROM secured');
SELECT * FROM classify('COPY secured TO STDOUT');
RESET ROLE;

-- Errors carry their position in the given text.
\set VERBOSITY default
SELECT is_read_only('SELECT * FORM t');
SELECT is_read_only('SELECT 1; SELECT missing FROM t');
SELECT is_read_only('SELECT * FROM missing WHERE a = $1');
SELECT is_read_only('SELECT $0');
SELECT is_read_only('SELECT ''open');
SELECT is_read_only('SELECT $1073741825');
\set VERBOSITY terse

DROP OWNED BY regress_classify_reader;
DROP ROLE regress_classify_reader;
SET client_min_messages = warning;
DROP SCHEMA classify CASCADE;
