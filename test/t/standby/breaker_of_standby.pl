# Log that ends the worker of a standby: one that follows, one that delivers to a Redis of its own. A standby
# that restarts replays anew what it had replayed, so what killed its worker comes only after that: the
# fourth start leaves out what the one before may have read. Then a primary whose worker dies again between
# the skip and the first position behind it: it skips again.
#
# Remedies: ca_breaker_reads() in read_records (tap.c): without, a standby skips too little, and dies on.
# ca_breaker_begin() in begin (follow.c).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();
my ($redis, $region) = map { RedisServer->new(name => $_)->start } 'main', 'region';
my $primary = CacheAside->new_node('primary', redis => $redis,
	conf => "restart_after_crash = on\nautovacuum = off\nmax_wal_size = 1GB\n");
make_users($primary, 100);
$primary->safe_psql('postgres', q{CREATE TABLE bad (id int, v int);
	INSERT INTO bad VALUES (1); SELECT cache_aside.attach('bad', 'poison:{id}')});
wait_delivered($primary);

sub skipped
{
	my ($node, $log, $what) = @_;
	ok(wait_until(sub { log_since($node, $log) =~ /LOG:  cache_aside skips the log from/ && answers($node) }),
		"$what: the fourth start skips the log");
	# Three in one place. The first one may have been before it: where delivery stood until it had the commit before.
	my $deaths = () = log_since($node, $log) =~ /"cache_aside worker" \(PID \d+\) was terminated by signal 11/g;
	like($deaths, $what eq 'delivers' ? qr/^[34]$/ : qr/^3$/, "$what: after three deaths");
	return;
}

sub replayed
{
	my ($standby) = @_;
	return $primary->wait_for_catchup($standby->name, 'replay', $primary->lsn('insert'));
}

foreach my $delivery ('primary', 'always')
{
	my $what = $delivery eq 'always' ? 'delivers' : 'follows';
	my $standby = CacheAside->new_standby($what, $primary, redis => $region,
		conf => "cache_aside.delivery = $delivery\ncache_aside.debug_point = 'poison-read=segv'\n");
	ok(status_is($standby, 'state', $delivery eq 'always' ? 'delivering' : 'standby'), "a standby $what");
	cache_users($region, 1 .. 4);
	$region->set('poison:1', 'cached');
	# Log without data: consistent at its beginning, so that the worker begins while it is replayed again.
	$primary->safe_psql('postgres', q{SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000))
		FROM generate_series(1, 80)});
	replayed($standby);
	my $log = log_position($standby);
	$primary->safe_psql('postgres', $_)
	  foreach 'UPDATE users SET v = v + 1 WHERE id = 1', 'UPDATE bad SET v = 1',
	  'UPDATE users SET v = v + 1 WHERE id = 2';
	skipped($standby, $log, $what);
	$primary->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 3');
	replayed($standby);
	my $token = 'SELECT cache_aside.read_token() IS NOT NULL';
	ok($standby->poll_query_until('postgres', $token), "$what: there are tokens again");
	like($standby->safe_psql('postgres', q{SELECT log_skipped_from < log_skipped_to, log_skips FROM cache_aside.status}),
		qr/^t\|[1-9]/, "$what: status says so");
	if ($delivery eq 'always')
	{
		ok(keys_gone($region, 'poison:1', map { "user:$_" } 1 .. 3), "$what: later commits are delivered");
		ok(status_is($standby, 'state', 'delivering'), "$what: the resync ends");
	}
	$standby->stop;
}

# ---- dies again before Redis has the new position
$redis->set('poison:1', 'cached');
my $key = position_key($primary);
my $position = $redis->get($key);
my $log = log_position($primary);
my $worker = stop_process(worker_pid($primary));
reload_conf($primary, 'cache_aside.debug_point' => 'poison-read=segv,batch-begins=segv');
$primary->safe_psql('postgres', 'UPDATE bad SET v = 2');
go_on($worker);
ok(wait_until(sub { (() = log_since($primary, $log) =~ /skips the log/g) >= 3 }),
	'it dies behind the skip, and skips again');
is((split / /, $redis->get($key))[2], (split / /, $position)[2], 'Redis holds the old position');
ok(is_cached($redis, 'poison:1'), '... and what was cached');
ok(wait_until(sub { answers($primary) }), 'the server can be used meanwhile');
reload_conf($primary, 'cache_aside.debug_point' => 'poison-read=segv');
ok(keys_gone($redis, 'poison:1'), 'then the resync deletes it');
wait_delivered($primary);
cache_users($redis, 1, 2);
$primary->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
ok(keys_gone($redis, 'user:1'), 'and delivery goes on');
ok(is_cached($redis, 'user:2'), '... exactly');

$primary->stop;
done_testing();
