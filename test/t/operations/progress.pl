# Long work is seen in the view progress while it goes on, with how much is done of how much; a cancel ends it within a second,
# and whatever way it ends it is gone from the view.
#
# Remedies: ca_long_work_step() in at_object_access() (ddl.c): without it attach shows nothing done, and a cancel waits for the end;
# at_subtransaction_event() and at_transaction_event() in long_work.c; share_of() in scan.c.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "max_locks_per_transaction = 1000\n");
my $partitions = 1000;
sub sql { return $node->safe_psql('postgres', join ';', @_); }

sql('CREATE TABLE part (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)',
	map { "CREATE TABLE part_$_ PARTITION OF part FOR VALUES FROM (${_}0) TO (${_}9)" } 1 .. $partitions);
sql('CREATE TABLE t (id int PRIMARY KEY, v text)', q{INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 300000) i},
	'ANALYZE t');
wait_delivered($node);

# A session that works; it is seen at work, cancelled when `$ready` holds of its row, and ends.
sub cancelled
{
	my ($command, $sql, $row, $ready) = @_;
	my $best = soonest(1, sub {
		my $session = background_sql($node, on_error_stop => 0);
		my $pid = $session->query_safe('SELECT pg_backend_pid()') or die;
		$session->query_until(qr/begun/, "\\echo begun\n$sql;\n");
		my $seen;
		wait_until(sub { $seen = sql(qq{SELECT command, phase, datname, relid::regclass, total, unit, done > 0 AND done < total
			FROM cache_aside.progress WHERE pid = $pid AND $ready}) });
		is($seen, $row, "$command is seen");
		my $begin = time;
		sql("SELECT pg_cancel_backend($pid)");
		wait_until(sub { sql("SELECT count(*) FROM cache_aside.progress WHERE pid = $pid") == 0 });
		my $seconds = time - $begin;
		like($session->query(q{SELECT 'goes on'}), qr{goes on}, '... its session outlives it');
		$session->quit;
		return $seconds;
	});
	cmp_ok($best, '<', 1, sprintf('... and cancelled in %.2f s', $best));
	return;
}

my $total = 4 * ($partitions + 1);
cancelled('attach', q{SELECT cache_aside.attach('part', 'p:{id}')}, "attach|making triggers|postgres|part|$total|triggers|t", 'done > 100');
is(sql('SELECT count(*) FROM cache_aside.rule_triggers'), 0, '... which leaves no trigger');
cancelled('warm', q{SELECT cache_aside.warm('t', 't:{id}', '5 min') FROM generate_series(1, 100)}, 'warm|filling|postgres|t|300000|rows|t', 'done > 1000');
cancelled('audit', q{SELECT count(*) FROM cache_aside.audit('t', 't:{id}', 0.5, 'SELECT pg_sleep(0.001)::text')},
	'audit|comparing|postgres|t|150000|rows|t', 'done > 100');

# ---- other ends
is( sql(q{CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$},
		q{CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION refuse()},
		q{CREATE TABLE ends (n int)},
		q{DO $$ BEGIN PERFORM cache_aside.attach('t', 'x:{id}'); EXCEPTION WHEN raise_exception THEN
			INSERT INTO ends SELECT count(*) FROM cache_aside.progress; END $$},
		'DROP EVENT TRIGGER refuse', 'SELECT n FROM ends'),
	0, 'a subtransaction that fails ends it');
my $session = background_sql($node, on_error_stop => 0);
$session->query_until(qr/begun/, qq{\\echo begun\nSELECT cache_aside.warm('t', 't:{id}', '5 min') FROM generate_series(1, 100);\n});
wait_until(sub { sql(q{SELECT pg_terminate_backend(pid) FROM cache_aside.progress WHERE command = 'warm'}) });
ok(wait_until(sub { sql('SELECT count(*) FROM cache_aside.progress') == 0 }), 'so does the end of the session');

# ---- the worker's scan
my $keys = 60000;
$redis->flushall;
$redis->mset(map { ("t:$_" => 'v') } 1 .. $keys);
wait_delivered($node);
sql(q{SELECT cache_aside.attach('t', 't:{id}')});    # which deletes its pattern
wait_delivered($node);
$redis->mset(map { ("t:$_" => 'v') } 1 .. $keys);
$node->safe_psql('postgres', $_) foreach 'ALTER SYSTEM SET cache_aside.scan_rate = 20000', 'SELECT pg_reload_conf()';
sql('TRUNCATE t');
my $seen;
wait_until(sub { $seen = sql(q{SELECT command, phase, unit, done, total, pid = (SELECT pid FROM cache_aside.status), datname IS NULL
	FROM cache_aside.progress WHERE done > total * 0.3}) });
my ($command, $phase, $unit, $done, $all, $worker, $none) = split /\|/, $seen;
is("$command|$phase|$unit|$worker|$none", 'patterns|scanning Redis|keys|t|t', 'a scan for a pattern');
cmp_ok(abs($all - $keys), '<', $keys * 0.2, "$done of estimated $all keys, which are $keys");
sql('SELECT cache_aside.resync()');
ok(wait_until(sub { sql(q{SELECT count(*) FROM cache_aside.progress WHERE command = 'resync'}) }), 'a resync');
$node->safe_psql('postgres', $_) foreach 'ALTER SYSTEM RESET cache_aside.scan_rate', 'SELECT pg_reload_conf()';
wait_delivered($node);
ok(wait_until(sub { sql('SELECT count(*) FROM cache_aside.progress') == 0 }), 'nothing goes on any more');
$node->stop;
done_testing();
