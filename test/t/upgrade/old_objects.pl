# A server with the new library, in which a database still has the SQL objects of version 1.0, as between the restart and ALTER
# EXTENSION UPDATE: rules fire, of every kind; a resync knows their patterns; the views, fills, sticks and versions are as
# they were; DDL fails on nothing that is not there; what needs new objects says so. Writers go on during the update, and none is missed.
#
# Remedies: src/rules/objects_1_0.c (without: "could not find function", and a resync that waits for the database); the
# number of arguments in cache_aside_fill and cache_aside_stick (without: what happens to be there, which may look right); the order of
# columns in cache_aside_worker_status (without: status is an error).
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Upgrade;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, extension => 0);
Upgrade->skip_all_unless_available($node);
my ($new) = slurp_file($INC{'CacheAside.pm'} =~ s{[^/]*$}{../../cache_aside.control}r) =~ /^default_version = '(.*)'/m;
$node->safe_psql('postgres', "CREATE EXTENSION cache_aside VERSION '$Upgrade::old'");
wait_delivering($node);
$node->safe_psql('postgres', $_) foreach
  'CREATE TABLE users (id int PRIMARY KEY, name text, email text)',
  q{INSERT INTO users SELECT i, 'n' || i, 'e' || i FROM generate_series(1, 100) i},
  q{SELECT cache_aside.attach('users', 'user:{id}'), cache_aside.attach('users', 'mail:{email}', columns => '{email}'),
	cache_aside.attach('users', 'bulk:{name}', level => 'statement'),
	cache_aside.attach_query('users', 'SELECT ''list:'' || name FROM changed', 'list:*')},
  q{SELECT cache_aside.enable_versioning('users')};
wait_delivered($node);

sub deletes
{
	my ($what, $sql, @keys) = @_;
	$redis->set($_, 'old') foreach @keys, 'kept';
	$node->safe_psql('postgres', $sql);
	ok(keys_gone($redis, @keys), $what);
	return;
}

sub fails
{
	my ($what, $sql, $error) = @_;
	my (undef, undef, $said) = $node->psql('postgres', $sql);
	like($said, $error, $what);
	return;
}

sub all_fire
{
	my ($when, $n) = @_;
	deletes("$when: rules by row, by statement and by query", "UPDATE users SET name = 'm$n' WHERE id = $n", "user:$n", "bulk:n$n", "bulk:m$n", "list:m$n");
	$redis->set("mail:e$n", 'kept');
	deletes("$when: TRUNCATE deletes patterns", 'BEGIN; CREATE TEMP TABLE t ON COMMIT DROP AS TABLE users; TRUNCATE users; INSERT INTO users TABLE t; COMMIT', 'user:77', 'mail:x', 'list:y');
	deletes("$when: invalidate()", q{SELECT cache_aside.invalidate('mine:1')}, 'mine:1');
	return;
}

# ---- old objects
is($node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'cache_aside'}), $Upgrade::old, 'old objects');
all_fire('old objects', 1);
deletes('a resync knows the rules', 'SELECT cache_aside.resync()', 'user:5', 'list:z', 'bulk:z');
deletes('so does flush()', q{SELECT cache_aside.flush('users')}, 'user:5', 'list:z');
is($node->safe_psql('postgres', 'SELECT count(*), count(pattern), count(columns) FROM cache_aside.rules'), '4|4|1', 'the view rules');
my ($rc, $out, $said) = $node->psql('postgres', 'SELECT count(*) FROM cache_aside.gaps');
is("$rc $out", '0 0', 'the view gaps');
like($said, qr/WARNING:  the SQL objects of cache_aside are older than its library.*HINT:  Run ALTER EXTENSION cache_aside UPDATE/s, '... which says what is due');
is($node->safe_psql('postgres', q{SELECT state, trouble_there FROM cache_aside.status, LATERAL (SELECT to_jsonb(status) ? 'trouble' AS trouble_there) t}),
	'delivering|f', 'the view status, with the columns it had');
ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT cache_aside.fill('f:1', 'v')}) eq 't' }), 'fill() with four arguments') if (RedisServer->version)[0] >= 7;
$node->safe_psql('postgres', q{SELECT cache_aside.stick('me', '10 s')});
like($node->safe_psql('postgres', q{SELECT cache_aside.stuck_at('me')}), qr{^[0-9A-F]+/[0-9A-F]+$}, 'stick() with two');
is($node->safe_psql('postgres', q{UPDATE users SET name = 'x' WHERE id = 2 RETURNING version}), 2, 'versions are counted');
fails('... and compared', 'UPDATE users SET version = 9 WHERE id = 2', qr/row version conflict/);
$node->safe_psql('postgres', q{CREATE TABLE gone (id int); SELECT cache_aside.attach('gone', 'gone:{id}'); ALTER TABLE gone ADD v int; ALTER TABLE gone RENAME TO went; DROP TABLE went});
pass('DDL on a table with rules fails on nothing');
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS id FROM users');
fails('a rule of a materialized view needs new objects', q{SELECT cache_aside.attach('sums', 'sums:{id}')}, qr/need newer SQL objects.*HINT:  Run ALTER EXTENSION cache_aside UPDATE/s);

# ---- the update, among writers
my ($writer, $operator) = map { PgWire->new($node) } 1 .. 2;
$redis->set($_, 'old') foreach 'user:50', 'user:51', 'user:52';
$writer->query("BEGIN");
$writer->query("UPDATE users SET name = 'open' WHERE id = 50");
$operator->query('BEGIN');
$operator->query('ALTER EXTENSION cache_aside UPDATE');
pass('the update waits for no writer');
$node->safe_psql('postgres', "UPDATE users SET name = 'meanwhile' WHERE id = 51");
pass('... and no writer for the update');
$operator->query('COMMIT');
$writer->query("UPDATE users SET name = 'after' WHERE id = 52");
$writer->query('COMMIT');
ok(keys_gone($redis, 'user:50', 'user:51', 'user:52'), 'writes before, during and after it delete their keys');

# ---- new objects
is($node->safe_psql('postgres', q{SELECT objects, remedy, starts_with(library, objects || '.') FROM cache_aside.version()}), "$new||t", 'version()');
all_fire('new objects', 3);
is($node->safe_psql('postgres', 'SELECT count(*) FROM cache_aside.gaps'), 0, 'no gap');
is($node->safe_psql('postgres', q{SELECT to_jsonb(status) ? 'trouble' FROM cache_aside.status}), 't', 'status has its new columns');
$node->safe_psql('postgres', q{SELECT cache_aside.attach('sums', 'sums:{id}')});
deletes('a rule of a materialized view', 'REFRESH MATERIALIZED VIEW sums', 'sums:100');
$node->stop;
done_testing();
