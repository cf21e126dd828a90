# What the function library accepts as names, and what it keeps of them: the worker's calls take a
# position and a guard of one cluster only, applications' calls no reserved key, and whatever is called
# with whatever names, the memory of the library is bounded.
#
# Remedies, in src/delivery/library: misnamed(), is_cacheable(), the loop over keys in apply, the names of
# sticks there, make_room() and note_use(), the lengths in parse_token().
use strict;
use warnings;

use HandWorker;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $worker = HandWorker->new($redis);
my ($position, $guard) = ($worker->position_key, $worker->guard_key);
my $nonce = 'n' x 16;

# What the library and its garbage hold: there is no command that collects it.
sub lua_memory { return $redis->info('used_memory_vm_functions'); }

# ---- names of the worker's calls
my $long = '1' x 21;
foreach my $keys (
	[], [$position], [ $guard, $position ], [ 'user:1', 'user:2' ], [ $position, 'user:2' ],
	[ 'user:1', $guard ], [ $position, 'cache_aside:guard:1' ], [ "${position}x", "${guard}x" ],
	[ "cache_aside:position:$long", "cache_aside:guard:$long" ],
	[ 'cache_aside:position:', 'cache_aside:guard:' ],
	[ "x$position", $guard ],
	[ "$position\n", "$guard\n" ])
{
	foreach my $call ([ 'claim', $nonce, 1 ], [ 'epoch', $nonce, '', 'p', '0/1', 1 ],
		[ 'arm', $nonce, '', '0/1', 1 ], [ 'renew', $nonce, 1 ], [ 'disarm', $nonce ], [ 'apply', $nonce, '', 'p', '0/1' ])
	{
		my ($name, @args) = @$call;
		like($worker->call($name, $keys, @args), qr/^CA_ARGUMENT KEYS/, "$name of (@$keys)");
	}
}
is_deeply([ $redis->keys('cache_aside:*') ], [], 'nothing was written');
foreach my $timeline ('', 'x', '-1', '1e9', '0x10', '4294967296', '9' x 400)
{
	like($worker->call('claim', [ $position, $guard ], $nonce, $timeline, '', '0'), qr/^CA_ARGUMENT/, "timeline $timeline");
}
like($worker->call('claim', [ $position, $guard ], @$_), qr/^CA_ARGUMENT/, 'claim with ' . @$_ . ' arguments')
  foreach [], [$nonce], [ $nonce, 1, 2, 3 ], [ $nonce, 1, '' ], [ $nonce, 1, '', 's' x 65 ], [ $nonce, 1, '', 0, 0 ];
$worker->claim;
$worker->arm('0/100');
like($worker->call('epoch', [ $position, $guard ], $worker->{nonce}, '', 'p'), qr/^CA_ARGUMENT/, 'epoch cut short');
like($worker->call('arm', [ $position, $guard ], $worker->{nonce}), qr/^CA_ARGUMENT/, 'arm cut short');
like($worker->call('apply', [ $position, $guard ], $worker->{nonce}), qr/^CA_ARGUMENT/, 'apply cut short');
like($worker->call('renew', [ $position, $guard ], $worker->{nonce}, $_), qr/^CA_ARGUMENT/, "renew until '$_'")
  foreach '', 'x', '-1', '1e9', '9' x 400;
like($worker->call('renew', [ $position, $guard ], 'x' x 16, 1), qr/^CA_NONCE/, 'renew by another');

# ---- reserved keys
my $token = $worker->token('1/0');
is($worker->call('fill', ['warm-up'], 'v', 600000, $token), 1, 'fills are admitted');
foreach my $key ($position, $guard, 'cache_aside:', 'cache_aside:x', 'cache_aside:stick:a', 'k' x 8193)
{
	my $name = substr $key, 0, 30;
	my $before = $redis->command('DUMP', $key);
	like($worker->call('get', [$key], $_), qr/^CA_ARGUMENT/, "get $name, lease $_") foreach 0, 1000;
	like($worker->call('fill', [$key], 'v', 1000, $token), qr/^CA_ARGUMENT/, "fill $name");
	like($worker->call('fill', [$key], 'v', 1000, $token, 'lease'), qr/^CA_ARGUMENT/, 'with a lease');
	like($worker->call('fill', [$key], 'v', 1000, $worker->token('0/1')), qr/^CA_ARGUMENT/, 'with an old token');
	my ($got) = $worker->call('get_many', [ 'warm-up', $key ], 1000);
	is("@$got[0]", 'v', 'get_many: the other key');
	like("@$got[1]", qr/^CA_ARGUMENT/, "and $name");
	my ($filled) = $worker->call('fill_many', [ 'other', $key ], 1000, $token, 'v', 'v', '', 'lease');
	is("@$filled[0]", 1, 'fill_many: the other key');
	like("@$filled[1]", qr/^CA_ARGUMENT/, "and $name");
	is($redis->command('DUMP', $key), $before, 'and it is as it was');
}
is($worker->fill($_, 'v', '1/0'), 1, "$_ is nobody's") foreach 'cache_aside', 'cache_aside;', 'c', 'Cache_aside:x', 'k' x 8192;
like($worker->apply('0/200', 'k', $_), qr/^CA_ARGUMENT/, "apply deletes no $_") foreach $position, $guard, 'cache_aside:x';
is(ref $worker->apply('0/200', 'c', 'cache_aside'), 'ARRAY', 'anything else');
like($worker->apply('0/200', 'k', [ $_, '1/0', 1000 ]), qr/^CA_ARGUMENT/, "a stick is not $_")
  foreach 'user:1', $guard, 'cache_aside:stic', 'Cache_aside:stick:a';
is($worker->fill('k', 'v', '0/200'), 1, 'and the guard was left alone');

# ---- clusters: the library knows 16, and forgets the one that was used least recently
my @clusters = map { HandWorker->new($redis, system => $_, prefix => $_) } 1 .. 15;
foreach my $cluster (@clusters)
{
	$cluster->claim;
	$cluster->arm('0/100');
}
is($_->fill("of $_->{system}", 'v', '0/100'), 1, "cluster $_->{system} fills") foreach @clusters, $worker;
$worker->apply('0/300', 'k');
my $another = HandWorker->new($redis, system => 99, prefix => 99);
$another->claim;
$another->arm('0/100');
is($another->fill('x', 'v', '0/100'), 1, 'a seventeenth fills');
is($clusters[0]->fill('x', 'v', 'FF/0'), 0, 'the one that was used least recently is refused');
like($clusters[0]->apply('0/400', 'x'), qr/^CA_NONCE/, 'and its worker told to connect again');
is($_->fill("of $_->{system}", 'w', '0/300'), 1, "cluster $_->{system} still fills") foreach @clusters[ 1 .. 14 ], $worker;
$clusters[0]->claim;
ok(!$redis->exists($clusters[0]->guard_key), 'its claim deletes the guard that is not known any more');
is($clusters[0]->arm('0/500'), 2, 'arming makes it anew');
is($clusters[0]->fill('x', 'v', '0/4FF'), 0, 'with the floor of now');
is($clusters[0]->fill('x', 'v', '0/500'), 1, 'and it fills');

# ---- a million names, huge arguments
# Sends the command `count` times, with another number in the place of each %d.
sub flood
{
	my ($name, $count, @command) = @_;
	my $before = lua_memory();
	my $highest = 0;
	my $numbers = () = "@command" =~ /%d/g;
	my $format = join '', map { my $n = length($_) + 6 * (() = /%d/g); "\$$n\r\n$_\r\n" } @command;
	$format = '*' . @command . "\r\n" . $format =~ s/%d/%08d/gr;
	foreach my $part (0 .. 4)
	{
		open my $pipe, '|-', "redis-cli -s @{[ $redis->socket ]} --pipe >/dev/null 2>&1" or die $!;
		printf $pipe $format, ($_) x $numbers foreach $part * $count / 5 + 1 .. ($part + 1) * $count / 5;
		close $pipe;
		my $now = lua_memory();
		$highest = $now if $now > $highest;
	}
	note sprintf '%s: %.1f MB before, %.1f MB at most', $name, $before / 1e6, $highest / 1e6;
	return cmp_ok($highest, '<', 20e6, "$name: the memory of functions is bounded");
}
$redis->command('CONFIG', 'RESETSTAT');
flood('a million pairs of any names', 1_000_000, qw(FCALL cache_aside_claim_1 2 user:p%d user:g%d), $nonce, 1);
flood('clusters', 20_000, qw(FCALL cache_aside_claim_1 4 cache_aside:position:%d cache_aside:guard:%d cache_aside:standby:x cache_aside:writer:%d),
	$nonce, 1, '', 0, 0, $nonce);
flood('scopes', 20_000, qw(FCALL cache_aside_claim_1 4), $position, $guard, qw(cache_aside:standby:x cache_aside:writer:%d),
	$nonce, 1, '', '%d', 0, $nonce);
flood('tokens', 100_000, qw(FCALL cache_aside_fill 1 k v 1000 %d-1-0/%d));
flood('leases', 100_000, qw(FCALL cache_aside_get 1 lease%d 60000));
my ($calls) = $redis->info('cmdstat_fcall') =~ /^calls=(\d+)/;
is($calls, 1_240_000, 'every call was made');
is($worker->get('lease00100000', 60000), undef, 'to the last');
is(ref $worker->get('lease00000001', 60000), 'ARRAY', 'the first leases are forgotten');
is_deeply([ $redis->keys('cache_aside:lease*') ], [], 'and none is a key');
my $huge = '1' x 20_000_000;
$redis->pipeline(
	[ 'FCALL', 'cache_aside_fill', 1, 'k', 'v', 1000, $huge ],
	[ 'FCALL', 'cache_aside_fill', 1, 'k', 'v', 1000, $token, $huge ],
	[ 'FCALL', 'cache_aside_fill', 1, $huge, 'v', 1000, $token ],
	[ 'FCALL', 'cache_aside_get', 1, 'k', $huge ],
	[ 'FCALL', 'cache_aside_claim_1', 2, "cache_aside:position:$huge", "cache_aside:guard:$huge", $nonce, 1 ],
	[ 'FCALL', 'cache_aside_claim_1', 2, $position, $guard, $nonce, $huge, '', 0 ],
	[ 'FCALL', 'cache_aside_claim_1', 2, $position, $guard, $nonce, 1, '', $huge ],
	[ 'FCALL', 'cache_aside_fill', 1, 'k', 'v', 1000, "$huge-1-0/1" ]) foreach 1 .. 3;
flood('after huge arguments', 10_000, qw(FCALL cache_aside_get 1 k 0));
ok($redis->command('PING'), 'Redis is there');
done_testing();
