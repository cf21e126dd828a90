# key_prefix is changed while transactions are under way that know nothing of it: their keys are in the log
# without the new prefix. What is cached under that meanwhile, from the old row, must go when they commit.
#
# Remedies, in src: note_prefixes() (prefix.c) says in the log under which prefixes the keys are: without its call
# in ca_entries_add_key() every transaction counts as one without a prefix, and what it names is scanned for, too
# ("and nothing else", "costs no scan"). Without note_prefixes() in add_entry() and note_sent() (batch.c) what is
# under the new prefix stays.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 9);
wait_delivered($node);
my ($c, $holder) = map { PgClient->new(dir => $node->host, port => $node->port) } 1, 2;

# Changes the setting and waits until the new prefix was cleaned; then somebody caches the old row under it.
sub change_prefix
{
	my ($to, @cached) = @_;
	$redis->set('b:probe', 'x');
	reload_conf($node, 'cache_aside.key_prefix' => $to);
	ok(keys_gone($redis, 'b:probe'), "'$to': the new prefix is cleaned");
	status_is($node, 'state', 'delivering');
	$redis->mset(map { $_ => 'cached' } 'a:user:9', @cached);
	return;
}

sub back
{
	reload_conf($node, 'cache_aside.key_prefix' => 'a:');
	$redis->flushall;
	wait_delivering($node);
	$redis->set('probe', 'x');
	$node->safe_psql('postgres', q{SELECT cache_aside.invalidate('probe')});
	wait_delivered($node);
	return;
}

# ---- a transaction between two of its statements
back();
$c->query('BEGIN');
$c->query('UPDATE users SET v = 1 WHERE id = 1');
change_prefix('a:,b:', 'b:user:1', 'a:user:1');
$c->query('COMMIT');
ok(keys_gone($redis, 'a:user:1', 'b:user:1'), 'an open transaction: deleted under both');
wait_delivered($node);
is($redis->exists('a:user:9'), 1, 'and nothing else under the one that was there');
$redis->set('b:user:9', 'x');
$node->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id = 1');
wait_delivered($node);
is($redis->exists('b:user:9'), 1, 'whoever knows of it costs no scan');
is($c->value('SELECT count(*) FROM cache_aside.pending()'), 0, 'pending() shows none of it');

# ---- a prepared one
back();
$c->query(q{BEGIN; UPDATE users SET v = 2 WHERE id = 2; PREPARE TRANSACTION 'p'});
change_prefix('a:,b:', 'b:user:2');
$c->query(q{COMMIT PREPARED 'p'});
ok(keys_gone($redis, 'b:user:2'), 'a prepared transaction');

# ---- a block that commits as it goes: no statement begins in between
back();
$holder->query('SELECT pg_advisory_lock(1)');
$c->send_query(q{DO $$BEGIN PERFORM pg_advisory_lock(1); UPDATE users SET v = 3 WHERE id = 3; COMMIT;
	UPDATE users SET v = 3 WHERE id = 4; COMMIT; END$$});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 'a block waits');
change_prefix('b:,a:', 'b:user:3', 'b:user:4');
$holder->query('SELECT pg_advisory_unlock(1)');
$c->finish;
ok(keys_gone($redis, 'b:user:3', 'b:user:4'), 'a block that commits twice');
$c->query('SELECT pg_advisory_unlock_all()');

# ---- from no prefix to one
reload_conf($node, 'cache_aside.key_prefix' => '');
wait_delivered($node);
$c->query('BEGIN');
$c->query('UPDATE users SET v = 5 WHERE id = 5');
change_prefix('b:', 'b:user:5');
$c->query('COMMIT');
ok(keys_gone($redis, 'b:user:5'), 'from none to one');

$node->stop;
done_testing();
