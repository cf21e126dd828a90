# Every way in which a reader's snapshot can be older than it looks: an old value is never stored, a
# new one always is. In each story somebody reads, the row changes and the change is delivered, and
# then the reader fills with what it read.
#
# Fails without level_gap (LEVELS = 1 in read_token.c): nothing is left of the time before a hundred changes.
use strict;
use warnings;

use CacheAside;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "restart_after_crash = on\n");
my @clients;

sub client
{
	my $c = PgClient->new(dir => $node->host, port => $node->port);
	push @clients, $c;
	return $c;
}

my ($reader, $writer, $other) = map { client() } 1 .. 3;
$writer->query(q{CREATE TABLE users (id int PRIMARY KEY, name text);
	SELECT cache_aside.attach('users', 'user:{id}');
	INSERT INTO users VALUES (1, 'v0')});
my $version = 0;
my $read = q{SELECT name, cache_aside.read_token() FROM users WHERE id = 1};

sub change
{
	$writer->query("UPDATE users SET name = 'v" . ++$version . "' WHERE id = 1");
	die 'not delivered' unless $writer->value('SELECT cache_aside.wait_delivered()') eq 't';
	return;
}

sub fill
{
	my ($c, $value, $token) = @_;
	return 'no token' unless defined $token;
	return $c->value("SELECT cache_aside.fill('user:1', '$value', '1 min', '$token')");
}

# What a reader of now gets in; the ring has to have an entry from before its transaction.
sub admits_the_new
{
	my ($name) = @_;
	ok($redis->wait_until(sub {
		my ($row) = $other->query($read);
		fill($other, @$row) eq 't';
	}), "$name: a new read is stored");
	is($redis->get('user:1'), "v$version", 'with the new value');
	return;
}

sub refused
{
	my ($name, $value, $token) = @_;
	isnt($value, "v$version", "$name: the value is old");
	isnt(fill($other, $value, $token), 't', 'and refused');
	ok(!$redis->exists('user:1'), 'nothing is cached');
	return;
}

wait_delivered($node);
admits_the_new('begin');

# The plain race: read, pause, fill.
my ($row) = $reader->query($read);
change();
refused('read and pause', @$row);
admits_the_new('read and pause');

# A token selected later than the row. It is the statement's own, and new; but not the row's.
$reader->query('BEGIN');
($row) = $reader->query('SELECT name FROM users WHERE id = 1');
change();
my $late = $reader->value('SELECT cache_aside.read_token()');
refused('token in a later statement', $row->[0], $late);
$reader->query('COMMIT');

# The same a long time later: entries between are no excuse.
$reader->query('BEGIN');
($row) = $reader->query('SELECT name FROM users WHERE id = 1');
change() foreach 1 .. 100;
$late = $reader->value('SELECT cache_aside.read_token()');
ok(defined $late, 'after a hundred changes: the newest 64 samples are too new, an older one counts');
refused('after a hundred changes', $row->[0], $late);
is($other->value("SELECT cache_aside.fill('unchanged', 'v', '1 min', '$late')"), 't',
	'what did not change is stored');
$reader->query('COMMIT');
admits_the_new('after a hundred changes');

# One snapshot for the whole transaction
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
change();
($row) = $reader->query($read);
refused('REPEATABLE READ', @$row);
$reader->query('COMMIT');

# A snapshot older than the transaction that uses it
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $snapshot = $reader->value('SELECT pg_export_snapshot()');
change();
admits_the_new('before the import');
change();
my $importer = client();
$importer->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$snapshot'");
($row) = $importer->query($read);
refused('imported snapshot', @$row);
$importer->query('COMMIT');
$reader->query('COMMIT');

# The same, when xmax alone does not tell: transactions that are still running are in the way.
my @open = map { client() } 1 .. 3;
$_->query('BEGIN; SELECT pg_current_xact_id()') foreach @open;
my ($first, $second) = (client(), client());
$first->query("BEGIN; UPDATE users SET name = 'v" . ++$version . "' WHERE id = 1");
$second->query('BEGIN; SELECT pg_current_xact_id(); COMMIT'); # xmax is above $first's now
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
$snapshot = $reader->value('SELECT pg_export_snapshot()');
$first->query('COMMIT'); # the same xmax, one fewer running
wait_delivered($node);
$importer->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$snapshot'");
($row) = $importer->query($read);
refused('same xmax, more running', @$row);
$_->query('COMMIT') foreach $importer, $reader, @open;
admits_the_new('same xmax, more running');

# Bind, pause, Execute: the portal's snapshot is the one of Bind.
$reader->bind($read);
change();
($row) = $reader->execute;
refused('pause between Bind and Execute', @$row);

# A cursor, opened before and read after the change
$reader->query("BEGIN; DECLARE c CURSOR FOR $read");
change();
($row) = $reader->query('FETCH c');
refused('cursor', @$row);
$reader->query('COMMIT');

# A function that takes snapshots of its own: what it returns is newer than the statement's token
$writer->query(q{CREATE FUNCTION slow_read() RETURNS text LANGUAGE plpgsql VOLATILE AS
	$$ BEGIN PERFORM pg_advisory_lock(1); RETURN (SELECT name FROM users WHERE id = 1); END $$});
$other->query('SELECT pg_advisory_lock(1)');
$reader->send_query('SELECT slow_read(), cache_aside.read_token()');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks
	WHERE locktype = 'advisory' AND NOT granted}), 'a function waits in the middle of its statement');
change();
$other->query('SELECT pg_advisory_unlock(1)');
($row) = $reader->finish;
is($row->[0], "v$version", 'it reads newer than its statement');
isnt(fill($other, @$row), 't', 'for which the token does not vouch: refused, needlessly but safely');
$reader->query('SELECT pg_advisory_unlock_all()');

# Parallel workers have the leader's snapshot and transaction start.
$writer->query('SET force_parallel_mode = on') if $writer->value('SHOW server_version_num') < 160000;
$writer->query('SET debug_parallel_query = on')
  if $writer->value('SHOW server_version_num') >= 160000;
like($writer->value('SELECT cache_aside.read_token()'), qr/^\d+-1-/, 'token in a parallel worker');
$writer->query('RESET ALL');

# The ring begins anew with the worker: whoever began before that gets no token, however long he waits.
my $ended = worker_pid($node);
$reader->query('BEGIN');
ok(defined $reader->value('SELECT cache_aside.read_token()'), 'a token');
$writer->value("SELECT pg_terminate_backend($ended)");
wait_worker($node, $ended);
admits_the_new('another worker');
is($reader->value('SELECT cache_aside.read_token()'), undef, 'the ring does not reach back: none');
$reader->query('COMMIT');

# Without a worker there is no token; the next one gives some again.
my $pid = worker_pid($node);
kill 'STOP', $pid;
ok(defined $reader->value('SELECT cache_aside.read_token()'), 'a worker that hangs: old tokens');
kill 'KILL', $pid;
@clients = ();
ok($redis->wait_until(sub { eval { client()->value('SELECT 1') } }), 'the server restarts');
$_ = client() foreach $other, $writer;
admits_the_new('worker killed');
done_testing();
