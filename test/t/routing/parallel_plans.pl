# Whatever is marked as safe or restricted in parallel plans works in one: each such function, in a worker
# where it is safe, in the leader where it is restricted, on primary and standby; route() and
# replica_status while the registry has just changed; tokens are the same in all processes.
#
# Remedy: GetCatalogSnapshot() in read_rows() (replicas.c).
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
autovacuum = off
parallel_setup_cost = 0
parallel_tuple_cost = 0
min_parallel_table_scan_size = 0
EOC
my $force = $node->safe_psql('postgres',
	q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});
$node->safe_psql('postgres', $_) foreach split /;\n/, <<'EOS';
CREATE TABLE big AS SELECT g AS id, repeat('x', 100) AS t FROM generate_series(1, 20000) g;
ANALYZE big;
CREATE TABLE item (id int PRIMARY KEY, version int, t text);
INSERT INTO item VALUES (1, 1, 'a');
SELECT cache_aside.attach('item', 'item:{id}');
SELECT cache_aside.add_replica('a', 'host=x')
EOS
wait_delivered($node);
my $standby = CacheAside->new_standby('standby', $node, redis => $redis);
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));

# What to call; every function with such a mark has to be here.
my $trigger = q{(SELECT min(oid) FROM pg_trigger WHERE tgrelid = 'item'::regclass)};
my %call = (
	trigger_arguments => "trigger_arguments($trigger)", rule_pattern => "rule_pattern($trigger)",
	rule_columns => "rule_columns($trigger)", template_pattern => q{template_pattern('item:{id}')},
	template_for => q{template_for('item', '{table}:{pk}')}, template_problem => q{template_problem('item', '{gone}')},
	tables_below => q{tables_below('item'::regclass)},
	rule_heir => "rule_heir($trigger)", check_pattern => q{check_pattern('a*')},
	rule_statement => q{rule_statement('item', ARRAY['item:{id}'], NULL, 'row')},
	worker_status => 'worker_status()', latency_histogram => 'latency_histogram()',
	reset_stats => 'reset_stats()', ping => 'ping()', read_token => 'read_token()', get => q{get('k')},
	fill => q{fill('k', 'v')}, release => q{release('k', 'none')}, fetch => q{fetch('k', 'SELECT $1', '1 s', 'x')},
	warm_progress_slots => 'warm_progress_slots()', long_work => 'long_work()', shard => q{shard('k', 3)},
	get_item => q{get_item('item', '{"id": 1}')}, query_items => q{query_items('item', '{"id": 1}')},
	query_page => q{query_page('item', '{"id": 1}')}, classify => q{classify('SELECT 1')},
	is_read_only => q{is_read_only('SELECT 1')}, commit_lsn => 'commit_lsn()',
	caught_up => q{caught_up('0/1')}, stuck_at => q{stuck_at('nobody')},
	check_conninfo => q{check_conninfo('host=x')}, route => 'route(NULL)',
	replica_states => 'replica_states()', sentinel_answers => 'sentinel_answers()',
	library_version => 'library_version()', version => 'version()',
	worker_endpoints => 'worker_endpoints()', rule_counts => 'rule_counts()', reset_rule_stats => 'reset_rule_stats()', check_server => 'check_server()');
my %mark = map { split /\|/ } split /\n/, $node->safe_psql('postgres',
	q{SELECT DISTINCT proname, proparallel FROM pg_proc
		WHERE pronamespace = 'cache_aside'::regnamespace AND proparallel <> 'u'});
is_deeply([ grep { !$call{$_} } sort keys %mark ], [], 'every function is tried');

sub error_of { return $_[0]{error} ? $_[0]{error}{M} : '' }

foreach my $server ($node, $standby)
{
	my $c = PgWire->new($server);
	my $name = $server->name;
	foreach my $function (sort keys %mark)
	{
		my @forms = ("SELECT x.* FROM big, cache_aside.$call{$function} x WHERE big.id = 7");
		push @forms, "SELECT cache_aside.$call{$function}" if $mark{$function} eq 's';
		foreach my $sql (@forms)
		{
			$c->query("SET $force = " . ($sql =~ /big/ ? 'off' : 'on'));
			my $plan = join "\n", map { $_->[0] } @{ $c->query("EXPLAIN $sql")->{rows} };
			like($plan, qr/Gather/, "$name: $function: a parallel plan");
			my $result = $c->query($sql, may_fail => 1);
			is(error_of($result), '', "$name: $function: no error");
		}
	}
	$c->query("SET $force = off");
	is($c->value('SELECT count(DISTINCT coalesce(cache_aside.read_token(), $$none$$)) FROM big'), 1,
		"$name: one token in all processes");
	foreach my $sql ('SELECT count(*) FROM big, cache_aside.replica_status',
		q{SELECT (cache_aside.route('0/1')).role FROM big WHERE id < 3 ORDER BY t LIMIT 1})
	{
		is(error_of($c->query($sql, may_fail => 1)), '', "$name: $sql");
	}
}

# ---- the registry is read anew inside a parallel plan, by a snapshot that sees the change
my $c = PgWire->new($node);
$c->query("SET $force = on");
my $count = 'SELECT count(DISTINCT r.name) FROM big, cache_aside.replica_status r';
is($c->value($count), 1, 'one replica');
$node->safe_psql('postgres', q{SELECT cache_aside.add_replica('b', 'host=y')});
is($c->value($count), 2, 'another one');
$c->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$node->safe_psql('postgres', q{SELECT cache_aside.remove_replica('b')});
is($c->value($count), 1, 'one less, whatever the transaction sees');
$c->query('COMMIT');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
	WHERE slot_name = 'standby'});
$standby->stop;
$node->stop;
done_testing();
