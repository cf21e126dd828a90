# The worker and every SQL function that talks to Redis, with the Redis user that docs/operations.md gives them:
# Redis denies nothing of it. And what that user has no use for is denied.
#
# Remedy: the first ACL in docs/operations.md, applied as written.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use RedisUsers;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'ACLs for functions need Redis 7' if (RedisServer->version)[0] < 7;
my $redis = RedisServer->new(db => 1)->start;
RedisUsers::create($redis);
my $node = CacheAside->new_node(
	'main',
	redis => $redis,
	conf => "cache_aside.redis_url = '" . RedisUsers::url($redis) . "'\n"
	  . "cache_aside.redelete = on\ncache_aside.redelete_delay = '10ms'\ncache_aside.replica_name = 'main'\n");

sub sql { return scalar $node->safe_psql('postgres', shift); }
sub denied { return is_deeply([ RedisUsers::denied($redis, 'cache_aside') ], [], shift() . ': nothing is denied'); }

like(RedisServer::log_text($redis), qr/Deprecation warning/, 'rules by first argument work, and are deprecated')
  or note 'not any more';
is($redis->command('FUNCTION', 'LIST')->[0][1], 'cache_aside', 'the worker loaded the library');
denied('connecting');

# ---- delivery
sql(q{CREATE TABLE users (id int PRIMARY KEY, name text); CREATE TABLE log (id int);
	SELECT cache_aside.attach('users', 'user:{id}'), cache_aside.attach('log', 'log:{id}', level => 'statement');
	SELECT cache_aside.attach_query('users', 'SELECT ''list:'' OPERATOR(pg_catalog.||) id FROM changed', 'list:*');
	INSERT INTO users SELECT g, 'name ' || g FROM generate_series(1, 100) g});
sql(q{SELECT cache_aside.add_replica('near', 'host=nowhere'), cache_aside.register_pattern('by hand:*')});
$redis->mset(map { $_ => 'x' } map { ("user:$_", "log:$_", "list:$_") } 1 .. 9);
sql(q{UPDATE users SET name = 'Ada' WHERE id = 1; INSERT INTO log VALUES (1); SELECT cache_aside.invalidate('user:2')});
ok(keys_gone($redis, qw(user:1 list:1 log:1 user:2)), 'keys are deleted');
sql(q{SET cache_aside.synchronous = on; UPDATE users SET name = 'Eve' WHERE id = 3});
ok(!is_cached($redis, 'user:3'), 'COMMIT waits');
sql('TRUNCATE log');
ok(keys_gone($redis, 'log:2', 'log:3'), 'a pattern');
sql(q{SELECT cache_aside.invalidate_pattern('list:4'), cache_aside.stick('user:42')});
ok(keys_gone($redis, 'list:4'), 'another');
sql(q{SELECT cache_aside.flush('users')});
ok(keys_gone($redis, 'user:5'), 'flush');
$redis->set('by hand:1', 'x');
sql(q{SELECT cache_aside.resync()});
ok(keys_gone($redis, 'by hand:1'), 'resync');
wait_delivered($node);
ok($node->poll_query_until('postgres', 'SELECT redelete_waiting = 0 FROM cache_aside.status'), 'redelete');
is(sql(q{SELECT cache_aside.stuck_at('user:42') IS NOT NULL}), 't', 'stuck_at');
denied('delivery');

# ---- from SQL
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('user:1', 'Ada')}), 'fill');
is(sql(q{SELECT cache_aside.get('user:1')}), 'Ada', 'get');
is(sql(q{SELECT cache_aside.fetch('user:2', 'SELECT name FROM users WHERE id = 2', '1 min', VARIADIC '{}')}), 'name 2', 'fetch');
is($redis->get('user:2'), 'name 2', 'which stores');
is(sql(q{SELECT cache_aside.warm('users', 'user:{id}', '1 min')}), 100, 'warm');
is(sql(q{SELECT count(*), min(verdict), max(verdict) FROM cache_aside.audit('users', 'user:{id}', 1)}), '100|fresh|fresh', 'audit');
sql('SELECT * FROM cache_aside.ping()');
denied('SQL functions');

# ---- what a primary and a standby publish
my $standby = CacheAside->new_standby('near', $node, conf => "cache_aside.replica_name = 'near'\n");
$redis->command('HSET', 'cache_aside:replicas', 'gone', '{"at":1}');
ok(keys_there($redis, 'cache_aside:primary'), 'the primary');
my $where = sub { $redis->command('HGETALL', 'cache_aside:replicas') };
ok(wait_until(sub { my %entries = @{ $where->() }; ($entries{near} // '') =~ /"by":"replica"/ && !$entries{gone} }),
	'the standby');
denied('publishing');
$standby->stop('immediate');
sql(q{SELECT cache_aside.remove_replica('near')});
ok(keys_gone($redis, 'cache_aside:primary'), 'withdrawn');

# ---- the library is lost, the guard is switched off
$redis->command('FUNCTION', 'FLUSH');
sql('UPDATE users SET name = name WHERE id = 1');
ok(keys_gone($redis, 'user:1'), 'the library is loaded again');
reload_conf($node, 'cache_aside.guard' => 'off');
sql('UPDATE users SET name = name WHERE id = 2');
ok(keys_gone($redis, 'user:2'), 'without guard');
denied('all');

# ---- and no more
my $worker = RedisUsers::connect($redis, 'cache_aside');
foreach my $command (
	'KEYS *', 'FLUSHALL', 'FLUSHDB', 'CONFIG GET maxmemory', 'CONFIG SET maxmemory 1', 'FUNCTION DELETE cache_aside',
	'FUNCTION FLUSH', 'FUNCTION DUMP', 'FUNCTION LIST', 'FUNCTION KILL', 'SCRIPT FLUSH', 'SCRIPT KILL', 'SHUTDOWN NOSAVE', 'SAVE', 'BGSAVE',
	'REPLICAOF NO ONE', 'ACL LIST', 'ACL SETUSER app on nopass', 'MONITOR', 'CLIENT LIST',
	'CLIENT KILL TYPE normal', 'CLIENT PAUSE 1', 'SWAPDB 0 1', 'MIGRATE h 1 k 0 1', 'RESTORE k 0 x', 'DUMP k',
	'RENAME a b', 'DEL user:1', 'LPUSH l x', 'RANDOMKEY', 'SUBSCRIBE c', 'PUBLISH c m', 'LATENCY RESET', 'SLOWLOG GET',
	'MODULE LIST', 'CLUSTER RESET', 'FAILOVER', 'OBJECT ENCODING user:1', 'MULTI')
{
	like(($worker->try(split ' ', $command))[1], qr/^NOPERM/, "denied: $command");
}
done_testing();
