
# Where the extension is not created nothing is left behind: no slot, no key. CREATE EXTENSION in any
# database begins delivery, several databases are one stream, DROP EXTENSION of the last ends it.
# Without the census in census.c the slot appears at once and never goes.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, extension => 0);
my $slots = q{SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'cache_aside'};

$node->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cache_aside worker'})
  or die 'no worker';
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside; DROP EXTENSION cache_aside');
ok($node->poll_query_until('postgres', $slots, '0'), 'no slot');

for my $db ('postgres', 'other')
{
	$node->safe_psql($db, qq{CREATE EXTENSION cache_aside;
		CREATE TABLE t (id int); SELECT cache_aside.attach('t', '$db:{id}')});
	ok($node->poll_query_until($db, q{SELECT state = 'delivering' FROM cache_aside.status}), "delivers in $db");
}
is($node->safe_psql('postgres', $slots), 1, 'a slot');
$redis->command('SET', $_, 'old') for 'postgres:1', 'other:2', 'other:3';
$node->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
$node->safe_psql('other', 'INSERT INTO t VALUES (2)');
is($node->safe_psql('other', 'SELECT cache_aside.wait_delivered()'), 't', 'delivered');
ok(keys_gone($redis, 'postgres:1', 'other:2'), 'keys of both databases are gone');

$node->safe_psql('other', 'SELECT cache_aside.resync()');
is($node->safe_psql('postgres', 'SELECT cache_aside.wait_delivered()'), 't', 'resync delivered');
ok(keys_gone($redis, 'other:3'), 'a resync deletes what the rules of any database could have cached');

$redis->set('postgres:9', 'old');
$redis->set('other:9', 'old');
$node->safe_psql('postgres', q{SELECT cache_aside.flush('t')});
is($node->safe_psql('postgres', 'SELECT cache_aside.wait_delivered()'), 't', 'flush delivered');
ok(keys_gone($redis, 'postgres:9'), 'flush() deletes the keys of one table');
ok(is_cached($redis, 'other:9'), '... and of no other');

$node->safe_psql('postgres', 'DROP DATABASE other');
is(status($node, 'state'), 'delivering', 'the other database is left');
$node->safe_psql('postgres', 'DROP EXTENSION cache_aside CASCADE');
ok($node->poll_query_until('postgres', $slots, '0'), 'the last one takes the slot along');

$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
ok($node->poll_query_until('postgres', $slots, '1'), 'created again, a slot again');
$node->safe_psql('postgres', 'SELECT cache_aside.uninstall()');
ok(status_is($node, 'state', 'uninstalled'), 'uninstall() stops the worker');
ok($node->poll_query_until('postgres', $slots, '0'), '... and drops the slot');

$node->stop;
done_testing();
