# With cache_aside.synchronous COMMIT returns when the keys of this very commit are deleted, its locks
# released before. Out of order: a commit that is stalled or slow holds up nobody else's.
# What each remedy is: exactness, ca_sync_delivered in note_delivered(); after the locks, the phase in
# after_locks(); COMMIT PREPARED, ca_sync_answer in run(), and that it waits for nobody else, the line
# for CA_AWAITED_PREPARED in is_awaited() (queue.c); the last commit of a statement, in_mid_statement().
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
cache_aside.synchronous_timeout = 60s
cache_aside.command_timeout = 60s
EOC
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users SELECT g, '' FROM generate_series(1, 20) g;
	CREATE TABLE bare (n int);
	CREATE TABLE logs (id int) PARTITION BY LIST (id);
	CREATE TABLE logs_1 PARTITION OF logs FOR VALUES IN (1);
	CREATE TABLE logs_2 PARTITION OF logs FOR VALUES IN (2);
	SELECT cache_aside.attach('users', 'user:{id}'), cache_aside.attach('logs', 'log:{id}');
	CREATE PROCEDURE two_commits() LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE users SET name = 'p' WHERE id = 1;
		COMMIT;
		UPDATE users SET name = 'p' WHERE id = 2;
	END $$;
	CREATE FUNCTION touch(id int) RETURNS void LANGUAGE sql AS 'UPDATE users SET name = name || 1 WHERE id = $1';
});
my $sync = '-c cache_aside.synchronous=on';
my $a = PgWire->new($node, options => $sync);
my $b = PgWire->new($node, options => "$sync -c synchronous_commit=local");
my $watch = PgWire->new($node);

# `sql` returns without a warning, and its keys are gone the moment it does.
sub deletes
{
	my ($name, $session, $sql, @keys) = @_;
	$redis->set($_, 'old') foreach @keys;
	my $result = $session->query($sql);
	is_deeply([ grep { $redis->exists($_) } @keys ], [], "$name: gone when it returns");
	is_deeply($result->{notices}, [], "$name: no warning");
	return;
}

# Does a session wait for delivery?
sub waits
{
	my ($session) = @_;
	return wait_until(
		sub {
			$watch->value("SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid}"
				  . " AND state = 'active' AND wait_event_type = 'Extension'");
		});
}

deletes('one statement', $a, 'UPDATE users SET name = 1 WHERE id = 1', 'user:1');
foreach my $i (1 .. 200)
{
	$redis->set("user:1", 'old');
	$a->query("UPDATE users SET name = '$i' WHERE id = 1");
	next unless $redis->exists('user:1');
	fail("still there after commit $i");
	last;
}
deletes('a block', $a, 'BEGIN; SELECT touch(2); SELECT touch(3); COMMIT', 'user:2', 'user:3');
deletes('SET LOCAL', $watch,
	'BEGIN; SET LOCAL cache_aside.synchronous = on; SELECT touch(4); COMMIT', 'user:4');
deletes('asynchronous commit', $a, 'SET synchronous_commit = off; SELECT touch(4); RESET synchronous_commit',
	'user:4');
deletes('a pattern', $a, 'TRUNCATE logs', 'log:1', 'log:2');
deletes('a procedure', $a, 'CALL two_commits()', 'user:1', 'user:2');
$a->query('BEGIN; SELECT touch(5)');
$a->query("PREPARE TRANSACTION 'p5'");
deletes('COMMIT PREPARED', $a, "COMMIT PREPARED 'p5'", 'user:5');

# Another session's commit is flushed but not visible: a synchronous standby that never answers.
reload_conf($node, synchronous_standby_names => 'nobody');
my $stalled = PgWire->new($node);
$redis->set('user:9', 'old');
$b->query("BEGIN; SELECT touch(6); PREPARE TRANSACTION 'p6'");
$b->query("BEGIN; INSERT INTO bare VALUES (1); PREPARE TRANSACTION 'bare'");
$stalled->send('SELECT touch(9)');
ok( wait_until(sub { $watch->value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") }),
	'a commit is stalled');
deletes('beside a stalled commit', $b, 'SELECT touch(7)', 'user:7');
deletes('COMMIT PREPARED beside it', $b, "COMMIT PREPARED 'p6'", 'user:6');
deletes('one without keys', $b, "COMMIT PREPARED 'bare'");
deletes('a statement that commits in the middle', $b, 'ALTER TABLE logs DETACH PARTITION logs_1 CONCURRENTLY',
	'log:1');
ok(is_cached($redis, 'user:9'), 'the stalled one is not delivered all the while');
reload_conf($node, synchronous_standby_names => '');
$stalled->receive;
ok(keys_gone($redis, 'user:9'), 'and is in the end');

# Somebody else's keys take a long time: a pattern scan.
$redis->set("filler:$_", 1) foreach 1 .. 30_000;
reload_conf($node, 'cache_aside.scan_rate' => 1000);
$redis->set('log:1', 'old');
$a->send('TRUNCATE logs');
ok(waits($a), 'TRUNCATE waits for its scan');
deletes('beside a scan', $b, 'SELECT touch(8)', 'user:8');
$b->query("BEGIN; SELECT touch(8); PREPARE TRANSACTION 'p8'");
$b->query("BEGIN; INSERT INTO bare VALUES (1); PREPARE TRANSACTION 'bare'");
$b->query("BEGIN; INSERT INTO bare VALUES (1); PREPARE TRANSACTION 'later'");
deletes('COMMIT PREPARED beside a scan', $b, "COMMIT PREPARED 'p8'", 'user:8');
deletes('one without keys', $b, "COMMIT PREPARED 'bare'");
ok(waits($a), 'TRUNCATE waits still');
reload_conf($node, 'cache_aside.scan_rate' => 0);
is_deeply($a->receive->{notices}, [], 'and ends without a warning');
ok(!is_cached($redis, 'log:1'), 'its key is gone then');

# Redis does not answer: everybody waits, without locks, and nobody without keys.
$redis->freeze;
my @waiting = map { PgWire->new($node, options => $sync) } 1 .. 8;
$waiting[ $_ - 1 ]->send("SELECT touch($_)") foreach 1 .. 8;
ok(waits($_), 'waits') foreach @waiting;
deletes('no keys, no waiting', $a, 'INSERT INTO bare VALUES (1)');
deletes('no keys in COMMIT PREPARED', $a, "COMMIT PREPARED 'later'");
deletes('an aborted transaction', $a, 'BEGIN; SELECT touch(10); ROLLBACK');
$watch->query("SET lock_timeout = '30s'; UPDATE users SET name = 'free' WHERE id <= 8");
is($watch->value("SELECT count(*) FROM users WHERE name = 'free'"), 8, 'their rows are not locked');
$b->send('ALTER TABLE logs DETACH PARTITION logs_2 CONCURRENTLY');
ok(waits($b), 'a statement that commits in the middle waits too');
is($watch->value("SELECT count(*) FROM pg_inherits WHERE inhrelid = 'logs_2'::regclass"), 0,
	'but only when its work is done');
is($watch->value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension'"
		  . " AND backend_type = 'client backend'"), 9, 'while they wait');
$redis->thaw;
is_deeply([ map { @{ $_->receive->{notices} } } @waiting, $b ], [], 'all return when it answers, none warned');

done_testing();
