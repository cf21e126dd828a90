# cache_aside.synchronous: what waiting for the deletion costs. 8 clients: throughput against the same
# table without a rule, all on the same cores as Redis and the worker. One client: what is added to
# the time of a commit. A: no rule. B: a rule, asynchronous. C: a rule, synchronous.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $seconds = scaled(8, 1);
my $scale = scaled(10, 1);
my $script = $redis->dir . '/update.sql';
my $samples = scaled(3000, 200);

sub tps
{
	my $out = join '',
	  `pgbench -n -M prepared -c 8 -j 2 -T $seconds -f $script @{[ $pg->options ]} postgres 2>&1`;
	my ($tps) = $out =~ /tps = ([\d.]+)/ or die $out;
	delivered($sql);
	return $tps;
}

sub with_rule
{
	my ($code, $options) = @_;
	$sql->query("SELECT cache_aside.attach('pgbench_accounts', 'account:{aid}')");
	local $ENV{PGOPTIONS} = $options // '';
	my $result = $code->();
	$sql->query("SELECT cache_aside.detach('pgbench_accounts')");
	return $result;
}

# Median time of one UPDATE, in ms, as its client sees it.
sub latency
{
	my $client = $pg->connect(options => { options => $ENV{PGOPTIONS} // '' });
	my @ms;
	foreach my $i (1 .. $samples)
	{
		my $start = time;
		$client->query('UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = ' . (1 + 7 * $i));
		push @ms, 1000 * (time - $start);
	}
	$client->close;
	delivered($sql);
	return median(@ms);
}

my $sync = '-c cache_aside.synchronous=on';
title('Synchronous commit of invalidations');
open my $fh, '>', $script or die $!;
print $fh "\\set aid random(1, 100000 * :scale)\n",
  "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n";
close $fh;
system("pgbench -i -q -s $scale @{[ $pg->options ]} postgres >/dev/null 2>&1") == 0 or die;

my ($without, $async, $waiting) = paired(
	scaled(5, 1),
	[ '8 clients, TPS without a rule', \&tps ],
	[ 'with a rule', sub { with_rule(\&tps) } ],
	[ 'synchronous', sub { with_rule(\&tps, $sync) } ]);
verdict('synchronous / without', $waiting / $without, '>=', 0.75);
note_line('with a rule / without', sprintf '%.2f', $async / $without);
my ($bare, $rule, $added) = paired(
	scaled(5, 1),
	[ '1 client, p50 ms without a rule', \&latency ],
	[ 'with a rule', sub { with_rule(\&latency) } ],
	[ 'synchronous', sub { with_rule(\&latency, $sync) } ]);
verdict('added to a commit, p50 ms', $added - $bare, '<', 0.15, '%.3f');
note_line('of that the rule itself, ms', sprintf '%.3f', $rule - $bare);
