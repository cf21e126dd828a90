# A fail-over is heard of when the Sentinel speaks up whose word makes the majority, whichever it is. Here the first two of
# five are frozen, which nobody finds out for a minute; the last learns by itself, the other two from what it tells them.
# A subscription that ends is made anew.
#
# Remedy: step_listener() in sentinel.c, for each of them. With one subscription, at the first that lets us, it is found out by
# the questions of each second: by half a second late on the average.
use strict;
use warnings;

use CacheAside;
use Faults;
use List::Util 'sum';
use RedisServer;
use Sentinel;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $set = Sentinel->new(sentinels => 5, period => 300)->start;
my @sentinels = $set->sentinels;
my $node = CacheAside->new_node('main', conf => "cache_aside.command_timeout = 60s\ncache_aside.redis_url = '" . $set->url . "'\n");
wait_delivering($node);

# Of the worker's connections there, those that subscribed.
sub listeners { return scalar(() = $_[0]->command('CLIENT', 'LIST') =~ /name=cache_aside\S* \N* sub=1 /g); }

ok(wait_until(sub { !grep { listeners($_) != 1 } @sentinels }), 'it listens to each');
$_->command('CLIENT', 'KILL', 'TYPE', 'pubsub') foreach @sentinels[ 2 .. 4 ];
ok(wait_until(sub { !grep { listeners($_) != 1 } @sentinels }), 'killed: it listens again');

my @late;
$_->freeze foreach @sentinels[ 0, 1 ];
foreach my $time (1 .. 3)
{
	my $new = $set->hand_over(by => 4);
	my $begun = time;
	status_is($node, 'endpoint', '127.0.0.1:' . $new->port . '/0') or die 'it does not follow';
	push @late, time - $begun;
	wait_until(sub { $new->info('connected_slaves') == 2 }) or die 'no replicas' if $time < 3;
}
note "heard of after @late s";
cmp_ok(sum(@late), '<', 0.6, 'each time it knows of another master as soon as a majority does');

$node->stop;
done_testing();
