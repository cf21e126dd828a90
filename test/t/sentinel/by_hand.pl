# Somebody changes roles by hand. A replica that is promoted is no master for anybody but himself: Sentinels go on
# naming the old one, and so does the worker. A master that is demoted is a replica, though it is named: nothing is
# delivered there, and status says so; when it is a master again, everything is.
#
# Remedy: ca_watch_ask_role() in watch.c; without it a replica that takes writes is delivered to.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use RedisServer;
use Sentinel;
use Test::More;

RedisServer->skip_all_unless_available;
# Sentinels that think about it for so long that nothing is put right behind our back: a minute.
my $set = Sentinel->new(redis_conf => "replica-read-only no\n")->start;
my $node = CacheAside->new_node('main', conf => "cache_aside.redis_url = '" . $set->url . "'\n");
wait_delivering($node);
make_users($node, 10);
wait_delivered($node);
my $client = PgWire->new($node);
my $master = $set->master;
my ($replica, $other) = $set->replicas;
my $at = '127.0.0.1:' . $master->port . '/0';

$replica->promote;
cache_users($master, 1 .. 10);
$client->query('UPDATE users SET v = v + 1 WHERE id = 1');
ok(keys_gone($master, 'user:1'), 'a replica is promoted: delivered to the master');
is(status($node, 'endpoint'), $at, 'which is named as before');

# It takes writes even so (replica-read-only no).
$master->replicaof($replica);
cache_users($master, 1 .. 10);
$master->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
ok(status_is($node, 'trouble', 'Sentinel'), 'the master is demoted: status says so');
like(status($node, 'last_error'), qr/name \Q127.0.0.1:\E\d+ as the master, which says that it is a replica/, 'and why');
$client->query('UPDATE users SET v = v + 1 WHERE id = 2');
is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(NULL, '300 ms')}), 'f', 'nothing is delivered');
is($master->exists('user:2'), 1, '... there');
$master->promote;
ok(keys_gone($master, 'user:2'), 'a master again: delivered');
ok(status_is($node, 'trouble', ''), 'and nothing is wrong');

$node->stop;
done_testing();
