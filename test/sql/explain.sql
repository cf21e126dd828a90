-- explain: which keys a write deletes, by which rule, and why not.
-- Remedies: explain.c and fires.c in src/rules. That it says what a write does: told() compares it with pending().
SET client_min_messages = warning;
CREATE ROLE x26_owner;
CREATE ROLE x26_other;
CREATE SCHEMA x26 AUTHORIZATION x26_owner;
SET search_path = x26;
\pset null '(null)'
\pset format unaligned

\getenv tests PG_ABS_SRCDIR
\set attempt :tests /sql/attempt.psql
\i :attempt

-- a column that is gone: attribute numbers and places in the row differ
CREATE TABLE items (gone int, id int, tenant int, name text, price numeric, doc json, seen int);
ALTER TABLE items DROP COLUMN gone;
SELECT cache_aside.explain('items', '{"id": 1}');
SELECT cache_aside.attach('items', 'item:{id}', columns => '{price,doc}');
SELECT cache_aside.attach('items', 'tenant:{tenant}', level => 'statement');
SELECT cache_aside.attach('items', 'hot:{id#2}');
SELECT cache_aside.attach_query('items', 'SELECT ''even:'' || id FROM changed WHERE id % 2 = 0', 'even:*');
CREATE TRIGGER renamed AFTER UPDATE OF name ON items FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('name:{name}');
CREATE TRIGGER cheap AFTER INSERT OR UPDATE ON items FOR EACH ROW WHEN (NEW.price < 10) EXECUTE FUNCTION cache_aside.invalidate_row('cheap:{id}');
CREATE TRIGGER dropped_price AFTER UPDATE ON items FOR EACH ROW WHEN (NEW.price < OLD.price) EXECUTE FUNCTION cache_aside.invalidate_row('cheap:{id}');
ALTER TABLE items ENABLE ALWAYS TRIGGER cheap;

---- INSERT, UPDATE, DELETE; an UPDATE's row has what it does not name from the old one
SELECT * FROM cache_aside.explain('items', '{"id": 4, "tenant": 9, "name": "x", "price": 5}');
SELECT * FROM cache_aside.explain('items', '{"seen": 1}', old => '{"id": 4, "tenant": 9, "name": "x", "price": 12}');
SELECT * FROM cache_aside.explain('items', '{"price": 11, "name": "y", "tenant": null}', '{"id": 4, "tenant": 9, "name": "x", "price": 12}');
SELECT * FROM cache_aside.explain('items', '{"id": 6, "price": 12.0}', '{"id": 4, "tenant": 9, "name": "x", "price": 12}') WHERE rule LIKE 'item:%' OR rule LIKE 'even:%';
SELECT * FROM cache_aside.explain('items', NULL, '{"id": 3, "tenant": 9}');

---- the same as what writes give, whatever differs: nothing is to be seen
CREATE FUNCTION told(change text, new jsonb, old jsonb) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE change;
		RETURN QUERY (SELECT 'more: ' || kind || ' ' || key FROM cache_aside.explain('x26.items', new, old) WHERE kind IS NOT NULL
			EXCEPT SELECT 'more: ' || kind || ' ' || key FROM cache_aside.pending())
			UNION ALL (SELECT 'less: ' || kind || ' ' || key FROM cache_aside.pending()
			EXCEPT SELECT 'less: ' || kind || ' ' || key FROM cache_aside.explain('x26.items', new, old));
		RAISE SQLSTATE 'XX999';
	EXCEPTION WHEN SQLSTATE 'XX999' THEN
		RETURN;
	END;
END $$;
SET cache_aside.enabled = off;
INSERT INTO items VALUES (4, 9, 'x', 12, '{"a":1}', 0);
RESET cache_aside.enabled;
\set row '{"id": 4, "tenant": 9, "name": "x", "price": 12, "doc": {"a":1}, "seen": 0}'
SELECT u.change, told.* FROM (VALUES ('seen = 1', '{"seen": 1}'), ('seen = 0', '{}'), ('price = 12.0', '{"price": 12.0}'), ('price = 9', '{"price": 9}'),
	('price = 13', '{"price": 13}'), ('price = NULL', '{"price": null}'), ('id = 5', '{"id": 5}'), ('id = 6, tenant = 1', '{"id": 6, "tenant": 1}'),
	('name = ''y''', '{"name": "y"}'), ('name = NULL', '{"name": null}'), ('tenant = NULL, id = NULL', '{"tenant": null, "id": null}')) u (change, new),
	LATERAL told('UPDATE x26.items SET ' || u.change, u.new::jsonb, (SELECT to_jsonb(i) FROM items i));
SELECT told('INSERT INTO x26.items VALUES (8, NULL, ''n'', 3, NULL, 0)', '{"id": 8, "name": "n", "price": 3, "seen": 0}', NULL);
SELECT told('DELETE FROM x26.items', NULL, to_jsonb(i)) FROM items i;
SET session_replication_role = replica;
SELECT told('DELETE FROM x26.items', NULL, to_jsonb(i)) FROM items i;
SELECT told('UPDATE x26.items SET name = ''z'', price = 1', '{"name": "z", "price": 1}', to_jsonb(i)) FROM items i;
SELECT * FROM cache_aside.explain('items', '{"name": "z", "price": 1}', :'row') WHERE kind IS NULL;
RESET session_replication_role;

---- nothing fires
ALTER TABLE items DISABLE TRIGGER renamed;
ALTER TABLE items ENABLE REPLICA TRIGGER dropped_price;
SELECT * FROM cache_aside.explain('items', '{"name": "z", "price": 11}', :'row') WHERE kind IS NULL;
SET cache_aside.enabled = off;
SELECT rule, kind, key, reason FROM cache_aside.explain('items', '{"id": 4, "tenant": 9, "name": "z"}');
RESET cache_aside.enabled;

---- a rule that lost a column, one that fails, one that writes, one that is not approved
CREATE TABLE odd (id int, name text, n int);
SELECT cache_aside.attach('odd', 'n:{n}:{id}');
ALTER TABLE odd DROP COLUMN n;
SELECT cache_aside.attach('odd', 'odd:{name}');
CREATE TABLE noted (id int);
SELECT cache_aside.attach('noted', 'noted:{id}');
CREATE FUNCTION note(id int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO x26.noted VALUES (id); RETURN 'note:' || id; END $$;
CREATE FUNCTION unlocked(id int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN SET transaction_read_only = off; INSERT INTO x26.noted VALUES (id); RETURN 'u'; END $$;
CREATE FUNCTION divide(id int) RETURNS text LANGUAGE sql RETURN (1 / id)::text;
SELECT cache_aside.attach_query('odd', 'SELECT x26.note(id) FROM changed', 'note:*');
SELECT cache_aside.attach_query('odd', 'SELECT x26.unlocked(id) FROM changed', 'u');
SELECT cache_aside.attach_query('odd', 'SELECT x26.divide(id) FROM changed', 'divided:*');
SELECT cache_aside.attach_query('odd', 'SELECT name FROM changed', 'within:*', 'stray');
SELECT cache_aside.attach_query('odd', 'SELECT ''none'' FROM changed WHERE false', 'none');
SELECT cache_aside.attach_query('odd', 'SELECT id::text FROM x26.helper JOIN changed USING (id)', 'h:*') FROM (SELECT attempt('CREATE TABLE x26.helper (id int)')) x;
DROP TABLE helper;
SELECT cache_aside.attach_query('odd', 'SELECT ''approve:'' || id FROM changed', 'approve:*');
SELECT format('ALTER TABLE odd ENABLE TRIGGER %I', trigger) FROM cache_aside.rule_triggers WHERE rule = 'approve:*' ORDER BY trigger \gexec
BEGIN;
SELECT * FROM cache_aside.explain('odd', jsonb_build_object('id', 0, 'name', repeat('k', 8193)));
SELECT * FROM cache_aside.explain('odd', '{"id": 1, "name": "a"}');
-- Remedy: ca_owner_write_nothing in owner.c
SELECT * FROM cache_aside.pending();
SELECT * FROM noted;
CREATE TABLE noting (id int);
SELECT cache_aside.attach_query('noting', 'SELECT x26.note(id) FROM changed', 'note:*');
SELECT attempt($$SELECT cache_aside.keys('x26.noting', '{"id": 1}')$$);
SHOW transaction_read_only;
INSERT INTO noted VALUES (1);
COMMIT;
CREATE TRIGGER bare AFTER DELETE ON noted FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('only-deleted:{id}');
SELECT * FROM cache_aside.explain('noted', '{"id": 1}');

---- where the rule is another's: a materialized view, a table that took over the name of one with rules
CREATE MATERIALIZED VIEW mv AS SELECT 1 AS id;
SELECT cache_aside.attach('mv', 'mv:{id}');
SELECT * FROM cache_aside.explain('mv', '{"id": 7}');
CREATE TABLE items_new (LIKE items);
ALTER TABLE items RENAME TO items_old;
ALTER TABLE items_new RENAME TO items;
SELECT * FROM cache_aside.explain('items', '{"id": 1}');

---- a query that asks what it would be asked for; see refuse_endless() in explain.c
CREATE TABLE endless (id int);
SELECT cache_aside.attach_query('endless', $$SELECT e.key FROM changed, cache_aside.explain('x26.endless', '{"id": 1}') e$$, 'endless:*');
SELECT * FROM cache_aside.explain('endless', '{"id": 1}');
SELECT key FROM cache_aside.explain('odd', '{"id": 1}') WHERE rule = 'divided:*'; -- it works again

---- who may, and what is no row
SELECT attempt($$SELECT cache_aside.explain(NULL, '{}')$$);
SELECT attempt($$SELECT cache_aside.explain('x26.odd', NULL)$$);
SELECT attempt($$SELECT cache_aside.explain('x26.odd', '[1]')$$);
SELECT attempt($$SELECT cache_aside.explain('x26.odd', '{"id": "x"}')$$);
ALTER TABLE odd OWNER TO x26_owner;
GRANT USAGE ON SCHEMA x26 TO x26_other;
GRANT ALL ON odd TO x26_other;
SET ROLE x26_other;
SELECT attempt($$SELECT cache_aside.explain('x26.odd', '{"id": 1}')$$);
RESET ROLE;
-- the owner's code runs as the owner, also when a superuser asks
CREATE FUNCTION whoami() RETURNS text LANGUAGE sql RETURN 'who:' || current_user;
GRANT USAGE ON SCHEMA x26 TO x26_owner;
SET ROLE x26_owner;
SELECT cache_aside.detach('odd') > 0;
SELECT cache_aside.attach_query('odd', 'SELECT x26.whoami() FROM changed', 'who:*');
CREATE TRIGGER w AFTER INSERT ON odd FOR EACH ROW WHEN (x26.whoami() = 'who:x26_owner' AND NEW.id > 0) EXECUTE FUNCTION cache_aside.invalidate_row('w:{id}');
RESET ROLE;
SELECT * FROM cache_aside.explain('odd', '{"id": 1}');
SELECT * FROM cache_aside.explain('odd', '{"id": -1}');

DROP SCHEMA x26 CASCADE;
DROP ROLE x26_owner, x26_other;
