
# Databases belong to others. Their owners can neither stop a resync of the whole server, nor get a
# superuser's rights from the visitors that read the rules there, nor pass for an extension.
#
# Remedies: settings in ca_visitor_connect (visitor.c: from PostgreSQL 17 on the resync never ends
# without, for transaction_timeout), the call of ca_visitor_become_owner in visit (visit_rules.c),
# ClanguageId in ca_rule_name_kind (attach.c), relkind in load (replicas.c: a crash without).

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE ROLE mallory LOGIN CREATEROLE;
	CREATE TABLE t (id int); SELECT cache_aside.attach('t', 't:{id}');
	CREATE DATABASE hers OWNER mallory; CREATE DATABASE bare OWNER mallory});
$node->safe_psql('hers', 'CREATE EXTENSION cache_aside');
my @as_mallory = (extra_params => [ '-U', 'mallory' ]);

sub resync_ends
{
	my ($what) = @_;
	$redis->set('t:1', 'old');
	$node->safe_psql('postgres', 'SELECT cache_aside.resync()');
	wait_delivered($node);
	ok(keys_gone($redis, 't:1'), $what);
	return;
}

# ---- settings of a database ----

my $version = $node->safe_psql('postgres', 'SHOW server_version_num');
foreach my $setting ('role = mallory', 'search_path = public', 'default_transaction_isolation = serializable',
	'statement_timeout = 1', 'lock_timeout = 1', $version >= 170000 ? 'transaction_timeout = 1' : ())
{
	$node->safe_psql('hers', "ALTER DATABASE hers SET $setting", @as_mallory);
}
resync_ends('a resync ends, whatever settings the owner of a database gives to sessions there');
$node->safe_psql('postgres', 'ALTER DATABASE hers RESET ALL');

# ---- a view that was handed over ----

$node->safe_psql('hers', q{ALTER VIEW cache_aside.patterns OWNER TO mallory; GRANT CREATE ON SCHEMA cache_aside TO mallory});
$node->safe_psql('hers', q{
	CREATE SCHEMA evil;
	CREATE FUNCTION evil.climb() RETURNS text LANGUAGE plpgsql AS
	$$BEGIN RAISE LOG 'climb runs as %', current_user; RETURN 'hers:*'; END$$;
	CREATE OR REPLACE VIEW cache_aside.patterns AS SELECT evil.climb() AS pattern, true AS unlogged}, @as_mallory);
my $since = log_position($node);
$redis->set('hers:1', 'old');
resync_ends('a resync ends with a view that is not ours');
ok(keys_gone($redis, 'hers:1'), '... which was read');
like(log_since($node, $since), qr/climb runs as mallory/, "what a visitor runs has the view's owner's rights");
unlike(log_since($node, $since), qr/climb runs as postgres/, "... and not a superuser's");

# ---- a registry that is something else ----

$node->safe_psql('hers', q{ALTER TABLE cache_aside.replica RENAME TO was;
	CREATE VIEW cache_aside.replica AS SELECT 1 AS one});
my (undef, undef, $error) = $node->psql('hers', 'SELECT * FROM cache_aside.route()');
like($error, qr/there is no table cache_aside\.replica/, 'a registry that is a view is an error');
$node->safe_psql('hers', q{DROP VIEW cache_aside.replica; ALTER TABLE cache_aside.was RENAME TO replica;
	INSERT INTO cache_aside.replica VALUES ('a', 'host=a'); ALTER TABLE cache_aside.replica RENAME COLUMN weight TO heavy});
(undef, undef, $error) = $node->psql('hers', 'SELECT * FROM cache_aside.route()');
like($error, qr/Column "weight" is missing/, 'so is one without its columns');

# ---- a database without the extension ----

$redis->set('victim', 'mine');
$node->safe_psql('bare', q{
	CREATE SCHEMA cache_aside;
	CREATE FUNCTION cache_aside.invalidate_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TABLE t (id int);
	CREATE TRIGGER a AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('victim');
	DROP TABLE t}, @as_mallory);
wait_delivered($node);
ok(is_cached($redis, 'victim'), 'a function that is only named like ours makes no rule');

unlike(log_since($node), qr/terminated by signal|TRAP/, 'nothing crashed');
$node->stop;
done_testing();
