
# Items are planned once for each shape, and what they ask is answered by indexes, with custom and with generic plans, whichever the
# plan cache has come to. auto_explain shows the plans of statements inside functions.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main', conf => <<'EOC');
cache_aside.redis_url = 'unix:///nonexistent/redis.sock'
shared_preload_libraries = 'cache_aside, pg_stat_statements'
pg_stat_statements.track = all
pg_stat_statements.track_planning = on
session_preload_libraries = 'auto_explain'
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_timing = off
EOC

$node->safe_psql('postgres', q{
	CREATE TABLE notes (id int, shard text, owner int, state text, created_at timestamptz, PRIMARY KEY (id, shard));
	INSERT INTO notes SELECT i, 's' || i % 7, i % 100, CASE WHEN i % 2 = 0 THEN 'open' END,
		timestamptz '2024-01-01' + i * interval '10 minutes' FROM generate_series(1, 50000) i;
	CREATE INDEX notes_owner ON notes (owner, created_at);
	SELECT cache_aside.enable_versioning('notes');
	VACUUM ANALYZE notes;
});

# Runs it often enough for a generic plan to be considered; returns the plan of the last run.
sub plan_of
{
	my ($sql, $times) = @_;
	my $position = log_position($node);
	$node->safe_psql('postgres', 'SET auto_explain.log_min_duration = 0; ' . "$sql; " x ($times // 12));
	my @plans = log_since($node, $position) =~ /(Query Text: (?:SELECT|UPDATE|INSERT|DELETE).*?)(?=\n\S)/sg;
	@plans = grep { /public\.notes AS i/ } @plans;
	is(scalar @plans, $times // 12, 'one statement for each call');
	return $plans[-1];
}

my $plan = plan_of(q{SELECT cache_aside.get_item('notes', '{"id": 77, "shard": "s0"}')});
like($plan, qr/Index Scan using notes_pkey/, 'get_item: primary key');

$plan = plan_of(q{SELECT cache_aside.update_item_if('notes', '{"id": 77, "shard": "s0"}', '{"state": "x"}', 1)});
like($plan, qr/Index Scan using notes_pkey/, 'update_item_if: primary key');
$plan = plan_of(q{SELECT cache_aside.update_item('notes', '{"id": 78, "shard": "s1"}', '{"state": "x"}')});
like($plan, qr/Index Scan using notes_pkey/, 'update_item: primary key');
$plan = plan_of(q{SELECT cache_aside.delete_item('notes', '{"id": 99999, "shard": "s1"}')});
like($plan, qr/Index Scan using notes_pkey/, 'delete_item: primary key');

my %queries = (
	'owner, newest first' => q{'{"owner": 5}'},
	'owner and a range' => q{'{"owner": 5}', '{"created_at": ["2024-03-01", "2024-04-01"]}'},
	'owner and an open range' => q{'{"owner": 5}', '{"created_at": ["2024-03-01", null]}', row_limit => 5},
	'owner, oldest first' => q{'{"owner": 5}', newest_first => false},
	'owner, state and a range' => q{'{"owner": 6, "state": "open"}', '{"created_at": [null, "2024-04-01"]}'},
);
foreach my $name (sort keys %queries)
{
	$plan = plan_of("SELECT count(*) FROM cache_aside.query_items('notes', $queries{$name})");
	like($plan, qr/Index Scan (?:Backward )?using notes_owner/, "query_items: $name");
	like($plan, qr/Index Cond: \(\(?owner = /, '... by the owner');
	like($plan, qr/Index Cond: .*created_at [<>]/, '... and the range') if $name =~ /range/;
	unlike($plan, qr/Seq Scan/, '... and nothing else');
	my ($rows) = $plan =~ /Index Scan.*\(actual rows=([\d.]+)/;
	cmp_ok($rows, '<=', 50, '... stopping at the limit');
}

# One connection, many keys: a key's statement is planned once, called each time.
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_stat_statements;
	SELECT pg_stat_statements_reset();
	SELECT count(cache_aside.get_item('notes', jsonb_build_object('id', i, 'shard', 's' || i % 7))) FROM generate_series(1, 1000) i;
	SELECT count(cache_aside.update_item_if('notes', jsonb_build_object('id', i, 'shard', 's' || i % 7), '{"state": "y"}', 1))
		FROM generate_series(1, 1000) i});
is($node->safe_psql('postgres', q{
	SELECT left(query, 6), plans, calls FROM pg_stat_statements WHERE query ~ 'public\.notes AS i' ORDER BY 1}),
	"SELECT|1|1000\nUPDATE|1|1000", 'plans are kept');

done_testing();
