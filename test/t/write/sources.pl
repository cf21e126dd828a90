# Where writes come from: logical replication, a standby that refuses, DETACH CONCURRENTLY with its
# two transactions, several key prefixes, and databases in other encodings.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "wal_level = logical\n");
my $publisher = CacheAside->new_node('publisher',
	conf => "wal_level = logical\nshared_preload_libraries = ''\n", extension => 0);

# ---- logical apply fires our triggers; statement level would not, and is refused
my $table = 'CREATE TABLE users (id int PRIMARY KEY, name text);';
$publisher->safe_psql('postgres', "$table INSERT INTO users VALUES (1, 'a'), (2, 'b');"
	  . 'CREATE PUBLICATION pub FOR TABLE users');
$node->safe_psql('postgres', "$table SELECT cache_aside.attach('users', 'user:{id}')");
$redis->set("user:$_", 'old') foreach 1 .. 9;
$node->safe_psql('postgres',
	"CREATE SUBSCRIPTION sub CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION pub");
$node->wait_for_subscription_sync($publisher, 'sub');
wait_delivered($node);
ok(keys_gone($redis, 'user:1', 'user:2'), 'the initial copy deletes what may be cached as absent');
$redis->set("user:$_", 'old') foreach 1, 2;
$publisher->safe_psql('postgres', q{
	UPDATE users SET id = 3 WHERE id = 1; DELETE FROM users WHERE id = 2; INSERT INTO users VALUES (4)});
$publisher->wait_for_catchup('sub');
wait_delivered($node);
is(join(',', map { is_cached($redis, "user:$_") } 1 .. 5), '0,0,0,0,1', 'logical apply invalidates');
$redis->set('user:5', 'old');
$publisher->safe_psql('postgres', 'TRUNCATE users');
$publisher->wait_for_catchup('sub');
wait_delivered($node);
ok(keys_gone($redis, 'user:5'), 'a replicated TRUNCATE too');
my ($code, $out, $err) = $node->psql('postgres', q{SELECT cache_aside.attach('users', 's:{id}', level => 'statement')});
like($err, qr/A subscription feeds it.*HINT/s, 'statement level is refused on a subscribed table');
($code, $out, $err) = $node->psql('postgres', q{SELECT cache_aside.attach_query('users', 'SELECT id FROM changed', 's')});
like($err, qr/A subscription feeds it/, 'and so are query rules');
$node->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
$publisher->stop;

# ---- DETACH CONCURRENTLY commits in the middle: deleted after each half
$node->safe_psql('postgres', q{
	CREATE TABLE events (id int, day int) PARTITION BY RANGE (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
	INSERT INTO events VALUES (1, 1);
	SELECT cache_aside.attach('events', 'event:{id}')});
wait_delivered($node);
$redis->set('event:1', 'old');
my $start = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$node->safe_psql('postgres', 'ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY');
ok(keys_gone($redis, 'event:1'), 'DETACH CONCURRENTLY deletes');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_walinspect; SELECT pg_switch_wal()');
is($node->safe_psql('postgres', qq{
	SELECT count(DISTINCT xid::text) FROM pg_get_wal_records_info('$start', pg_current_wal_flush_lsn())
	 WHERE resource_manager = 'LogicalMessage' AND description LIKE '%prefix "cache_aside"%'}), '2',
	'in both of its transactions');

# ---- messages: at most 64 kB, close to the commit
$start = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$node->safe_psql('postgres', q{
	SELECT count(cache_aside.invalidate('chunk:' || g)) FROM generate_series(1, 200000) g});
wait_delivered($node);
is($node->safe_psql('postgres', qq{
	SELECT count(*) > 50, max(main_data_length) BETWEEN 60000 AND 66000, count(DISTINCT xid::text)
	  FROM pg_get_wal_records_info('$start', pg_current_wal_flush_lsn())
	 WHERE resource_manager = 'LogicalMessage' AND description LIKE 'transactional%'}), 't|t|1', 'a large set is several messages of one transaction');

# ---- prefixes: every key and pattern under each, from the moment of the reload
reload_conf($node, 'cache_aside.key_prefix' => 'v1:, v[2]:,');
$redis->set($_, 'old') foreach 'user:7', 'v1:user:7', 'v[2]:user:7', 'v2:user:7', 'v3:user:7', 'v1:a', 'v1:user:8';
$node->safe_psql('postgres', q{INSERT INTO users VALUES (7); SELECT cache_aside.invalidate('a')});
wait_delivered($node);
is(join(',', map { is_cached($redis, $_) } 'user:7', 'v1:user:7', 'v[2]:user:7', 'v1:a', 'v2:user:7', 'v3:user:7'),
	'0,0,0,0,1,1', 'keys under each prefix, and no other');
is($node->safe_psql('postgres', q{SELECT cache_aside.keys('users', '{"id": 1}')}),
	"v1:user:1\nv[2]:user:1\nuser:1", 'keys() shows them');
is($node->safe_psql('postgres', q{BEGIN; TRUNCATE users; SELECT key FROM cache_aside.pending(); ROLLBACK}),
	"v1:user:*\nv\\[2\\]:user:*\nuser:*", 'the prefix of a pattern is literal');
($code, $out, $err) = $node->psql('postgres', q{SELECT cache_aside.invalidate(repeat('x', 8190))});
like($err, qr/gives 8193 bytes with its prefix; 8192 are allowed/, 'the limit counts the prefix');
reload_conf($node, 'cache_aside.key_prefix' => '');

# ---- other encodings: the key is UTF-8; SQL_ASCII bytes stay as they are
foreach my $encoding ('latin1', 'sql_ascii')
{
	$node->safe_psql('postgres', "CREATE DATABASE in_$encoding ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->safe_psql("in_$encoding", 'CREATE EXTENSION cache_aside; CREATE TABLE words (word text);'
		  . q{SELECT cache_aside.attach('words', convert_from('\x67726fdf65'::bytea, 'LATIN1') || ':{word}');})
	  if $encoding eq 'latin1';
	$node->safe_psql("in_$encoding", 'CREATE EXTENSION cache_aside; CREATE TABLE words (word text);'
		  . q{SELECT cache_aside.attach('words', 'bytes:{word}');}) if $encoding eq 'sql_ascii';
}
$redis->set("gro\xc3\x9fe:\xc3\xb6", 'old');
$node->safe_psql('in_latin1', q{INSERT INTO words VALUES (convert_from('\xf6', 'LATIN1'))});
wait_delivered($node);
ok(!is_cached($redis, "gro\xc3\x9fe:\xc3\xb6"), 'a LATIN1 database writes UTF-8 keys');
is($node->safe_psql('in_latin1', q{BEGIN; INSERT INTO words VALUES (chr(246)); SELECT octet_length(key) FROM cache_aside.pending(); ROLLBACK}),
	'7', 'and shows them in its own encoding');
$redis->set("bytes:\xf6\xff", 'old');
$node->safe_psql('in_sql_ascii', q{INSERT INTO words VALUES (E'\xf6\xff')});
wait_delivered($node);
ok(!is_cached($redis, "bytes:\xf6\xff"), 'a SQL_ASCII database refuses no write and keeps its bytes');

# ---- a standby writes nothing
my $standby = CacheAside->new_standby('standby', $node, redis => $redis);
foreach my $call (q{invalidate('x')}, q{invalidate_pattern('x*')})
{
	($code, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT cache_aside.$call");
	like($err, qr/25006: cannot invalidate cache keys during recovery.*DETAIL.*HINT/s, "$call on a standby");
}
is($standby->safe_psql('postgres', 'SELECT count(*) FROM cache_aside.pending()'), '0', 'pending() answers');
isnt($standby->safe_psql('postgres', 'SELECT count(*) FROM cache_aside.rules'), '0', 'and rules');
is($standby->safe_psql('postgres', q{SELECT cache_aside.keys('users', '{"id": 1}')}), 'user:1', 'and keys()');
like($standby->safe_psql('postgres', 'SELECT count(*) FROM cache_aside.gaps'), qr/^\d+$/, 'and gaps');

$standby->stop;
$node->stop;
done_testing();
