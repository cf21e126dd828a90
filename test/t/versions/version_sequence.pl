# A sequence of row versions belongs to all writers of its table. A version that one of them supplies, however
# high, neither uses it up for the others nor makes them wait for its transaction.
#
# Remedy: ca_version_sequence_push() in src/rows/version_sequence.c is bounded and takes no lock; accept_supplied()
# in src/rows/version_trigger.c refuses. With jump() in its place, as it was, "waits" and "used up" fail.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PgClient;
use Test::More;

my $node = CacheAside->new_node('main',
	conf => "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
$node->safe_psql('postgres', q{
	CREATE TABLE dealt (id int PRIMARY KEY, v int);
	CREATE TABLE reused (id int PRIMARY KEY, v int);
	SELECT cache_aside.enable_versioning('dealt', start => 'sequence'), cache_aside.enable_versioning('reused');
	CREATE ROLE writer;
	GRANT SELECT, INSERT, UPDATE, DELETE ON dealt, reused TO writer});

my $attacker = PgClient->new(dir => $node->host, port => $node->port);
my $other = PgClient->new(dir => $node->host, port => $node->port);
$attacker->query('SET ROLE writer');
$other->query('SET ROLE writer');
$other->query("SET lock_timeout = '5 s'");

sub state_of
{
	my ($client, $sql) = @_;
	return eval { $client->query($sql); 'done' } // ($@ =~ /too far ahead/ ? 'too far' : $@);
}

# One transaction that supplies all kinds of numbers stays open.
$attacker->query('BEGIN');
my $n = 100;
foreach my $version (qw(2147483647 1000000 20001))
{
	$attacker->query('SAVEPOINT s');
	is(state_of($attacker, "INSERT INTO dealt VALUES ($n, 0, $version)"), 'too far', "$version is refused");
	$attacker->query('ROLLBACK TO s');
	$n++;
}
is(state_of($attacker, 'INSERT INTO dealt VALUES (1, 0, 9000)'), 'done', 'a number within reach is taken');
is(state_of($attacker, 'INSERT INTO reused VALUES (1, 0, 2147483647), (2, 0, 9000)'), 'done',
	'a table that needs its sequence for deleted rows only keeps every number');
is(state_of($attacker, 'DELETE FROM reused'), 'done', 'and lets such rows go');

is(state_of($other, 'INSERT INTO dealt VALUES (2, 0)'), 'done', 'nobody waits for that transaction');
is(state_of($other, 'UPDATE dealt SET v = 1 WHERE id = 2'), 'done', 'not to update either');
is($other->value('SELECT version FROM dealt WHERE id = 2'), 9002, 'and goes on above what was taken');
is(state_of($other, 'INSERT INTO reused VALUES (3, 0)'), 'done', 'nobody waits for a delete');
is($other->value('SELECT version FROM reused WHERE id = 3'), 9001,
	'a row far ahead has not used up the numbers, the other has counted');
$attacker->query('ROLLBACK');
is(state_of($other, 'INSERT INTO dealt VALUES (3, 0)'), 'done', 'and so it goes on after a rollback');

# A load with versions of its own, by a superuser.
$node->safe_psql('postgres', q{SET cache_aside.import_mode = on; INSERT INTO dealt VALUES (4, 0, 5000000)});
is($node->safe_psql('postgres', 'INSERT INTO dealt VALUES (5, 0) RETURNING version'), 5000001,
	'a load takes the sequence along');

# Fifteen sixteenths of an integer: time to widen it, and a warning says so.
my ($code, $out, $err) = $node->psql('postgres', q{
	SET cache_aside.import_mode = on; INSERT INTO reused VALUES (5, 0, 2100000000); RESET cache_aside.import_mode;
	UPDATE reused SET v = 1 WHERE id = 5; UPDATE reused SET v = 2 WHERE id = 5});
is(() = $err =~ /WARNING:  row versions in column "version" of table "reused" come to their end/g, 1,
	'a warning well before the end, once');
like($err, qr/HINT:  .*TYPE bigint/, 'with the statement');

done_testing();
