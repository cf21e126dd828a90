# The worker is killed (SIGKILL) in the middle of a delivery: the postmaster restarts everything, and
# the new worker goes on from the position in Redis. Every key of a committed row is gone, no other.
# While it is frozen, or gone and not started again yet, nobody waits for it.
#
# Fails when ca_ledger_next() (ledger.c) takes ca_tap_read_end(tap) for the confirmed LSN in place
# of the start of the first commit that is not completely sent.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "restart_after_crash = on\n");
make_users($node, 60_000);
wait_delivered($node);

my $before = commit_ms($node);
my $frozen = stop_process(worker_pid($node));
never_waits($node, $before, 'the worker is frozen');
go_on($frozen);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($frozen)");
ok(wait_until(sub { !kill 0, $frozen }), 'the worker ends');
never_waits($node, $before, 'the worker is gone');
wait_worker($node, $frozen);
wait_delivered($node);

foreach my $round (1 .. 2)
{
	$node->safe_psql('postgres', 'UPDATE users SET v = 0 WHERE v > 0; VACUUM users');
	wait_delivered($node);
	cache_users($redis, 1 .. 60_000);
	my $worker = worker_pid($node);
	my $log = log_position($node);
	$redis->freeze;
	# Far more commits and keys than the pipeline takes; two of them are large ones.
	$node->safe_psql('postgres', q{
		DO $$ BEGIN
			UPDATE users SET v = v + 1 WHERE id > 10000 AND id < 40000; COMMIT;
			FOR i IN 1 .. 400 LOOP
				UPDATE users SET v = v + 1 WHERE id BETWEEN i * 20 AND i * 20 + 5; COMMIT;
			END LOOP;
			UPDATE users SET v = v + 1 WHERE id = 50000; COMMIT;
			UPDATE users SET v = v + 1 WHERE id > 50000 AND id % 2 = 0; COMMIT;
		END $$});
	ok( $node->poll_query_until('postgres',
			'SELECT oldest_undelivered IS NOT NULL FROM cache_aside.status'),
		"round $round: a delivery is under way");
	kill 'KILL', $worker or die "cannot kill the worker: $!";
	ok(wait_until(sub { log_since($node, $log) =~ /ready to accept connections/ }),
		"round $round: the postmaster restarts everything");
	$node->poll_query_until('postgres', 'SELECT true') or die 'no connection';
	$redis->thaw;
	isnt(wait_worker($node, $worker), $worker, "round $round: a new worker");
	wait_delivered($node);
	my $found = compare($node, $redis);
	is($found->{written}, 37400, "round $round: rows written");
	is($found->{stale}, '', "round $round: no key of a written row is there");
	is($found->{lost}, '', "round $round: every other key is there");
}

$node->stop;
done_testing();
