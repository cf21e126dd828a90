-- attach_all: one rule for each table with a primary key, and why not where not.
-- Remedies: attach_all and template_for in sql/parts/rules.sql, cache_aside_template_problem in src/rules/attach_check.c.
SET client_min_messages = warning;
CREATE SCHEMA every;
CREATE SCHEMA "Other {x}";
SET search_path = every;
\pset null '(null)'
\pset format unaligned

\getenv tests PG_ABS_SRCDIR
\set attempt :tests /sql/attempt.psql
\i :attempt

CREATE TABLE plain (id int PRIMARY KEY, name text);
CREATE TABLE composite (a int, b text, c int, PRIMARY KEY (b, a) INCLUDE (c));
CREATE TABLE had (id int PRIMARY KEY);
SELECT cache_aside.attach('had', 'had:{id}');
CREATE TABLE keyless (id int);
CREATE TABLE "br{ce" ("Id" int PRIMARY KEY);
CREATE TABLE sharp ("n}" int PRIMARY KEY);
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE parted_11 PARTITION OF parted_1 DEFAULT;
CREATE TABLE open_parent (id int) PARTITION BY RANGE (id);
CREATE TABLE own_key PARTITION OF open_parent (PRIMARY KEY (id)) DEFAULT;
CREATE TABLE ruled_parent (id int) PARTITION BY RANGE (id);
SELECT cache_aside.attach('ruled_parent', 'hand:{id}');
CREATE TABLE ruled_part PARTITION OF ruled_parent (PRIMARY KEY (id)) DEFAULT;
CREATE FOREIGN DATA WRAPPER attach_all_wrapper;
CREATE SERVER attach_all_server FOREIGN DATA WRAPPER attach_all_wrapper;
CREATE FOREIGN TABLE far_away (id int) SERVER attach_all_server;
CREATE ROLE attach_all_other;
CREATE TABLE of_another (id int PRIMARY KEY);
ALTER TABLE of_another OWNER TO attach_all_other;
CREATE VIEW no_table AS SELECT 1 AS id;
CREATE TABLE "Other {x}".t (id int PRIMARY KEY, tenant int);

---- a dry run changes nothing and says the same
CREATE TEMP TABLE foretold AS SELECT * FROM cache_aside.attach_all('every', dry_run => true);
SELECT * FROM foretold;
SELECT relation, name FROM cache_aside.rules ORDER BY relation::text COLLATE "C";
BEGIN;
SELECT f.relation FROM foretold f FULL JOIN cache_aside.attach_all('every') d USING (relation)
 WHERE (f.rule, f.reason, replace(f.action, 'would attach', 'attached'))
       IS DISTINCT FROM (d.rule, d.reason, d.action);
SELECT relation, name FROM cache_aside.rules ORDER BY relation::text COLLATE "C";
DELETE FROM composite; INSERT INTO composite VALUES (1, 'x', 3); INSERT INTO "br{ce" VALUES (7);
INSERT INTO parted VALUES (5);
SELECT key FROM cache_aside.pending() WHERE kind = 'key' ORDER BY key COLLATE "C";
ROLLBACK;

---- other templates: braces, the schema's name, columns that not all have
SELECT * FROM cache_aside.attach_all('every', 'x:{{{pk}}}:{{table}}', true) WHERE action <> 'skipped';
SELECT * FROM cache_aside.attach_all('"Other {x}"', '{schema}.{table}:{tenant}:{pk}', true);
SELECT relation, reason FROM cache_aside.attach_all('every', '{name}:{pk}', true) WHERE relation::text IN ('plain', 'had');
SELECT relation, reason FROM cache_aside.attach_all('every', '{table:{pk}', true) WHERE relation::text = 'plain';
SELECT relation, reason FROM cache_aside.attach_all('every', 'cache_aside:{pk}', true) WHERE relation::text = 'plain';
SELECT * FROM cache_aside.attach_all(NULL);
SELECT attempt($$SELECT * FROM cache_aside.attach_all('nowhere')$$);

---- several templates with one call: all or none
BEGIN;
SELECT cache_aside.attach('plain', ARRAY['p:{id}', 'tag:{name}', 'all'], columns => '{name}');
SELECT name, columns FROM cache_aside.rules WHERE relation = 'plain'::regclass ORDER BY name COLLATE "C";
INSERT INTO plain VALUES (1, 'n');
SELECT key FROM cache_aside.pending() WHERE kind = 'key' ORDER BY key COLLATE "C";
ROLLBACK;
SELECT attempt($$SELECT cache_aside.attach('every.plain', ARRAY['p:{id}', 'q:{gone}'])$$);
SELECT attempt($$SELECT cache_aside.attach('every.plain', ARRAY['p:{id}', NULL])$$);
SELECT count(*) FROM cache_aside.rules WHERE relation = 'plain'::regclass;
SELECT attempt($$SELECT cache_aside.attach('every.plain', NULL::text[])$$);
SELECT cache_aside.attach('plain', '{}'::text[]);
PREPARE untyped AS SELECT cache_aside.attach($1, $2); -- a parameter of no type is one template
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped';

---- what is not the user's
SELECT DISTINCT action, reason FROM cache_aside.attach_all('pg_catalog', dry_run => true);
SELECT DISTINCT action, reason FROM cache_aside.attach_all('cache_aside', dry_run => true);

---- with the caller's rights only: one's own tables
GRANT USAGE, CREATE ON SCHEMA every TO attach_all_other;
SET ROLE attach_all_other;
SELECT relation, action, reason LIKE 'it belongs to %' AS foreign_to_me FROM cache_aside.attach_all('every')
 WHERE relation::text IN ('of_another', 'plain');
RESET ROLE;
---- a second time there is nothing to do
SELECT count(*) FILTER (WHERE action = 'attached') FROM cache_aside.attach_all('every');
SELECT action, count(*) FROM cache_aside.attach_all('every') GROUP BY action;

DROP OWNED BY attach_all_other;
DROP ROLE attach_all_other;
DROP SCHEMA every, "Other {x}" CASCADE;
DROP FOREIGN DATA WRAPPER attach_all_wrapper CASCADE;
