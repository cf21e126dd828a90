# Stopping the server takes no longer because Redis is frozen or dead: fast, smart and immediate. What
# was not delivered is delivered after the next start. With Redis well, a fast stop delivers all.
#
# Fails without `GetCurrentTimestamp() < deadline` in finish() (worker.c): the worker waits for Redis
# until its time-out is over.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "cache_aside.command_timeout = 60s\ncache_aside.connect_timeout = 60s\n");
make_users($node, 1000);
my $longest = 30;    # seconds; the checkpoint of the stop included
my %redis = (
	well => [ sub { }, sub { } ],
	frozen => [ sub { $redis->freeze }, sub { $redis->thaw } ],
	'frozen while connecting' => [
		sub {
			$redis->freeze;
			$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE backend_type = 'cache_aside worker'});
			$node->poll_query_until('postgres',
				q{SELECT redis_state = 'connecting' FROM cache_aside.status}) or die;
		},
		sub { $redis->thaw } ],
	dead => [ sub { $redis->save->kill9 }, sub { $redis->start } ]);

foreach my $state (sort keys %redis)
{
	foreach my $mode ('fast', 'smart', 'immediate')
	{
		$node->safe_psql('postgres', 'UPDATE users SET v = 0 WHERE v > 0');
		wait_delivered($node);
		cache_users($redis, 1 .. 1000);
		$redis{$state}[0]->();
		my $client = PgWire->new($node);
		$client->query("UPDATE users SET v = 1 WHERE id = $_") foreach 1 .. 50;
		$client->query('UPDATE users SET v = 1 WHERE id BETWEEN 101 AND 900');
		undef $client;
		my $start = time;
		$node->stop($mode);
		my $seconds = time - $start;
		cmp_ok($seconds, '<', $longest, sprintf '%s, Redis %s: %.2f s', $mode, $state, $seconds);
		is($redis->exists(user_keys(1 .. 50, 101 .. 900)), 0, "$mode, Redis $state: delivered at once")
		  if $state eq 'well' && $mode ne 'immediate';
		$redis{$state}[1]->();
		$node->start;
		wait_delivered($node);
		my $found = compare($node, $redis);
		is("$found->{stale}|$found->{lost}", '|', "$mode, Redis $state: exact after the next start");
	}
}

$node->stop;
done_testing();
