# An answer of Redis that is read at the end of a round, with the writing, when what depends on it was looked at already:
# no event tells of it any more, so the worker comes round once more before it waits. It is made to stop in between.
#
# Remedy: CaRedis.heard in ca_redis_timeout (redis.c); without it what depends on the answer waits for the clock, a second.
use strict;
use warnings;

use CacheAside;
use Faults;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/status";
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.command_timeout = 60s\nautovacuum = off\n");
make_users($node, 10);
wait_delivered($node, undef, told => 1);
my $worker = worker_pid($node);

sub stopped { return slurp_file("/proc/$worker/status") =~ /^State:\s+T/m }

# To the same place of the next round; how long that took
sub next_round
{
	my $start = time;
	go_on($worker);
	wait_until(sub { !stopped() || time - $start > 0.1 });
	wait_until(\&stopped) or die 'it does not come by';
	return time - $start;
}

my $took = soonest(
	0.5,
	sub {
		cache_users($redis, 1);
		$redis->freeze;
		reload_conf($node, 'cache_aside.debug_point' => 'log-read=stop');
		ok(wait_until(\&stopped), 'it has looked for answers, and stops');
		$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
		next_round() foreach 1 .. 5;    # sent, and all that is due beside it; then it waits, and wakes by the clock
		$redis->thaw;
		ok(keys_gone($redis, 'user:1'), 'the answer is on its way');
		my $seconds = next_round();
		reload_conf($node, 'cache_aside.debug_point' => '');
		go_on($worker);
		wait_delivered($node);
		return $seconds;
	});
cmp_ok($took, '<', 0.5, 'it looks at the answer at once');
$node->stop;
done_testing();
