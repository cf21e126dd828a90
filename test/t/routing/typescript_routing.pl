# A real driver: node-postgres reads the token of its commits, and the TypeScript example routes its reads
# through them, with a primary, a streaming standby, and a fallback.
use strict;
use warnings;

use CacheAside;
use Cwd;
use File::Temp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => "$_ is not installed"
  foreach grep { system("command -v $_ >/dev/null 2>&1") != 0 } 'node', 'npm';
my ($major) = `node --version` =~ /^v(\d+)/;
plan skip_all => 'node is older than version 20' if !$major || $major < 20;

# A copy of its own: npm writes beside the sources. The lock file says exactly which packages.
my $home = getcwd();
my $dir = File::Temp::tempdir(CLEANUP => 1);
system('cp', '-R', (map { "examples/typescript/$_" }
	  qw(package.json package-lock.json tsconfig.json .npmrc src test)), $dir) == 0 or die 'cp';
$ENV{HOME} = $dir;
plan skip_all => 'the packages cannot be had (npm ci failed)'
  if system("cd $dir && npm ci --no-progress --fetch-retries 1 --fetch-timeout 30000 >npm.log 2>&1") != 0;
is(system("cd $dir && npx tsc"), 0, 'it compiles, strictly');

my $conf = "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n";
my $primary = CacheAside->new_node('primary', conf => "${conf}cache_aside.report_commit_lsn = on\n");
my $standby = CacheAside->new_standby('near', $primary, conf => $conf);
local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} =
  ($primary->host, $primary->port, 'postgres', scalar getpwuid($>));
local @ENV{qw(REPLICA_NAME REPLICA_HOST REPLICA_PORT)} = ('near', $standby->host, $standby->port);
my $output = `cd $dir && node --test dist/test/routing.test.js 2>&1`;
is($?, 0, 'its tests pass') or diag $output;
my ($passed) = $output =~ /^# pass (\d+)/m;
cmp_ok($passed // 0, '>=', 7, 'all of them ran');
my ($skipped) = $output =~ /^# skipped (\d+)/m;
is($skipped, 0, 'none was skipped');
done_testing();
