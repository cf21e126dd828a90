# A server whose queries are all made parallel (force_parallel_mode, debug_parallel_query): CREATE EXTENSION is
# noticed, and so are rules and replicas.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, start => 0);
my $setting = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
$node->append_conf('postgresql.conf', "$setting = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
ok(status_is($node, 'state', 'delivering'), 'the extension is noticed');
$node->safe_psql('postgres', q{CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
	SELECT cache_aside.attach('t', 't:{id}'); SELECT cache_aside.add_replica('r', 'host=r')});
wait_delivered($node);
$redis->set('t:1', 'old');
$node->safe_psql('postgres', 'SELECT cache_aside.resync()');
wait_delivered($node);
is(is_cached($redis, 't:1'), 0, 'a resync finds the rules');
ok(wait_until(sub { ($redis->get('cache_aside:primary') // '') ne '' }), 'the registry is found');
$node->stop;
done_testing();
