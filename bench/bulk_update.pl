# One UPDATE of a million rows: without a rule, with a rule at statement level, with one at row level.
# Each on a fresh copy of the table and in a fresh session, whose highest memory use is read at the
# end, together with the worker's. The key of every row is cached.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $rows = scaled(1_000_000, 50_000);
my $worker = $pg->worker_pid;
my $keys = numbered('bulk:', $rows);
my %grown;    # level -> MB, of the session and of the worker

sub make_table
{
	my ($level) = @_;
	$sql->query('DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, n int, filler text)');
	$sql->query("INSERT INTO t SELECT i, 0, repeat('x', 60) FROM generate_series(1, $rows) i");
	$sql->query($_) foreach 'VACUUM ANALYZE t', 'CHECKPOINT';
	$sql->query("SELECT cache_aside.attach('t', 'bulk:{id}', level => '$level')") if $level;
	delivered($sql);
	cache_numbered($keys);
	return;
}

sub update
{
	my ($level) = @_;
	my $session = $pg->connect;
	$session->query('UPDATE t SET n = n + 1 WHERE id <= 100');
	my @before = (high_water($session->backend_pid), high_water($worker));
	my $seconds = timed(sub { $session->query('UPDATE t SET n = n + 1') });
	delivered($sql);
	$grown{$level}{session} = high_water($session->backend_pid) - $before[0];
	$grown{$level}{worker} = high_water($worker) - $before[1]
	  if !defined $grown{$level}{worker} || high_water($worker) - $before[1] > $grown{$level}{worker};
	return ($seconds, commits => $level ? 2 : 0, gone => $level ? $rows : 0);
}

sub seconds
{
	my ($level) = @_;
	return proved("level '$level'",
		baseline => !$level,
		keys => $keys,
		prepare => sub { make_table($level) },
		run => sub { update($level) });
}

title('UPDATE of ' . commas($rows) . ' rows in one statement');
my ($none, $statement, $row) = paired(
	scaled(5, 1),
	[ 'seconds without', sub { seconds('') } ],
	[ 'seconds at statement level', sub { seconds('statement') } ],
	[ 'seconds at row level', sub { seconds('row') } ]);
verdict('statement level / without', $statement / $none, '<=', 1.10);
verdict('row level / without', $row / $none, '<=', 1.30);
# Shared buffers that a session touches count as its memory: what it takes without a rule is taken off.
my $buffers = $grown{''}{session};
verdict('session, statement level, MB', $grown{statement}{session} - $buffers, '<', 64, '%.0f');
note_line('session, row level, MB', sprintf '%.0f', $grown{row}{session} - $buffers);
verdict('worker, statement level, MB', $grown{statement}{worker}, '<', 64, '%.0f');
verdict('worker, row level, MB', $grown{row}{worker}, '<', 64, '%.0f');
