# A guard that was away while keys were deleted is not known when it comes back: by MOVE, RENAME,
# SWAPDB, RESTORE. What this process remembers of it went when it was missed.
#
# Remedies: forget_guard() in guard_batch (library/apply.lua; without it: stale values), in epoch (admission.lua)
# and in claim (handshake.lua); the same in the model, 'a guard that comes back' (test/model/configurations.py).
use strict;
use warnings;

use HandWorker;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $worker = HandWorker->new($redis);
my $guard = $worker->guard_key;
my $dump;
my %away = (
	RENAME => [ sub { $redis->command('RENAME', $guard, 'x') }, sub { $redis->command('RENAME', 'x', $guard) } ],
	MOVE => [ sub { $redis->command('MOVE', $guard, 1) },
		sub { my $c = $redis->client(db => 1); $c->command('MOVE', $guard, 0) } ],
	RESTORE => [ sub { $dump = $redis->command('DUMP', $guard); $redis->del($guard) },
		sub { $redis->command('RESTORE', $guard, 4102444800000, $dump, 'ABSTTL', 'REPLACE') } ]);

# What happens while it is away, and must not be forgotten by a fill.
my %meanwhile = (
	apply => sub { $worker->apply('0/300', 'k') },
	'a large apply' => sub { $worker->apply('0/300', 'k', map { "k$_" } 1 .. 200) },
	epoch => sub { $worker->epoch('0/300', 0) },
	claim => sub { $worker->claim },
	'guard = off' => sub { $worker->apply('', 'k') });
foreach my $way (sort keys %away)
{
	foreach my $what (sort keys %meanwhile)
	{
		my $name = "$way, $what";
		$redis->flushall;
		$worker->{position} = '';
		$worker->claim;
		$worker->arm('0/100');
		$worker->apply('0/200', 'k');
		is($worker->fill('k', 'v', '0/200'), 1, "$name: admitted");
		$redis->del('k');
		$away{$way}[0]->();
		is($worker->fill('k', 'v', '0/200'), 0, '... refused while the guard is away');
		$meanwhile{$what}->();
		$away{$way}[1]->();
		is($worker->fill('k', 'v', '0/200'), 0, '... and when it is back');
		is($worker->arm('0/300'), 2, '... arming makes a new one');
		is($worker->fill('k', 'v', '0/2FF'), 0, '... with its floor');
		is($worker->fill('k', 'v', '0/300'), 1, '... which admits');
	}
}
done_testing();
