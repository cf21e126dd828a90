# The registry survives pg_dump and restore, is checked on the way in, and works there.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CacheAside->new_node('main', conf => "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
$node->safe_psql('postgres', q{SELECT cache_aside.add_replica('near', 'host=n', 'east', 3),
	cache_aside.add_replica('far', 'postgresql://u@f/db', NULL, 0)});
my $before = $node->safe_psql('postgres', 'SELECT * FROM cache_aside.replica ORDER BY name');
my $file = "$PostgreSQL::Test::Utils::tmp_check/dump.sql";
$node->command_ok([ 'pg_dump', '-f', $file, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $file, $node->connstr('restored') ], 'restore');
is($node->safe_psql('restored', 'SELECT * FROM cache_aside.replica ORDER BY name'), $before, 'the registry is there');
is($node->safe_psql('restored', 'SELECT reason FROM cache_aside.route()'), 'no replica is eligible', '... and in use');
is($node->safe_psql('restored', q{SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'cache_aside.replica'::regclass
	AND NOT tgisinternal}), 'A', 'its trigger still fires always');
$node->safe_psql('restored', 'DROP EXTENSION cache_aside; CREATE EXTENSION cache_aside');
is($node->safe_psql('restored', 'SELECT reason FROM cache_aside.route()'), 'no replica is registered', 'made anew: empty');

done_testing();
