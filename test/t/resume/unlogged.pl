# Unlogged tables are emptied by recovery: what was cached from their rows is gone after a crash, and
# after a promotion, however clean. Keys of other tables stay; after a clean restart all do.
#
# Fails without log_crash() in run_round() (worker.c). After a promotion fails when ca_catch_up_reached()
# (catch_up.c) drops the resync of a clean switchover instead of keeping the unlogged tables' part, and
# when server_crashed() (status.c) takes for a crash what a base backup says of its primary.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('a', redis => $redis);
make_users($node, 10);
my $hot = q{CREATE UNLOGGED TABLE hot (id int PRIMARY KEY, v int);
	INSERT INTO hot SELECT g, 0 FROM generate_series(1, 10) g;
	SELECT cache_aside.attach('hot', 'hot:{id}');
	SELECT cache_aside.attach_query('hot', 'SELECT ''list:'' || id FROM changed', 'list:*')};
$node->safe_psql('postgres', $hot);
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION cache_aside; ' . $hot =~ s/hot:|list:/other:$&/gr);
my @unlogged = map { ("hot:$_", "list:$_", "other:hot:$_", "other:list:$_") } 1 .. 10;
my @logged = (user_keys(1 .. 10), 'hot', 'hotter:1');

sub fill_cache
{
	wait_delivered($_[0]);
	$redis->mset(map { ($_ => 'cached') } @unlogged, @logged);
	return;
}

sub emptied
{
	my ($server, $what) = @_;
	wait_delivered($server);
	is($server->safe_psql('postgres', 'SELECT count(*) FROM hot'), 0, "$what: the table is empty");
	is($redis->exists(@unlogged), 0, "$what: so is the cache of it");
	is($redis->exists(@logged), scalar(@logged), "$what: all else is there");
	return;
}

fill_cache($node);
$node->restart;
wait_delivered($node);
is($redis->exists(@unlogged, @logged), @unlogged + @logged, 'a clean restart: every key is there');

$node->stop('immediate');
$node->start;
emptied($node, 'immediate stop');

fill_cache($node);
kill_server($node);
$node->start;
emptied($node, 'kill -9');

# It crashes again and again before Redis can be told.
fill_cache($node);
$redis->save->kill9;
foreach (1 .. 2) { $node->stop('immediate'); $node->start; }
$node->restart;
$redis->start;
emptied($node, 'crashes while Redis is away');

# ---- promotion: they are empty on a standby
foreach my $policy ('auto', 'never')
{
	$node->safe_psql('postgres', 'INSERT INTO hot VALUES (1)');
	my $standby = CacheAside->new_standby("after_$policy", $node, redis => $redis,
		conf => "cache_aside.resync_on_promotion = $policy\n");
	ok(status_is($standby, 'state', 'standby'), 'a standby follows');
	$node->safe_psql('postgres', 'SET synchronous_commit = off; UPDATE users SET v = v + 1');
	fill_cache($node);
	$node->stop('fast');
	my $position = log_position($standby);
	take_over($standby);
	emptied($standby, "planned switchover, $policy");
	like(log_since($standby, $position), qr/deletes what was cached from unlogged tables/, 'and said');
	unlike(log_since($standby, $position), qr/deletes everything/, 'nothing else');
	$node = $standby;
}

# The worker dies in between: what was to be deleted is known from the position.
fill_cache($node);
my $resyncs = status($node, 'resyncs');
set_position($redis, $node, position_of($redis, $node) =~ s/ ok / unlogged /r);
$node->poll_query_until('postgres', "SELECT resyncs > $resyncs FROM cache_aside.status")
  or die 'no resync';
emptied($node, 'not finished');
like(position_of($redis, $node), qr/ ok /, 'and then it is');

$node->stop;
done_testing();
