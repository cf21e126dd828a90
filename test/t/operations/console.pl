# examples/console in headless Chromium: numbers that move, hostile names that stay text, a server that restarts or hangs,
# a Redis that stops; and its role has pg_monitor and nothing else.
#
# Remedies are named in examples/console/test/browser.test.mjs.
#
# Begun early: it takes long.
use strict;
use warnings;

use CacheAside;
use NodePackage;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my ($chromium) = grep { -x } map { "$_/chromium" } split /:/, $ENV{PATH};
plan skip_all => 'chromium is not installed' unless $chromium;
my $package = NodePackage->or_skip_all('examples/console');

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY, v int);
	INSERT INTO users SELECT n, 0 FROM generate_series(1, 100) n; SELECT cache_aside.attach('users', 'user:{id}');
	CREATE TABLE "<img src=x onerror=alert(1)>" (id int PRIMARY KEY);
	SELECT cache_aside.attach('"<img src=x onerror=alert(1)>"', '<script>alert(2)</script>:{id}');
	ALTER TABLE "<img src=x onerror=alert(1)>" DISABLE TRIGGER USER;
	SELECT cache_aside.add_replica('east-1', 'host=/nowhere', 'east<b>');
	CREATE ROLE console LOGIN IN ROLE pg_monitor; CREATE ROLE "po or" LOGIN});
wait_delivered($node);
local @ENV{qw(PGHOST PGPORT PGDATABASE PGDATA PGLOG)} =
  ($node->host, $node->port, 'postgres', $node->data_dir, $node->logfile);
local @ENV{qw(OWNER REDIS_PID CHROMIUM)} = (scalar getpwuid($>), $redis->pid, $chromium);

$package->passes('npm test --silent', 16);
done_testing();
