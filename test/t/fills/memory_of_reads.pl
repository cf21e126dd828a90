# What reads and fills of many rows take of a session's memory does not grow with the rows: get, fetch, fill,
# warm, audit of twenty thousand values of a kilobyte.
#
# Remedy: the contexts of a batch in judge_batch() and judge_suspects() (audit.c), without which each row leaves 4 kB
# until the call ends.
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/status";
my $rows = 20_000;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "shared_buffers = 8MB\njit = off\n");
my $client = PgWire->new($node);
my $backend = $client->value('SELECT pg_backend_pid()');

sub peak
{
	my ($kb) = slurp_file("/proc/$backend/status") =~ /^VmHWM:\s+(\d+) kB/m;
	return $kb / 1024;
}

# The first call takes what a call takes, and touches shared memory.
sub flat
{
	my ($name, $few, $all, $result) = @_;
	$client->value($few);
	my $before = peak();
	is($client->value($all), $result, "$name: done");
	cmp_ok(peak() - $before, '<', 12, "$name: the session's memory is flat");
	return;
}

$client->query(q{CREATE TABLE t (id int PRIMARY KEY, v text)});
$client->query(qq{INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, $rows) i});
$client->query(q{SELECT cache_aside.attach('t', 't:{id}')});
wait_delivered($node);
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), 'armed');
$client->value('SELECT count(v) FROM t');

my @each = (
	[ fill => q{cache_aside.fill('t:' || id, v)} ],
	[ get => q{cache_aside.get('t:' || id) IS NOT NULL} ],
	[ fetch => q{cache_aside.fetch('t:' || id, 'SELECT 1', interval '1 hour') IS NOT NULL} ]);
foreach (@each)
{
	my ($name, $call) = @$_;
	my $query = "SELECT count(*) FILTER (WHERE $call) FROM t WHERE id <=";
	flat($name, "$query 200", "$query $rows", $rows);
}
flat('warm', q{SELECT cache_aside.warm($$SELECT 't:' || id, v FROM t WHERE id < 200$$)},
	q{SELECT cache_aside.warm('t', 't:{id}', '1 hour')}, $rows);
my $audit = q{FROM cache_aside.audit_summary('t', 't:{id}'};
flat('audit', "SELECT fresh $audit, 0.01)", "SELECT fresh $audit, 1.0)", $rows);

$node->stop;
done_testing();
