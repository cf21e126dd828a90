# Redis loses what the worker keeps there, under load: FLUSHALL, SCRIPT FLUSH, FUNCTION FLUSH, the
# position evicted, replaced by nonsense or by one beyond our log, another system's beside it. The
# stream of commits goes on; afterwards every written key is gone.
#
# Evicted: fails without the return for `same_data()` in resume_remembered() (resume.c), because then
# the position that this process wrote to this very Redis costs a resync. Nonsense: fails without
# drop_nonsense(), because the first batch expects no position where there is one. Beyond our log:
# fails without `position->confirmed > end` in resume_stored(), because user:1 is below it.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 1000);
my $own = position_key($node);
my $others = 'cache_aside:position:1';
my $nonsense = "1 0/0 \xff\xfe";
wait_delivered($node);
my $load = start_pgbench($node, 2, <<'EOS');
\set id random(1, 500)
UPDATE users SET v = v + 1 WHERE id = :id;
EOS
ok($node->poll_query_until('postgres', 'SELECT commits > 100 FROM cache_aside.status'), 'load');

sub forgets
{
	my ($what, $fault, %expect) = @_;
	my $resyncs = status($node, 'resyncs');
	my $log = log_position($node);
	my $commits = status($node, 'commits');
	cache_users($redis, 1 .. 1000);
	$fault->();
	cache_users($redis, 1 .. 1000) if $expect{wiped};
	ok($node->poll_query_until('postgres', "SELECT commits > $commits + 100 FROM cache_aside.status"),
		"$what: delivery goes on");
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id <= 500');
	wait_delivered($node);
	is($redis->exists(user_keys(1 .. 500)), 0, "$what: every written key is gone");
	is(status($node, 'resyncs') - $resyncs, $expect{resync} // 0, "$what: resyncs");
	is($redis->exists(user_keys(501 .. 1000)), $expect{resync} ? 0 : 500, "$what: the other keys");
	is(scalar(() = log_since($node, $log) =~ /nonsense/g), $expect{nonsense} // 0, "$what: log")
	  if defined $expect{nonsense};
	return;
}

# The same process with other data: what they hold nobody knows, and they might be another database's.
forgets('FLUSHALL', sub { $redis->flushall }, wiped => 1, resync => 1);
forgets('FLUSHALL and FUNCTION FLUSH', sub { $redis->pipeline(['FLUSHALL'], [ 'FUNCTION', 'FLUSH' ]) },
	wiped => 1, resync => 1);
$redis->set($others, $nonsense);
forgets('FUNCTION FLUSH', sub { $redis->command('FUNCTION', 'FLUSH') });
forgets('SCRIPT FLUSH', sub { $redis->command('SCRIPT', 'FLUSH') });
forgets('position evicted', sub { $redis->del($own) });
forgets('nonsense', sub { $redis->set($own, $nonsense) }, resync => 1, nonsense => 1);
forgets('a list', sub { $redis->pipeline([ 'DEL', $own ], [ 'LPUSH', $own, 'x' ]) });
# The stored text, but for the LSNs of confirmed and restart.
sub displaced
{
	my ($lsn) = @_;
	return $redis->get($own) =~ s/^(\d+) \S+ \S+/$1 $lsn $lsn/r;
}
forgets('beyond our log', sub { $redis->set($own, displaced('FF/0')) }, resync => 1);
stop_pgbench($load);

# Beyond our log, in a quiet server: what is to be delivered lies below it.
wait_delivered($node);
my $worker = stop_process(worker_pid($node));
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
cache_users($redis, 1);
$redis->set($own, displaced('FF/0'));
go_on($worker);
ok(keys_gone($redis, 'user:1'), 'beyond our log, quiet: delivered');

# Well-formed, but no record begins there.
wait_delivered($node);
$redis->set($own, displaced('0/1000029'));
$redis->set('user:2', 'cached');
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 2');
ok(keys_gone($redis, 'user:2'), 'not the start of a record: found out, and delivered');

is($redis->get($others), $nonsense, q{another system's position was left alone});
$node->stop;
done_testing();
