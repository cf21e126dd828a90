# The servers that pg_upgrade starts (postgres -b) have no worker: the old one is about to be left, the new one has only
# some of its rules yet and gets another log. They say nothing to Redis, and make no slot; a real start goes on.
#
# Remedy: IsBinaryUpgrade in ca_worker_init() (src/worker/init.c).
use strict;
use warnings;

use CacheAside;
use Check;
use Faults;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 100);
wait_delivered($node);
$node->stop;
cache_users($redis, 1 .. 100);
my @ours = sort $redis->keys('cache_aside:*');

sub pg_ctl { return command_ok([ 'pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-w', @_ ], "pg_ctl $_[-1]") }

my $log = log_position($node);
pg_ctl('-o', '-b', 'start');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'cache_aside'}), 0, 'no worker');
is(status($node, 'state'), 'stopped', 'and status says so');
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id <= 10');
is($redis->exists(user_keys(1 .. 100)), 100, 'nothing is delivered');
pg_ctl('-m', 'fast', 'stop');
unlike(log_since($node, $log), qr/cache_aside worker/, 'nor does one end');
is_deeply([ sort $redis->keys('cache_aside:*') ], \@ours, 'nor written to Redis');

$node->start;
wait_delivered($node);
is($redis->exists(user_keys(1 .. 10)), 0, 'a real start delivers what was written');
is($redis->exists(user_keys(11 .. 100)), 90, 'and no more');
$node->stop;
done_testing();
