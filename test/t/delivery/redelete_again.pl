# A key is deleted again for one commit while the next commit to it is being acknowledged: it is still
# deleted once more when the standby has the second one, whose old value a reader there may have stored.
#
# Fails without `entry->again = true` in ca_redelete_note() (redelete.c): the answer to the first
# deletion forgets the key.
use strict;
use warnings;

use CacheAside;
use FakeRedis;
use PgWire;
use PostgreSQL::Test::Cluster;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $fake = FakeRedis->new(upstream => $redis)->start;
my $primary = CacheAside->new_node('primary', redis => $fake, conf => <<'EOC');
cache_aside.redelete = on
cache_aside.redelete_delay = 0
cache_aside.command_timeout = 60s
autovacuum = off
EOC
my $standby = CacheAside->new_standby('standby', $primary, conf => <<'EOC');
cache_aside.redis_url = 'unix:///nonexistent/redis.sock'
max_standby_streaming_delay = -1
EOC
my $c = PgWire->new($primary);
$c->query(q{CREATE TABLE users (id int PRIMARY KEY, n int); INSERT INTO users VALUES (1, 0);
	SELECT cache_aside.attach('users', 'user:{id}'); CREATE TABLE held ()});
wait_delivered($primary);
$primary->wait_for_catchup($standby);
ok(status_is($primary, 'redelete_waiting', 0), 'nothing waits');
my $redeleted = status($primary, 'redeleted');

sub commit
{
	$c->query('UPDATE users SET n = n + 1 WHERE id = 1');
	return $c->value('SELECT cache_aside.commit_lsn()');
}

sub received
{
	$primary->poll_query_until('postgres',
		'SELECT flush_lsn >= pg_current_wal_lsn() FROM pg_stat_replication') or die 'not received';
	return;
}

# The first commit and, behind something that a reader holds up there, the second.
my $reader = PgWire->new($standby);
$reader->query('BEGIN; SELECT FROM held');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$standby->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'}) or die;
my $first = commit();
wait_delivered($primary);
is(status($primary, 'redelete_waiting'), 1, 'the key waits for the standby');
$c->query('DROP TABLE held');
wait_delivered($primary);
$fake->forget;
my ($frozen) = $fake->on(qr/^FCALL cache_aside_apply.*user:1/, 'freeze', 1);
commit();
ok($fake->wait_for(qr/^FCALL cache_aside_apply.*user:1/), 'the second deletion is under way');
received();
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
ok( $primary->poll_query_until('postgres',
		"SELECT replay_lsn >= '$first' FROM pg_stat_replication"), 'the standby has the first commit');

# The worker goes some rounds, more than ten milliseconds apart: it looks at the standby.
foreach (1 .. 3)
{
	my $lsn = $c->value(q{SELECT pg_logical_emit_message(true, 'x', 'x')});
	$primary->poll_query_until('postgres', "SELECT read_lsn >= '$lsn' FROM cache_aside.status") or die;
}
$fake->clear;
ok($fake->wait_for(qr/^UNLINK user:1/), 'deleted again for the first commit');
$redeleted++;
ok(status_is($primary, 'redeleted', $redeleted), '... and counted');
is(status($primary, 'redelete_waiting'), 1, 'the second is not forgotten');

# What is read on the standby now is old.
$redis->set('user:1', $standby->safe_psql('postgres', 'SELECT n FROM users'));
is($redis->get('user:1'), 1, 'a reader there stores the old value');
$reader->query('ROLLBACK');
ok(keys_gone($redis, 'user:1'), 'deleted when the standby has the second commit');
ok(status_is($primary, 'redelete_waiting', 0), 'and nothing waits any more');

$standby->stop;
$primary->stop;
done_testing();
