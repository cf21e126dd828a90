
# pg_dump and pg_restore keep versions, triggers and the sequence, however the dump is made, and the
# restored tables go on where the dumped ones were.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CacheAside->new_node('main', conf => "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
my $dir = $node->basedir;

$node->safe_psql('postgres', q{
	CREATE DATABASE source;
});
$node->safe_psql('source', q{
	CREATE EXTENSION cache_aside;
	CREATE TABLE plain (id int PRIMARY KEY, v int);
	CREATE TABLE picky ("Id" int PRIMARY KEY, "A b" int, c int, note text);
	CREATE TABLE seq (id int PRIMARY KEY, v int);
	CREATE TABLE parted (id int, k int, v int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
	CREATE TABLE parted_2 (v int, k int NOT NULL, id int NOT NULL);
	CREATE TABLE base (id int PRIMARY KEY, v int);
	CREATE TABLE derived (w int) INHERITS (base);
	SELECT cache_aside.enable_versioning('plain'),
		cache_aside.enable_versioning('picky', version => 'Lock V', columns => '{A b,c}', presents => 'read'),
		cache_aside.enable_versioning('seq', start => 'sequence'),
		cache_aside.enable_versioning('parted', start => 'sequence'),
		cache_aside.enable_versioning('base');
	ALTER TABLE parted_2 ADD version integer;
	ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES IN (2);
	INSERT INTO plain VALUES (1, 0), (2, 0);
	INSERT INTO picky VALUES (1, 0, 0, 'x');
	INSERT INTO seq VALUES (1, 0), (2, 0);
	INSERT INTO parted VALUES (1, 1, 0), (2, 2, 0);
	INSERT INTO base VALUES (1, 0);
	INSERT INTO derived VALUES (2, 0, 0);
	UPDATE plain SET v = i FROM generate_series(1, 3) i WHERE id = 1 AND i = 1;
	UPDATE plain SET v = 2 WHERE id = 1;
	UPDATE picky SET c = 1;
	UPDATE picky SET note = 'y';
	UPDATE seq SET v = 1;
	UPDATE seq SET v = 2 WHERE id = 2;
	DELETE FROM seq WHERE id = 2;
	UPDATE parted SET k = 3 - k;
	UPDATE base SET v = 1;
});

# Everything that must survive, as text. (--column-inserts below: with --inserts, pg_dump itself loses the
# order of columns added to an inheritance parent.)
sub state_of
{
	my ($db) = @_;
	return $node->safe_psql($db, q{
		SELECT * FROM cache_aside.versioned ORDER BY relation::text;
		SELECT tgrelid::regclass, tgenabled, tgparentid <> 0, pg_get_triggerdef(oid) FROM pg_trigger
			WHERE tgname LIKE '%row_version' ORDER BY tgrelid::regclass::text;
		SELECT *, 'plain' FROM plain ORDER BY id;
		SELECT *, 'picky' FROM picky;
		SELECT *, 'seq' FROM seq ORDER BY id;
		SELECT id, k, v, version, tableoid::regclass FROM parted ORDER BY id;
		SELECT id, v, version, tableoid::regclass FROM base ORDER BY id;
		SELECT last_value, is_called FROM seq_version_seq;
		SELECT last_value, is_called FROM parted_version_seq});
}

my $before = state_of('source');
like($before, qr/^2\|0\|1\|plain$/m, 'there are versions to keep');
like($before, qr/seq\|version\|next\|sequence/, 'and settings');

my %dumps = (
	plain => [ [ 'pg_dump', '-f', "$dir/plain.sql", 'source' ] ],
	inserts => [ [ 'pg_dump', '--column-inserts', '--rows-per-insert=2', '-f', "$dir/inserts.sql", 'source' ] ],
	custom => [ [ 'pg_dump', '-Fc', '-f', "$dir/custom", 'source' ] ],
	sections => [ [ 'pg_dump', '-Fc', '-f', "$dir/sections", 'source' ] ],
	'data with triggers disabled' => [ [ 'pg_dump', '-Fc', '-f', "$dir/split", 'source' ] ],
);
my %restores = (
	plain => sub { [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql", $_[0] ] },
	inserts => sub { [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/inserts.sql", $_[0] ] },
	custom => sub { [ 'pg_restore', '-e', '-j', '2', '-d', $_[0], "$dir/custom" ] },
	sections => sub {
		return map { [ 'pg_restore', '-e', "--section=$_", '-d', $_[0], "$dir/sections" ] }
		  qw(pre-data post-data data);    # rows go through the triggers
	},
	'data with triggers disabled' => sub {
		return (
			[ 'pg_restore', '-e', '--schema-only', '-d', $_[0], "$dir/split" ],
			[ 'pg_restore', '-e', '--data-only', '--disable-triggers', '-d', $_[0], "$dir/split" ]);
	},
);

foreach my $kind (sort keys %dumps)
{
	my $db = 'into_' . $kind =~ s/\W/_/gr;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->command_ok($_, "dump: $kind") foreach @{ $dumps{$kind} };
	$node->command_ok($_, "restore: $kind") foreach $restores{$kind}->($db);
	is(state_of($db), $before, "$kind: nothing is lost");

	is($node->safe_psql($db, 'UPDATE plain SET v = 9 WHERE id = 1 RETURNING version'), '4', "$kind: goes on");
	is($node->safe_psql($db, q{UPDATE picky SET "A b" = 5, "Lock V" = 2 RETURNING "Lock V"}), '3', "$kind: presents read");
	is($node->safe_psql($db, q{UPDATE picky SET note = 'z' RETURNING "Lock V"}), '3', "$kind: counted columns");
	is($node->safe_psql($db, 'INSERT INTO seq VALUES (2, 0) RETURNING version'), '5', "$kind: the sequence too");
	is($node->safe_psql($db, 'UPDATE base SET v = 2 RETURNING version'), "3\n3", "$kind: and children");
	my ($ret, $out, $err) = $node->psql($db, 'UPDATE parted SET v = 9, version = 1');
	like($err, qr/row version conflict in table "parted_/, "$kind: and partitions");
}

done_testing();
