-- The version trigger: what each kind of writer gets. `version` is the column throughout.
SET client_min_messages = warning;
CREATE SCHEMA rv;
SET search_path = rv;
\set VERBOSITY default
\pset null '(null)'

\getenv tests PG_ABS_SRCDIR
\set attempt :tests /sql/attempt.psql
\i :attempt

---- presents => 'next', as ORMs write
CREATE TABLE orm (id int PRIMARY KEY, name text, note text);
INSERT INTO orm VALUES (1, 'before');
SELECT cache_aside.enable_versioning('orm');
SELECT * FROM orm; -- rows that were there are at 1
-- INSERT keeps what it supplies: Hibernate, Rails, Sequelize insert 0, TypeORM 1; NULL or absent is 1
INSERT INTO orm (id, name, version) VALUES (2, 'zero', 0), (3, 'one', 1), (4, 'null', NULL), (5, 'seven', 7);
INSERT INTO orm (id, name) VALUES (6, 'absent');
SELECT id, name, version FROM orm ORDER BY id;
-- Hibernate, Rails, Sequelize, MikroORM: the next version, in a WHERE with the one that was read
UPDATE orm SET name = 'zero+', version = 1 WHERE id = 2 AND version = 0 RETURNING version;
UPDATE orm SET name = 'late', version = 1 WHERE id = 2 AND version = 0 RETURNING version; -- their conflict: no row
-- TypeORM, by expression
UPDATE orm SET name = 'zero++', version = version + 1 WHERE id = 2 RETURNING version;
-- Without a version at all: psql, bulk updates
UPDATE orm SET note = 'bulk' WHERE id IN (1, 2) RETURNING id, version;
-- Everything else is refused: the same, a jump, back, NULL
SELECT attempt('UPDATE rv.orm SET name = ''x'', version = 3 WHERE id = 2');
SELECT attempt('UPDATE rv.orm SET name = ''x'', version = 5 WHERE id = 2');
SELECT attempt('UPDATE rv.orm SET name = ''x'', version = 0 WHERE id = 2');
SELECT attempt('UPDATE rv.orm SET version = NULL WHERE id = 2');
SELECT attempt('UPDATE rv.orm SET version = DEFAULT WHERE id = 2');
-- What did not change does not bump
UPDATE orm SET name = name, note = note RETURNING id, version;

---- presents => 'read', as the guide's expectedVersion and Dynamo have it
CREATE TABLE dynamo (id int PRIMARY KEY, name text);
SELECT cache_aside.enable_versioning('dynamo', presents => 'read');
INSERT INTO dynamo VALUES (1, 'a');
UPDATE dynamo SET name = 'b', version = 1 WHERE id = 1 RETURNING version;
SELECT attempt('UPDATE rv.dynamo SET name = ''late'', version = 1 WHERE id = 1');
SELECT attempt('UPDATE rv.dynamo SET name = ''next'', version = 3 WHERE id = 1'); -- not both at once
UPDATE dynamo SET name = 'c' WHERE id = 1 RETURNING version;
UPDATE dynamo SET version = 3 WHERE id = 1 RETURNING version; -- presented: always one more

---- counted columns
CREATE TABLE counted (id int PRIMARY KEY, price numeric, tags json, seen int, total numeric GENERATED ALWAYS AS (price * 2) STORED);
SELECT cache_aside.enable_versioning('counted', columns => '{price,tags}');
INSERT INTO counted VALUES (1, 1.0, '{"a": 1}', 0);
UPDATE counted SET seen = seen + 1 RETURNING version;
UPDATE counted SET price = 1.0, tags = '{"a": 1}' RETURNING version; -- the same images
UPDATE counted SET price = 1.00 RETURNING version; -- equal, not the same
UPDATE counted SET tags = '{"a":1}' RETURNING version; -- json has no equality
UPDATE counted SET price = NULL RETURNING version;
UPDATE counted SET price = NULL RETURNING version;
UPDATE counted SET seen = 0, version = version + 1 RETURNING version; -- who presents gets the next one
SELECT cache_aside.disable_versioning('counted', drop_column => true);
-- a generated column counts by what it is computed from
SELECT cache_aside.enable_versioning('counted', columns => '{total}');
UPDATE counted SET price = 4 RETURNING total, version;
UPDATE counted SET seen = 9 RETURNING total, version;
SELECT cache_aside.disable_versioning('counted', drop_column => true);
-- and is no reason of its own when every column counts
SELECT cache_aside.enable_versioning('counted');
UPDATE counted SET price = price RETURNING version;
UPDATE counted SET price = 5 RETURNING version;

-- a counted column that is gone: every column counts, with a warning
CREATE TABLE losing (id int PRIMARY KEY, a int, b int);
SELECT cache_aside.enable_versioning('losing', columns => '{a}');
INSERT INTO losing VALUES (1, 1, 1);
UPDATE losing SET b = 2 RETURNING version;
ALTER TABLE losing RENAME a TO c;
UPDATE losing SET b = 3 RETURNING version;
UPDATE losing SET b = 4 RETURNING version; -- warned once
SELECT relation, columns, missing_columns FROM cache_aside.versioned WHERE relation = 'losing'::regclass;
SELECT rule, gap, remedy FROM cache_aside.gaps WHERE relation = 'losing'::regclass;
ALTER TABLE losing DROP c; -- no CASCADE is needed, and the trigger stays
UPDATE losing SET b = 5 RETURNING version;
SELECT remedy FROM cache_aside.gaps WHERE relation = 'losing'::regclass \gexec
UPDATE losing SET b = 6 RETURNING version;
SELECT count(*) FROM cache_aside.gaps WHERE relation = 'losing'::regclass;

-- TOASTed values: unchanged ones are recognised, changed ones count
CREATE TABLE toasted (id int PRIMARY KEY, n int, doc text);
ALTER TABLE toasted ALTER doc SET STORAGE EXTERNAL;
SELECT cache_aside.enable_versioning('toasted', columns => '{doc}');
INSERT INTO toasted VALUES (1, 0, repeat('x', 100000));
UPDATE toasted SET n = 1 RETURNING version;
UPDATE toasted SET doc = repeat('x', 100000) RETURNING version;
UPDATE toasted SET doc = repeat('x', 99999) || 'y' RETURNING version;

---- other triggers
CREATE TABLE triggered (id int PRIMARY KEY, a int, b int);
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN NEW.b := NEW.a * 10; NEW.version := 77; RETURN NEW; END $$;
SELECT cache_aside.enable_versioning('triggered', columns => '{b}');
INSERT INTO triggered VALUES (1, 1, 10);
CREATE TRIGGER meddle BEFORE UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION meddle();
UPDATE triggered SET a = 1 RETURNING a, b, version; -- ours fires last: b is the same, 77 is nothing
UPDATE triggered SET a = 2 RETURNING a, b, version; -- b changed by the other trigger
CREATE TRIGGER zzzz BEFORE UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION meddle();
SELECT cache_aside.disable_versioning('triggered');
SELECT cache_aside.enable_versioning('triggered');
SELECT relation, fires_last FROM cache_aside.versioned WHERE relation = 'triggered'::regclass;
-- foreign key actions are writers too
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON UPDATE CASCADE ON DELETE SET NULL);
SELECT cache_aside.enable_versioning('child');
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (1, 1);
UPDATE parent SET id = 2;
SELECT * FROM child;
DELETE FROM parent;
SELECT * FROM child;
-- and so are updatable views
CREATE VIEW orm_view AS SELECT version AS v, name AS n, id FROM orm;
UPDATE orm_view SET n = 'by view' WHERE id = 2 RETURNING v;
UPDATE orm_view SET n = 'by view again', v = 5 WHERE id = 2 RETURNING v;
SELECT attempt('UPDATE rv.orm_view SET n = ''late'', v = 5 WHERE id = 2');

---- ON CONFLICT
INSERT INTO orm (id, name) VALUES (1, 'upsert') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name
	RETURNING id, version; -- presents nothing: bump
INSERT INTO orm AS o (id, name) VALUES (1, 'upsert 2') ON CONFLICT (id)
	DO UPDATE SET name = EXCLUDED.name, version = o.version + 1 RETURNING version;
INSERT INTO orm (id, name, version) VALUES (1, 'upsert 3', 5) ON CONFLICT (id)
	DO UPDATE SET name = EXCLUDED.name, version = EXCLUDED.version RETURNING version;
SELECT attempt($$INSERT INTO rv.orm (id, name, version) VALUES (1, 'late', 5) ON CONFLICT (id)
	DO UPDATE SET name = EXCLUDED.name, version = EXCLUDED.version$$);
-- an absent version reaches EXCLUDED as the 1 that the trigger gives new rows, which is what it presents
SELECT attempt($$INSERT INTO rv.orm (id, name) VALUES (1, 'invented') ON CONFLICT (id)
	DO UPDATE SET name = EXCLUDED.name, version = EXCLUDED.version$$);
INSERT INTO dynamo (id, name, version) VALUES (1, 'read', 4) ON CONFLICT (id)
	DO UPDATE SET name = EXCLUDED.name, version = EXCLUDED.version RETURNING version;
INSERT INTO orm (id, name, version) VALUES (10, 'new by upsert', 0) ON CONFLICT (id)
	DO UPDATE SET version = EXCLUDED.version RETURNING version;

---- MERGE
MERGE INTO orm USING (VALUES (1, 'merged'), (20, 'merged')) s (id, name) ON orm.id = s.id
	WHEN MATCHED THEN UPDATE SET name = s.name
	WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name);
SELECT id, version FROM orm WHERE id IN (1, 20) ORDER BY id;
MERGE INTO orm USING (VALUES (1, 7), (20, 2)) s (id, version) ON orm.id = s.id
	WHEN MATCHED THEN UPDATE SET name = 'presented', version = s.version;
SELECT id, version FROM orm WHERE id IN (1, 20) ORDER BY id;
SELECT attempt($$MERGE INTO rv.orm USING (VALUES (1, 7)) s (id, version) ON orm.id = s.id
	WHEN MATCHED THEN UPDATE SET name = 'late', version = s.version$$);
-- "touched" belongs to the statement: if one action of a MERGE presents, every UPDATE action has to
SELECT attempt($$MERGE INTO rv.orm USING (VALUES (1, 8)) s (id, version) ON orm.id = s.id
	WHEN MATCHED AND s.version < 0 THEN UPDATE SET version = s.version
	WHEN MATCHED THEN UPDATE SET name = 'mixed'$$);
MERGE INTO orm USING (VALUES (1, 8)) s (id, version) ON orm.id = s.id
	WHEN MATCHED AND s.version < 0 THEN UPDATE SET version = s.version
	WHEN MATCHED THEN UPDATE SET name = 'mixed', version = orm.version + 1;
SELECT version FROM orm WHERE id = 1;

---- COPY
COPY orm (id, name, version) FROM stdin;
30	copied	41
31	copied	\N
\.
COPY orm (id, name) FROM stdin;
32	copied
\.
SELECT id, version FROM orm WHERE id BETWEEN 30 AND 39 ORDER BY id;

---- partitions with other column orders, row movement
CREATE TABLE parted (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu');
SELECT cache_aside.enable_versioning('parted', columns => '{v}');
CREATE TABLE parted_us (version int, gone int, v int, region text NOT NULL, id int NOT NULL);
ALTER TABLE parted_us DROP gone;
ALTER TABLE parted ATTACH PARTITION parted_us FOR VALUES IN ('us');
INSERT INTO parted VALUES (1, 'eu', 0), (2, 'us', 0);
INSERT INTO parted_us (id, region, v) VALUES (3, 'us', 0);
UPDATE parted SET v = v + 1 RETURNING tableoid::regclass, *;
UPDATE parted_us SET v = v + 1, version = version + 1 WHERE id = 3 RETURNING *;
SELECT attempt('UPDATE rv.parted SET v = 9, version = 2 WHERE id = 2');
SELECT attempt('UPDATE rv.parted_us SET v = 9, version = 2 WHERE id = 2');
ALTER TABLE parted_us DISABLE TRIGGER ALL; -- of a partition, its own
SELECT * FROM cache_aside.gaps WHERE relation IN ('parted'::regclass, 'parted_us'::regclass);
SELECT remedy FROM cache_aside.gaps WHERE relation = 'parted_us'::regclass \gexec
SELECT count(*) FROM cache_aside.gaps WHERE relation IN ('parted'::regclass, 'parted_us'::regclass);
UPDATE parted SET region = 'us' WHERE id = 1 RETURNING tableoid::regclass, *; -- moves, not counted: stays
UPDATE parted SET region = 'eu', v = 5 WHERE id = 1 RETURNING tableoid::regclass, *; -- neither restarted nor refused
UPDATE parted SET region = 'us', version = 4 WHERE id = 1 RETURNING tableoid::regclass, *;
SELECT attempt('UPDATE rv.parted SET region = ''eu'', version = 4 WHERE id = 1');
MERGE INTO parted p USING (VALUES (1, 'eu')) s (id, region) ON p.id = s.id
	WHEN MATCHED THEN UPDATE SET region = s.region, v = 6;
SELECT tableoid::regclass, * FROM parted WHERE id = 1;
INSERT INTO parted VALUES (2, 'us', 7) ON CONFLICT (id, region) DO UPDATE SET v = EXCLUDED.v RETURNING *;
INSERT INTO parted VALUES (2, 'us', 8, 4) ON CONFLICT (id, region) DO UPDATE SET v = EXCLUDED.v, version = EXCLUDED.version RETURNING *;
SELECT attempt($$INSERT INTO rv.parted VALUES (2, 'us', 9, 4) ON CONFLICT (id, region) DO UPDATE SET v = EXCLUDED.v, version = EXCLUDED.version$$);
-- a prepared statement, whose plan outlives many executions
PREPARE bump(int) AS UPDATE parted SET v = $1 WHERE id = 3 RETURNING version;
EXECUTE bump(10); EXECUTE bump(11); EXECUTE bump(12); EXECUTE bump(13); EXECUTE bump(14); EXECUTE bump(15); EXECUTE bump(15);
DEALLOCATE bump;

---- inheritance: children of today get their trigger, a later one is reported
CREATE TABLE base (id int PRIMARY KEY, v int);
CREATE TABLE derived (extra int) INHERITS (base);
SELECT cache_aside.enable_versioning('base');
INSERT INTO base VALUES (1, 0);
INSERT INTO derived VALUES (2, 0, 5);
UPDATE base SET v = v + 1 RETURNING tableoid::regclass, id, version;
UPDATE derived SET extra = 6 RETURNING version;
SELECT attempt('UPDATE rv.base SET v = 9, version = 2 WHERE id = 2');
CREATE TABLE bare () INHERITS (base);
ALTER TABLE derived DISABLE TRIGGER ALL;
SELECT relation, bare_children FROM cache_aside.versioned WHERE relation = 'base'::regclass;
SELECT * FROM cache_aside.gaps WHERE relation IN ('base'::regclass, 'derived'::regclass, 'bare'::regclass) ORDER BY relation::text;
ALTER TABLE derived ENABLE TRIGGER ALL;
SELECT relation, bare_children FROM cache_aside.versioned WHERE relation = 'base'::regclass;
SELECT cache_aside.disable_versioning('base');
SELECT count(*) FROM cache_aside.versioned WHERE relation IN ('base'::regclass, 'derived'::regclass);

---- column order and dropped columns
CREATE TABLE dropping (a int, version int, b int, id int PRIMARY KEY);
SELECT cache_aside.enable_versioning('dropping');
INSERT INTO dropping VALUES (1, NULL, 1, 1);
ALTER TABLE dropping DROP a;
UPDATE dropping SET b = 2 RETURNING *;
ALTER TABLE dropping ADD c int DEFAULT 3;
UPDATE dropping SET c = 4 RETURNING *;
-- renamed: a warning, once; rows are written; gaps says what to do
ALTER TABLE dropping RENAME version TO lock_version;
UPDATE dropping SET b = 3 RETURNING *;
INSERT INTO dropping (b, id) VALUES (1, 2) RETURNING *;
DELETE FROM dropping WHERE id = 2;
SELECT rule, gap, remedy FROM cache_aside.gaps WHERE relation = 'dropping'::regclass;
SELECT attempt($$SELECT cache_aside.update_item('rv.dropping', '{"id": 1}', '{"b": 3}', 3)$$); -- no version to compare
SELECT cache_aside.update_item('dropping', '{"id": 1}', '{"b": 3}');
SELECT cache_aside.disable_versioning('dropping');
SELECT cache_aside.enable_versioning('dropping', version => 'lock_version');
UPDATE dropping SET b = 3 RETURNING *;

---- the version column dropped, or turned into another type: written without, until the remedy is run
CREATE TABLE gone (id int PRIMARY KEY, v int);
SELECT cache_aside.enable_versioning('gone', columns => '{v}', presents => 'read', start => 'one');
INSERT INTO gone VALUES (1, 0);
ALTER TABLE gone DROP version;
UPDATE gone SET v = 1 RETURNING *;
INSERT INTO gone VALUES (2, 0) RETURNING *;
SELECT missing_columns FROM cache_aside.versioned WHERE relation = 'gone'::regclass;
SELECT gap, remedy FROM cache_aside.gaps WHERE relation = 'gone'::regclass;
SELECT remedy FROM cache_aside.gaps WHERE relation = 'gone'::regclass \gexec
SELECT gap FROM cache_aside.gaps WHERE relation = 'gone'::regclass;
UPDATE gone SET v = 2 RETURNING *;
SELECT presents, start, columns FROM cache_aside.versioned WHERE relation = 'gone'::regclass;
ALTER TABLE gone ALTER version DROP DEFAULT, ALTER version TYPE text;
UPDATE gone SET v = 3 RETURNING *;
SELECT gap, remedy FROM cache_aside.gaps WHERE relation = 'gone'::regclass;
SELECT remedy FROM cache_aside.gaps WHERE relation = 'gone'::regclass \gexec
UPDATE gone SET v = 4 RETURNING *;
ALTER TABLE gone DISABLE TRIGGER ALL;
SELECT gap, remedy FROM cache_aside.gaps WHERE relation = 'gone'::regclass;
SELECT remedy FROM cache_aside.gaps WHERE relation = 'gone'::regclass \gexec
SELECT gap FROM cache_aside.gaps WHERE relation = 'gone'::regclass;

---- narrow types: an error, not a wrap
CREATE TABLE small (id int PRIMARY KEY, v int, version smallint);
SELECT cache_aside.enable_versioning('small');
INSERT INTO small VALUES (1, 0, 32766);
UPDATE small SET v = 1 RETURNING version;
SELECT attempt('UPDATE rv.small SET v = 2');
SELECT attempt('UPDATE rv.small SET v = 2, version = 32767');
SELECT attempt('UPDATE rv.small SET v = 2, version = version + 1'); -- PostgreSQL's own: the assignment does not fit
ALTER TABLE small ALTER version TYPE integer;
UPDATE small SET version = 32768 RETURNING version;
INSERT INTO small VALUES (2, 0, 2147483647);
SELECT attempt('UPDATE rv.small SET v = 2 WHERE id = 2');
ALTER TABLE small ALTER version TYPE bigint;
INSERT INTO small VALUES (3, 0, 9223372036854775807);
SELECT attempt('UPDATE rv.small SET v = 2 WHERE id = 3');

---- a column that was there, with NULLs: they count as 0
CREATE TABLE nullable (id int PRIMARY KEY, v int, version int);
INSERT INTO nullable VALUES (1, 0, NULL), (2, 0, NULL);
SELECT cache_aside.enable_versioning('nullable');
UPDATE nullable SET v = v RETURNING version;
UPDATE nullable SET v = 1 WHERE id = 1 RETURNING version;
UPDATE nullable SET v = 1, version = 1 WHERE id = 2 RETURNING version;

---- start => 'sequence': a number is never used again
CREATE TABLE seq (id int PRIMARY KEY, v int);
INSERT INTO seq VALUES (1, 0);
SELECT cache_aside.enable_versioning('seq', start => 'sequence');
INSERT INTO seq VALUES (2, 0) RETURNING version;
UPDATE seq SET v = v + 1 WHERE id = 2 RETURNING version;
UPDATE seq SET v = v + 1 WHERE id = 2 RETURNING version;
UPDATE seq SET v = v + 1, version = 5 WHERE id = 2 RETURNING version;
DELETE FROM seq WHERE id = 2;
INSERT INTO seq VALUES (2, 0) RETURNING version; -- above every version it had
SELECT attempt('UPDATE rv.seq SET v = 9, version = 3 WHERE id = 2'); -- a stale writer of the old row
INSERT INTO seq (id, v, version) VALUES (3, 0, 100) RETURNING version; -- supplied, and skipped over
INSERT INTO seq VALUES (4, 0) RETURNING version;
INSERT INTO seq (id, v, version) VALUES (5, 0, 5000000) RETURNING version; -- by a jump
INSERT INTO seq VALUES (6, 0) RETURNING version;
INSERT INTO seq (id, v, version) VALUES (7, 0, NULL) RETURNING version;
DELETE FROM seq;
INSERT INTO seq VALUES (1, 0) RETURNING version;
SELECT relation, version, presents, start, columns, trigger, enabled, fires_last, missing_columns, bare_children
	FROM cache_aside.versioned WHERE relation = 'seq'::regclass;
-- no right on the sequence is needed to write the table
CREATE ROLE rv_writer;
GRANT USAGE ON SCHEMA rv TO rv_writer;
GRANT INSERT, UPDATE, SELECT ON seq TO rv_writer;
SET ROLE rv_writer;
INSERT INTO seq VALUES (10, 0) RETURNING version;
UPDATE seq SET v = 1 WHERE id = 10 RETURNING version;
INSERT INTO seq (id, v, version) VALUES (11, 0, 9000000) RETURNING version;
INSERT INTO seq VALUES (12, 0) RETURNING version;
RESET ROLE;
-- taken off, the column still has a value for those who leave it out
SELECT cache_aside.disable_versioning('seq');
INSERT INTO seq VALUES (13, 0) RETURNING version;
-- put on again, it starts above what is stored
SELECT cache_aside.enable_versioning('seq', start => 'sequence');
INSERT INTO seq VALUES (14, 0) RETURNING version;
-- nobody can use it up, or hold up others: what is too far ahead is refused
SELECT attempt('INSERT INTO rv.seq (id, v, version) VALUES (15, 0, 9223372036854775807)');
SELECT attempt('INSERT INTO rv.seq (id, v, version) VALUES (15, 0, -9223372036854775808)');
INSERT INTO seq VALUES (16, 0) RETURNING version;
-- a row that came in beside the trigger, far ahead, goes on from where it is and takes nobody along
ALTER TABLE seq DISABLE TRIGGER ALL;
INSERT INTO seq VALUES (17, 0, 2147480000);
ALTER TABLE seq ENABLE TRIGGER ALL;
UPDATE seq SET v = 1 WHERE id = 17 RETURNING version;
INSERT INTO seq VALUES (18, 0) RETURNING version;
-- it ends where the column's type does
CREATE TABLE tiny (id int PRIMARY KEY, v int, version smallint);
SELECT cache_aside.enable_versioning('tiny', start => 'sequence');
BEGIN;
SET LOCAL cache_aside.import_mode = on;
INSERT INTO tiny VALUES (1, 0, 32766);
COMMIT;
INSERT INTO tiny VALUES (2, 0) RETURNING version;
SELECT attempt('INSERT INTO rv.tiny VALUES (3, 0)');
SELECT attempt('UPDATE rv.tiny SET v = 1 WHERE id = 2');
-- partitions share the sequence of the table they belong to
CREATE TABLE pseq (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE pseq_1 PARTITION OF pseq FOR VALUES IN (1);
SELECT cache_aside.enable_versioning('pseq', start => 'sequence');
CREATE TABLE pseq_2 PARTITION OF pseq FOR VALUES IN (2);
INSERT INTO pseq VALUES (1, 1) RETURNING version;
INSERT INTO pseq_2 VALUES (1, 2) RETURNING version;
UPDATE pseq SET k = 1, id = 5 WHERE k = 2 RETURNING version;
INSERT INTO pseq_1 VALUES (2, 1) RETURNING version;
-- a sequence of the user's will do
CREATE TABLE owned (id int PRIMARY KEY, v int, version bigserial);
SELECT cache_aside.enable_versioning('owned', start => 'sequence');
INSERT INTO owned VALUES (1, 0) RETURNING version;
UPDATE owned SET v = 1 RETURNING version;
INSERT INTO owned VALUES (2, 0) RETURNING version;
-- one that counts down, or in circles, is not walked
ALTER SEQUENCE owned_version_seq INCREMENT -1 MINVALUE -5 CYCLE;
UPDATE owned SET v = 2 RETURNING version;

---- start => 'unused', the default: at 1 while nothing was deleted, then above all that was
CREATE TABLE reused (id int PRIMARY KEY, v int);
SELECT cache_aside.enable_versioning('reused');
INSERT INTO reused VALUES (1, 0), (2, 0) RETURNING id, version;
UPDATE reused SET v = v + 1 WHERE id = 1 RETURNING version;
UPDATE reused SET v = v + 1 WHERE id = 1 RETURNING version;
INSERT INTO reused VALUES (3, 0) RETURNING version;
DELETE FROM reused WHERE id = 1;
INSERT INTO reused VALUES (1, 0) RETURNING version;
SELECT attempt('UPDATE rv.reused SET v = 9, version = 3 WHERE id = 1'); -- who read the row before the last
SELECT attempt('UPDATE rv.reused SET v = 9, version = 4 WHERE id = 1'); -- and the last
UPDATE reused SET v = 9, version = 5 WHERE id = 1 RETURNING version;
INSERT INTO reused (id, v, version) VALUES (4, 0, 1) RETURNING version; -- an ORM's own number stays
-- another key: the old one is free for a row above, the new one gets a number it never had
INSERT INTO reused (id, v, version) VALUES (7, 0, 20);
DELETE FROM reused WHERE id = 7;
UPDATE reused SET id = 7 WHERE id = 4 RETURNING id, version;
INSERT INTO reused VALUES (4, 0) RETURNING version;
UPDATE reused SET id = 8 WHERE id = 2 RETURNING version;
INSERT INTO reused VALUES (2, 0) RETURNING version;
-- a delete that fails has counted, which does no harm; one far ahead does not take the others along
BEGIN; DELETE FROM reused WHERE id = 3; ROLLBACK;
INSERT INTO reused (id, v, version) VALUES (9, 0, 2000000000);
DELETE FROM reused WHERE id = 9;
INSERT INTO reused VALUES (9, 0) RETURNING version;
-- partitions: a row that moves keeps its version; all share the table's memory
CREATE TABLE preused (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE preused_1 PARTITION OF preused FOR VALUES IN (1);
CREATE TABLE preused_2 PARTITION OF preused FOR VALUES IN (2);
SELECT cache_aside.enable_versioning('preused');
INSERT INTO preused VALUES (1, 1), (2, 2);
UPDATE preused SET id = 3 WHERE id = 2 RETURNING version;
DELETE FROM preused_2;
INSERT INTO preused VALUES (2, 2), (3, 2), (1, 2) RETURNING id, version;
-- without its sequence: a warning, and 1
DROP SEQUENCE preused_version_seq;
INSERT INTO preused VALUES (9, 2) RETURNING version;
DELETE FROM preused WHERE id = 9;
SELECT gap, remedy FROM cache_aside.gaps WHERE relation = 'preused'::regclass;
-- and as before
CREATE TABLE restarts (id int PRIMARY KEY, v int);
SELECT cache_aside.enable_versioning('restarts', start => 'one');
INSERT INTO restarts VALUES (1, 0);
UPDATE restarts SET v = 1;
DELETE FROM restarts;
INSERT INTO restarts VALUES (1, 0) RETURNING version;

---- presents => 'echo', for ORMs that write every column back
CREATE TABLE echoed (id int PRIMARY KEY, v text);
SELECT cache_aside.enable_versioning('echoed', presents => 'echo');
INSERT INTO echoed (id, v, version) VALUES (1, 'created', 1);
UPDATE echoed SET v = 'saved', version = 1 WHERE id = 1 RETURNING *;
UPDATE echoed SET v = 'saved again', version = 1 WHERE id = 1 RETURNING *; -- the object kept its number
UPDATE echoed SET v = 'counted' WHERE id = 1 RETURNING *;
SELECT attempt('UPDATE rv.echoed SET v = ''lost'', version = 1 WHERE id = 1'); -- read before that
UPDATE echoed SET v = 'by expression', version = version + 1 WHERE id = 1 AND version = 2 RETURNING *;
SELECT attempt('UPDATE rv.echoed SET v = ''x'', version = 5 WHERE id = 1');
SELECT attempt('UPDATE rv.echoed SET v = ''x'', version = NULL WHERE id = 1');
-- knex's merge(): every column of the object, on conflict too
INSERT INTO echoed (id, v, version) VALUES (1, 'merged', 3) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, version = EXCLUDED.version RETURNING *;
SELECT attempt($$INSERT INTO rv.echoed (id, v, version) VALUES (1, 'lost', 2) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, version = EXCLUDED.version$$);
INSERT INTO echoed (id, v) VALUES (1, 'merged without') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v RETURNING *;
SELECT presents, start FROM cache_aside.versioned WHERE relation = 'echoed'::regclass;

---- import mode keeps what is given; it is the superuser's, for one transaction
BEGIN;
SET LOCAL cache_aside.import_mode = on;
INSERT INTO orm (id, name, version) VALUES (40, 'imported', 12), (41, 'imported', NULL);
UPDATE orm SET name = 'kept' WHERE id = 40 RETURNING version;
UPDATE orm SET version = 3 WHERE id = 40 RETURNING version;
COMMIT;
UPDATE orm SET name = 'bumped' WHERE id = 40 RETURNING version;
SELECT attempt('UPDATE rv.orm SET version = 2 WHERE id = 40');
SET ROLE rv_writer;
SET cache_aside.import_mode = on;
RESET ROLE;
ALTER SYSTEM SET cache_aside.import_mode = on;
-- a replica's apply does not fire it
SET session_replication_role = replica;
UPDATE orm SET name = 'applied', version = 40 WHERE id = 40 RETURNING version;
RESET session_replication_role;

---- what an error may tell
CREATE TABLE secret (id int PRIMARY KEY, owner text, v int);
SELECT cache_aside.enable_versioning('secret');
INSERT INTO secret VALUES (1, 'ada', 0);
GRANT UPDATE ON secret TO rv_writer;
GRANT EXECUTE ON FUNCTION attempt TO rv_writer;
SET ROLE rv_writer;
SELECT attempt('UPDATE rv.secret SET version = 100'); -- may read nothing
RESET ROLE;
GRANT SELECT (version) ON secret TO rv_writer;
SET ROLE rv_writer;
SELECT attempt('UPDATE rv.secret SET version = 100'); -- not the key
RESET ROLE;
GRANT SELECT ON secret TO rv_writer;
SET ROLE rv_writer;
SELECT attempt('UPDATE rv.secret SET version = 100');
RESET ROLE;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON secret USING (true);
SET ROLE rv_writer;
SELECT attempt('UPDATE rv.secret SET version = 100'); -- row security: no values
RESET ROLE;
CREATE TABLE nokey (v int);
SELECT cache_aside.enable_versioning('nokey');
INSERT INTO nokey VALUES (0);
SELECT attempt('UPDATE rv.nokey SET version = 1');
-- a partition, read through its parent
GRANT SELECT, UPDATE ON parted TO rv_writer;
SET ROLE rv_writer;
SELECT attempt('UPDATE rv.parted SET version = 99 WHERE id = 3');
RESET ROLE;

---- by hand, and wrongly
CREATE TABLE manual (id int PRIMARY KEY, v int, version int NOT NULL);
CREATE TRIGGER zz BEFORE INSERT OR UPDATE ON manual FOR EACH ROW EXECUTE FUNCTION cache_aside.row_version('version', 'next', 'v');
INSERT INTO manual VALUES (1, 0);
UPDATE manual SET v = 1 RETURNING version;
SELECT relation, version, presents, start, columns, trigger FROM cache_aside.versioned WHERE relation = 'manual'::regclass;
CREATE TRIGGER a AFTER UPDATE ON orm FOR EACH ROW EXECUTE FUNCTION cache_aside.row_version('version', 'next');
SELECT attempt('UPDATE rv.orm SET name = ''z'' WHERE id = 1');
DROP TRIGGER a ON orm;
CREATE TABLE wrong (id int PRIMARY KEY, t text, version int);
INSERT INTO wrong VALUES (1);
CREATE TRIGGER w BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION cache_aside.row_version('version');
SELECT attempt('UPDATE rv.wrong SET id = 2');
DROP TRIGGER w ON wrong;
CREATE TRIGGER w BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION cache_aside.row_version('version', 'both');
SELECT attempt('UPDATE rv.wrong SET id = 2');
DROP TRIGGER w ON wrong;
CREATE TRIGGER w BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION cache_aside.row_version('t', 'next');
SELECT attempt('UPDATE rv.wrong SET id = 2');
DROP TRIGGER w ON wrong;
CREATE TRIGGER w BEFORE INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION cache_aside.row_version('version', 'next, sequence');
SELECT attempt('INSERT INTO rv.wrong VALUES (2)');
SELECT cache_aside.row_version();

SELECT attempt($$SELECT cache_aside.enable_versioning('rv.orm')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.orm_view')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('pg_class')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent', version => 'ctid')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.wrong', version => 't')$$);
-- a column that is a key, or not the writer's to set
CREATE TABLE keyed (id int PRIMARY KEY, u int UNIQUE, p int, pair int, x int8range,
	f int REFERENCES parent (id), i int GENERATED BY DEFAULT AS IDENTITY,
	a int GENERATED ALWAYS AS IDENTITY, g int GENERATED ALWAYS AS (1) STORED, covered int, ok int NOT NULL,
	UNIQUE (p, pair) INCLUDE (covered));
CREATE UNIQUE INDEX ON keyed (ok) WHERE ok > 5;
SELECT c, attempt(format('SELECT cache_aside.enable_versioning(%L, version => %L)', 'rv.keyed', c))
	FROM unnest('{id,u,p,pair,f,i,a,g,ok,covered}'::text[]) c;
CREATE TABLE part_key (id int, k int) PARTITION BY LIST (k);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.part_key', version => 'k')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent', columns => '{id,nothing}')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent', columns => '{version}')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent', columns => '{NULL}')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent', columns => '{}')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent', start => 'two')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent', presents => 'both')$$);
SELECT attempt($$SELECT cache_aside.enable_versioning(NULL)$$);
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent', NULL)$$);
SELECT attempt($$SELECT cache_aside.disable_versioning('rv.parent')$$);
CREATE ROLE rv_owner;
ALTER TABLE rv.parent OWNER TO rv_owner;
ALTER TABLE rv.orm OWNER TO rv_owner;
SET ROLE rv_writer;
SELECT attempt($$SELECT cache_aside.enable_versioning('rv.parent')$$);
SELECT attempt($$SELECT cache_aside.disable_versioning('rv.orm')$$);
RESET ROLE;
ALTER TABLE rv.parent OWNER TO CURRENT_USER;
ALTER TABLE rv.orm OWNER TO CURRENT_USER;
DROP ROLE rv_owner;
-- names that need quoting, in a schema that is not on the path
CREATE SCHEMA "Odd ""schema";
CREATE TABLE "Odd ""schema"."Tab le" ("I'd" int PRIMARY KEY, "co,l" int);
SELECT cache_aside.enable_versioning('"Odd ""schema"."Tab le"', version => 'Ver "sion', columns => '{"co,l"}', start => 'sequence');
INSERT INTO "Odd ""schema"."Tab le" VALUES (1, 0);
UPDATE "Odd ""schema"."Tab le" SET "co,l" = 1 RETURNING *;
SELECT relation, version, columns FROM cache_aside.versioned WHERE version = 'Ver "sion';
SELECT cache_aside.disable_versioning('"Odd ""schema"."Tab le"', drop_column => true);
SELECT * FROM "Odd ""schema"."Tab le";

RESET search_path;
DROP SCHEMA rv, "Odd ""schema" CASCADE;
DROP ROLE rv_writer;
