# Another library writes rows in its own pre-commit callback, after ours has written the pending set:
# those keys are logged at once. (Take log_at_once out of ca_pending_add and the first half fails.)
use strict;
use warnings;

use CacheAside;
use LogRecord;
use RedisServer;
use PostgreSQL::Test::Utils;
use Test::More;

RedisServer->skip_all_unless_available;
my $library = test_library('late_writer');

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, n int);
	INSERT INTO users SELECT g, 0 FROM generate_series(1, 10) g;
	SELECT cache_aside.attach('users', 'user:{id}');
});
my $late = q{BEGIN; SET LOCAL late_writer.sql = 'UPDATE users SET n = n + 1 WHERE id = 2';};

foreach my $libraries ("$library,cache_aside", "cache_aside,$library")
{
	my $order = $libraries =~ /late_writer$/ ? 'before' : 'after';
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'");
	$node->restart;

	$redis->set("user:$_", 'old') foreach 1 .. 4;
	$node->safe_psql('postgres', "$late UPDATE users SET n = n + 1 WHERE id = 1; COMMIT");
	wait_delivered($node);
	ok(!is_cached($redis, 'user:1'), "written $order ours: the statement's key is gone");
	ok(!is_cached($redis, 'user:2'), "written $order ours: the late row's key is gone");
	ok(is_cached($redis, 'user:3'), 'others are there');

	# a transaction that had no keys of its own, and one that is rolled back
	$redis->set('user:2', 'old');
	$node->safe_psql('postgres', "$late CREATE TABLE other_$order (); COMMIT");
	wait_delivered($node);
	ok(!is_cached($redis, 'user:2'), "written $order ours: without keys of its own");
	$redis->set('user:2', 'old');
	$node->safe_psql('postgres', "$late UPDATE users SET n = 1 WHERE id = 1; ROLLBACK");
	wait_delivered($node);
	ok(is_cached($redis, 'user:2'), 'nothing of a rolled back one');

	# PREPARE: the late row belongs to the prepared transaction
	$node->safe_psql('postgres',
		"$late UPDATE users SET n = n + 1 WHERE id = 4; PREPARE TRANSACTION 'p'");
	wait_delivered($node);
	ok(is_cached($redis, 'user:2'), 'prepared: not yet');
	$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
	wait_delivered($node);
	ok(!is_cached($redis, 'user:2'), "prepared, written $order ours: gone at COMMIT PREPARED");
	ok(!is_cached($redis, 'user:4'), 'and so is its own key');
}

$node->stop;
done_testing();
