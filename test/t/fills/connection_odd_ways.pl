# A backend's connection to Redis in odd moments: while a cursor is open, between the rows that warm()
# reads, in a deferred trigger, in a fetch inside a fetch, after errors that are caught, after a crash. It
# is closed when idle and only then, and no place is lost or given back twice.
#
# Remedies: ca_allowance_stop_clock() in connect_redis() of backend_connection.c (without, it is closed under warm());
# `taken` in ca_allowance_give_back() of allowance.c (without, the count falls below zero).
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
plan(skip_all => 'no guarded fills in this Redis') if (RedisServer->version)[0] < 7;
$redis->set('k', 'v');
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
cache_aside.max_backend_connections = 2
cache_aside.backend_idle_timeout = 50ms
cache_aside.command_timeout = 5s
max_prepared_transactions = 2
restart_after_crash = on
EOC
$node->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 200) g;
	CREATE TABLE d (v text);
	CREATE FUNCTION reads() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN RAISE NOTICE 'deferred %', cache_aside.get('k'); RETURN NULL; END$$;
	CREATE CONSTRAINT TRIGGER reads AFTER INSERT ON d DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION reads();
	SELECT cache_aside.attach('t', 't:{id}')});
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), 'fills are admitted');

sub session { return background_sql($node, on_error_stop => 0); }
sub sql { my ($session, $text) = @_; return $session->query($text) =~ s/\s+\z//r; }
sub places { my ($n) = @_; return $node->poll_query_until('postgres', 'SELECT backend_connections FROM cache_aside.status', $n); }
my $get = q{SELECT cache_aside.get('k')};

my $s = session();
is(sql($s, "BEGIN; DECLARE c CURSOR FOR SELECT cache_aside.get('k') FROM generate_series(1, 3); FETCH c"), 'v', 'a cursor');
ok(places(0), '... idle between two fetches');
is(sql($s, 'FETCH 2 FROM c; COMMIT'), "v\nv", '... goes on');
my $begun = time;
is(sql($s, q{SELECT cache_aside.warm('SELECT ''t:'' || id, v || pg_sleep(0.004) FROM t')}), 200, 'warm() with a slow query');
cmp_ok(time - $begun, '>', 0.5, '... much longer than the idle time');
is(sql($s, q{SELECT cache_aside.fetch('outer', 'SELECT cache_aside.fetch(''inner'', ''SELECT pg_sleep(0.2)::text || cache_aside.get(''''k'''')'', ''1 min'')', '1 min')}),
	'v', 'a fetch in a fetch');
is($redis->get('outer') . $redis->get('inner'), 'vv', '... both are stored');
is($s->query(q{INSERT INTO d VALUES ('x')}) // '', '', 'a deferred trigger');
like($s->{stderr}, qr/deferred v/, '... reads at COMMIT');
is(sql($s, "BEGIN; INSERT INTO d VALUES ('x'); $get; PREPARE TRANSACTION 'p'"), 'v', 'a prepared transaction');
sql($s, "COMMIT PREPARED 'p'; DISCARD ALL");
$begun = time;
is(sql($s, "$get, pg_sleep(1)"), 'v|', 'the clock ticks');
cmp_ok(time - $begun, '>=', 1, '... and ends no sleep');
ok(places(0), 'no place is taken');

# ---- errors that are caught, more often than there are places
my $catches = sub {
	my ($body) = @_;
	return qq{DO \$\$BEGIN FOR i IN 1..5 LOOP BEGIN $body; EXCEPTION WHEN OTHERS OR query_canceled THEN NULL; END; END LOOP; END\$\$};
};
$redis->command('RPUSH', 'list', 'x');
foreach my $body (q{PERFORM cache_aside.get('list')}, q{PERFORM cache_aside.fill('k2', 'v', '-1 s')},
	q{PERFORM cache_aside.warm('SELECT ''w:'' || g, 1 / (g - 500) FROM generate_series(1, 900) g')},
	q{PERFORM cache_aside.fetch('e', 'SELECT 1 / 0', '1 min')}, q{PERFORM 1 / (length(cache_aside.get('k')) - 1)})
{
	sql($s, $catches->($body));
	is(sql($s, $get), 'v', "after: $body");
}
$redis->freeze;
sql($s, "SET statement_timeout = 100; " . $catches->(q{PERFORM cache_aside.get('k')}) . '; SET statement_timeout = 0');
$redis->thaw;
ok(places(0), 'no place is lost');
my @sessions = map { session() } 1 .. 4;
foreach my $round (1 .. 2) { is(sql($_, $get), 'v', 'and none too many given back') foreach @sessions; }
cmp_ok(status($node, 'backend_connections'), '<=', 2, 'as many as there are');

# ---- a crash
my $pid = sql($sessions[0], "$get; SELECT pg_backend_pid()") =~ s/.*\n//r;
reload_conf($node, 'cache_aside.backend_idle_timeout' => '1h');
is(sql($_, $get), 'v', 'places are taken') foreach @sessions[ 1, 2 ];
kill 'KILL', $pid;
ok($node->poll_query_until('postgres', 'SELECT backend_connections = 0 FROM cache_aside.status', 't'), 'after a crash all are free');
is($node->safe_psql('postgres', $get), 'v', '... and can be taken');
unlike(log_since($node), qr/TRAP|PANIC/, 'nothing else crashed');
done_testing();
