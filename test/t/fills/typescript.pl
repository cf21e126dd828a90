# The TypeScript example, compiled and tested against real servers.
use strict;
use warnings;

use CacheAside;
use Cwd;
use File::Temp;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => "$_ is not installed"
  foreach grep { system("command -v $_ >/dev/null 2>&1") != 0 } 'node', 'npm';
my ($major) = `node --version` =~ /^v(\d+)/;
plan skip_all => 'node is older than version 20' if !$major || $major < 20;

# A copy of its own: npm writes beside the sources. The lock file says exactly which packages.
my $dir = File::Temp::tempdir(CLEANUP => 1);
system('cp', '-R', (map { "examples/typescript/$_" }
	  qw(package.json package-lock.json tsconfig.json .npmrc src test)), $dir) == 0 or die 'cp';
my $home = getcwd();
chdir $dir or die $!;
$ENV{HOME} = $dir;
my $installed = system('npm ci --no-progress --fetch-retries 1 --fetch-timeout 30000 >npm.log 2>&1');
if ($installed != 0)
{
	chdir $home;
	plan skip_all => 'the packages cannot be had (npm ci failed)';
}

is(system('npx tsc'), 0, 'it compiles, strictly');
chdir $home;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
chdir $dir;
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
local $ENV{PGUSER} = getpwuid($>);
local $ENV{REDIS_SOCKET} = $redis->socket;
my $output = `node --test dist/test 2>&1`;
my $status = $?;
chdir $home;
is($status, 0, 'its tests pass') or diag $output;
my ($passed) = $output =~ /^# pass (\d+)/m;
cmp_ok($passed // 0, '>=', 12, 'all of them ran');
done_testing();
