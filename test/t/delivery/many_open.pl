# More subtransactions that log keys than the worker can remember (FLOOD=), by a library that writes in
# its own pre-commit callback: memory stays bounded, what is open then is forgotten, and whoever commits
# of those that were running asks for a resync, a prepared one after a new worker began, too. Nothing is
# stale; the worker is exact again when they have ended, and knows of no open transaction any more.
#
# Remedies: forget_open() (tap.c): memory; its barrier: keys stay; note_forgotten() in ca_round_read()
# (round.c): the prepared one's keys stay after the restart; ca_sinks_barrier() in
# ca_catch_up_progress(): the barrier is never lifted.
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
plan(skip_all => 'needs /proc') unless -r "/proc/$$/status";
my $flood = $ENV{FLOOD} // 150_000;
my $late = test_library('late_writer');
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<"EOC");
shared_preload_libraries = '$late,cache_aside'
autovacuum = off
cache_aside.max_wal_retained = 4GB
EOC
make_users($node, 10);
my ($client, $watch) = map { PgWire->new($node) } 1 .. 2;
wait_delivered($node);
my $log = log_position($node);
my $resyncs = status($node, 'resyncs');

# Each block with a key of its own; a user's row is written before.
sub flood
{
	my ($n, $id, $end) = @_;
	my $blocks = qq{FOR i IN 1 .. $n LOOP BEGIN PERFORM cache_aside.invalidate('flood:' || i);}
	  . q{ EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP;};
	$client->query('BEGIN');
	$client->query(qq{SET LOCAL late_writer.sql = \$late\$DO \$do\$ BEGIN $blocks END \$do\$\$late\$});
	$client->query("UPDATE users SET v = v + 1 WHERE id = $id");
	$client->query($end);
	return;
}

sub peak { return (slurp_file('/proc/' . worker_pid($node) . '/status') =~ /^VmHWM:\s+(\d+) kB/m)[0] / 1024 }

# ---- as many as it can remember: exact
my $before = peak();
$redis->mset(map { ($_ => 'x') } user_keys(1 .. 10), 'flood:1', 'flood:60000');
flood(60_000, 1, 'COMMIT');
wait_delivered($node);
is($redis->exists('user:1', 'flood:1', 'flood:60000'), 0, '60000 subtransactions: all keys are gone');
is($redis->exists(user_keys(1 .. 10)), 9, 'and no other');
is(status($node, 'resyncs'), $resyncs, 'without a resync');
my $grown = peak() - $before;

# ---- more, while others are open
$before = peak();
cache_users($redis, 1 .. 10);
$watch->query('BEGIN; UPDATE users SET v = v + 1 WHERE id = 2');
$watch->query(q{PREPARE TRANSACTION 'other'});
wait_delivered($node);
flood($flood, 3, q{PREPARE TRANSACTION 'flood'});
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 4');
wait_delivered($node);
cmp_ok(peak() - $before, '<', 48, sprintf('%d subtransactions: memory is bounded (%+.1f MB, before %+.1f)',
	$flood, peak() - $before, $grown));
like(log_since($node, $log), qr/cache_aside forgets what open transactions would invalidate/, 'said in the log');
is($redis->exists(user_keys(4)), 0, 'what comes later is exact');
is($redis->exists(user_keys(1 .. 10)), 9, 'nothing else is deleted while they are open');

my $worker = worker_pid($node);
$watch->query("SELECT pg_terminate_backend($worker)");
wait_worker($node, $worker);
wait_delivering($node);
wait_delivered($node);
foreach my $prepared (qw(other flood))
{
	cache_users($redis, 1 .. 10);
	$watch->query("COMMIT PREPARED '$prepared'");
	wait_delivered($node);
	is($redis->exists(user_keys(1 .. 10)), 0, "$prepared: a resync when it commits");
}

# ---- all have ended
ok(wait_until(sub { position_of($redis, $node) =~ / ok \d 0 / }), 'the barrier is lifted');
$node->poll_query_until('postgres', 'SELECT cache_aside.read_token() IS NOT NULL') or die 'no token';
$resyncs = status($node, 'resyncs');
cache_users($redis, 1 .. 10);
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 5');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 10)), 9, 'exact again');
is(status($node, 'resyncs'), $resyncs, 'without a resync');
ok(wait_until(sub { position_of($redis, $node) =~ /^\d+ (\S+) \1 / }), 'nobody is thought to be open');
$node->stop;
done_testing();
