# What was under way when the worker began to read in the middle of the log: a commit that was in the log
# before, but became visible later, and a prepared transaction that ends in the instant between reading
# log and looking at what is visible; and a position that is written before anything was read again.
#
# Fails, part by part, without
# - the second resync (`*resync = resync_early` in ca_open_at_start_passed, open_at_start.c);
# - the same and `read_end < ends_below` there: the commit is read when nobody asks any more who it was;
# - ca_tap_read_end() as a bound of restart in ca_ledger_next() (ledger.c).
use strict;
use warnings;

use CacheAside;
use Faults;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "max_prepared_transactions = 5\nautovacuum = off\n");
make_users($node, 20);
my ($c, $stalled) = map { PgClient->new(dir => $node->host, port => $node->port) } 1, 2;
wait_delivered($node);

# An empty Redis, and nobody who remembers the position: the worker begins at the last checkpoint.
sub start_blind
{
	$c->query('CHECKPOINT');
	my $resyncs = status($node, 'resyncs');
	my $log = log_position($node);
	my $worker = worker_pid($node);
	$redis->kill9;
	kill 'TERM', $worker; # it remembers where it was
	wait_worker($node, $worker);
	$redis->start;
	ok(wait_until(sub { status($node, 'resyncs') > $resyncs && status($node, 'state') eq 'delivering' }),
		'a blind start, and its resync has ended');
	return $log;
}

sub debug_point { return reload_conf($node, 'cache_aside.debug_point' => $_[0]); }

sub is_stopped
{
	my ($pid) = @_;
	open my $fh, '<', "/proc/$pid/stat" or die $!;
	return <$fh> =~ /\) T /;
}

# ---- committed before the checkpoint, visible after the resync
reload_conf($node, synchronous_standby_names => 'nobody');
$c->query('SET synchronous_commit = local');
$stalled->send_query('UPDATE users SET v = v + 1 WHERE id = 1');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE wait_event = 'SyncRep'}), 'a commit waits for a standby');
my $log = start_blind();
cache_users($redis, 1);
$c->query(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
$stalled->finish;
ok(keys_gone($redis, 'user:1'), 'a commit from before the log that is read: deleted once it is visible');
like(log_since($node, $log), qr/transactions that were open when it began to read have ended/,
	'by a second resync');
reload_conf($node, synchronous_standby_names => '');
wait_delivered($node);

# ---- ends between reading and looking
$c->query(q{BEGIN; UPDATE users SET v = v + 1 WHERE id = 2; PREPARE TRANSACTION 'p'});
wait_delivered($node);
start_blind();
my $worker = worker_pid($node);
$node->append_conf('postgresql.auto.conf', "cache_aside.debug_point = 'log-read=stop'\n");
$node->reload;
ok(wait_until(sub { is_stopped($worker) }), 'the worker has read what there is, and stops');
cache_users($redis, 2);
$c->query(q{COMMIT PREPARED 'p'});
debug_point('');
go_on($worker);
ok(keys_gone($redis, 'user:2'), 'a prepared transaction that ends just then: its key is deleted');
wait_delivered($node);

# ---- a session that writes its position before it has read anything
$c->query(q{BEGIN; UPDATE users SET v = v + 1 WHERE id = 3; PREPARE TRANSACTION 'q'});
$c->query('UPDATE users SET v = v + 1 WHERE id = 4');
wait_delivered($node);
my (undef, $confirmed, $restart) = split / /, position_of($redis, $node);
isnt($restart, $confirmed, 'the prepared transaction holds the restart LSN back');
debug_point('read=skip');
foreach (1, 2)
{
	my $before = position_of($redis, $node);
	$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	ok(wait_until(sub { position_of($redis, $node) ne $before }), 'another session writes its position');
}
is((split / /, position_of($redis, $node))[2], $restart, 'the restart LSN is where it was');
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
debug_point('');
cache_users($redis, 3);
$c->query(q{COMMIT PREPARED 'q'});
ok(keys_gone($redis, 'user:3'), 'and what is read again is delivered');

$node->stop;
done_testing();
