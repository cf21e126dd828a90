# The npm package clients/node: built, checked, and its own tests run against a primary, a standby and Redis; among them
# the package installed from its archive in a fresh project, and the code of its README.
#
# Remedies are named in clients/node/test, beside what each protects.
use strict;
use warnings;

use CacheAside;
use Certificates;
use Cwd;
use NodePackage;
use RedisServer;
use Test::More;

Certificates->skip_all_unless_available;
plan skip_all => 'guarded fills need Redis 7' if (RedisServer->version)[0] < 7;
my $package = NodePackage->or_skip_all('clients/node');

my $redis = RedisServer->new(port => 1)->start;
my $primary = CacheAside->new_node('primary', redis => $redis, conf => "cache_aside.publish_interval = 20ms\n");
my $pki = Certificates->new->authority('other')->issue('near', san => 'DNS:localhost');
my $tls = join '', map { "$_\n" } "listen_addresses = '127.0.0.1'", 'ssl = on',
  map { "ssl_$_->[0]_file = '" . $pki->file($_->[1]) . "'" } [ cert => 'near.crt' ], [ key => 'near.key' ];
my $standby = CacheAside->new_standby('near', $primary, redis => $redis, conf => "cluster_name = 'near'\n$tls", start => 0);
unlink $standby->data_dir . '/pg_hba.conf' or die $!;
$standby->append_conf('pg_hba.conf', "local all iam scram-sha-256\nlocal all all trust\nhostssl all all 127.0.0.1/32 trust\n");
$standby->start;
local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} =
  ($primary->host, $primary->port, 'postgres', scalar getpwuid($>));
local @ENV{qw(REPLICA_NAME REPLICA_HOST REPLICA_PORT)} = ('near', $standby->host, $standby->port);
local @ENV{qw(REDIS_SOCKET REDIS_URL REDIS_SERVER)} = ($redis->socket, $redis->tcp_url, RedisServer->binary);
local $ENV{FREE_PORTS} = join ' ', map { RedisServer::free_port() } 1 .. 4;
local @ENV{qw(CA_FILE OTHER_CA_FILE)} = map { $pki->file("$_.crt") } qw(ca other);
local $ENV{LIBRARY} = getcwd() . '/src/delivery/cache_aside.lua';

ok($package->run('npm run --silent lint'), 'it compiles, strictly, and has the form it should have');
$package->passes('node --test --test-concurrency=1 build/test/', 60);
done_testing();
