# examples/l1: a cache in the process in front of Redis, told of deletions by CLIENT TRACKING.
#
# Remedies are named in examples/l1/test, beside what each protects.
use strict;
use warnings;

use CacheAside;
use NodePackage;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'guarded fills need Redis 7' if (RedisServer->version)[0] < 7;
my $package = NodePackage->or_skip_all('examples/l1');

my ($redis, $other) = map { RedisServer->new->start } 1 .. 2;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users VALUES (1, 'a'); SELECT cache_aside.attach('users', 'user:{id}')});
wait_delivered($node);
local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, 'postgres', scalar getpwuid($>));
local @ENV{qw(REDIS_SOCKET REDIS_OTHER)} = ($redis->socket, $other->socket);
$package->passes('node --test --test-force-exit test', 13);
done_testing();
