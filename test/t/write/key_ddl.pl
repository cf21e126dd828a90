# DDL that changes what keys are called, while a transaction is open that worked out keys with the old function, label or row
# type: the new key, cached before that transaction commits, goes with it. Open, prepared, without a key of its own, invisible
# behind its commit record, over a restart of the server. (Places between two lines: write/key_ddl_between.)
#
# Remedies: look_again() in computed.c (open); each `unlocked` and `as_type` of reach.c (row type, that of a column in
# `open` as well); in pending.c that ca_pending_add() asks `written` first (read only) and ca_pending_show_itself() (no
# key); ca_open_meet() in open.c (prepared, restarted); meet_invisible() in queue.c (invisible); in replacing.c the lock by which
# COMMIT PREPARED knows (DDL prepared) and ca_replacing_ended() at an abort and ca_replacing_sent() (precision).
use strict;
use warnings;

use CacheAside;
use KeyDdl;
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
my $ddl = KeyDdl->new($node, $redis);
my $open = PgWire->new($node);

$open->query("BEGIN; $ddl->{write}");
$ddl->replace;
$ddl->cache;
$open->query('COMMIT');
$ddl->is_gone('open');

$open->query("BEGIN; $ddl->{write}; SET TRANSACTION READ ONLY");
$ddl->replace;
$ddl->cache;
is($open->query('COMMIT')->{tag}, 'COMMIT', 'made read only at last: it commits');
$ddl->is_gone('read only');

foreach my $restarts (0, 1)
{
	$node->safe_psql('postgres', "BEGIN; $ddl->{write}; PREPARE TRANSACTION 'p'");
	$ddl->replace;
	$ddl->cache;
	if ($restarts)
	{
		$node->restart;
		wait_delivered($node);
	}
	$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
	$ddl->is_gone($restarts ? 'prepared, restarted' : 'prepared');
}

$ddl->replace('null');
$node->safe_psql('postgres', "BEGIN; UPDATE called SET v = v + 1; PREPARE TRANSACTION 'p'");
$ddl->replace;
$ddl->cache;
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
$ddl->is_gone('without a key of its own', 'function');

# The look sees it, since it counts again when it commits.
$open = PgWire->new($node);
$node->safe_psql('postgres', $ddl->sql . q{; PREPARE TRANSACTION 'd'});
$open->query("BEGIN; UPDATE called SET v = v + 1");
$node->safe_psql('postgres', q{COMMIT PREPARED 'd'});
wait_delivered($node);
$ddl->cache;
$open->query('COMMIT');
$ddl->is_gone('DDL prepared before', 'function');

# Nobody else's precision suffers: by DDL that failed or has ended, nor by DDL of tables, which waits for who uses them.
$node->safe_psql('postgres', $ddl->sql . q{; PREPARE TRANSACTION 'd'});
isnt($node->psql('postgres', q{COMMIT PREPARED 'nobody'}), 0, 'who commits nothing');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'd'});
$ddl->undo;
$node->safe_psql('postgres', 'CREATE TABLE other (id int)');
$redis->set('f:far', 'stays');
$open->query("BEGIN; UPDATE called SET v = v + 1");
$node->safe_psql('postgres', q{SELECT cache_aside.attach('other', 'o:{id}'); ALTER TABLE other ADD COLUMN v int});
$open->query('COMMIT');
wait_delivered($node);
ok(is_cached($redis, 'f:far'), 'nobody deletes a pattern for them');

# Each way by which what is not locked reaches a rule, alone: row types in a column, in a query, in what a query calls; a function.
foreach my $kind ('kind1', 'kind2', 'kind3') { $node->safe_psql('postgres', "CREATE TABLE $kind (a int)"); }
$node->safe_psql('postgres', q{
	CREATE FUNCTION shown(k kind3) RETURNS text LANGUAGE sql IMMUTABLE RETURN jsonb_populate_record(k, '{}')::text;
	CREATE FUNCTION told() RETURNS text LANGUAGE sql IMMUTABLE RETURN '(0)';
	CREATE TABLE typed (k kind1); CREATE TABLE casts (id int); CREATE TABLE shows (id int); CREATE TABLE tells (id int);
	SELECT cache_aside.attach('typed', 'r:{k}');
	SELECT cache_aside.attach_query('casts', $$SELECT 'r:' || jsonb_populate_record(NULL::public.kind2, '{}')::text FROM changed$$, 'r:*');
	SELECT cache_aside.attach_query('shows', $$SELECT 'r:' || public.shown(NULL) FROM changed$$, 'r:*');
	SELECT cache_aside.attach_query('tells', $$SELECT 'r:' || public.told() FROM changed$$, 'r:*')});
foreach my $case (
	[ typed => 'ROW(NULL)::kind1', 'ALTER TABLE kind1 ADD COLUMN b int', 'r:(,)' ],
	[ casts => 1, 'ALTER TABLE kind2 ADD COLUMN b int', 'r:(,)' ],
	[ shows => 1, 'ALTER TABLE kind3 ADD COLUMN b int', 'r:(,)' ],
	[ tells => 1, q{CREATE OR REPLACE FUNCTION told() RETURNS text LANGUAGE sql IMMUTABLE RETURN '(1)'}, 'r:(1)' ])
{
	my ($table, $value, $change, $new) = @$case;
	$open->query("BEGIN; INSERT INTO $table VALUES ($value)");
	$node->safe_psql('postgres', $change);
	wait_delivered($node);
	$redis->set($new, 'old row');
	$open->query('COMMIT');
	ok(keys_gone($redis, $new), "$table: the new key");
}

# Committed, and nobody sees it yet.
reload_conf($node, synchronous_standby_names => 'nobody');
my $stalled = PgWire->new($node);
$stalled->send('UPDATE called SET v = v + 1');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}), 'it waits');
$node->safe_psql('postgres', 'SET synchronous_commit = local; ' . $ddl->sql . '; COMMIT');
ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(NULL, '300 ms')}) eq 'f' }), 'and holds up');
$ddl->cache;
reload_conf($node, synchronous_standby_names => '');
$ddl->is_gone('invisible', 'function');

$node->stop;
done_testing();
