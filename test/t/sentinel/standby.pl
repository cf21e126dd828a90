# A standby delivers to a Redis of its own region, behind Sentinels there (delivery = always): it follows their fail-overs like a
# primary, and backends of the standby go where its worker is. One that only follows asks those Sentinels where to look, and after a
# promotion it delivers there.
#
# Remedy: ca_watch_find() where the standby's worker connects; backends: ca_master_current() in master.c.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Sentinel;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $set = Sentinel->new(replicas => 1, period => 300)->start;
my $primary = CacheAside->new_node('primary', redis => $redis);
make_users($primary, 20);
my $standby = CacheAside->new_standby('standby', $primary,
	conf => "cache_aside.delivery = always\ncache_aside.redis_url = '" . $set->url . "'\n");
wait_delivering($standby);
my $id = 0;

sub endpoint { return '127.0.0.1:' . $_[0]->port . '/0'; }

sub is_delivered
{
	my ($master, $what, $writer) = @_;
	$id++;
	cache_users($master, $id);
	is($standby->safe_psql('postgres', "SELECT cache_aside.get('user:$id')"), 'cached', "$what: a backend of the standby reads there");
	$writer->safe_psql('postgres', "UPDATE users SET v = v + 1 WHERE id = $id");
	return ok(keys_gone($master, "user:$id"), "$what: delivered");
}

my $first = $set->master;
is(status($standby, 'endpoint'), endpoint($first), 'the standby is at its own master');
is_delivered($first, 'at first', $primary);
$first->kill9;
my $second = $set->wait_for_another($first);
ok(status_is($standby, 'endpoint', endpoint($second)), 'killed: the standby follows');
is_delivered($second, 'killed', $primary);
is(status($primary, 'endpoint'), $redis->url =~ s{unix://}{}r, 'the primary is where it was');

$first->start;
$set->wait_settled;
$primary->stop('immediate');
$standby->promote;
my $third = $set->hand_over;
ok(status_is($standby, 'endpoint', endpoint($third)), 'promoted, and handed over: follows');
is_delivered($third, 'promoted', $standby);

$standby->stop;
done_testing();
