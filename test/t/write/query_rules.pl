# Query rules: which rows they see, and what attach_query() refuses because it can never be right.
#
# Remedies: push_newest_snapshot() in src/rules/query.c (keys missing: each of its three parts),
# ca_query_keys_problem() in src/rules/query_keys.c (each of its three), ca_query_check_tree() in
# src/rules/query_check.c, ca_template_refuse_shell() in src/keys/template.c.

use strict;
use warnings;

use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main', conf => "cache_aside.delivery = off\n");

sub sql { return $node->safe_psql('postgres', join(';', @_)) }

my $pending = q{SELECT coalesce(string_agg(kind || ' ' || key, ', ' ORDER BY key COLLATE "C"), 'nothing') FROM cache_aside.pending()};

sub pending_after
{
	my ($what) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "BEGIN; $what; $pending; ROLLBACK", on_error_stop => 1);
	return $ret == 0 ? $out : $err;
}

# ---- the snapshot ----

sql('CREATE TABLE posts (id int PRIMARY KEY, parent int, author int); CREATE TABLE follows (follower int, author int)',
	'INSERT INTO posts VALUES (1, NULL, 10); INSERT INTO follows VALUES (1, 10)',
	q{SELECT cache_aside.attach_query('posts', $$SELECT 'tree:' || p.id FROM changed c JOIN public.posts p ON p.id IN (c.id, c.parent)$$, 'tree:*')});
is(pending_after('INSERT INTO posts VALUES (2, 1, 99)'), 'key tree:1, key tree:2', 'it sees what the statement itself wrote');
is(pending_after('INSERT INTO posts VALUES (3, 4, 99), (4, NULL, 99)'), 'key tree:3, key tree:4', 'all of it');
is(pending_after('DELETE FROM posts'), 'nothing', 'and not what it deleted');
sql(q{SELECT cache_aside.detach('posts'),
	cache_aside.attach_query('posts', $$SELECT 'feed:' || f.follower FROM changed JOIN public.follows f USING (author)$$, 'feed:*')});

# Another session commits a follower while this statement waits, for the row, or, where that would be a
# serialization failure, for the table.
foreach my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	my $writer = $node->background_psql('postgres');
	my $other = $node->background_psql('postgres');
	$writer->query_safe("BEGIN ISOLATION LEVEL $level");
	$writer->query_safe('SELECT count(*) FROM follows') unless $level eq 'READ COMMITTED'; # the snapshot is taken
	my $lock = $level eq 'READ COMMITTED' ? 'UPDATE posts SET parent = 9' : 'LOCK TABLE posts IN SHARE MODE';
	$other->query_safe("BEGIN; $lock; INSERT INTO follows VALUES (2, 10)");
	$writer->query_until(qr/sent/, "\\echo sent\nUPDATE posts SET id = id;\n\\echo written\n");
	$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'});
	$other->query_safe('COMMIT');
	is($writer->query_safe($pending) =~ s/^written\n//r, 'key feed:1, key feed:2', "$level: it sees what was committed meanwhile");
	$writer->query_safe('ROLLBACK');
	$_->quit foreach $writer, $other;
	sql('DELETE FROM follows WHERE follower = 2');
}
sql(q{SELECT cache_aside.detach('posts')});

# ---- what its relations become ----

sql('CREATE TABLE v (id int, extra int); CREATE FUNCTION named(int) RETURNS text LANGUAGE sql RETURN \'v:\' || $1',
	'CREATE VIEW shape AS SELECT named(id) AS key FROM v; INSERT INTO v VALUES (1)',
	q{SELECT cache_aside.attach_query('v', $$SELECT s.* FROM public.shape s, changed$$, 'v:*')});
my %shape = (
	'no column' => 'SELECT FROM v',
	'two columns' => 'SELECT named(id) AS key, id FROM v',
	'a row' => 'SELECT v FROM v',
	'an array' => 'SELECT ARRAY[id] FROM v',
	'an integer' => 'SELECT id FROM v',
	'padded text' => 'SELECT named(id)::char(10) FROM v');
is(pending_after('INSERT INTO v VALUES (2)'), 'key v:1, key v:2', 'a query over a view');
foreach my $what (sort keys %shape)
{
	like(pending_after("SET client_min_messages = error; DROP VIEW shape; CREATE VIEW shape AS $shape{$what}; INSERT INTO v VALUES (2)"),
		qr/^pattern v:\*$/, "$what: the pattern, and no failed write");
	like($node->safe_psql('postgres', "BEGIN; DROP VIEW shape; CREATE VIEW shape AS $shape{$what}; SELECT gap FROM cache_aside.gaps; ROLLBACK"),
		qr/every write deletes the rule's whole pattern: It returns/, "$what: gaps says so");
}

foreach my $same ('varchar(90)', 'label')
{
	is(pending_after("CREATE DOMAIN label AS varchar; SET cache_aside.ddl_invalidates = off; DROP VIEW shape;"
			  . " CREATE VIEW shape AS SELECT named(id)::$same FROM v; INSERT INTO v VALUES (2)"),
		'key v:1, key v:2', "$same is the same text: its keys");
}

# ---- what is refused ----

sub refused
{
	my ($call) = @_;
	my (undef, undef, $err) = $node->psql('postgres', "BEGIN; SELECT $call; ROLLBACK");
	return $err eq '' ? 'accepted' : $err;
}
sub query_refused { return refused("cache_aside.attach_query('v', \$q\$$_[0]\$q\$, '$_[1]')") }

foreach my $query ('SELECT \'x\' || id FROM public.v', 'WITH changed AS (SELECT 1) SELECT \'x\' FROM changed', 'SELECT \'x\' FROM public.shape',
	'SELECT id FROM (WITH changed AS (SELECT id FROM public.v) SELECT * FROM changed) s')
{
	like(query_refused($query, 'x*'), qr/DETAIL:  It never reads "changed"/, "refused: $query");
}
foreach my $query ('SELECT \'x\' || id FROM public.v WHERE id IN (SELECT id FROM changed)', 'WITH c AS (TABLE changed) SELECT \'x\' || (SELECT max(id) FROM c)')
{
	is(query_refused($query, 'x*'), 'accepted', "accepted: $query");
}

my @outside = ('SELECT \'feeds:\' || id FROM changed', 'SELECT \'x\' FROM changed', 'SELECT format(\'user:%s\', id) FROM changed',
	'SELECT concat(\'x:\', id) FROM changed', 'SELECT concat_ws(\':\', \'x\', id) FROM changed', 'SELECT p || id FROM (SELECT \'x\' AS p, id FROM changed) s',
	'WITH c AS (SELECT \'x:\' || id AS k FROM changed) SELECT k FROM c', 'SELECT \'feed:\' || id FROM changed UNION ALL SELECT \'feeds:\' || id FROM changed',
	'SELECT CAST(\'x\' || id AS varchar) FROM changed');
like(query_refused($_, 'feed:*'), qr/DETAIL:  Its keys (begin with|are) "(feeds:|x:?|user:)", which the pattern "feed:\*" does not cover/,
	"outside the pattern: $_") foreach @outside;
my @inside = ('SELECT \'feed:\' || id FROM changed', 'SELECT \'fe\' || id FROM changed', 'SELECT format(\'%s:%s\', \'feed\', id) FROM changed',
	'SELECT \'feed:1\' FROM changed', 'SELECT concat_ws(\':\', \'feed\', id) FROM changed', 'SELECT id FROM changed', 'SELECT public.named(id) FROM changed',
	'SELECT \'feed:\' || id FROM changed EXCEPT SELECT \'x\'', 'SELECT NULL::text FROM changed',
	'WITH RECURSIVE c AS (SELECT \'feed:\' || 1 AS k FROM changed UNION SELECT k FROM c) SELECT k FROM c');
is(query_refused($_, 'feed:*'), 'accepted', "within it, or not to be known: $_") foreach @inside;
is(query_refused('SELECT \'feed:\' || id FROM changed', '[ef]eed:*'), 'accepted', 'a set in the pattern');

like(refused("cache_aside.attach('v', 'user:\${id}')"), qr/DETAIL:  It has "\$\{" at character 6.*HINT:  Write \{column\}/s, '${id} in a template');
like($node->psql('postgres', 'CREATE TRIGGER x AFTER INSERT ON v FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row(\'u:${id}\')') // '', qr/3/,
	'and in one written by hand');
is(refused("cache_aside.attach('v', 'user:\${{{id}}}')"), 'accepted', 'literal braces behind a $ are none');

done_testing();
