# Columns that a rule compares change: renamed, as migrations do that add a column, copy and rename, or
# dropped, or given another type. No key is missed, no CASCADE is needed, no trigger goes, and gaps says
# what became of the rule, with the statement that makes it anew.
#
# Remedies: ca_watch_after_alter (rename) and ca_watch_before_alter (drop, type) in watch.c; the branch
# "no longer compares columns" of the view gaps; watch_problem in rule_view.c (columns renamed behind
# the extension's back).
use strict;
use warnings;

use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main');
$node->safe_psql('postgres', q{
	CREATE FUNCTION make() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		DROP TABLE IF EXISTS u, pt;
		CREATE TABLE u (id int PRIMARY KEY, code text, price numeric, other int);
		PERFORM cache_aside.attach('u', 'u:{code}', columns => '{price}');
		INSERT INTO u VALUES (1, 'a', 1, 1);
		CREATE TABLE pt (id int, price numeric, other int) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF pt FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
		CREATE TABLE p11 PARTITION OF p1 FOR VALUES FROM (0) TO (10);
		PERFORM cache_aside.attach('pt', 'p:{id}', columns => '{price}');
		INSERT INTO pt VALUES (1, 1, 1);
	END$$});

# What the last statement deletes, and the gaps, after all of them ran on fresh tables.
sub after
{
	my ($watch, @statements) = @_;
	my $last = pop @statements;
	$node->safe_psql('postgres', 'SET client_min_messages = error; SELECT make()');
	my (undef, undef, $warning) = $node->psql('postgres', join(';', @statements));
	die $warning if $warning =~ /ERROR/;
	my (undef, $keys, $err) = $node->psql('postgres',
		"BEGIN; $last; SELECT string_agg(key, ' ' ORDER BY key) FROM cache_aside.pending(); ROLLBACK");
	return ($keys, $warning, scalar $node->safe_psql('postgres', 'SELECT relation, gap FROM cache_aside.gaps'), $err);
}

my @migrate = ('ALTER TABLE u ADD new_code text', 'UPDATE u SET new_code = code', 'ALTER TABLE u RENAME code TO old_code',
	'ALTER TABLE u RENAME new_code TO code');
my ($keys, $warning, $gaps) = after('u', @migrate, q{UPDATE u SET code = 'b'});
is($keys, 'u:a u:b', 'a column of the template, renamed away and in: no key is missed');
like($warning, qr/WARNING:  cache rule "u:\{code\}" of table "u" no longer compares columns.*"code".*HINT/s, 'and it is said');
like($gaps, qr/^u\|trigger "?cache_aside_\w+_update"? no longer compares columns, .*\(code, price\): every UPDATE counts$/, 'gaps says it too');
$node->safe_psql('postgres', $node->safe_psql('postgres', 'SELECT remedy FROM cache_aside.gaps'));
is($node->safe_psql('postgres', 'SELECT columns FROM cache_aside.rules WHERE relation = $$u$$::regclass; SELECT * FROM cache_aside.gaps'),
	'{code,price}', 'the remedy makes the rule anew');

($keys, undef, $gaps) = after('u', 'ALTER TABLE u ADD p2 numeric', 'ALTER TABLE u RENAME price TO p1', 'ALTER TABLE u RENAME p2 TO price',
	'UPDATE u SET price = 5');
is($keys, 'u:a', 'another column that is compared, likewise');

foreach my $ddl ('DROP COLUMN price', 'DROP COLUMN price CASCADE', 'DROP COLUMN other, DROP COLUMN price', 'ALTER price TYPE text',
	'ALTER code TYPE varchar(50), ALTER price TYPE float8')
{
	($keys, $warning, $gaps) = after('u', "ALTER TABLE u $ddl", 'UPDATE u SET id = 7');
	is($keys, 'u:a', "$ddl needs nothing else, and every UPDATE counts");
	like($gaps, qr/^u\|[^\n]*no longer compares/, '... which gaps says');
	my $remedy = $node->safe_psql('postgres', 'SELECT remedy FROM cache_aside.gaps');
	$node->safe_psql('postgres', $remedy);
	is($node->safe_psql('postgres', 'SELECT * FROM cache_aside.gaps'), '', '... and mends');
}

# A name that is gone bears another now: the remedy must not compare less than was meant. Remedy: the number of
# names that string_to_array() counts in gaps; names_of() in watch.c leaves out what was dropped.
after('u', 'ALTER TABLE u RENAME price TO cost', 'SELECT 1');
like($node->safe_psql('postgres', 'SELECT remedy FROM cache_aside.gaps'), qr/attach\('u', 'u:\{code\}'\);$/, 'renamed for good: no list of columns that lacks it');
after('u', 'ALTER TABLE u DROP COLUMN price', 'SELECT 1');
like($node->safe_psql('postgres', 'SELECT remedy FROM cache_aside.gaps'), qr/columns => '\{code\}'\);$/, 'dropped: the others');
($keys, undef, $gaps) = after('u', 'ALTER TABLE u DROP COLUMN code', 'UPDATE u SET price = 5');
is($keys, 'u:*', 'a column of the template that is dropped: its pattern');
like($gaps, qr/column "code" is gone/, '... which gaps says');
($keys, undef, $gaps) = after('u', 'SELECT 1', 'UPDATE u SET other = 5');
is("$keys$gaps", '', 'nothing changed: still compared');
($keys, undef, $gaps) = after('u', 'ALTER TABLE u RENAME other TO o', 'ALTER TABLE u ALTER price SET STATISTICS 5', 'ALTER TABLE u ALTER price SET NOT NULL',
	'ALTER TABLE u DROP COLUMN o', 'UPDATE u SET id = 5');
is("$keys$gaps", '', 'what others are renamed to, and what leaves a column as it is: still compared');

# by hand: UPDATE OF and any condition
($keys) = after('u', 'CREATE TRIGGER mine AFTER UPDATE OF other ON u FOR EACH ROW WHEN (NEW.price > 0) EXECUTE FUNCTION cache_aside.invalidate_row($$m:{id}$$)',
	'ALTER TABLE u RENAME other TO o', 'UPDATE u SET price = -1');
is($keys, 'm:1 u:a', 'a trigger by hand watches everything, too');

# partitions: the copies as well, and those that come later
($keys, undef, $gaps) = after('pt', 'ALTER TABLE pt DROP COLUMN price', 'CREATE TABLE p2 PARTITION OF pt FOR VALUES FROM (10) TO (20)',
	'INSERT INTO pt VALUES (11, 1)', 'UPDATE pt SET other = 5');
is($keys, 'p:1 p:11', 'partitions');
is(scalar(() = $gaps =~ /no longer compares/g), 1, 'one gap for all of them');
($keys) = after('pt', 'ALTER TABLE pt ADD p2 numeric', 'ALTER TABLE pt RENAME price TO p1', 'ALTER TABLE pt RENAME p2 TO price', 'UPDATE p11 SET price = 5');
is($keys, 'p:1', 'and a rename');

# neither may who does not own the table, nor does an error leave a trace
$node->safe_psql('postgres', 'SET client_min_messages = error; SELECT make(); CREATE ROLE stranger; GRANT ALL ON u TO stranger');
my (undef, undef, $err) = $node->psql('postgres', 'SET ROLE stranger; ALTER TABLE u DROP COLUMN price');
like($err, qr/must be owner of table u/, 'a stranger gets the usual error');
$node->psql('postgres', 'ALTER TABLE u DROP COLUMN price, DROP COLUMN nosuch');
is($node->safe_psql('postgres', 'SELECT columns FROM cache_aside.rules WHERE relation = $$u$$::regclass'), '{code,price}', 'a statement that fails changes no rule');

# dumped and restored
$node->safe_psql('postgres', 'ALTER TABLE u RENAME code TO c1; ALTER TABLE u RENAME c1 TO code; CREATE DATABASE copy');
$node->command_ok(['bash', '-c', 'pg_dump -t u "$0" | psql -q "$1"', $node->connstr('postgres'), $node->connstr('copy')], 'dumped')
  if $node->safe_psql('copy', 'CREATE EXTENSION cache_aside; SELECT 1');
like($node->safe_psql('copy', 'SELECT gap FROM cache_aside.gaps'), qr/no longer compares columns/, 'a copy knows it');

# behind the extension's back
$node->safe_psql('postgres', q{SELECT make(); SET allow_system_table_mods = on;
	UPDATE pg_attribute SET attname = 'tmp' WHERE attrelid = 'u'::regclass AND attname = 'code';
	UPDATE pg_attribute SET attname = 'code' WHERE attrelid = 'u'::regclass AND attname = 'other'});
like($node->safe_psql('postgres', 'SELECT gap FROM cache_aside.gaps'), qr/compares other columns than the template names/, 'gaps finds what it did not see happen');
done_testing();
