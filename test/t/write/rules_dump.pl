# Rules survive pg_dump, in every form, and restoring fires them in no wrong order; without the
# library preloaded, restored triggers refuse no write and CREATE EXTENSION says what to do.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use PostgreSQL::Test::Utils;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
my $dir = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('postgres', q{
	CREATE SCHEMA app;
	CREATE TABLE app."Odd ""table" (id int PRIMARY KEY, "a'b" text, price numeric, gone int);
	SELECT cache_aside.attach('app."Odd ""table"', E'odd\\\\:''{{{id}}}:{a''b}', columns => '{price}');
	SELECT cache_aside.attach('app."Odd ""table"', 'by statement:{id}', level => 'statement');
	SELECT cache_aside.attach_query('app."Odd ""table"', E'SELECT ''q:'' || id -- it''s\nFROM changed', 'q:*', 'the query');
	SELECT cache_aside.attach('app."Odd ""table"', 'lost:{gone}');
	ALTER TABLE app."Odd ""table" DROP COLUMN gone;
	INSERT INTO app."Odd ""table" VALUES (1, 'x', 1.0);
	CREATE TABLE app.events (id int, day int) PARTITION BY RANGE (day);
	CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (0) TO (10);
	SELECT cache_aside.attach('app.events', 'event:{id}');
	INSERT INTO app.events VALUES (1, 1);
	CREATE TABLE app.hand (id int);
	CREATE TRIGGER by_hand AFTER INSERT ON app.hand FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('hand:{id}');
});

sub rules
{
	my ($db) = @_;
	return $node->safe_psql($db, q{
		SELECT relation, name, template, query, pattern, columns, level, enabled, triggers
		  FROM cache_aside.rules ORDER BY relation::text, name;
		SELECT relation, rule, gap, remedy FROM cache_aside.gaps ORDER BY 1::text, 2, 3, 4});
}

sub keys_written
{
	my ($db) = @_;
	return $node->safe_psql($db, q{
		SET client_min_messages = error;
		BEGIN;
		UPDATE app."Odd ""table" SET price = 1.00;
		UPDATE app.events SET id = 2;
		INSERT INTO app.hand VALUES (5);
		SELECT kind, key FROM cache_aside.pending() ORDER BY key COLLATE "C";
		ROLLBACK;});
}

my $rules = rules('postgres');
my $keys = keys_written('postgres');
is($keys, join("\n", 'key|by statement:1', 'key|event:1', 'key|event:2', 'key|hand:5',
	'pattern|lost:*', "key|odd\\:'{1}:x", 'key|q:1'), 'keys before the dump');

foreach my $format ('plain', 'custom')
{
	$node->command_ok([ 'pg_dump', "-F$format", '-f', "$dir/$format", 'postgres' ], "dump, $format");
	$node->safe_psql('postgres', "CREATE DATABASE $format");
	my @load = $format eq 'plain'
	  ? ('psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $format, '-f', "$dir/plain")
	  : ('pg_restore', '-e', '-d', $format, "$dir/custom");
	$node->command_ok(\@load, "restore, $format");
	is(rules($format), $rules, "the same rules and gaps, $format");
	is(keys_written($format), $keys, "the same keys, $format");
}

# --disable-triggers leaves ORIGIN behind, and gaps says so
$node->safe_psql('custom', q{TRUNCATE app."Odd ""table", app.events, app.hand});
$node->command_ok([ 'pg_restore', '--data-only', '--disable-triggers', '-d', 'custom', "$dir/custom" ],
	'restore of data with triggers off');
is($node->safe_psql('custom', q{SELECT DISTINCT enabled FROM cache_aside.rules WHERE relation::text LIKE '%Odd%'}),
	'origin', 'origin');
my $origin = q{cache_aside.gaps WHERE gap ~ 'replicated|not approved'}; # the latter: a query rule's
isnt($node->safe_psql('custom', "SELECT count(*) FROM $origin"), '0', 'gaps reports it');
$node->safe_psql('custom', join ';', split /\n/, $node->safe_psql('custom', "SELECT remedy FROM $origin"));
is($node->safe_psql('custom', q{SELECT DISTINCT enabled FROM cache_aside.rules}), 'always', 'closed');

# DROP EXTENSION takes the triggers with it, and only when asked
my ($code, $out, $err) = $node->psql('plain', 'DROP EXTENSION cache_aside');
isnt($code, 0, 'rules keep the extension');
$node->safe_psql('plain', 'DROP EXTENSION cache_aside CASCADE');
is($node->safe_psql('plain', q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cache_aside%'}), '0',
	'CASCADE removes them');
is($node->safe_psql('plain', 'SELECT count(*) FROM app.events'), '1', 'and nothing else');

# Without preload: writes work, their triggers too; CREATE EXTENSION is refused.
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
is(keys_written('postgres'), $keys, 'without preload: writes go on');
($code, $out, $err) = $node->psql('plain', "\\set VERBOSITY verbose\nCREATE EXTENSION cache_aside");
like($err, qr/55000: cache_aside is not loaded by shared_preload_libraries/, 'refused');
like($err, qr/DETAIL: .*HINT:  Add cache_aside to shared_preload_libraries/s, 'with DETAIL and HINT');

$node->stop;
done_testing();
