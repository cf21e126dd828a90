# A standby that was told of no Redis: it replays, gives tokens, and says in status and log what is missing; one
# that is told later connects. Promoted without one it is misconfigured, and delivers once it is told.
#
# Remedy: ca_outage_misconfigured in follow_redis (follow.c); current_duty in role.c.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $primary = CacheAside->new_node('primary', redis => $redis);
$primary->safe_psql('postgres', q{CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
	SELECT cache_aside.attach('t', 't:{id}')});
wait_delivered($primary);
my $standby = CacheAside->new_standby('standby', $primary, conf => "cache_aside.redis_url = 'nonsense'\n");
$primary->wait_for_catchup($standby, 'replay');

sub says
{
	my ($state) = @_;
	return status_is($standby, "state || ' ' || redis_state", $state);
}

ok(says('standby misconfigured'), 'it follows, and says that it knows no Redis');
like(status($standby, 'last_error'), qr/was refused: It must begin with/, 'and why');
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (2); CHECKPOINT');
ok($standby->poll_query_until('postgres', 'SELECT cache_aside.read_token() IS NOT NULL'), 'it gives tokens');
$standby->append_conf('postgresql.conf', "cache_aside.redis_url = '" . $redis->url . "'\n");
$standby->reload;
ok(says('standby connected'), 'told of one, it connects');
my @lines = log_since($standby, 0) =~ /cache_aside has no Redis to deliver to/g;
is(scalar @lines, 1, 'the log said it once');

# Its line goes: it hangs up, and a promotion without a Redis loses nothing.
my $conf = $standby->data_dir . '/postgresql.conf';
my $text = slurp_file($conf) =~ s/^cache_aside\.redis_url.*\n//mgr;
open my $fh, '>', $conf or die $!;
print $fh $text;
close $fh;
$standby->reload;
ok(says('standby misconfigured'), 'it is taken away while it follows');
$primary->stop;
$standby->promote;
ok(says('misconfigured misconfigured'), 'promoted, it still knows none');
$redis->set('t:1', 'old');
$standby->safe_psql('postgres', 'UPDATE t SET id = id');
$standby->append_conf('postgresql.conf', "cache_aside.redis_url = '" . $redis->url . "'\n");
$standby->reload;
ok(says('delivering connected'), 'told of one, it delivers');
wait_delivered($standby);
is(is_cached($redis, 't:1'), 0, 'what was committed before, too');

$standby->stop;
done_testing();
