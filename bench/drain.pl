# Draining a backlog: the worker is stopped, a million keys are invalidated in a thousand
# transactions, and the clock runs from the moment it continues until Redis holds none of them. Against
# redis-benchmark's pipelined UNLINK of one key per command in the same Redis, at its best number of
# connections: it deletes at random, so that about six of ten of its commands find their key.
use strict;
use warnings;
use Bench;
use List::Util qw(max);
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $n = scaled(1_000_000, 50_000);
my $keys = numbered('k:', $n, 12);

sub drain
{
	my $worker = $pg->worker_pid;
	my $others;
	return proved('drain',
		keys => $keys,
		prepare => sub {
			freeze($worker);
			$sql->query("SELECT cache_aside.invalidate(VARIADIC array_agg('k:' || lpad(i::text, 12, '0')))"
				  . " FROM generate_series($_ * 1000 + 1, $_ * 1000 + 1000) i")
			  foreach 0 .. $n / 1000 - 1;
			cache_numbered($keys);
			$others = $redis->dbsize - $n;
		},
		run => sub {
			my $start = time;
			thaw($worker);
			# a few more: the worker's own keys come and go
			select undef, undef, undef, 0.002 while !spoiled() && $redis->dbsize > $others + 4;
			return ($n / (time - $start), commits => $n / 1000, gone => $n);
		});
}

sub unlink_with
{
	my ($connections) = @_;
	return proved("UNLINK, $connections connections",
		keys => $keys,
		prepare => sub { cache_numbered($keys) },
		run => sub {
			my $command = 'redis-benchmark -s ' . $redis->socket
			  . " -n $n -r $n -P 100 -c $connections -q UNLINK k:__rand_int__ 2>&1";
			my $out = join '', `$command`;
			my ($rate) = $out =~ /.*:\s*([\d.]+) requests per second/s or die $out;
			return ($rate, gone => '>= ' . int($n * 0.6));
		});
}

title('Backlog of ' . commas($n) . ' keys');
my ($drained, $unlinked) = paired(
	scaled(3, 1),
	[ 'drained, keys/s', \&drain ],
	[ 'redis-benchmark UNLINK, keys/s', sub { max(map { unlink_with($_) } 1, 4, 50) } ]);
verdict('ratio of medians', $drained / $unlinked, '>=', 1.0);
