# "SET version = version + 1", computed by the server from the row's own version: presents nothing, so it is
# counted and never refused, also where writers present the version they read. What a client computed is
# told from it: the same number, sent as a number, is refused as before.
#
# Remedies, in src/rows/version_increment.c: change_query() and what it calls (refused in every form);
# is_own_version() (another row's version is taken for the row's own); ca_version_increment_assign() (a plan
# from before stores the old version under import_mode).

use strict;
use warnings;

use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main', conf => "cache_aside.delivery = off\n");

sub sql { return $node->safe_psql('postgres', join(';', @_)) }

# What one statement makes of a row at version 5, or the error's SQLSTATE.
sub makes
{
	my ($table, @statements) = @_;
	my (undef, $out, $err) = $node->psql('postgres',
		"\\set VERBOSITY sqlstate\nBEGIN; " . join(';', @statements) . ";\nSELECT string_agg(id || ':' || version, ' ' ORDER BY id) FROM $table; ROLLBACK");
	return $err =~ /ERROR:\s+(\w+)/ ? $1 : $out;
}

foreach my $mode (qw(read next echo))
{
	sql("CREATE TABLE $mode (id int PRIMARY KEY, n int, version int)", "SELECT cache_aside.enable_versioning('$mode', presents => '$mode')",
		"INSERT INTO $mode VALUES (1, 0, 5)");
}
sql('CREATE TABLE other (id int, n int, version int); INSERT INTO other VALUES (1, 0, 5)', 'CREATE VIEW v AS SELECT id AS key, version AS lock, n FROM read');

foreach my $form ('version + 1', '1 + version', 'COALESCE(version, 0) + 1', 'version + 1::bigint', 'version + 1::smallint', '(version::bigint + 1)::int')
{
	is(makes('read', "UPDATE read SET n = 1, version = $form"), '1:6', "read: $form");
	is(makes('read', "UPDATE read SET version = $form WHERE id = 1 AND version = 5"), '1:6', '... alone, with WHERE');
}
is(makes($_, "UPDATE $_ SET n = 1, version = version + 1"), '1:6', "$_: as ever") foreach qw(next echo);
my %refused = ('a number that was computed by the client' => 'SET version = 6', 'two at once' => 'SET version = version + 2', 'one back' => 'SET version = version - 1',
	'another row' => 'SET version = o.version + 1 FROM other o', 'a subquery' => 'SET version = (SELECT version + 1 FROM other)', 'NULL' => 'SET version = NULL');
is(makes('read', "UPDATE read $refused{$_}"), '40001', "refused: $_") foreach sort keys %refused;
is(makes('read', "UPDATE read SET version = $_"), '1:6', "as ever: $_") foreach '5', 'version', 'version + 0', 'read.version';

is(makes('read', 'UPDATE v SET lock = lock + 1'), '1:6', 'through a view');
is(makes('read', 'WITH u AS (UPDATE read SET version = version + 1 RETURNING 1) SELECT FROM u'), '1:6', 'in WITH');
is(makes('read', 'INSERT INTO read VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n, version = read.version + 1'), '1:6', 'ON CONFLICT');
is(makes('read', 'INSERT INTO read VALUES (1, 2, 5) ON CONFLICT (id) DO UPDATE SET version = EXCLUDED.version + 1'), '40001', 'ON CONFLICT, EXCLUDED');
is(makes('read', 'MERGE INTO read r USING other o ON o.id = r.id WHEN MATCHED THEN UPDATE SET n = 2, version = r.version + 1'), '1:6', 'MERGE');
is(makes('read', 'MERGE INTO read r USING (SELECT 1 AS id, 0 AS n, 5 AS version) o ON o.id = r.id WHEN MATCHED THEN UPDATE SET version = o.version + 1'), '40001', 'MERGE, the source');
is(makes('read', q{DO 'BEGIN FOR i IN 1..7 LOOP UPDATE read SET version = version + i / i; UPDATE read SET version = version + 1; END LOOP; END'}), '40001',
	'an expression is none of the forms');
is(makes('read', q{DO 'DECLARE one int := 1; BEGIN FOR i IN 1..9 LOOP UPDATE read SET version = version + one; END LOOP; END'}), '1:14', 'a parameter, generic plans too');
is(makes('read', 'PREPARE p (int) AS UPDATE read SET version = version + $1', 'EXECUTE p (2)'), '40001', 'a parameter that is not 1');

# types, partitions, inheritance
foreach my $type (qw(smallint bigint))
{
	sql("CREATE TABLE t_$type (id int, version $type NOT NULL DEFAULT 1)", "SELECT cache_aside.enable_versioning('t_$type', presents => 'read')", "INSERT INTO t_$type VALUES (1)");
	is(makes("t_$type", "UPDATE t_$type SET version = version + 1"), '1:2', $type);
	is(makes("t_$type", "PREPARE p AS UPDATE t_$type SET version = version + \$1", 'EXECUTE p (1)'), '1:2', "$type, a parameter");
}
sql('CREATE TABLE p (id int, n int) PARTITION BY RANGE (n); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p DEFAULT',
	q{SELECT cache_aside.enable_versioning('p', presents => 'read'); INSERT INTO p VALUES (1, 1)},
	'CREATE TABLE a (id int); CREATE TABLE b () INHERITS (a)', q{SELECT cache_aside.enable_versioning('a', presents => 'read'); INSERT INTO b VALUES (1)});
is(makes('p', 'UPDATE p SET n = 20, version = version + 1'), '1:2', 'a row that moves');
is(makes('p', 'UPDATE p1 SET version = version + 1'), '1:2', 'a partition');
is(makes('a', 'UPDATE a SET version = version + 1'), '40001', 'tables that inherit may differ: as before');
is(makes('a', 'UPDATE b SET version = version + 1'), '1:2', 'one of them alone');

# who is not the trigger's business; plans from before
my $prepare = 'PREPARE p AS UPDATE read SET version = version + 1';
is(makes('read', $prepare, 'EXECUTE p', 'SET LOCAL cache_aside.import_mode = on', 'EXECUTE p'), '1:7', 'import_mode: what is assigned');
is(makes('read', $prepare, 'EXECUTE p', 'SET LOCAL session_replication_role = replica', 'EXECUTE p'), '1:7', 'a replica session');
is(makes('read', $prepare, 'EXECUTE p', 'ALTER TABLE read DISABLE TRIGGER USER', 'EXECUTE p'), '1:7', 'a disabled trigger');
is(makes('read', $prepare, q{SELECT FROM cache_aside.disable_versioning('read')}, 'EXECUTE p'), '1:6', 'no versions any more');

# two at once
my ($a, $b) = map { $node->background_psql('postgres') } 1, 2;
$a->query_safe('BEGIN; UPDATE read SET n = 1, version = version + 1');
$b->query_until(qr/sent/, "\\echo sent\nUPDATE read SET n = 2, version = version + 1 WHERE version > 0;\nUPDATE read SET n = 3, version = version + 1 WHERE version = 5;\n");
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'});
$a->query_safe('COMMIT');
is($b->query_safe('SELECT n, version FROM read'), '2|7', 'the second counts on the newest row; a WHERE that is stale finds none');
$_->quit foreach $a, $b;

done_testing();
