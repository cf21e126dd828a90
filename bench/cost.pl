# What a rule costs the session that writes, in numbers that a busy machine does not change: instructions of
# the session (callgrind), its system calls (strace), bytes of log, and how often the worker is woken. Beside
# floors that are measured in the same way: the same statement without a trigger, with an empty one in C, with
# one that writes the bare record. docs/internals/cost.md has the table. N= and ROWS= make it longer.
use strict;
use warnings;
use Bench;
use Callgrind;
use File::Temp ();

my $n = scaled($ENV{N} // 500, 40);                   # commits
my $rows = scaled($ENV{ROWS} // 60_000, 500);        # of one statement
my $why_not = Callgrind::why_not();
if ($why_not) { print "skipped: $why_not\n"; exit 0; }
my $dir = File::Temp::tempdir(TMPDIR => 1, CLEANUP => 1);
my ($redis, $pg, $sql);

sub row_triggers
{
	my ($function, $count, $when) = @_;
	return map { "CREATE TRIGGER floor$_ $when ON t FOR EACH ROW EXECUTE FUNCTION $function()" } 1 .. $count;
}

sub empty_statement_trigger
{
	return 'CREATE TRIGGER floor AFTER UPDATE ON t REFERENCING OLD TABLE AS o NEW TABLE AS n '
	  . 'FOR EACH STATEMENT EXECUTE FUNCTION floor_empty()';
}

sub rules { my ($level, $count) = @_; return map { "SELECT cache_aside.attach('t', 'account$_:{aid}', level => '$level')" } 1 .. $count; }

my $after = 'AFTER INSERT OR UPDATE OR DELETE';
my $update = 'UPDATE t SET abalance = abalance + 1';
my $counted = "$update, version = version + 1";    # as the version trigger does it
my $versioning = q{SELECT cache_aside.enable_versioning('t')};
my @sides = (
	[ 'without a trigger', $update ],
	[ 'an empty C trigger', $update, row_triggers('floor_empty', 1, $after) ],
	[ 'one that logs the bare record', $update, row_triggers('floor_record', 1, $after) ],
	[ 'a rule', $update, rules('row', 1) ],
	[ 'five empty C triggers', $update, row_triggers('floor_empty', 5, $after) ],
	[ 'five rules', $update, rules('row', 5) ],
	[ 'version + 1, empty BEFORE trigger', $counted, row_triggers('floor_before', 1, 'BEFORE INSERT OR UPDATE OR DELETE') ],
	[ 'row versions', $update, $versioning ]);
my @bulk = (
	[ 'without a trigger', $update ],
	[ 'an empty C row trigger', $update, row_triggers('floor_empty', 1, $after) ],
	[ 'a rule, row level', $update, rules('row', 1) ],
	[ 'an empty C statement trigger', $update, empty_statement_trigger() ],
	[ 'a rule, statement level', $update, rules('statement', 1) ]);

sub make_table
{
	my ($size, @setup) = @_;
	$sql->query('DROP TABLE IF EXISTS t; CREATE TABLE t (aid int PRIMARY KEY, bid int, abalance int, '
		  . 'filler char(84), version bigint NOT NULL DEFAULT 1)');
	$sql->query("INSERT INTO t SELECT i, 1, 0, '' FROM generate_series(1, $size) i; ");
	$sql->query('VACUUM ANALYZE t');
	foreach (@setup) { $sql->query($_) unless $_ eq $versioning && spoiled(); }
	return;
}

# One session that has done it before; $code gets it and returns the cost, $commits are those with keys.
sub side
{
	my ($what, $side, $size, $commits, $code) = @_;
	my ($name, $statement, @setup) = @$side;
	my $rule = grep { /attach/ } @setup;
	my $floor = !$rule && !grep { $_ eq $versioning } @setup;
	my $keys = numbered('account1:', $commits > 1 ? $commits : $size);
	my $session;
	return proved("$name, $what",
		baseline => $floor,
		keys => $keys,
		prepare => sub {
			make_table($size, @setup);
			$session = $pg->connect;
			$session->prepare('one', "$statement WHERE aid = \$1");
			$session->run_prepared('one', $_) foreach $size - 9 .. $size;
			delivered($sql);
			cache_numbered($keys);
		},
		run => sub {
			my $cost = $code->($session, $statement);
			my $moved = $sql->value("SELECT sum(version) - count(*) FROM t WHERE aid <= $commits");
			my $moves = $name =~ /version/ ? $commits : 0;
			return ($cost, commits => $rule ? $commits : 0, gone => $rule ? $keys->{n} : 0,
				is => [ [ 'versions moved by', $moved, $moves ] ]);
		});
}

sub lsn { return $sql->value('SELECT pg_current_wal_insert_lsn()'); }

# Each commit another row, whose key is in the cache.
sub count_commits
{
	my ($session) = @_;
	my $from = lsn();
	my $cost = Callgrind::count($session, $dir, sub { $session->run_prepared('one', $_) foreach 1 .. $n });
	my $wal = $sql->value("SELECT '@{[ lsn() ]}'::pg_lsn - '$from'");
	return { wal => $wal / $n, total => $cost->{total} / $n, stages($cost, $n) };
}

sub count_statement
{
	my ($session, $statement) = @_;
	my $cost = Callgrind::count($session, $dir, sub { $session->query($statement) });
	return { total => $cost->{total} / $rows, stages($cost, $rows) };
}

# By the functions in which they begin.
sub stages
{
	my ($cost, $of) = @_;
	my %in = map { $_ => ($cost->{inside}{$_} // 0) / $of } qw(cache_aside_invalidate_row
	  cache_aside_invalidate_statement ca_key_build ca_key_same ca_entries_add_key at_transaction_event
	  ca_message_log ca_commit_done ca_status_wake_worker after_locks cache_aside_row_version);
	return (stages => [
		[ 'trigger entry and rule', $in{cache_aside_invalidate_row} + $in{cache_aside_invalidate_statement} - $in{ca_key_build} - $in{ca_key_same} ],
		[ 'template to key', $in{ca_key_build} + $in{ca_key_same} - $in{ca_entries_add_key} ],
		[ 'pending set', $in{ca_entries_add_key} ],
		[ 'record', $in{ca_message_log} ],
		[ 'before the commit, besides', $in{at_transaction_event} - $in{ca_message_log} - $in{ca_commit_done} ],
		[ 'after the commit', $in{ca_commit_done} - $in{ca_status_wake_worker} + $in{after_locks} ],
		[ "waking the worker", $in{ca_status_wake_worker} ],
		[ 'version trigger', $in{cache_aside_row_version} ] ]);
}

sub show
{
	my ($name, $cost, $first) = @_;
	printf "  %-34s %9s %+7.1f %%%s\n", $name, commas($cost->{total}), 100 * ($cost->{total} / $first->{total} - 1),
	  $cost->{wal} ? sprintf '  %+7.1f bytes of log', $cost->{wal} - $first->{wal} : '';
	foreach (@{ $cost->{stages} }) { printf "    %-32s %9s\n", $_->[0], commas($_->[1]) if $_->[1] >= 1; }
	return;
}

# ---- the kernel's part, and the worker's: the same commits on a server as it is

# Calls of a session, by name. None without strace, or where nobody may look.
sub system_calls
{
	my ($session, $code) = @_;
	my $file = "$dir/calls." . $session->backend_pid;
	my $pid = open(my $tracer, '-|', "exec strace -p @{[ $session->backend_pid ]} -o $file 2>&1") or return;
	my $line = <$tracer> // '';
	return unless $line =~ /attached/;
	$code->();
	kill 'INT', $pid;
	close $tracer;
	open my $fh, '<', $file or return;
	my %calls;
	$calls{$_}++ foreach map { /^(\w+)\(/ ? $1 : () } <$fh>;
	return \%calls;
}

sub switches
{
	my ($pid) = @_;
	open my $fh, '<', "/proc/$pid/status" or return 0;
	return (map { /^voluntary_ctxt_switches:\s+(\d+)/ ? $1 : () } <$fh>)[0];
}

# At the session's own speed, then once more under strace.
sub count_kernel
{
	my ($session) = @_;
	my $worker = $pg->worker_pid;
	my $before = switches($worker);
	my $half = int($n / 2);
	$session->run_prepared('one', $_) foreach 1 .. $half;
	my $woken = switches($worker) - $before;
	my $calls = system_calls($session, sub { $session->run_prepared('one', $_) foreach $half + 1 .. $n });
	if (!$calls) { $session->run_prepared('one', $_) foreach $half + 1 .. $n; }
	return { woken => $woken / $half, calls => $calls && { map { $_ => $calls->{$_} / ($n - $half) } keys %$calls } };
}

sub show_kernel
{
	my ($name, $cost) = @_;
	my $calls = $cost->{calls};
	my $named = $calls ? join ', ', map { sprintf '%s %.2f', $_, $calls->{$_} } grep { $calls->{$_} >= 0.02 } sort keys %$calls : '';
	printf "  %-34s worker woken %.2f times; calls: %s\n", $name, $cost->{woken}, $named || 'not known';
	return;
}

# Nobody delivers meanwhile; afterwards it is proved that there was something to deliver.
sub switched_off
{
	my ($side) = @_;
	my $keys = numbered('account1:', $n);
	make_table($n + 100, @$side[ 2 .. $#$side ]);
	my $session = $pg->connect;
	$session->prepare('one', "$side->[1] WHERE aid = \$1");
	delivered($sql);
	cache_numbered($keys);
	$pg->configure("cache_aside.delivery = off\n");
	$redis->wait_until(sub { $sql->value(q{SELECT state FROM cache_aside.status}) eq 'off' }) or die 'not off';
	$session->run_prepared('one', $_) foreach $n + 1 .. $n + 100;
	my $cost = count_kernel($session);
	my $there = count_numbered($keys);
	$pg->configure("cache_aside.delivery = primary\n");
	delivered($sql);
	die "not as claimed: delivery off: keys $there, then " . count_numbered($keys) . "\n" if $there != $n || count_numbered($keys) != 0;
	return $cost;
}

# Of the sides named, or of all; QUICK has only what is not a floor.
sub measure
{
	my ($sides, $code, $show) = @_;
	my %cost;
	foreach my $side (@$sides)
	{
		my $name = $side->[0];
		next if $ENV{QUICK} && $name =~ /empty|bare|five/;
		$cost{$name} = $code->($side);
		$show->($name, $cost{$name}, $cost{ $sides->[0][0] });
	}
	return sub {
		my ($what, $name, $floor, $target) = @_;
		verdict($what, $cost{$name}{total} / $cost{$floor}{total}, '<=', $target, '%.3f') unless $ENV{QUICK};
		return;
	};
}

title('What a rule costs the session that writes');
($redis, $pg, $sql) = servers(conf => "fsync = off\nfull_page_writes = off\n", under => [ Callgrind::command($dir) ]);
Callgrind::install($sql, $dir);
print "  instructions for each single-row UPDATE, its own commit:\n";
my $compare = measure(\@sides, sub { side('one row', $_[0], $n + 100, $n, \&count_commits) }, \&show);
$compare->('rule / bare record', 'a rule', 'one that logs the bare record', 1.03);
$compare->('row versions / by hand', 'row versions', 'version + 1, empty BEFORE trigger', 1.03);
print '  for each row of an UPDATE of ', commas($rows), ":\n";
$compare = measure(\@bulk, sub { side('many rows', $_[0], $rows, 1, \&count_statement) }, \&show);
$compare->('row level / empty trigger', 'a rule, row level', 'an empty C row trigger', 1.08);
$compare->('statement level / empty trigger', 'a rule, statement level', 'an empty C statement trigger', 1.05);
$pg->stop;

($redis, $pg, $sql) = servers();
Callgrind::install($sql, $dir);
print "  for each of those commits, on a server as it is:\n";
measure([ @sides[ 0 .. 3 ] ], sub { side('kernel', $_[0], $n + 100, $n, \&count_kernel) }, \&show_kernel);
measure([ [ 'a rule, delivery off', @{ $sides[3] }[ 1 .. 2 ] ] ], \&switched_off, \&show_kernel);
