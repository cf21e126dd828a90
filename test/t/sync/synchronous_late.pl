# A commit may be delivered and acknowledged before its backend begins to wait for that. While another
# commit is stalled no confirmed LSN tells it so: it has to ask. (In enlist(), let it ask only when the
# LSN is not exact, and this fails.)
use strict;
use warnings;

use CacheAside;
use LogRecord;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $library = test_library('late_commit');
my $dir = PostgreSQL::Test::Utils::tempdir();

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.synchronous_timeout = 20s\n");
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, n int);
	INSERT INTO users SELECT g, 0 FROM generate_series(1, 10) g;
	SELECT cache_aside.attach('users', 'user:{id}');
});
my $watch = PgWire->new($node, options => '-c synchronous_commit=local');
my $late = PgWire->new($node, options => '-c synchronous_commit=local -c cache_aside.synchronous=on');
my $stalled = PgWire->new($node);
$late->query("LOAD '$library'; SET late_commit.file = '$dir/hold'");

sub hold_and_release
{
	my ($name) = @_;
	my $commits = status($node, 'commits');
	append_to_file("$dir/hold", '');
	$redis->set('user:1', 'old');
	$late->send('UPDATE users SET n = n + 1 WHERE id = 1');
	ok(keys_gone($redis, 'user:1'), "$name: deleted while its backend is held");
	ok(wait_until(sub { status($node, 'commits') > $commits }), "$name: acknowledged");
	unlink "$dir/hold";
	my $result = $late->receive;
	is($result->{tag}, 'UPDATE 1', "$name: committed");
	is_deeply($result->{notices}, [], "$name: knows that its key is gone");
	return;
}

hold_and_release('alone');
reload_conf($node, synchronous_standby_names => 'nobody');
$stalled->send('UPDATE users SET n = n + 1 WHERE id = 2');
ok( wait_until(sub { $watch->value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") }),
	'another commit is stalled');
hold_and_release('beside a stalled commit');
reload_conf($node, synchronous_standby_names => '');
$stalled->receive;

done_testing();
