-- Items: rows of any table with a primary key, as jsonb.
SET client_min_messages = warning;
CREATE SCHEMA it;
SET search_path = it;
\pset null '(null)'
SET timezone = 'UTC';

CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; detail text; hint text; tab text; col text; answer text;
BEGIN
	EXECUTE command INTO answer;
	RETURN 'done: ' || coalesce(answer, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, tab = TABLE_NAME, col = COLUMN_NAME;
	RETURN concat_ws(E'\n', state || ' ' || message, 'DETAIL: ' || detail, 'HINT: ' || hint,
		'FIELDS: ' || tab || '.' || col);
END $$;

CREATE TABLE users (
	id text PRIMARY KEY,
	owner text,
	name varchar(10) NOT NULL,
	age integer,
	balance numeric(8,2) DEFAULT 0,
	tags text[],
	doc jsonb,
	active boolean DEFAULT true,
	created_at timestamptz,
	updated_at timestamptz);
SELECT cache_aside.enable_versioning('users');

---- put_if_absent
BEGIN; -- now() stands still
SELECT item - '{created_at,updated_at}'::text[] AS item, item ? 'created_at' AS has_created,
	(item->>'created_at')::timestamptz = now() AS created_now, (item->>'updated_at')::timestamptz = now() AS updated_now
	FROM cache_aside.put_if_absent('users', '{"id": "u1", "name": "Ada", "tags": ["a", "b c"], "doc": {"x": [1, null]}}') item;
SELECT cache_aside.put_if_absent('users', '{"id": "u1", "name": "Other"}'); -- existed
SELECT name FROM users;
-- what the item brings is kept: an import
SELECT item->'created_at' AS created, item->'version' AS version, item->'active' AS active FROM cache_aside.put_if_absent('users',
	'{"id": "u2", "name": "Bob", "created_at": "2020-01-02T03:04:05Z", "version": 9, "active": null}') item;
COMMIT;
-- another unique constraint is not "existed"
CREATE UNIQUE INDEX ON users (name);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.users', '{"id": "u3", "name": "Ada"}')$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.users', '{"id": "u3", "created_at": "2020-01-01", "updated_at": "2020-01-01"}')$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.users', '{"name": "no key", "created_at": "2020-01-01", "updated_at": "2020-01-01"}')$$);

---- get_item
SELECT cache_aside.get_item('users', '{"id": "u1"}') - '{created_at,updated_at}'::text[];
SELECT cache_aside.get_item('users', '{"id": "nobody"}');

---- update_item
SELECT cache_aside.update_item('users', '{"id": "u1"}', '{"age": 36, "balance": 12.345, "tags": [], "doc": "text", "name": "Ada L."}')
	- '{created_at,updated_at}'::text[];
SELECT cache_aside.update_item('users', '{"id": "nobody"}', '{"age": 1}');
SELECT cache_aside.update_item('users', '{"id": "nobody"}', '{"age": 1}', 1);
SELECT cache_aside.update_item('users', '{"id": "u1"}', '{"age": 37}', 2) -> 'version';
SELECT attempt($$SELECT cache_aside.update_item('it.users', '{"id": "u1"}', '{"age": 38}', 2)$$);
-- key, version and created_at cannot be overwritten, updated_at is ours: an item read can be sent back whole
UPDATE users SET created_at = '2021-01-01', updated_at = '2021-01-01' WHERE id = 'u1';
BEGIN;
SELECT item->'id' AS id, item->'version' AS version, item->'created_at' AS created, item->'age' AS age,
	(item->>'updated_at')::timestamptz = now() AS updated
	FROM cache_aside.update_item('users', '{"id": "u1"}', cache_aside.get_item('users', '{"id": "u1"}')
		|| '{"id": "u9", "version": 70, "created_at": "1999-01-01", "updated_at": "1999-01-01", "age": 40}', 4) item;
COMMIT;
-- nothing left to change: nothing written
SELECT ctid AS before FROM users WHERE id = 'u1' \gset
SELECT cache_aside.update_item('users', '{"id": "u1"}', '{"id": "u9", "version": 1, "created_at": null, "updated_at": null}') -> 'age' AS age;
SELECT cache_aside.update_item('users', '{"id": "u1"}', '{}', 5) -> 'age' AS age;
SELECT attempt($$SELECT cache_aside.update_item('it.users', '{"id": "u1"}', '{}', 4)$$);
SELECT cache_aside.update_item('users', '{"id": "nobody"}', '{}', 4);
SELECT cache_aside.update_item_if('users', '{"id": "u1"}', '{}', 5), cache_aside.update_item_if('users', '{"id": "u1"}', '{}', 4);
SELECT ctid = :'before' AS untouched FROM users WHERE id = 'u1';

---- update_item_if: true, or false on a conflict, whatever the table presents
SELECT cache_aside.update_item_if('users', '{"id": "u1"}', '{"age": 50}', 5);
SELECT cache_aside.update_item_if('users', '{"id": "u1"}', '{"age": 51}', 5);
SELECT cache_aside.update_item_if('users', '{"id": "nobody"}', '{"age": 51}', 5);
SELECT age, version FROM users WHERE id = 'u1';
CREATE TABLE presents_read (id int PRIMARY KEY, n int, version smallint);
SELECT cache_aside.enable_versioning('presents_read', presents => 'read');
SELECT cache_aside.put_if_absent('presents_read', '{"id": 1, "n": 0}');
SELECT cache_aside.update_item_if('presents_read', '{"id": 1}', '{"n": 1}', 1), cache_aside.update_item_if('presents_read', '{"id": 1}', '{"n": 2}', 1);
SELECT cache_aside.update_item('presents_read', '{"id": 1}', '{"n": 3}', 2);
SELECT cache_aside.update_item_if('presents_read', '{"id": 1}', '{"n": 4}', 100000); -- no smallint, no match
-- generated columns and identities are left out as well
CREATE TABLE computed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, serial int GENERATED BY DEFAULT AS IDENTITY, n int, double int GENERATED ALWAYS AS (n * 2) STORED);
SELECT cache_aside.put_if_absent('computed', '{"n": 4}');
SELECT cache_aside.update_item('computed', '{"id": 1}', '{"id": 9, "n": 5, "double": 100}');
SELECT cache_aside.put_if_absent('computed', '{}');
SELECT attempt($$SELECT cache_aside.put_if_absent('it.computed', '{"id": 3, "n": 4}')$$);
SELECT cache_aside.put_if_absent('computed', '{"n": 7, "double": "not even a number"}'); -- whatever it holds
SELECT cache_aside.update_item('computed', '{"id": 1}', '{"double": "nor here"}') -> 'double' AS double;
-- an item that was read goes into another table whole; a key that nobody may set is not left out silently
CREATE TABLE computed_copy (id int PRIMARY KEY, serial int GENERATED ALWAYS AS IDENTITY, n int, double int GENERATED ALWAYS AS (n * 2) STORED);
SELECT cache_aside.put_if_absent('computed_copy', cache_aside.get_item('computed', '{"id": 1}'));

---- null in a column of JSON is JSON's null; one that was NULL stays NULL
CREATE DOMAIN document AS jsonb NOT NULL;
CREATE TABLE documents (id int PRIMARY KEY, b jsonb, j json, d document, n int);
SELECT cache_aside.put_if_absent('documents', '{"id": 1, "b": null, "j": null, "d": null, "n": null}');
INSERT INTO documents VALUES (2, NULL, NULL, '1', NULL), (3, '{"a": null}', '[null]', 'null', 3);
SELECT cache_aside.update_item('documents', item, cache_aside.get_item('documents', item))
	FROM unnest(ARRAY['{"id": 1}', '{"id": 2}', '{"id": 3}']::jsonb[]) item;
SELECT id, b, j, d, n FROM documents ORDER BY id;
SELECT cache_aside.update_item('documents', '{"id": 3}', '{"b": null, "j": null}');
SELECT id, b, j, d, n FROM documents ORDER BY id;
SELECT c, string_agg(n->>'id', ' ') FROM unnest('{b,j,d,n}'::text[]) c,
	cache_aside.query_items('documents', jsonb_build_object(c, NULL), newest_first => false) n GROUP BY c ORDER BY c;

---- delete_item
SELECT cache_aside.delete_item('presents_read', '{"id": 2}');
SELECT cache_aside.delete_item('presents_read', '{"id": 2}', 1);
SELECT attempt($$SELECT cache_aside.delete_item('it.presents_read', '{"id": 1}', 1)$$);
SELECT cache_aside.delete_item('presents_read', '{"id": 1}', 3);
SELECT cache_aside.delete_item('users', '{"id": "u2"}');

---- without versions: unconditional only
CREATE TABLE plain (a int, b text, c int, "C c" date DEFAULT '2000-01-01', updated_at timestamp DEFAULT '2000-01-01', created_at date, PRIMARY KEY (a, b));
BEGIN;
SELECT item - 'created_at' AS item, (item->>'created_at')::date = now()::date AS created
	FROM cache_aside.put_if_absent('plain', '{"b": "x", "a": 1, "c": null}') item;
SELECT item->'c' AS c, (item->>'updated_at')::timestamp = now()::timestamp AS updated
	FROM cache_aside.update_item('plain', '{"a": 1, "b": "x"}', '{"c": 5, "C c": "2024-02-29"}') item;
COMMIT;
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', '{"c": 6}', 1)$$);
SELECT attempt($$SELECT cache_aside.update_item_if('it.plain', '{"a": 1, "b": "x"}', '{"c": 6}', 1)$$);
SELECT attempt($$SELECT cache_aside.delete_item('it.plain', '{"a": 1, "b": "x"}', 1)$$);
ALTER TABLE users DISABLE TRIGGER ALL; -- a version that nobody moves is none
SELECT attempt($$SELECT cache_aside.update_item_if('it.users', '{"id": "u1"}', '{"age": 1}', 6)$$);
ALTER TABLE users ENABLE TRIGGER ALL;
BEGIN;
SET LOCAL cache_aside.import_mode = on;
SELECT attempt($$SELECT cache_aside.update_item_if('it.users', '{"id": "u1"}', '{"age": 1}', 6)$$);
ROLLBACK;

---- keys
SELECT cache_aside.get_item('plain', '{"b": "x", "a": 1}') -> 'C c' AS composite;
SELECT attempt($$SELECT cache_aside.get_item('it.plain', '{"a": 1}')$$);
SELECT attempt($$SELECT cache_aside.get_item('it.plain', '{"a": 1, "b": "x", "c": 5}')$$);
SELECT attempt($$SELECT cache_aside.get_item('it.plain', '{"a": 1, "b": null}')$$);
SELECT attempt($$SELECT cache_aside.get_item('it.plain', '{}')$$);
SELECT attempt($$SELECT cache_aside.get_item('it.plain', '[1]')$$);
SELECT attempt($$SELECT cache_aside.get_item('it.plain', '1')$$);
SELECT attempt($$SELECT cache_aside.get_item('it.plain', NULL)$$);
SELECT attempt($$SELECT cache_aside.get_item(NULL, '{}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', NULL)$$);
SELECT attempt($$SELECT cache_aside.update_item_if('it.users', '{"id": "u1"}', '{}', NULL)$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.plain', NULL)$$);
CREATE TABLE keyless (a int);
CREATE VIEW users_view AS SELECT * FROM users;
SELECT attempt($$SELECT cache_aside.get_item('it.keyless', '{"a": 1}')$$);
SELECT attempt($$SELECT cache_aside.get_item('it.users_view', '{"id": "u1"}')$$);

---- unknown columns and wrong types name the column
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', '{"c": 1, "d": 2}')$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.plain', '{"A": 1, "b": "x"}')$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.plain', '{"ctid": "(0,1)"}')$$);
SELECT attempt($$SELECT cache_aside.query_items('it.plain', '{"d": 2}')$$);
SELECT attempt($$SELECT cache_aside.query_items('it.plain', '{}', '{"d": [1, 2]}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', '{"c": "abc"}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', '{"c": 1.5}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', '{"c": 3000000000}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', '{"c": {"x": 1}}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', '{"c": [1]}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.plain', '{"a": 1, "b": "x"}', '{"C c": "2023-02-29"}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.users', '{"id": "u1"}', '{"name": "much too long a name"}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.users', '{"id": "u1"}', '{"tags": 5}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.users', '{"id": "u1"}', '{"balance": 1234567890}')$$);
SELECT attempt(format($$SELECT cache_aside.get_item('it.plain', '{"a": "%s", "b": "x"}')$$, repeat('é', 200)));
CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0);
CREATE TYPE pair AS (x int, y text);
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE TABLE typed (id uuid PRIMARY KEY, p positive, pr pair, c colour, js json, b bytea, i int[], n name);
SELECT cache_aside.put_if_absent('typed', '{"id": "00000000-0000-0000-0000-000000000001", "p": 1, "pr": {"x": 1, "y": "q"},
	"c": "red", "js": {"b": 1, "a": [true]}, "b": "\\x00ff", "i": [[1, 2], [3, null]], "n": "name"}');
SELECT cache_aside.update_item('typed', '{"id": "00000000-0000-0000-0000-000000000001"}', '{"i": "{7,8}", "js": "s", "pr": "(2,z)", "c": "green"}');
SELECT attempt($$SELECT cache_aside.put_if_absent('it.typed', '{"id": "00000000-0000-0000-0000-000000000002", "p": -1}')$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.typed', '{"id": "00000000-0000-0000-0000-000000000002", "p": null}')$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.typed', '{"id": "00000000-0000-0000-0000-000000000002", "p": 1, "c": "blue"}')$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.typed', '{"id": "00000000-0000-0000-0000-000000000002", "p": 1, "pr": {"x": "q"}}')$$);
SELECT cache_aside.get_item('typed', '{"id": "00000000-0000-0000-0000-000000000001"}') -> 'c' AS colour;

---- query_items
CREATE TABLE notes (id int PRIMARY KEY, owner int, state text, title text, created_at timestamptz, priority int);
INSERT INTO notes SELECT i, i % 3, CASE WHEN i % 2 = 0 THEN 'open' END, 'note ' || i,
	timestamptz '2024-01-01 00:00Z' + i * interval '1 day', i / 5 FROM generate_series(0, 59) i;
CREATE FUNCTION ids(match jsonb, range jsonb DEFAULT NULL, newest_first boolean DEFAULT true, row_limit int DEFAULT 20) RETURNS text
	LANGUAGE sql AS $$SELECT string_agg(n->>'id', ' ') FROM cache_aside.query_items('it.notes', $1, $2, $3, $4) n$$;
SELECT * FROM cache_aside.query_items('notes', '{"owner": 1}', row_limit => 2);
SELECT ids('{"owner": 1}'); -- newest first, 20 at most
SELECT ids('{"owner": 1}', row_limit => NULL, newest_first => false);
SELECT ids('{"owner": 1, "state": null}'), ids('{"owner": 1, "state": "open"}', row_limit => 3);
SELECT ids('{"owner": 1}', '{"created_at": ["2024-01-02", "2024-02-01"]}'); -- 1 (01-02) is in, 31 (02-01) is not
SELECT ids('{"owner": 1}', '{"created_at": [null, "2024-01-10"]}'), ids('{"owner": 1}', '{"created_at": ["2024-02-25", null]}');
SELECT ids('{}', row_limit => 5), ids(NULL, row_limit => 3, newest_first => false);
SELECT ids('{"owner": 1}', '{"priority": [4, 6]}'), ids('{"owner": 1}', '{"priority": [4, 6]}', false); -- ties by key
UPDATE notes SET priority = NULL WHERE id < 55;
SELECT ids('{}', '{"priority": [null, null]}'); -- a range leaves NULLs out
SELECT ids('{}', '{"id": [57, 59]}'), ids('{}', '{"id": [59, 57]}'), ids('{}', row_limit => 0), ids('{"owner": 77}');
SELECT ids('{"title": "note 7''; DROP TABLE notes; --"}');
SELECT attempt($$SELECT it.ids('{}', row_limit => -1)$$);
SELECT attempt($$SELECT it.ids('{}', '{}')$$);
SELECT attempt($$SELECT it.ids('{}', '{"id": [1, 2], "owner": [1, 2]}')$$);
SELECT attempt($$SELECT it.ids('{}', '{"id": 1}')$$);
SELECT attempt($$SELECT it.ids('{}', '{"id": [1]}')$$);
SELECT attempt($$SELECT it.ids('{}', '{"id": [1, 2, 3]}')$$);
SELECT attempt($$SELECT it.ids('{}', '{"id": {"from": 1}}')$$);
SELECT attempt($$SELECT it.ids('{}', '[1, 2]')$$);
SELECT attempt($$SELECT it.ids('{}', '{"created_at": ["yesterdayish", null]}')$$);
SELECT attempt($$SELECT it.ids('[]')$$);
SELECT attempt($$SELECT cache_aside.query_items('it.typed', '{"js": {"a": 1}}')$$); -- json has no equality
SELECT count(*) FROM cache_aside.query_items('typed', '{"i": [7, 8], "c": "green", "pr": {"x": 2, "y": "z"}}');
-- without created_at, the order is that of the key
SELECT string_agg(n->>'n', ' ') FROM cache_aside.query_items('computed', '{}') n;

---- pages: ties, NULLs, both directions, every page size: no row is lost or doubled
CREATE TABLE pages (a int, b text, created_at timestamptz, score float8, PRIMARY KEY (b, a));
INSERT INTO pages SELECT i, chr(97 + i % 3), CASE WHEN i % 5 > 0 THEN timestamptz '2024-01-01 00:00:00.123456Z' + i / 9 * interval '1 us' END,
	CASE WHEN i % 7 = 0 THEN 'NaN' WHEN i % 7 = 1 THEN NULL ELSE 0.1 + 0.2 + i / 14 END::float8 FROM generate_series(1, 57) i;
CREATE FUNCTION walk(range jsonb, newest_first boolean, page int, match jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE items jsonb = '[]'; rows jsonb; after text;
BEGIN
	LOOP
		SELECT jsonb_agg(p.item), (array_agg(p.cursor))[count(*)] INTO rows, after
			FROM cache_aside.query_page('it.pages', match, range, newest_first, page, after) p;
		EXIT WHEN rows IS NULL;
		items = items || rows;
	END LOOP;
	RETURN items;
END $$;
SELECT range, newest_first, count(*) FILTER (WHERE walk(range, newest_first, page) =
		(SELECT jsonb_agg(n) FROM cache_aside.query_items('pages', '{}', range, newest_first, NULL) n)) AS right_of_12,
	jsonb_array_length(walk(range, newest_first, 5)) AS rows
	FROM unnest(ARRAY[NULL, '{"created_at": [null, null]}', '{"created_at": ["2024-01-01 00:00:00.123457Z", "2024-01-01 00:00:00.123459Z"]}',
		'{"score": [null, null]}', '{"b": ["a", "c"]}']::jsonb[]) range, unnest('{t,f}'::boolean[]) newest_first, generate_series(1, 12) page
	GROUP BY 1, 2 ORDER BY 1, 2;
SELECT walk(NULL, true, 4, '{"b": "b"}') = (SELECT jsonb_agg(n) FROM cache_aside.query_items('pages', '{"b": "b"}', NULL, true, NULL) n) AS matched;
-- NULL is above everything: first when the newest come first
SELECT string_agg(item->>'a', ' ') FROM cache_aside.query_page('pages', '{"b": "c"}', row_limit => 6);
SELECT string_agg(item->>'a', ' ') FROM (SELECT item FROM cache_aside.query_page('pages', '{"b": "c"}', newest_first => false, row_limit => NULL) OFFSET 13) p;
-- the float's last digit is not lost on the way
SET extra_float_digits = -5;
SELECT count(*) FROM jsonb_array_elements(walk('{"score": [null, null]}', true, 3));
RESET extra_float_digits;
-- rows that come and go between two pages move no other row
SELECT cursor AS middle FROM cache_aside.query_page('pages', '{"b": "a"}', row_limit => 5) OFFSET 4 \gset
SELECT string_agg(item->>'a', ' ') FROM cache_aside.query_page('pages', '{"b": "a"}', row_limit => 3, after => :'middle');
BEGIN;
INSERT INTO pages VALUES (1000, 'a', now()), (1001, 'a', NULL);
DELETE FROM pages WHERE a IN (SELECT (item->>'a')::int FROM cache_aside.query_page('pages', '{"b": "a"}', row_limit => 7));
SELECT string_agg(item->>'a', ' ') FROM cache_aside.query_page('pages', '{"b": "a"}', row_limit => 3, after => :'middle');
ROLLBACK;
-- a cursor of another query, or of nobody's
SELECT attempt(format($$SELECT cache_aside.query_page('it.pages', '{}', newest_first => false, after => %L)$$, :'middle'));
SELECT attempt(format($$SELECT cache_aside.query_page('it.pages', '{}', '{"score": [0, 1]}', after => %L)$$, :'middle'));
SELECT attempt($$SELECT cache_aside.query_page('it.pages', '{}', after => 'W10=')$$);
SELECT attempt($$SELECT cache_aside.query_page('it.pages', '{}', after => 'e30=')$$);
SELECT attempt($$SELECT cache_aside.query_page('it.pages', '{}', after => '!')$$);
SELECT attempt($$SELECT cache_aside.query_page('it.pages', '{}', after => 'AAAA')$$);
SELECT attempt($$SELECT cache_aside.query_page('it.pages', '{}', after => '/////w==')$$);
SELECT attempt(format($$SELECT cache_aside.query_page('it.pages', '{}', after => %L)$$,
	encode(convert_to('["desc created_at a b", "x", "y", "z"]', 'UTF8'), 'base64')));

---- partitions
CREATE TABLE parted (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu');
CREATE TABLE parted_us PARTITION OF parted FOR VALUES IN ('us');
SELECT cache_aside.enable_versioning('parted');
SELECT cache_aside.put_if_absent('parted', '{"id": 1, "region": "us", "n": 1}'), cache_aside.put_if_absent('parted', '{"id": 1, "region": "us", "n": 1}');
SELECT cache_aside.update_item('parted', '{"id": 1, "region": "us"}', '{"n": 2}', 1), cache_aside.update_item_if('parted_us', '{"id": 1, "region": "us"}', '{"n": 3}', 2);
SELECT cache_aside.delete_item('parted', '{"id": 1, "region": "us"}', 3);

---- renames, new columns and look-alikes between calls: plans follow
SELECT cache_aside.get_item('keyless', '{"a": 1}');
ALTER TABLE keyless ADD PRIMARY KEY (a);
INSERT INTO keyless VALUES (1);
SELECT cache_aside.get_item('keyless', '{"a": 1}');
ALTER TABLE keyless ADD b int DEFAULT 7;
SELECT cache_aside.get_item('keyless', '{"a": 1}');
ALTER TABLE keyless RENAME b TO c;
SELECT cache_aside.get_item('keyless', '{"a": 1}');
ALTER TABLE keyless RENAME TO was_keyless;
CREATE TABLE keyless (a int PRIMARY KEY, other text DEFAULT 'another table');
INSERT INTO keyless VALUES (1);
SELECT cache_aside.get_item('was_keyless', '{"a": 1}'), cache_aside.get_item('keyless', '{"a": 1}');
ALTER TABLE was_keyless ALTER a TYPE bigint;
SELECT cache_aside.get_item('was_keyless', '{"a": 1}'), cache_aside.update_item('was_keyless', '{"a": 1}', '{"c": 8}');
DROP TABLE keyless;
ALTER TABLE was_keyless RENAME TO keyless;
SELECT cache_aside.get_item('keyless', '{"a": 1}');
-- an operator, a function and a table in front of pg_catalog's do not matter
CREATE FUNCTION never(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR = (LEFTARG = int, RIGHTARG = int, FUNCTION = never);
CREATE FUNCTION to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS $$SELECT '"hijacked"'::jsonb$$;
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz '1900-01-01'$$;
SET search_path = it, pg_catalog;
SELECT cache_aside.get_item('notes', '{"id": 1}') -> 'title', ids('{"owner": 1}', row_limit => 1);
SELECT item->>'updated_at' LIKE '1900%' FROM cache_aside.update_item('users', '{"id": "u1"}', '{"age": 3}') item;
SET search_path = it;
DROP OPERATOR it.= (int, int);
DROP FUNCTION it.never, it.to_jsonb, it.now;
-- more shapes than plans are kept
SELECT count(*) FROM generate_series(1, 255) mask, cache_aside.query_items('notes', (SELECT jsonb_object_agg(c, NULL) FROM unnest(ARRAY['owner', 'state', 'title', 'priority', 'created_at', 'id']) WITH ORDINALITY u (c, o)
	WHERE (mask >> (o - 1)::int) & 1 = 1), CASE WHEN mask & 64 = 64 THEN '{"id": [0, 1]}'::jsonb END, mask & 128 = 0);
SELECT cache_aside.get_item('keyless', '{"a": 1}');
-- a trigger that uses items on the same table while an item function runs
CREATE TABLE nested (id int PRIMARY KEY, n int);
CREATE FUNCTION nest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id < 5 THEN
		PERFORM cache_aside.put_if_absent('it.nested', jsonb_build_object('id', NEW.id + 1));
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER nest AFTER INSERT ON nested FOR EACH ROW EXECUTE FUNCTION nest();
SELECT cache_aside.put_if_absent('nested', '{"id": 1}');
SELECT count(*) FROM nested;

-- and one that pushes the running statement's plan out of those that are kept
CREATE FUNCTION crowd() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM FROM generate_series(0, 255) mask, cache_aside.query_items('it.notes', (SELECT jsonb_object_agg(c, NULL)
		FROM unnest(ARRAY['owner', 'state', 'title', 'priority', 'created_at', 'id']) WITH ORDINALITY u (c, o)
		WHERE (mask >> (o - 1)::int) & 1 = 1), NULL, mask & 64 = 0, CASE WHEN mask & 128 = 0 THEN 1 END);
	RETURN NULL;
END $$;
CREATE TRIGGER crowd AFTER INSERT OR UPDATE ON nested FOR EACH STATEMENT EXECUTE FUNCTION crowd();
SELECT cache_aside.put_if_absent('nested', '{"id": 6, "n": 5}');
SELECT cache_aside.update_item('nested', '{"id": 6}', '{"n": 6}');
SELECT cache_aside.update_item('nested', '{"id": 6}', '{"n": 7}');

---- rules on the table see what items do, in the same transaction
CREATE TABLE cached (id int PRIMARY KEY, n int);
SELECT cache_aside.enable_versioning('cached');
SELECT cache_aside.attach('cached', 'cached:{id}:{version}');
BEGIN;
SELECT cache_aside.put_if_absent('cached', '{"id": 1, "n": 0}');
SELECT cache_aside.update_item('cached', '{"id": 1}', '{"n": 1}', 1);
SAVEPOINT s;
SELECT cache_aside.update_item_if('cached', '{"id": 1}', '{"n": 2}', 2);
ROLLBACK TO s;
SELECT cache_aside.update_item_if('cached', '{"id": 1}', '{"n": 2}', 1); -- a conflict changes nothing
SELECT cache_aside.put_if_absent('cached', '{"id": 1, "n": 9}');
SELECT * FROM cache_aside.pending() ORDER BY key;
SELECT cache_aside.delete_item('cached', '{"id": 1}', 2);
COMMIT;

---- rights are the caller's
CREATE ROLE it_user;
CREATE ROLE it_other;
GRANT USAGE ON SCHEMA it TO it_user, it_other;
CREATE TABLE owned (id int PRIMARY KEY, owner text, n int);
SELECT cache_aside.enable_versioning('owned');
INSERT INTO owned VALUES (1, 'it_user', 0), (2, 'it_other', 0);
SELECT cache_aside.get_item('owned', '{"id": 1}') -> 'n'; -- a plan made by a superuser
SET ROLE it_user;
SELECT attempt($$SELECT cache_aside.get_item('it.owned', '{"id": 1}')$$);
SELECT attempt($$SELECT cache_aside.put_if_absent('it.owned', '{"id": 3}')$$);
SELECT attempt($$SELECT cache_aside.update_item('it.owned', '{"id": 1}', '{"n": 3}')$$);
SELECT attempt($$SELECT cache_aside.delete_item('it.owned', '{"id": 1}')$$);
SELECT attempt($$SELECT cache_aside.query_items('it.owned', '{}')$$);
RESET ROLE;
GRANT SELECT, INSERT, UPDATE, DELETE ON owned TO it_user, it_other;
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON owned FOR SELECT USING (owner = current_user OR id = 4);
CREATE POLICY writes ON owned FOR UPDATE USING (owner = current_user);
CREATE POLICY deletes ON owned FOR DELETE USING (owner = current_user);
CREATE POLICY inserts ON owned FOR INSERT WITH CHECK (owner = current_user);
INSERT INTO owned VALUES (4, 'shown', 0);
SET ROLE it_user;
SELECT cache_aside.get_item('owned', '{"id": 1}') -> 'n' AS own, cache_aside.get_item('owned', '{"id": 2}') -> 'n' AS hidden;
SELECT cache_aside.update_item('owned', '{"id": 1}', '{"n": 1}', 1) -> 'n' AS own, cache_aside.update_item('owned', '{"id": 2}', '{"n": 1}', 1) -> 'n' AS hidden;
SELECT cache_aside.delete_item('owned', '{"id": 2}'), cache_aside.delete_item('owned', '{"id": 2}', 1);
SELECT cache_aside.update_item('owned', '{"id": 4}', '{"n": 1}', 1) AS visible_but_not_writable;
SELECT count(*) FROM cache_aside.query_items('owned', '{}');
SELECT cache_aside.put_if_absent('owned', '{"id": 2, "owner": "it_user"}') AS existed;
SELECT attempt($$SELECT cache_aside.put_if_absent('it.owned', '{"id": 7, "owner": "it_other"}')$$);
SET ROLE it_other;
SELECT cache_aside.get_item('owned', '{"id": 1}') -> 'n' AS hidden, cache_aside.get_item('owned', '{"id": 2}') -> 'n' AS own;
RESET ROLE;

RESET search_path;
DROP SCHEMA it CASCADE;
DROP ROLE it_user, it_other;
