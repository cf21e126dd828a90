# A table is replaced by a copy that takes over its name, as online schema changes do: its rules and row
# versions stay with the old table, or go with it. gaps says so before and after the old table is
# dropped, and attach_like() moves everything in one call.
#
# Remedies: rule_heir and lost_rule in the view gaps; ca_renamed_note (renamed.c), ca_heir_describe and
# ca_heir_keep (dropped tables) in heir.c; options_of() in ddl.c (their columns and level); is_comparison() in
# watch.c (a WHEN by hand); move_rules, move_versions, move_sequence in like.c.
use strict;
use warnings;

use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main');

sub sql
{
	return scalar $node->safe_psql('postgres', join(';', 'SET client_min_messages = error', @_));
}

sub pending_of
{
	return sql('BEGIN', @_, q{SELECT string_agg(key, ' ' ORDER BY key) FROM cache_aside.pending()}, 'ROLLBACK');
}
my $gaps = q{SELECT relation, rule, gap FROM cache_aside.gaps ORDER BY 2};
my $swap = 'CREATE TABLE u_new (LIKE u INCLUDING ALL); INSERT INTO u_new SELECT * FROM u;'
  . 'BEGIN; ALTER TABLE u RENAME TO u_old; ALTER TABLE u_new RENAME TO u; COMMIT';

sub make
{
	sql('DROP TABLE IF EXISTS u, u_old CASCADE; DELETE FROM cache_aside.lost_rule',
		'CREATE TABLE u (id int PRIMARY KEY, n int, "Odd name" text)', q{SELECT cache_aside.attach('u', 'u:{id}', columns => '{n}')},
		q{SELECT cache_aside.attach('u', 's:{n}', level => 'statement')},
		q{SELECT cache_aside.attach_query('u', 'SELECT ''q:'' || id FROM changed', 'q:*', 'a query')},
		q{SELECT cache_aside.enable_versioning('u', presents => 'read', columns => '{n,"Odd name"}')},
		'INSERT INTO u VALUES (1, 1), (2, 2); UPDATE u SET n = n + 1; UPDATE u SET n = n + 1; DELETE FROM u WHERE id = 2');
	return;
}
my $rules = q{SELECT name, columns, level, enabled FROM cache_aside.rules WHERE relation = 'u'::regclass ORDER BY name};
my $versions = q{SELECT version, presents, start, columns FROM cache_aside.versioned WHERE relation = 'u'::regclass};

# ---- swapped, the old table is still there ----

make();
my ($rules_before, $versions_before) = (sql($rules), sql($versions));
is(sql($gaps), '', 'a table with rules, no gap');
sql($swap);
is(sql($gaps), join("\n", map { "u|$_" } 'a query|the table has taken over the name of u_old, which kept the rule',
		'row_version(version)|the table has taken over the name of u_old, which kept its row versions',
		's:{n}|the table has taken over the name of u_old, which kept the rule', 'u:{id}|the table has taken over the name of u_old, which kept the rule'),
	'what stayed with the old table');
my $remedy = sql('SELECT DISTINCT remedy FROM cache_aside.gaps');
is($remedy, q{SELECT cache_aside.attach_like('u', 'u_old');}, 'one remedy for all of it');
is(pending_of($remedy), "3\nq:* s:* u:*", 'it deletes what was cached meanwhile');
is(sql($remedy), 3, 'and moves the rules');
is(sql($rules), $rules_before, '... as they were');
is(sql($versions), $versions_before, '... and the versions');
is(sql('SELECT count(*) FROM cache_aside.rules WHERE relation = $$u_old$$::regclass', 'SELECT * FROM cache_aside.gaps', $gaps), '0',
	'the old table has none, and there is no gap');
is(pending_of('UPDATE u SET n = 9 WHERE id = 1'), 'q:1 s:3 s:9 u:1', 'writes to the new table delete');
is(sql('UPDATE u SET n = 7 WHERE id = 1; INSERT INTO u VALUES (2, 2); SELECT id, version FROM u ORDER BY id'), "1|4\n2|4",
	'versions go on: also those of a key that was deleted in the old table');
sql('DROP TABLE u_old');
is(sql($gaps), '', 'the old table goes without a trace');

# Another gap of such a rule: to make it anew where it is would take away the name that it was attached under. Remedies: `moved` in
# gaps; EXISTS in VERSIONS of like.c (a counted column that is gone).
make();
sql('ALTER TABLE u DROP COLUMN "Odd name"');
sql(sprintf 'DROP TRIGGER %s ON u', sql(q{SELECT trigger FROM cache_aside.rule_triggers WHERE rule = 's:{n}' AND trigger LIKE '%truncate'}));
like(sql('SELECT remedy FROM cache_aside.gaps'), qr/detach.*attach.*disable.*enable/s, 'gaps of a rule and of a version');
sql($swap);
is(sql($gaps =~ s/ORDER.*/WHERE relation::text = 'u_old' ORDER BY 2/r), join("\n", 'u_old|row_version(version)|columns that counted are gone (Odd name): every column counts',
		'u_old|s:{n}|no trigger fires on TRUNCATE'), '... which the swapped table keeps');
is(sql('SELECT DISTINCT remedy FROM cache_aside.gaps'), $remedy, '... and attach_like is the remedy of all');
sql($remedy);
is(sql('SELECT remedy FROM cache_aside.gaps'), '', '... after which there is none');
is(sql($rules), $rules_before, '... and the rules are as they were');
sql('DROP TABLE u_old');

# ---- the old table is dropped: by the migration, before or after, or together with its schema ----

my $no_truncate = q{DO $$ DECLARE t name; BEGIN FOR t IN SELECT trigger FROM cache_aside.rule_triggers WHERE trigger LIKE '%truncate'
	LOOP EXECUTE format('DROP TRIGGER %I ON u', t); END LOOP; END $$};
my %lost = ("after" => "$swap; DROP TABLE u_old", "before" => 'CREATE TABLE u_new (LIKE u); DROP TABLE u; ALTER TABLE u_new RENAME TO u',
	"made anew" => 'DROP TABLE u; CREATE TABLE u (id int, n int, version int, "Odd name" text)',
	"captured off" => "SET cache_aside.enabled = off; $swap; DROP TABLE u_old; RESET cache_aside.enabled",
	"without TRUNCATE" => "$no_truncate; $swap; DROP TABLE u_old");    # Remedy: speaks_for_rule() in ddl.c
foreach my $how (sort keys %lost)
{
	make();
	sql($lost{$how});
	is(sql($gaps), join("\n", map { "u|$_|the table has the name of one that was dropped, with its rule" }
			'a query', 'row_version(version)', 's:{n}', 'u:{id}'), "dropped, $how");
	sql($_) foreach split /\n/, sql('SELECT remedy FROM cache_aside.gaps');
	is(sql($gaps), '', '... the remedies make the rules anew');
	is(sql($rules), $rules_before, '... as they were, columns and level');
	is(sql($versions), $versions_before, '... and the versions as they were');
}
# WHEN by hand may fire for a column that it does not name: no columns, whatever moves the rule
my $made = 'CREATE TABLE w (id int, n int, live bool)';
my $hand = join ';', map { 'CREATE TRIGGER w' . ++$_->[2] . " AFTER $_->[0] ON w FOR EACH $_->[1]" } [ 'INSERT OR DELETE', q{ROW EXECUTE FUNCTION cache_aside.invalidate_row('w:{id}')}, 0 ],
  [ 'UPDATE', q{ROW WHEN (NEW.live) EXECUTE FUNCTION cache_aside.invalidate_row('w:{id}')}, 1 ],
  [ 'TRUNCATE', q{STATEMENT EXECUTE FUNCTION cache_aside.invalidate_table('w:{id}')}, 2 ];
sql($made, $hand);
is(sql(q{SELECT columns IS NULL FROM cache_aside.rules WHERE name = 'w:{id}'}), 't', 'a condition by hand is no list of columns');
sql('DROP TABLE w', $made);
is(sql(q{SELECT split_part(remedy, ' --', 1) FROM cache_aside.gaps WHERE relation = 'w'::regclass}),
	q{SELECT cache_aside.attach('public.w', 'w:{id}');}, '... when the table was dropped');
sql($hand, q{CREATE TABLE w2 (LIKE w)}, q{SELECT cache_aside.attach_like('w2', 'w')}, 'DROP TABLE w');
is(pending_of('INSERT INTO w2 VALUES (1, 1, true); UPDATE w2 SET n = 2; SELECT cache_aside.detach($$w2$$)'), "1\nw:1", '... when it is replaced');
is(sql(q{SELECT columns IS NULL FROM cache_aside.rules WHERE name = 'w:{id}'}), 't', '... which follows every UPDATE');
sql('DROP TABLE w2', 'DELETE FROM cache_aside.lost_rule');
# Any of its triggers may go. Remedy: all of them have the name, note_trigger() in former.c
sql($made, $hand, 'ALTER TABLE w RENAME TO w_old', 'DROP TRIGGER w3 ON w_old', $made);
is(sql(q{SELECT gap FROM cache_aside.gaps WHERE relation = 'w'::regclass}), 'the table has taken over the name of w_old, which kept the rule', 'by hand, and one is gone');
sql('DROP TABLE w, w_old', 'DELETE FROM cache_aside.lost_rule');


# Names since the rule was attached count too. Remedies: ca_renamed_note() in renamed.c; the loop in ca_heir_describe().
sub heirs { return join ' ', map { "$_->[0]:$_->[1]" } map { [ (split /\|/)[0, 1] ] } split /\n/, sql($gaps); }
my $all = sub { return join ' ', map { "$_[0]:$_" } 'a query', 'row_version(version)', 's:{n}', 'u:{id}'; };
make();
sql('DROP TABLE IF EXISTS users; ALTER TABLE u RENAME TO users', $swap =~ s/\bu(?=\b|_)/users/gr);
is(heirs(), $all->('users'), 'renamed for good, and swapped later');
sql('DROP TABLE users_old');
is(heirs(), $all->('users'), '... also when the old one is gone');
sql('ALTER TABLE users RENAME TO u');
is(heirs(), $all->('u'), '... by every name it had');
sql('DROP TABLE u');
make();
sql('CREATE TABLE u_new (LIKE u)', 'ALTER TABLE u RENAME TO u_old', 'DROP TABLE u_old', 'ALTER TABLE u_new RENAME TO u');
is(heirs(), $all->('u'), 'away, dropped, and the copy comes after that');
make();
sql('ALTER TABLE u RENAME TO "U 2"; ALTER TABLE "U 2" RENAME TO u_3; ALTER TABLE u_3 RENAME TO "U 2"', 'CREATE TABLE u_3 (id int)');
is(heirs(), '', 'who returns to a name has left it never');
sql('CREATE TABLE u (id int)');
is(heirs(), $all->('u'), '... and is found by the one before');
sql('DROP TABLE u, u_3; ALTER TABLE "U 2" RENAME TO u', 'CREATE TABLE "U 2" (id int)');
is(heirs(), '', 'there and back');
sql('DROP TABLE "U 2"');

make();
sql('DROP TABLE u', 'CREATE TABLE u (id int)', q{SELECT cache_aside.detach('u', 'u:{id}')});
is(sql('SELECT string_agg(rule, $$,$$ ORDER BY rule) FROM cache_aside.gaps'), 'a query,row_version(version),s:{n}', 'one is not wanted any more');
is(sql(q{SELECT cache_aside.detach('u')}, $gaps), 0, 'nor the others');
make();
is(sql('BEGIN; DROP TABLE u; ROLLBACK', 'SELECT count(*) FROM cache_aside.lost_rule', $gaps), 0, 'rolled back: nothing was lost');
sql('ALTER TABLE u RENAME TO users; DROP TABLE users', 'CREATE VIEW u AS SELECT 1 AS id');
is(sql($gaps), '', 'a view with the name is no table to follow');
sql('DROP VIEW u', 'CREATE SCHEMA app', 'CREATE TABLE app.t (id int)', q{SELECT cache_aside.attach('app.t', 't:{id}')}, 'DROP SCHEMA app CASCADE',
	'CREATE SCHEMA app', 'CREATE TABLE app.t (id int)');
like(sql($gaps), qr/^app\.t\|t:\{id\}\|/m, 'a schema that is dropped and made anew');
sql(q{SELECT cache_aside.detach('app.t')});

# a schema that is renamed: its tables' names are others. Remedy: ca_renamed_schema() in renamed.c.
sql('CREATE TABLE app.t2 (id int)', q{SELECT cache_aside.attach('app.t2', 't:{id}')}, 'ALTER SCHEMA app OWNER TO CURRENT_USER',
	'ALTER SCHEMA app RENAME TO "App 2"; ALTER SCHEMA "App 2" RENAME TO app_3', 'CREATE SCHEMA "App 2" CREATE TABLE t2 (id int)');
is(sql($gaps), '"App 2".t2|t:{id}|the table has taken over the name of app_3.t2, which kept the rule', 'a schema renamed twice');
sql('DROP SCHEMA app_3 CASCADE');
is(sql($gaps), '"App 2".t2|t:{id}|the table has the name of one that was dropped, with its rule', '... and dropped');
sql('CREATE SCHEMA app CREATE TABLE t2 (id int)', q{SELECT cache_aside.detach('"App 2".t2')});
is(sql($gaps), 'app.t2|t:{id}|the table has the name of one that was dropped, with its rule', '... by each name');
sql(q{SELECT cache_aside.detach('app.t2')}, 'DELETE FROM cache_aside.lost_rule');

# ---- rights; partitioned tables; a dump ----

make();
sql($swap, 'CREATE ROLE stranger', 'GRANT ALL ON u, u_old TO stranger', 'CREATE TABLE mine (id int)', 'ALTER TABLE mine OWNER TO stranger');
foreach my $call (q{attach_like('u', 'u_old')}, q{attach_like('mine', 'u_old')}, q{attach_like('u', 'mine')})
{
	my (undef, undef, $err) = $node->psql('postgres', "SET ROLE stranger; SELECT cache_aside.$call");
	like($err, qr/must be owner of table "u(_old)?"/, "$call is for the owner of both");
}
my (undef, undef, $err) = $node->psql('postgres', q{SELECT cache_aside.attach_like('u', 'u')});
like($err, qr/from a table to itself.*HINT/s, 'to itself');
sql('ALTER TABLE u_old DISABLE TRIGGER ALL; ALTER TABLE u_old ENABLE TRIGGER ALL');
(undef, undef, $err) = $node->psql('postgres', q{SELECT cache_aside.attach_like('u', 'u_old')});
like($err, qr/"a query" of table "u_old" is not approved by the owner.*HINT/s, 'a query that is not approved is not approved by this');

sql('CREATE TABLE pt (id int, n int) PARTITION BY RANGE (id)', 'CREATE TABLE p1 PARTITION OF pt FOR VALUES FROM (0) TO (10)',
	q{SELECT cache_aside.attach('pt', 'p:{id}')}, 'ALTER TABLE pt RENAME TO pt_old',
	'CREATE TABLE pt (id int, n int) PARTITION BY RANGE (id)', 'CREATE TABLE p2 PARTITION OF pt FOR VALUES FROM (0) TO (10)',
	q{SELECT cache_aside.attach_like('pt', 'pt_old')});
is(pending_of('INSERT INTO p2 VALUES (1)'), 'p:1', 'partitioned tables');

make();
sql($swap, 'CREATE TABLE gone (id int)', q{SELECT cache_aside.attach('gone', 'g:{id}')}, 'DROP TABLE gone', 'CREATE TABLE gone (id int)');
my $shown = sql($gaps);
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok(['bash', '-c', 'pg_dump "$0" | psql -q -v ON_ERROR_STOP=1 "$1"', $node->connstr('postgres'), $node->connstr('copy')], 'dumped and restored');
is($node->safe_psql('copy', $gaps), $shown, 'a copy has the same gaps');
done_testing();
