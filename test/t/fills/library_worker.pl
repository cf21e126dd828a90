# The worker's calls of the function library, each with each of its refusals.
use strict;
use warnings;

use HandWorker;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $worker = HandWorker->new($redis);
my ($position, $guard) = ($worker->position_key, $worker->guard_key);

# Every key of the server with its bytes: what "nothing happened" means.
sub contents
{
	return join "\n", map { "$_ " . ($redis->command('DUMP', $_) // '') } sort $redis->keys('*'),
	  $redis->keys('cache_aside*');
}

sub refused
{
	my ($code, $name, $action) = @_;
	my $before = contents();
	like($action->(), qr/^$code /, "$name: refused");
	ok(contents() eq $before, "$name: nothing changed");
	return;
}

# ---- claim
is_deeply([ @{ $worker->claim }[ 0 .. 5 ] ], [ HandWorker::revision(), 0, '', 0, '0/0', 0 ], 'claim of an empty Redis');
is($worker->fill('k', 'v', 'FF/0'), 0, 'claimed, not armed: no fill');
is_deeply($worker->apply('0/100', 'k'), [ 0, 0, 0 ], 'apply works before arm, without a guard');
ok(!$redis->exists($guard), 'apply never creates a guard');

# ---- arm
is($worker->arm('0/180'), 2, 'arm makes the missing guard');
is($redis->command("STRLEN", $guard), 40, 'of constant size');
is($worker->fill('k', 'v', '0/17F'), 0, 'token below the floor: refused');
is($worker->fill('k', 'v', '0/180'), 1, 'token at the floor: stored');
is($worker->arm('0/999'), 1, 'arm finds the guard');
is($worker->fill('k', 'v', '0/180'), 1, 'and leaves its floor alone');

# ---- apply
$redis->mset(k => 'v', other => 'v', "b\0\r\n\xff{*" => 'v');
is_deeply($worker->apply('0/200', 'k', "b\0\r\n\xff{*", 'absent'), [ 2, 0, 1 ], 'apply deletes');
is_deeply([ $redis->keys ], ['other'], 'binary keys too, nothing else');
is($redis->get($position), $worker->{position}, 'and writes the position');
is($worker->fill('k', 'v', '0/1FF'), 0, 'the bucket refuses what was read before');
is($worker->fill("b\0\r\n\xff{*", 'v', '0/1FF'), 0, 'of a binary key too');
is($worker->fill('k', 'v', '0/200'), 1, 'and admits what saw the commit');
is($worker->fill('unrelated', 'v', '0/1FF'), 1, 'other buckets are as they were');
$worker->apply('0/190', 'k');
is($worker->fill('k', 'v', '0/1FF'), 0, 'a later batch with a lower LSN lowers no bucket');
is($worker->fill('k', 'v', '0/200'), 1, 'nor does it raise it above what was delivered');
$worker->apply('1/0', 'wide');
is($worker->fill('wide', 'v', '0/FFFFFFFF'), 0, 'LSN compared as 64 bits');
is($worker->fill('wide', 'v', '1/0'), 1, 'not as text');

# A key's bucket is made in two ways, by length; both of any bytes.
my @lengths = map { (chr(255) x $_, join('', map { chr(7 * $_ % 256) } 1 .. $_)) } 1 .. 40, 8192;
$worker->apply('1/100', @lengths[ 0 .. 79 ]);
$worker->apply('1/100', @lengths[ 80, 81 ]);
is(scalar(grep { $worker->fill($_, 'v', '1/FF') ne '0' } @lengths), 0, 'keys of every length: refused');
is(scalar(grep { $worker->fill($_, 'v', '1/100') ne '1' } @lengths), 0, '... and admitted');

$redis->mset(k => 'v');
is_deeply($worker->apply('+1/80', 'k'), [ 1, 0, 1 ], 'a coarse batch deletes its keys');
is($worker->fill('unrelated', 'v', '1/7F'), 0, 'and raises the floor');
is($worker->fill('unrelated', 'v', '1/80'), 1, 'to its LSN');

my @many = map { "many:$_" } 1 .. 2500;
$redis->mset(map { $_ => 'v' } @many);
is_deeply($worker->apply('2/0', @many), [ 2500, 0, 1 ], 'thousands of keys in one call');
is($worker->fill($_, 'v', '1/FFFFFFFF'), 0, "$_ guarded, by the floor") foreach @many[ 0, 1300, 2499 ];
is($worker->fill('unrelated', 'v', '1/FFFFFFFF'), 0, 'and so is everything else: the call stays short');
is($worker->fill('many:1', 'v', '2/0'), 1, 'and fillable by whoever saw the commit');

# ---- refusals: expected position, nonce
my $good = $worker->{position};
$worker->{position} = 'something else';
refused('CA_POSITION', 'apply on another position', sub { $worker->apply('3/0', 'many:1') });
refused('CA_POSITION', 'arm on another position', sub { $worker->arm('3/0') });
refused('CA_POSITION', 'epoch on another position', sub { $worker->epoch('3/0', 1) });
$worker->{position} = $good;
my @replies = $redis->pipeline(
	map { [ 'FCALL', 'cache_aside_apply_1', 3, $position, $guard, 'many:1', $worker->{nonce}, @$_ ] }
	  [ 'wrong', "$good+", '3/0' ],
	[ "$good+", "$good++", '3/0' ]);
like("@replies", qr/^CA_POSITION .* CA_POSITION /, 'a failed call stops the ones pipelined behind');
ok($redis->exists('many:1'), 'so the key of the second is still there');

my $nonce = $worker->{nonce};
$worker->{nonce} = '0' x 16;
refused('CA_NONCE', 'apply with a foreign nonce', sub { $worker->apply('3/0', 'many:1') });
refused('CA_NONCE', 'arm with a foreign nonce', sub { $worker->arm('3/0') });
refused('CA_NONCE', 'epoch with a foreign nonce', sub { $worker->epoch('3/0', 0) });
$worker->{nonce} = $nonce;

refused('CA_ARGUMENT', 'claim with a short nonce', sub { $worker->call('claim', [ $position, $guard ], 'short', 1, '', '0') });
refused('CA_ARGUMENT', 'claim without a timeline', sub { $worker->call('claim', [ $position, $guard ], $nonce, 'x', '', '0') });

# ---- epoch
is($worker->epoch('4/0', 0), 1, 'epoch');
like($redis->get($position), qr/pending/, 'says pending');
is($worker->fill('unrelated', 'v', '3/FFFFFFFF'), 0, 'raises the floor');
is($worker->fill('unrelated', 'v', '4/0'), 1, 'to the given LSN');
$worker->apply('9/0', 'k');
$worker->epoch('5/0', 0);
is($worker->fill('k', 'v', '8/0'), 0, 'buckets kept');
$worker->epoch('4/0', 0);
is($worker->fill('unrelated', 'v', '4/FFFFFFFF'), 0, 'a floor never falls');
$worker->epoch('5/0', 1);
is($worker->fill('k', 'v', '5/0'), 1, 'buckets cleared');

# Its own past: the header is another after each raise, of buckets and of the floor.
foreach my $raise ('5/10', '+5/40')
{
	my $dump = $redis->command('DUMP', $guard);
	$worker->apply($raise, 'k');
	is($worker->fill('other', 'v', '5/FFFF'), 1, "raised by $raise: known");
	$redis->command('RESTORE', $guard, 0, $dump, 'REPLACE');
	is($worker->fill('other', 'v', '5/FFFF'), 0, '... and as it was before: refused');
	is_deeply($worker->apply('5/50', 'k'), [ 0, 0, 0 ], '... nothing is raised in it');
	ok($worker->arm('5/30'), '... until it is made anew');
}
$worker->epoch('5/0', 1);

# ---- another timeline
my $successor = HandWorker->new($redis, timeline => 2);
refused('CA_OCCUPIED', 'a newer timeline that was not announced', sub { $successor->claim });
$successor->announce(3);
refused('CA_OCCUPIED', 'nor one that streams another', sub { $successor->claim });
$successor->announce;
my $claimed = $successor->claim;
is_deeply([ @$claimed[ 1, 2, 3, 4 ] ], [ 1, $worker->{position}, 1, '5/0' ], 'a successor sees all');
is($worker->fill('k', 'v', '5/0'), 0, 'fills stop when somebody claims');
ok(!$redis->exists($guard), 'what is remembered of a guard of another timeline counts for nothing');
is($successor->epoch('4/F0', 1), 1, 'its epoch');
is($successor->arm('4/F0'), 1, 'and arm');
is($successor->fill('k', 'v', '5/0', timeline => 1), 0, 'tokens of the old timeline are refused');
is($successor->fill('k', 'v', '4/F0'), 1, 'those of the new admitted though their LSN is lower');
refused('CA_NONCE', 'the old worker, still connected', sub { $worker->apply('9/0', 'k') });
refused('CA_FENCED', 'the old worker, connecting again', sub { $worker->claim });
is($successor->fill('k', 'v', '4/F0'), 1, 'which does not disarm the successor');
$redis->del($position);
refused('CA_FENCED', 'the guard alone fences', sub { $worker->claim });
$redis->del($guard);
$redis->set($position, $successor->{position});
refused('CA_FENCED', 'the position alone fences', sub { $worker->claim });

# ---- nonsense under our names
foreach my $type ([ 'SET', $position, '99 red balloons' ], [ 'LPUSH', $position, 'x' ])
{
	$redis->del($position);
	$redis->command(@$type);
	is($successor->claim->[1], $type->[0] eq 'SET' ? 1 : 0, "position made by $type->[0]: claimed");
	is(ref $successor->apply('5/0'), 'ARRAY', 'and replaced');
}
$redis->del($guard);
$redis->command('LPUSH', $guard, 'x');
is($successor->claim->[3], 0, 'a guard that is a list is none');
is($successor->fill('k', 'v', '9/0'), 0, 'refuses');
is_deeply($successor->apply('5/0', 'k'), [ 1, 0, 0 ], 'does not stop delivery');
is($successor->arm('6/0'), 2, 'and is replaced');
$redis->set($guard, 'CAG1');
is_deeply($successor->apply('6/0', 'k'), [ 0, 0, 0 ], 'so is one that was cut');
is($successor->fill('k', 'v', '9/0'), 0, 'which refuses');
$successor->arm('6/0');

# ---- guard = off: a guard that nobody raises must not admit
is_deeply($successor->apply('', 'k'), [ 0, 0, 0 ], 'apply without an LSN');
ok(!$redis->exists($guard), 'takes the guard away');

# ---- sticks
$redis->command('LPUSH', 'cache_aside:stick:bad', 'x');
is_deeply($successor->apply('7/0', 'k', [ map { ('cache_aside:stick:' . $_->[0], @$_[ 1, 2 ]) }
			[ u1 => '7/0', 30000 ], [ bad => '7/0', 1000 ], [ u2 => '7/0', 5000 ] ]),
	[ 0, 1, 0 ], 'a stick of the wrong type is counted and skipped');
is($redis->get('cache_aside:stick:u1'), '7/0', 'stick before it');
is($redis->get('cache_aside:stick:u2'), '7/0', 'and behind it');
ok($redis->ttl('cache_aside:stick:u1') > 20000, 'with its expiry');
$successor->apply('7/1',
	[ 'cache_aside:stick:u1' => '6/FF', 30000, 'cache_aside:stick:u2' => 'A/0', 5000 ]);
is($redis->get('cache_aside:stick:u1'), '7/0', 'never backwards');
is($redis->get('cache_aside:stick:u2'), 'A/0', 'forwards, as a number');

done_testing();
