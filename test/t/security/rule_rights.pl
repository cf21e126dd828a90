# Whose rights do rules get? The TRIGGER privilege makes no rule; a query runs as the table's owner only
# when an owner approved it, and then never with the rights of who writes, asks or looks.
#
# Remedies: ca_approval_check_created in approval.c (creation), ca_approval_given in fire_query of
# capture.c and in preview_query of preview.c, ca_approval_is in query_problem of rule_view.c (an
# unapproved query), ca_approval_after_alter in approval.c (new owner), ca_owner_become in
# cache_aside_keys of preview.c, may_see in rule_view.c, is_any_error in query.c.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use PostgreSQL::Test::Utils;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);

# What runs evil.spy leaves a line in the log with its rights; a literal of evil.trap runs it at analysis.
$node->safe_psql('postgres', q{
	CREATE ROLE owner LOGIN; CREATE ROLE heir; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE mallory LOGIN;
	CREATE SCHEMA evil AUTHORIZATION mallory;
	CREATE SCHEMA shop AUTHORIZATION owner;
	GRANT ALL ON SCHEMA shop TO heir; GRANT USAGE ON SCHEMA shop TO mallory});

sub sql
{
	my ($role, $sql) = @_;
	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

# What it leaves on standard error.
sub said
{
	my ($role, $sql) = @_;
	return ($node->psql('postgres', $sql, extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]))[2];
}

# The roles whose rights evil.spy got while this ran.
sub spied
{
	my ($run) = @_;
	my $from = log_position($node);
	$run->();
	my %seen = map { $_ => 1 } log_since($node, $from) =~ /spy runs as (\w+)/g;
	return join ' ', sort keys %seen;
}

sql('mallory', q{
	CREATE FUNCTION evil.spy(text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE LOG 'spy runs as %', current_user; RETURN true; END$$;
	CREATE DOMAIN evil.trap AS text CHECK (evil.spy(value));
	CREATE TYPE evil.pair AS (a evil.trap);
	GRANT USAGE ON SCHEMA evil TO PUBLIC});
sql('owner', q{CREATE TABLE shop.t (id int PRIMARY KEY, name text);
	GRANT ALL ON shop.t TO mallory; -- TRIGGER among them
	SELECT cache_aside.attach('shop.t', 't:{id}')});
my $query = q{SELECT ((''(x)''::evil.pair).a)::text || id FROM changed};
my $statement = "AFTER INSERT ON shop.t REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION cache_aside";

# ---- creation ----

foreach my $form (
	'CREATE TRIGGER a AFTER INSERT ON shop.t FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row(\'u:{id}\')',
	'CREATE CONSTRAINT TRIGGER a AFTER INSERT ON shop.t FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row(\'u:{id}\')',
	'CREATE TRIGGER a AFTER TRUNCATE ON shop.t EXECUTE FUNCTION cache_aside.invalidate_table(\'u:{id}\')',
	"CREATE TRIGGER a $statement.invalidate_statement('u:{id}')",
	"CREATE TRIGGER a $statement.invalidate_statement('u:*', '$query')",
	"CREATE OR REPLACE TRIGGER a $statement.invalidate_statement('u:*', '$query', 'u')",
	"DO \$\$BEGIN CREATE TRIGGER a $statement.invalidate_statement('u:*', '$query', 'u'); END\$\$")
{
	like(said('mallory', $form), qr/42501: must be owner of table "t".*DETAIL:.*HINT:/s, (split / ON /, $form)[0] . ' is refused');
}
is(sql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname = 'a'}), 0, 'none was made');

# ---- a query that nobody approved: made while the library was not loaded, say ----

sql('owner', "CREATE TRIGGER a $statement.invalidate_statement('u:*', '$query', 'u')");
my ($out, $keys, $gaps);
is(spied(sub {
	$out = said('postgres', 'INSERT INTO shop.t VALUES (1)');
	sql('owner', 'INSERT INTO shop.t VALUES (2)');
	$keys = sql('postgres', q{BEGIN; INSERT INTO shop.t VALUES (3); SELECT key FROM cache_aside.pending(); ROLLBACK;
		SELECT cache_aside.keys('shop.t', '{"id": 3}')});
	$gaps = sql('postgres', 'SELECT gap, remedy FROM cache_aside.gaps');
}), '', 'its query neither runs nor is analysed: writes, keys(), gaps');
like($out, qr/WARNING:  42501: query of cache rule "u" of table "t" is not approved.*ALTER TABLE shop\.t ENABLE ALWAYS TRIGGER a;/s,
	'a write warns and says how to approve');
is($keys, "t:3\nu:*\nu:*\nt:3", 'it deletes the pattern instead, and keys() says so');
like($gaps, qr/trigger a is not approved by the owner: .*evil\.pair.*\|ALTER TABLE shop\.t ENABLE ALWAYS TRIGGER a;/,
	'gaps shows query and remedy');
# Remedy: the order of the CASE in gaps. A trigger for replicated changes deletes no pattern at other writes.
foreach my $state (['REPLICA', 'fires for replicated changes only'], ['DISABLE', 'is disabled'])
{
	my ($do, $gap) = @$state;
	my $alter = $do eq 'REPLICA' ? 'ENABLE REPLICA' : $do;
	like(sql('postgres', "ALTER TABLE shop.t $alter TRIGGER a; SELECT gap FROM cache_aside.gaps; ALTER TABLE shop.t ENABLE TRIGGER a"),
		qr/trigger a $gap; the remedy approves its query .*evil\.pair/, "$alter: gaps says that, and shows the query");
}
like(said('mallory', 'ALTER TABLE shop.t ENABLE ALWAYS TRIGGER a'), qr/must be owner/, 'TRIGGER does not approve');
sql('owner', 'ALTER TABLE shop.t ENABLE ALWAYS TRIGGER a');
is(spied(sub { sql('postgres', 'INSERT INTO shop.t VALUES (4); SELECT * FROM cache_aside.gaps') }),
	'owner', 'approved it runs, as the owner, whoever writes or looks');
sql('owner', "CREATE OR REPLACE TRIGGER a $statement.invalidate_statement('u:*', '$query', 'u')");
is(spied(sub { sql('postgres', 'INSERT INTO shop.t VALUES (5)') }), '', 'OR REPLACE takes the approval back');

# ---- a new owner ----

sub enabled { return sql('postgres', q{SELECT string_agg(tgenabled, '' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'shop.t'::regclass}) }
sql('owner', q{DROP TRIGGER a ON shop.t; SELECT cache_aside.attach_query('shop.t', 'SELECT ''v:'' || id FROM changed', 'v:*')});
is(enabled(), 'AAAAAA', 'attach_query approves');
like(said('postgres', 'BEGIN; ALTER TABLE shop.t OWNER TO heir; ROLLBACK'), qr/NOTICE:.*does not run until its new owner approves it/, 'OWNER TO says so');
is(enabled(), 'AAAAAA', '... and rolled back changes nothing');
sql('postgres', 'ALTER TABLE shop.t OWNER TO owner; ALTER TABLE shop.t RENAME COLUMN name TO title; ALTER TABLE shop.t RENAME COLUMN title TO name');
is(enabled(), 'AAAAAA', 'other changes leave it');
sql('postgres', 'ALTER TABLE shop.t OWNER TO heir');
is(enabled() =~ tr/O//, 4, 'OWNER TO takes the approval of the query back, of nothing else');
sql('postgres', q{ALTER TABLE shop.t OWNER TO owner;
	DO $$DECLARE name name; BEGIN FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop.t'::regclass LOOP
	EXECUTE format('ALTER TABLE shop.t ENABLE ALWAYS TRIGGER %I', name); END LOOP; END$$; REASSIGN OWNED BY owner TO heir});
is(enabled() =~ tr/O//, 4, 'so does REASSIGN OWNED');
is(sql('postgres', q{BEGIN; INSERT INTO shop.t VALUES (6); SELECT key FROM cache_aside.pending() ORDER BY 1; ROLLBACK}), "t:6\nv:*",
	'the template rule works on, the query gives its pattern');

# ---- somebody else's table: keys() and gaps ----

sql('mallory', q{CREATE TABLE evil.t (id int, name evil.trap); SELECT cache_aside.attach('evil.t', 'e:{id}');
	SELECT cache_aside.attach_query('evil.t', 'SELECT ((''(x)''::evil.pair).a)::text FROM changed', 'x')});
is(spied(sub { sql('postgres', q{SELECT cache_aside.keys('evil.t', '{"id": 1, "name": "x"}'); SELECT * FROM cache_aside.gaps}) }),
	'mallory', 'a superuser who asks for keys or gaps lends no rights');
sql('mallory', q{CREATE OR REPLACE FUNCTION evil.spy(text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'no gaps for you' USING ERRCODE = 'P0099'; END$$});
like(sql('postgres', 'SELECT rule, gap FROM cache_aside.gaps'), qr/x\|the query fails.*no gaps for you/, 'one hostile rule does not break gaps');
my $oid = q{(SELECT min(oid) FROM pg_trigger WHERE tgrelid = 'evil.t'::regclass AND tgname LIKE '%insert')};
is(sql('owner', "SELECT cache_aside.rule_problem($oid) IS NULL"), 't', 'what is wrong is not told to strangers');
is(sql($_, "SELECT cache_aside.rule_problem($oid) IS NULL"), 'f', "... but to $_") foreach qw(mallory watcher postgres);
is(sql('mallory', q{SELECT concat(cache_aside.rule_problem(o), cache_aside.rule_pattern(o), cache_aside.trigger_arguments(o)::text)
	FROM unnest(ARRAY[0, 1, 4294967295]::oid[]) o}), "\n\n", 'oids of nothing give nothing');

# ---- a dump keeps approvals ----

sql('postgres', q{SET ROLE heir; DO $$DECLARE name name; BEGIN FOR name IN SELECT tgname FROM pg_trigger
	WHERE tgrelid = 'shop.t'::regclass LOOP EXECUTE format('ALTER TABLE shop.t ENABLE ALWAYS TRIGGER %I', name); END LOOP; END$$});
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], 'dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $dump ], 'restore');
is($node->safe_psql('copy', q{SELECT string_agg(tgenabled, '') || max(relowner::regrole::text) FROM pg_trigger
	JOIN pg_class c ON c.oid = tgrelid WHERE tgrelid = 'shop.t'::regclass}), 'AAAAAAheir', 'a restored query rule is approved, its owner the same');
unlike(log_since($node), qr/terminated by signal|TRAP/, 'nothing crashed');
done_testing();
