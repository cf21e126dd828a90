# Plain clients put old values back: one that reads a standby which lags, one that reads before the
# commit and stores long after it. With cache_aside.redelete the key is deleted again when every
# connected standby has replayed the commit, and once more after redelete_delay.
# What each remedy is: take_replayed(), take_delayed(); across connections, put_back() in
# handle_answer() and in ca_redelete_interrupted(); the bound, make_room(); in time, the lines about
# redelete in ca_session_timeout() (session.c); switched off, forget_all().
use strict;
use warnings;

use CacheAside;
use FakeRedis;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
cache_aside.redelete = on
cache_aside.redelete_delay = 0
EOC
my $standby = CacheAside->new_standby('standby', $node, redis => $redis);
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, n int);
	INSERT INTO users SELECT g, 0 FROM generate_series(1, 20) g;
	CREATE TABLE logs (id int);
	SELECT cache_aside.attach('users', 'user:{id}'), cache_aside.attach('logs', 'log:{id}');
});
$node->wait_for_catchup($standby);
wait_delivered($node);
my $again = 0;

sub update
{
	my ($id) = @_;
	$redis->set("user:$id", 'cached before');
	$node->safe_psql('postgres', "UPDATE users SET n = n + 1 WHERE id = $id");
	ok(keys_gone($redis, "user:$id"), 'deleted after the commit');
	return;
}

# A client stores what it reads there.
sub fill_from
{
	my ($server, $id) = @_;
	$redis->set("user:$id", $server->safe_psql('postgres', "SELECT n FROM users WHERE id = $id"));
	return;
}

sub waiting { return status($node, 'redelete_waiting'); }

sub redeleted
{
	my ($more, $name) = @_;
	$again += $more;
	ok(status_is($node, 'redeleted', $again), "$name: deleted again $more times");
	is(waiting(), 0, "$name: nothing left");
	return;
}

ok(status_is($node, 'redelete_waiting', 0), 'nothing waits');
$again = status($node, 'redeleted');

# ---- a standby that lags
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$standby->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'}) or die;
update(1);
fill_from($standby, 1);
foreach (1 .. 3) { update(2); wait_delivered($node); }
is($redis->get('user:1'), 0, 'the old value is back, and stays while the standby lags');
is(waiting(), 2, 'two keys wait, however often they changed');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
ok(keys_gone($redis, 'user:1'), 'deleted when the standby has the row');
redeleted(2, 'replayed');
fill_from($standby, 1);
wait_delivered($node);
is($redis->get('user:1'), 1, 'what is read then is new, and stays');

# ---- a client that takes its time
reload_conf($node, 'cache_aside.redelete_delay' => '5s');
update(3);
$again++;
ok(status_is($node, 'redeleted', $again), 'replayed');
$redis->set('user:3', 'an old value, from a slow client');
is(waiting(), 1, 'a last time is to come');
ok(keys_gone($redis, 'user:3'), 'and deletes it');
redeleted(1, 'delayed');

$node->safe_psql('postgres', 'TRUNCATE logs');
wait_delivered($node);
is(waiting(), 1, 'a pattern waits like a key');
$redis->set('log:1', 'old');
ok(keys_gone($redis, 'log:1'), 'and what it covers is deleted');
ok(status_is($node, 'redelete_waiting', 0), 'nothing left');

# ---- no standby; the connection breaks
$standby->stop;
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_replication') or die;
update(4);
$redis->set('user:4', 'old');
my $reconnects = status($node, 'reconnects');
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
ok($node->poll_query_until('postgres', "SELECT reconnects > $reconnects FROM cache_aside.status"),
	'a new connection');
ok(is_cached($redis, 'user:4'), 'not yet');
is(waiting(), 1, 'the key is remembered');
ok(keys_gone($redis, 'user:4'), 'and deleted after the delay');
redeleted(1, 'without a standby');

# Streams, but replays nothing: nobody waits for it.
reload_conf($node, 'cache_aside.redelete_delay' => '500ms');
my $receiver = IPC::Run::start(
	[ 'pg_receivewal', '--status-interval=1', '-D', PostgreSQL::Test::Utils::tempdir(),
		'-d', $node->connstr('postgres') ]);
$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_stat_replication') or die;
update(6);
redeleted(1, 'beside pg_receivewal');
$receiver->signal('INT');
$receiver->finish;

# The connection breaks before the UNLINK reaches Redis.
my $fake = FakeRedis->new(upstream => $redis)->start;
reload_conf($node, 'cache_aside.redis_url' => $fake->url, 'cache_aside.redelete_delay' => '3s');
ok(status_is($node, 'state', 'delivering'), 'through a proxy');
update(5);
$redis->set('user:5', 'old');
$fake->on(qr/^UNLINK/, 'close', 1, times => 1);
ok($fake->wait_for(qr/^UNLINK.*user:5/), 'deleted again, in vain');
ok(keys_gone($redis, 'user:5'), 'and again');
ok(status_is($node, 'redelete_waiting', 0), 'nothing left');

# ... and before the scan of a pattern is over.
$node->safe_psql('postgres', 'TRUNCATE logs');
wait_delivered($node);
$redis->set('log:1', 'old');
$fake->on(qr/^SCAN/, 'close', 1, times => 1);
ok(keys_gone($redis, 'log:1'), 'a scan that was interrupted begins again');
ok(status_is($node, 'redelete_waiting', 0), 'nothing left');

# ---- in time: nothing but the clock wakes the worker, which otherwise sleeps for a second
reload_conf($node, 'cache_aside.redis_url' => $redis->url, 'cache_aside.redelete_delay' => '1100ms',
	'cache_aside.publish_interval' => 0);
wait_delivered($node);
my @seconds;
foreach (1 .. 4)
{
	my $start = time;
	update(7);
	$redis->set('user:7', 'old');
	keys_gone($redis, 'user:7') or die 'not deleted again';
	push @seconds, time - $start;
}
@seconds = sort { $a <=> $b } @seconds;
cmp_ok($seconds[0], '<', 1.7, sprintf 'deleted when it is due, after %.2f s', $seconds[0]);

# ---- bounded
reload_conf($node, 'cache_aside.redelete_delay' => '1h', 'cache_aside.command_timeout' => '60s');
my $position = log_position($node);
$node->safe_psql('postgres',
	q{SELECT count(cache_aside.invalidate(repeat('x', 8000) || g)) FROM generate_series(1, 12000) g});
wait_delivered($node);
my ($kept, $dropped) = (waiting(), status($node, 'redelete_dropped'));
is($kept + $dropped, 12000, 'each key waits or is counted as dropped');
cmp_ok($kept * 8000, '<', 64 * 1024 * 1024, "bounded: $kept are kept");
cmp_ok($kept * 8000, '>', 60 * 1024 * 1024, 'the bound is used');
is(scalar(() = log_since($node, $position) =~ /drops keys/g), 1, 'said once');
reload_conf($node, 'cache_aside.redelete' => 'off');
ok(status_is($node, 'redelete_waiting', 0), 'switched off: all are forgotten');

done_testing();
