# Redis is away for longer than max_wal_retained allows: the log is let go, PostgreSQL's disk does not
# fill, and when Redis is back everything that may be stale is deleted. Below the bound nothing is.
#
# Fails without `keep = end - most` in keep_from() (slot.c): the log is kept for as long as Redis is
# away. Fails without `log_gone = true` in ca_round_read() (round.c): the worker would try to read it for
# ever.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, initdb => ['--wal-segsize=1'], conf => <<'EOC');
min_wal_size = 2MB
max_wal_size = 2MB
autovacuum = off
cache_aside.max_wal_retained = 24MB
cache_aside.command_timeout = 200ms
cache_aside.connect_timeout = 200ms
EOC
make_users($node, 1000);
wait_delivered($node);
my $wal_size = 'SELECT sum(size) / 1024 / 1024 FROM pg_ls_waldir()';

sub outage
{
	my ($mb) = @_;
	wait_delivered($node);
	$redis->set('nobodys', 'x');
	cache_users($redis, 1 .. 1000);
	my $resyncs = status($node, 'resyncs');
	$redis->save->stop;
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id <= 10');
	status_is($node, 'redis_state', 'unreachable') or die 'not noticed';
	my $start = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
	my $written = "SELECT pg_current_wal_lsn() - '$start' > $mb * 1024 * 1024";
	fill_log($node, 4) while $node->safe_psql('postgres', $written) eq 'f';
	return $resyncs;
}

# ---- below the bound
my $resyncs = outage(8);
$redis->start;
wait_delivered($node);
is($redis->exists(user_keys(1 .. 10)), 0, 'below the bound: delivered');
is($redis->exists(user_keys(11 .. 1000)), 990, '... and nothing else');
is(status($node, 'resyncs'), $resyncs, '... no resync');

# ---- far beyond it
$resyncs = outage(60);
ok($node->poll_query_until('postgres', 'SELECT retained_wal < 26000000 FROM cache_aside.status'),
	'beyond: what the slot keeps is bounded');
$node->safe_psql('postgres', 'CHECKPOINT');    # removes what the slot has let go of since the last one
cmp_ok($node->safe_psql('postgres', $wal_size), '<', 72, '... and the log on disk (MB)');
$redis->start;
ok(keys_gone($redis, user_keys(1 .. 1000)), '... a resync deletes all that rules cover');
ok(is_cached($redis, 'nobodys'), '... and nothing else');
wait_delivered($node);
is(status($node, 'resyncs'), $resyncs + 1, '... once');

# ---- a server that starts while Redis is away knows no position: bounded all the same (slot.c,
# keep_from() without a restart LSN)
$redis->save->stop;
$node->restart;
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 7');
fill_log($node, 12) for 1 .. 5;
ok($node->poll_query_until('postgres', 'SELECT retained_wal < 26000000 FROM cache_aside.status'),
	'restarted meanwhile: bounded too');
$redis->start;
wait_delivered($node);

# ---- and then as before
cache_users($redis, 1 .. 1000);
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 5');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 1000)), 999, 'exact again');

$node->stop;
done_testing();
