# What roles write into the log with pg_logical_emit_message: under our name or one like it, payloads
# that would be entries of ours and payloads that are none, in subtransactions, prepared, not
# transactional, huge. Nobody deletes a key by it, asks for a scan, a resync or a stick, or ends the
# worker; each is counted, one line is logged, and what is delivered meanwhile is.
#
# Remedies: `prefix_size == NAME_SIZE + 1` in ca_record_parse() (record.c), without which the records
# that differ from ours in that number alone are believed; READER_LIMIT in read_records() (tap.c),
# without which the worker keeps the memory of the largest record.
use strict;
use warnings;

use CacheAside;
use Faults;
use LogRecord;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "restart_after_crash = on\n");
make_users($node, 10);
$node->safe_psql('postgres', q{
	CREATE ROLE nobody_special LOGIN;
	CREATE ROLE replicator LOGIN REPLICATION;
	CREATE ROLE boss LOGIN SUPERUSER;
});
my @roles = qw(nobody_special replicator boss);
my %session = map { $_ => PgWire->new($node, user => $_) } @roles;
my $stick = 'cache_aside:stick:someone';
$redis->set($_, '0/1') foreach 'victim', $stick;
cache_users($redis, 1 .. 10);
wait_delivered($node);
my $worker = worker_pid($node);
my %before = map { $_ => status($node, $_) } qw(commits keys patterns resyncs reconnects unreadable_records);
my $log = log_position($node);
my $emitted = 0;

sub call
{
	my ($prefix, $payload, $transactional) = @_;
	return sprintf q{SELECT pg_logical_emit_message(%s, E'%s', '\x%s'::bytea)},
	  $transactional // 'true', $prefix, unpack('H*', $payload);
}

# Each role alone, transactional and not, then all at once in a transaction of its own kind.
sub emit
{
	my ($prefix, $payload, $counts) = @_;
	foreach my $role (@roles)
	{
		$session{$role}->query(call($prefix, $payload, $_)) foreach 'true', 'false';
		$emitted += 2 if $counts // 1;
	}
	return;
}

my @entries = (
	entry(k => 'victim'), entry(p => '*'), entry(s => pack('L', 1000) . 'someone'),
	entry('r', ''), entry('x', ''), entry('c', ''));
my @spoilt = (
	'', 'k', "k\0\0\0", entry(k => ''), entry(k => 'A', 0xffffffff), entry(p => '', 0xffffffff), entry('p', ''),
	entry('s', "\1"), entry('c', 'x'), "\0", "\xff", entry("\xff", 'x'), 'x' x 300_000);
foreach my $payload (@entries, @spoilt, join('', @entries))
{
	emit('cache_aside', "\1\0$payload");       # as versions before the mark wrote them
	emit('cache_aside', "1\0\0$payload");      # the very bytes of ours behind the header
	emit('cache_aside', $payload);
}
emit($_, "\1\0$entries[0]") foreach 'cache_aside1', 'cache_aside:1', 'cache_aside\x01', 'cache_aside cache_aside';
emit($_, "\1\0$entries[0]", 0) foreach '', 'cache_asid', 'Cache_aside', ' cache_aside';

# In subtransactions of every kind; the first crashed the worker for ever.
my $large = call('cache_aside', "\1\0" . 'x' x 300_000);
foreach my $end ('COMMIT', 'ROLLBACK', q{PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'},
	q{PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'})
{
	foreach my $sql ("SAVEPOINT a; $large; RELEASE a", "SAVEPOINT a; $large; ROLLBACK TO a", "$large; SAVEPOINT a; $large")
	{
		$session{nobody_special}->query("$_") foreach "BEGIN", split(/; /, "$sql; $end");
		$emitted += () = $sql =~ /emit/g;
	}
}

# A tail of 64 MB, in memory only while it is read.
sub resident { return (slurp_file("/proc/$worker/status") =~ /^VmRSS:\s+(\d+) kB/m)[0] / 1024 }
my $resident = -r "/proc/$$/status" ? resident() : undef;
$session{nobody_special}->query(q{SELECT pg_logical_emit_message(true, 'cache_aside', E'\x01\x01k' || repeat('x', 64 * 1024 * 1024))});
$emitted++;
$session{boss}->query('UPDATE users SET v = 1 WHERE id = 1');
wait_delivered($node);
cmp_ok(resident() - $resident, '<', 32, 'memory for a huge record is given back') if defined $resident;

is(is_cached($redis, 'victim'), 1, 'no key is deleted by a message under our name');
is($redis->get($stick), '0/1', 'no stick is written');
is($redis->exists(user_keys(1 .. 10)), 9, 'a genuine write among them deletes its key, and nothing else');
is(worker_pid($node), $worker, 'the worker is the one it was');
is(status($node, 'foreign_records'), $emitted, "$emitted messages were counted");
is(status($node, $_) - $before{$_}, 0, "$_: none") foreach qw(patterns resyncs reconnects unreadable_records);
is(status($node, $_) - $before{$_}, 1, "$_: one") foreach qw(commits keys);
my $said = log_since($node, $log);
is(scalar(() = $said =~ /does not follow a message in the log/g), 1, 'one line in the log');
like($said, qr/DETAIL:  Transaction \d+ wrote \d+ bytes\. Any role can write such a message/, 'with what was seen');
unlike($said, qr/was terminated by|PANIC|ERROR/, 'no crash, no error');

# What was read before is read again after a reconnect, and counted once.
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
$node->poll_query_until('postgres', "SELECT reconnects > $before{reconnects} FROM cache_aside.status");
wait_delivered($node);
is(status($node, 'foreign_records'), $emitted, 'nothing is counted twice');

# Statistics go to zero like any other.
$node->safe_psql('postgres', 'SELECT cache_aside.reset_stats()');
$node->poll_query_until('postgres', 'SELECT foreign_records = 0 FROM cache_aside.status');
$node->stop;
done_testing();
