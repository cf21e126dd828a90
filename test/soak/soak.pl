#!/usr/bin/perl
# soak.pl: `make soak MINUTES=n SEED=s` (or SECONDS=n); see Soak.pm. Ends with a table; 1 if a key was stale or lost.
# GUARDED=0 fills the cache with SETEX while the writers work: that must find stale keys.
# FAULTS='name name' allows only these; see SoakFaults.pm and SoakServerFaults.pm.
# MODE=sentinel: fail-overs behind Sentinels and nothing else (SoakSentinel.pm), and the time that each took, beside
# what the Sentinel clients of redis-py and ioredis need, where these are installed (NODE_PATH). What is told of deliveries is
# checked meanwhile (SoakWitness.pm). QUIET=early must find stale or lost keys.
use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../perl';
use RedisServer;
use Soak;
use SoakSentinel;

$| = 1;
die RedisServer->why_not . "\n" if RedisServer->why_not;
$SIG{$_} = sub { exit 1 } foreach qw(INT TERM);
my $sentinel = ($ENV{MODE} // '') eq 'sentinel';
my @pids;

sub start_clients
{
	my ($cluster) = @_;
	$cluster->witness($ENV{SEED} // 1);
	my $tree = File::Basename::dirname(__FILE__) . '/../clients';
	my $at = join ',', map { $_->address } $cluster->{set}->sentinels;
	my %commands = ('redis-py' => [ '/usr/bin/python3', "$tree/sentinel_redis_py.py" ], ioredis => [ 'node', "$tree/sentinel_ioredis.js" ]);
	my %files;
	foreach my $name (sort keys %commands)
	{
		my $test = $name eq 'ioredis' ? q{node -e "require('ioredis')"} : q{/usr/bin/python3 -c 'import redis'};
		next if system("$test 2>/dev/null") != 0;
		$files{$name} = $cluster->dir . "/$name";
		my $pid = fork // die "fork: $!";
		push(@pids, $pid), next if $pid;
		open STDOUT, '>', $files{$name};
		open STDERR, '>', '/dev/null';
		exec @{ $commands{$name} }, $cluster->{set}->name, $at or exit 1;
	}
	$cluster->clients(%files);
	return;
}

END { kill 'KILL', @pids if @pids; }

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ @sorted / 2 ];
}

my $soak = Soak->new(
	seconds => $ENV{SECONDS} || 60 * ($ENV{MINUTES} || 5),
	guarded => $ENV{GUARDED} // 1,
	faults => $sentinel ? [ SoakSentinel::names() ] : $ENV{FAULTS} ? [ split ' ', $ENV{FAULTS} ] : undef,
	$sentinel ? (cluster_class => 'SoakSentinel', standby => 0, began => \&start_clients, writers => 2, fillers => 3) : (),
	seed => $ENV{SEED} || 1 + int rand 1_000_000,
	report => sub { print "$_[0]\n" });
$soak->run;
my %witnessed = $sentinel ? $soak->{cluster}->witnessed : ();
print "\n" . $soak->table;
if ($sentinel)
{
	printf "%-34s %6d\n", "synchronous commits: $_", $witnessed{$_} foreach sort keys %witnessed;
	print "too early: $_" foreach $soak->{cluster}->told_too_early;
	my @recoveries = $soak->{cluster}->recoveries;
	foreach my $who ('worker', 'redis-py', 'ioredis')
	{
		my @seconds = grep { defined } map { $_->{$who} } @recoveries;
		printf "%-34s %6.2f s, median of %d\n", "from kill to writes again: $who", median(@seconds), scalar @seconds if @seconds;
	}
}
exit($soak->{stale} + $soak->{lost} + ($witnessed{early} // 0) > 0 ? 1 : 0);
