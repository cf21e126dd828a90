# Lag and the oldest undelivered commit are true in an outage: Redis frozen with a batch in flight, gone while all
# was delivered, a worker started anew, a server started meanwhile, no Redis configured. Commits without keys are
# none.
#
# Remedy: lag.c (ca_lag_look: NULL); ca_ledger_oldest in ledger.c (without `flight`:
# NULL while Redis is frozen); undelivered_from in status.c.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', conf => <<'EOC');
track_commit_timestamp = on
cache_aside.command_timeout = 20s
EOC
my @url = ('cache_aside.redis_url' => $redis->url);
reload_conf($node, @url);
$node->safe_psql('postgres', q{CREATE TABLE plain (id int); CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9);
	SELECT cache_aside.attach('t', 't:{id}')});
wait_delivered($node);
my $oldest = 'oldest_undelivered';
sub committed { my ($id) = @_; return $node->safe_psql('postgres', "SELECT pg_xact_commit_timestamp(xmin) FROM t WHERE id = $id"); }
sub write_row { my ($id) = @_; $node->safe_psql('postgres', "UPDATE t SET id = id WHERE id = $id"); return committed($id); }
sub is_oldest
{
	my ($time, $what) = @_;
	ok(status_is($node, $oldest, $time), "$what: the oldest") or diag("wanted $time");
	is(status($node, "abs(lag_ms - extract(epoch FROM clock_timestamp() - '$time') * 1000) < 1000 AND lag_bytes > 0"), 't', "$what: the lag");
	return;
}
sub is_none
{
	my ($what) = @_;
	ok(status_is($node, "concat_ws(' ', lag_ms, $oldest)", '0'), "$what: none");
	return;
}
is_none('delivered');

# ---- in flight to a Redis that is frozen
$redis->freeze;
my $first = write_row(1);
is_oldest($first, 'frozen');
write_row(2);
is_oldest($first, 'frozen, another one');
$redis->thaw;
wait_delivered($node);
is_none('thawed');

# ---- gone, when all was delivered
$redis->stop;
status_is($node, 'trouble', 'unreachable');
$node->safe_psql('postgres', 'INSERT INTO plain VALUES (1)');
is_none('gone, nothing with keys');
$first = write_row(1);
is_oldest($first, 'gone');
write_row(2);
is_oldest($first, 'gone, another one');
my $pid = worker_pid($node);
kill TERM => $pid;
wait_worker($node, $pid);
status_is($node, 'trouble', 'unreachable');
is_oldest($first, 'a new worker');

# ---- a server that is started meanwhile knows those since
$node->restart;
status_is($node, 'trouble', 'unreachable');
ok(status_is($node, "lag_bytes IS NOT NULL AND confirmed_lsn IS NULL", 't'), 'restarted: at least so much');
$node->safe_psql('postgres', 'INSERT INTO plain VALUES (1)');
my $second = write_row(3);
is_oldest($second, 'restarted');

# ---- no Redis at all, and then it is back
$node->safe_psql('postgres', 'ALTER SYSTEM RESET cache_aside.redis_url');
$node->reload;
status_is($node, 'trouble', 'misconfigured');
is_oldest($second, 'misconfigured');
$redis->start;
reload_conf($node, @url);
wait_delivered($node);
is_none('back');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET cache_aside.redis_url');
$node->reload;
status_is($node, 'trouble', 'misconfigured');
is_none('misconfigured, all delivered');
is_oldest(write_row(4), 'misconfigured, one not');

$node->stop;
done_testing();
