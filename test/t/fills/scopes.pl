# One process of Redis, several databases and whatever moves keys between them: claims of the library are
# per (guard, scope), and a fill is judged by the claim whose header it finds.
#
# Fails when claims go by the guard's name alone (take_over() in library/claims.lua, with `guard` for `name`):
# the second claim takes the nonce of the first. Fails when a header found under another guard's name counts
# (`mine.guard == token_guard` in guard_admits()), and when renew() extends an arming whose guard is gone.
use strict;
use warnings;

use HandWorker;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;

# A worker on database n of the process.
sub worker
{
	my ($n, %args) = @_;
	return HandWorker->new($redis->database($n), scope => $n, %args);
}

sub armed
{
	my ($worker, $floor) = @_;
	$worker->claim;
	$worker->arm($floor);
	return $worker;
}

# ---- two databases: two claims of one cluster
my ($zero, $one) = map { armed(worker($_), '0/100') } 0, 1;
is($_->fill('k', 'v', '0/100'), 1, "database $_->{scope} admits") foreach $zero, $one;
is(ref $zero->apply('0/200', 'k'), 'ARRAY', 'the first worker still has its claim');
is(ref $one->apply('0/300', 'k'), 'ARRAY', 'and so has the second');
is($zero->fill('k', 'v', '0/1FF'), 0, 'the bucket of the first');
is($zero->fill('k', 'v', '0/200'), 1, 'knows nothing of what the second delivered');
is($one->fill('k', 'v', '0/2FF'), 0, 'the bucket of the second');
is($one->fill('k', 'v', '0/300'), 1, 'admits its own');
is_deeply([ @{ $zero->claim }[ 5, 7 ] ], [ 1, 1 ], 'claimed again: the same process, the guard is known');
is($one->fill('k', 'v', '0/300'), 1, 'which takes nothing from the other');
$zero->arm('0/999');
is($zero->fill('k', 'v', '0/200'), 1, 'nor costs it its buckets');

# ---- SWAPDB: data, position and guard together; each worker finds the other's
$redis->command('SWAPDB', 0, 1);
like($_->apply('0/400', 'k'), qr/^CA_POSITION/, "swapped: worker $_->{scope} is stopped") foreach $zero, $one;
is($zero->renew($zero->now + 1000)->[0], 0, 'its arming is not renewed for data that it does not know');
is($one->fill('k', 'v', '0/300'), 0, 'nor elsewhere');
my $answer = $zero->claim;
is_deeply([ @$answer[ 1, 7 ] ], [ 1, 0 ], 'claimed: a position, and no guard that is known here');
ok(!$zero->{redis}->exists($zero->guard_key), 'which is deleted');
$one->claim;
$zero->arm('0/400');
$one->arm('0/400');
is($_->fill('k', 'v', '0/3FF'), 0, "made anew with the floor of now: $_->{scope}") foreach $zero, $one;

# ---- MOVE, COPY, RENAME, DUMP and RESTORE of the guard
$zero->{redis}->command('DEL', $zero->guard_key);
$one->{redis}->command('MOVE', $one->guard_key, 0);
is($one->fill('k', 'v', 'F/0'), 0, 'moved away: refused');
is($one->renew($one->now + 60_000)->[0], 0, 'and not renewed');
is($zero->fill('k', 'v', 'F/0'), 0, 'nor does it admit where it is now');
$zero->claim;
$zero->arm('0/500');
$zero->{redis}->command('COPY', $zero->guard_key, $one->guard_key, 'DB', 1, 'REPLACE');
my $dump = $zero->{redis}->command('DUMP', $zero->guard_key);
$zero->apply('0/600', 'k');
$zero->{redis}->command('RESTORE', $zero->guard_key, 0, $dump, 'REPLACE');
is($zero->fill('x', 'v', 'F/0'), 0, 'restored as it was: refused');
is($zero->claim->[7], 0, 'and a claim says so');

my $other = armed(worker(0, system => 5, prefix => 5), '0/1');
$zero->arm('0/700');
$zero->{redis}->command('RENAME', $other->guard_key, $zero->guard_key);
is($zero->fill('x', 'v', 'F/0'), 0, "another cluster's guard under this name admits nothing");

# ---- FLUSHDB, DEL of the position alone
$zero->claim;
$zero->arm('0/800');
$zero->{redis}->command('DEL', $zero->position_key);
like($zero->apply('0/900', 'k'), qr/^CA_POSITION/, 'the position is gone: nothing is delivered');
is_deeply([ @{ $zero->claim }[ 1, 7 ] ], [ 0, 1 ], 'absent, but the data are known');
$zero->{redis}->command('FLUSHDB');
is_deeply([ @{ $zero->claim }[ 1, 7 ] ], [ 0, 0 ], 'absent, and the data are not known');

# ---- disarm
$zero->arm('0/900');
is($zero->fill('x', 'v', '0/900'), 1, 'armed');
is_deeply($zero->disarm, [ 1, 2 ], 'disarmed; two other claims are alive');
is($zero->fill('x', 'v', 'F/0'), 0, 'refused from here on');
is_deeply($zero->disarm(1), [ 0, 0 ], 'once, and nothing is removed without a claim');
is($zero->{redis}->exists($zero->position_key, $zero->guard_key), 1, 'the guard is there (and no position was)');
like($zero->apply('0/A00', 'k'), qr/^CA_NONCE/, 'the claim is given up');
like($zero->arm('0/A00'), qr/^CA_NONCE/, 'and arms nothing');
is_deeply([ @{ $zero->claim }[ 5, 7 ] ], [ 1, 1 ], 'claimed again: nothing was forgotten');
$zero->arm('0/999');
is($zero->fill('x', 'v', '0/900'), 1, 'admitted');
is_deeply($zero->disarm(1), [ 1, 2 ], 'disarmed for good');
is($zero->{redis}->exists($zero->position_key, $zero->guard_key), 0, 'position and guard are gone');
is_deeply([ @{ $zero->claim }[ 1, 5, 7 ] ], [ 0, 0, 0 ], 'and so is the claim');

# ---- prefixes are compared as texts: none and one that it contains are two key spaces, as docs/limits.md says
my ($none, $long, $same) = map { worker(2, system => $_->[0], prefix => $_->[1]) } [ 6 => '0000000a' ], [ 7 => '0000000b' ], [ 8 => '0000000b' ];
armed($_, '0/100') foreach $none, $long;
is($_->fill('x:1', 'v', '0/100'), 1, "system $_->{system} admits") foreach $none, $long;
ref $long->apply('0/200', 'x:1') or die 'not applied';
is($none->fill('x:1', 'v', '0/100'), 1, 'and the first knows nothing of what the second deletes');
is($same->claim->[8], 0, 'a third one with the same prefix is second');
$long->apply('0/300', 'x:1');
$same->apply('0/300', 'x:1');
is($long->fill('x:1', 'v', '0/300'), 0, 'and what it deletes marks the key');

done_testing();
