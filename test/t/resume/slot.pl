# The slot that keeps the log: made anew when somebody drops it, when max_slot_wal_keep_size
# invalidates it (what is lost then costs a resync), and done without when none is to be had.
#
# Fails without make_slot() where acquire_slot() (slot.c) finds none. Without
# `Min(ca_status_now.confirmed, ...)` in ca_lag_publish() (lag.c) wait_delivered() does not wait
# for the resync.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, initdb => ['--wal-segsize=1'], conf => <<'EOC');
min_wal_size = 2MB
max_wal_size = 2MB
autovacuum = off
EOC
make_users($node, 100);
wait_delivered($node);
my $slot = q{SELECT count(*) FROM pg_replication_slots
	WHERE slot_name = 'cache_aside' AND restart_lsn IS NOT NULL};
ok($node->poll_query_until('postgres', $slot, '1'), 'a slot');
is($node->safe_psql('postgres',
		q{SELECT slot_type, active FROM pg_replication_slots WHERE slot_name = 'cache_aside'}),
	'physical|f', 'physical, and not held');

sub write_some
{
	my ($what) = @_;
	cache_users($redis, 1 .. 100);
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id <= 50');
	wait_delivered($node);
	is($redis->exists(user_keys(1 .. 100)), 50, "$what: delivery goes on");
	return;
}

# ---- dropped by somebody
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('cache_aside')});
ok($node->poll_query_until('postgres', $slot, '1'), 'dropped: made anew');
write_some('dropped');

# ---- invalidated while nothing was missing
reload_conf($node, max_slot_wal_keep_size => '2MB');
my $worker = stop_process(worker_pid($node));
my $lost = q{SELECT restart_lsn IS NULL FROM pg_replication_slots WHERE slot_name = 'cache_aside'};
ok(wait_until(sub { fill_log($node, 4); $node->safe_psql('postgres', $lost) eq 't' }), 'invalidated');
cache_users($redis, 1 .. 100);
my $resyncs = status($node, 'resyncs');
go_on($worker);
ok($node->poll_query_until('postgres', $slot, '1'), 'invalidated: made anew');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 100)), 0, 'the log was gone: a resync');
is(status($node, 'resyncs'), $resyncs + 1, 'one');
write_some('invalidated');
is(worker_pid($node), $worker, 'the worker lives');

# ---- none to be had
foreach my $conf ("max_replication_slots = 0\n", "wal_level = minimal\nmax_wal_senders = 0\n")
{
	my ($name) = $conf =~ /^(\w+ = \w+)/;
	$node->safe_psql('postgres', 'SELECT cache_aside.uninstall()');
	$node->append_conf('postgresql.conf', $conf);
	my $log = log_position($node);
	$node->restart;
	wait_delivering($node); # uninstall() took the position along: it begins with a resync
	write_some($name);
	$worker = worker_pid($node);
	ok(wait_until(sub { log_since($node, $log) =~ /runs without its replication slot/ }), "$name: log");
	is(status($node, 'retained_wal'), '', "$name: status");
	my $later = $node->safe_psql('postgres', q{SELECT clock_timestamp() + '3 s'}); # it looks each second
	ok($node->poll_query_until('postgres', "SELECT clock_timestamp() > '$later'"), "$name: seconds pass");
	is(scalar(() = log_since($node, $log) =~ /runs without/g), 1, "$name: said once");
	is(worker_pid($node), $worker, "$name: the worker lives");
}

$node->stop;
done_testing();
