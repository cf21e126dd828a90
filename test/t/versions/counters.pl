
# No lost update: clients of every kind count up the same few rows, each reading, adding one in the
# client, and writing with the version it read, again until it succeeds. A last one bumps versions from
# the side with bulk updates that know nothing of them. What was counted must be there at the end.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PgClient;
use POSIX ();
use RedisServer;
use Test::More;

my $rows = 3;
my $turns = 120;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', qq{
	CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL, bulk int NOT NULL DEFAULT 0);
	CREATE TABLE dynamo (LIKE counters INCLUDING ALL);
	SELECT cache_aside.enable_versioning('counters'), cache_aside.enable_versioning('dynamo', presents => 'read');
	INSERT INTO counters SELECT i, 0 FROM generate_series(1, $rows) i;
	INSERT INTO dynamo SELECT i, 0 FROM generate_series(1, $rows) i;
	SELECT cache_aside.attach('counters', 'counter:{id}');
});

# Each takes the connection, table and id, and returns true when its write went in.
my %writers = (
	'update_item_if' => sub {
		my ($sql, $table, $id) = @_;
		my ($item) = $sql->query(
			"SELECT i->>'n', i->>'version' FROM cache_aside.get_item('$table', '{\"id\": $id}') i");
		my ($n, $version) = @$item;
		return $sql->value("SELECT cache_aside.update_item_if('$table', '{\"id\": $id}', '{\"n\": "
				. ($n + 1) . "}', $version)") eq 't';
	},
	'update_item' => sub {
		my ($sql, $table, $id) = @_;
		my ($n, $version) = read_row(@_);
		return !refused($sql, "SELECT cache_aside.update_item('$table', '{\"id\": $id}', '{\"n\": "
				. ($n + 1) . "}', $version)");
	},
	'an ORM, version in WHERE' => sub {
		my ($sql, $table, $id) = @_;
		my ($n, $version) = read_row(@_);
		return 1 == $sql->query("UPDATE $table SET n = $n + 1, version = @{[presents($table, $version)]} "
				. "WHERE id = $id AND version = $version RETURNING 1");
	},
	'plain SQL, version in WHERE only' => sub {
		my ($sql, $table, $id) = @_;
		my ($n, $version) = read_row(@_);
		return 1 == $sql->query(
			"UPDATE $table SET n = $n + 1 WHERE id = $id AND version = $version RETURNING 1");
	},
	'version in SET only' => sub {
		my ($sql, $table, $id) = @_;
		my ($n, $version) = read_row(@_);
		return !refused($sql,
			"UPDATE $table SET n = $n + 1, version = @{[presents($table, $version)]} WHERE id = $id");
	},
	'upsert' => sub {
		my ($sql, $table, $id) = @_;
		my ($n, $version) = read_row(@_);
		return !refused($sql,
			"INSERT INTO $table (id, n, version) VALUES ($id, $n + 1, @{[presents($table, $version)]})
			ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n, version = EXCLUDED.version");
	},
	'MERGE' => sub {
		my ($sql, $table, $id) = @_;
		my ($n, $version) = read_row(@_);
		return !refused($sql,
			"MERGE INTO $table t USING (VALUES ($id, $n + 1, @{[presents($table, $version)]})) s (id, n, v)
			ON t.id = s.id WHEN MATCHED THEN UPDATE SET n = s.n, version = s.v");
	},
	'REPEATABLE READ' => sub {
		my ($sql, $table, $id) = @_;
		$sql->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
		my ($n, $version) = read_row(@_);
		my $refused = refused($sql, "UPDATE $table SET n = $n + 1 WHERE id = $id AND version = $version");
		$sql->query($refused ? 'ROLLBACK' : 'COMMIT');
		return !$refused;
	},
);

sub read_row
{
	my ($sql, $table, $id) = @_;
	my ($row) = $sql->query("SELECT n, version FROM $table WHERE id = $id");
	return @$row;
}

sub presents { my ($table, $version) = @_; return $table eq 'counters' ? $version + 1 : $version; }

# Runs it; true when it was refused as a conflict, dies on anything else.
sub refused
{
	my ($sql, $command) = @_;
	return 0 if eval { $sql->query($command); 1 };
	die $@ unless $@ =~ /\(40001\)$/;
	return 1;
}

# A child process; it writes the number of conflicts it met to the file.
sub client
{
	my ($file, $code) = @_;
	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	my $done = eval {
		my $sql = PgClient->new(dir => $node->host, port => $node->port, user => scalar getpwuid($>));
		my $conflicts = $code->($sql);
		open my $fh, '>', $file or die $!;
		print $fh $conflicts;
		close $fh;
	};
	print STDERR $@ unless $done;
	POSIX::_exit($done ? 0 : 1);
}

my @clients;
foreach my $name (sort keys %writers)
{
	my $file = $redis->dir . '/conflicts.' . @clients;
	my $write = $writers{$name};
	my $code = sub {
		my ($sql) = @_;
		my $conflicts = 0;
		foreach my $turn (1 .. $turns)
		{
			foreach my $table ('counters', 'dynamo')
			{
				$conflicts++ until $write->($sql, $table, 1 + $turn % $rows);
			}
		}
		return $conflicts;
	};
	push @clients, [ $name, $file, client($file, $code) ];
}
my $bulk = $redis->dir . '/conflicts.bulk';
push @clients, [ 'bulk', $bulk, client($bulk, sub {
	$_[0]->query('UPDATE counters SET bulk = bulk + 1') foreach 1 .. $turns;
	return 0;
}) ];

my $conflicts = 0;
foreach my $client (@clients)
{
	my ($name, $file, $pid) = @$client;
	waitpid($pid, 0);
	is($?, 0, "$name: every turn succeeded in the end");
	my $met = -e $file ? PostgreSQL::Test::Utils::slurp_file($file) : 0;
	note("$name: $met conflicts");
	$conflicts += $met;
}
cmp_ok($conflicts, '>', 0, 'the clients did get in each other\'s way');

my $counted = $turns * keys %writers;
is($node->safe_psql('postgres', 'SELECT sum(n) FROM counters'), $counted, 'no update is lost');
is($node->safe_psql('postgres', 'SELECT sum(n) FROM dynamo'), $counted, 'no update is lost, presents read');
is($node->safe_psql('postgres', 'SELECT sum(bulk) FROM counters'), $turns * $rows, 'nor a bulk update');
is($node->safe_psql('postgres', 'SELECT count(*) FROM counters WHERE version <> 1 + n + bulk'),
	0, 'each write is one version');
is($node->safe_psql('postgres', 'SELECT count(*) FROM dynamo WHERE version <> 1 + n'),
	0, 'each write is one version, presents read');

# The rule on the same table: what the last writers cached is gone.
$redis->command('SET', "counter:$_", 'old') foreach 1 .. $rows;
$node->safe_psql('postgres', q{SELECT cache_aside.update_item('counters', '{"id": 1}', '{"n": 0}')});
ok(keys_gone($redis, 'counter:1'), 'an item function invalidates as any write does');
ok(is_cached($redis, 'counter:2'), 'only its own key');

done_testing();
