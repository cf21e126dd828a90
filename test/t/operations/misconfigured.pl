# A server that was told of no Redis uses none: not the default port of this machine, where a stranger's may
# listen. Status, log and SQL functions say so; commits go on and a reload that names a Redis loses none of them;
# at a reload what cannot be used leaves the old one in force.
#
# Remedy: the empty boot value (define_redis_settings in cache_aside.c); MISCONFIGURED in role.c and
# ca_outage_misconfigured in outage.c (without: an outage with attempts, "unreachable"); ca_redis_url_require in
# backend_connection.c (without: a warning and a miss).
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $url = $redis->url;
my $node = CacheAside->new_node('main', conf => "cache_aside.synchronous_timeout = 60s\n");
my $hint = qr/HINT: +Set cache_aside\.redis_url in the configuration/;
my $said = qr/cache_aside has no Redis to deliver to/;

sub count_of { return scalar(() = log_since($node, 0) =~ /$_[0]/g); }

sub misconfigured
{
	my ($when, $why) = @_;
	ok(status_is($node, "state || ' ' || redis_state || ' ' || coalesce(endpoint, 'nowhere')", 'misconfigured misconfigured nowhere'),
		"$when: status says so");
	like(status($node, 'last_error'), $why, "$when: and why");
	return;
}

sub sql
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql);
	return ($rc, $out, $err);
}

# ---- none was named
is(status($node, 'reconnects'), '0', 'nobody tried to connect');
misconfigured('none', qr/^cache_aside\.redis_url is not set$/);
is($node->safe_psql('postgres', 'SHOW cache_aside.redis_url'), '', 'there is no default');
like(log_since($node, 0), qr/LOG: +$said: cache_aside\.redis_url is not set.*?$hint/s, 'the log says so, with a hint');
$node->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3);
	SELECT cache_aside.attach('t', 't:{id}')});
foreach my $call (q{get('t:1')}, q{fill('t:1', 'v')}, q{fetch('t:1', 'SELECT $1', '1 min', '1')}, q{warm('SELECT 1, 2', '1 min')},
	q{audit('t', 't:{id}', 1)}, q{stuck_at('x')})
{
	my ($rc, undef, $err) = sql("SELECT cache_aside.$call");
	like($err, qr/ERROR: +cache_aside\.redis_url is not set.*$hint/s, "$call raises, with a hint");
}
like($node->safe_psql('postgres', 'SELECT error FROM cache_aside.ping()'), qr/redis_url is not set/, 'ping tells it');
my (undef, undef, $warned) = sql('SET cache_aside.synchronous = on; UPDATE t SET id = id WHERE id = 1');
like($warned, qr/WARNING.*this server does not deliver.*Its keys are in the log/s, 'a synchronous committer is told at once');
my (undef, undef, $created) = sql('DROP EXTENSION cache_aside CASCADE; CREATE EXTENSION cache_aside');
like($created, qr/WARNING: +cache_aside\.redis_url is not set.*$hint/s, 'CREATE EXTENSION warns');
$node->safe_psql('postgres', q{SELECT cache_aside.attach('t', 't:{id}')});

# ---- a reload with a good one
$redis->set("t:$_", 'old') foreach 1 .. 3;
reload_conf($node, 'cache_aside.redis_url' => $url);
wait_delivered($node);
is(status($node, 'state'), 'delivering', 'a reload that names a Redis begins delivery');
like(log_since($node, 0), qr/cache_aside connects to Redis at \Q@{[ $redis->socket ]}\E/, 'and the log says that too');
ok(keys_gone($redis, 't:1'), 'what was committed before is gone');

# ---- taken away while it runs: as an outage
$redis->set("t:$_", 'old') foreach 1 .. 3;
my $resyncs = status($node, 'resyncs');
my $before = status($node, 'confirmed_lsn');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET cache_aside.redis_url');
$node->reload;
misconfigured('taken away', qr/is not set/);
$node->safe_psql('postgres', 'UPDATE t SET id = id WHERE id = 2; SELECT pg_switch_wal(); CHECKPOINT;');
is($node->safe_psql('postgres', q{SELECT restart_lsn <= (SELECT restart_lsn FROM cache_aside.status)
	FROM pg_replication_slots WHERE slot_name = 'cache_aside'}), 't', 'the log is kept');
is(is_cached($redis, 't:2'), 1, 'nothing is delivered');
reload_conf($node, 'cache_aside.redis_url' => $url);
wait_delivered($node);
is(join(' ', (map { is_cached($redis, "t:$_") } 1 .. 3), status($node, 'resyncs') - $resyncs), '1 0 1 0',
	'then exactly what was missing is');

# ---- a bad one at a reload: the old one stays
my $told = count_of($said);
$node->safe_psql('postgres', 'ALTER SYSTEM RESET cache_aside.redis_url');
$node->append_conf('postgresql.conf', "cache_aside.redis_url = '$url'\ncache_aside.redis_url = 'redis://:secret\@'\n");
my $position = log_position($node);
$node->reload;
ok(wait_until(sub { log_since($node, $position) =~ /contains errors/ }), 'a bad one is refused');
$node->safe_psql('postgres', 'UPDATE t SET id = id WHERE id = 3');
wait_delivered($node);
is(is_cached($redis, 't:3') . ' ' . status($node, 'state'), '0 delivering', 'and the old one stays in force');
is(count_of($said), $told, 'nothing else is said');

# ---- a bad one at the start, which core takes for none; and an empty one
$redis->set('t:1', 'old');
foreach (
	[ 'refused', qr/DETAIL: +The host is missing/, qr/was refused: The host is missing\.$/ ],
	[ 'empty', qr/DETAIL: +It is empty/, qr/was refused: It is empty\.$/, "cache_aside.redis_url = ''\n" ])
{
	my ($what, $log, $error, $conf) = @$_;
	$node->append_conf('postgresql.conf', $conf) if $conf;
	$node->stop;
	$position = log_position($node);
	$node->start;
	misconfigured($what, $error);
	like(log_since($node, $position), qr/invalid value for parameter "cache_aside\.redis_url".*?$log.*?$said: .*?$hint/s,
		"$what: the log names the setting, the reason and what to do");
	unlike(log_since($node, $position), qr/secret/, "$what: and never the value");
	$node->safe_psql('postgres', 'UPDATE t SET id = id WHERE id = 1');
	my $before = count_of($said);
	$node->reload;
	misconfigured("$what, reload", $error);
	is(count_of($said), $before, "$what: said once");
	is(is_cached($redis, 't:1') . ' ' . status($node, 'reconnects'), '1 0', "$what: nothing is delivered, nobody tried");
}
$node->append_conf('postgresql.conf', "cache_aside.redis_url = '$url'\n");
$node->reload;
status_is($node, 'state', 'delivering');
wait_delivered($node);
is(is_cached($redis, 't:1'), 0, 'and a good one makes good what was missing');
is(count_of($said), 4, 'each was said once');

$node->stop;
done_testing();
