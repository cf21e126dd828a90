# All Sentinels are gone and the master lives: delivery goes on, also after a silence, and status says what is
# wrong; but nobody knows who is the master, so a connection that is lost is not made again until they are back.
# Frozen ones are waited for, but not for long.
#
# Remedy: may_answer() in sentinel.c; without it (all that are connected may answer) the frozen ones hold up each
# delivery.
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
my $set = Sentinel->new(replicas => 1)->start;
my $node = CacheAside->new_node('main', conf => "cache_aside.command_timeout = 60s\ncache_aside.redis_url = '" . $set->url . "'\n");
wait_delivering($node);
make_users($node, 10);
wait_delivered($node);
my $master = $set->master;
my $client = PgWire->new($node);

# The time until the key is gone.
sub delivered_in
{
	my ($id) = @_;
	cache_users($master, $id);
	my $start = time;
	$client->query("UPDATE users SET v = v + 1 WHERE id = $id");
	keys_gone($master, "user:$id") or die 'not delivered';
	return time - $start;
}

# The master has been silent for so long that Sentinels would be asked: the renewals, each two seconds, were answered
# a second ago.
sub wait_for_silence
{
	my $calls = sub { return $master->command('INFO', 'commandstats') =~ /cmdstat_fcall:calls=(\d+)/ && $1; };
	my $before = $calls->();
	wait_until(sub { $calls->() > $before }) or die 'no renewal';
	select undef, undef, undef, 1.1; # what is waited for is that nothing happens
	return;
}

$_->freeze foreach $set->sentinels;
wait_for_silence();
cmp_ok(delivered_in(1), '<', 20, 'frozen: delivery goes on');
cmp_ok(soonest(0.4, sub { wait_for_silence(); return delivered_in(2) }), '<', 0.4, 'frozen, and known to be: it does not wait for them any more');
$_->kill9 foreach $set->sentinels;
ok(status_is($node, 'trouble', 'Sentinel'), 'gone: status says so');
like(status($node, 'hint'), qr/cache_aside\.sentinels/, 'gone: with a hint');
is(status($node, 'state'), 'delivering', 'gone: and that it delivers');
ok( $node->poll_query_until('postgres', q{SELECT count(*) = 3 AND min(master) IS NOT NULL FROM cache_aside.sentinels
		WHERE names IS NULL AND problem LIKE '%refused%'}), 'gone: why is in the view');
cmp_ok(soonest(0.4, sub { delivered_in(3) }), '<', 0.4, 'gone: delivery goes on');

$master->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
ok(status_is($node, 'state', 'waiting'), 'the connection is lost: none is made');
ok(wait_until(sub { status($node, 'last_error') =~ /^Sentinels are silent/ }), 'for nobody says who is the master');
cache_users($master, 4);
$client->query('UPDATE users SET v = v + 1 WHERE id = 4');
(($set->sentinels)[$_])->start foreach 0, 1;
ok(keys_gone($master, 'user:4'), 'two are back: delivered');
ok(status_is($node, 'trouble', ''), 'and nothing is wrong');

$node->stop;
done_testing();
