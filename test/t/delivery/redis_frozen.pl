# Redis is frozen (SIGSTOP): no commit waits, DROP DATABASE is not held up, the outage is noticed after
# command_timeout, a frozen server accepts connections and never answers, and after the thaw every key
# goes.
#
# Fails without the time-out in ca_redis_advance() (redis.c, "no answer from Redis for %d ms"): the
# status would say "connected" for as long as Redis is frozen.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "cache_aside.command_timeout = 30s\ncache_aside.connect_timeout = 30s\n");
make_users($node, 100);
$node->safe_psql('postgres', 'CREATE DATABASE other');
wait_delivered($node);
my $before = commit_ms($node);
cache_users($redis, 1 .. 100);

$redis->freeze;
never_waits($node, $before, 'Redis is frozen');
is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(NULL, '10 ms')}),
	'f', 'not delivered');
my $started = time;
$node->safe_psql('postgres', 'DROP DATABASE other');
cmp_ok(time - $started, '<', 10, 'DROP DATABASE does not wait for Redis');
is(status($node, 'redis_state'), 'connected', 'the time-out is not over');

# Shorter time-outs take effect at once, for what is unanswered already, too.
reload_conf($node, 'cache_aside.command_timeout' => '200ms', 'cache_aside.connect_timeout' => '200ms');
ok(status_is($node, 'redis_state', 'unreachable'), 'unreachable');
like(status($node, 'last_error'), qr/no answer|time-out/, 'with the reason');
my $retries = status($node, 'reconnects');
ok($node->poll_query_until('postgres', "SELECT reconnects > $retries + 1 FROM cache_aside.status"),
	'tries again and again');
never_waits($node, $before, 'Redis accepts connections and is mute');

$redis->thaw;
wait_delivered($node);
is($redis->exists(user_keys(1 .. 50)), 0, 'every key of a committed row is gone');
is($redis->exists(user_keys(51 .. 100)), 50, 'all others are there: no resync was needed');
is(status($node, 'resyncs'), 1, 'the one resync is that of the first start');

$node->stop;
done_testing();
