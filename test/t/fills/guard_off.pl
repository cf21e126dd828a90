# cache_aside.guard switched off and on while the worker runs: off, no fill is admitted and deliveries go
# on; on again, fills are admitted after a new arming, and nothing that was read before a delivery made
# meanwhile: nobody raised buckets for it, so the floor of the new guard must cover it.
#
# Fails when apply with guard = off leaves the old guard in place (its buckets know nothing of what was
# delivered since), and when arm makes the new one with the LSN of the session's beginning as its floor.
use strict;
use warnings;

use CacheAside;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
my $c = PgClient->new(dir => $node->host, port => $node->port);
$c->query(q{CREATE TABLE users (id int PRIMARY KEY, name text);
	SELECT cache_aside.attach('users', 'user:{id}');
	INSERT INTO users SELECT g, 'v0' FROM generate_series(1, 100) g});
wait_delivered($node);
have_tokens();

sub have_tokens
{
	$node->poll_query_until('postgres', 'SELECT cache_aside.read_token() IS NOT NULL') or die 'no tokens';
	return;
}

sub reading
{
	my ($id) = @_;
	my ($row) = $c->query("SELECT name, cache_aside.read_token() FROM users WHERE id = $id");
	die 'no token' unless defined $row->[1];
	return @$row;
}

sub fill
{
	my ($id, $value, $token) = @_;
	return $redis->command('FCALL', 'cache_aside_fill', 1, "user:$id", $value, 60000, $token);
}

sub change
{
	my ($id, $name) = @_;
	$c->query("UPDATE users SET name = '$name' WHERE id = $id");
	wait_delivered($node);
	return;
}

sub switch
{
	my ($to) = @_;
	reload_conf($node, 'cache_aside.guard' => $to);
	return;
}

sub guards { return scalar(() = $redis->keys('cache_aside:guard:*')); }
sub admitted { return fill($_[0], reading($_[0])); }

sub is_admitted_soon
{
	my ($id) = @_;
	return $redis->wait_until(sub { admitted($id) });
}

ok(is_admitted_soon(1), 'on: admitted');
my @before = map { [ $_, reading($_) ] } 2, 3;

# ---- off, without any write: the worker takes the guard away by itself
switch('off');
ok($redis->wait_until(sub { guards() == 0 }), 'off: the guard goes away though nobody writes');
is(admitted(4), 0, 'off: fills are refused');
is($c->value(q{SELECT cache_aside.fill('user:4', 'v0')}), 'f', 'off: those of SQL too');

# ---- off: deliveries go on
my $resyncs = status($node, 'resyncs');
$redis->mset(map { ("user:$_" => 'cached') } 2, 3, 5, 50);
change(2, 'v1');
is($redis->exists('user:2'), 0, 'off: delivered');
is($redis->exists(map { "user:$_" } 3, 5, 50), 3, 'off: and nothing else');
$c->query('BEGIN; TRUNCATE users; ROLLBACK');
change(5, 'v1');
is($redis->exists(map { "user:$_" } 3, 50), 2, 'off: a rolled back TRUNCATE deletes nothing');
is(admitted($_), 0, "off: after deliveries refused, user:$_") foreach 2, 3;
is(guards(), 0, 'off: no guard');

# ---- a pattern while off, its scan under way or not when the guard comes back
$c->query(q{SELECT cache_aside.invalidate_pattern('user:5*')});
wait_delivered($node);
is($redis->exists(map { "user:$_" } 3, 50), 1, 'off: patterns too');

# ---- on again
switch('on');
ok(is_admitted_soon(4), 'on again: admitted');
is(guards(), 1, 'on again: a guard');
is(fill(@{ $before[0] }), 0, 'on again: a read from before what was delivered meanwhile is refused');
is($redis->exists('user:2'), 0, 'and nothing stale is there');
is(admitted($_), 1, "on again: user:$_") foreach 2, 3;
my @now = reading(7);
change(7, 'v1');
is($redis->exists('user:7'), 0, 'on again: delivered');
is(fill(7, @now), 0, 'on again: buckets are raised');
ok(is_admitted_soon(7), 'and the new row is admitted');

# ---- to and fro under writes, faster than the worker answers: it arms in the end
foreach my $round (1 .. 5)
{
	foreach my $to ('off', 'on')
	{
		$c->query("ALTER SYSTEM SET cache_aside.guard = $to");
		$c->query('SELECT pg_reload_conf()');
		$c->query("UPDATE users SET name = 'r$round' WHERE id <= 10");
	}
	@now = reading(9);
	$c->query("UPDATE users SET name = 's$round' WHERE id = 9");
	wait_delivered($node);
	is(fill(9, @now), 0, "to and fro $round: what was read before is refused");
	ok(is_admitted_soon(9), "to and fro $round: admitted in the end");
	is($redis->get('user:9'), "s$round", "to and fro $round: the new row");
}
is(status($node, 'resyncs'), $resyncs, 'no resync was needed for any of this');

# ---- off when the server starts: the guard of before must not survive
@now = reading(11);
switch('off');
$node->restart;
$c = PgClient->new(dir => $node->host, port => $node->port);
change(11, 'v1');
is(fill(11, @now), 0, 'started with off: refused');
have_tokens();
is(admitted(12), 0, 'started with off: reads of now, too');
switch('on');
ok(is_admitted_soon(12), 'on: admitted');
is(fill(11, @now), 0, 'and what was stale stays refused');

$node->stop;
done_testing();
