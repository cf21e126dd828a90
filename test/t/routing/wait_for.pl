# caught_up() and wait_for() on a real standby: wakes at replay, holds no snapshot, can be cancelled,
# and says when the token's history is not the standby's.
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $primary = CacheAside->new_node('primary');
my $first = CacheAside->new_standby('a', $primary);
my $second = CacheAside->new_standby('b', $primary);
my $write = PgWire->new($primary);
my $read = PgWire->new($second);
my $watch = PgWire->new($second);

sub write_row
{
	$write->query('INSERT INTO t DEFAULT VALUES');
	return $write->value('SELECT cache_aside.commit_lsn()');
}

sub call_for
{
	my ($lsn, $timeout) = @_;
	return "CALL cache_aside.wait_for('$lsn', '$timeout')";
}

# Until the reader is inside wait_for: its backend_xmin and pid.
sub is_waiting
{
	my $row;
	wait_until(
		sub {
			($row) = $watch->query(q{SELECT backend_xmin, pid FROM pg_stat_activity}
				  . q{ WHERE query LIKE 'CALL%' AND state = 'active' AND wait_event = 'Extension'})->{rows}[0];
			return $row;
		}) or return;
	return $row;
}

sub waiting
{
	my $row = is_waiting();
	ok($row, 'the reader waits');
	return @$row;
}

$write->query('CREATE TABLE t (id serial)');
my $lsn = write_row();
is($read->value(call_for($lsn, '60 s')), 'reached', 'reached');
is($read->value("SELECT cache_aside.caught_up('$lsn')"), 't', 'caught up');
is($write->value("SELECT cache_aside.caught_up('$lsn')"), 't', 'the primary has what it wrote');
is($write->value("SELECT cache_aside.caught_up('FFFFFFFF/0')"), 'f', '... and no more');
is($write->value("SELECT cache_aside.caught_up(NULL)"), undef, 'NULL in, NULL out');
is($write->value(call_for($lsn, '1 s')), 'not in recovery', 'a primary says so');

# From the write on the primary to the end of a wait that had begun before it.
my @ms;
foreach (1 .. 50)
{
	my $next = $write->value('SELECT pg_current_wal_insert_lsn() + 1');
	$read->send(call_for($next, '60 s'));
	is_waiting() or die 'the reader does not wait';
	my $start = time;
	$write->query('INSERT INTO t DEFAULT VALUES');
	$read->receive;
	push @ms, 1000 * (time - $start);
}
@ms = sort { $a <=> $b } @ms;
note sprintf 'from write to woken: median %.1f ms, worst %.1f ms', $ms[25], $ms[49];
cmp_ok($ms[5], '<', 20, 'wakes within milliseconds of replay'); # of most, where others leave the processors to it

# Received is not replayed.
$watch->query('SELECT pg_wal_replay_pause()');
$second->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
$lsn = write_row();
$second->poll_query_until('postgres', "SELECT pg_last_wal_receive_lsn() >= '$lsn'");
is($read->value("SELECT cache_aside.caught_up('$lsn')"), 'f', 'received, not replayed');
is($read->value(call_for($lsn, '50 ms')), 'timeout', 'timeout');
is($read->value(call_for($lsn, '0')), 'timeout', 'no time: an answer at once');
$read->send(call_for($lsn, '120 s'));
my ($xmin, $pid) = waiting();
is($xmin, undef, 'no snapshot is held');
$watch->query('SELECT pg_wal_replay_resume()');
is($read->receive->{rows}[0][0], 'reached', 'resumed: reached');

# A default isolation that keeps its first snapshot changes nothing.
$read->query(q{SET default_transaction_isolation = 'repeatable read'});
$read->send(call_for('FFFFFFFF/0', '120 s'));
($xmin, $pid) = waiting();
is($xmin, undef, 'REPEATABLE READ: no snapshot is held');
$watch->query("SELECT pg_cancel_backend($pid)");
is($read->receive(may_fail => 1)->{error}{C}, '57014', 'cancelled');

sub error_of { return $read->query($_[0], may_fail => 1)->{error}{C} // 'none'; }
is(error_of('BEGIN; ' . call_for($lsn, '1 s')), '25001', 'refused in a transaction block');
$read->query('ROLLBACK');
is(error_of('SELECT 1; ' . call_for($lsn, '1 s')), '25001', 'refused among several statements');
is(error_of(call_for($lsn, '-1 s')), '22023', 'negative timeout');
is(error_of('CALL cache_aside.wait_for(NULL)'), '22004', 'no LSN');
is(error_of("CALL cache_aside.wait_for('$lsn', NULL)"), '22004', 'no timeout');
is(error_of(call_for('x', '1 s')), '22P02', 'not an LSN');

# The token lies beyond the point where the new timeline branches off.
$read->send(call_for('FFFFFFFF/0', '180 s'));
waiting();
$primary->stop;
$first->promote;
$second->enable_streaming($first);
$second->reload;
is($read->receive->{rows}[0][0], 'other timeline', 'followed to another timeline');

# Below it, the same history: nothing to complain of.
my $new = PgWire->new($first);
$new->query('INSERT INTO t DEFAULT VALUES');
my $token = $new->value('SELECT cache_aside.commit_lsn()');
is($read->value(call_for($token, '60 s')), 'reached', 'a token of the new timeline');

$read->send(call_for('FFFFFFFF/0', '180 s'));
waiting();
$second->promote;
is($read->receive->{rows}[0][0], 'not in recovery', 'promoted while waiting');

done_testing();
