# The worker answers while it reads: in the middle of a record of 32 MB, between two of its pages, DROP
# DATABASE goes on, a reload is done, and a stop stops it; a large transaction whose messages lie far apart
# in the log is read in steps. What was to be deleted is deleted all the same, and nothing else.
#
# Remedies: ProcessProcSignalBarrier(), and should_give_up() for each of the two, in read_page() (wal.c);
# READ_BUDGET in next_message() (reread.c); ca_batch_unfinished() in ca_delivery_send().
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/stat";
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "autovacuum = off\nlog_min_messages = debug1\n");
make_users($node, 40_000);
my $client = PgWire->new($node);
wait_delivered($node);
my $resyncs = status($node, 'resyncs');
my $worker = worker_pid($node);

sub stands
{
	my ($pid) = @_;
	return wait_until(sub { slurp_file("/proc/$pid/stat") =~ /^\d+ \(.*\) T/ });
}

sub gone { my ($pid) = @_; return wait_until(sub { !kill 0, $pid }) }

# Stops it in the middle of a large record.
sub stop_in_record
{
	cache_users($redis, 1 .. 40_000);
	stop_process($worker);
	$client->query(q{SELECT pg_logical_emit_message(false, 'large', repeat('x', 32 * 1000 * 1000))});
	$client->query('UPDATE users SET v = v + 1 WHERE id = 1');
	reload_conf($node, 'cache_aside.debug_point' => 'page-read=stop');
	foreach (1 .. 5)
	{
		go_on($worker);
		stands($worker) or die 'it does not stand';
	}
	return;
}

# ---- a barrier
$node->safe_psql('postgres', 'CREATE DATABASE other');
stop_in_record();
my $dropper = PgWire->new($node);
$dropper->send('DROP DATABASE other');
$node->poll_query_until('postgres',
	q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ProcSignalBarrier'}, '1') or die 'no barrier';
my $dropped = 0;
for (my $i = 0; $i < 10 && !$dropped; $i++) # the other processes take their time too
{
	go_on($worker);
	stands($worker) or die 'it does not stand';
	$dropped = wait_until(
		sub { $client->value(q{SELECT count(*) FROM pg_database WHERE datname = 'other'}) == 0 }, 2);
}
ok($dropped, 'DROP DATABASE is done in the middle of a record');

# ---- a reload, and everything is delivered
reload_conf($node, 'cache_aside.debug_point' => '');
go_on($worker);
$dropper->receive;
ok(keys_gone($redis, 'user:1'), 'a reload is done there, and the record read again');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 40_000)), 39_999, 'exactly');
is(worker_pid($node), $worker, 'by the same worker');

# ---- a stop
stop_in_record();
kill 'TERM', $worker;
go_on($worker);
ok(gone($worker), 'SIGTERM ends it there');
reload_conf($node, 'cache_aside.debug_point' => '');
my $next = wait_worker($node, $worker);
kill 'CONT', $next;
ok(keys_gone($redis, 'user:1'), 'the next worker delivers');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 40_000)), 39_999, 'exactly');
$worker = worker_pid($node);

# ---- much log between the messages of one transaction
cache_users($redis, 1 .. 40_000);
reload_conf($node, 'cache_aside.debug_point' => 'chunk-logged=stop,reread-later=stop');
my $backend = $client->value('SELECT pg_backend_pid()');
$client->send('UPDATE users SET v = v + 1 WHERE id <= 35000');
stands($backend) or die 'the backend does not stand';
fill_log($node, 20);
reload_conf($node, 'cache_aside.debug_point' => 'reread-later=stop');
my $steps = 0;
wait_until(sub { kill 'CONT', $backend; slurp_file("/proc/$backend/stat") =~ /^\d+ \(.*\) S/ });
$client->receive;
ok(stands($worker), 'it is read in steps');
foreach (1 .. 3) { kill 'CONT', $worker; $steps += stands($worker) ? 1 : 0 }
is($steps, 3, 'several');
reload_conf($node, 'cache_aside.debug_point' => '');
kill 'CONT', $worker;
my $start = time;
wait_delivered($node);
cmp_ok(time - $start, '<', 10, 'without pauses in between');
is($redis->exists(user_keys(1 .. 40_000)), 5000, 'all of it is deleted, and nothing else');
is(status($node, 'resyncs'), $resyncs, 'no resync');
$node->stop;
done_testing();
