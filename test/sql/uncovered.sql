-- uncovered: tables that are written and have no rule, with the statement that gives them one.
-- Remedy: the view in sql/parts/rules.sql.
SET client_min_messages = warning;
CREATE SCHEMA bare;
SET search_path = bare;
\pset null '(null)'
\pset format unaligned

CREATE TABLE "Read Only" (id int PRIMARY KEY);
CREATE TABLE "O'Brien" (a int, b int, n int, PRIMARY KEY (b, a));
CREATE TABLE keyless (id int);
CREATE TABLE ruled (id int PRIMARY KEY);
SELECT cache_aside.attach('ruled', 'r:{id}');
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE parted_11 PARTITION OF parted_1 DEFAULT;
CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
CREATE TABLE covered (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TRIGGER by_hand AFTER INSERT ON covered REFERENCING NEW TABLE AS n FOR EACH STATEMENT
	EXECUTE FUNCTION cache_aside.invalidate_statement('c:{id}'); -- of which the partition has no trigger
CREATE TABLE covered_1 PARTITION OF covered DEFAULT;

INSERT INTO "O'Brien" SELECT i, i, i FROM generate_series(1, 3) i;
UPDATE "O'Brien" SET n = 0 WHERE a < 3;
DELETE FROM "O'Brien" WHERE a = 1;
CREATE TABLE "cov}" ("i}" int PRIMARY KEY);
INSERT INTO "cov}" VALUES (1);
CREATE TEMP TABLE covert (id int PRIMARY KEY);
INSERT INTO covert VALUES (1);
CREATE MATERIALIZED VIEW covered_view AS SELECT 1 AS id;
REFRESH MATERIALIZED VIEW covered_view;
INSERT INTO keyless VALUES (1);
INSERT INTO ruled VALUES (1);
INSERT INTO parted VALUES (1), (20), (21);
INSERT INTO covered VALUES (1);
SELECT pg_stat_force_next_flush();
SELECT relation, inserted, updated, deleted, remedy FROM cache_aside.uncovered
 WHERE relation::text ~ '^(bare|"?O|keyless|ruled|parted|cov|"cov|"Read|pg_temp)' ORDER BY relation::text COLLATE "C";

---- the statements do it
SELECT remedy FROM cache_aside.uncovered WHERE relation IN ('parted'::regclass, $$"O'Brien"$$::regclass)
 ORDER BY remedy COLLATE "C" \gexec
SELECT relation, remedy FROM cache_aside.uncovered
 WHERE relation::text ~ '^(bare|"?O|keyless|ruled|parted|cov|"cov|"Read|pg_temp)' ORDER BY relation::text COLLATE "C";
SELECT since IS NOT DISTINCT FROM (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()) AS since
  FROM cache_aside.uncovered WHERE relation = 'keyless'::regclass;

---- nothing of extensions, and anybody may look
SELECT count(*) FROM cache_aside.uncovered WHERE relation::text LIKE 'cache_aside.%';
CREATE ROLE uncovered_stranger;
SET ROLE uncovered_stranger;
SELECT count(*) FROM cache_aside.uncovered WHERE remedy LIKE '%no primary key%' AND relation::text = 'bare.keyless';
RESET ROLE;
DROP ROLE uncovered_stranger;
SET client_min_messages = error;
DROP SCHEMA bare CASCADE;
