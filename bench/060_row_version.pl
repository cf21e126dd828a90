# Cost of the version trigger on single-row UPDATEs: pgbench, 8 clients, prepared. A: without row
# versions. B: with. The column is there on both sides, so that only the trigger differs.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $seconds = scaled(10, 1);
my $scale = scaled(10, 1);
my $script = $redis->dir . '/update.sql';

sub tps
{
	my ($version) = @_;
	open my $fh, '>', $script or die $!;
	print $fh "\\set aid random(1, 100000 * :scale)\n",
	  "UPDATE pgbench_accounts SET abalance = abalance + 1$version WHERE aid = :aid;\n";
	close $fh;
	$sql->query('CHECKPOINT');
	my $out = join '',
	  `pgbench -n -M prepared -c 8 -j 2 -T $seconds -f $script @{[ $pg->options ]} postgres 2>&1`;
	my ($tps) = $out =~ /tps = ([\d.]+)/ or die $out;
	return $tps;
}

# One side with the trigger, measured and taken off again.
sub versioned
{
	my ($set, $columns) = @_;
	$sql->query("SELECT cache_aside.enable_versioning('pgbench_accounts', columns => $columns)");
	my $tps = tps($set);
	$sql->query("SELECT cache_aside.disable_versioning('pgbench_accounts')");
	return $tps;
}

title('Single-row UPDATE, 8 clients: with row versions against without');
system("pgbench -i -q -s $scale @{[ $pg->options ]} postgres >/dev/null 2>&1") == 0 or die;
$sql->query('ALTER TABLE pgbench_accounts ADD version bigint NOT NULL DEFAULT 1');
my ($without, $bumped, $by_client, $presented) = paired(
	scaled(6, 1),
	[ 'TPS without', sub { tps('') } ],
	[ 'TPS, the trigger bumps', sub { versioned('', 'NULL') } ],
	[ 'TPS without, SET version + 1', sub { tps(', version = version + 1') } ],
	[ 'TPS, the trigger checks', sub { versioned(', version = version + 1', q{'{abalance,filler}'}) } ]);
verdict('ratio of medians, bump', $bumped / $without, '>=', 0.95, '%.3f');
verdict('ratio of medians, check', $presented / $by_client, '>=', 0.95, '%.3f');
