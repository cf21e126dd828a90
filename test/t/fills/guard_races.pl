# The races that the guard decides, with a real worker: a commit that stalls before it is visible, a
# standby that lags, a guard that is evicted, a Redis that goes back, and a promotion.
use strict;
use warnings;

use CacheAside;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
my $guard;

sub client
{
	my ($server) = @_;
	return PgClient->new(dir => $server->host, port => $server->port);
}

my ($reader, $writer, $stalled) = map { client($node) } 1 .. 3;

sub reading
{
	my ($c, $id) = @_;
	my ($row) = $c->query("SELECT name, cache_aside.read_token() FROM users WHERE id = $id");
	return @$row;
}

sub fill
{
	my ($id, $value, $token) = @_;
	return 'no token' unless defined $token;
	return $redis->command('FCALL', 'cache_aside_fill', 1, "user:$id", $value, 60000, $token);
}

sub admits
{
	my ($name, $id, $c) = @_;
	ok($redis->wait_until(sub { fill($id, reading($c // $reader, $id)) eq '1' }),
		"$name: reads of now are stored");
	return;
}

sub change
{
	my ($id, $name) = @_;
	$writer->query("UPDATE users SET name = '$name' WHERE id = $id");
	die 'not delivered' unless $writer->value('SELECT cache_aside.wait_delivered()') eq 't';
	return;
}

$writer->query(q{CREATE TABLE users (id int PRIMARY KEY, name text);
	SELECT cache_aside.attach('users', 'user:{id}');
	INSERT INTO users SELECT g, 'v0' FROM generate_series(1, 100) g});
wait_delivered($node);
admits('begin', 1);
($guard) = $redis->keys('cache_aside:guard:*');

# ---- a commit that is in the log, but not visible: it waits for a standby that is not there
$writer->query(q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$writer->query('SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', q{SELECT current_setting('synchronous_standby_names') = 'nobody'}),
	'commits wait for nobody');
$_->query('SET synchronous_commit = local') foreach $reader, $writer;
my ($old, $token) = reading($reader, 1);
$stalled->send_query(q{UPDATE users SET name = 'v1' WHERE id = 1});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE wait_event = 'SyncRep'}), 'a commit stalls between flush and visibility');
is((reading($reader, 1))[0], 'v0', 'it is not visible');
is(fill(1, $old, $token), 1, 'a read from before it is stored');
is($redis->get('user:1'), 'v0', 'and not deleted: nobody can see the new row yet');
$redis->set('user:2', 'v0');
$writer->query(q{UPDATE users SET name = 'other' WHERE id = 2});
ok(keys_gone($redis, 'user:2'), 'others are delivered meanwhile');
($old, $token) = reading($reader, 2);
is(fill(2, $old, $token), 0, 'the visible LSN stands still: what others changed cannot be cached');
is(fill(3, reading($reader, 3)), 1, 'what nobody changed can');
my ($pid) = map { $_->[0] } $writer->query(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
($old, $token) = reading($reader, 1);
$writer->query("SELECT pg_cancel_backend($pid)");
$stalled->finish;
wait_delivered($node);
ok(!$redis->exists('user:1'), 'once it is visible, the old value is deleted');
is(fill(1, $old, $token), 0, 'and does not come back');
admits('the commit is visible', 1);
admits('the commit is visible', 2);
$writer->query('ALTER SYSTEM RESET synchronous_standby_names');
$writer->query('SELECT pg_reload_conf()');

# ---- the guard is evicted: refused, and made anew with a floor that refuses what it had refused
($old, $token) = reading($reader, 1);
change(1, 'v2');
$redis->del($guard);
is(fill(1, $old, $token), 0, 'guard evicted: refused');
ok($redis->wait_until(sub { $redis->exists($guard) }), 'the worker notices by itself');
is(fill(1, $old, $token), 0, 'made anew: what was stale stays refused');
admits('made anew', 1);

# ---- Redis forgets
($old, $token) = reading($reader, 1);
$redis->save_to($redis->dir . '/old.rdb');
change(1, 'v3');
$redis->restore_from($redis->dir . '/old.rdb');
is(fill(1, $old, $token), 0, 'Redis went back: refused');
$writer->query(q{SELECT cache_aside.wait_delivered()});
is(fill(1, $old, $token), 0, 'and later');
admits('Redis went back', 1);
($old, $token) = reading($reader, 1);
change(1, 'v4');
$redis->flushall;
is(fill(1, $old, $token), 0, 'flushed: refused');
admits('flushed', 1);
is(fill(1, $old, $token), 0, 'and what was stale stays refused');

# ---- a standby that lags fills what did not change, and nothing else
my $standby = CacheAside->new_standby('standby', $node, redis => $redis);
my $replica = client($standby);
admits('standby', 1, $replica);
$replica->query('SELECT pg_wal_replay_pause()');
ok($standby->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'}),
	'the standby stands still');
change(1, 'v5');
($old, $token) = reading($replica, 1);
is($old, 'v4', 'the standby shows the old row');
is(fill(1, $old, $token), 0, 'which is refused');
is(fill(4, reading($replica, 4)), 1, 'what did not change is stored');
admits('meanwhile, on the primary', 1);
$replica->query('SELECT pg_wal_replay_resume()');
admits('the standby has caught up', 1, $replica);

# ---- promotion: tokens of the old timeline are worth nothing
$replica->query('SELECT pg_wal_replay_pause()');
change(5, 'newer');
($old, $token) = reading($replica, 5);
my $from_old = (reading($reader, 6))[1];
$replica->query('SELECT pg_wal_replay_resume()');
$node->wait_for_catchup('standby', 'replay', $node->lsn('insert'));
$node->stop('immediate');
$standby->promote;
my $new = client($standby);
$reader = $new;
admits('promoted', 6);
is(fill(5, $old, $token), 0, 'a lagging read from before the promotion: refused');
is(fill(6, 'v0', $from_old), 0, 'a read on the old primary too');
like((reading($new, 6))[1], qr/^\d+-2-/, 'tokens are of the new timeline');
done_testing();
