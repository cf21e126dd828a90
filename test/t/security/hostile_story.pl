
# What an ordinary login role tries to make others suffer: settings, other people's tables, rules of
# its own that should break a resync or delete what is reserved, and the functions that everybody may
# call, a hundred thousand times and in parallel.
#
# Remedies: contexts and GUC_SUPERUSER_ONLY in cache_aside.c; ca_prefix_pattern_utf8 (prefix.c: the
# last resync never ends without), the length that ca_prefix_each lets pass
# for a resync (prefix.c); REVOKE of replica_changed() and its check (replicas.c); owners and approval
# (approval.c, owner.c); reserved keys (prefix.c); CA_RECORD mark (record.c).

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
my @as_mallory = (extra_params => [ '-U', 'mallory' ]);
$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN;
	CREATE SCHEMA alice AUTHORIZATION alice; CREATE SCHEMA mallory AUTHORIZATION mallory;
	GRANT USAGE ON SCHEMA alice TO mallory; SET ROLE alice;
	CREATE TABLE alice.t (id int PRIMARY KEY, secret text); INSERT INTO alice.t VALUES (1, 'hidden');
	SELECT cache_aside.attach('alice.t', 'alice:{id}');
	GRANT TRIGGER, INSERT ON alice.t TO mallory;
	CREATE TABLE alice.mine (id int PRIMARY KEY, owner text); ALTER TABLE alice.mine ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON alice.mine USING (owner = current_user);
	INSERT INTO alice.mine VALUES (1, 'alice'), (2, 'mallory'); GRANT SELECT, UPDATE, DELETE ON alice.mine TO mallory});

sub denied
{
	my ($sql, $what, $error) = @_;
	my ($rc, undef, $err) = $node->psql('postgres', $sql, @as_mallory, on_error_stop => 1);
	isnt($rc, 0, "denied: $what");
	like($err, $error // qr/permission denied|must be (?:owner|superuser|a member)/, '... and it says so');
	return;
}

# ---- settings ----

foreach my $row (split /\n/, $node->safe_psql('postgres', q{SELECT name, context, boot_val FROM pg_settings
	WHERE name LIKE 'cache\_aside.%'}))
{
	my ($name, $context, $value) = split /\|/, $row;
	my ($rc, undef, $err) = $node->psql('postgres', "SET $name = '$value'", @as_mallory, on_error_stop => 1);
	is($rc == 0 ? 'user' : 'not', $context eq 'user' ? 'user' : 'not', "SET $name");
	($rc) = $node->psql('postgres', "ALTER ROLE mallory SET $name = '$value'", @as_mallory, on_error_stop => 1);
	isnt($rc, 0, "... nor for later sessions") unless $context eq 'user';
}
denied('SET cache_aside.mine = 1', 'a setting of its own', qr/invalid configuration parameter name/);
my $secret = $node->safe_psql('postgres', 'SHOW cache_aside.redis_url');
denied('SHOW cache_aside.redis_url', 'the URL of Redis');
denied(q{SELECT current_setting('cache_aside.redis_password_file')}, 'the password file');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_settings WHERE setting = '$secret' OR boot_val = '$secret'", @as_mallory),
	0, 'pg_settings hides it');

# ---- what is not hers ----

denied(q{SELECT cache_aside.attach('alice.t', 'm:{id}')}, 'attach with TRIGGER only');
denied(q{CREATE TRIGGER m AFTER INSERT ON alice.t FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row('x')},
	"a rule's trigger with TRIGGER only", qr/owner/);
denied(q{SELECT cache_aside.detach('alice.t')}, 'detach');
denied(q{SELECT cache_aside.flush('alice.t')}, 'flush');
denied(q{SELECT * FROM cache_aside.keys('alice.t', '{"id": 1}')}, 'keys');
denied(q{SELECT cache_aside.get_item('alice.t', '{"id": 1}')}, 'get_item without SELECT');
denied(q{SELECT cache_aside.enable_versioning('alice.t')}, 'enable_versioning');
denied('CREATE TABLE cache_aside.x ()', 'an object in the schema');
denied('BEGIN; LOCK TABLE cache_aside.gaps IN ACCESS EXCLUSIVE MODE', 'a lock on a view');
denied('SELECT * FROM cache_aside.replica', 'the registry');
denied('SELECT cache_aside.invalidate(VARIADIC ARRAY[]::text[])', 'invalidate');
denied(q{CREATE TABLE mallory.r (); CREATE TRIGGER r AFTER INSERT ON mallory.r FOR EACH STATEMENT
	EXECUTE FUNCTION cache_aside.replica_changed()}, 'visitors on demand');
is($node->safe_psql('postgres', q{SELECT cache_aside.get_item('alice.mine', '{"id": 1}') IS NULL,
	cache_aside.update_item('alice.mine', '{"id": 1}', '{"owner": "mallory"}') IS NULL,
	cache_aside.delete_item('alice.mine', '{"id": 1}'),
	(SELECT count(*) FROM cache_aside.query_items('alice.mine', NULL))}, @as_mallory), 't|t|f|1',
	'items see what row security lets see');

# ---- records and rules of her own ----

$redis->set($_, 'mine') foreach 'alice:1', 'cache_aside:stick:x', 'm:1';
$node->psql('postgres', qq{SELECT pg_logical_emit_message(true, 'cache_aside', decode('0100$_', 'hex'))}, @as_mallory)
  foreach '6b07000000' . unpack('H*', 'alice:1'), '7001000000' . unpack('H*', '*'), '72', '7301', '63', 'ff';
denied(q{CREATE TABLE mallory.k (k text); SELECT cache_aside.attach('mallory.k', '{k}');
	INSERT INTO mallory.k VALUES ('cache_aside:stick:x')}, 'a reserved key', qr/cache key is reserved/);
$node->safe_psql('postgres', q{
	CREATE TABLE mallory.t (id int, k text);
	SELECT cache_aside.attach('mallory.t', 'm:' || repeat('?', 4000) || '{k}');
	SELECT cache_aside.attach('mallory.t', 'm:{id}');
	CREATE TABLE mallory.u (k text)}, @as_mallory);
$node->safe_psql('postgres', q{SELECT cache_aside.attach('mallory.u', '{k}'); TRUNCATE mallory.u}, @as_mallory);
wait_delivered($node);
ok(is_cached($redis, 'cache_aside:stick:x'), 'a pattern that matches all keys spares the reserved ones');
$redis->set('alice:1', 'old');
$node->safe_psql('postgres', 'SELECT cache_aside.resync()');
wait_delivered($node);
ok(keys_gone($redis, 'alice:1', 'm:1'), "a resync ends, whatever her rules are");

# ---- a database in another encoding ----

$node->safe_psql('postgres', q{CREATE DATABASE kyoto OWNER mallory ENCODING EUC_JP LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$node->safe_psql('kyoto', 'CREATE EXTENSION cache_aside');
my (undef, undef, $odd) = $node->psql('kyoto', q{SET client_encoding = EUC_JP;
	CREATE SCHEMA m; CREATE TABLE m.t (id int);
	CREATE TRIGGER a AFTER INSERT ON m.t FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row(E'a\xf5\xa1:{id}');
	CREATE TRIGGER b AFTER INSERT ON m.t REFERENCING NEW TABLE AS n FOR EACH STATEMENT
		EXECUTE FUNCTION cache_aside.invalidate_statement(E'b\xf5\xa1*', 'SELECT id FROM changed');
	ALTER TABLE m.t ENABLE ALWAYS TRIGGER b;
	CREATE TRIGGER c AFTER TRUNCATE ON m.t FOR EACH STATEMENT
		EXECUTE FUNCTION cache_aside.invalidate_table(E'c\xf5\xa1*', E'SELECT \'\xf5\xa1\' FROM changed')},
	@as_mallory, on_error_stop => 0);
like($odd, qr/has no equivalent in encoding "UTF8"/, 'text that has no UTF-8 makes no rule');
$redis->set('alice:1', 'old');
$node->safe_psql('postgres', 'SELECT cache_aside.resync()');
wait_delivered($node);
ok(keys_gone($redis, 'alice:1'), 'a resync ends with rules whose text has no UTF-8');
unlike(log_since($node), qr/could not read the rules/, '... at the first attempt');

# ---- a hundred thousand times, in parallel ----

my $pid = worker_pid($node);
my $memory = sub { slurp_file("/proc/$_[0]/statm") =~ /^\d+ (\d+)/; return $1 * 4 };
my $functions = join ', ', map { "cache_aside.$_" } 'read_token()', 'commit_lsn()', q{caught_up('0/1')},
  q{(route(NULL, 'x', '1 s')).role}, q{shard('k', 9)}, q{is_read_only('SELECT 1')}, q{check_conninfo('host=a')};
my @sessions = map { background_sql($node, @as_mallory) } 1 .. 3;
$functions =~ s/cache_aside\.\((route\([^)]*\))\)/(cache_aside.$1)/;
my $run = sub { my ($n) = @_; $_->query_safe("SELECT count(*) FROM (SELECT $functions FROM generate_series(1, $n) OFFSET 0) x") foreach @sessions };
$run->(2000);
my @pids = map { $_->query_safe('SELECT pg_backend_pid()') =~ /(\d+)/ } @sessions;
my @before = map { $memory->($_) } @pids, $pid;
$run->(30000);
my @after = map { $memory->($_) } @pids, $pid;
cmp_ok($after[$_] - $before[$_], '<', 4096, 'process ' . (@pids, $pid)[$_] . ' grew by ' . ($after[$_] - $before[$_]) . ' kB') foreach 0 .. 3;
my $calls = $node->basedir . '/calls.sql';
append_to_file($calls, "SELECT count(*) FROM (SELECT $functions FROM generate_series(1, 1000) OFFSET 0) x;\n");
$node->command_ok([ 'pgbench', '-n', '-U', 'mallory', '-c', 8, '-j', 2, '-t', 20, '-f', $calls, 'postgres' ], 'eight at a time');
wait_delivered($node);
is(worker_pid($node), $pid, 'the worker is the same, and delivers');
$_->quit foreach @sessions;
unlike(log_since($node), qr/terminated by signal|TRAP/, 'nothing crashed');

$node->stop;
done_testing();
