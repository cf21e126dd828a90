# Draining a backlog: the worker is stopped, a million keys are invalidated in a thousand
# transactions, and the clock runs from the moment it continues until Redis holds none of them. Against
# redis-benchmark's pipelined UNLINK of one key per command in the same Redis, at its best number of
# connections.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $keys = scaled(1_000_000, 50_000);
my $worker = $pg->worker_pid;

sub drain
{
	freeze($worker);
	$sql->query("SELECT cache_aside.invalidate(VARIADIC array_agg('k:' || lpad(i::text, 12, '0')))"
		  . " FROM generate_series($_ * 1000 + 1, $_ * 1000 + 1000) i")
	  foreach 0 .. $keys / 1000 - 1;
	cache_numbered($redis, 'k:', $keys);
	my $others = $redis->dbsize - $keys;
	my $start = time;
	thaw($worker);
	# a few more: the worker's own keys come and go
	select undef, undef, undef, 0.002 while $redis->dbsize > $others + 4;
	my $seconds = time - $start;
	delivered($sql);
	return $keys / $seconds;
}

sub benchmark
{
	my $best = 0;
	foreach my $connections (1, 4, 50)
	{
		cache_numbered($redis, 'k:', $keys);
		my $command = "redis-benchmark -s " . $redis->socket
		  . " -n $keys -r $keys -P 100 -c $connections -q UNLINK k:__rand_int__ 2>&1";
		my $out = join '', `$command`;
		my ($rate) = $out =~ /.*:\s*([\d.]+) requests per second/s or die $out;
		$best = $rate if $rate > $best;
	}
	return $best;
}

title('Backlog of ' . commas($keys) . ' keys');
my ($drained, $unlinked) = paired(
	scaled(3, 1),
	[ 'drained, keys/s', \&drain ],
	[ 'redis-benchmark UNLINK, keys/s', \&benchmark ]);
verdict('ratio of medians', $drained / $unlinked, '>=', 1.0);
