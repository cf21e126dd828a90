-- Key text: templates, types, sessions, and every awkward value.
SET client_min_messages = warning;
CREATE SCHEMA k20;
SET search_path = k20;
\pset null '(null)'
\pset format unaligned

\getenv tests PG_ABS_SRCDIR
\set attempt :tests /sql/attempt.psql
\i :attempt

---- awkward values: NULL gives no key, everything else gives itself
CREATE TABLE words (id int PRIMARY KEY, tenant text, word text);
SELECT cache_aside.attach('words', 'w:{tenant}:{word}');
BEGIN;
INSERT INTO words VALUES
	(1, 'a', NULL), (2, NULL, 'b'), (3, '', ''), (4, 'sp ace', E'new\nline'), (5, '*?[x]\', '{a}}{b'),
	(6, 'größe', '日本'), (7, E'tab\t', '"quoted'''), (8, 'a', 'a');
SELECT kind, key, length(key) FROM cache_aside.pending();
ROLLBACK;
-- old and new key of an UPDATE, each once; a key column that becomes NULL still gives the old key
INSERT INTO words VALUES (1, 't', 'one'), (2, 't', 'two');
BEGIN;
UPDATE words SET word = 'uno' WHERE id = 1;
UPDATE words SET word = NULL WHERE id = 2;
SELECT key FROM cache_aside.pending();
ROLLBACK;
BEGIN;
UPDATE words SET id = id + 10;
DELETE FROM words;
SELECT key FROM cache_aside.pending();
ROLLBACK;

---- the limit: 8192 bytes pass, one more fails the write with table, template and length
BEGIN;
INSERT INTO words VALUES (9, 'x', repeat('y', 8192 - length('w:x:')));
SELECT kind, length(key) FROM cache_aside.pending();
ROLLBACK;
SELECT attempt($$INSERT INTO k20.words VALUES (9, 'x', repeat('y', 8193 - length('w:x:')))$$);
SELECT attempt($$INSERT INTO k20.words VALUES (9, repeat('ö', 3000), repeat('ö', 3000))$$);
SELECT attempt($$INSERT INTO k20.words VALUES (9, 'x', repeat('y', 10000000))$$);

---- literal braces, Redis Cluster hash tags, glob characters in the literal text
CREATE TABLE tags ("Odd column" int, "a#3" int, b int);
SELECT cache_aside.attach('tags', '{{user:{b}}}:x');
SELECT cache_aside.attach('tags', '{{{b}}}:{Odd column}');
SELECT cache_aside.attach('tags', 'list?page=[{b}]\:{a#3}');
BEGIN;
INSERT INTO tags VALUES (1, 2, 3);
SELECT key FROM cache_aside.pending();
ROLLBACK;
-- patterns: a star per placeholder, everything else escaped
SELECT name, pattern FROM cache_aside.rules WHERE relation = 'tags'::regclass ORDER BY name COLLATE "C";
BEGIN;
TRUNCATE tags;
SELECT kind, key FROM cache_aside.pending() ORDER BY key COLLATE "C";
ROLLBACK;

---- copies of a hot key
CREATE TABLE hot (id int, kind text);
SELECT cache_aside.attach('hot', 'hot:{id#4}');
SELECT cache_aside.attach('hot', '{kind#2}/{id#2}!');
BEGIN;
INSERT INTO hot VALUES (7, 'k');
SELECT key FROM cache_aside.pending();
ROLLBACK;
SELECT name, pattern FROM cache_aside.rules WHERE relation = 'hot'::regclass ORDER BY name COLLATE "C";
SELECT attempt($$SELECT cache_aside.attach('k20.hot', '{id#0}')$$);
SELECT attempt($$SELECT cache_aside.attach('k20.hot', '{id#1001}')$$);
SELECT attempt($$SELECT cache_aside.attach('k20.hot', '{id#50}{kind#50}')$$);
SELECT attempt($$SELECT cache_aside.attach('k20.hot', '{id#x}')$$);

---- two sessions, one key: settings do not reach the text, and are what they were afterwards
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (at timestamptz, f float8);
CREATE DOMAIN stamp AS timestamptz;
CREATE TABLE typed (
	a_int int, a_big bigint, a_small smallint, a_num numeric, a_real real, a_float float8, a_bool bool,
	a_text text, a_char char(4), a_uuid uuid, a_mood mood, a_date date, a_time time, a_timetz timetz,
	a_ts timestamp, a_tz timestamptz, a_stamp stamp, a_interval interval, a_bytea bytea, a_money money,
	an_array timestamptz[], a_range tstzrange, a_pair pair, a_class regclass, a_json jsonb);
SELECT cache_aside.attach('typed', '{a_int}|{a_big}|{a_small}|{a_num}|{a_real}|{a_float}|{a_bool}');
SELECT cache_aside.attach('typed', '{a_text}|{a_char}|{a_uuid}|{a_mood}|{a_date}|{a_time}|{a_timetz}');
SELECT cache_aside.attach('typed', '{a_ts}|{a_tz}|{a_stamp}|{a_interval}|{a_bytea}|{a_money}');
SELECT cache_aside.attach('typed', '{an_array}|{a_range}|{a_pair}|{a_class}|{a_json}');
INSERT INTO typed VALUES (
	-42, 9000000000, 7, 1.00, 0.1, 1.0 / 3, true, 'text', 'ab', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
	'ok', '2024-02-29', '13:14:15.5', '13:14:15+02', '2024-02-29 13:14:15', '2024-02-29 13:14:15+02',
	'2024-02-29 13:14:15+02', '1 year 2 days 03:04:05', '\x00ff41', '12.34', '{2024-02-29 13:14:15+02}',
	'[2024-02-29 13:14:15+02,)', ROW('2024-02-29 13:14:15+02', 1.0 / 3), 'k20.typed', '{"a": 1}');
CREATE TABLE collected (session text, key text);
BEGIN;
UPDATE typed SET a_int = a_int;
SELECT key FROM cache_aside.pending();
INSERT INTO collected SELECT 'plain', key FROM cache_aside.pending();
COMMIT;
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'Asia/Kathmandu';
SET IntervalStyle = 'iso_8601';
SET extra_float_digits = -10;
SET bytea_output = 'escape';
SET quote_all_identifiers = on;
SET client_encoding = 'LATIN1';
BEGIN;
UPDATE typed SET a_int = a_int;
INSERT INTO collected SELECT 'odd', key FROM cache_aside.pending();
COMMIT;
SHOW DateStyle;
SHOW TimeZone;
SHOW IntervalStyle;
SHOW extra_float_digits;
SHOW bytea_output;
SHOW search_path;
RESET DateStyle;
RESET TimeZone;
RESET IntervalStyle;
RESET extra_float_digits;
RESET bytea_output;
RESET quote_all_identifiers;
SET client_encoding = 'UTF8';
SET search_path = pg_catalog;
BEGIN;
UPDATE k20.typed SET a_int = a_int;
INSERT INTO k20.collected SELECT 'other path', key FROM cache_aside.pending();
COMMIT;
SET search_path = k20;
SELECT session, count(*), count(*) FILTER (WHERE key IN (SELECT key FROM collected WHERE session = 'plain')) AS same
  FROM collected GROUP BY session ORDER BY session;

---- by hand
BEGIN;
SELECT cache_aside.invalidate('a', 'b', 'a', 'with space', 'page?x=[1]');
SELECT cache_aside.invalidate_pattern('feed:*');
SELECT cache_aside.invalidate(VARIADIC '{}');
SELECT * FROM cache_aside.pending();
ROLLBACK;
SELECT attempt('SELECT cache_aside.invalidate(NULL)');
SELECT attempt('SELECT cache_aside.invalidate(VARIADIC NULL)');
SELECT attempt($$SELECT cache_aside.invalidate('a', NULL)$$);
SELECT attempt($$SELECT cache_aside.invalidate('')$$);
SELECT attempt($$SELECT cache_aside.invalidate('feed:*')$$);
SELECT attempt('SELECT cache_aside.invalidate_pattern(NULL)');
SELECT attempt($$SELECT cache_aside.invalidate_pattern('')$$);
SELECT attempt($$SELECT cache_aside.invalidate(repeat('x', 8193))$$);
BEGIN READ ONLY;
SELECT attempt($$SELECT cache_aside.invalidate('a')$$);
SELECT attempt($$SELECT cache_aside.invalidate_pattern('a*')$$);
COMMIT;

\set VERBOSITY terse
DROP SCHEMA k20 CASCADE;
