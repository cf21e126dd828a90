# A standby whose primary's Redis is behind Sentinels looks at the master that they name, as long as it only follows. With a Redis of
# its own region behind them (delivery = always) it delivers there, through a fail-over, and goes on when it is promoted; its
# backends go where its worker is.
#
# Remedy: ca_watch_moved() in ca_followed_step() (followed.c); still_good() in backend_connection.c, which minds
# ca_master_generation(): without it a backend asks the old master as long as that answers.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use RedisServer;
use Sentinel;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $set = Sentinel->new(replicas => 1)->start;
my $url = "cache_aside.redis_url = '" . $set->url . "'\n";
my $primary = CacheAside->new_node('primary', conf => $url);
make_users($primary, 20);
my $standby = CacheAside->new_standby('standby', $primary, conf => $url);
my $client = PgWire->new($standby);
my $id = 0;

sub is_at
{
	my ($node, $master, $what) = @_;
	return ok(status_is($node, 'endpoint', '127.0.0.1:' . $master->port . '/0'), $what);
}

sub is_delivered
{
	my ($master, $what, $writer) = @_;
	$id++;
	cache_users($master, $id);
	is($client->query("SELECT cache_aside.get('user:$id')")->{rows}[0][0], 'cached', "$what: a backend of the standby reads there");
	like($master->command('CLIENT', 'LIST'), qr/name=cache_aside.backend/, "$what: ... in fact");
	$writer->safe_psql('postgres', "UPDATE users SET v = v + 1 WHERE id = $id");
	return ok(keys_gone($master, "user:$id"), "$what: delivered");
}

my $first = $set->master;
is_at($standby, $first, 'it follows, and looks at the master');
my $second = $set->hand_over;
my $begun = time;
is_at($standby, $second, 'handed over: at the other');
cmp_ok(time - $begun, '<', 4, '... before the old one is demoted, which would close its connections');
$_->command('SENTINEL', 'DEBUG', 'PUBLISH-PERIOD', 300, 'INFO-PERIOD', 300) foreach $set->sentinels;
is_delivered($second, 'handed over', $primary);

reload_conf($primary, 'cache_aside.redis_url' => $redis->url);
wait_delivering($primary);
reload_conf($standby, 'cache_aside.delivery' => 'always');
wait_delivering($standby);
is_delivered($second, 'the standby delivers', $primary);
$set->wait_settled;
my $third = $set->hand_over;
is_at($standby, $third, 'handed over again: the standby is at the other');
is_delivered($third, 'handed over again', $primary);
$primary->stop('immediate');
$standby->promote;
is_delivered($third, 'promoted', $standby);

$standby->stop;
done_testing();
