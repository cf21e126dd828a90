# The server crashes with undelivered keys while the synchronous standby is away. Commits wait for it; the
# worker, which notes the crash in the log, must not: what was committed before is delivered, and a fast
# shutdown ends.
#
# Fails without `synchronous_commit = local` in cache_aside_worker_main (worker.c).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 10);
wait_delivered($node);
cache_users($redis, 1 .. 10);
$redis->save->kill9;
$node->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id <= 5');
reload_conf($node, synchronous_standby_names => 'nobody');
kill_server($node);
$node->start;
$redis->start;
wait_delivered($node);
is($redis->exists(user_keys(1 .. 10)), 5, 'delivered, though no commit would be visible now');
my $worker = worker_pid($node);
is($node->safe_psql('postgres', "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $worker"),
	'Extension', 'the worker waits for work, not for the standby');
$node->stop('fast');
pass('and the server stops');
done_testing();
