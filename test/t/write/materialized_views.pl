# Rules of materialized views: REFRESH, of every kind, deletes the pattern, and so does what else changes what
# the view's rows show; rules move, are dumped, get lost and found again like those of tables.
#
# Remedies: ca_view_rule_add_patterns() in reach.c (REFRESH, DDL) and in ca_attach_add_patterns() (flush,
# attach_like); the second half of the view rules (patterns, hence a resync); ca_view_rule_note_dropped() in
# ddl.c (lost rules); captures() there (a refresh is no DDL); ca_view_rule_detach() in attach.c; check_rule() in view_rule.c.

use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);

sub sql { return $node->safe_psql('postgres', join(';', 'SET client_min_messages = error', @_)) }

sub pending_of
{
	return sql('BEGIN', @_, q{SELECT coalesce(string_agg(key, ' ' ORDER BY key), 'nothing') FROM cache_aside.pending()}, 'ROLLBACK');
}

sub refused
{
	my (undef, undef, $err) = $node->psql('postgres', $_[0]);
	return $err;
}

sql(q{CREATE TYPE mood AS ENUM ('sad', 'ok')}, 'CREATE TABLE t (id int, m mood); CREATE SCHEMA apart; CREATE ROLE owner; CREATE ROLE stranger',
	'CREATE MATERIALIZED VIEW mv AS SELECT * FROM t; CREATE UNIQUE INDEX ON mv (id); ALTER MATERIALIZED VIEW mv OWNER TO owner',
	'GRANT ALL ON SCHEMA public TO owner', 'GRANT SELECT ON mv, t TO stranger, owner');
is(sql('SET ROLE owner', q{SELECT cache_aside.attach('mv', 'mv:{id}'), cache_aside.attach('mv', 'all-of-mv')}), 'mv:{id}|all-of-mv', 'the owner attaches two');
is(sql(q{SELECT name, template, pattern, columns, level, enabled FROM cache_aside.rules ORDER BY 1}),
	"all-of-mv|all-of-mv|all-of-mv||refresh|always\nmv:{id}|mv:{id}|mv:*||refresh|always", 'rules shows them');
is(sql('SELECT * FROM cache_aside.gaps'), '', 'no gap');
is(sql(q{SELECT * FROM cache_aside.keys('mv', '{"id": 7}') ORDER BY 1}), "all-of-mv\nmv:7", 'keys');

my $both = 'all-of-mv mv:*';
is(pending_of($_), $both, $_) foreach 'REFRESH MATERIALIZED VIEW mv', 'REFRESH MATERIALIZED VIEW CONCURRENTLY mv', 'REFRESH MATERIALIZED VIEW mv WITH NO DATA',
  q{ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'}, 'ALTER MATERIALIZED VIEW mv RENAME COLUMN m TO mm', 'DROP MATERIALIZED VIEW mv',
  'SET LOCAL cache_aside.ddl_invalidates = off; REFRESH MATERIALIZED VIEW mv', 'DROP TABLE t CASCADE', q{SELECT FROM cache_aside.flush('mv')},
  'SET LOCAL cache_aside.ddl_invalidates = off; ALTER MATERIALIZED VIEW mv RENAME TO other; REFRESH MATERIALIZED VIEW other', 'ALTER MATERIALIZED VIEW mv RENAME TO other', 'ALTER MATERIALIZED VIEW mv SET SCHEMA apart';
is(pending_of($_), 'nothing', $_) foreach 'INSERT INTO t VALUES (1)', 'ALTER TABLE t ADD c int', 'SET LOCAL cache_aside.ddl_invalidates = off; ALTER MATERIALIZED VIEW mv RENAME TO other',
  'SET LOCAL cache_aside.enabled = off; REFRESH MATERIALIZED VIEW mv', q{SELECT FROM cache_aside.detach('mv'); REFRESH MATERIALIZED VIEW mv};

# delivered; and a resync
wait_delivered($node);
$redis->command('SET', $_, 'x') foreach qw(mv:1 mv:2 other:1);
sql('REFRESH MATERIALIZED VIEW mv');
ok(keys_gone($redis, 'mv:1', 'mv:2'), 'a refresh deletes');
$redis->command('SET', 'mv:1', 'x');
sql('SELECT cache_aside.resync()');
ok(keys_gone($redis, 'mv:1'), 'a resync too');
ok($redis->command('EXISTS', 'other:1'), 'and nothing else');

# what is refused
like(refused(q{SET ROLE stranger; SELECT cache_aside.attach('mv', 'x:{id}')}), qr/must be owner/, 'a stranger');
like(refused(q{SELECT cache_aside.attach('mv', 'mv:{id}')}), qr/exists already.*HINT/s, 'twice');
like(refused(q{SELECT cache_aside.attach('mv', 'x:{id}', level => 'statement')}), qr/neither columns nor level.*HINT/s, 'a level');
like(refused(q{SELECT cache_aside.attach('mv', 'x:{id}', columns => '{m}')}), qr/neither columns nor level/, 'columns');
like(refused(q{SELECT cache_aside.attach('mv', 'x:{nosuch}')}), qr/column "nosuch"/, 'a column that is not there');
like(refused(q{SELECT cache_aside.attach('mv', 'cache_aside:{id}')}), qr/reserved/, 'reserved keys');
like(refused(q{SELECT cache_aside.attach_query('mv', 'SELECT ''q:'' || id FROM changed', 'q:*')}), qr/materialized view.*HINT/s, 'a query rule');
like(refused(q{SET ROLE stranger; SELECT cache_aside.detach('mv')}), qr/must be owner/, 'a stranger detaches');
like(refused(qq{BEGIN READ ONLY; SELECT cache_aside.$_}), qr/in a read-only transaction/, "read-only: $_") foreach q{attach('mv', 'x:{id}')}, q{detach('mv')};
is(sql(q{BEGIN; SELECT FROM cache_aside.attach('mv', 'x:{id}'); ROLLBACK}, 'SELECT count(*) FROM cache_aside.rules'), 2, 'rolled back');

# replaced by another one
sql('CREATE MATERIALIZED VIEW mv2 AS SELECT id FROM t');
is(pending_of(q{SELECT FROM cache_aside.attach_like('mv2', 'mv')}, q{SELECT string_agg(relation::text, ' ') FROM cache_aside.rules}), "mv2 mv2\n$both",
	'attach_like moves both, and deletes');
sql('DROP MATERIALIZED VIEW mv', 'ALTER MATERIALIZED VIEW mv2 RENAME TO mv');
is(sql('SELECT relation, rule, gap FROM cache_aside.gaps ORDER BY 2'), join("\n", map { "mv|$_|the table has the name of one that was dropped, with its rule" } 'all-of-mv', 'mv:{id}'),
	'dropped and replaced: gaps has both');
sql($_) foreach split /\n/, sql('SELECT remedy FROM cache_aside.gaps');
is(sql('SELECT count(*) FROM cache_aside.gaps'), 0, 'until its statements are run');
is(pending_of('REFRESH MATERIALIZED VIEW mv'), $both, 'then they are rules again');
is(sql(q{SELECT cache_aside.detach('mv', 'all-of-mv')}, 'SELECT name FROM cache_aside.rules'), "1\nmv:{id}", 'detach of one');

# swapped: renamed away, by itself or with its schema, and a copy takes the name
# Remedies: ca_view_rule_note_renamed() in renamed.c; `former` in ca_view_rule_note_dropped(); "the view has taken over" in gaps.
sub heirs { return sql('SELECT relation, rule, gap FROM cache_aside.gaps ORDER BY 1, 2') }
sql('CREATE SCHEMA s CREATE TABLE st (id int)', 'CREATE MATERIALIZED VIEW s.sv AS SELECT id FROM s.st', q{SELECT cache_aside.attach('s.sv', 'sv:{id}')},
	'CREATE MATERIALIZED VIEW s.sw AS SELECT id FROM s.st', q{SELECT cache_aside.attach('s.sw', 'sw:{id}')},
	q{SELECT cache_aside.attach_query('t', 'SELECT ''q:'' || c.id FROM changed c JOIN s.sw USING (id)', 'q:*')});
is(pending_of('ALTER MATERIALIZED VIEW s.sw RENAME TO sx'), 'q:* sw:*', 'and a query rule that names it');
sql(q{SELECT cache_aside.detach('t')}, 'ALTER SCHEMA s RENAME TO "S 2"');
is(sql(q{SELECT former FROM cache_aside.view_rule WHERE template ~ '^s' ORDER BY 1}), "{s.sv}\n{s.sw}", 'a schema is renamed: both names are kept');
sql('ALTER MATERIALIZED VIEW "S 2".sv RENAME TO old', 'CREATE SCHEMA s; CREATE MATERIALIZED VIEW s.sv AS SELECT id FROM t');
is(heirs(), 's.sv|sv:{id}|the view has taken over the name of "S 2".old, which kept the rule', 'swapped: gaps');
is(pending_of(q{SELECT FROM cache_aside.attach_like('s.sv', '"S 2".old')}, 'SELECT count(*) FROM cache_aside.gaps'), "0\nsv:*", 'repaired by attach_like');
sql('DROP MATERIALIZED VIEW "S 2".old');
is(heirs(), 's.sv|sv:{id}|the table has the name of one that was dropped, with its rule', 'the old one is dropped: gaps still');
sql('DROP MATERIALIZED VIEW s.sv; DROP SCHEMA "S 2" CASCADE; DELETE FROM cache_aside.lost_rule');

# a dump
sql('CREATE DATABASE copy');
$node->command_ok([ 'bash', '-c', 'pg_dump "$0" | psql -q -v ON_ERROR_STOP=1 "$1"', $node->connstr('postgres'), $node->connstr('copy') ], 'dumped and restored');
is($node->safe_psql('copy', 'SELECT relation, name FROM cache_aside.rules'), 'mv|mv:{id}', 'with its rule');
is(sql(q{SELECT cache_aside.detach('mv')}, 'SELECT count(*) FROM cache_aside.rules'), "1\n0", 'detach of all');

done_testing();
