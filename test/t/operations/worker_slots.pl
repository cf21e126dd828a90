# max_worker_processes too small. Without room for the worker CREATE EXTENSION and status say so; with room for
# the worker alone keys are deleted, resync() deletes what the caller's database has cached, and status and log
# say what waits and for what; with one slot more all is well.
#
# Remedy: ca_visits_send and note_no_slot in visits.c; keys_logged in census.c (without: no delivery);
# add_patterns_here in maintenance.c (without: t:2 stays); ca_status_worker_began in install.c.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, start => 0,
	conf => "max_logical_replication_workers = 0\nmax_parallel_workers_per_gather = 0\n");
my $wanted = q{concat_ws(' ', trouble, redis_state)};
my $hint = qr/HINT: +Raise max_worker_processes/;

sub slots
{
	my ($n) = @_;
	$node->stop if $node->{_pid};
	$node->append_conf('postgresql.conf', "max_worker_processes = $n\n");
	my $log = -s $node->logfile // 0;
	$node->start;
	return $log;
}

# ---- none
slots(0);
$node->poll_query_until('postgres', q{SELECT clock_timestamp() - pg_postmaster_start_time() > '6 s'});
my (undef, undef, $warned) = $node->psql('postgres', 'CREATE EXTENSION cache_aside');
like($warned, qr/WARNING: +cache_aside's worker is not running.*HINT:.*max_worker_processes/s, '0: CREATE EXTENSION warns');
is(status($node, 'trouble'), 'no worker', '0: status says so');
like(status($node, 'hint'), qr/never began: raise max_worker_processes/, '0: and what to do');
$node->safe_psql('postgres', q{DROP EXTENSION cache_aside});

# ---- one, which the worker takes
my $log = slots(1);
$node->safe_psql('postgres', q{CREATE EXTENSION cache_aside; CREATE TABLE t (id int PRIMARY KEY, n int);
	SELECT cache_aside.attach('t', 't:{id}')});
ok(status_is($node, 'trouble', 'no background worker'), '1: status says what is missing');
$redis->set('t:1', 'old');
$node->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
ok(keys_gone($redis, 't:1'), '1: keys are deleted all the same');
$redis->set('t:1', 'old');
$node->safe_psql('postgres', 'UPDATE t SET n = 1');
ok(keys_gone($redis, 't:1'), '1: always');
$redis->set('t:2', 'old');
$redis->set('other', 'x');
$node->safe_psql('postgres', 'SELECT cache_aside.resync()');
ok(keys_gone($redis, 't:2'), '1: resync() deletes what this database has cached');
ok(is_cached($redis, 'other'), '1: and nothing else');
is(status($node, 'state'), 'resyncing', '1: it is not over');
my @lines = log_since($node, $log) =~ /(no background worker is free for a visit[^\n]*\n[^\n]*DETAIL:[^\n]*\n[^\n]*HINT:[^\n]*)/g;
is(scalar @lines, 1, '1: the log says it once');
like($lines[0], $hint, '1: with what to do');

# ---- and one for visits, of which there are two kinds
$log = slots(2);
$node->safe_psql('postgres', q{SELECT cache_aside.add_replica('r', 'host=r')});
wait_delivered($node);
ok(status_is($node, $wanted, 'connected'), '2: all is well');
$redis->set('t:2', 'old');
foreach (1 .. 10)
{
	$node->safe_psql('postgres', q{SELECT cache_aside.set_replica('r', weight => 2); SELECT cache_aside.resync()});
	wait_delivered($node);
}
ok(!is_cached($redis, 't:2'), '2: a resync ends');
unlike(log_since($node, $log), qr/no background worker is free/, '2: one slot is enough');
$node->stop;
done_testing();
