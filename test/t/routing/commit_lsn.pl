# The token a commit leaves behind: commit_lsn() and the ParameterStatus cache_aside.commit_lsn come
# after each commit that wrote, whatever its kind, and after nothing else.
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CacheAside->new_node('main', conf => "autovacuum = off\n");
my $c = PgWire->new($node, options => '-c cache_aside.report_commit_lsn=on');

sub token { return $_[0]{status}{'cache_aside.commit_lsn'}; }
sub lsn { my ($high, $low) = split m{/}, $_[0]; return hex($high) * 2**32 + hex($low); }

my $last = 0;

# The statement reports a token that is new, that commit_lsn() agrees with, and that covers the WAL
# this transaction wrote and nothing that is not there.
sub reports
{
	my ($sql, $what) = @_;
	my $r = $c->query($sql);
	my $token = token($r);
	my $inserted = $c->value('SELECT pg_current_wal_insert_lsn()');
	ok($token && lsn($token) > $last && lsn($token) <= lsn($inserted), "$what: a new token");
	is($c->value('SELECT cache_aside.commit_lsn()'), $token, "$what: commit_lsn() agrees");
	$last = lsn($token // '0/0');
	return $r;
}

sub silent
{
	my ($sql, $what, %args) = @_;
	my $before = $c->value('SELECT cache_aside.commit_lsn()');
	my $r = $c->query($sql, %args);
	is(token($r), undef, "$what: no token");
	is($c->value('SELECT cache_aside.commit_lsn()'), $before, "$what: commit_lsn() stays");
	return;
}

is($c->value('SELECT cache_aside.commit_lsn()'), undef, 'no commit yet: NULL');
reports('CREATE TABLE t (id int PRIMARY KEY, v text) WITH (fillfactor = 10)', 'DDL');
reports(q{INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 100) g}, 'INSERT');
reports('UPDATE t SET v = v', 'UPDATE');
reports('BEGIN; DELETE FROM t WHERE id = 1; SELECT 1; COMMIT', 'a transaction block');
reports('BEGIN; SAVEPOINT a; DELETE FROM t WHERE id = 2; RELEASE a; COMMIT', 'a subtransaction');
reports('SET synchronous_commit = off; DELETE FROM t WHERE id = 3', 'an asynchronous commit');
reports('SELECT pg_current_xact_id()', 'a transaction id without a write');
my $r = reports(
	q{DO $$ BEGIN FOR i IN 10 .. 59 LOOP DELETE FROM t WHERE id = i; COMMIT; END LOOP; END $$},
	'a procedure that commits');
is($r->{reports}{'cache_aside.commit_lsn'}, 1, 'fifty commits of one procedure: one report');
$c->send('DO $$ BEGIN DELETE FROM t WHERE id = 70; COMMIT; RAISE EXCEPTION $e$x$e$; END $$');
$r = $c->receive(may_fail => 1);
is(token($r), $c->value('SELECT cache_aside.commit_lsn()'), 'a procedure that commits, then fails');
$last = lsn(token($r));

silent('SELECT 1', 'SELECT');
silent('BEGIN; DELETE FROM t WHERE id = 4; ROLLBACK', 'ROLLBACK');
silent('INSERT INTO t VALUES (99, NULL)', 'an error', may_fail => 1);
silent("BEGIN; DELETE FROM t WHERE id = 5; PREPARE TRANSACTION 'p'", 'PREPARE TRANSACTION');
reports("COMMIT PREPARED 'p'", 'COMMIT PREPARED');
silent("BEGIN; DELETE FROM t WHERE id = 6; PREPARE TRANSACTION 'p'", 'PREPARE TRANSACTION again');
silent("ROLLBACK PREPARED 'p'", 'ROLLBACK PREPARED');

# A SELECT that prunes writes WAL, has no transaction id, and moves XactLastCommitEnd.
$c->query('UPDATE t SET v = v');
my $before = lsn($c->value('SELECT pg_current_wal_insert_lsn()'));
silent('SELECT count(*) FROM t', 'a SELECT that prunes');
cmp_ok(lsn($c->value('SELECT pg_current_wal_insert_lsn()')), '>', $before, '... and it did write WAL');

# Prepared in one session, committed in another: the token belongs to who commits.
my $other = PgWire->new($node, options => '-c cache_aside.report_commit_lsn=on');
$c->query("BEGIN; DELETE FROM t WHERE id = 7; PREPARE TRANSACTION 'p'");
ok(token($other->query("COMMIT PREPARED 'p'")), 'prepared elsewhere: reported here');

$c->query('SET cache_aside.report_commit_lsn = off');
$r = $c->query('DELETE FROM t WHERE id = 8');
is(token($r), undef, 'switched off: no ParameterStatus');
cmp_ok(lsn($c->value('SELECT cache_aside.commit_lsn()')), '>', $last, '... and commit_lsn() as ever');

# A client that does not read: its locks go, and the session can be ended.
$other->query('CREATE TABLE slow (id int)');
$other->send(('INSERT INTO slow VALUES (1)') x 100, q{INSERT INTO slow SELECT 2},
	q{SELECT repeat('x', 1000) FROM generate_series(1, 100000)});
ok($node->poll_query_until('postgres',
		q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite')}),
	'the server is stuck sending');
ok($node->safe_psql('postgres', 'BEGIN; LOCK slow; SELECT count(*) FROM slow') == 101,
	'... and holds no lock of its commits');
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
	  . q{ WHERE wait_event = 'ClientWrite'});
ok($node->poll_query_until('postgres',
		q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite')}),
	'... and can be ended');

$node->stop;
done_testing();
