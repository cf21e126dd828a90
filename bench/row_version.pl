# Cost of the version trigger on single-row UPDATEs: pgbench, 8 clients, prepared. A: without row
# versions. B: with. The column is there on both sides, so that only the trigger differs. That versions
# moved is claimed, each by one for each transaction, and that a wrong one is refused.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $seconds = scaled(10, 1);
my $script = $redis->dir . '/update.sql';

sub versions { return $sql->value('SELECT sum(version) FROM pgbench_accounts'); }

# A client that presents a version which nobody has read
sub refused
{
	return eval { $sql->query('UPDATE pgbench_accounts SET version = version + 9 WHERE aid = 1'); 1 } ? 0 : 1;
}

# $set: what the client does to the version; $columns: counted by the trigger, undef: there is none
sub tps
{
	my ($what, $set, $columns) = @_;
	return proved($what,
		baseline => !$columns,
		prepare => sub {
			open my $fh, '>', $script or die $!;
			print $fh "\\set aid random(1, 100000 * :scale)\n",
			  "UPDATE pgbench_accounts SET abalance = abalance + 1$set WHERE aid = :aid;\n";
			close $fh;
			$sql->query("SELECT cache_aside.enable_versioning('pgbench_accounts', columns => $columns)")
			  if $columns && !spoiled();
			$sql->query('CHECKPOINT');
		},
		run => sub {
			my $before = versions();
			my ($tps, $count) = pgbench("-c 8 -j 2 -T $seconds -f $script");
			my $moved = versions() - $before;
			my $refused = $columns ? refused() : 0;
			$sql->query("SELECT cache_aside.disable_versioning('pgbench_accounts')") if $columns && !spoiled();
			return ($tps, is => [ [ 'versions moved by', $moved, $columns || $set ? $count : 0 ],
				[ 'wrong versions refused', $refused, $columns ? 1 : 0 ] ]);
		});
}

title('Single-row UPDATE, 8 clients: with row versions against without');
accounts(scaled(10, 1));
$sql->query('ALTER TABLE pgbench_accounts ADD version bigint NOT NULL DEFAULT 1');
my ($without, $bumped, $by_client, $presented) = paired(
	scaled(6, 1),
	[ 'TPS without', sub { tps('without', '') } ],
	[ 'TPS, the trigger bumps', sub { tps('bumps', '', 'NULL') } ],
	[ 'TPS without, SET version + 1', sub { tps('without, version + 1', ', version = version + 1') } ],
	[ 'TPS, the trigger checks', sub { tps('checks', ', version = version + 1', q{'{abalance,filler}'}) } ]);
verdict('ratio of medians, bump', $bumped / $without, '>=', 0.97, '%.3f');
verdict('ratio of medians, check', $presented / $by_client, '>=', 0.97, '%.3f');
