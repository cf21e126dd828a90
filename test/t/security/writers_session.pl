# A query rule runs as the table's owner in whoever's session writes. What that session has of its own
# changes nothing: its temporary objects, settings that make another query of the same text. And what
# the owner does in a query does not break the view gaps for others, nor does the pending set tell a
# writer values that it may not read.
#
# Remedies: find_temporary() in query_text.c; ca_query_text_require() in run_plan and in
# ca_query_preview (query.c); `reading` and AtEOXact_GUC(false) in owner.c; funcname in is_any_error (query.c); REVOKE of
# pending() in the script.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);

$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE tester LOGIN;
	GRANT EXECUTE ON FUNCTION cache_aside.pending() TO tester;
	CREATE SCHEMA alice AUTHORIZATION alice; CREATE SCHEMA mallory AUTHORIZATION mallory;
	GRANT USAGE ON SCHEMA alice, mallory TO PUBLIC;
	SET ROLE alice;
	CREATE TABLE alice.posts (id int, author int);
	GRANT INSERT, DELETE ON alice.posts TO mallory, tester;
	SET ROLE mallory;
	CREATE FUNCTION mallory.spy(what text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RAISE WARNING 'spy in % runs as %', what, current_user; RETURN true; END$$});

# What a role's statements say, in one session.
sub said
{
	my ($role, $sql) = @_;
	my (undef, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', $role ], on_error_stop => 0);
	return $out . $err;
}

# By hand: attach_query() would say that there is no such table.
sub make_rule
{
	my ($query) = @_;
	return said('alice', qq{
		DROP TRIGGER IF EXISTS q ON alice.posts;
		CREATE TRIGGER q AFTER INSERT ON alice.posts REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
			EXECUTE FUNCTION cache_aside.invalidate_statement('posts:*', \$\$$query\$\$, 'q');
		ALTER TABLE alice.posts ENABLE ALWAYS TRIGGER q});
}

# ---- pg_temp ----

my $traps = q{
	CREATE TEMP VIEW authors AS SELECT 7 AS id WHERE mallory.spy('view');
	CREATE DOMAIN pg_temp.label AS text CHECK (mallory.spy('domain'));
	CREATE FUNCTION pg_temp.f(int) RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM mallory.spy('function'); RETURN 1; END$$;
	CREATE OPERATOR pg_temp.@@@ (FUNCTION = pg_temp.f, RIGHTARG = int);
	INSERT INTO alice.posts VALUES (1, 7);};

foreach my $query (
	"SELECT 'posts:' || a.id FROM changed c JOIN authors a ON a.id = c.author",
	"SELECT 'posts:' || (SELECT max(id) FROM pg_temp.authors) FROM changed",
	"SELECT 'posts:' || author FROM changed WHERE EXISTS (SELECT FROM authors)",
	"WITH a AS (SELECT id FROM authors) SELECT 'posts:' || id FROM a",
	"SELECT 'posts:1'::label FROM changed",
	"SELECT k FROM changed, json_to_record('{\"k\": \"posts:1\"}') AS r (k label)",
	"SELECT NULL::label[] FROM changed",
	"SELECT 'posts:' || pg_temp.f(author) FROM changed",
	"SELECT 'posts:' || (OPERATOR(pg_temp.\@\@\@) author) FROM changed",
	"SELECT 'posts:' || author FROM changed, pg_temp.f(author)")
{
	make_rule($query);
	my $said = said('mallory', $traps);
	unlike($said, qr/spy in/, "not run: $query");
	like($said, qr/query of cache rule "q" fails\nDETAIL:  It names "(?:authors|label|f|@@@)", which is temporary\. Every write/,
		'... it says why, and the rule gives its pattern');
}
unlike(said('postgres', "$traps SELECT cache_aside.keys('alice.posts', '{\"id\": 1}'); SELECT gap FROM cache_aside.gaps"),
	qr/spy in .* as alice/, 'keys() and gaps run nothing of it either');
like(said('alice', q{CREATE TEMP TABLE mine (id int);
	SELECT cache_aside.attach_query('alice.posts', 'SELECT id FROM mine', 'm:*')}),
	qr/query of the cache rule is malformed\nDETAIL:  It names "mine", which is temporary/, 'attach_query() refuses it');

# What pg_catalog has, the changed rows, and names with a schema are what they always are.
make_rule(q{SELECT 'posts:'::text || c.author FROM changed c JOIN pg_class k ON k.oid = 'pg_class'::regclass
	JOIN alice.posts p USING (id)});
my $shadows = q{CREATE TEMP TABLE pg_class (oid oid); CREATE TEMP TABLE changed (author int); CREATE TEMP TABLE posts (id int);
	CREATE DOMAIN pg_temp.text AS pg_catalog.text; CREATE DOMAIN pg_temp.regclass AS pg_catalog.regclass;
	BEGIN; INSERT INTO alice.posts VALUES (2, 9); INSERT INTO alice.posts VALUES (2, 9); SELECT key FROM cache_aside.pending(); ROLLBACK};
is(said('tester', $shadows), 'posts:9', 'temporary objects of names that mean others change nothing');

# ---- settings that change what a text says ----

make_rule(q{SELECT 'posts:\\\\' || author FROM changed WHERE (author = NULL) IS NULL AND ('{NULL}'::text[])[1] IS NULL});
my $insert = 'BEGIN; INSERT INTO alice.posts VALUES (3, 5); SELECT key FROM cache_aside.pending(); ROLLBACK';
my $plain = said('tester', $insert);
is($plain, 'posts:\\\\5', 'a query with two backslashes');
is(said('tester', "SET $_; $insert"), $plain, "... and with $_")
  foreach 'standard_conforming_strings = off', 'transform_null_equals = on', 'array_nulls = off';

# ---- and nothing of the owner's stays in the session ----

$node->safe_psql('postgres', q{SET ROLE alice; CREATE FUNCTION alice.leave() RETURNS text LANGUAGE plpgsql AS
	$$BEGIN PERFORM set_config('search_path', 'mallory', false); SET TimeZone = 'Japan'; RETURN 'posts:x'; END$$});
make_rule('SELECT alice.leave() FROM changed');
foreach my $call ('INSERT INTO alice.posts VALUES (4, 4)', q{SELECT cache_aside.keys('alice.posts', '{}')},
	'SELECT count(*) FROM cache_aside.gaps')
{
	is(said('postgres', "\\o /dev/null\n$call;\n\\o\nSELECT current_setting('search_path') || current_setting('TimeZone')"),
		said('postgres', q{SELECT current_setting('search_path') || current_setting('TimeZone')}), "no setting of the owner's stays: $call");
}

# ---- one owner's query and everybody's view ----

$node->safe_psql('postgres', q{SET ROLE mallory; CREATE FUNCTION mallory.cancel(text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'no gaps for you' USING ERRCODE = 'query_canceled'; END$$;
	CREATE DOMAIN mallory.cancel AS text CHECK (mallory.cancel(value)); CREATE TYPE mallory.pair AS (a mallory.cancel)});
make_rule(q{SELECT ('(x)'::mallory.pair).a::text FROM changed});
like(said('postgres', 'SELECT gap FROM cache_aside.gaps'), qr/no gaps for you/, 'an error that looks like a cancel is a gap');
unlike(said('postgres', 'SELECT gap FROM cache_aside.gaps'), qr/ERROR/, '... not the end of the view');
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION mallory.cancel(text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN PERFORM pg_sleep(60); RETURN true; END$$});
like(said('postgres', q{SET statement_timeout = '200ms'; SELECT gap FROM cache_aside.gaps}), qr/ERROR:  canceling statement/,
	'a true cancel ends it');

# ---- what the pending set tells ----

$node->safe_psql('postgres', q{SET ROLE alice; DROP TRIGGER q ON alice.posts;
	SELECT cache_aside.attach('alice.posts', 'posts:{author}')});
like(said('mallory', 'BEGIN; DELETE FROM alice.posts; SELECT key FROM cache_aside.pending(); ROLLBACK'),
	qr/permission denied for function pending/, 'who may delete, not read, does not learn values of rows');
done_testing();
