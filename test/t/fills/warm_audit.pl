# Filling a cache from queries and tables, and comparing it with them.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);

sub sql { return scalar $node->safe_psql('postgres', shift); }

sub complaint
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . shift);
	return $err;
}

sub summary
{
	my ($args) = @_;
	return sql("SELECT checked, fresh, stale, absent, in_flight, nines
		FROM cache_aside.audit_summary($args)");
}

sql(q{CREATE TABLE users (id int PRIMARY KEY, name text, dropped int);
	ALTER TABLE users DROP COLUMN dropped;
	SELECT cache_aside.attach('users', 'user:{id}');
	INSERT INTO users SELECT g, 'name ' || g FROM generate_series(1, 3000) g});
wait_delivered($node);
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), 'armed');

# ---- warm
is(sql(q{SELECT cache_aside.warm($$SELECT 'name:' || id, name FROM users$$, '1 min')}), 3000,
	'warm from a query');
is($redis->get('name:3000'), 'name 3000', 'the last one is there');
ok($redis->ttl('name:1') <= 60000, 'with its time to live');
is(sql(q{SELECT cache_aside.warm('users', 'user:{id}', '5 min')}), 3000, 'warm from a table');
is($redis->get('user:17'), '{"id":17,"name":"name 17"}', 'rows as JSON');
is(sql(q{SELECT cache_aside.warm('users', 'hot:{id#3}', '5 min')}), 9000, 'every copy');
is($redis->get('hot:9#2'), '{"id":9,"name":"name 9"}', 'of a sharded key');
is(sql(q{SELECT cache_aside.warm($$SELECT NULL, 'x' UNION ALL SELECT 'y', NULL$$)}), 0,
	'NULL is neither key nor value');
is(sql(q{SELECT cache_aside.warm($$SELECT 'x', 'y' WHERE false$$)}), 0, 'no rows');
$redis->command('RPUSH', 'name:0list', 'x');
like(complaint(q{SELECT cache_aside.warm($$SELECT 'name:0list', 'x' UNION ALL SELECT 'ok', 'v'$$)}),
	qr/WARNING: .*1 entries could not be stored.*WRONGTYPE/s, 'a key that is a list is reported');
is($redis->get('ok'), 'v', 'and the others are stored');
like(complaint("SELECT cache_aside.warm(\$\$$_\$\$)"), qr/ERROR:  (22023|0A000|42601)/, "query '$_'")
  foreach 'SELECT 1', 'SELECT 1, 2, 3', q{DELETE FROM users RETURNING 'k', 'v'}, 'SELECT', 'nonsense';
like(complaint(q{SELECT cache_aside.warm($$SELECT 'k', 'v'$$, '-1 s')}), qr/ERROR:  22023/, 'ttl');
like(complaint(q{BEGIN; INSERT INTO users VALUES (0, 'x'); SELECT cache_aside.warm('users', 'u:{id}', '5 min')}),
	qr/ERROR:  55000: .*no token.*DETAIL.*HINT/s, 'not in a transaction that has written');
like(complaint(q{SELECT cache_aside.warm('users', 'u:{nope}', '5 min')}), qr/ERROR:  42703/, 'bad template');

# What changes while a warm() runs is refused, and nothing else.
my $session = background_sql($node);
$session->query('BEGIN; DECLARE c CURSOR FOR SELECT 1');
$redis->del('user:1', 'user:2');
sql(q{UPDATE users SET name = 'newer' WHERE id = 1});
wait_delivered($node);
my $stored = $session->query(q{SELECT cache_aside.warm('users', 'user:{id}', '5 min')});
like($stored, qr/2999/, 'a transaction from before the write fills all but what was written');
ok(!$redis->exists('user:1') && $redis->exists('user:2'), 'nothing else');
$session->query('COMMIT');
$session->quit;

# Progress is visible, and a cancel ends it at once.
my $long = background_sql($node, on_error_stop => 0);
$long->query_until(qr/begun/, q{\echo begun
	SELECT cache_aside.warm($$SELECT 'long:' || g, 'v' FROM generate_series(1, 100000000) g$$);
});
ok($node->poll_query_until('postgres',
	'SELECT count(*) = 1 FROM cache_aside.warm_progress WHERE rows > 1000 AND stored > 1000'),
	'warm_progress counts');
is(sql(q{SELECT count(pg_cancel_backend(pid)) FROM cache_aside.warm_progress}), 1, 'cancel');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM cache_aside.warm_progress'),
	'ends it');
like($long->query(q{SELECT 'value: ' || cache_aside.get('long:1')}), qr/value: v/,
	'and the session goes on, with a connection whose answers are its own');
$long->quit;

# ---- audit
$redis->flushall;
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), 'armed again');
sql(q{SELECT cache_aside.warm('users', 'user:{id}', '5 min')});
is(summary(q{'users', 'user:{id}', 1}), '3000|3000|0|0|0|Infinity', 'all fresh');
$redis->del('user:5');
$redis->set('user:6', 'planted by somebody without a token');
$redis->set('user:7', "\xff\xfe");
is(summary(q{'users', 'user:{id}', 1}), '3000|2997|2|1|0|' . sql('SELECT -log(2.0::float8 / 2999)'),
	'stale ones are found');
is(sql(q{SELECT key, cached, expected FROM cache_aside.audit('users', 'user:{id}', 1)
	WHERE verdict = 'stale' ORDER BY key}),
	qq{user:6|planted by somebody without a token|{"id":6,"name":"name 6"}\n}
	  . q{user:7||{"id":7,"name":"name 7"}}, 'and shown');
sql(q{SELECT cache_aside.warm($$SELECT 'name:' || id, name FROM users$$)});
is(summary(q{'users', 'name:{id}', 1, 'SELECT ($1).name'}), '3000|3000|0|0|0|Infinity',
	'values of one\'s own');
my ($checked) = split /\|/, summary(q{'users', 'user:{id}', 0.1});
ok($checked > 150 && $checked < 450, "a sample of a tenth: $checked");

# In flight: what differs because its invalidation is still on the way is not stale.
$redis->flushall;
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), 'armed once more');
sql(q{SELECT cache_aside.warm('users', 'user:{id}', '5 min')});
my $worker = worker_pid($node);
kill 'STOP', $worker;
sql(q{UPDATE users SET name = 'changed' WHERE id <= 5});
$redis->command('CONFIG', 'RESETSTAT');
my $auditor = background_sql($node);
$auditor->query_until(qr/begun/, "\\echo begun
	SELECT 'seen', fresh, stale, in_flight FROM cache_aside.audit_summary('users', 'user:{id}', 1);\n");
ok($redis->wait_until(sub { ($redis->info('cmdstat_getrange') // '') =~ /^calls=3000,/ }),
	'the first pass is over');
kill 'CONT', $worker;
my $found = $auditor->query('SELECT 1');
like($found, qr/seen\|2995\|0\|5/, 'which was in flight, not stale');
$auditor->quit;

like(complaint("SELECT * FROM cache_aside.audit('users', 'user:{id}', $_)"),
	qr/ERROR:  (22023|22004): .*DETAIL.*HINT/s, "sample $_")
  foreach 0, 1.5, -1, "'nan'", 'NULL';
like(complaint(q{BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT * FROM cache_aside.audit('users', 'user:{id}')}), qr/ERROR:  55000: .*HINT/s,
	'needs READ COMMITTED');
like(complaint(q{SELECT * FROM cache_aside.audit('users', 'user:{id}', 1, 'SELECT 1, 2')}),
	qr/ERROR:  22023: .*HINT/s, 'value query of two columns');

$redis->stop;
like(complaint(q{SELECT cache_aside.warm('users', 'user:{id}', '5 min')}),
	qr/ERROR:  08006: no answer.*DETAIL.*HINT/s, 'warm: Redis down is an error');
like(complaint(q{SELECT * FROM cache_aside.audit('users', 'user:{id}')}),
	qr/ERROR:  08006: no answer.*DETAIL.*HINT/s, 'audit too');
is(sql('SELECT count(*) FROM cache_aside.warm_progress'), 0, 'no slot is left behind');

done_testing();
