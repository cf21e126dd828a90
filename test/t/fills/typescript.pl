# The TypeScript example, compiled and tested against real servers.
use strict;
use warnings;

use CacheAside;
use NodePackage;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $package = NodePackage->or_skip_all('examples/typescript');
ok($package->run('npx tsc'), 'it compiles, strictly');

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
local $ENV{PGUSER} = getpwuid($>);
local $ENV{REDIS_SOCKET} = $redis->socket;
$package->passes('node --test dist/test/users.test.js', 12);
done_testing();
