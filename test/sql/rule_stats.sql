-- rule_stats: what each rule did; cache_aside.log_keys: the keys themselves.
-- Remedies: count_firing and at_end in rule.c, rule_stats.c in src/rules; log_keys.c in src/transaction.
SET client_min_messages = error;
CREATE SCHEMA s27;
SET search_path = s27;
\pset null '(null)'
\pset format unaligned
\set stats 'SELECT relation, rule, fired, keys, patterns, failures FROM cache_aside.rule_stats WHERE relation::text !~ ''\\.'' ORDER BY 1, 2'

\getenv tests PG_ABS_SRCDIR
\set attempt :tests /sql/attempt.psql
\i :attempt

CREATE TABLE t (id int, name text);
SELECT cache_aside.attach('t', 't:{id}', columns => '{name}');
SELECT cache_aside.attach('t', 'hot:{id#3}');
SELECT cache_aside.attach('t', 's:{name}', level => 'statement');
SELECT cache_aside.attach_query('t', 'SELECT ''q:'' || id FROM changed WHERE id > 1', 'q:*');
SELECT rule, fired, keys, patterns, failures, last_fired, since IS NOT NULL AS since FROM cache_aside.rule_stats WHERE relation = 't'::regclass ORDER BY 1;

INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL);
:stats;
UPDATE t SET name = name;          -- t:{id} does not fire
UPDATE t SET id = 5 WHERE id = 2;  -- old and new key
DELETE FROM t WHERE false;         -- no row: nothing fires
TRUNCATE t;
:stats;

---- not yet while the transaction is open; rolled back counts too; with a savepoint
BEGIN;
INSERT INTO t VALUES (1, 'a');
SAVEPOINT a;
INSERT INTO t VALUES (2, 'a');
ROLLBACK TO a;
:stats;
ROLLBACK;
:stats;
SELECT relation, rule, fired, last_fired BETWEEN since AND clock_timestamp() AS times FROM cache_aside.rule_stats WHERE relation = 't'::regclass ORDER BY 2;
SELECT cache_aside.reset_rule_stats('t');
:stats;
SELECT rule, since > pg_postmaster_start_time() AND since > clock_timestamp() - interval '1 min' AS fresh FROM cache_aside.rule_stats WHERE relation = 't'::regclass ORDER BY 1;

---- failures: a key that is too long, a column that is gone, a query that fails, one that is not approved
INSERT INTO t VALUES (1, 'a');
SELECT attempt('INSERT INTO s27.t VALUES (9, repeat(''x'', 9000))');
ALTER TABLE t RENAME id TO number;
INSERT INTO t VALUES (1, 'a');
:stats;
SET cache_aside.enabled = off;
INSERT INTO t VALUES (1, 'a');
RESET cache_aside.enabled;
:stats;
DROP TABLE t;

---- partitions count for their table, also below another partition
CREATE TABLE p (id int) PARTITION BY RANGE (id);
SELECT cache_aside.attach('p', 'p:{id}');
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE p11 PARTITION OF p1 FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 PARTITION OF p DEFAULT;
INSERT INTO p SELECT generate_series(1, 20);
INSERT INTO p11 VALUES (1);
TRUNCATE p11;
:stats;
-- a partition that goes its own way counts for itself
ALTER TABLE p DETACH PARTITION p2;
INSERT INTO p2 VALUES (30);
:stats;

---- rules that are dropped, and made anew, in one transaction
BEGIN;
CREATE TABLE d (id int);
SELECT cache_aside.attach('d', 'd:{id}');
INSERT INTO d VALUES (1);
SELECT cache_aside.detach('d');
SELECT cache_aside.attach('d', 'd:{id}');
INSERT INTO d VALUES (2);
COMMIT;
:stats;

---- who may
SELECT attempt('SET ROLE pg_monitor; SELECT cache_aside.reset_rule_stats()');
RESET ROLE;

---- keys that go by: once each in a transaction, cut, printable
SET client_min_messages = notice;
SET cache_aside.log_keys = notice;
CREATE TABLE k (id int, name text);
SELECT cache_aside.attach('k', 'k:{name}');
INSERT INTO k VALUES (1, 'a'), (2, 'a'), (3, E'two\nlines'), (4, 'é'), (5, repeat('ä', 300)), (6, NULL), (7, E'\u009b31m');
BEGIN;
UPDATE k SET name = 'b' WHERE id = 1;
SAVEPOINT a;
TRUNCATE k;
SELECT cache_aside.invalidate('by hand');
ROLLBACK;
SET cache_aside.log_keys = debug1;
INSERT INTO k VALUES (1, 'quiet');
SET cache_aside.log_keys = off;
INSERT INTO k VALUES (1, 'quiet');
SET client_min_messages = warning;
RESET cache_aside.log_keys;
CREATE ROLE s27_writer;
SET ROLE s27_writer;
SET cache_aside.log_keys = notice;
RESET ROLE;
DROP ROLE s27_writer;
DROP SCHEMA s27 CASCADE;
