-- Query rules: keys from a query over the changed rows.
SET client_min_messages = warning;
CREATE SCHEMA q24;
SET search_path = q24;
\pset null '(null)'
\pset format unaligned
\set pending 'SELECT kind, key FROM cache_aside.pending();'

\getenv tests PG_ABS_SRCDIR
\set attempt :tests /sql/attempt.psql
\i :attempt

CREATE ROLE q24_owner;
CREATE ROLE q24_writer;
GRANT USAGE, CREATE ON SCHEMA q24 TO q24_owner;
GRANT USAGE ON SCHEMA q24 TO q24_writer;
GRANT EXECUTE ON FUNCTION cache_aside.pending() TO q24_owner, q24_writer;
SET ROLE q24_owner;
CREATE TABLE posts (id int PRIMARY KEY, author int, tag text, at date);
CREATE TABLE follows (follower int, author int);
INSERT INTO follows VALUES (1, 10), (2, 10), (3, 11), (4, NULL);
SELECT cache_aside.attach_query('posts', $$
	SELECT 'feed:' || f.follower FROM changed c JOIN q24.follows f USING (author) -- who reads it
$$, 'feed:*');
SELECT cache_aside.attach_query('posts', 'WITH x AS (SELECT at FROM changed) SELECT at FROM x', '????-*', 'by day');
SELECT cache_aside.attach_query('posts', 'SELECT ''count:'' || count(*) FROM changed', 'count:*');
GRANT INSERT, UPDATE, DELETE, SELECT, TRUNCATE ON posts TO q24_writer;

---- the writer has no right to read follows: the query runs as the owner
SET ROLE q24_writer;
SET DateStyle = 'German';
BEGIN;
INSERT INTO posts VALUES (1, 10, 'a', '2024-01-31'), (2, 99, 'b', NULL);
:pending
COMMIT;
-- old and new rows: both authors' followers
BEGIN;
UPDATE posts SET author = 11 WHERE id = 1;
:pending
ROLLBACK;
BEGIN;
DELETE FROM posts WHERE id = 1;
:pending
ROLLBACK;
BEGIN;
UPDATE posts SET tag = 'x' WHERE false;
:pending
ROLLBACK;
BEGIN;
TRUNCATE posts;
:pending
ROLLBACK;
SELECT current_user, current_setting('DateStyle'), current_setting('row_security');
RESET DateStyle;
RESET ROLE;
SET ROLE q24_owner;
SELECT cache_aside.keys('posts', '{"id": 5, "author": 10, "at": "2024-05-05"}');

---- row security of the owner's own tables does not hide rows, that of others is an error, not a gap
ALTER TABLE follows ENABLE ROW LEVEL SECURITY;
ALTER TABLE follows FORCE ROW LEVEL SECURITY;
SET ROLE q24_writer;
BEGIN;
DELETE FROM posts WHERE id = 1;
:pending
ROLLBACK;
RESET ROLE;
ALTER TABLE follows OWNER TO CURRENT_USER;
GRANT SELECT ON follows TO q24_owner;
SET ROLE q24_writer;
BEGIN;
DELETE FROM posts WHERE id = 1;
:pending
ROLLBACK;
RESET ROLE;

---- a query that no longer fits never fails the write: pattern, warning, gaps
ALTER TABLE follows RENAME TO followers;
BEGIN;
DELETE FROM posts;
:pending
ROLLBACK;
SELECT rule, gap, remedy FROM cache_aside.gaps WHERE relation = 'posts'::regclass ORDER BY rule;
ALTER TABLE followers RENAME TO follows;
BEGIN;
DELETE FROM posts;
:pending
ROLLBACK;
-- an error of the query itself does fail it, and leaves nothing behind
SELECT cache_aside.attach_query('posts', 'SELECT ''n:'' || 1 / (author - 10) FROM changed', 'n:*');
\set VERBOSITY terse
BEGIN;
SAVEPOINT a;
DELETE FROM posts;
ROLLBACK TO a;
:pending
ROLLBACK;
\set VERBOSITY default
SELECT cache_aside.detach('posts', 'n:*');
-- what a security-restricted operation may not do
CREATE FUNCTION temp_maker() RETURNS text LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE x(); RETURN 'x'; END $$;
SELECT cache_aside.attach_query('posts', 'SELECT q24.temp_maker() FROM changed', 'x');
BEGIN;
DELETE FROM posts;
:pending
ROLLBACK;
SELECT cache_aside.detach('posts');

---- malformed queries are refused at attach
CREATE FUNCTION refused(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT q24.attempt('SELECT cache_aside.attach_query(' || arguments || ')') $$;
CREATE VIEW a_view AS SELECT 1 AS id;
CREATE TABLE parent (id int) PARTITION BY RANGE (id);
CREATE TABLE partition PARTITION OF parent DEFAULT;
SELECT refused($$'q24.posts', 'SELEC id FROM changed', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id FROM changed WHERE (', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id FROM changed) x, (SELECT 1', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id, tag FROM changed', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT FROM changed', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT nosuch FROM changed', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id FROM posts', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id FROM changed WHERE id = $1', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id FROM changed; SELECT 1', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id INTO q24.y FROM changed', 'x'$$);
SELECT refused($$'q24.posts', 'DELETE FROM changed', 'x'$$);
SELECT refused($$'q24.posts', 'WITH d AS (DELETE FROM q24.follows RETURNING 1) SELECT * FROM d', 'x'$$);
SELECT refused($$'q24.posts', '', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT ''a'' + 1 FROM changed', 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id FROM changed', ''$$);
SELECT refused($$'q24.posts', NULL, 'x'$$);
SELECT refused($$'q24.posts', 'SELECT id FROM changed', NULL$$);
SELECT refused($$NULL, 'SELECT id FROM changed', 'x'$$);
SELECT refused($$'q24.a_view', 'SELECT id FROM changed', 'x'$$);
SELECT refused($$'q24.partition', 'SELECT id FROM changed', 'x'$$);

---- a key that is too long fails the write
SELECT cache_aside.attach_query('posts', 'SELECT repeat(''k'', 8193) FROM changed', 'k*');
SELECT attempt('DELETE FROM q24.posts');
SELECT cache_aside.detach('posts');

---- recursion: the query calls a function that writes to the same table, through the same rule
CREATE TABLE nested (id int);
CREATE FUNCTION write_once() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM q24.nested WHERE id = 2) THEN
		INSERT INTO q24.nested VALUES (2);
		GRANT SELECT ON q24.nested TO q24_writer; -- the relation's rules are parsed anew
		INSERT INTO q24.nested VALUES (3);
	END IF;
	RETURN 'wrote';
END $$;
SELECT cache_aside.attach_query('nested', 'SELECT q24.write_once() || id FROM changed', 'wrote*');
BEGIN;
INSERT INTO nested VALUES (1);
:pending
ROLLBACK;

DROP SCHEMA q24 CASCADE;
REVOKE EXECUTE ON FUNCTION cache_aside.pending() FROM q24_owner, q24_writer;
DROP ROLE q24_owner, q24_writer;
