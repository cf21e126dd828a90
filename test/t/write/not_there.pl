# DDL that names a table which is not there, or which another session drops meanwhile, fails as it does in a database
# without the extension, and in the same words.
#
# Remedies: ca_relatives_tree() (relatives.c) looking whether the table is there: "cache lookup failed".
use strict;
use warnings;

use CacheAside;
use PgWire;
use Test::More;

my $node = CacheAside->new_node('main');
my $tables = q{CREATE TABLE p (id int, n int) PARTITION BY RANGE (id);
	CREATE TABLE q PARTITION OF p FOR VALUES FROM (0) TO (10);
	CREATE TABLE loose (id int, n int); CREATE TABLE heir () INHERITS (loose); CREATE TABLE plain (id int PRIMARY KEY, n int, o int)};
my $rules = q{;SELECT cache_aside.attach(t, t || ':{id}', columns => '{n}') FROM unnest('{p,loose,heir,plain}'::regclass[]) t};
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(without rules);
$node->safe_psql('without', $tables);
$node->safe_psql('rules', "CREATE EXTENSION cache_aside; $tables $rules");

# What the statement says; `drop` is done by another session, which commits when the statement waits for it.
sub says
{
	my ($database, $sql, $drop) = @_;
	my ($one, $other) = map { PgWire->new($node, db => $database) } 1, 2;
	my $pid = $one->value('SELECT pg_backend_pid()');
	$other->query("BEGIN; $drop") if $drop;
	$one->send("BEGIN; $sql; ROLLBACK");
	if ($drop)
	{
		$node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid")
		  or die "does not wait: $sql";
		$other->query('COMMIT');
	}
	my $error = $one->receive(may_fail => 1)->{error};
	return $error ? "$error->{C} $error->{M}" : 'no error';
}

foreach my $sql (
	'ALTER TABLE p ATTACH PARTITION nope FOR VALUES FROM (20) TO (30)', 'ALTER TABLE nope ATTACH PARTITION loose DEFAULT',
  'ALTER TABLE p DETACH PARTITION nope', 'ALTER TABLE loose INHERIT nope', 'ALTER TABLE nope INHERIT loose', 'ALTER TABLE heir NO INHERIT nope',
  'ALTER TABLE nope DROP n', 'ALTER TABLE IF EXISTS nope DROP n', 'ALTER TABLE nope RENAME n TO m', 'ALTER TABLE nope RENAME TO m',
  'TRUNCATE nope', 'TRUNCATE plain, nope', 'DROP TABLE nope', 'DROP TABLE IF EXISTS nope', 'REFRESH MATERIALIZED VIEW nope',
  'CREATE TRIGGER t BEFORE INSERT ON nope FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
  'CREATE TABLE m PARTITION OF nope DEFAULT', 'CREATE TABLE m () INHERITS (nope)', 'ALTER TYPE nope ADD VALUE $$a$$', 'ALTER DOMAIN nope SET NOT NULL',
  'ALTER TABLE nosuch.p ATTACH PARTITION nosuch.q DEFAULT', 'COPY nope FROM STDIN', 'CLUSTER nope', 'DROP FUNCTION nope()')
{
	my $says = says('rules', $sql);
	is($says, says('without', $sql), $sql);
	unlike($says, qr/^XX/, "an error of the user's");
}

# Dropped between our look at the name and our lock.
sub race
{
	my ($drop, @statements) = @_;
	foreach my $sql (@statements)
	{
		my %says = map { $node->safe_psql($_, $tables . ($_ eq 'rules' ? $rules : '')); $_ => says($_, $sql, $drop) } qw(rules without);
		is($says{rules}, $says{without}, "$sql, beside $drop");
		unlike($says{rules}, qr/^XX/, "an error of the user's");
		$node->safe_psql($_, 'DROP TABLE IF EXISTS p, q, loose, heir, plain CASCADE') foreach qw(rules without);
	}
}
$node->safe_psql($_, 'DROP TABLE IF EXISTS p, q, loose, heir, plain CASCADE') foreach qw(rules without);
race('DROP TABLE plain', 'ALTER TABLE plain DROP n', 'ALTER TABLE plain ALTER n TYPE bigint', 'ALTER TABLE plain DROP o', 'TRUNCATE plain',
	'ALTER TABLE plain RENAME n TO m',
	'ALTER TABLE p ATTACH PARTITION plain FOR VALUES FROM (20) TO (30)', 'CREATE TRIGGER t BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()');
race('DROP TABLE p', 'ALTER TABLE p DROP n', 'ALTER TABLE p ATTACH PARTITION plain FOR VALUES FROM (20) TO (30)', 'TRUNCATE p', 'ALTER TABLE p DETACH PARTITION q');
race('DROP TABLE q', 'ALTER TABLE p DROP n', 'TRUNCATE p', 'ALTER TABLE p DETACH PARTITION q');
race('DROP TABLE heir', 'ALTER TABLE loose DROP n', 'TRUNCATE loose', 'ALTER TABLE heir NO INHERIT loose');
$node->stop;
done_testing();
