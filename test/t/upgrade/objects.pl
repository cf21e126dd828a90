# ALTER EXTENSION UPDATE leads from version 1.0 to the same objects as CREATE EXTENSION: functions, views, tables, columns,
# constraints, triggers, comments, rights, dependencies, and what a dump takes along. What others made of them stays:
# rules, row versions, rows of the tables, a view over status, and rights that were granted or taken away, which a dump has, too.
#
# Remedies: sql/upgrade/1.0--1.1/before.sql, parts.sed and after.sql. A line taken out of them fails here, and so does an object of
# sql/parts that cannot be replaced in its place.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;
use Upgrade;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
Upgrade->skip_all_unless_available($node);
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(used unused restored early);
$node->safe_psql($_, "CREATE EXTENSION cache_aside VERSION '$Upgrade::old'") foreach qw(used unused);

sub same
{
	my ($database) = @_;
	my ($fresh, $updated) = map { Upgrade->described($node, $_) } 'postgres', $database;
	my @differ = grep { ($fresh->{$_} // 'is not there') ne ($updated->{$_} // 'is not there') } sort keys %{ { %$fresh, %$updated } };
	is(scalar @differ, 0, "$database: everything is as CREATE EXTENSION makes it")
	  or diag(map { "$_\nfresh: " . ($fresh->{$_} // '-') . "\nupdated: " . ($updated->{$_} // '-') . "\n" } @differ[ 0 .. ($#differ < 9 ? $#differ : 9) ]);
	return scalar keys %$fresh;
}

# ---- nobody had used it
$node->safe_psql('unused', 'ALTER EXTENSION cache_aside UPDATE');
cmp_ok(same('unused'), '>', 500, 'things compared');

# ---- somebody had
$node->safe_psql('used', q{
	CREATE ROLE app; CREATE ROLE watcher;
	CREATE TABLE users (id int PRIMARY KEY, name text, email text);
	INSERT INTO users VALUES (1, 'Ada', 'a'), (2, 'Bob', 'b');
	CREATE TABLE events (id int, day date) PARTITION BY LIST (id);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
	SELECT cache_aside.attach('users', 'user:{id}'), cache_aside.attach('users', 'mail:{email}', columns => '{email,name}');
	SELECT cache_aside.attach_query('users', 'SELECT ''list:'' || name FROM changed', 'list:*');
	SELECT cache_aside.attach('events', 'event:{id}');
	SELECT cache_aside.enable_versioning('users');
	SELECT cache_aside.register_pattern('other:*'), cache_aside.add_replica('east', 'host=10.0.0.5');
	CREATE VIEW public.watched AS SELECT state, stats_reset FROM cache_aside.status;
	CREATE VIEW public.unruled AS SELECT relation, gap FROM cache_aside.gaps;
	GRANT EXECUTE ON FUNCTION cache_aside.invalidate(text[]), cache_aside.fill(text, text, interval, text), cache_aside.stick(text, interval) TO app;
	GRANT EXECUTE ON FUNCTION cache_aside.latency_histogram() TO watcher WITH GRANT OPTION;
	GRANT SELECT ON cache_aside.status, cache_aside.replica TO watcher;
	GRANT EXECUTE ON FUNCTION cache_aside.invalidate_pattern(text) TO PUBLIC;
	REVOKE SELECT ON cache_aside.rules FROM PUBLIC; REVOKE EXECUTE ON FUNCTION cache_aside.keys(regclass, jsonb) FROM PUBLIC;
	REVOKE SELECT ON cache_aside.status FROM pg_monitor;
	REVOKE USAGE ON SCHEMA cache_aside FROM PUBLIC; GRANT USAGE ON SCHEMA cache_aside TO app});
my $triggers = q{SELECT string_agg(tgrelid::regclass || ' ' || pg_get_triggerdef(oid) || tgenabled::text, E'\n' ORDER BY tgrelid, tgname) FROM pg_trigger
	WHERE tgname LIKE 'cache_aside%'};
my $had = $node->safe_psql('used', $triggers);
# A dump of now names no version: restored, it gets the objects of today. Of rights only those on what has other arguments now are lost.
my $early = $node->basedir . '/early';
$node->command_ok([ 'pg_dump', '-f', $early, '-d', $node->connstr('used') ], 'pg_dump of old objects');
my (undef, undef, $lost) = $node->psql('early', PostgreSQL::Test::Utils::slurp_file($early), on_error_stop => 0);
is(join(' ', $lost =~ /ERROR:  (.*)/g), 'function cache_aside.fill(text, text, interval, text) does not exist function cache_aside.stick(text, interval) does not exist',
	'restored, with two rights to be granted anew');
is($node->safe_psql('early', 'SELECT count(*), (SELECT string_agg(pattern, NULL) FROM cache_aside.registered_pattern), (SELECT remedy IS NULL FROM cache_aside.version()) FROM cache_aside.rules'),
	'4|other:*|t', '... and everything else');
$node->safe_psql('used', 'ALTER EXTENSION cache_aside UPDATE');
is($node->safe_psql('used', $triggers), $had, "users' triggers are as they were");
is($node->safe_psql('used', 'SELECT count(*) FROM cache_aside.rules'), 4, 'rules are there');
is($node->safe_psql('used', 'SELECT relation, version, enabled FROM cache_aside.versioned'), 'users|version|t', '... and row versions');
is($node->safe_psql('used', 'SELECT pattern FROM cache_aside.registered_pattern UNION ALL SELECT name FROM cache_aside.replica'), "other:*\neast", '... and rows');
is($node->safe_psql('used', 'SELECT state FROM watched'), 'delivering', 'a view over status goes on');

my $rights = q{SELECT has_function_privilege('app', 'cache_aside.invalidate(text[])', 'EXECUTE'),
	has_function_privilege('app', 'cache_aside.fill(text, text, interval, text, text)', 'EXECUTE'),
	has_function_privilege('app', 'cache_aside.stick(text, interval, boolean)', 'EXECUTE'),
	has_function_privilege('app', 'cache_aside.get(text)', 'EXECUTE'), has_function_privilege('app', 'cache_aside.pending()', 'EXECUTE'),
	has_function_privilege('watcher', 'cache_aside.latency_histogram()', 'EXECUTE WITH GRANT OPTION'),
	has_table_privilege('watcher', 'cache_aside.status', 'SELECT'), has_table_privilege('watcher', 'cache_aside.replica', 'SELECT')};
is($node->safe_psql('used', $rights), 't|t|t|f|f|t|t|t', 'rights that were granted stay, others do not come');
# What everybody was given, or was taken from everybody: the script's own REVOKE and GRANT do not undo it.
my $public = q{SELECT has_function_privilege('public', 'cache_aside.invalidate_pattern(text)', 'EXECUTE'), has_table_privilege('public', 'cache_aside.rules', 'SELECT'),
	has_function_privilege('public', 'cache_aside.keys(regclass, jsonb)', 'EXECUTE'), has_table_privilege('pg_monitor', 'cache_aside.status', 'SELECT'),
	has_schema_privilege('public', 'cache_aside', 'USAGE'), has_schema_privilege('app', 'cache_aside', 'USAGE')};
is($node->safe_psql('used', $public), 't|f|f|f|f|t', 'rights of PUBLIC and of pg_monitor stay as they were made');
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('used') ], 'pg_dump');
$node->safe_psql('restored', PostgreSQL::Test::Utils::slurp_file($dump));
is($node->safe_psql('restored', $rights), 't|t|t|f|f|t|t|t', '... also through a dump');
is($node->safe_psql('restored', $public), 't|f|f|f|f|t', '... those, too');
is($node->safe_psql('restored', 'SELECT count(*) FROM cache_aside.rules'), 4, '... with the rules');
is($node->safe_psql('restored', 'SELECT pattern FROM cache_aside.registered_pattern'), 'other:*', '... and rows');
$node->safe_psql('used', q{REVOKE ALL ON FUNCTION cache_aside.invalidate(text[]), cache_aside.fill(text, text, interval, text, text),
		cache_aside.stick(text, interval, boolean) FROM app;
	REVOKE ALL ON FUNCTION cache_aside.latency_histogram() FROM watcher; REVOKE ALL ON cache_aside.status, cache_aside.replica FROM watcher;
	REVOKE EXECUTE ON FUNCTION cache_aside.invalidate_pattern(text) FROM PUBLIC;
	GRANT SELECT ON cache_aside.rules TO PUBLIC; GRANT EXECUTE ON FUNCTION cache_aside.keys(regclass, jsonb) TO PUBLIC;
	GRANT SELECT ON cache_aside.status TO pg_monitor;
	GRANT USAGE ON SCHEMA cache_aside TO PUBLIC; REVOKE USAGE ON SCHEMA cache_aside FROM app;
	DROP VIEW watched, unruled});
same('used');
$node->safe_psql('used', 'DROP OWNED BY app, watcher');
$node->safe_psql($_, 'DROP OWNED BY app, watcher') foreach qw(restored early);
$node->safe_psql('used', 'DROP ROLE app, watcher');
pass('no role is held by what is left');

# ---- what would be lost is refused, and nothing is changed
$node->safe_psql('postgres', 'CREATE DATABASE depends');
$node->safe_psql('depends', "CREATE EXTENSION cache_aside VERSION '$Upgrade::old'; CREATE FUNCTION mine() RETURNS void BEGIN ATOMIC SELECT cache_aside.stick('x', '1 s'); END");
my (undef, undef, $error) = $node->psql('depends', 'ALTER EXTENSION cache_aside UPDATE');
like($error, qr/cannot drop function cache_aside\.stick.*function public\.mine\(\) depends/s, "a function that uses what goes: ALTER EXTENSION says so");
is($node->safe_psql('depends', q{SELECT extversion FROM pg_extension WHERE extname = 'cache_aside'}), $Upgrade::old, '... and changes nothing');
$node->stop;
done_testing();
