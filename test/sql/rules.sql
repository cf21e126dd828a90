-- attach, detach, rules, keys, gaps, and everything attach refuses.
SET client_min_messages = warning;
CREATE SCHEMA r21;
SET search_path = r21;
\pset null '(null)'
\pset format unaligned

\getenv tests PG_ABS_SRCDIR
\set attempt :tests /sql/attempt.psql
\i :attempt

CREATE TABLE users (id int PRIMARY KEY, tenant int, name text, price numeric, doc json, seen int);
SELECT cache_aside.attach('users', 'user:{id}', columns => '{price,doc}');
SELECT cache_aside.attach('users', 'tenant:{tenant}', level => 'statement');
SELECT cache_aside.attach_query('users', 'SELECT ''even:'' || id FROM changed WHERE id % 2 = 0', 'even:*');
SELECT cache_aside.attach_query('users', 'SELECT ''name:'' || name FROM changed', 'name:*', 'by name');
SELECT name, template, query, pattern, columns, level, enabled, cardinality(triggers) FROM cache_aside.rules
 WHERE relation = 'users'::regclass ORDER BY name COLLATE "C";
SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgrelid = 'users'::regclass;

---- columns: images are compared, not equality; the template's own columns always count
INSERT INTO users VALUES (1, 1, 'a', 1.0, '{"a":1}', 0);
CREATE FUNCTION keys_of(command text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN QUERY SELECT key FROM cache_aside.pending() WHERE key LIKE 'user:%';
END $$;
BEGIN; SELECT keys_of('UPDATE users SET seen = 1'); ROLLBACK;            -- not a column of the rule
BEGIN; SELECT keys_of('UPDATE users SET price = 1.0'); ROLLBACK;         -- the same image
BEGIN; SELECT keys_of('UPDATE users SET price = 1.00'); ROLLBACK;        -- equal, but another text
BEGIN; SELECT keys_of('UPDATE users SET doc = ''{"a": 1}'''); ROLLBACK;  -- json has no equality
BEGIN; SELECT keys_of('UPDATE users SET price = NULL'); ROLLBACK;
BEGIN; SELECT keys_of('UPDATE users SET id = 2'); ROLLBACK;
BEGIN; SELECT keys_of('DELETE FROM users'); ROLLBACK;

---- keys
SELECT cache_aside.keys('users', '{"id": 4, "tenant": 9, "name": "x", "no such column": 1}');
SELECT cache_aside.keys('users', '{"id": 5}');
SELECT attempt($$SELECT cache_aside.keys('r21.users', NULL)$$);
SELECT attempt($$SELECT cache_aside.keys(NULL, '{}')$$);

---- detach
SELECT attempt($$SELECT cache_aside.attach('r21.users', 'user:{id}')$$);
SELECT attempt($$SELECT cache_aside.attach_query('r21.users', 'SELECT 1 FROM changed', 'x', 'by name')$$);
SELECT cache_aside.detach('users', 'no such rule');
SELECT cache_aside.detach('users', 'by name');
SELECT cache_aside.detach('users');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass;
SELECT attempt($$SELECT cache_aside.detach(NULL)$$);

---- by hand: the same rule, and what a trigger must be
CREATE TRIGGER by_hand AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('hand:{id}');
CREATE TRIGGER by_hand_too AFTER TRUNCATE ON users EXECUTE FUNCTION cache_aside.invalidate_table('hand:{id}');
CREATE TRIGGER by_hand_ins AFTER INSERT ON users REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT
	EXECUTE FUNCTION cache_aside.invalidate_statement('q*', 'SELECT ''q'' || id FROM changed');
SELECT name, template, pattern, level, enabled, triggers FROM cache_aside.rules WHERE relation = 'users'::regclass ORDER BY name COLLATE "C";
BEGIN;
INSERT INTO users VALUES (3);
TRUNCATE users;
SELECT * FROM cache_aside.pending();
ROLLBACK;
SELECT rule, gap, remedy FROM cache_aside.gaps WHERE relation = 'users'::regclass ORDER BY rule COLLATE "C", gap COLLATE "C";
-- a query runs as the owner, hence not before the owner has said so
ALTER TABLE users ENABLE ALWAYS TRIGGER by_hand_ins;
BEGIN;
INSERT INTO users VALUES (3);
SELECT * FROM cache_aside.pending();
ROLLBACK;
SELECT cache_aside.detach('users', 'hand:{id}'), cache_aside.detach('users');
SELECT attempt($$CREATE TRIGGER t BEFORE INSERT ON r21.users FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('a:{id}')$$);
SELECT attempt($$CREATE TRIGGER t AFTER INSERT ON r21.users FOR EACH STATEMENT EXECUTE FUNCTION cache_aside.invalidate_row('a:{id}')$$);
SELECT attempt($$CREATE TRIGGER t AFTER INSERT ON r21.users FOR EACH STATEMENT EXECUTE FUNCTION cache_aside.invalidate_statement('a:{id}')$$);
SELECT attempt($$CREATE TRIGGER t AFTER INSERT ON r21.users FOR EACH STATEMENT EXECUTE FUNCTION cache_aside.invalidate_table('a:{id}')$$);
SELECT attempt($$CREATE TRIGGER t AFTER INSERT ON r21.users FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row()$$);
SELECT attempt($$CREATE TRIGGER t AFTER INSERT ON r21.users FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('a:{id')$$);
SELECT attempt('SELECT cache_aside.invalidate_row()');

---- a column that is gone never fails the write: the rule's pattern, one warning, a line in gaps
SELECT cache_aside.attach('users', 'user:{id}:{seen}');
SELECT cache_aside.attach('users', 'stat:{seen}', level => 'statement');
INSERT INTO users VALUES (2), (3);
ALTER TABLE users DROP COLUMN seen;
BEGIN;
UPDATE users SET name = 'x';
UPDATE users SET name = 'y';
SELECT * FROM cache_aside.pending();
ROLLBACK;
SELECT cache_aside.keys('users', '{"id": 1}');
SELECT rule, gap, remedy FROM cache_aside.gaps WHERE relation = 'users'::regclass ORDER BY rule COLLATE "C", gap COLLATE "C";
SELECT cache_aside.detach('users');
SELECT cache_aside.attach('users', 'user:{name}', columns => '{price}');
ALTER TABLE users RENAME COLUMN name TO title;
BEGIN;
DELETE FROM users;
SELECT * FROM cache_aside.pending();
ROLLBACK;
ALTER TABLE users RENAME COLUMN title TO name;
-- a column that is compared goes without CASCADE, and takes no trigger with it
ALTER TABLE users DROP COLUMN price;
SELECT rule, gap, remedy FROM cache_aside.gaps WHERE relation = 'users'::regclass ORDER BY rule COLLATE "C", gap COLLATE "C";
SELECT cache_aside.detach('users');

---- gaps: enabled state
SELECT cache_aside.attach('users', 'user:{id}');
ALTER TABLE users DISABLE TRIGGER USER;
SELECT enabled FROM cache_aside.rules WHERE relation = 'users'::regclass;
SELECT count(*), min(regexp_replace(gap, 'cache_aside_[0-9a-f]+', 'cache_aside_N')) FROM cache_aside.gaps WHERE relation = 'users'::regclass;
ALTER TABLE users ENABLE TRIGGER USER; -- what pg_restore --disable-triggers leaves behind
SELECT enabled FROM cache_aside.rules WHERE relation = 'users'::regclass;
SELECT regexp_replace(gap, 'cache_aside_[0-9a-f]+', 'cache_aside_N') AS gap FROM cache_aside.gaps WHERE relation = 'users'::regclass ORDER BY 1;
SELECT remedy FROM cache_aside.gaps WHERE relation = 'users'::regclass ORDER BY remedy \gexec
SELECT enabled FROM cache_aside.rules WHERE relation = 'users'::regclass;
SELECT count(*) FROM cache_aside.gaps WHERE relation = 'users'::regclass;
-- and by that, replicated changes are captured
BEGIN;
SET LOCAL session_replication_role = replica;
UPDATE users SET name = 'replicated' WHERE id = 1;
SELECT * FROM cache_aside.pending();
ROLLBACK;

---- enabled = off captures nothing
BEGIN;
SET LOCAL cache_aside.enabled = off;
UPDATE users SET name = 'off';
TRUNCATE users;
SELECT cache_aside.invalidate('x');
SELECT count(*) FROM cache_aside.pending();
ROLLBACK;

---- refused by attach
CREATE VIEW a_view AS SELECT * FROM users;
CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS id;
CREATE SEQUENCE a_sequence;
CREATE TEMP TABLE a_temp (id int);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE a_foreign (id int) SERVER nowhere;
CREATE TABLE a_parent (id int) PARTITION BY RANGE (id);
CREATE TABLE a_partition PARTITION OF a_parent FOR VALUES FROM (0) TO (10);
CREATE FUNCTION refused(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT r21.attempt('SELECT cache_aside.attach(' || arguments || ')') $$;
SELECT refused($$'r21.users', 'x:{nosuch}'$$);
SELECT refused($$'r21.users', 'x:{id'$$);
SELECT refused($$'r21.users', 'x:{i{d}'$$);
SELECT refused($$'r21.users', 'größe:id}'$$);
SELECT refused($$'r21.users', 'x:{}'$$);
SELECT refused($$'r21.users', ''$$);
SELECT refused($$'r21.users', repeat('x', 8193)$$);
SELECT refused($$'r21.users', 'x:{id}:*'$$);
SELECT refused($$'r21.users', NULL$$);
SELECT refused($$NULL, 'x'$$);
SELECT refused($$'r21.users', 'x:{id}', level => NULL$$);
SELECT refused($$'r21.users', 'x:{id}', level => 'table'$$);
SELECT refused($$'r21.users', 'x:{id}', columns => '{nosuch}'$$);
SELECT refused($$'r21.users', 'x:{id}', columns => '{}'$$);
SELECT refused($$'r21.users', 'x:{id}', columns => '{NULL}'$$);
SELECT refused($$'r21.users', 'x:{id}', columns => '{ctid}'$$);
SELECT refused($$'r21.users', 'x:{id}', columns => '{name}', level => 'statement'$$);
SELECT refused($$'r21.users', 'x:{ctid}'$$);
SELECT refused($$'pg_class', 'x:{oid}'$$);
SELECT refused($$'r21.a_view', 'x:{id}'$$);
SELECT refused($$'r21.a_matview', 'x:{id}', level => 'statement'$$);
SELECT refused($$'r21.a_sequence', 'x'$$);
SELECT refused($$'a_temp', 'x:{id}'$$);
SELECT refused($$'r21.a_foreign', 'x:{id}', level => 'statement'$$);
SELECT refused($$'r21.a_partition', 'x:{id}', level => 'statement'$$);
CREATE ROLE r21_owner;
CREATE ROLE r21_other;
GRANT USAGE ON SCHEMA r21 TO r21_other;
GRANT ALL ON users TO r21_other;
GRANT EXECUTE ON FUNCTION cache_aside.pending() TO r21_other;
ALTER TABLE users OWNER TO r21_owner;
SET ROLE r21_other;
SELECT refused($$'r21.users', 'x:{id}'$$);
SELECT attempt($$SELECT cache_aside.detach('r21.users')$$);
SELECT attempt($$SELECT cache_aside.keys('r21.users', '{}')$$);
-- anybody's writes invalidate, but only who was granted it invalidates by name
BEGIN;
UPDATE users SET name = 'other' WHERE id = 1;
SELECT * FROM cache_aside.pending();
ROLLBACK;
SELECT attempt($$SELECT cache_aside.invalidate('x')$$);
SELECT attempt($$SELECT cache_aside.invalidate_pattern('x')$$);
RESET ROLE;
ALTER TABLE users OWNER TO CURRENT_USER;
DROP ROLE r21_owner;
-- one key for the whole table may be meant
SET client_min_messages = notice;
SELECT cache_aside.attach('users', 'all users');
SELECT cache_aside.attach('users', 'all users by statement', level => 'statement');
SET client_min_messages = warning;
-- row level works on foreign tables
SELECT cache_aside.attach('a_foreign', 'x:{id}');
SELECT count(*) FROM cache_aside.gaps WHERE relation = 'a_foreign'::regclass;

\set VERBOSITY terse
DROP SCHEMA r21 CASCADE;
DROP FOREIGN DATA WRAPPER nothing CASCADE;
REVOKE EXECUTE ON FUNCTION cache_aside.pending() FROM r21_other;
DROP ROLE r21_other;
