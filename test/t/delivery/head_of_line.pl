# A scan that takes long holds up nobody but those who wait for it: behind 20000 commits with patterns,
# a resync and a commit that is not visible, others' keys are deleted at once; memory stays where it was,
# with a flood of different patterns (FLOOD=) and of keys in commits that are not visible too; in the end
# everything is deleted and confirmed, and everybody counted.
#
# Remedies: ca_queue_full() not counting who waits, with ca_queue_wait() and its collect() (queue.c);
# forget_invisible(): 18 MB that are not visible stop it; ca_scan_full() in fill_from() (batch.c); the
# backlog, begun in ca_queue_block(): it stops behind 8192 patterns that there is no room for; what
# put_into_backlog() takes over of each (queue.c): keys stay.
use strict;
use warnings;

use CacheAside;
use Faults;
use LogRecord;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/status";
my $flood = $ENV{FLOOD} // 44_000;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
autovacuum = off
max_connections = 100
cache_aside.max_wal_retained = 8GB
EOC
make_users($node, 2000);
LogRecord->install($node);
my $client = PgWire->new($node);
$client->query(q{CREATE PROCEDURE ask(n int, pattern text, numbered bool) LANGUAGE plpgsql AS $$ BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM cache_aside.invalidate_pattern(pattern || CASE WHEN numbered THEN i::text || ':*' ELSE '*' END);
		COMMIT;
	END LOOP; END $$});
wait_delivered($node);
$redis->mset(map { ("other:$_" => 'x') } 1 .. 20_000);
cache_users($redis, 1 .. 2000);

my $last = 0;

# A user's key goes although others wait.
sub goes_at_once
{
	my ($what) = @_;
	my $seconds = soonest(
		2,
		sub {
			my $id = ++$last;
			my $start = time;
			$client->query("UPDATE users SET v = v + 1 WHERE id = $id");
			ok(keys_gone($redis, "user:$id"), "$what: another key goes");
			return time - $start;
		});
	cmp_ok($seconds, '<', 2, sprintf '%s: after %.0f ms', $what, 1000 * $seconds);
	return;
}

sub memory { return (slurp_file('/proc/' . worker_pid($node) . '/status') =~ /^VmHWM:\s+(\d+) kB/m)[0] / 1024 }

# ---- one pattern, many commits; a scan of 20000 keys that takes 200 s
reload_conf($node, 'cache_aside.scan_rate' => 100);
my $before = memory();
my $commits = status($node, 'commits');
$client->query(q{CALL ask(20000, 'other:1', false)});
goes_at_once('behind 20000 commits');
is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(NULL, '100 ms')}), 'f', 'which are not over');

# ---- a resync besides
$client->query('SELECT cache_aside.resync()') foreach 1 .. 2000;
goes_at_once('behind resyncs');
cmp_ok(memory() - $before, '<', 6.5, sprintf 'memory: %+.1f MB', memory() - $before);

# ---- commits that are not visible, with much to delete each, and what is told is true
my @stalled = map { PgWire->new($node) } 1 .. 80;
reload_conf($node, synchronous_standby_names => 'nobody');
$client->query('SET synchronous_commit = local');
$_->send(q{SELECT count(cache_aside.invalidate(repeat('k', 100) || i)) FROM generate_series(1, 2200) i})
  foreach @stalled;
$node->poll_query_until('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, 80)
  or die 'not stalled';
goes_at_once('behind what is not visible');
$redis->set('k' x 100 . '2200', 'x');
cmp_ok(memory() - $before, '<', 32, sprintf 'memory: %+.1f MB', memory() - $before);

reload_conf($node, 'cache_aside.scan_rate' => 0, synchronous_standby_names => '');
$_->receive foreach @stalled;
wait_delivered($node);
is($redis->exists('k' x 100 . '2200'), 0, 'visible: deleted');
is($redis->exists('other:1', 'other:19999', 'other:2'), 1, 'the pattern is deleted, and no other key');
cmp_ok(status($node, 'commits') - $commits, '>=', 20_000 + 2000 + 80, 'all are counted');
$client->query('SET synchronous_commit = on');

# ---- more patterns than are held in memory, and than commits that wait for room
cache_users($redis, 1 .. 2000);
my @served = map { "user:1999:$_:x" } 1, 33_500, 40_000, $flood, 'child', 'parent';
$redis->mset(map { ($_ => 'x') } @served);
reload_conf($node, 'cache_aside.scan_rate' => 100);
$before = status($node, 'patterns');
my $peak = memory();
$client->query("CALL ask($flood, 'user:1999:', true)");
my @by_child = map { write_sql(log_record(entry(p => "user:1999:$_:*"))) } qw(child parent);
$client->query("BEGIN; SAVEPOINT a; $by_child[0]; RELEASE a; $by_child[1]; COMMIT");
goes_at_once("behind $flood patterns");
# 32768, and those of the first pass: what one round found, at most the queue's 8192.
cmp_ok(status($node, 'patterns') - $before, '<', 41_000, 'the rest of them is left in the log');
cmp_ok(memory() - $peak, '<', 32, sprintf 'memory: %+.1f MB', memory() - $peak);
$redis->command('DEL', map { "other:$_" } 1 .. 20_000);
$commits = status($node, 'commits');
reload_conf($node, 'cache_aside.scan_rate' => 0);
ok(keys_gone($redis, @served), 'all are served in the end');
wait_delivered($node);
cmp_ok(status($node, 'commits') - $commits, '>=', $flood, 'and counted');
$node->stop;
done_testing();
