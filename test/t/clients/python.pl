# The Python package clients/python: built and installed without a download, and its own tests run against a primary, a standby
# and Redis, from where it is installed.
#
# Remedies are named in clients/python/tests, beside what each protects.
use strict;
use warnings;

use CacheAside;
use File::Temp;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'guarded fills need Redis 7' if (RedisServer->version)[0] < 7;
my ($python) = grep { system("$_ -c 'import psycopg, redis.asyncio, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null") == 0 }
  '/usr/bin/python3', 'python3';
plan skip_all => 'needs python3-psycopg and python3-redis' unless $python;

my $dir = File::Temp::tempdir('ca-py-XXXXXX', TMPDIR => 1, CLEANUP => 1);
system("cp -R clients/python/. $dir && rm -rf $dir/build $dir/*.egg-info") == 0 or die 'cp';
$ENV{PYTHONPATH} = "$dir/cache_aside_pg/..";
$ENV{PYTHONDONTWRITEBYTECODE} = 1;
SKIP:
{
	skip 'needs python3-pip, python3-setuptools and python3-wheel', 1
	  if system("$python -c 'import setuptools, wheel, pip' 2>/dev/null") != 0;
	my $command = "$python -m venv --system-site-packages --without-pip $dir/venv && cd $dir && $python -m pip --python $dir/venv/bin/python "
	  . 'install --no-index --no-deps --no-build-isolation --disable-pip-version-check .';
	my $output = `$command 2>&1`;
	is($?, 0, 'pip installs it') or diag $output;
	rename "$dir/cache_aside_pg", "$dir/sources" or die $!;    # what is tested is what was installed
	$python = "$dir/venv/bin/python";
}

my $redis = RedisServer->new->start;
my $primary = CacheAside->new_node('primary', redis => $redis, conf => "cache_aside.publish_interval = 20ms\n");
my $standby = CacheAside->new_standby('near', $primary, redis => $redis, conf => "cluster_name = 'near'\n");
local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($primary->host, $primary->port, 'postgres', scalar getpwuid($>));
local @ENV{qw(REPLICA_NAME REPLICA_HOST REPLICA_PORT)} = ('near', $standby->host, $standby->port);
local $ENV{REDIS_SOCKET} = $redis->socket;

my $output = `cd $dir && $python -m unittest 2>&1`;
is($?, 0, 'its tests pass') or diag $output;
my ($ran) = $output =~ /^Ran (\d+) tests/m;
cmp_ok($ran // 0, '>=', 80, 'all of them ran');
my $frameworks = system("$python -c 'import django, starlette' 2>/dev/null") == 0;
is($output =~ /skipped=(\d+)/ ? $1 : 0, 0, 'none was skipped') if $frameworks;
done_testing();
