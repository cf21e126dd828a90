# Whatever ends the wait of a synchronous commit, the commit stands, a WARNING says so, and the keys
# are deleted when Redis is back. What each remedy is: the cases of sleep_until_delivered(); the known
# outage, ca_sync_outage(); the client that does not read, `appending` in commit_warning.c.
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
cache_aside.synchronous_timeout = 60s
cache_aside.command_timeout = 60s
EOC
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, n int);
	INSERT INTO users SELECT g, 0 FROM generate_series(1, 20) g;
	SELECT cache_aside.attach('users', 'user:{id}');
	CREATE FUNCTION touch(id int) RETURNS void LANGUAGE sql AS 'UPDATE users SET n = n + 1 WHERE id = $1';
	CREATE PROCEDURE many() LANGUAGE plpgsql AS $$
		BEGIN FOR i IN 1 .. 10 LOOP PERFORM touch(i); COMMIT; END LOOP; END $$;
});
my $watch = PgWire->new($node);
my ($touched, $row) = (0, 1);

sub session { return PgWire->new($node, options => '-c cache_aside.synchronous=on ' . ($_[0] // '')); }

sub begin_touch
{
	my ($session) = @_;
	$touched++;
	$session->send("SELECT touch($row)");
	return $session;
}

sub waits
{
	my (@sessions) = @_;
	my $pids = join ',', map { $_->{pid} } @sessions;
	ok( wait_until(
			sub {
				$watch->value("SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids)"
					  . " AND state = 'active' AND wait_event_type = 'Extension'") == @sessions;
			}),
		'waiting');
	return;
}

sub warned
{
	my ($name, $result, $reason) = @_;
	my $notice = $result->{notices}[0];
	is($notice->{S}, 'WARNING', "$name: a warning");
	like($notice->{M}, $reason, "$name: $reason");
	like($notice->{D}, qr/The transaction is committed/, "$name: and what it means");
	return;
}

sub committed
{
	my ($name) = @_;
	is($watch->value("SELECT n FROM users WHERE id = $row"), $touched, "$name: committed");
	return;
}

# The session's statement ends well, with this warning.
sub ends
{
	my ($name, $session, $reason) = @_;
	my $result = $session->receive;
	is($result->{tag}, 'SELECT 1', "$name: the statement succeeded");
	warned($name, $result, $reason);
	committed($name);
	return;
}

# ---- Redis hangs
$redis->set('user:1', 'old');
$redis->freeze;
ends('time-out', begin_touch(session('-c cache_aside.synchronous_timeout=50ms')), qr/synchronous_timeout/);
my ($canceled, $terminated) = (begin_touch(session()), begin_touch(session()));
waits($canceled, $terminated);
$watch->query("SELECT pg_cancel_backend($canceled->{pid})");
ends('cancel', $canceled, qr/canceled/);
$canceled->query('SELECT 1');    # the cancel does not hit the next statement
$watch->query("SELECT pg_terminate_backend($terminated->{pid})");
my $result = $terminated->receive(may_fail => 1);
warned('termination', $result, qr/terminated/);
is($result->{tag}, 'SELECT 1', 'termination: the client learns of its commit');
is($terminated->receive(may_fail => 1)->{error}{S}, 'FATAL', 'and then that it is over');
committed('termination');
$redis->thaw;
ok(keys_gone($redis, 'user:1'), 'delivered when Redis answers again');

# ---- the worker ends
$redis->set('user:1', 'old');
$redis->freeze;
my $orphan = begin_touch(session());
waits($orphan);
my $old = worker_pid($node);
$watch->query("SELECT pg_terminate_backend($old)");
ends('worker', $orphan, qr/the worker is not running/);
$redis->thaw;
wait_worker($node, $old);
ok(keys_gone($redis, 'user:1'), 'the next worker delivers');

# ---- Redis goes away, and is known to be away
$redis->set('user:1', 'old');
$redis->command('SAVE');
wait_delivered($node);
$redis->freeze;
my @caught = map { begin_touch(session()) } 1 .. 3;
waits(@caught);
$touched -= 3;
$redis->kill9;
foreach my $session (@caught) { $touched++; warned('outage', $session->receive, qr/Redis cannot be reached/); }
committed('outage');
status_is($node, 'redis_state', 'unreachable');
my $session = session();
my $start = time;
foreach (1 .. 20) { begin_touch($session); warned('known outage', $session->receive, qr/cannot be reached/); }
cmp_ok(time - $start, '<', 30, 'nobody waits for a Redis that is known to be away');
$session->query("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'bare'");
like($session->query("COMMIT PREPARED 'bare'")->{notices}[0]{D}, qr/If it has keys/,
	'COMMIT PREPARED: nobody knows whether it has keys, and none is claimed');
$result = $session->query('CALL many()');
is(scalar @{ $result->{notices} }, 1, 'one warning per statement, however often it commits');
$touched++;
committed('procedure');

# A client that sends and never reads: its backend must not be caught in a warning.
my @deaf = map { session() } 1 .. 5;
$row = 11;
foreach my $deaf (@deaf) { $deaf->send(('SELECT touch(11)') x 3000); }
my $pids = join ',', map { $_->{pid} } @deaf;
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 5 FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event = 'ClientWrite'"),
	'clients that do not read');
$watch->query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ($pids)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($pids)"),
	'their backends can be ended');
$redis->start;
ok(keys_gone($redis, 'user:1'), 'all is delivered when Redis is back');
wait_delivered($node);
is_deeply($session->query('SELECT touch(12)')->{notices}, [], 'and commits wait again');

reload_conf($node, 'cache_aside.delivery' => 'off');
status_is($node, 'state', 'off');
warned('off', $session->query('SELECT touch(12)'), qr/this server does not deliver/);
reload_conf($node, 'cache_aside.delivery' => 'primary');
status_is($node, 'state', 'delivering');
is_deeply($session->query('SELECT touch(12)')->{notices}, [], 'waits when delivery is on again');

# ---- the server stops
($row, $touched) = (13, 0);
$redis->set('user:13', 'old');
$redis->freeze;
my @stopped = map { begin_touch(session()) } 1 .. 3;
waits(@stopped);
$touched = 3;
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 30, 'a fast shutdown does not wait for Redis');
warned('shutdown', $_->receive(may_fail => 1), qr/terminated/) foreach @stopped;
$redis->thaw;
$node->start;
$watch = PgWire->new($node);
committed('shutdown');
ok(keys_gone($redis, 'user:13'), 'delivered after the restart');

# ---- the postmaster dies
$redis->set('user:13', 'old');
$redis->freeze;
my $survivor = begin_touch(session());
waits($survivor);
$node->kill9;
ok(wait_until(sub { !kill 0, $survivor->{pid} }), 'a backend that waits ends with the postmaster');
$redis->thaw;
$node->start;
$watch = PgWire->new($node);
committed('crash');
ok(keys_gone($redis, 'user:13'), 'delivered after the crash');

foreach my $value ('0', '-1', '61s')
{
	my ($status, $out, $err) = $node->psql('postgres', "SET cache_aside.synchronous_timeout = '$value'");
	like($err, qr/must be from 1 ms to 60000 ms.*HINT/s, "synchronous_timeout = $value is refused");
}

done_testing();
