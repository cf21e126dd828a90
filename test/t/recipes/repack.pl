# pg_repack beside us: it fills another table, swaps the files under the two, and drops the other. Rules, versions and keys
# stay; what is cached stays as well; a write meanwhile is delivered.
#
# It protects a choice, that rules are triggers of the table, which keeps its OID: pg_repack drops what belongs to the other one.
use strict;
use warnings;

use CacheAside;
use IPC::Run ();
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $bindir = $ENV{PG_CONFIG} ? `$ENV{PG_CONFIG} --bindir` =~ s/\n//r : '';
my ($repack) = grep { -x } map { "$_/pg_repack" } $bindir, split /:/, $ENV{PATH};
plan skip_all => 'pg_repack is not installed' unless $repack;

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE EXTENSION pg_repack;
	CREATE TABLE users (id int PRIMARY KEY, gone int, name text, grade int);
	INSERT INTO users SELECT i, i, 'a', i % 10 FROM generate_series(1, 2000) i;
	ALTER TABLE users DROP COLUMN gone;
	SELECT cache_aside.attach('users', 'user:{id}'), cache_aside.attach('users', 'grade:{grade}', columns => '{grade}');
	SELECT cache_aside.attach_query('users', 'SELECT ''names:'' || c.name FROM changed c', 'names:*');
	SELECT cache_aside.enable_versioning('users'); UPDATE users SET name = 'b' WHERE id = 7});
wait_delivered($node);
my $shape = q{SELECT * FROM cache_aside.rules ORDER BY name;
	SELECT * FROM cache_aside.versioned; SELECT * FROM cache_aside.gaps; SELECT version FROM users WHERE id = 7};
my $before = $node->safe_psql('postgres', $shape);
my $file = $node->safe_psql('postgres', "SELECT pg_relation_filenode('users')");
$redis->set($_, 'v') foreach 'user:1', 'user:2', 'grade:3', 'names:a';

# While it waits for the end of an old transaction, before it swaps, somebody writes
my $reader = PgWire->new($node);
$reader->query('BEGIN');
$reader->query('SELECT 1');
my $writer = PgWire->new($node);
$writer->query("UPDATE users SET name = 'own' WHERE id = 3");
my $output = '';
my $run = IPC::Run::start([ $repack, '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-t', 'users', '--no-kill-backend' ],
	'<', \undef, '>&', \$output);
ok(wait_until(sub { $node->value('postgres', q{SELECT count(*) > 0 FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
	WHERE nspname = 'repack' AND relname LIKE 'log_%'}) eq 't' }), 'it logs what is written');
$writer->query("UPDATE users SET name = 'meanwhile', grade = 3 WHERE id = 2");
wait_delivered($node);
ok(!is_cached($redis, 'user:2') && !is_cached($redis, 'grade:3') , 'a write while it copies is delivered');
$reader->query('COMMIT');
$run->finish;
isnt($node->safe_psql('postgres', "SELECT pg_relation_filenode('users')"), $file, 'repacked') or diag $output;
is($node->safe_psql('postgres', $shape), $before, 'rules, versions and gaps are as before');
wait_delivered($node);
ok(is_cached($redis, 'user:1'), 'what is cached stays');
foreach my $session ([ 'a session from before' => $writer ], [ 'a new one' => PgWire->new($node) ])
{
	my ($who, $client) = @$session;
	$redis->set($_, 'v') foreach 'user:1', 'grade:1', 'grade:5', 'names:a', 'names:b';
	$client->query("UPDATE users SET name = 'b', grade = 5 WHERE id = 1");
	wait_delivered($node);
	ok(!is_cached($redis, 'user:1') && !is_cached($redis, 'names:b'), "$who: its writes delete keys");
	$client->query("UPDATE users SET grade = 1, name = 'a' WHERE id = 1");
	wait_delivered($node);
	ok(!is_cached($redis, 'grade:5') && !is_cached($redis, 'names:a'), '... the watched column, the query');
}
is($node->safe_psql('postgres', 'SELECT version FROM users WHERE id = 1'), 5, 'each is counted');
my ($ret, $out, $err) = $node->psql('postgres', 'UPDATE users SET version = 5 WHERE id = 1');
like($err, qr/row version conflict/, '... and an old version is refused');
done_testing();
