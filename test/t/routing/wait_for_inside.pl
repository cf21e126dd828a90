# wait_for() commits the transaction it is called in, to get rid of its snapshot. That transaction must be
# its own: called from a DO block, a procedure or the middle of a pipeline it is refused, and nothing of the
# caller's work is committed.
#
# Remedy: is_clients_statement() and XACT_FLAGS_PIPELINING in src/routing/wait_for.c. Without the first, rows 1 to 4
# stay; without the second, row 5.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PgClient;
use Test::More;

my $node = CacheAside->new_node('main',
	conf => "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
my $call = "CALL cache_aside.wait_for('0/1', '10 ms', result)";
$node->safe_psql('postgres', qq{
	CREATE TABLE t (id int PRIMARY KEY);
	CREATE PROCEDURE outer_one(n int) LANGUAGE plpgsql AS \$\$
	DECLARE result text;
	BEGIN INSERT INTO t VALUES (n); $call; RAISE EXCEPTION 'undone'; END \$\$;
	CREATE PROCEDURE outer_two(n int) LANGUAGE plpgsql AS \$\$ BEGIN CALL outer_one(n); END \$\$;
	CREATE PROCEDURE outer_dynamic(n int) LANGUAGE plpgsql AS \$\$
	BEGIN INSERT INTO t VALUES (n); EXECUTE 'CALL cache_aside.wait_for(''0/1'')'; END \$\$;
	CREATE FUNCTION inside(n int) RETURNS int LANGUAGE plpgsql AS \$\$
	DECLARE result text;
	BEGIN INSERT INTO t VALUES (n); $call; RETURN 1; END \$\$});

my $client = PgClient->new(dir => $node->host, port => $node->port);

sub refused
{
	my ($sql, $name) = @_;
	my $answer = eval { $client->query($sql); 'not refused' } // $@;
	like($answer, qr/^ERROR: wait_for\(\) cannot run inside .*\(25001\)$/, $name);
	return;
}

refused("DO \$\$ DECLARE result text; BEGIN INSERT INTO t VALUES (1); $call; END \$\$", 'a DO block');
refused('CALL outer_one(2)', 'a procedure');
refused('CALL outer_two(3)', 'a procedure in a procedure');
refused('CALL outer_dynamic(4)', 'dynamic SQL of a procedure');
refused('SELECT inside(6)', 'a function');

# Messages of the extended protocol: parse, bind, execute; no sync in between.
sub message { return $_[0] . pack('N', 4 + length $_[1]) . $_[1]; }

sub extended
{
	my ($sql) = @_;
	return message('P', "\0$sql\0" . pack('n', 0)) . message('B', "\0\0" . pack('nnn', 0, 0, 0))
	  . message('E', "\0" . pack('N', 0));
}

$client->_write(extended('INSERT INTO t VALUES (5)') . extended("CALL cache_aside.wait_for('0/1')")
	  . message('S', ''));
like(eval { $client->finish; 'not refused' } // $@, qr/25001/, 'behind a statement of the same pipeline');

is($client->value('SELECT count(*) FROM t'), 0, 'nothing was committed');

$client->_write(extended("CALL cache_aside.wait_for('0/1')") . message('S', ''));
is_deeply([ $client->finish ], [ ['not in recovery'] ], 'alone in the extended protocol it works');
is($client->value("CALL cache_aside.wait_for('0/1')"), 'not in recovery', 'and in the simple one');

done_testing();
