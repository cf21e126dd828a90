# Redis dies (kill -9, then connections are refused): commits go on as if nothing happened, one line in
# the log says so, and when Redis is back everything that was missed is made good, once.
#
# It comes back without a position, so everything the rules could have cached is deleted. Fails
# without `reason = absent ? "Redis holds no position" ...` in ca_resume_choose() (resume.c): user:7 was
# written before the checkpoint from which reading resumes, so that only a resync can delete it.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 100);
wait_delivered($node);
my $before = commit_ms($node);
my $log = log_position($node);

$redis->kill9;
never_waits($node, $before, 'Redis is dead');
ok(status_is($node, 'redis_state', 'unreachable'), 'the status says so');
like(status($node, 'last_error'), qr/connect|connection/i, 'with the reason');
ok($node->poll_query_until('postgres', 'SELECT oldest_undelivered IS NOT NULL AND lag_bytes > 0 AND lag_ms > 0 FROM cache_aside.status'),
	'and the lag');
like($node->safe_psql('postgres', 'SELECT error FROM cache_aside.ping()'),
	qr/connect|connection/i, 'ping() gives the error');
is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(NULL, '10 ms')}),
	'f', 'wait_delivered() gives up in time');

# A client that read the old row fills before the worker is back.
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 7');
$node->safe_psql('postgres', 'CHECKPOINT');
my $worker = stop_process(worker_pid($node));
$redis->start;
cache_users($redis, 7);
$redis->set('nobodys', 'x');
go_on($worker);
ok(keys_gone($redis, 'user:7'), 'a value from before the outage is gone');
wait_delivered($node);
ok(is_cached($redis, 'nobodys'), 'what no rule covers stays');
is(status($node, 'state'), 'delivering', 'delivering');
is(status($node, 'redis_state'), 'connected', 'connected');
my $lines = log_since($node, $log);
is(scalar(() = $lines =~ /cannot deliver to Redis/g), 1, 'one line for the outage');
is(scalar(() = $lines =~ /delivers to Redis at .* again/g), 1, 'and one for its end');

cache_users($redis, 1 .. 100);
$node->safe_psql('postgres', 'UPDATE users SET v = 0 WHERE id <= 50');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 100)), 50, 'then exactly what was written is deleted');

$node->stop;
done_testing();
