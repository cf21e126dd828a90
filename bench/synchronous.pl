# cache_aside.synchronous: what waiting for the deletion costs. 8 clients: throughput against the same
# table without a rule, all on the same cores as Redis and the worker. One client: what is added to
# the time of a commit. A: no rule. B: a rule, asynchronous. C: a rule, synchronous. The key of every
# account is cached; where commits are synchronous, it is claimed that each key is gone when its commit
# returns: nobody was told to go on without an answer.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $seconds = scaled(8, 1);
my $script = update_script();
my $samples = scaled(3000, 200);
my %options = ('a rule' => '', synchronous => '-c cache_aside.synchronous=on');

title('Synchronous commit of invalidations');
my $keys = numbered('account:', accounts(scaled(10, 1)));

# Runs `code` with what belongs to the mode set up around it: '', 'a rule' or 'synchronous'.
sub side
{
	my ($mode, $code) = @_;
	local $ENV{PGOPTIONS} = $options{$mode} // '';
	$sql->query("SELECT cache_aside.attach('pgbench_accounts', 'account:{aid}')") if $mode;
	delivered($sql);
	my $figure = proved($mode || 'without a rule',
		baseline => !$mode,
		keys => $keys,
		prepare => sub { cache_numbered($keys); delivered($sql); },
		run => $code);
	$sql->query("SELECT cache_aside.detach('pgbench_accounts')") if $mode;
	return $figure;
}

sub tps
{
	my ($mode) = @_;
	return side($mode, sub {
		my ($tps, $count) = pgbench("-c 8 -j 2 -T $seconds -f $script");
		my $left = $mode eq 'synchronous' ? count_numbered($keys) : 0;
		my $rows = $mode ? rows_of_run() : 0;
		return ($tps, commits => $mode ? $count : 0, gone => $rows,
			is => $mode eq 'synchronous' ? [ [ 'keys left when they returned', $left, $keys->{n} - $rows ] ] : []);
	});
}

# Median time of one UPDATE, in ms, as its client sees it.
sub latency
{
	my ($mode) = @_;
	return side($mode, sub {
		my $client = $pg->connect(options => { options => $ENV{PGOPTIONS} });
		my @ms;
		my $gone = 0;
		foreach my $aid (map { 1 + 7 * $_ } 1 .. $samples)
		{
			my $there = $redis->exists("account:$aid");
			my $start = time;
			$client->query("UPDATE pgbench_accounts SET abalance = -abalance - 1 WHERE aid = $aid");
			push @ms, 1000 * (time - $start);
			$gone++ if $mode eq 'synchronous' && $there && !$redis->exists("account:$aid");
		}
		$client->close;
		return (median(@ms), commits => $mode ? $samples : 0, gone => $mode ? $samples : 0,
			is => $mode eq 'synchronous' ? [ [ 'keys gone when COMMIT returned', $gone, $samples ] ] : []);
	});
}

my ($without, $async, $waiting) = paired(
	scaled(5, 1),
	[ '8 clients, TPS without a rule', sub { tps('') } ],
	[ 'with a rule', sub { tps('a rule') } ],
	[ 'synchronous', sub { tps('synchronous') } ]);
verdict('synchronous / without', $waiting / $without, '>=', 0.75);
note_line('with a rule / without', sprintf '%.2f', $async / $without);
my ($bare, $rule, $added) = paired(
	scaled(5, 1),
	[ '1 client, p50 ms without a rule', sub { latency('') } ],
	[ 'with a rule', sub { latency('a rule') } ],
	[ 'synchronous', sub { latency('synchronous') } ]);
verdict('added to a commit, p50 ms', $added - $bare, '<', 0.15, '%.3f');
note_line('of that the rule itself, ms', sprintf '%.3f', $rule - $bare);
