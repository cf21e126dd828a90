# Leases end when nothing is stored under them, readers do not queue for a key that nobody can fill, and
# a hit is served by whatever Redis there is: full, a replica, one that lacks replicas or a disk.
#
# Remedies, in src/delivery/library: end_lease() in release (get.lua) and fill_one (fill.lua; without, the next reader
# waits for the lease time), `held[3] * WIDER` there (without, readers go one by one), 'no-writes' of get,
# get_many and release (without, a full Redis takes leases, or the replica refuses), drop_leases() in
# end_lease() for what was stored, leases_of()'s look at the time.
use strict;
use warnings;

use HandWorker;
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(port => 1)->start;
my $worker = HandWorker->new($redis);
$worker->claim;
$worker->arm('0/100');
my ($good, $old) = ($worker->token('0/100'), $worker->token('0/1'));

sub lease { return $worker->get(shift, 20000); }
sub kind { my $l = shift; return !defined $l ? 'wait' : !ref $l ? 'hit' : $l->[0] eq '' ? 'open' : 'lease'; }

# How many of n readers get a lease, are let in without, have to wait.
sub rush
{
	my ($key, $n) = @_;
	my %kinds = (lease => 0, open => 0, wait => 0);
	$kinds{ kind(lease($key)) }++ foreach 1 .. $n;
	return join ' ', map { "$_ $kinds{$_}" } sort keys %kinds;
}

# ---- every way to store nothing
my %ways = (
	release => sub { $worker->call('release', [ $_[0] ], $_[1]) },
	'a refused fill' => sub { $worker->call('fill', [ $_[0] ], 'v', 1000, $old, $_[1]) },
	'a fill of another timeline' => sub { $worker->call('fill', [ $_[0] ], 'v', 1000, $worker->token('0/100', 2), $_[1]) },
	'a bad token' => sub { $worker->call('fill', [ $_[0] ], 'v', 1000, 'x', $_[1]) },
	'a bad time to live' => sub { $worker->call('fill', [ $_[0] ], 'v', 'x', $good, $_[1]) },
	'fill_many' => sub { $worker->call('fill_many', [ 'other', $_[0] ], 1000, $old, 'v', 'v', '', $_[1]) },
	'fill_many, a bad token' => sub { $worker->call('fill_many', [ $_[0] ], 1000, 'x', 'v', $_[1]) },
	'fill_many, a bad time' => sub { $worker->call('fill_many', [ $_[0] ], 'x', $good, 'v', $_[1]) });
foreach my $way (sort keys %ways)
{
	my $key = "by $way";
	my $lease = lease($key)->[0];
	is(rush($key, 3), 'lease 0 open 0 wait 3', "$way: one has the lease");
	$ways{$way}->($key, "x$lease");
	is(rush($key, 3), 'lease 0 open 0 wait 3', '... which only its holder ends');
	$ways{$way}->($key, $lease);
	my $next = lease($key);
	is(kind($next), 'lease', '... and it did');
	is(rush($key, 10), 'lease 7 open 0 wait 3', '... then eight may try at once');
	$ways{$way}->($key, $next->[0]);
	is(rush($key, 10), 'lease 0 open 10 wait 0', '... and when that is no use, everybody');
}
my $wrong = lease('list')->[0];
$redis->command('RPUSH', 'list', 'x');
like($worker->call('fill', ['list'], 'v', 1000, $good, $wrong), qr/^WRONGTYPE/, 'a key of another type');
$redis->del('list');
is(kind(lease('list')), 'lease', '... ends it too');
is($worker->call('release', [ 'a', 'b' ], lease('a')->[0], lease('b')->[0]), 2, 'release takes many');
is($worker->call('release', [ 'a', 'b' ], '', 'x'), 0, '... and says how many were held');
like($worker->call('release', @$_), qr/^CA_ARGUMENT/, 'release with too few or too many')
  foreach [ ['a'] ], [ [ 'a', 'b' ], 'x' ], [ [], 'x' ];
is(kind(lease($_)), 'lease', 'one more of a') foreach ('a') x 2;

# ---- a value ends it all
is($worker->call('fill', ['by release'], 'v', 1000, $good, ''), 1, 'one of everybody stores');
$redis->del('by release');
is(rush('by release', 3), 'lease 1 open 0 wait 2', '... and one is enough again');
my $closing = time;
is($worker->call('release', ['soon'], $worker->get('soon', 1000)->[0]), 1, 'twice') foreach 1 .. 2;
is(kind(lease('soon')), 'open', '... nothing stored');
ok($redis->wait_until(sub { kind(lease('soon')) eq 'lease' }), 'time ends it as well');
cmp_ok(time - $closing, '>', 0.9, '... a second');
my $still = kind(lease('by a bad token'));
is_deeply([ $redis->keys('cache_aside:lease*') ], [], 'leases are no keys');

# ---- a Redis that takes no writes serves reads
my $replica = RedisServer->new(port => 1)->start;
$redis->set('hit', 'v');
$replica->replicaof($redis);
sub serves
{
	my ($name, $server) = @_;
	foreach my $call ('FCALL', 'FCALL_RO')
	{
		my $ask = sub { return ($server->client->pipeline([ $call, @_ ]))[0] };
		is($ask->('cache_aside_get', 1, 'hit', 2000), 'v', "$name: a hit by $call");
		my $miss = "$name $call";
		my $many = $ask->('cache_aside_get_many', 2, 'hit', $miss, 2000);
		is($many->[0], 'v', '... one of many');
		is(kind($many->[1]), 'lease', '... a lease');
		is($ask->('cache_aside_get', 1, $miss, 2000), undef, '... for one');
		is($ask->('cache_aside_release', 1, $miss, $many->[1][0]), 1, '... which is released');
	}
}
serves('a master', $redis);
serves('a replica', $replica);
$redis->config_set('min-replicas-to-write', 5);
like($worker->fill('k', 'v', '0/100'), qr/^NOREPLICAS/, 'no replicas: no fill');
serves('without replicas', $redis);
$redis->config_set('min-replicas-to-write', 0);
$redis->config_set('maxmemory-policy', 'noeviction');
my $size = $redis->dbsize;
$redis->config_set('maxmemory', 1);
like($worker->fill('k', 'v', '0/100'), qr/^OOM/, 'full: no fill');
serves('full', $redis);
is($redis->dbsize, $size, '... and nothing was written');
$redis->config_set('maxmemory', 0);
done_testing();
