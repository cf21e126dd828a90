# Reads and fills from SQL that go wrong: a lease ends with each fill, whatever becomes of it; one warning
# for each cause and statement; a reply that drips; values over a limit; a full Redis; writes in warm().
#
# Remedies: release() and release_after_error() in fill.c; ca_backend_connection_is_news() in backend_connection.c; note_progress() in
# handle_replies() of redis.c (and not with each byte); GETRANGE in ask_value() of reads.c, and in
# audit_entries.c; is_refused_length() in fill.c; refuse_own_writes() in warm.c.
use strict;
use warnings;

use CacheAside;
use FakeRedis;
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(conf => "proto-max-bulk-len 512mb\n")->start;
plan(skip_all => 'no guarded fills in this Redis') if (RedisServer->version)[0] < 7;
my $fake = FakeRedis->new(upstream => $redis)->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.command_timeout = 1s\n");
$node->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE seen (id int);
	INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 2000) g;
	SELECT cache_aside.attach('t', 't:{id}')});
wait_delivered($node);
my $session = background_sql($node, on_error_stop => 0);
sub sql { return $session->query(shift) =~ s/\s+\z//r; }

# Result, and everything that was said.
sub all_of
{
	my ($statement) = @_;
	my (undef, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement", on_error_stop => 0);
	return "$out\n$err";
}
sub warnings_of { my @w = all_of(shift) =~ /WARNING:  (\w+)/g; return scalar @w; }
sub lease { my $l = $redis->command('FCALL', 'cache_aside_get', 1, shift, 20000); return ref $l ? $l->[0] : $l; }
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), 'fills are admitted');
my $token = $node->safe_psql('postgres', 'SELECT cache_aside.read_token()');

# ---- the lease ends with each fill: the next reader gets one
my %fills = (
	stored => q{SELECT cache_aside.fill('KEY', 'v', '1 min', lease => 'LEASE')},
	refused => qq{SELECT cache_aside.fill('KEY', 'v', '1 min', '@{[ $token =~ s{-[^-]*$}{-0/1}r ]}', 'LEASE')},
	'without a token' => q{SELECT cache_aside.fill('KEY', 'v', '1 min', NULL, 'LEASE')},
	'after a write' => qq{BEGIN; INSERT INTO seen VALUES (1); SELECT cache_aside.fill('KEY', 'v', '1 min', '$token', 'LEASE'); COMMIT},
	'rolled back' => q{BEGIN; SELECT cache_aside.fill('KEY', 'v', '1 min', lease => 'LEASE'); ROLLBACK},
	'a bad token' => q{SELECT cache_aside.fill('KEY', 'v', '1 min', 'x', 'LEASE')},
	'a bad time to live' => q{SELECT cache_aside.fill('KEY', 'v', '-1 min', lease => 'LEASE')},
	'a long value' => q{SELECT cache_aside.fill('KEY', repeat('x', 70000000), lease => 'LEASE')},
	'an error that is caught' => q{DO $$BEGIN PERFORM cache_aside.fill('KEY', 'v', '0', lease => 'LEASE');
		EXCEPTION WHEN OTHERS THEN NULL; END$$},
	'a subtransaction' => q{BEGIN; SAVEPOINT a; SELECT cache_aside.fill('KEY', 'v', '0', lease => 'LEASE'); ROLLBACK TO a; COMMIT},
	'release' => q{SELECT cache_aside.release('KEY', 'LEASE')},
	'of another type' => q{SELECT cache_aside.fill('KEY', 'v', lease => 'LEASE')});
foreach my $how (sort keys %fills)
{
	my ($key, $lease) = ("by $how", lease("by $how"));
	$redis->command('RPUSH', $key, 'x') if $how eq 'of another type';
	my $said = all_of($fills{$how} =~ s/KEY/$key/r =~ s/LEASE/$lease/r);
	like($said, qr/^t$/m, $how) if $how eq 'stored' || $how eq 'release';
	unlike($said, qr/WARNING|no answer/, "$how: no warning");
	$redis->del($key);
	like(lease($key), qr/^\d+\.\d+$/, "... the next reader has a lease");
}
is(all_of(q{SELECT cache_aside.release('nothing', 'x')}), "f\n", 'a lease that is not held');
my $full = lease('full');
$redis->config_set('maxmemory-policy', 'noeviction');
$redis->config_set('maxmemory', 1);
like(all_of("SELECT cache_aside.fill('full', 'v', lease => '$full'), cache_aside.get('full') IS NULL"), qr/^f\|t\n.*WARNING.*OOM/ms,
	'a full Redis: not stored, and get goes on');
is(warnings_of(q{SELECT count(cache_aside.fill('f:' || id, v)) FROM t}), 1, '... one warning, not one a row');
is(warnings_of(q{DO $$BEGIN FOR i IN 1..5 LOOP PERFORM cache_aside.fill('f', 'v'), cache_aside.fetch('f', 'SELECT ''v''', '1 min'); END LOOP; END$$}),
	1, '... nor one for each call');
$redis->config_set('maxmemory', 0);
like(lease('full'), qr/^\d+\.\d+$/, '... and the lease was released');

# ---- fetch without parameters
is(sql(q{SELECT cache_aside.fetch('plain', 'SELECT v FROM t WHERE id = 7', '1 min')}), 'v7', 'fetch with three arguments');
is($redis->get('plain'), 'v7', '... stores');
like(all_of(q{SELECT cache_aside.fetch('p', 'SELECT $1', '1 min')}), qr/ERROR.*more parameters/s, '... and has no $1');
ok(all_of(q{SELECT cache_aside.fetch('p', 'SELECT 1', '1 min', VARIADIC NULL)}) eq "\n", 'NULL for parameters is NULL');

# ---- values over the limit, without losing the connection
sub client_id { return join ' ', sort map { /^id=(\d+).*name=cache_aside_backend/ ? $1 : () } split /\n/, $redis->command('CLIENT', 'LIST'); }
$redis->set('short', 'x');
sql(q{SELECT cache_aside.get('short')});
my $client = client_id();
like($client, qr/^\d+$/, 'one connection');
my $huge = 'x' x 1_000_000;
$redis->command('APPEND', 'huge', $huge) foreach 1 .. 70;
is(sql(q{SELECT cache_aside.fetch('huge', 'SELECT ''short''', '1 min')}), 'short', 'a value over the limit: fetch replaces it');
is($redis->get('huge'), 'short', '... in Redis');
is(sql(q{SELECT length(cache_aside.fetch('long', 'SELECT repeat(''x'', 70000000)', '1 min'))}), 70000000, 'a value over the limit: fetch does not store it');
ok(!$redis->exists('long'), '... in Redis');
is(client_id(), $client, '... nor lose its connection');
like(all_of(q{SELECT cache_aside.get('huge')}), qr/^short/, 'get');
$redis->command('APPEND', 'huge', $huge) foreach 1 .. 70;
like(all_of(q{SELECT cache_aside.get('huge')}), qr/ERROR:  54000: the value of key "huge" is too long.*DETAIL.*HINT/s, '... says that it is too long');
$redis->command('RENAME', 'huge', 't:1');
like(all_of(q{SELECT checked, stale FROM cache_aside.audit_summary('t', 't:{id}', 1)}), qr/^2000\|1\n/, 'audit() takes it for stale');
$redis->del('t:1');
$redis->set('empty', '');
is(sql(q{SELECT cache_aside.get('empty') = '', cache_aside.get('none') IS NULL}), 't|t', 'an empty value is a value');

# ---- values over Redis's own limit: the connection is lost once
$redis->config_set('proto-max-bulk-len', 1024 * 1024);
my $long = q{SELECT cache_aside.fill('big:' || g, repeat('x', 2000000)), cache_aside.get('short') IS NOT NULL FROM generate_series(1, 3) g};
is(sql($long), "f|t\nf|t\nf|t", 'a value over Redis\'s own limit: not stored, reads go on');
$client = client_id();
is(sql($long), "f|t\nf|t\nf|t", '... nor sent again');
is(client_id(), $client, '... the connection stays');
is(warnings_of($long), 1, '... one warning');
is(sql(q{SELECT cache_aside.fill('small', repeat('x', 900000))}), 't', '... shorter ones are stored');

# ---- warm() and a query that writes
$node->safe_psql('postgres', q{CREATE FUNCTION writes(n int) RETURNS text LANGUAGE plpgsql AS
	$$BEGIN IF n = 1000 THEN UPDATE t SET v = 'uncommitted' WHERE id > 1000; END IF; RETURN n; END$$;
	CREATE FUNCTION reads(n int) RETURNS text LANGUAGE sql VOLATILE RETURN (SELECT v FROM t WHERE id = n)});
like(all_of(q{SELECT cache_aside.warm('SELECT ''w:'' || id, writes(id) || reads(id) FROM t ORDER BY id')}),
	qr/ERROR:  55000: warm\(\) stores nothing that a transaction which has written reads.*DETAIL.*HINT/s, 'warm() refuses what it may have written');
$node->safe_psql('postgres', q{CREATE FUNCTION makes(n int) RETURNS text LANGUAGE plpgsql AS
	$$BEGIN IF n = 1 THEN CREATE TEMP TABLE made (i int) ON COMMIT DROP; END IF; RETURN n; END$$});
like(all_of(q{SELECT cache_aside.warm('SELECT ''w:'' || id, makes(id) FROM t WHERE id = 1')}),
	qr/ERROR:  55000: warm\(\) stores nothing/, '... whatever the query has done at exit: a first temporary table');
my @stored = map { $redis->get($_) } $redis->keys('w:*');
is(scalar(grep { /uncommitted/ } @stored), 0, '... and has stored none of it');
# ---- one cause, one warning; two causes, two
$redis->command('FUNCTION', 'DELETE', 'cache_aside');
is(warnings_of(q{SELECT count(cache_aside.fill('f:' || id, v)) FROM t}), 1, 'no such function: one warning');
reload_conf($node, 'cache_aside.redis_url' => $fake->url);
$fake->on(qr/f:$_\b/, error => "ERR mishap $_") foreach 1 .. 50;
$fake->on(qr/^GETRANGE k/, error => 'LOADING Redis is loading');
$fake->on(qr/cache_aside_fill\S* 1 k/, error => 'NOREPLICAS Not enough good replicas to write.');
is(warnings_of("SELECT count(cache_aside.get('k' || id)), count(cache_aside.fill('k' || id, v, '1 min', '$token')) FROM t"),
	2, 'two causes: a warning each');
cmp_ok(warnings_of("SELECT cache_aside.fill('f:' || id, v, '1 min', '$token') FROM t WHERE id <= 50"), '<=', 8, 'a Redis with fifty excuses: eight warnings');
$fake->clear;

# ---- a reply that drips
$redis->set('drips', 'x' x 300);
$fake->on(qr/^GETRANGE drips/, slow => 0.02);
my $took = soonest(
	4,
	sub {
		my $begun = time;
		like(all_of(q{SELECT cache_aside.get('drips') IS NULL}), qr/^t\n.*no answer from Redis for 1000 ms/ms, 'a reply that drips is given up');
		return time - $begun;
	});
cmp_ok($took, '<', 4, '... after command_timeout, as a whole');
$fake->clear;
is(length all_of(q{SELECT cache_aside.get('drips')}), 301, 'the same reply at once');
$session->quit;
done_testing();
