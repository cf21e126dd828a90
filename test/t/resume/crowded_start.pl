# More commits than the worker queues (8192) wait for a resync that has yet to begin: a blind start
# when so many transactions were prepared before the last checkpoint and are committed by now, and as
# many calls of resync() during an outage. One resync serves them all, and delivery goes on.
#
# Fails without `ca_queue_full()` as a reason for ca_resync_step() in ca_round_deliver() (round.c): the log is
# not read on because the queue is full, and the queue waits until the log was read.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $crowd = 20_000;    # the worker looks at its queue once in a megabyte of log
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<"EOC");
max_prepared_transactions = $crowd
max_locks_per_transaction = 10
max_connections = 20
wal_level = logical
log_statement = none
EOC
make_users($node, 100);
my $client = PgWire->new($node);
wait_delivered($node);

# Many statements in one message are one transaction, hence pipelined in parts.
sub run_all
{
	my ($session, @sql) = @_;
	while (my @part = splice @sql, 0, 300)
	{
		$session->send(@part);
		$session->receive foreach @part;
	}
	return;
}

sub delivers
{
	my ($what) = @_;
	ok(keys_gone($redis, user_keys(1 .. 50)), "$what: what may be stale is gone");
	wait_delivered($node);
	cache_users($redis, 1 .. 100);
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
	wait_delivered($node);
	is($redis->exists(user_keys(1 .. 100)), 99, "$what: and then delivery is exact");
	return;
}

# ---- a blind start
run_all($client, map { ("BEGIN; SELECT cache_aside.invalidate('user:" . (1 + $_ % 50) . "')",
			"PREPARE TRANSACTION 'p$_'") } 1 .. $crowd);
wait_delivered($node);
$client->query('CHECKPOINT');
my $worker = worker_pid($node);
$redis->kill9;
run_all($client, map { "COMMIT PREPARED 'p$_'" } 1 .. $crowd);
$client->query("SELECT pg_terminate_backend($worker)");    # nobody remembers the position
wait_worker($node, $worker);
$redis->start;
cache_users($redis, 1 .. 100);
delivers("$crowd prepared before a blind start");
cmp_ok(scalar(() = log_since($node) =~ /messages may lie before the log read/g), '<', 10,
	'one resync serves many');

# ---- as many resyncs asked for while Redis is away
cache_users($redis, 1 .. 100);
$redis->save->kill9;
run_all($client, ('SELECT cache_aside.resync()') x $crowd);
my $resyncs = status($node, 'resyncs');
$redis->start;
delivers("resync() called $crowd times");
cmp_ok(status($node, 'resyncs') - $resyncs, '<', 10, 'one resync serves many');

$node->stop;
done_testing();
