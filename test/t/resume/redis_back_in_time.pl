# Redis goes back in time: an old snapshot is restored, a lagging replica is promoted, the master is
# demoted and comes back. What was delivered since is delivered again, because the position went back
# together with the data it describes.
#
# Fails when handle_claim() (handshake.c) keeps not the text that Redis holds but the position that this
# process had acknowledged last. Fails without the slot (ca_slot_keep): the log of the last redelivery_window would be gone after two
# checkpoints, and a resync would take the untouched keys, too.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(port => 1)->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "min_wal_size = 2MB\nmax_wal_size = 2MB\nwal_keep_size = 0\n", initdb => ['--wal-segsize=1']);
make_users($node, 100);
wait_delivered($node);

# ---- an old snapshot
cache_users($redis, 1 .. 100);
$node->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id <= 10');
wait_delivered($node);
my $snapshot = $redis->dir . '/old.rdb';
$redis->save_to($snapshot);
my $resyncs = status($node, 'resyncs');
$node->safe_psql('postgres', 'UPDATE users SET v = 2 WHERE id BETWEEN 11 AND 20');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 100)), 80, 'delivered');
fill_log($node, 10);
$redis->restore_from($snapshot);
ok(keys_gone($redis, user_keys(11 .. 20)), 'snapshot restored: what it brought back is gone again');
wait_delivered($node);
is($redis->exists(user_keys(21 .. 100)), 80, 'snapshot restored: the rest is there');
is(status($node, 'resyncs'), $resyncs, 'snapshot restored: no resync');

# ---- a lagging replica takes over: frozen while the master went on
my $replica = RedisServer->new(port => 1, name => 'replica')->start;
cache_users($redis, 1 .. 100);
$replica->replicaof($redis);
ok(keys_there($replica, user_keys(1 .. 100)), 'the replica has everything');
$replica->freeze;
$redis->command('CLIENT', 'KILL', 'TYPE', 'replica');
$node->safe_psql('postgres', 'UPDATE users SET v = 3 WHERE id BETWEEN 21 AND 30');
wait_delivered($node);
fill_log($node, 10);
$redis->kill9;
$replica->thaw->promote;
is($replica->exists(user_keys(1 .. 100)), 100, 'the replica never saw the deletes');
reload_conf($node, 'cache_aside.redis_url' => $replica->url);
ok(keys_gone($replica, user_keys(21 .. 30)), 'replica promoted: delivered again');
wait_delivered($node);
is($replica->exists(user_keys(31 .. 100)), 70, 'replica promoted: the rest is there');
is(status($node, 'resyncs'), $resyncs, 'replica promoted: no resync');

# ---- demoted and back: it took over older data meanwhile, under the same run id
$redis->start;
cache_users($redis, 1 .. 100);
my ($own, $text) = (position_key($node), position_of($replica, $node));
$redis->set($own, $text);
$node->safe_psql('postgres', 'UPDATE users SET v = 4 WHERE id BETWEEN 41 AND 50');
wait_delivered($node);
my $run_id = $replica->info('run_id');
$replica->replicaof($redis);
$replica->promote;
is($replica->info('run_id'), $run_id, 'the same process');
ok(keys_gone($replica, user_keys(41 .. 50)), 'demoted and back: delivered again');
wait_delivered($node);
is($replica->exists(user_keys(51 .. 100)), 50, 'demoted and back: the rest is there');
is(status($node, 'resyncs'), $resyncs, 'demoted and back: no resync');

# ---- demoted to something that has no position at all, and back
$redis->flushall;
cache_users($redis, 1 .. 100);
$node->safe_psql('postgres', 'UPDATE users SET v = 5 WHERE id BETWEEN 51 AND 60');
wait_delivered($node);
$replica->replicaof($redis);
$replica->promote;
ok(keys_gone($replica, user_keys(1 .. 100)), 'without a position: a resync, not what was evicted');
wait_delivered($node);
is(status($node, 'resyncs'), $resyncs + 1, 'one');

$node->stop;
done_testing();
