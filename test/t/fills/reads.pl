# The cache from SQL: get, fill, fetch, shard, read_token; and what stores nothing.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
my $token_re = qr/^\d+-1-[0-9A-F]+\/[0-9A-F]+$/;

sub sql { return scalar $node->safe_psql('postgres', shift); }

# The error or warning of a statement, with its code.
sub complaint
{
	my ($statement) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
	return $err;
}

sub stores_nothing
{
	my ($expected, $name, $statement) = @_;
	my $before = join ' ', map { "$_=" . ($redis->command('DUMP', $_) // '') } $redis->keys;
	like(complaint($statement), $expected, $name);
	ok($before eq join(' ', map { "$_=" . ($redis->command('DUMP', $_) // '') } $redis->keys),
		'nothing stored');
	return;
}

sub until_armed
{
	ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), shift);
	$redis->del('probe');
	return;
}

sql(q{CREATE TABLE users (id int PRIMARY KEY, name text);
	SELECT cache_aside.attach('users', 'user:{id}');
	INSERT INTO users SELECT g, 'name ' || g FROM generate_series(1, 100) g});
wait_delivered($node);
until_armed('fills are admitted soon after start');

# ---- get and fill
is(sql(q{SELECT cache_aside.get('user:1')}), '', 'a miss is NULL');
like(sql('SELECT cache_aside.read_token()'), $token_re, 'a token');
is(sql(q{SELECT cache_aside.fill('user:1', name) FROM users WHERE id = 1}), 't', 'fill');
is($redis->get('user:1'), 'name 1', 'stored');
my $ttl = $redis->ttl('user:1');
ok($ttl > 290_000 && $ttl <= 300_000, 'for 5 minutes');
is(sql(q{SELECT cache_aside.get('user:1')}), 'name 1', 'get');
my $token = sql('SELECT cache_aside.read_token()');
sql(q{UPDATE users SET name = 'Ada' WHERE id = 1});
wait_delivered($node);
is(sql(q{SELECT cache_aside.get('user:1')}), '', 'invalidated');
is(sql("SELECT cache_aside.fill('user:1', 'name 1', '1 min', '$token')"), 'f', 'old read: refused');
is(sql("SELECT cache_aside.fill('user:2', 'name 2', '1 min', '$token')"), 't', 'other key: stored');
until_armed('the next transaction');
is(sql(q{SELECT cache_aside.fill('user:1', name) FROM users WHERE id = 1}), 't', 'new read: stored');
is(sql(q{SELECT cache_aside.get('user:1')}), 'Ada', 'the new value');

# ---- whoever has written does not fill
is(sql(q{BEGIN; UPDATE users SET name = 'uncommitted' WHERE id = 3;
	SELECT cache_aside.read_token() IS NULL, cache_aside.fill('user:3', name) FROM users WHERE id = 3;
	ROLLBACK}), 't|f', 'no token after a write');
is(sql("BEGIN; UPDATE users SET name = 'uncommitted' WHERE id = 3;
	SELECT cache_aside.fill('user:3', name, '1 min', '$token') FROM users WHERE id = 3; ROLLBACK"),
	'f', 'nor with a token from before');
is(sql(q{BEGIN; SAVEPOINT a; UPDATE users SET name = 'x' WHERE id = 3; ROLLBACK TO a;
	SELECT cache_aside.read_token() IS NULL; ROLLBACK}), 't', 'nor after a write rolled back');
is(sql(q{BEGIN; SELECT 1 FROM users WHERE id = 3 FOR UPDATE;
	SELECT cache_aside.read_token() IS NULL; ROLLBACK}), "1\nt", 'nor after a row lock');
ok(!$redis->exists('user:3'), 'nothing was stored');
is(sql(q{SELECT cache_aside.fill('user:3', 'x', token => NULL)}), 'f', 'NULL for a token: false');

# ---- text
is(sql(q{SELECT cache_aside.fill('schlüssel ☃ *?[', E'wert \\\\ ☃\n\t')}), 't', 'any text');
is(sql(q{SELECT cache_aside.get('schlüssel ☃ *?[') = E'wert \\\\ ☃\n\t'}), 't', 'comes back');
is(sql(q{SELECT cache_aside.fill('big', repeat('x', 20000000))}), 't', '20 MB');
is(sql(q{SELECT cache_aside.get('big') = repeat('x', 20000000)}), 't', 'come back');
$redis->set('binary', "\xff\x00\xfe");
like(complaint(q{SELECT cache_aside.get('binary')}), qr/ERROR:  22021: .*not text.*DETAIL.*HINT/s,
	'a binary value is no text');
$redis->command('RPUSH', 'list', 'x');
like(complaint(q{SELECT cache_aside.get('list')}), qr/ERROR:  42809: .*WRONGTYPE.*HINT/s,
	'a list is no value');

# ---- what stores nothing
my ($other) = $token =~ /^\d+(-.*)$/;
stores_nothing(qr/ERROR:  22023: invalid token.*DETAIL.*HINT/s, "token '$_'",
	"SELECT cache_aside.fill('k', 'v', '1 min', '$_')")
  foreach 'garbage', '', "$token ", "+$token", '1-1-1', $token . '0000000000';
stores_nothing(qr/ERROR:  22023: .*another database cluster.*DETAIL.*HINT/s, 'foreign token',
	"SELECT cache_aside.fill('k', 'v', '1 min', '42$other')");
stores_nothing(qr/ERROR:  22023: invalid time to live.*DETAIL.*HINT/s, "time to live $_",
	"SELECT cache_aside.fill('k', 'v', '$_')")
  foreach '-1 min', '0', '0.5 ms', '1000 years', '1 min -61 s';
stores_nothing(qr/ERROR:  54000: value is too long.*DETAIL.*HINT/s, '600 MB',
	q{SELECT cache_aside.fill('k', repeat('x', 600000000))});
stores_nothing(qr/ERROR:  22023: cache key is empty.*DETAIL.*HINT/s, 'empty key',
	q{SELECT cache_aside.fill('', 'v')});
stores_nothing(qr/ERROR:  54000: cache key is too long.*DETAIL.*HINT/s, 'long key',
	q{SELECT cache_aside.fill(repeat('k', 9000), 'v')});
stores_nothing(qr/ERROR:  22004: value must not be null.*DETAIL.*HINT/s, 'no value',
	q{SELECT cache_aside.fill('k', NULL)});
stores_nothing(qr/ERROR:  42809: .*WRONGTYPE.*HINT/s, 'a list in its place',
	q{SELECT cache_aside.fill('list', 'v')});

# ---- fetch
my $fetch = q{SELECT cache_aside.fetch('user:7', 'SELECT name FROM users WHERE id = $1', '1 min', '7')};
is(sql($fetch), 'name 7', 'fetch reads the table');
$redis->set('user:7', 'cached');
is(sql($fetch), 'cached', 'and the cache');
is(sql("BEGIN; UPDATE users SET name = 'mine' WHERE id = 7; $fetch; COMMIT"), 'mine',
	'a transaction sees its own write');
wait_delivered($node);
ok(!$redis->exists('user:7'), 'and caches nothing');
is(sql($fetch), 'mine', 'then it is cached again');
is($redis->wait_until(sub { sql($fetch); ($redis->get('user:7') // '') eq 'mine' }), 1, 'in Redis');
is(sql(q{SELECT cache_aside.fetch('none', 'SELECT name FROM users WHERE id = $1', '1 min', '-7')}),
	'', 'no row: NULL');
ok(!$redis->exists('none'), 'which is not cached');
$redis->set('user:9', "\xff");
is(sql(q{SELECT cache_aside.fetch('user:9', 'SELECT name FROM users WHERE id = 9', '1 min',
	VARIADIC '{}')}), 'name 9', 'bytes that are no text count as missing');
stores_nothing(qr/ERROR:.*DETAIL.*HINT/s, "query '$_'",
	"SELECT cache_aside.fetch('q', '$_', '1 min', '1')")
  foreach 'SELECT 1, 2', 'SELECT name FROM users WHERE id = $2', 'BEGIN';
stores_nothing(qr/ERROR:  0A000/, 'a query that writes',
	q{SELECT cache_aside.fetch('q', 'DELETE FROM users', '1 min', '1')});
is(sql('SELECT count(*) FROM users'), 100, 'and no query has written');
sql(q{CREATE FUNCTION writes() RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN UPDATE users SET name = 'uncommitted' WHERE id = 8; RETURN 'uncommitted'; END $$});
is(sql(q{BEGIN; SELECT cache_aside.fetch('q', 'SELECT writes()', '1 min', VARIADIC '{}'); ROLLBACK}),
	'uncommitted', 'a function it calls may write');
ok(!$redis->exists('q'), 'then nothing is cached');

# ---- shard
is(sql(q{SELECT array_agg(DISTINCT k ORDER BY k) FROM (SELECT cache_aside.shard('hot:7', 4) AS k
	FROM generate_series(1, 500)) s}), '{hot:7#0,hot:7#1,hot:7#2,hot:7#3}', 'every copy is picked');
like(complaint("SELECT cache_aside.shard('k', $_)"), qr/ERROR:  22023: .*DETAIL.*HINT/s, "$_ copies")
  foreach 0, -1, 1001;

# ---- privileges
sql('CREATE ROLE reader; GRANT USAGE ON SCHEMA cache_aside TO reader');
like(complaint("SET ROLE reader; SELECT cache_aside.$_"), qr/42501: permission denied/, "not public: $_")
  foreach q{get('x')}, q{fill('x', 'y')}, q{fetch('x', 'SELECT 1', '1 min', '1')};
is(sql('SET ROLE reader; SELECT cache_aside.read_token() IS NOT NULL'), 't', 'the token is');

# ---- Redis that does not answer is a miss, and the time lost is bounded
$redis->stop;
like(complaint(q{SELECT cache_aside.get('user:1') IS NULL}), qr/WARNING:  08006: no answer.*DETAIL/s,
	'Redis down: a warning');
is(sql(q{SET client_min_messages = error; SELECT cache_aside.get('user:1') IS NULL,
	cache_aside.fill('user:1', 'x')}), 't|f', 'a miss, nothing stored');
is(sql(qq{SET client_min_messages = error; $fetch}), 'mine', 'and fetch reads the table');
is(sql(q{SET client_min_messages = error;
	SELECT count(cache_aside.get('user:' || g)) FROM generate_series(1, 100000) g}), 0,
	'many rows do not mean many time-outs');
$redis->start;
until_armed('Redis is back');
$redis->config_set('maxmemory-policy', 'noeviction');
$redis->config_set('maxmemory', '1');
like(complaint(q{SELECT cache_aside.fill('user:1', 'x')}), qr/WARNING: .*OOM/, 'full: a warning');
$redis->config_set('maxmemory', '0');

done_testing();
