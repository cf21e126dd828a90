# Rules and row versions of a partitioned table and of its partitions: TRUNCATE of any partition deletes,
# however the partition came to be one; and a table that has the rule or the versions already joins a
# parent that has them too, in any order. The migration that does this is the everyday one: an old table,
# renamed, becomes the first partition of its successor, whose name its triggers were made from.
#
# Remedies, in src/rules/partition_trigger.c: ca_partition_trigger_cover_truncate() (no pattern without), ca_partition_trigger_free_name()
# (duplicate trigger names), drop_replaced() (keys and bumps twice), refuse_two_versions() (a row counted twice);
# ca_version_attach_before() in src/rules/version_attach.c (refused under a parent where the version column is NOT NULL).

use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CacheAside->new_node('main', conf => "cache_aside.delivery = off\n");

sub sql { return $node->safe_psql('postgres', join(';', @_)) }

# What the statements leave pending, in their own transaction that is rolled back.
sub pending_after
{
	my ($what) = @_;
	return sql("BEGIN; $what; SELECT coalesce(string_agg(kind || ' ' || key, ', ' ORDER BY key), 'nothing')"
		  . " FROM cache_aside.pending(); ROLLBACK");
}

sub gaps { return sql(q{SELECT string_agg(relation || ': ' || gap, E'\n' ORDER BY 1) FROM cache_aside.gaps}) }

sub triggers
{
	my ($table) = @_;
	return sql("SELECT string_agg(concat(tgname, ' ', tgenabled, tgparentid <> 0), ', ' ORDER BY tgname)
		FROM pg_trigger WHERE tgrelid = '$table'::regclass");
}

# ---- TRUNCATE ----

sql(q{CREATE TABLE t (id int, at int, x int) PARTITION BY RANGE (at)},
	q{CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)},
	q{SELECT cache_aside.attach('t', 't:{id}'), cache_aside.attach('t', 's:{id}', level => 'statement'),
		cache_aside.attach_query('t', 'SELECT ''q:'' || id FROM changed', 'q:*')},
	q{CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)},
	q{CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (20) TO (30) PARTITION BY LIST (x)},
	q{CREATE TABLE t31 PARTITION OF t3 DEFAULT},
	q{CREATE TABLE t4 (x int, id int, at int)},
	q{ALTER TABLE t ATTACH PARTITION t4 FOR VALUES FROM (30) TO (40)},
	q{CREATE TABLE t5 (LIKE t) PARTITION BY LIST (x); CREATE TABLE t51 PARTITION OF t5 DEFAULT},
	q{ALTER TABLE t ATTACH PARTITION t5 FOR VALUES FROM (50) TO (60)},
	q{CREATE SCHEMA more CREATE TABLE t6 PARTITION OF public.t FOR VALUES FROM (60) TO (70)});
is(pending_after("TRUNCATE $_"), 'pattern q:*, pattern s:*, pattern t:*', "TRUNCATE of partition $_")
  foreach qw(t1 t2 t3 t31 t4 t5 t51 more.t6);
unlike(gaps(), qr/TRUNCATE/, 'and gaps knows of none');
is(sql(q{SELECT count(*) FROM cache_aside.rules}), 3, 'three rules, as before');

sql('ALTER TABLE t DETACH PARTITION t4', 'ALTER TABLE t DETACH PARTITION t5');
is(triggers($_), '', "$_ has lost them with DETACH") foreach qw(t4 t5 t51);
my $truncate = sql(q{SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgname ~ 'truncate' ORDER BY 1 LIMIT 1});
sql("ALTER TABLE t DISABLE TRIGGER $truncate");
like(triggers('t31'), qr/$truncate Dt/, 'disabled on the parent, disabled below');
sql("ALTER TABLE t ENABLE ALWAYS TRIGGER $truncate");
like(triggers('t31'), qr/$truncate At/, 'and enabled');

# the partition of another owner
sql('CREATE ROLE parent_owner; CREATE ROLE part_owner; GRANT CREATE, USAGE ON SCHEMA public TO parent_owner',
	'SET ROLE parent_owner; CREATE TABLE o (id int) PARTITION BY LIST (id); CREATE TABLE o1 PARTITION OF o DEFAULT',
	'RESET ROLE; ALTER TABLE o1 OWNER TO part_owner; SET ROLE parent_owner',
	q{SELECT cache_aside.attach('o', 'o:{id}', level => 'statement')});
is(pending_after('SET ROLE part_owner; TRUNCATE o1; RESET ROLE'), 'pattern o:*', 'also where the partition is another owner\'s');

# a dump brings them back, once
sql(q{DELETE FROM cache_aside.registered_pattern});
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'restored');
my $all = q{SELECT string_agg(concat_ws(' ', tgrelid::regclass, tgname, tgenabled, tgparentid <> 0), E'\n'
	ORDER BY tgrelid::regclass::text COLLATE "C", tgname) FROM pg_trigger WHERE NOT tgisinternal};
is($node->safe_psql('copy', $all), sql($all), 'with the same triggers');

sql(q{SELECT cache_aside.detach('t'); DROP TABLE t, t4, t5, o});

# ---- the same rule on both ----

# Each of: the old table, with the rule and versions, in the place of a successor that gets them too.
my %order = (
	'attached to a parent that has them' => 'RULES; ATTACH',
	'rules for a parent of a partition that has them' => 'ATTACH; RULES',
	'taken off before' => q{SELECT cache_aside.detach('ev_old'); SELECT cache_aside.disable_versioning('ev_old'); ATTACH; RULES});
my $rules = q{SELECT cache_aside.attach('ev', 'ev:{id}'); SELECT cache_aside.attach('ev', 'n:{n}', columns => '{n}');
	SELECT cache_aside.enable_versioning('ev')};
foreach my $how (sort keys %order)
{
	my $steps = $order{$how};
	my $attach = 'ALTER TABLE ev ATTACH PARTITION ev_old FOR VALUES FROM (0) TO (100)';
	$steps =~ s/ATTACH/$attach/;
	$steps =~ s/RULES/$rules/;
	foreach my $case (map { [ '', $_ ], [ ' PARTITION BY LIST (id)', $_ ] } '', ' NOT NULL DEFAULT 1')
	{
		my ($below, $column) = @$case;
		next if $column && $how eq 'taken off before'; # then nothing tells that it was a version column
		my $part = $below ? 'CREATE TABLE ev_part PARTITION OF ev DEFAULT;' : '';
		$case = $how . ($below ? ', partitioned itself' : '') . ($column ? ', NOT NULL' : '');
		sql("CREATE TABLE ev (id int NOT NULL, n int, version int$column)$below; $part $rules", 'INSERT INTO ev VALUES (1, 1)',
			'UPDATE ev SET n = 2');
		my ($ret, undef, $err) = $node->psql('postgres',
			"BEGIN; ALTER TABLE ev RENAME TO ev_old;
			 CREATE TABLE ev (id int NOT NULL, n int, version int$column) PARTITION BY RANGE (id); $steps; COMMIT");
		is("$ret$err", '0', $case);
		my $leaf = $below ? 'ev_part' : 'ev_old';
		is(sql(q{UPDATE ev SET n = 3 WHERE id = 1; SELECT version FROM ev}), 3, "$case: one step, not two");
		is(pending_after("UPDATE $_ SET n = 4"), 'key ev:1, key n:3, key n:4', "$case: keys of a write to $_")
		  foreach 'ev', 'ev_old', $leaf;
		is(pending_after("TRUNCATE $_"), 'pattern ev:*, pattern n:*', "$case: TRUNCATE of $_") foreach 'ev_old', $leaf;
		is(sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = '$leaf'::regclass AND tgparentid = 0"), 0, "$case: only clones");
		is(gaps(), '', "$case: no gaps");
		sql('DROP TABLE ev');
	}
}

sql('CREATE TABLE ev (id int)', q{SELECT cache_aside.enable_versioning('ev')}, 'CREATE TABLE above (id int, version int NOT NULL)', 'ALTER TABLE ev INHERIT above');
is(sql(q{INSERT INTO ev VALUES (1); SELECT version FROM above}), 1, 'NOT NULL above a table that inherits');
sql('DROP TABLE ev, above');

# ---- not quite the same ----

sql(q{CREATE TABLE p (id int, n int) PARTITION BY LIST (id)}, q{SELECT cache_aside.attach('p', 'p:{id}', columns => '{id}')},
	q{ALTER TABLE p RENAME TO parent; CREATE TABLE p (id int, n int); SELECT cache_aside.attach('p', 'p:{id}')},
	q{ALTER TABLE parent ATTACH PARTITION p DEFAULT; INSERT INTO parent VALUES (1, 1)});
is(pending_after('UPDATE parent SET n = 2'), 'key p:1', 'a rule of the partition that does more than the parent\'s stays');
sql(q{ALTER TABLE parent ADD COLUMN version int; SELECT cache_aside.enable_versioning('p', presents => 'read')});
my (undef, undef, $err) = $node->psql('postgres', q{SELECT cache_aside.enable_versioning('parent')});
like($err, qr/keep row versions in different ways.*HINT:  Use cache_aside.disable_versioning/s, 'two ways of versions are refused');

# by statement: those are no clones, each table has its own
sql(q{CREATE TABLE s (id int); SELECT cache_aside.attach('s', 's:{id}', level => 'statement')},
	q{ALTER TABLE s RENAME TO s_old; CREATE TABLE s (id int) PARTITION BY LIST (id)},
	q{SELECT cache_aside.attach('s', 's:{id}', level => 'statement'); CREATE TABLE above (id int) PARTITION BY LIST (id)},
	q{ALTER TABLE s ATTACH PARTITION s_old DEFAULT});
is(pending_after("INSERT INTO $_ VALUES (1)"), 'key s:1', "by statement, written through $_") foreach 's', 's_old';
unlike(gaps(), qr/s_old/, 'and no gap below');
sql(q{ALTER TABLE above ATTACH PARTITION s DEFAULT});
like(gaps(), qr/^s: writes through the table above fire no statement trigger/m, 'a parent without the rule is one');

# Inheritance: a child has none of its parent's row triggers. Remedy: the column "apart" of the view gaps.
sql('CREATE TABLE h (id int); CREATE TABLE h1 () INHERITS (h)', q{SELECT cache_aside.attach('h1', 'h:{id}', level => 'statement')},
	'INSERT INTO h1 VALUES (1)');
is(pending_after('DELETE FROM h'), 'nothing', 'a rule by statement of a child: a write through the parent fires nothing');
like(gaps(), qr/^h1: writes through the table above fire no statement trigger/m, '... as gaps says');
sql(q{SELECT cache_aside.attach('h', 'h:{id}')});
like(gaps(), qr/^h1: writes through the table above/m, '... also when the parent has the rule by row');
sql(q{SELECT cache_aside.detach('h')}, q{SELECT cache_aside.attach('h', 'h:{id}', level => 'statement')});
is(pending_after('DELETE FROM h'), 'key h:1', 'and by statement it sees the rows of its children');
unlike(gaps(), qr/^h1: writes through/m, '... no gap');

done_testing();
