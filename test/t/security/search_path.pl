
# Whose names count? A writer's temporary types do not run as the table's owner; a schema that is not
# safely ours is refused; an installer's search_path with look-alikes changes nothing.
#
# Remedies: "search_path" in settings of output_settings.c (without pg_temp the domain's CHECK runs as the
# owner); check_rights, check_schema and check_contents of install.c (one test each); qualified names
# in the script (qualified_names.pl looks at each).

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);

# ---- a query rule, and the writer's pg_temp ----

$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN;
	CREATE SCHEMA alice AUTHORIZATION alice;
	SET ROLE alice;
	CREATE TABLE alice.posts (id int, author int);
	SELECT cache_aside.attach_query('alice.posts',
		$$SELECT 'posts:'::text || author FROM changed$$, 'posts:*');
	GRANT USAGE ON SCHEMA alice TO mallory;
	GRANT INSERT ON alice.posts TO mallory});
$redis->command('SET', 'posts:7', 'old');

my ($rc, $out, $err) = $node->psql('postgres', q{
	CREATE FUNCTION pg_temp.spy(what pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE WARNING 'spy in % runs as %', what, current_user; RETURN true; END$$;
	CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.spy('text'));
	CREATE DOMAIN pg_temp.int4 AS pg_catalog.int4 CHECK (pg_temp.spy('int4'));
	CREATE TEMP VIEW changed AS SELECT 1 AS id, 8 AS author WHERE pg_temp.spy('view');
	CREATE TEMP VIEW cache_aside_new AS SELECT 1 AS id, 8 AS author WHERE pg_temp.spy('view');
	INSERT INTO alice.posts VALUES (1, 7)}, extra_params => [ '-U', 'mallory' ], on_error_stop => 1);
is($rc, 0, 'the writer writes');
unlike($err, qr/runs as alice/, "the writer's types and views do not run as the table's owner");
unlike($err, qr/spy in/, '... nor does the rule use them at all');
wait_delivered($node);
ok(keys_gone($redis, 'posts:7'), "the rule's own key is deleted");

# ---- where CREATE EXTENSION finds a schema ----

sub refused
{
	my ($schema, $detail, $what) = @_;
	$node->safe_psql('postgres', 'CREATE DATABASE d');
	$node->safe_psql('d', $schema);
	my (undef, undef, $error) = $node->psql('d', 'CREATE EXTENSION cache_aside');
	like($error, qr/schema "cache_aside" is not safe for the extension\nDETAIL:  $detail\nHINT:  Rename or drop/, "refused: $what");
	is($node->safe_psql('d', q{SELECT count(*) FROM pg_extension WHERE extname = 'cache_aside'}), 0, '... and not made');
	$node->safe_psql('postgres', 'DROP DATABASE d');
	return;
}

refused('CREATE SCHEMA cache_aside AUTHORIZATION mallory', 'It belongs to role "mallory", which is not a superuser\.',
	"somebody's schema");
refused('CREATE SCHEMA cache_aside; GRANT CREATE ON SCHEMA cache_aside TO PUBLIC', 'Everybody may create objects in it\.',
	'everybody may create');
refused('CREATE SCHEMA cache_aside; GRANT CREATE ON SCHEMA cache_aside TO mallory',
	'Role "mallory" may create objects in it\.', 'somebody may create');
refused('CREATE SCHEMA cache_aside; CREATE FUNCTION cache_aside.f(oid, int) RETURNS boolean RETURN true;
	CREATE OPERATOR cache_aside.<> (FUNCTION = cache_aside.f, LEFTARG = oid, RIGHTARG = int)',
	'It holds (?:operator|function) cache_aside\..*\.', 'a look-alike operator is there');
refused('CREATE SCHEMA cache_aside; ALTER DEFAULT PRIVILEGES IN SCHEMA cache_aside GRANT EXECUTE ON FUNCTIONS TO mallory',
	'It holds default privileges .*\.', 'rights by default');

$node->safe_psql('postgres', 'CREATE DATABASE d');
$node->safe_psql('d', q{CREATE ROLE chief SUPERUSER; CREATE SCHEMA cache_aside AUTHORIZATION chief;
	GRANT CREATE ON SCHEMA cache_aside TO postgres; CREATE EXTENSION cache_aside});
pass('an empty schema of a superuser will do');
$node->safe_psql('d', 'DROP EXTENSION cache_aside; CREATE EXTENSION cache_aside; SELECT cache_aside.check_installation()');
pass('... and again after DROP EXTENSION');
my (undef, undef, $twice) = $node->psql('d', q{GRANT CREATE ON SCHEMA cache_aside TO mallory; SELECT cache_aside.check_installation()});
like($twice, qr/Role "mallory" may create/, 'check_installation() tells later too');
$node->safe_psql('postgres', 'DROP DATABASE d');

# ---- an installer's path ----

$node->safe_psql('postgres', 'CREATE DATABASE d');
$node->safe_psql('d', q{
	CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC; SET ROLE mallory;
	CREATE FUNCTION evil.eq(oid, oid) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE WARNING 'evil = as %', current_user; RETURN true; END$$;
	CREATE FUNCTION evil.ne(oid, int) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE WARNING 'evil <> as %', current_user; RETURN true; END$$;
	CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = oid, RIGHTARG = oid);
	CREATE OPERATOR evil.<> (FUNCTION = evil.ne, LEFTARG = oid, RIGHTARG = int);
	CREATE FUNCTION evil.cardinality(text[]) RETURNS int LANGUAGE sql RETURN 3;
	CREATE DOMAIN evil.regclass AS pg_catalog.regclass;
	CREATE TABLE evil.pg_trigger (LIKE pg_catalog.pg_trigger)});
(undef, undef, $err) = $node->psql('d', q{
	SET search_path = evil, pg_catalog, public;
	CREATE EXTENSION cache_aside;
	CREATE TABLE public.t (id int);
	SELECT cache_aside.attach('public.t', 't:{id}');
	SELECT * FROM cache_aside.rules, cache_aside.gaps, cache_aside.patterns, cache_aside.versioned});
unlike($err, qr/evil/, "the installer's search_path decides nothing");
is($node->safe_psql('d', q{SELECT count(*) FROM pg_depend d JOIN pg_namespace n ON n.nspname = 'evil'
	WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.objid IN
		(SELECT refobjid FROM pg_depend r WHERE r.classid = 'pg_rewrite'::regclass)}), 0, '... and is not in any view');

$node->stop;
done_testing();
