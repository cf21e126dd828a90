# Cost of one rule on single-row UPDATEs: pgbench, 8 clients, prepared, all on the same cores as Redis
# and the worker. A: no rule. B: one rule on the table. The key of every account is cached on both sides.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $seconds = scaled(15, 1);
my $script = update_script();

title('Single-row UPDATE, 8 clients: with a rule against without');
my $keys = numbered('account:', accounts(scaled(10, 1)));

sub tps
{
	my ($what, $rule) = @_;
	$sql->query("SELECT cache_aside.attach('pgbench_accounts', 'account:{aid}')") if $rule;
	delivered($sql);
	my $tps = proved($what,
		baseline => !$rule,
		keys => $keys,
		prepare => sub {
			cache_numbered($keys);
			$sql->query('CHECKPOINT');
			delivered($sql);
		},
		run => sub {
			my ($tps, $count) = pgbench("-c 8 -j 2 -T $seconds -f $script");
			return ($tps, commits => $rule ? $count : 0, gone => $rule ? rows_of_run() : 0);
		});
	$sql->query("SELECT cache_aside.detach('pgbench_accounts')") if $rule;
	return $tps;
}

my ($without, $with) = paired(
	scaled(6, 1),
	[ 'TPS without', sub { tps('without', 0) } ],
	[ 'TPS with a rule', sub { tps('with a rule', 1) } ]);
verdict('ratio of medians', $with / $without, '>=', 0.90);
