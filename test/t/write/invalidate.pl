
# The main job: a committed write deletes the keys its rules name, a rolled back one deletes nothing,
# and an idle worker does it without being asked.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);

$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users SELECT i, 'name ' || i FROM generate_series(1, 1000) i;
	SELECT cache_aside.attach('users', 'user:{id}');
});
$redis->command('SET', "user:$_", 'old') for 1 .. 1000;

$node->safe_psql('postgres', q{UPDATE users SET name = 'Ada' WHERE id = 42});
ok(keys_gone($redis, 'user:42'), 'the key of an updated row is gone');
is(scalar(() = $redis->keys('user:*')), 999, 'every other key is there');

$node->safe_psql('postgres', q{BEGIN; UPDATE users SET name = 'Eve' WHERE id = 43; ROLLBACK});
is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered()}), 't', 'delivered');
ok(is_cached($redis, 'user:43'), 'a rolled back write deletes nothing');

$node->safe_psql('postgres', q{UPDATE users SET name = name || '!'});
is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered()}), 't', 'delivered');
is(scalar(() = $redis->keys('user:*')), 0, 'all keys are gone');
is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(timeout => '178000000 years')}),
	't', 'a time-out of ages is no overflow');

my $position = $redis->command('GET', ($redis->command('KEYS', 'cache_aside:position:*'))->[0]);
like($position, qr/^1 [0-9A-F]+\/[0-9A-F]+ /, "position: $position");
like($node->safe_psql('postgres', q{SELECT round_trip FROM cache_aside.ping()}), qr/^00:00:00/, 'ping');
is(status($node, 'state'), 'delivering', 'state');
is(status($node, 'keys') >= 1001, 1, 'keys are counted');

$redis->command('SET', "user:$_", 'old') for 1 .. 1000;
$node->safe_psql('postgres', q{TRUNCATE users});
ok(keys_gone($redis, map { "user:$_" } 1 .. 1000), 'TRUNCATE deletes every key of the rule');

$node->stop;
$redis->stop;
done_testing();
