
# A standby's worker. delivery = primary: it writes nothing, keeps the log the primary has not
# delivered, and delivers it after a promotion. delivery = always: it deletes in its own Redis, and
# only after replay.

use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $east = RedisServer->new->start;
my $primary = CacheAside->new_node('primary', redis => $redis);
make_users($primary, 50);
$primary->safe_psql('postgres', q{CREATE TABLE t (id int PRIMARY KEY);
	SELECT cache_aside.attach('t', 't:{id}')});
$primary->backup('both');
my $follower = CacheAside->new_standby('follower', $primary, backup => 'both', redis => $redis);
my $regional = CacheAside->new_standby('regional', $primary, redis => $east,
	backup => 'both', conf => "cache_aside.delivery = always\n");

ok(status_is($follower, 'state', 'standby'), 'delivery = primary: the standby follows');
ok(status_is($regional, 'state', 'delivering'), 'delivery = always: the standby delivers');

# always, and only after replay
my $before = commit_ms($primary);
$regional->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
ok($regional->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'}), 'replay is paused');
$east->set('t:1', 'old');
$redis->set('t:1', 'old');
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
wait_delivered($primary);
ok(!is_cached($redis, 't:1'), 'the primary has deleted the key');
$regional->poll_query_until('postgres', 'SELECT pg_last_wal_receive_lsn() >= '
	  . "'" . $primary->lsn('insert') . "'");
ok(is_cached($east, 't:1'), '... the standby, which does not show the row yet, has not');
never_waits($primary, $before, 'a standby does not replay');
$regional->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
ok(keys_gone($east, 't:1'), '... and does after replay');

# Redis is away when the primary dies with undelivered keys
$redis->set('t:2', 'old');
$redis->set('t:keep', 'fresh');
$redis->save;
$redis->kill9;
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (2)');
$primary->wait_for_catchup('follower', 'replay', $primary->lsn('insert'));
$primary->stop('immediate');
$redis->start;
ok(is_cached($redis, 't:2'), 'the old primary did not deliver');
$follower->append_conf('postgresql.conf', "cache_aside.resync_on_promotion = never\n");
$follower->reload;
take_over($follower);
ok(keys_gone($redis, 't:2'), 'the promoted standby does');
ok(status_is($follower, 'state', 'delivering'), '... and delivers from now on');
ok(is_cached($redis, 't:keep'), 'nothing else was deleted, as was asked for');
is(status($follower, 'timeline'), 2, 'timeline 2');

# The old primary comes back and was not told: it is fenced.
$redis->set('t:3', 'old');
$primary->start;
ok(status_is($primary, 'state', 'fenced'), 'the old primary is fenced');
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (3)');
is($primary->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(NULL, '100 ms')}), 'f', '... delivers nothing');
ok(is_cached($redis, 't:3'), '... and touches nothing');

$_->stop('fast') for $regional, $follower, $primary;
done_testing();
