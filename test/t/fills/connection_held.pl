# The backend's connection to Redis while the user's SQL runs in between: warm() has commands in flight
# when its query asks Redis too, or fills, or fails and is caught. And a prepared statement whose
# argument, if it were evaluated, would drop it while classify() looks at it.
#
# Remedies: holders in connect_redis() of backend_connection.c (without, the connection is freed under warm(): a crash,
# or "no answer"), ca_redis_abandon() in ca_backend_connection_release(), without_literals() in ca_analysis_argument()
# of analysis.c.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "restart_after_crash = on\n");
plan(skip_all => 'no guarded fills in this Redis')
  unless ($redis->command('INFO', 'server') =~ /redis_version:(\d+)/)[0] >= 7;
$node->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, repeat('v', 100) FROM generate_series(1, 5000) g;
	SELECT cache_aside.attach('t', 't:{id}');
	CREATE FUNCTION fails(n int) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		IF n % 1000 = 0 THEN
			PERFORM cache_aside.warm('SELECT ''f:'' || g, 1 / (g - 700) FROM generate_series(1, 900) g');
		END IF;
		RETURN n;
	EXCEPTION WHEN division_by_zero THEN
		RETURN n;
	END$$});
wait_delivered($node);

sub warm
{
	my ($value) = @_;
	my (undef, $out, $err) = $node->psql('postgres',
		"SELECT cache_aside.warm(\$\$SELECT 't:' || id, coalesce($value, v) FROM t\$\$)");
	return $out . ($err =~ /server closed|terminat/ ? ' crashed' : '');
}
is(warm(q{cache_aside.get('t:' || id)}), 5000, 'a query that reads the cache');
is(warm(q{cache_aside.fetch('u:' || id / 50, 'SELECT ''x''', '1 min', VARIADIC '{}')}), 5000, 'one that fills it');
is($redis->command('GET', 'u:7'), 'x', '... with what it fetched');
is(warm(q{CASE WHEN id % 1000 = 0 THEN (SELECT cache_aside.warm('SELECT ''n:'' || g, g FROM generate_series(1, 200) g')::text) END}),
	5000, 'one that warms');
is($redis->command('GET', 't:2000'), 200, '... as much as it was told');
my (undef, $out, $err) = $node->psql('postgres',
	q{SELECT cache_aside.warm($$SELECT 't:' || id, fails(id) FROM t$$); SELECT cache_aside.get('n:7')}, on_error_stop => 0);
like("$out $err", qr/no answer from Redis.*interrupted|^5000\n/s, 'one that warms, fails and is caught: an answer or an error');
like($out, qr/^7$/m, '... and the connection is good again');
like( $node->safe_psql('postgres', q{SELECT string_agg(verdict, ',') FROM (SELECT DISTINCT verdict FROM cache_aside.audit('t', 't:{id}', 1,
		'SELECT coalesce(cache_aside.get(''t:'' || ($1).id), ($1).v)')) a}), qr/^fresh$/, 'audit() with a query that reads the cache');

$node->safe_psql('postgres', q{
	CREATE FUNCTION drops(text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		DEALLOCATE ALL;
		PERFORM repeat('x', 100000);
		RETURN true;
	END$$;
	CREATE DOMAIN dropping AS text CHECK (drops(value)); CREATE TYPE pair AS (a dropping)});
is($node->safe_psql('postgres', q{PREPARE p(pair) AS SELECT count(*) FROM t WHERE v = ($1).a;
	SELECT read_only, reason FROM cache_aside.classify($$EXECUTE p('(x)'::pair)$$);
	SELECT count(*) FROM pg_prepared_statements}), "f|function public.drops() is volatile and may write\n1",
	'classify() does not evaluate arguments: the statement is still there')
  or diag(log_since($node) =~ s/.*(?=ERROR)//sr);
unlike(log_since($node), qr/terminated by signal|TRAP/, 'nothing crashed');
done_testing();
