# A real driver: node-postgres reads the token of its commits, and the TypeScript example routes its reads
# through them, with a primary, a streaming standby, and a fallback.
use strict;
use warnings;

use CacheAside;
use NodePackage;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $package = NodePackage->or_skip_all('examples/typescript');
ok($package->run('npx tsc'), 'it compiles, strictly');

my $conf = "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n";
my $primary = CacheAside->new_node('primary', conf => "${conf}cache_aside.report_commit_lsn = on\n");
my $standby = CacheAside->new_standby('near', $primary, conf => $conf);
local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} =
  ($primary->host, $primary->port, 'postgres', scalar getpwuid($>));
local @ENV{qw(REPLICA_NAME REPLICA_HOST REPLICA_PORT)} = ('near', $standby->host, $standby->port);
$package->passes('node --test dist/test/routing.test.js', 8);
done_testing();
