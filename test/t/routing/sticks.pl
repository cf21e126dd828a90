# Sticks: visible to everybody when COMMIT returns; who does not want to wait is told the LSN. A stick that Redis
# lost is never taken for one that was not left. In an outage COMMIT returns at once and says so.
#
# Remedy: ca_commit_waits in commit.c (without: up to all of 100 absent after COMMIT); told_anyway there;
# at_subtransaction_event there; add_forgotten in batch.c and the three questions in stick.c (without: NULL after
# FLUSHALL); settled in status.h.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.synchronous_timeout = 30s\n");
$node->safe_psql('postgres', 'CREATE TABLE u (id int PRIMARY KEY, n int); INSERT INTO u VALUES (1, 1)');
wait_delivered($node);
my $c = PgWire->new($node);
sub stuck { return $c->value("SELECT cache_aside.stuck_at('$_[0]')"); }
sub absent { my ($name) = @_; return $redis->exists("cache_aside:stick:$name") ? 0 : 1; }

is(stuck('nobody'), undef, 'nobody: certainly none');

# ---- right after COMMIT
foreach my $synchronous ('off', 'on')
{
	my $missing = 0;
	$c->query("SET cache_aside.synchronous = $synchronous");
	foreach my $i (1 .. 100)
	{
		$c->query("BEGIN; UPDATE u SET n = n + 1; SELECT cache_aside.stick('$synchronous$i'); COMMIT");
		$missing += absent("$synchronous$i");
	}
	is($missing, 0, "synchronous $synchronous: each is there when COMMIT returns");
}
$c->query('SET cache_aside.synchronous = on');
$c->query(q{SELECT cache_aside.stick('asked', wait => false)});
is(absent('asked'), 0, 'a synchronous session waits all the same');
$c->query('SET cache_aside.synchronous = off');
$c->query('SET synchronous_commit = off');
$c->query(q{SELECT cache_aside.stick('async')});
is(absent('async'), 0, 'so does one whose commits are not flushed');
$c->query('RESET synchronous_commit');

# ---- the worker stands still: who waits, and who does not
my $worker = stop_process(worker_pid($node));
$c->query('SET cache_aside.synchronous_timeout = 10000');
sub ms { my ($sql) = @_; my $begin = time; my $result = $c->query($sql); return (1000 * (time - $begin), $result); }
my ($ms, $result) = ms(q{BEGIN; UPDATE u SET n = 0; SELECT cache_aside.stick('late', wait => false); COMMIT});
cmp_ok($ms, '<', 5000, 'wait => false: it does not');
is($result->{status}{'cache_aside.commit_lsn'}, $c->value('SELECT cache_aside.commit_lsn()'), '... and the client is told the LSN');
foreach my $sql (q{BEGIN; SAVEPOINT a; SELECT cache_aside.stick('x'); ROLLBACK TO a; SELECT cache_aside.stick('y', wait => false); COMMIT},
	q{BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT cache_aside.stick('x'); RELEASE b; ROLLBACK TO a; SELECT cache_aside.stick('y', wait => false); COMMIT},
	q{BEGIN; SELECT cache_aside.stick('x'); ROLLBACK},
	q{BEGIN; SELECT cache_aside.stick('x'); PREPARE TRANSACTION 'p'},
	q{UPDATE u SET n = 1}, q{COMMIT PREPARED 'p'})
{
	($ms) = ms($sql);
	cmp_ok($ms, '<', 5000, "no wait: $sql");
}
$c->query('SET cache_aside.synchronous_timeout = 300');
foreach my $sql (q{BEGIN; SELECT cache_aside.stick('x'); SAVEPOINT a; SELECT cache_aside.stick('y'); ROLLBACK TO a; COMMIT},
	q{BEGIN; SAVEPOINT a; SELECT cache_aside.stick('x'); RELEASE a; SAVEPOINT b; ROLLBACK TO b; COMMIT})
{
	($ms, $result) = ms($sql);
	cmp_ok($ms, '>=', 300, "a wait: $sql");
	is($result->{notices}[0]{M} // '', 'the cache keys of this commit are not known to be deleted: no answer within cache_aside.synchronous_timeout',
		'... that says how it ended');
}
go_on($worker);
wait_delivered($node);

# ---- lost: emptied, at once and later
my $lsn = $c->value(q{SELECT pg_current_wal_flush_lsn()});
sub above { return $c->value("SELECT '$_[0]'::pg_lsn >= '$lsn'"); }
$c->query(q{BEGIN; UPDATE u SET n = 2; SELECT cache_aside.stick('me', '5 min'); COMMIT});
is(stuck('me'), $lsn = $c->value('SELECT cache_aside.commit_lsn()'), 'it is there');
is(stuck('nobody'), undef, 'still none');
$redis->flushall;
isnt(my $now = stuck('me'), undef, 'emptied: not taken for none');
is(above($now), 't', '... nothing older than what was lost');
ok(wait_until(sub { $redis->exists('cache_aside:stick:') }), 'the worker notices');
is(above(stuck('me')), 't', 'nor later');
ok($redis->ttl('cache_aside:stick:') > 80_000_000, 'for a day');
$c->query(q{BEGIN; UPDATE u SET n = 3; SELECT cache_aside.stick('me', '5 min'); COMMIT});
is(stuck('me'), $c->value('SELECT cache_aside.commit_lsn()'), 'a newer one counts');

# ---- gone back in time: the position is there, and an older one
$redis->save;
$c->query(q{BEGIN; UPDATE u SET n = 4; SELECT cache_aside.stick('later', '5 min'); COMMIT});
$lsn = stuck('later');
$redis->kill9;
status_is($node, 'trouble', 'unreachable');
$worker = stop_process(worker_pid($node));
$redis->start;
is(absent('later'), 1, 'gone back in time: it is lost');
is(above(stuck('later')), 't', '... and not taken for none');
go_on($worker);
wait_delivered($node);
is(stuck('later'), $lsn, '... until it is brought back');

# ---- lost with the process
$lsn = stuck('me');
$redis->kill9->start;
my $told = eval { stuck('me') };
ok(!defined $told || above($told) eq 't', 'begun from nothing: an error, or nothing older');
ok($told || $@ =~ /08|could not/, '... never none');
wait_delivered($node);
is(above(stuck('me')), 't', 'nor when the worker is back');

# ---- outage: at once, with a warning
$redis->stop;
status_is($node, 'trouble', 'unreachable');
$c->query('SET cache_aside.synchronous_timeout = 30000');
($ms, $result) = ms(q{SELECT cache_aside.stick('me')});
cmp_ok($ms, '<', 10000, 'an outage: COMMIT returns');
like($result->{notices}[0]{M} // '', qr/Redis cannot be reached/, '... and says why');
is($c->query(q{SELECT cache_aside.stuck_at('me')}, may_fail => 1)->{error}{C}, '08006', 'reading raises');
is($c->query(q{SELECT cache_aside.stick('x', '2 days')}, may_fail => 1)->{error}{C}, '22023', 'a day at most');

$node->stop;
done_testing();
