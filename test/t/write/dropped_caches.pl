# A session that makes and drops tables with rules, versions and items (CYCLES= each) keeps nothing of them:
# what a backend caches for a trigger or a table goes with it.
#
# Remedies: sweep() in take() (rule.c): what was rebuilt piles up; sweep_at_end(): what was dropped stays
# until a rule fires again; make_room() (item_plan.c).
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $cycles = $ENV{CYCLES} // 60;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "autovacuum = off\njit = off\nfsync = off\nlog_statement = none\n");

my %kinds = (
	'no rule' => 'SELECT 1',
	row => q{SELECT cache_aside.attach('t', 't:{id}'); INSERT INTO t VALUES (1); UPDATE t SET v = 1; DELETE FROM t},
	columns => q{SELECT cache_aside.attach('t', 't:{id}', '{v}'); INSERT INTO t VALUES (1); UPDATE t SET v = 1},
	statement => q{SELECT cache_aside.attach('t', 't:{id}', level => 'statement'); INSERT INTO t VALUES (1); TRUNCATE t},
	query => q{SELECT cache_aside.attach_query('t', 'SELECT ''t:'' || id FROM changed', 't:*'); INSERT INTO t VALUES (1); UPDATE t SET v = 1},
	version => q{SELECT cache_aside.enable_versioning('t'); INSERT INTO t VALUES (1); UPDATE t SET v = 1},
	items => q{SELECT cache_aside.put_if_absent('t', '{"id": 1}'); SELECT cache_aside.get_item('t', '{"id": 1}');
		SELECT cache_aside.update_item('t', '{"id": 1}', '{"v": 2}'); SELECT * FROM cache_aside.query_items('t', '{"id": 1}')},
	gaps => q{SELECT cache_aside.attach('t', 't:{id}'); SELECT count(*) FROM cache_aside.gaps});

sub cached
{
	my ($c) = @_;
	return $c->value('SELECT sum(used_bytes) FROM pg_backend_memory_contexts');
}

my $base;
foreach my $kind (sort { ($a ne 'no rule') <=> ($b ne 'no rule') || $a cmp $b } keys %kinds)
{
	my $c = PgWire->new($node);
	my $cycle = sub {
		$c->query("CREATE TABLE t (id int PRIMARY KEY, v int); $kinds{$kind}; DROP TABLE t");
		$c->query($kind eq 'no rule' ? 'SELECT 1' : q{CREATE TEMP TABLE x (id int); DROP TABLE x});
	};
	$cycle->() foreach 1 .. 50;
	my $before = cached($c);
	$cycle->() foreach 1 .. $cycles;
	my $each = (cached($c) - $before) / $cycles;
	diag sprintf '%s: %d bytes a cycle', $kind, $each; # core's own: without a rule
	$base //= $each;
	cmp_ok($each, '<', $base + 2000, "$kind: nothing is kept");
	$c->close;
}

# ---- many, dropped at once by a session that fires no rule afterwards
my $c = PgWire->new($node);
$c->query($_) foreach 'CREATE TABLE t0 (id int)', q{SELECT cache_aside.attach('t0', 't0:{id}')}, 'INSERT INTO t0 VALUES (1)';
$c->query('SELECT count(*) FROM pg_class, pg_attribute, pg_trigger LIMIT 1');
my $rules = q{SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'cache_aside rule'};
foreach my $i (1 .. 50)
{
	$c->query("CREATE TABLE t$i (id int)");
	$c->query(qq{SELECT cache_aside.attach_query('t$i', 'SELECT ''t:'' || id FROM changed', 't:*')});
	$c->query("INSERT INTO t$i VALUES (1)");
}
is($c->value($rules), 51, 'rules that were fired are kept');
$c->query('BEGIN; ' . join('; ', map { "DROP TABLE t$_" } 1 .. 50) . '; COMMIT');
is($c->value($rules), 1, 'dropped: nothing is kept of them, before another one fires');
$c->query('BEGIN; DROP TABLE t0; ROLLBACK');
$c->query('INSERT INTO t0 VALUES (2)');
is($c->value($rules), 1, 'rolled back: it is there');
$node->stop;
done_testing();
