# A rolling upgrade from version 1.0: a primary and a standby share one Redis, the standby gets the new library first and is
# promoted; a server alone is restarted with it; and a primary gets it first. Whatever mixture runs, keys are deleted, and so are those of commits
# that the old library logged and had not delivered. Then ALTER EXTENSION UPDATE. Guarded fills go on.
#
# It takes an installation of the first release: OLD_INSTALL, which test/upgrade/rolling.sh (make rolling-upgrade) makes from the
# history; skipped without.
#
# Remedies: the position in Redis, which a worker that reads another log format does not take for its own (src/delivery);
# src/rules/objects_1_0.c.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

plan skip_all => 'OLD_INSTALL names no installation of version 1.0; make rolling-upgrade makes one' unless -d ($ENV{OLD_INSTALL} // '');
RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my ($lib, $share) = map { `$ENV{PG_CONFIG} --$_` =~ s/\n//r } qw(pkglibdir sharedir);
my $new = slurp_file($ENV{CACHE_ASIDE_CONF});
my $old = "dynamic_library_path = '$ENV{OLD_INSTALL}$lib:\$libdir'\n"
  . ($new =~ /extension_control_path/ ? "extension_control_path = '$ENV{OLD_INSTALL}$share:\$system'\n" : "extension_destdir = '$ENV{OLD_INSTALL}'\n");

sub deletes
{
	my ($what, $node, $id) = @_;
	$redis->set("user:$id", 'old');
	$node->safe_psql('postgres', "UPDATE users SET v = v + 1 WHERE id = $id");
	return ok(keys_gone($redis, "user:$id"), "$what: a key is deleted");
}

# The worker stands still until the server ends.
sub commit_undelivered
{
	my ($node, $id, $logged) = @_;
	$redis->set("user:$id", 'old');
	kill 'STOP', worker_pid($node);
	$node->safe_psql('postgres', "UPDATE users SET v = v + 1 WHERE id = $id");
	$logged->() if $logged;
	$node->stop('immediate');
	return is($redis->get("user:$id"), 'old', 'a commit of the old library that is not delivered');
}

# Rules of each kind, made by the first release, and a row version
sub every_rule
{
	my ($what, $node) = @_;
	$redis->set($_, 'old') foreach qw(price:2 bulk:2 list:n2 list:n3 part:1);
	my $version = $node->safe_psql('postgres', 'UPDATE items SET price = price + 1 WHERE id = 2 RETURNING coalesce(version, 0)');
	$node->safe_psql('postgres', $_) foreach q{UPDATE items SET name = 'n2' WHERE id = 3}, q{UPDATE items SET name = 'n3' WHERE id = 3}, 'UPDATE parts SET v = v + 1';
	ok(keys_gone($redis, qw(price:2 bulk:2 list:n2 list:n3 part:1)), "$what: rules of every kind");
	is($node->safe_psql('postgres', 'UPDATE items SET price = price + 1 WHERE id = 2 RETURNING version'), $version + 1, "$what: row versions");
	$redis->set('price:3', 'kept');
	$node->safe_psql('postgres', "UPDATE items SET name = 'n3' WHERE id = 3");
	$node->safe_psql('postgres', 'SELECT cache_aside.wait_delivered()');
	return is($redis->get('price:3'), 'kept', "$what: an UPDATE of other columns deletes nothing");
}

sub fills
{
	my ($what, $node, $id) = @_;
	return ok(wait_until(sub { $node->safe_psql('postgres', "SELECT cache_aside.fill('user:$id', 'v')") eq 't' }), "$what: fills are admitted");
}

sub released { return $_[0]->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'cache_aside'}); }

my $primary = CacheAside->new_node('primary', redis => $redis, conf => $old, extension => 0);
$primary->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
is(released($primary), '1.0', 'the first release');
wait_delivering($primary);
$primary->safe_psql('postgres', $_) foreach
  'CREATE TABLE users (id int PRIMARY KEY, v int); INSERT INTO users SELECT i, 0 FROM generate_series(1, 100) i',
  q{SELECT cache_aside.attach('users', 'user:{id}')},
  q{CREATE TABLE items (id int PRIMARY KEY, name text, price numeric); INSERT INTO items SELECT i, 'n' || i, i FROM generate_series(1, 9) i},
  q{SELECT cache_aside.attach('items', 'price:{id}', columns => '{price}'), cache_aside.attach('items', 'bulk:{id}', level => 'statement'),
	cache_aside.attach_query('items', 'SELECT ''list:'' || name FROM changed', 'list:*'), cache_aside.enable_versioning('items')},
  q{CREATE TABLE parts (id int, v int) PARTITION BY LIST (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
	INSERT INTO parts VALUES (1, 1); SELECT cache_aside.attach('parts', 'part:{id}')};
my $alone = CacheAside->new_node('alone', redis => RedisServer->new->start, conf => $old, extension => 0);
my $standby = CacheAside->new_standby('standby', $primary, redis => $redis, conf => $old);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
deletes('old and old', $primary, 1);
every_rule('old and old', $primary);

# ---- the standby first
$standby->append_conf('postgresql.conf', $new);
$standby->restart;
ok(status_is($standby, 'state', 'standby'), 'the new standby follows') or diag(status($standby, 'last_error'));
deletes('old primary, new standby', $primary, 2);
commit_undelivered($primary, 3, sub { $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert')) });
$standby->promote;
ok(status_is($standby, 'state', 'delivering'), 'promoted, it delivers') or diag(status($standby, 'last_error'));
ok(keys_gone($redis, 'user:3'), '... also what the old one had not');
is(released($standby), '1.0', 'with old objects');
deletes('new library, old objects', $standby, 4);
fills('new library, old objects', $standby, 5);
every_rule('new library, old objects', $standby);
$standby->safe_psql('postgres', 'ALTER EXTENSION cache_aside UPDATE');
deletes('all is new', $standby, 6);
every_rule('all is new', $standby);
is($standby->safe_psql('postgres', 'SELECT trouble IS NULL FROM cache_aside.status'), 't', 'no trouble');
my @gaps = split /\n/, $standby->safe_psql('postgres', 'SELECT relation, rule, gap, remedy FROM cache_aside.gaps');
diag(join "\n", 'What is better in rules that are made today:', @gaps);
$standby->safe_psql('postgres', "SELECT DISTINCT remedy FROM cache_aside.gaps \\gexec") if @gaps;
is($standby->safe_psql('postgres', 'SELECT count(*) FROM cache_aside.gaps'), 0, 'remedies of gaps are the rest');
every_rule('repaired', $standby);
$standby->stop;

# ---- a server alone, restarted
$redis = RedisServer->new->start;
$alone->append_conf('postgresql.conf', "cache_aside.redis_url = '@{[ $redis->url ]}'\n");
$alone->restart;
$alone->safe_psql('postgres', $_) foreach
  'CREATE EXTENSION cache_aside',
  'CREATE TABLE users (id int PRIMARY KEY, v int); INSERT INTO users SELECT i, 0 FROM generate_series(1, 100) i',
  q{SELECT cache_aside.attach('users', 'user:{id}')};
wait_delivering($alone);
deletes('a server alone, with the old library', $alone, 1);
commit_undelivered($alone, 2);
$alone->append_conf('postgresql.conf', $new);
$alone->start;
ok(keys_gone($redis, 'user:2'), 'restarted with the new one, it deletes the key');
deletes('... and others', $alone, 3);
fills('... and', $alone, 4);
$alone->safe_psql('postgres', 'ALTER EXTENSION cache_aside UPDATE');
deletes('updated', $alone, 5);
$alone->stop;

# ---- the primary first, and the old standby promoted: it deletes everything, for the position is none that it knows
$redis = RedisServer->new->start;
my $first = CacheAside->new_node('first', redis => $redis, conf => $old, extension => 0);
$first->safe_psql('postgres', $_) foreach
  'CREATE EXTENSION cache_aside',
  'CREATE TABLE users (id int PRIMARY KEY, v int); INSERT INTO users SELECT i, 0 FROM generate_series(1, 100) i',
  q{SELECT cache_aside.attach('users', 'user:{id}')};
wait_delivering($first);
my $behind = CacheAside->new_standby('behind', $first, redis => $redis, conf => $old);
$first->append_conf('postgresql.conf', $new);
$first->restart;
deletes('new primary, old standby', $first, 1);
$redis->set('user:2', 'old');
kill 'STOP', worker_pid($first);
$first->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 2');
$first->wait_for_catchup($behind, 'replay', $first->lsn('insert'));
$first->stop('immediate');
$behind->promote;
ok(keys_gone($redis, 'user:2'), 'the old standby is promoted: nothing of the new one is missed');
deletes('... and', $behind, 3);
$behind->stop;
done_testing();
