# Readers of a key that nobody can fill do not wait for each other: ten of them, 40 ms for each read of
# the database, leases of 2 s. Before, half of the reads took the lease time where nothing was given back,
# and the other readers' turns where fills were refused.
#
# Remedy: end_lease() in library/leases.lua, with `held[3] * WIDER`.
use strict;
use warnings;

use HandWorker;
use List::Util qw(max sum);
use POSIX ();
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $worker = HandWorker->new($redis);
$worker->claim;
$worker->arm('0/100');
my ($readers, $reads, $takes, $lease_ms) = (10, 8, 0.04, 2000);

# As docs/fills.md says: whoever gets a lease reads and fills, or releases; the others look again.
sub read_once
{
	my ($client, $key, $store, $leases) = @_;
	my $begun = time;
	for (my $pause = 0.002; ; $pause = $pause < 0.025 ? 2 * $pause : 0.05)
	{
		my $found = $client->command('FCALL', 'cache_aside_get', 1, $key, $leases ? $lease_ms : 0);
		last if defined $found && !ref $found;
		if ($leases && !defined $found && time < $begun + $lease_ms / 1000)
		{
			select undef, undef, undef, $pause * (0.5 + rand);
			next;
		}
		select undef, undef, undef, $takes;
		$store->($client, $key, ref $found ? $found->[0] : '');
		last;
	}
	return 1000 * (time - $begun);
}

# Times of all reads, in order.
sub read_times
{
	my ($key, $store, $leases) = @_;
	my @pipes = map {
		my $pid = open(my $fh, '-|') // die "fork: $!";
		if ($pid == 0)
		{
			srand;
			my $client = $redis->client;
			syswrite STDOUT, read_once($client, $key, $store, $leases) . "\n" foreach 1 .. $reads;
			POSIX::_exit(0);
		}
		$fh;
	} 1 .. $readers;
	return sort { $a <=> $b } map { <$_> } @pipes;
}

my $old = $worker->token('0/1');
my %stores = (
	'a refused fill' => sub { $_[0]->command('FCALL', 'cache_aside_fill', 1, $_[1], 'v', 1000, $old, $_[2]) },
	'a release' => sub { $_[0]->command('FCALL', 'cache_aside_release', 1, $_[1], $_[2]) },
	'a key of another type' => sub { $_[0]->try('FCALL', 'cache_aside_fill', 1, $_[1], 'v', 'x', $worker->token('0/100'), $_[2]) });
my @plain = read_times('plain', sub { }, 0);
foreach my $name (sort keys %stores)
{
	my @times = read_times($name, $stores{$name}, 1);
	is(scalar @times, $readers * $reads, "$name: every read ended");
	my $p50 = $times[ @times / 2 ];
	note sprintf '%s: p50 %.0f ms, most %.0f ms; without leases %.0f, %.0f', $name, $p50, $times[-1], @plain[ @plain / 2, -1 ];
	cmp_ok($p50, '<', 3 * 1000 * $takes, '... half of them in about the time of one');
	cmp_ok($times[-1], '<', $lease_ms, '... none in the time of a lease');
}

# And a herd is still one reader: the first stores.
my $good = $worker->token('0/100');
my @herd = read_times('herd', sub { $redis->client->command('INCR', 'reads');
	$_[0]->command('FCALL', 'cache_aside_fill', 1, $_[1], 'v', 60000, $good, $_[2]) }, 1);
is($redis->get('reads'), 1, 'of those that miss at once, one reads');
done_testing();
