# The server dies under load, by immediate stop and by kill -9 of the postmaster, again and again, with
# Redis up, frozen and down meanwhile. After each restart every key of a committed row is gone, and no
# other is missing.
#
# Fails when open_tap() (run.c) reads on from the end of the log (catch_up_to) and not from
# the position's restart LSN.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "autovacuum = off\n");
make_users($node, 20_000);

my %stop = (immediate => sub { $node->stop('immediate') }, 'kill -9' => sub { kill_server($node) });
my %redis = (
	up => [ sub { }, sub { } ],
	frozen => [ sub { $redis->freeze }, sub { $redis->thaw } ],
	'stopped, with its data' => [ sub { $redis->save->stop }, sub { $redis->start } ]);
foreach my $stop (sort keys %stop)
{
	foreach my $state (sort keys %redis)
	{
		my $what = "$stop, Redis $state";
		$node->safe_psql('postgres', 'UPDATE users SET v = 0 WHERE v > 0');
		wait_delivered($node);
		cache_users($redis, 1 .. 20_000);
		my $load = start_pgbench($node, 4, mixed_writes(20_000));
		my $done = 'SELECT count(*) >= 500 FROM users WHERE v > 0';
		$node->poll_query_until('postgres', $done) or die 'no load';
		$redis{$state}[0]->();
		$node->poll_query_until('postgres', $done =~ s/500/1000/r) or die 'no load';
		$stop{$stop}->();
		stop_pgbench($load);
		$redis{$state}[1]->();
		$node->start;
		wait_delivered($node);
		my $found = compare($node, $redis);
		cmp_ok($found->{written}, '>=', 1000, "$what: rows were written");
		is($found->{stale}, '', "$what: every key of a committed row is gone");
		is($found->{lost}, '', "$what: every other key is there");
	}
}

$node->stop;
done_testing();
