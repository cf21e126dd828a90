# A rule begins to cover rows that clients have cached before. In each way, two rows are read with a token,
# and then change although no rule covers them: the change deletes nothing. One old row is filled before the rule
# begins, and must be gone after; the other one is filled after, and must be refused.
#
# Remedies: add_rule in begins.c (everything that is a trigger or a name), the last lines of ca_view_rule_attach,
# ca_begins_is_new in moves_rows of ddl.c (a partition that was emptied). Of key_prefix: resume/other_keyspace too.
use strict;
use warnings;

use CacheAside;
use PgClient;
use RedisServer;
use PostgreSQL::Test::Utils;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.scan_rate = 0\n");
my $dir = PostgreSQL::Test::Utils::tempdir();
my %clients;

sub client
{
	my ($name, $database) = @_;
	return $clients{$name} //= PgClient->new(dir => $node->host, port => $node->port, database => $database // 'postgres',
		options => { statement_timeout => '60s' });
}

sub fill
{
	my ($key, $token) = @_;
	return $redis->command('FCALL', 'cache_aside_fill', 1, $key, 'old', 60000, $token);
}

# A token of a snapshot that sees both rows.
sub read_rows
{
	my ($reader, $table) = @_;
	for (1 .. 1000)
	{
		my ($row) = $reader->query("SELECT cache_aside.read_token(), count(*) FROM $table");
		return $row->[0] if defined $row->[0] && $row->[1] == 2;
	}
	die "no token for $table";
}

# begin: SQL, or what is run. The rows 1 and 2 are read from `table`, their keys are k:1 and k:2 but for `key`.
sub begins
{
	my ($name, %way) = @_;
	my $reader = client("reader $way{database}", $way{database}) if $way{database};
	my $writer = client("writer $way{database}", $way{database}) if $way{database};
	my $key = $way{key} // 'k';
	$reader //= client('reader');
	$writer //= client('writer');
	$writer->query($_) foreach split /;\s*/, $way{setup} // '';
	wait_delivered($node);
	my $token = read_rows($reader, $way{table} // 't');
	$writer->query($_) foreach split /;\s*/, $way{change} // q{UPDATE t SET v = 'new'};
	is(fill("$key:1", $token), 1, "$name: the old row is stored, nothing says that it changed");
	ref $way{begin} ? $way{begin}->() : $writer->query("BEGIN; $way{begin}; COMMIT");
	wait_delivered($node);
	is($redis->get("$key:1"), undef, "$name: it is gone when the rule has begun");
	is(fill("$key:2", $token), 0, "$name: and refused from then on");
	$redis->del("$key:1", "$key:2");
	$writer->query($_) foreach split /;\s*/, $way{end} // 'DROP TABLE t CASCADE';
	return;
}

my $t = q{CREATE TABLE t (id int PRIMARY KEY, v text, n int DEFAULT 0); INSERT INTO t VALUES (1, 'old'), (2, 'old')};
my $by_hand = q{AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('k:{id}')};
my $attach = q{SELECT cache_aside.attach('t', 'k:{id}')};
my $trigger = q{(SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgname LIKE '%row')};

begins('attach', setup => $t, begin => $attach);
begins('attach, columns', setup => $t, begin => q{SELECT cache_aside.attach('t', 'k:{id}', columns => '{v}')});
begins('attach, statement', setup => $t, begin => q{SELECT cache_aside.attach('t', 'k:{id}', level => 'statement')});
begins('attach_query', setup => $t, begin => q{SELECT cache_aside.attach_query('t', $$SELECT 'k:' || id FROM changed$$, 'k:*')});
begins('by hand', setup => $t, begin => "CREATE TRIGGER a $by_hand");
begins('other template', setup => "$t; SELECT cache_aside.attach('t', 'other:{id}')",
	begin => "SELECT cache_aside.detach('t'); $attach");
begins('OR REPLACE', setup => "$t; CREATE TRIGGER a AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('o:{id}')",
	begin => "CREATE OR REPLACE TRIGGER a $by_hand");
begins('WHEN', setup => "$t; CREATE TRIGGER a AFTER UPDATE ON t FOR EACH ROW WHEN (OLD.n <> NEW.n) "
	  . q{EXECUTE FUNCTION cache_aside.invalidate_row('k:{id}')}, begin => "CREATE OR REPLACE TRIGGER a $by_hand");
begins('more columns', setup => "$t; SELECT cache_aside.attach('t', 'k:{id}', columns => '{n}')",
	begin => "SELECT cache_aside.detach('t'); $attach");
begins('ENABLE TRIGGER', setup => "$t; CREATE TRIGGER a $by_hand; ALTER TABLE t DISABLE TRIGGER a",
	begin => 'ALTER TABLE t ENABLE TRIGGER a');
begins('ENABLE TRIGGER ALL', setup => "$t; $attach; ALTER TABLE t DISABLE TRIGGER ALL", begin => 'ALTER TABLE t ENABLE TRIGGER ALL');
begins('ENABLE ALWAYS', setup => "$t; CREATE TRIGGER a $by_hand", begin => 'ALTER TABLE t ENABLE ALWAYS TRIGGER a',
	change => q{SET session_replication_role = replica; UPDATE t SET v = 'new'; RESET session_replication_role});

# a table that takes the name of one without rules, in which rows are others
my $twin = q{CREATE TABLE t_new (LIKE t); SELECT cache_aside.attach('t_new', 'k:{id}'); INSERT INTO t_new VALUES (1, 'new'), (2, 'new')};
begins('RENAME', setup => "$t; $twin", change => 'SELECT 1', end => 'DROP TABLE t, t_old',
	begin => 'ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t');
begins('SET SCHEMA', setup => "$t; CREATE SCHEMA s; $twin; ALTER TABLE t_new SET SCHEMA s; ALTER TABLE s.t_new RENAME TO t",
	change => 'SELECT 1', end => 'DROP TABLE t; DROP SCHEMA s', begin => 'DROP TABLE t; ALTER TABLE s.t SET SCHEMA public');
begins('ALTER SCHEMA', setup => 'CREATE SCHEMA s; CREATE SCHEMA s_new; CREATE TABLE s.t AS SELECT 1 AS id UNION SELECT 2;'
	  . q{CREATE TABLE s_new.t (id int); SELECT cache_aside.attach('s_new.t', 'k:{id}'); INSERT INTO s_new.t VALUES (1)},
	table => 's.t', change => 'SELECT 1', begin => 'ALTER SCHEMA s RENAME TO s_old; ALTER SCHEMA s_new RENAME TO s',
	end => 'DROP SCHEMA s CASCADE; DROP SCHEMA s_old CASCADE');
begins('attach_like', setup => "$t; $attach; ALTER TABLE t RENAME TO t_old; CREATE TABLE t (LIKE t_old); INSERT INTO t SELECT * FROM t_old",
	begin => q{SELECT cache_aside.attach_like('t', 't_old')}, end => 'DROP TABLE t, t_old');

# materialized views
my $view = 'CREATE MATERIALIZED VIEW m AS SELECT * FROM t';
begins('materialized view', setup => "$t; $view", table => 'm', change => q{UPDATE t SET v = 'new'; REFRESH MATERIALIZED VIEW m},
	begin => q{SELECT cache_aside.attach('m', 'k:{id}')});
begins('materialized view, RENAME', setup => "$t; CREATE VIEW m AS SELECT * FROM t; CREATE MATERIALIZED VIEW mm AS SELECT 1 AS id;"
	  . q{SELECT cache_aside.attach('mm', 'k:{id}')}, table => 'm', change => 'SELECT 1',
	begin => 'DROP VIEW m; ALTER MATERIALIZED VIEW mm RENAME TO m', end => 'DROP TABLE t; DROP MATERIALIZED VIEW m');

# partitions and children
my $parent = q{CREATE TABLE p (id int, v text, n int) PARTITION BY RANGE (id); SELECT cache_aside.attach('p', 'k:{id}')};
my $into = 'ALTER TABLE p ATTACH PARTITION t FOR VALUES FROM (0) TO (10)';
my $plain = q{CREATE TABLE t (id int, v text, n int); INSERT INTO t VALUES (1, 'old'), (2, 'old')};
begins('ATTACH PARTITION', setup => "$parent; $plain", begin => $into, end => 'DROP TABLE p');
begins('ATTACH PARTITION, emptied', setup => "$parent; $plain", change => 'TRUNCATE t', begin => $into, end => 'DROP TABLE p');
begins('ATTACH PARTITION, vacuumed', setup => "$parent; $plain", change => 'DELETE FROM t', end => 'DROP TABLE p',
	begin => sub { client('writer')->query('VACUUM t'); client('writer')->query($into) });
begins('ATTACH PARTITION, whose own are gone', end => 'DROP TABLE p, t1', begin => $into, change => 'ALTER TABLE t DETACH PARTITION t1',
	setup => "$parent; CREATE TABLE t (id int, v text, n int) PARTITION BY RANGE (id);"
	  . q{CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); INSERT INTO t VALUES (1, 'old'), (2, 'old')});
begins('INHERIT', setup => "CREATE TABLE p (id int, v text, n int); SELECT cache_aside.attach('p', 'k:{id}'); $plain",
	begin => 'ALTER TABLE t INHERIT p', end => 'DROP TABLE p CASCADE');

# a restore, whose triggers come after the rows
client('writer')->query("$t; $attach");
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump", 'postgres' ], 'dumped');
client('writer')->query('CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-e', '--section=pre-data', '--section=data', '-d', 'copy', "$dir/dump" ], 'rows restored');
begins('restore', database => 'copy', begin =>
	sub { $node->command_ok([ 'pg_restore', '-e', '--section=post-data', '-d', 'copy', "$dir/dump" ], 'rules restored') });

# another prefix
begins('key_prefix', key => 'new:k', begin => sub {
	$node->safe_psql('postgres', q{ALTER SYSTEM SET cache_aside.key_prefix = 'new:'});
	$node->reload;
	$redis->wait_until(sub { !$redis->exists('new:k:1') });
});
$node->stop;
done_testing();
