# A real Redis refuses: full, read-only, busy with a script, loading its snapshot. Commits go on, no
# refusal is skipped over, and when it is over every key goes, without a resync. Full is no refusal:
# deleting makes room, and the position must move, or the log would be kept for ever.
#
# Fails without 'allow-oom' of apply (library/names.lua): a full Redis stops delivery.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(port => 1)->start;
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 100);
wait_delivered($node);
my $before = commit_ms($node);
wait_delivered($node);
my $resyncs = status($node, 'resyncs');

# What every refusal has in common; `end` ends it.
sub refused
{
	my ($what, $error, $end) = @_;
	never_waits($node, $before, $what);
	ok($node->poll_query_until('postgres', "SELECT last_error ~ '$error' FROM cache_aside.status"),
		"$what: $error");
	$end->();
	ok(keys_gone($redis, user_keys(1 .. 50)), "$what: the keys written meanwhile are gone");
	wait_delivered($node);
	is($redis->exists(user_keys(51 .. 100)), 50, "$what: all others are there");
	is(status($node, 'resyncs'), $resyncs, "$what: no resync");
	return;
}

# ---- full
cache_users($redis, 1 .. 100);
$redis->config_set(maxmemory => 1);
like(($redis->try('SET', 'x', 'y'))[1], qr/^OOM/, 'Redis is full');
my $position = position_of($redis, $node);
never_waits($node, $before, 'Redis is full');
ok(keys_gone($redis, user_keys(1 .. 50)), 'full: keys are deleted');
wait_delivered($node);
isnt(position_of($redis, $node), $position, 'full: the position moves');
is(status($node, 'reply_errors'), 0, 'full: nothing was refused');
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
$node->safe_psql('postgres', 'UPDATE users SET v = 0 WHERE id = 51');
ok(keys_gone($redis, 'user:51'), 'full: a new connection delivers, too');
wait_delivered($node);
$redis->config_set(maxmemory => 0);
is(status($node, 'resyncs'), $resyncs, 'full: no resync');

# ---- read-only: the replica of a master that is not there
cache_users($redis, 1 .. 100);
$redis->command('REPLICAOF', '127.0.0.1', RedisServer::free_port());
refused('read-only', 'READONLY', sub { $redis->promote });

# ---- busy
cache_users($redis, 1 .. 100);
$redis->config_set('busy-reply-threshold' => 10);
my $busy = $redis->client;
$busy->send('EVAL', 'while true do end', 0);
refused('busy', 'BUSY', sub { $redis->command('SCRIPT', 'KILL'); $busy->receive; });

# ---- loading: a snapshot of all that is there now, read slowly
cache_users($redis, 1 .. 100);
$redis->save->kill9;
$redis->append_conf("key-load-delay 50000\nloading-process-events-interval-bytes 1024\n");
$redis->start(wait => 0);
ok(wait_until(sub { eval { ($redis->client->try('GET', 'x'))[1] =~ /^LOADING/ } }),
	'Redis is loading');
refused('loading', 'LOADING',
	sub { $redis->config_set('key-load-delay' => 0); $redis->wait_ready; });

$node->stop;
done_testing();
