# DROP DATABASE: keys of its committed writes are deleted though it is gone, also when Redis was frozen
# meanwhile; it does not wait for Redis; a resync that is about to visit it goes on without it. A
# frozen worker holds it up only until it goes on.
#
# Fails without `complete || !database_exists(database)` in visit_ended() (visit_rules.c): the resync would
# try to visit the dropped database for ever.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "restart_after_crash = on\n");
make_users($node, 100);
my $drop = 'DROP DATABASE other';

sub make_other
{
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', q{CREATE EXTENSION cache_aside; CREATE TABLE t (id int);
		SELECT cache_aside.attach('t', 'other:{id}')});
	wait_delivered($node);
	$redis->mset('other:1' => 'x', 'other:2' => 'x', 'user:1' => 'x');
	return;
}

make_other();
$redis->freeze;
$node->safe_psql('other', 'INSERT INTO t VALUES (1)');
$node->safe_psql('postgres', $drop);
$redis->thaw;
wait_delivered($node);
is($redis->exists('other:1'), 0, 'the key of a dropped database is gone');
is($redis->exists('other:2', 'user:1'), 2, 'others are there');

# Redis and the worker are frozen: every process must take part in dropping.
make_other();
$redis->freeze;
$node->safe_psql('other', 'INSERT INTO t VALUES (1)');
my $worker = stop_process(worker_pid($node));
my $session = background_sql($node);
$session->query_until(qr/begun/, "\\echo begun\n$drop;\n\\echo done\n");
ok($node->poll_query_until('postgres',
		q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ProcSignalBarrier'}, 1),
	'DROP DATABASE waits for the frozen worker');
go_on($worker);
$session->query_until(qr/done/, '');
$session->quit;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_database WHERE datname = 'other'}), 0,
	'... and ends when it goes on, Redis still frozen');
$redis->thaw;
wait_delivered($node);
is($redis->exists('other:1'), 0, '... and the key goes');

# The list of databases to visit is made, then one of them goes.
make_other();
reload_conf($node, 'cache_aside.debug_point' => 'visit-begins=stop');
$node->safe_psql('postgres', 'SELECT cache_aside.resync()');
ok(wait_until(sub { PostgreSQL::Test::Utils::slurp_file("/proc/$worker/stat") =~ /\) T/ }),
	'the worker is about to visit');
my $dropping = background_sql($node);
$dropping->query_until(qr/begun/, "\\echo begun\n$drop;\n\\echo done\n");
$node->poll_query_until('postgres',
	q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ProcSignalBarrier'}, 1) or die;
reload_conf($node, 'cache_aside.debug_point' => '');
go_on($worker);
$dropping->query_until(qr/done/, '');
$dropping->quit;
wait_delivered($node);
is($redis->exists('user:1'), 0, 'the resync has ended');
is(worker_pid($node), $worker, 'and the worker lives');

$node->stop;
done_testing();
