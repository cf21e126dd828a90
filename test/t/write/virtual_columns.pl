# Virtual generated columns (PostgreSQL 18): nothing of them is in a transition table. Templates and query
# rules that read one are refused; one that comes to be later gives the pattern, never a wrong key and
# never an error of the write, and gaps says why.
#
# Remedies: changed_columns() in query.c; ca_template_missing() in template.c.
use strict;
use warnings;

use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main', start => 0);
plan(skip_all => 'no virtual generated columns before PostgreSQL 18') if $node->pg_version < 18;
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION cache_aside;
	CREATE TABLE v (id int, n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL);
	CREATE TABLE s (id int, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)});

sub pending_of
{
	my (undef, $out, $err) = $node->psql('postgres',
		"BEGIN; $_[0]; SELECT string_agg(key, ' ' ORDER BY key) FROM cache_aside.pending(); ROLLBACK");
	return wantarray ? ($out, $err) : $out . ($err =~ /ERROR/ ? $err : '');
}

my %refused = ('a query that names one' => q{attach_query('v', 'SELECT ''t:'' || twice FROM changed', 't:*')},
	'qualified' => q{attach_query('v', 'SELECT ''t:'' || c.twice FROM changed c', 't:*')});
foreach my $how (sort keys %refused)
{
	my (undef, undef, $err) = $node->psql('postgres', "SELECT cache_aside.$refused{$how}");
	like($err, qr/malformed.*twice.*does not exist.*Virtual generated columns \(twice\) are not in "changed"/s, "$how is refused");
}
my (undef, undef, $err) = $node->psql('postgres', q{SELECT cache_aside.attach('v', 't:{twice}')});
like($err, qr/names a virtual generated column.*HINT/s, 'a template too');

$node->safe_psql('postgres', q{SELECT cache_aside.attach_query('v', 'SELECT ''q:'' || id FROM changed', 'q:*');
	SELECT cache_aside.attach_query('v', 'SELECT ''row:'' || (to_jsonb(c) ->> ''n'') FROM changed c', 'row:*')});
is(pending_of('INSERT INTO v VALUES (1, 1)'), 'q:1 row:1', 'INSERT with a whole row');
$node->safe_psql('postgres', 'INSERT INTO v VALUES (1, 1)');
is(pending_of('UPDATE v SET n = 2'), 'q:1 row:1 row:2', 'UPDATE');
is(pending_of('DELETE FROM v'), 'q:1 row:1', 'DELETE');
is($node->safe_psql('postgres', q{SELECT string_agg(k, ' ' ORDER BY k) FROM cache_aside.keys('v', '{"id": 7, "n": 3}') k; SELECT * FROM cache_aside.gaps}),
	'q:7 row:3', 'keys()');

# a stored one that becomes virtual under the rules
$node->safe_psql('postgres', q{SELECT cache_aside.attach('s', 't:{twice}');
	SELECT cache_aside.attach_query('s', 'SELECT ''q:'' || twice FROM changed', 'q:*'); INSERT INTO s VALUES (1, 1);
	ALTER TABLE s DROP COLUMN twice; ALTER TABLE s ADD COLUMN twice int GENERATED ALWAYS AS (n * 2) VIRTUAL});
foreach my $write ('UPDATE s SET n = 2', 'INSERT INTO s VALUES (2, 2)', 'DELETE FROM s')
{
	my ($keys, $warnings) = pending_of($write);
	is($keys, 'q:* t:*', "$write: the patterns");
	like($warnings, qr/names column "twice", which is a virtual generated column now/, '... and a warning');
}
like($node->safe_psql('postgres', 'SELECT gap FROM cache_aside.gaps ORDER BY gap'),
	qr/^column "twice" is a virtual generated column now: .*\nthe query fails, .*Virtual generated columns \(twice\)/, 'gaps');
$node->safe_psql('postgres', q{SELECT cache_aside.detach('s'), cache_aside.attach('s', 's:{id}')});
is(pending_of('ALTER TABLE s ALTER twice SET EXPRESSION AS (n * 3)'), 's:*', 'another expression shows other rows');
done_testing();
