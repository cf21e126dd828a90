# Records that have our mark, which nobody can forge, and cannot be read: of another format, cut off,
# with lengths that do not add up, too long, of unknown kinds. Each is counted, the first is logged, and
# the transaction that carries it asks for a resync when it commits, and only then; the worker goes on.
#
# Remedies, each in record.c unless another file is named; without it what is said after it is followed
# or ends the worker: the tests in find_problem(): lengths; in find_problem_in_payload(): sizes, flags;
# in find_problem_in_entries(): cut entries; ca_record_entry_is_valid(): kinds and shapes. `parent->unread
# = child->unread` in merge() (open.c): subtransactions, prepared ones. hand_over_orphan() (tap.c): without
# a transaction. Where note_unreadable() (tap.c) does not note them, no resync follows at all.
use strict;
use warnings;

use CacheAside;
use LogRecord;
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "restart_after_crash = on\ncache_aside.key_prefix = 'p:'\n");
LogRecord->install($node);
my $session = PgWire->new($node);
wait_delivered($node);
my $worker = worker_pid($node);
my $log = log_position($node);
my ($records, $resyncs) = (0, status($node, 'resyncs'));

# A resync deletes "p:*"; a record that is followed would delete "victim".
sub transaction
{
	my ($what, $expect, @sql) = @_;
	$redis->set($_, 'x') foreach 'p:any', 'victim';
	$session->query($_) foreach @sql;
	wait_delivered($node);
	$records += $expect->{records} // 1;
	$resyncs += $expect->{resyncs} // 1;
	my ($got) = $session->query('SELECT unreadable_records, resyncs FROM cache_aside.status')->{rows}[0];
	is("@$got", "$records $resyncs", "$what: counted, resyncs");
	is($redis->exists('p:any'), ($expect->{resyncs} // 1) ? 0 : 1, "$what: of everything or not at all");
	is($redis->exists('victim'), 1, "$what: nothing in it is followed");
	return;
}

my $key = entry(k => 'victim');
# A whole record says under which prefixes its keys are (else what is under ours is deleted, too).
my $prefix = entry(w => ',' . pack 'l', $node->safe_psql('postgres', q{SELECT hashtext('p:' COLLATE "C")}));
my $max = ~0;    # of size_t
my $whole = length log_record($key);
my $payload = 1 + length $key;
my %bad = (
	'format 2' => log_record({ format => '2' }, $key),
	'format 0' => log_record({ format => "\0" }, $key),
	'a longer mark' => log_record({ prefix => "cache_aside\0" . "12\0" }, $key),
	'a mark without end' => log_record({ prefix => "cache_aside\0" . '12' }, $key),
	'a shorter mark' => log_record({ prefix => "cache_aside\0" . '1' }, $key),
	(map { ("prefix_size $_" => log_record({ prefix_size => $_ }, $key)) }
		0, 1, 11, 13, 15, $whole, $max >> 1, $max),
	(map { ("message_size $_" => log_record({ message_size => $_ }, $key)) }
		0, $payload - 1, $payload + 1, $max >> 1, $max, $max - 13),
	'sizes whose sum wraps' => log_record({ prefix_size => $max - 9, message_size => $payload + 24 }, $key),
	(map { ("cut by $_" => log_record({ cut => $_ }, $key)) } 1, 6, $payload, $payload + 1, $payload + 2),
	(map { ("cut by $_, says so" => log_record({ cut => $_, message_size => $payload - $_ }, $key)) }
		1, 6, 7, $payload),
	'flags' => log_record({ flags => 4 }, $key),
	'a longer entry than the record' => log_record(entry(k => 'victim', 7)),
	'a much longer entry' => log_record(entry(k => 'victim', 0xffffffff)),
	'an entry in part, behind a whole one' => log_record($key, "k\1\0"),
	'a key too long' => log_record($key, entry(k => 'x' x 8193)),
	'a pattern too long' => log_record($key, entry(p => 'x' x 8193)),
	'a pattern without text' => log_record($key, entry(p => '')),
	'a payload too long' => log_record(map { entry(k => 'victim' . 'x' x 8000) } 1 .. 10),
	'a stick without time' => log_record($key, entry(s => "\1")),
	'a stick without name' => log_record($key, entry(s => pack('L', 1))),
	'a stick for no time' => log_record($key, entry(s => pack('L', 0) . 'name')),
	'a stick too long' => log_record($key, entry(s => pack('L', 1) . 'x' x 1025)),
	(map { ("an entry of kind $_" => log_record($key, entry(chr $_, ''))) } 0, 65, 255),
	(map { ("prefixes: " . unpack('H*', $_) => log_record($key, entry(w => $_))) }
		'', ',', ',123', 'x1234', '*12345678', ',' . '1234' x 9),
	(map { ("$_ with data" => log_record($key, entry($_, 'x'))) } qw(r x c)));
transaction($_, {}, write_sql($bad{$_})) foreach sort keys %bad;

# ---- what is not unreadable
my $none = { records => 0, resyncs => 0 };
transaction('prefix_size 12, as SQL writes it', $none, write_sql(log_record({ prefix_size => 12 }, $key)));
transaction('a header without our name', $none, write_sql(substr log_record($key), 0, 24 + 5));
transaction('half a header', $none, write_sql(substr log_record($key), 0, 10));
transaction('not transactional', $none, write_sql(log_record({ transactional => 0, format => '2' }, $key)));
transaction('no entry', $none, write_sql(log_record()));

# ---- in what kind of transaction
my $bad = write_sql($bad{'format 2'});
my $large = write_sql(log_record(map { entry(k => "large:$_:" . 'x' x 1000) } 1 .. 60));
transaction('rolled back', { resyncs => 0 }, 'BEGIN', $bad, 'ROLLBACK');
transaction('rolled back to a savepoint', { resyncs => 0 },
	'BEGIN', 'SAVEPOINT a', $bad, 'ROLLBACK TO a', write_sql(log_record($prefix, entry(k => 'mine'))), 'COMMIT');
transaction('in a subtransaction', {}, 'BEGIN', 'SAVEPOINT a', 'SAVEPOINT b', $bad, 'RELEASE a', 'COMMIT');
transaction('in a large one', {}, 'BEGIN', ($large) x 3, 'SAVEPOINT a', $bad, 'RELEASE a', ($large) x 3, 'COMMIT');
transaction('without a transaction id', {}, write_sql($bad{'format 2'}, 'false'));
transaction('readable, without a transaction id', {}, write_sql(log_record($key), 'false'));
transaction('prepared', { resyncs => 0 }, 'BEGIN', 'SAVEPOINT a', $bad, 'RELEASE a', q{PREPARE TRANSACTION 'p'});
transaction('rolled back after that', { records => 0, resyncs => 0 }, q{ROLLBACK PREPARED 'p'});
transaction('prepared', { resyncs => 0 }, 'BEGIN', 'SAVEPOINT a', $bad, 'RELEASE a', q{PREPARE TRANSACTION 'p'});
is(worker_pid($node), $worker, 'the worker is the one it was');
is(scalar(() = log_since($node, $log) =~ /cannot read a message of its own in the log/g), 1, 'one line in the log');
$session->query("SELECT pg_terminate_backend($worker)");
wait_worker($node, $worker);
$node->poll_query_until('postgres', "SELECT state = 'delivering' FROM cache_aside.status");
($records) = @{ $session->query('SELECT unreadable_records FROM cache_aside.status')->{rows}[0] };
transaction('committed after a new worker began', { records => 0 }, q{COMMIT PREPARED 'p'});

# ---- and genuine records are what the test's own words make of them
$redis->set('p:any', 'x');
$session->query(write_sql(log_record($prefix, entry(k => 'victim'), entry(k => ''), entry(s => pack('L', 60000) . 'me'))));
wait_delivered($node);
is($redis->exists('victim'), 0, 'a whole record deletes its key');
is($redis->exists('cache_aside:stick:me', 'p:any'), 2, 'writes its stick, and asks for no resync');
unlike(log_since($node, $log), qr/was terminated by|PANIC|ERROR/, 'no crash, no error');
$node->stop;
done_testing();
