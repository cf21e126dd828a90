# Whatever makes Redis forget also makes it refuse fills, until the worker has caught up with it.
use strict;
use warnings;

use HandWorker;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(port => 1)->start;
my $worker = HandWorker->new($redis);
my ($position, $guard) = ($worker->position_key, $worker->guard_key);

sub is_refused { return is($worker->fill('k', 'old', 'FFFF/0'), 0, shift() . ': fills are refused'); }

sub catch_up
{
	my ($what, $floor) = @_;
	$worker->load unless @{ $redis->command('FUNCTION', 'LIST') };
	is(ref $worker->claim, 'ARRAY', "$what: claim");
	is_refused("$what, claimed");
	my $answer = $worker->arm($floor);
	is($worker->fill('k', 'v', $floor), 1, "$what, armed: fills work again");
	return $answer;
}

# Delivered at 2/0, after a snapshot at 1/0 was saved: what a Redis that goes back loses.
$worker->claim;
$worker->arm('0/100');
$worker->fill('k', 'seen at 1/0', '1/0');
$redis->save_to($redis->dir . '/old.rdb');
$worker->apply('2/0', 'k');

# ---- back in time: the guard of 1/0 would admit what the one of 2/0 refused
$redis->restore_from($redis->dir . '/old.rdb');
is($worker->get('k'), 'seen at 1/0', 'Redis went back in time');
is($worker->fill('k', 'old', '1/FF'), 0, 'and does not admit what it refused before');
like($worker->apply('3/0', 'k'), qr/^CA_NONCE /, 'nor a batch of a worker that did not notice');
is(catch_up('back in time', '3/0'), 2, 'the guard was made anew');
is($worker->fill('k', 'old', '1/FF'), 0, 'with the floor that was given');

# ---- restart and reload, with everything still there
$redis->save->restart;
is_refused('restart');
like($worker->apply('4/0', 'k'), qr/^CA_NONCE /, 'restart: batches are refused');
catch_up('restart', '4/0');
$redis->command('DEBUG', 'RELOAD') if ($redis->try('DEBUG', 'RELOAD'))[0];
$worker->load;
is_refused('library loaded again');
catch_up('library loaded again', '5/0');

# ---- flush, eviction
$worker->apply('5/1', 'k');
$redis->flushall;
is_refused('FLUSHALL');
like($worker->apply('6/0', 'k'), qr/^CA_POSITION /, 'FLUSHALL: batches are refused');
is(catch_up('FLUSHALL', '6/0'), 2, 'the guard was made anew');
$worker->apply('7/0', 'k');
$redis->del($guard);
is_refused('guard evicted');
is_deeply($worker->apply('8/0', 'k'), [ 0, 0, 0 ], 'apply reports it');
ok(!$redis->exists($guard), 'and does not make a part of one');
$worker->epoch('8/80', 0);
ok(!$redis->exists($guard), 'nor does epoch: what was delivered may lie above its floor');
is($worker->arm('9/0'), 2, 'arm makes it anew');
is($worker->fill('k', 'old', '8/FF'), 0, 'with floor E');
$redis->del($position);
like($worker->apply('A/0', 'k'), qr/^CA_POSITION /, 'position evicted: the worker has to look');
is(catch_up('position evicted', 'A/0'), 1, 'the guard was kept');

# ---- fail-over: the replica has the data but no memory
my $replica = RedisServer->new(port => 1, name => 'replica')->start->replicaof($redis);
$worker->apply('B/0', 'k');
ok($replica->wait_until(sub { ($replica->get($position) // '') eq $worker->{position} }),
	'replica has the position');
like(($replica->try('FCALL', 'cache_aside_fill', 1, 'k', 'v', 1000, $worker->token('B/0')))[1],
	qr/READONLY/, 'a replica stores nothing');
my $master = $redis;
$replica->promote;
$worker->{redis} = $redis = $replica;
is_refused('replica promoted');
like($worker->apply('C/0', 'k'), qr/^CA_NONCE /, 'replica promoted: batches are refused');
is(catch_up('replica promoted', 'C/0'), 2, 'the guard was made anew');
$worker->apply('D/0', 'k');

# ---- and back: the old master remembers its own arming, but has the data of the other
$master->command('CONFIG', 'SET', 'repl-diskless-load', 'disabled');
$master->replicaof($redis);
ok($master->wait_until(sub { ($master->get($position) // '') eq $worker->{position} }), 'data came');
$master->promote;
$worker->{redis} = $redis = $master;
is_refused('old master promoted again');
catch_up('old master promoted again', 'E/0');

# ---- to and fro, with a delivery by a worker that did not get to arming
sub switch_to
{
	my ($to) = @_;
	$to->replicaof($redis);
	$to->wait_until(sub { ($to->get($position) // '') eq $worker->{position} }) or die 'no replication';
	$to->promote;
	$worker->{redis} = $redis = $to;
	return;
}
switch_to($replica);
is(ref $worker->claim, 'ARRAY', 'to and fro: claim');
is_deeply($worker->apply('E/80', 'k'), [ 1, 0, 0 ], 'to and fro: delivered, not raised');
switch_to($master);
is($worker->fill('k', 'old', 'E/40'), 0, 'and back: a guard that was not raised admits nothing');
catch_up('to and fro', 'E/C0');

# ---- full: neither delivery nor arming may depend on memory; fills are refused by Redis itself
$redis->config_set('maxmemory-policy', 'noeviction');
$redis->mset(victim => 'v', kept => 'v');
$redis->config_set('maxmemory', '1');
like($redis->try('SET', 'x', 'y') || ($redis->try('SET', 'x', 'y'))[1], qr/OOM/, 'Redis is full');
is_deeply($worker->apply('F/0', 'victim', [ 'cache_aside:stick:a', 'F/0', 10000 ]), [ 1, 0, 1 ],
	'apply works');
is($redis->get('cache_aside:stick:a'), 'F/0', 'sticks too');
like($worker->fill('k', 'v', 'F/0'), qr/^OOM /, 'fill: the error of Redis');
is($worker->get('kept'), 'v', 'get works');
is(ref $worker->get('missing', 1000), 'ARRAY', 'and leases');
$redis->del($guard);
is(ref $worker->claim, 'ARRAY', 'claim works');
is($worker->epoch('10/0', 1), 1, 'epoch works');
is($worker->arm('10/0'), 1, 'arm works');
my $plain = HandWorker::slurp('apply_plain.lua');
$redis->config_set('maxmemory', '0');
$redis->set('victim', 'v');
$redis->config_set('maxmemory', '1');
my @plain = ('EVAL', $plain, 3, $position, $guard, 'victim');
like(($redis->try(@plain, 'wrong', 'new'))[1], qr/^CA_POSITION /, 'script of old servers: refusal');
ok($redis->exists('victim', $guard) == 2, 'and nothing happened');
is_deeply($redis->command(@plain, $worker->{position}, 'new', 'cache_aside:stick:a', 'E/0', 1000),
	[ 1, 0 ], 'full: the script works too');
is($redis->get($position), 'new', 'its position');
is($redis->get('cache_aside:stick:a'), 'F/0', 'its sticks go forward only');
ok(!$redis->exists($guard), 'and it leaves no guard that nobody raises');
is_deeply($redis->command('EVAL', $plain, 2, $position, $guard, 'new', 'newer'), [ 0, 0 ],
	'without keys as well');
$redis->config_set('maxmemory', '0');

# ---- no call holds Redis for a millisecond, the first included
$redis->flushall;
$redis->command('CONFIG', 'RESETSTAT');
$redis->config_set('slowlog-log-slower-than', '0');
$redis->config_set('slowlog-max-len', '20000');
$worker->load;
$worker->{position} = '';
my @keys = map { "user:profile:$_" } 1 .. 128;
$redis->mset(map { $_ => 'x' x 100 } @keys);
$redis->command('SLOWLOG', 'RESET');
$worker->claim;
$worker->arm('11/0');
$worker->apply(sprintf('12/%X', $_), @keys) foreach 1 .. 20;
$worker->fill('k', 'v', '12/FF') foreach 1 .. 20;
my %times;
foreach my $entry (@{ $redis->command('SLOWLOG', 'GET', 20000) })
{
	push @{ $times{ $entry->[3][1] } }, $entry->[2] if $entry->[3][0] eq 'FCALL';
}
foreach my $name (sort keys %times)
{
	my @sorted = sort { $a <=> $b } @{ $times{$name} };
	note "$name: first $times{$name}[-1] us, median $sorted[@sorted / 2] us, worst $sorted[-1] us";
}
is(scalar keys %times, 4, 'every call was seen');
done_testing();
