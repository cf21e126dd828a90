# DDL that changes what a cached row shows, or which rows there are, without writing a row, deletes the
# patterns of the rules concerned; what leaves the rows as they are deletes nothing.
#
# Remedies: note_relation, note_function, note_view in altered.c (columns, functions, views), the cases
# of ca_altered_note_statement (enum, domain, materialized view, foreign table), follow() in reach.c
# (types through arrays, domains, composites), names_one() there (query rules); in altered.c the case of
# operators and shows_other() (type modifiers of foreign tables).
use strict;
use warnings;

use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main');
$node->safe_psql('postgres', q{
	CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN moods AS mood[]; CREATE TYPE pair AS (a int, b moods);
	CREATE DOMAIN small AS int; CREATE TYPE span AS RANGE (subtype = float8);
	CREATE TABLE plain (id int PRIMARY KEY, n int, w varchar(10), t timestamptz, m mood, d small, s span);
	CREATE TABLE deep (id int, p pair); CREATE TABLE shape (id int, n int); CREATE TABLE rows (id int, whole shape);
	CREATE TABLE top (id int, day int, m moods) PARTITION BY RANGE (day);
	CREATE TABLE middle PARTITION OF top FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (day);
	CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (0) TO (10);
	CREATE TABLE loose (LIKE leaf); INSERT INTO loose VALUES (1, 20);
	CREATE TABLE kind (id int); CREATE TABLE heir (extra int) INHERITS (kind); CREATE TABLE other (id int, label text);
	CREATE VIEW seen AS SELECT id, label FROM other; CREATE VIEW over AS SELECT * FROM seen;
	CREATE MATERIALIZED VIEW stored AS SELECT * FROM other; CREATE UNIQUE INDEX ON stored (id);
	CREATE FUNCTION tag(int) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'f:' || $1;
	CREATE FUNCTION tags(int) RETURNS text LANGUAGE sql IMMUTABLE RETURN public.tag($1);
	CREATE FUNCTION hidden(int) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN ''h:'' || $1; END';
	CREATE FUNCTION unused(int) RETURNS text LANGUAGE sql RETURN 'u';
	CREATE SCHEMA app; CREATE TABLE app.t (id int);
	CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing;
	SELECT cache_aside.attach(t::regclass, t || ':{id}') FROM unnest('{plain,deep,rows,top,kind}'::text[]) t;
	CREATE TABLE base (id int);
	SELECT cache_aside.attach_query('base', 'SELECT ''v:'' || o.id FROM public.over o, changed', 'v:*');
	SELECT cache_aside.attach_query('base', 'SELECT ''s:'' || o.id FROM public.stored o, changed', 's:*');
	SELECT cache_aside.attach_query('base', 'SELECT public.tags(id) FROM changed', 'f:*');
	CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
	SELECT cache_aside.attach_query('base', 'SELECT ''o:'' || (id OPERATOR(public.###) 1) FROM changed', 'o:*');
	SELECT cache_aside.attach_query('base', 'SELECT ''a:'' || t.id FROM app.t, changed', 'a:*')});

sub patterns
{
	my ($sql) = @_;
	my (undef, $out, $err) = $node->psql('postgres', "SET client_min_messages = error; BEGIN;\n\\o /dev/null\n$sql;\n\\o\n"
		  . "SELECT string_agg(key, ' ' ORDER BY key) FROM cache_aside.pending(); ROLLBACK");
	return $out . ($err eq '' ? '' : " failed: $err");
}

sub deletes
{
	my ($wanted, @statements) = @_;
	is(patterns($_), $wanted, $_) foreach @statements;
	return;
}

deletes('plain:*', 'ALTER TABLE plain ADD c int', 'ALTER TABLE plain ADD c int DEFAULT 7',
	'ALTER TABLE plain DROP n', 'ALTER TABLE plain RENAME n TO nn', 'ALTER TABLE plain DROP s CASCADE',
	'ALTER TABLE plain ALTER w TYPE text', "SET TimeZone = 'UTC'; ALTER TABLE plain ALTER t TYPE timestamp",
	q{ALTER TABLE plain ALTER w TYPE varchar(10) COLLATE "POSIX"}, 'DROP TYPE span CASCADE',
	'ALTER DOMAIN small SET DEFAULT 1', 'ALTER DOMAIN small ADD CHECK (VALUE > 0)', 'DROP DOMAIN small CASCADE',
	q{DO 'BEGIN ALTER TABLE plain ADD c int; END'});
deletes('', 'ALTER TABLE plain ALTER n SET STATISTICS 7', 'ALTER TABLE plain ALTER n SET NOT NULL',
	'ALTER TABLE plain ALTER n SET DEFAULT 1', 'ALTER TABLE plain ADD CHECK (n > 0)', 'CREATE INDEX ON plain (n)',
	'ALTER TABLE plain ALTER w TYPE varchar(20)', 'ALTER TABLE plain ALTER w SET STORAGE external',
	'ALTER TABLE plain SET (fillfactor = 70)', 'ALTER TABLE plain DISABLE TRIGGER USER',
	'ALTER TABLE plain OWNER TO CURRENT_USER', 'CLUSTER plain USING plain_pkey', 'ANALYZE plain', 'COMMENT ON COLUMN plain.n IS $$c$$',
	'CREATE TABLE fresh (id int, m mood); ALTER TABLE fresh ADD n int; DROP TABLE fresh',
	'CREATE TEMP TABLE t1 (id int); ALTER TABLE t1 ADD n int', q{ALTER TYPE mood ADD VALUE 'new'},
	'CREATE VIEW v1 AS SELECT id FROM plain', 'CREATE FUNCTION f1() RETURNS int LANGUAGE sql RETURN 1',
	'CREATE OR REPLACE FUNCTION unused(int) RETURNS text LANGUAGE sql RETURN $$v$$',
	'SET LOCAL cache_aside.ddl_invalidates = off; ALTER TABLE plain ADD c int DEFAULT 7');
deletes('deep:* plain:* top:*', q{ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'});
deletes('rows:*', 'ALTER TABLE shape RENAME n TO m', 'ALTER TABLE shape ADD c int', 'ALTER TABLE shape DROP n');
deletes('deep:*', 'ALTER TYPE pair ADD ATTRIBUTE c int', 'ALTER TYPE pair DROP ATTRIBUTE a', 'ALTER TYPE pair RENAME ATTRIBUTE a TO c');
deletes('top:*', 'ALTER TABLE top RENAME m TO mm', 'ALTER TABLE top ADD c int',
	'ALTER TABLE middle ATTACH PARTITION loose FOR VALUES FROM (20) TO (30)', 'ALTER TABLE top DETACH PARTITION middle',
	'CREATE FOREIGN TABLE away PARTITION OF middle FOR VALUES FROM (30) TO (40) SERVER far', 'DROP TABLE leaf',
	q{CREATE FOREIGN TABLE away (id int, day int, m moods) SERVER far; ALTER TABLE middle ATTACH PARTITION away FOR VALUES FROM (30) TO (40)});
# a partition that never held a row, and its name
deletes('', 'CREATE TABLE l2 PARTITION OF middle FOR VALUES FROM (30) TO (40)', 'ALTER TABLE leaf RENAME TO l3', 'ALTER TABLE leaf SET SCHEMA app',
	'CREATE TABLE l2 (LIKE leaf); ALTER TABLE middle ATTACH PARTITION l2 FOR VALUES FROM (30) TO (40)',
	'CREATE TABLE m2 PARTITION OF top FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (day); CREATE TABLE l2 PARTITION OF m2 FOR VALUES FROM (100) TO (110)');
# a rule begins; see rule_begins.pl
deletes('n:*', q{SELECT cache_aside.attach('plain', 'n:{id}')}, q{SELECT cache_aside.attach('plain', 'n:{id}', level => 'statement')});
deletes('t:*', q{SELECT cache_aside.attach('top', 't:{id}')});
deletes('', q{SET LOCAL cache_aside.ddl_invalidates = off; SELECT cache_aside.attach('plain', 'n:{id}'), cache_aside.attach('stored', 'n:{id}');
	ALTER TABLE plain RENAME TO p2; ALTER TABLE p2 DISABLE TRIGGER USER; ALTER TABLE p2 ENABLE TRIGGER USER}, 'ALTER TABLE plain ENABLE TRIGGER USER',
	q{SAVEPOINT s; SELECT cache_aside.attach('plain', 'n:{id}'); ROLLBACK TO s});
deletes('plain:*', 'ALTER TABLE plain RENAME TO p2', 'ALTER TABLE plain SET SCHEMA app', 'ALTER TABLE plain DISABLE TRIGGER USER; ALTER TABLE plain ENABLE TRIGGER USER');
deletes('kind:*', 'ALTER TABLE kind ADD c int', 'ALTER TABLE heir NO INHERIT kind', 'CREATE FOREIGN TABLE k2 () INHERITS (kind) SERVER far',
	'CREATE TABLE k3 (id int, x int); ALTER TABLE k3 INHERIT kind');

# the rest of ALTER and of what empties tables
$node->safe_psql('postgres', q{CREATE TABLE wide (id int PRIMARY KEY, n int, x numeric, b bit(3), g int GENERATED ALWAYS AS (id * 2) STORED);
	CREATE TABLE points (wide int REFERENCES wide ON DELETE CASCADE); CREATE TYPE cell AS (id int, a int); CREATE TABLE typed OF cell;
	CREATE TABLE inner_child () INHERITS (heir); CREATE ROLE joe; CREATE FOREIGN TABLE distant (id int, x numeric) SERVER far;
	SELECT cache_aside.attach(t::regclass, t || ':{id}') FROM unnest('{wide,typed,distant}'::text[]) t; SELECT cache_aside.attach('points', 'points:{wide}')});
my $generated = $node->safe_psql('postgres', 'SHOW server_version_num') >= 170000 ? 'ALTER TABLE wide ALTER g SET EXPRESSION AS (id * 3)'
  : 'ALTER TABLE wide ALTER g DROP EXPRESSION';
deletes('wide:*', $generated, 'ALTER TABLE wide ALTER n TYPE int USING n + 1', 'ALTER TABLE wide ALTER x TYPE numeric(10,2)',
	'ALTER TABLE wide ALTER b TYPE bit(4) USING b::bit(4)', 'ALTER TABLE wide ADD c serial', 'ALTER TABLE IF EXISTS wide ADD COLUMN IF NOT EXISTS c int');
deletes('points:* wide:*', 'TRUNCATE wide CASCADE', 'TRUNCATE points, wide');
deletes('points:*', 'DROP TABLE points', 'TRUNCATE points');
deletes('typed:*', 'ALTER TYPE cell ADD ATTRIBUTE b int CASCADE', 'ALTER TYPE cell RENAME ATTRIBUTE a TO b CASCADE', 'ALTER TYPE cell ALTER ATTRIBUTE a TYPE bigint CASCADE');
deletes('kind:*', 'DROP TABLE heir CASCADE', 'DROP TABLE inner_child', 'ALTER TABLE heir ADD c int', 'ALTER TABLE inner_child NO INHERIT heir');
deletes('distant:*', 'ALTER FOREIGN TABLE distant ALTER x TYPE numeric(10,2)', q{ALTER FOREIGN TABLE distant OPTIONS (ADD a '1')},
	q{ALTER FOREIGN TABLE distant ALTER x OPTIONS (ADD a '1')}, q{ALTER SERVER far OPTIONS (ADD a '1')});
deletes('', 'ALTER TABLE wide ADD COLUMN IF NOT EXISTS n int', 'ALTER TABLE wide DROP COLUMN IF EXISTS nope',
	'ALTER TABLE typed NOT OF', 'ALTER TABLE deep SET UNLOGGED', 'ALTER TABLE wide ALTER id ADD GENERATED ALWAYS AS IDENTITY', 'REINDEX TABLE wide',
	'ALTER TYPE mood RENAME TO feeling', 'ALTER TABLE wide DROP CONSTRAINT wide_pkey CASCADE', 'CREATE TABLE heir2 () INHERITS (kind)');
# listed as not seen: rights, settings, collations
deletes('', 'CREATE POLICY p ON wide USING (id > 1)', 'ALTER TABLE wide ENABLE ROW LEVEL SECURITY', 'ALTER ROLE joe SET DateStyle = german',
	q{ALTER DATABASE postgres SET lc_numeric = 'C'}, 'ALTER VIEW seen SET (security_barrier)', 'GRANT SELECT ON wide TO joe',
	q{CREATE COLLATION other_c FROM "C"; ALTER COLLATION other_c RENAME TO another_c});

# query rules: what the query reads, through views and functions
deletes('v:*', 'CREATE OR REPLACE VIEW seen AS SELECT id, upper(label) AS label FROM other', 'DROP VIEW over',
	'CREATE OR REPLACE VIEW over AS SELECT id, label FROM other', 'ALTER VIEW over RENAME TO under', 'ALTER VIEW seen RENAME label TO l2');
deletes('v:*', 'ALTER TABLE other ADD c int', 'ALTER TABLE other RENAME label TO l2');
deletes('s:*', 'REFRESH MATERIALIZED VIEW stored', 'REFRESH MATERIALIZED VIEW CONCURRENTLY stored', 'REFRESH MATERIALIZED VIEW stored WITH NO DATA',
	'DROP MATERIALIZED VIEW stored');
deletes('f:*', 'CREATE OR REPLACE FUNCTION tag(int) RETURNS text LANGUAGE sql IMMUTABLE RETURN $$g:$$ || $1',
	'ALTER FUNCTION tags(int) COST 7', 'DROP FUNCTION tags(int)', 'ALTER FUNCTION tag(int) SET SCHEMA app', 'ALTER FUNCTION tag(int) RENAME TO t2');
deletes('o:*', 'DROP OPERATOR ### (int, int)', 'ALTER OPERATOR ### (int, int) SET SCHEMA app');
deletes('a:*', 'ALTER TABLE app.t RENAME TO t2', 'ALTER TABLE app.t SET SCHEMA public');
deletes('a:* f:* o:* s:* v:*', 'ALTER SCHEMA app RENAME TO app2');
# a body that is a text may use anything
$node->safe_psql('postgres', q{SELECT cache_aside.attach_query('base', 'SELECT public.hidden(id) FROM changed', 'h:*')});
deletes('h:*', 'CREATE OR REPLACE FUNCTION unused(int) RETURNS text LANGUAGE sql RETURN $$v$$');
done_testing();
