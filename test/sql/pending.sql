-- The pending set: de-duplication, savepoints, spilling, and flat memory.
SET client_min_messages = warning;
CREATE SCHEMA p23;
SET search_path = p23;
\pset format unaligned
\set pending 'SELECT kind, key FROM cache_aside.pending();'

---- savepoints: rolled back, released, nested, and a key that an outer level already had
BEGIN;
SELECT cache_aside.invalidate('outer');
SAVEPOINT a;
SELECT cache_aside.invalidate('outer', 'a');
SAVEPOINT b;
SELECT cache_aside.invalidate('a', 'b');
SELECT cache_aside.invalidate_pattern('b*');
ROLLBACK TO b;
:pending
SELECT cache_aside.invalidate('b again');
RELEASE b;
:pending
ROLLBACK TO a;
:pending
SAVEPOINT c;
SAVEPOINT d;
SELECT cache_aside.invalidate('d');
RELEASE d;
SAVEPOINT e;
SELECT cache_aside.invalidate('e');
RELEASE c;
SAVEPOINT f;
SELECT cache_aside.invalidate('f', 'a', 'e');
ROLLBACK TO f;
:pending
COMMIT;
BEGIN;
:pending
COMMIT;
-- what a rolled-back savepoint had added can be added again
BEGIN;
SAVEPOINT a;
SELECT cache_aside.invalidate('again');
ROLLBACK TO a;
SELECT cache_aside.invalidate('again');
:pending
COMMIT;
-- the same text as key and as pattern are two things
BEGIN;
SELECT cache_aside.invalidate('same'), cache_aside.invalidate_pattern('same');
:pending
ROLLBACK;

---- few entries are compared one by one, from the ninth on by a table: the same on either side, and across.
---- Remedies: ca_seen_forget_from, ca_seen_forget_all (seen.c): what they leave known would not be logged
\set distinct 'SELECT count(*), count(DISTINCT key) FROM cache_aside.pending();'
BEGIN;
SELECT count(cache_aside.invalidate('few:' || g % 6)) FROM generate_series(1, 60) g;
SAVEPOINT a;
SELECT count(cache_aside.invalidate('few:' || g % 12)) FROM generate_series(1, 60) g;
:distinct
ROLLBACK TO a;
:distinct
SELECT count(cache_aside.invalidate('few:' || g % 12)) FROM generate_series(1, 12) g;
:distinct
COMMIT;
BEGIN;
SELECT count(cache_aside.invalidate('few:' || g % 12)) FROM generate_series(1, 12) g;
:distinct
COMMIT;

---- spilling: past 1 MB to a file, across savepoints
BEGIN;
SELECT count(cache_aside.invalidate('key:' || g)) FROM generate_series(1, 150000) g;
SELECT count(*), count(DISTINCT key) FROM cache_aside.pending();
SAVEPOINT a;
SELECT count(cache_aside.invalidate('inner key:' || g)) FROM generate_series(1, 150000) g;
SELECT count(*), count(DISTINCT key) FROM cache_aside.pending();
ROLLBACK TO a;
SELECT count(*), count(DISTINCT key) FROM cache_aside.pending();
SELECT count(cache_aside.invalidate('second:' || g)) FROM generate_series(1, 100000) g;
SELECT count(*), count(DISTINCT key), count(*) FILTER (WHERE key LIKE 'second:%') FROM cache_aside.pending();
COMMIT;
BEGIN;
SELECT count(*) FROM cache_aside.pending();
SELECT cache_aside.invalidate('after a spill');
:pending
COMMIT;
-- the first spill happens inside a savepoint that rolls back
BEGIN;
SELECT cache_aside.invalidate('kept');
SAVEPOINT a;
SELECT count(cache_aside.invalidate('gone:' || g)) FROM generate_series(1, 150000) g;
ROLLBACK TO a;
:pending
SELECT cache_aside.invalidate('kept too');
:pending
COMMIT;
-- an error in the middle
BEGIN;
SAVEPOINT a;
SELECT count(cache_aside.invalidate('x:' || g || repeat('y', CASE WHEN g = 100000 THEN 9000 ELSE 0 END))) FROM generate_series(1, 150000) g;
ROLLBACK TO a;
:pending
COMMIT;
-- temp_file_limit fails the statement; the savepoint before it is whole
SET temp_file_limit = '1MB';
BEGIN;
SELECT cache_aside.invalidate('kept');
SAVEPOINT a;
\set VERBOSITY sqlstate
SELECT count(cache_aside.invalidate('x:' || g)) FROM generate_series(1, 500000) g;
\set VERBOSITY terse
ROLLBACK TO a;
:pending
COMMIT;
RESET temp_file_limit;

---- memory: 50 000 rolled-back subtransactions leave nothing behind
CREATE TABLE t (id int PRIMARY KEY, n int);
INSERT INTO t VALUES (1, 0);
SELECT cache_aside.attach('t', 't:{id}');
\getenv tests PG_ABS_SRCDIR
\set roll_back :tests /sql/roll_back.psql
\i :roll_back
CREATE FUNCTION pending_memory() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts WHERE name LIKE 'cache_aside%' $$;
BEGIN;
CALL roll_back(1000);
SELECT pending_memory() AS before \gset
CALL roll_back(50000);
SELECT pending_memory() - :before AS grown;
:pending
COMMIT;
-- a large set does not stay allocated
BEGIN;
SELECT count(cache_aside.invalidate(repeat('k', 5000) || g)) FROM generate_series(1, 1000) g;
COMMIT;
SELECT pending_memory() < 256 * 1024 AS small;

---- statement level: flat in the number of rows
CREATE TABLE big (id int PRIMARY KEY, n int);
SELECT cache_aside.attach('big', 'big:{id}', level => 'statement');
BEGIN;
INSERT INTO big SELECT g, 0 FROM generate_series(1, 200000) g;
SELECT pending_memory() < 4 * 1024 * 1024 AS flat;
UPDATE big SET n = 1;
SELECT count(*), count(DISTINCT key) FROM cache_aside.pending();
SELECT pending_memory() < 4 * 1024 * 1024 AS flat;
ROLLBACK;

---- prepared transactions: the set goes with PREPARE
BEGIN;
SELECT cache_aside.invalidate('prepared');
PREPARE TRANSACTION 'p23';
BEGIN;
:pending
COMMIT;
COMMIT PREPARED 'p23';
BEGIN;
SELECT cache_aside.invalidate('prepared');
PREPARE TRANSACTION 'p23';
ROLLBACK PREPARED 'p23';

DROP SCHEMA p23 CASCADE;
