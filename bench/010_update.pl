# Cost of one rule on single-row UPDATEs: pgbench, 8 clients, prepared, all on the same cores as Redis
# and the worker. A: no rule. B: one rule on the table, a cache with keys to delete.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $seconds = scaled(15, 1);
my $scale = scaled(10, 1);
my $script = $redis->dir . '/update.sql';

sub tps
{
	cache_numbered($redis, 'account:', scaled(100_000, 1000));
	$sql->query('CHECKPOINT');
	my $out = join '',
	  `pgbench -n -M prepared -c 8 -j 2 -T $seconds -f $script @{[ $pg->options ]} postgres 2>&1`;
	my ($tps) = $out =~ /tps = ([\d.]+)/ or die $out;
	delivered($sql);
	return $tps;
}

title('Single-row UPDATE, 8 clients: with a rule against without');
open my $fh, '>', $script or die $!;
print $fh "\\set aid random(1, 100000 * :scale)\n",
  "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n";
close $fh;
system("pgbench -i -q -s $scale @{[ $pg->options ]} postgres >/dev/null 2>&1") == 0 or die;
my ($without, $with) = paired(
	scaled(6, 1),
	[ 'TPS without', \&tps ],
	[
		'TPS with a rule',
		sub {
			$sql->query("SELECT cache_aside.attach('pgbench_accounts', 'account:{aid}')");
			my $tps = tps();
			$sql->query("SELECT cache_aside.detach('pgbench_accounts')");
			return $tps;
		}
	]);
verdict('ratio of medians', $with / $without, '>=', 0.90);
