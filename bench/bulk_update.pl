# One UPDATE of a million rows: without a rule, with a rule at statement level, with one at row level. Then
# COPY of a million rows into the same table, emptied: without a rule, and with one at statement level.
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
	my ($level, $which) = @_;
	$sql->query('DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, n int, filler text)');
	$sql->query("INSERT INTO t SELECT i, 0, repeat('x', 60) FROM generate_series(1, $rows) i @{[ $which // '' ]}");
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

# ---- COPY of rows whose keys are cached

my $file = $pg->dir . '/copied';

sub copy
{
	my ($level) = @_;
	my $session = $pg->connect;
	my $seconds = timed(sub { $session->query("COPY t FROM '$file'") });
	delivered($sql);
	return ($seconds, commits => $level ? 1 : 0, gone => $level ? $rows : 0);
}

sub copy_seconds
{
	my ($level) = @_;
	return proved("COPY, level '$level'",
		baseline => !$level,
		keys => $keys,
		prepare => sub { make_table($level, 'WHERE false') },
		run => sub { copy($level) });
}

title('UPDATE of ' . commas($rows) . ' rows in one statement');
my ($none, $statement, $row) = paired(
	scaled(5, 1),
	[ 'seconds without', sub { seconds('') } ],
	[ 'seconds at statement level', sub { seconds('statement') } ],
	[ 'seconds at row level', sub { seconds('row') } ]);
verdict('statement level / without', $statement / $none, '<=', 1.15);
verdict('row level / without', $row / $none, '<=', 1.20);
# Shared buffers that a session touches count as its memory: what it takes without a rule is taken off.
my $buffers = $grown{''}{session};
verdict('session, statement level, MB', $grown{statement}{session} - $buffers, '<', 64, '%.0f');
note_line('session, row level, MB', sprintf '%.0f', $grown{row}{session} - $buffers);
verdict('worker, statement level, MB', $grown{statement}{worker}, '<', 64, '%.0f');
verdict('worker, row level, MB', $grown{row}{worker}, '<', 64, '%.0f');

make_table('');
$sql->query("COPY t TO '$file'");
my ($plain, $copied) = paired(
	scaled(5, 1),
	[ 'seconds of COPY without', sub { copy_seconds('') } ],
	[ 'seconds of COPY, statement level', sub { copy_seconds('statement') } ]);
verdict('COPY / without', $copied / $plain, '<=', 1.15);
