# A standby tells its primary what it replayed when it writes new log, when it has replayed all of it,
# or after ten seconds (wal_receiver_status_interval). In between, when it is held up by a query, its
# worker makes the walreceiver report at once, with or without Redis: the primary routes by it and
# deletes again (redelete) by it.
#
# Fails without ca_report_replay() in report_replay() (publish.c).
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Cluster;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $primary = CacheAside->new_node('primary', redis => $redis, conf => <<'EOC');
cache_aside.redelete = on
cache_aside.redelete_delay = 0
wal_sender_timeout = 0
autovacuum = off
EOC
# No keepalive asks it to reply, and it replies by itself for new log only. Its Redis is not there.
my $standby = CacheAside->new_standby('near', $primary, conf => <<'EOC');
cache_aside.redis_url = 'unix:///nonexistent/redis.sock'
wal_receiver_status_interval = 1h
wal_receiver_timeout = 0
max_standby_streaming_delay = -1
EOC
my $c = PgWire->new($primary);
my $there = PgWire->new($standby);
$c->query(q{CREATE TABLE t (id int PRIMARY KEY); SELECT cache_aside.attach('t', 't:{id}');
	SELECT cache_aside.add_replica('near', 'host=near')});
wait_delivered($primary);

sub reported { return $c->value("SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= '$_[0]'"); }

my $reader = PgWire->new($standby);
foreach my $round (1 .. 3)
{
	$c->query('CREATE TABLE held ()');
	$primary->wait_for_catchup($standby, 'replay', $c->value('SELECT pg_current_wal_insert_lsn()'));
	$reader->query('BEGIN; SELECT FROM held');
	$there->query('SELECT pg_wal_replay_pause()');
	$standby->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'}) or die;
	$c->query("INSERT INTO t VALUES ($round)");
	my $lsn = $c->value('SELECT cache_aside.commit_lsn()');
	$c->query('DROP TABLE held');    # on the standby it waits for the reader
	wait_delivered($primary);
	$redis->set("t:$round", 'read on the standby');
	my $end = $c->value('SELECT pg_current_wal_lsn()');    # the primary is idle from here on
	$primary->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_replication WHERE flush_lsn >= '$end'")
	  or die 'the standby does not receive';
	is(reported($lsn), 0, "round $round: received, not replayed");
	is($c->value("SELECT role FROM cache_aside.route('$lsn')"), 'primary', '... and not routed to');
	$there->query('SELECT pg_wal_replay_resume()');
	ok(wait_until(sub { reported($lsn) }), "round $round: replayed in part, and reported at once");
	is(reported($end), 0, '... the rest is held up');
	ok(wait_until(sub { $c->value("SELECT role FROM cache_aside.route('$lsn')") eq 'replica' }),
		'... routed to');
	ok(keys_gone($redis, "t:$round"), '... and what was read there before is deleted');
	$reader->query('ROLLBACK');
}

$standby->stop;
$primary->stop;
done_testing();
