# The view endpoints: a row for each Redis, which says what the status says, what is under way there, and what
# was acknowledged; on a standby that follows, what the primary wrote there.
#
# Remedies: ca_endpoint_progress() in publish() (round.c): nothing is under way, nothing acknowledged; in
# ca_session_close() (session.c): what was under way is for ever; in handle_position() (followed.c): the standby
# knows no position; ca_endpoint_error() in ca_outage_begin() (outage.c): no reason.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "cache_aside.command_timeout = 30s\ncache_aside.connect_timeout = 30s\n");
make_users($node, 10);
wait_delivered($node);

sub endpoint_is
{
	my ($server, $condition, $name) = @_;
	return ok($server->poll_query_until('postgres', "SELECT $condition FROM cache_aside.endpoints"), $name);
}

is($node->safe_psql('postgres', 'SELECT count(*) FROM cache_aside.endpoints'), '1', 'one Redis, one row');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cache_aside.endpoints e, cache_aside.status s
	WHERE (e.endpoint, e.redis_state, e.redis_since, e.redis_version)
		= (s.endpoint, s.redis_state, s.redis_since, s.redis_version)}), '1', 'it says what the status says');
like($node->safe_psql('postgres', 'SELECT redis_version FROM cache_aside.endpoints'), qr/^\d+\.\d+/, 'the version');
endpoint_is($node, 'in_flight = 0 AND last_error IS NULL
	AND acknowledged_lsn = (SELECT confirmed_lsn FROM cache_aside.status)', 'all was acknowledged');

my $standby = CacheAside->new_standby('standby', $node, redis => $redis);
endpoint_is($standby, "redis_state = 'connected' AND in_flight = 0
	AND acknowledged_lsn = (SELECT confirmed_lsn FROM cache_aside.status)", 'a standby knows the position');

$redis->freeze;
my $lsn = $node->lsn('insert');
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
endpoint_is($node, "in_flight > 0 AND acknowledged_lsn <= '$lsn' AND redis_state = 'connected'", 'a call is under way');
$redis->thaw;
endpoint_is($node, "in_flight = 0 AND acknowledged_lsn > '$lsn'", 'then it is answered');
endpoint_is($standby, "acknowledged_lsn > '$lsn'", 'the standby reads of it');

$redis->freeze;
$lsn = $node->lsn('insert');
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 2');
endpoint_is($node, 'in_flight > 0', 'another one');
$redis->kill9;
endpoint_is($node, "redis_state = 'unreachable' AND in_flight = 0 AND acknowledged_lsn <= '$lsn'", 'Redis died');
endpoint_is($node, q{last_error ~ 'connect|connection' AND last_error_at > now() - interval '1 minute'}, 'with the reason');
endpoint_is($standby, "redis_state = 'unreachable' AND last_error IS NOT NULL", 'the standby notices it, too');
my $error = $node->safe_psql('postgres', 'SELECT last_error_at FROM cache_aside.endpoints');
my $worker = worker_pid($node);
kill 'TERM', $worker;
$node->poll_query_until('postgres', "SELECT pid <> $worker AND redis_state = 'unreachable' FROM cache_aside.status");
endpoint_is($node, "last_error_at >= '$error' AND acknowledged_lsn IS NOT NULL", 'a new worker goes on from there');
$redis->start;
endpoint_is($node, "redis_state = 'connected' AND in_flight = 0 AND acknowledged_lsn > '$lsn'", 'all is delivered');

done_testing();
