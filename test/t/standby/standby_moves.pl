# A standby that follows keeps the log from the position on that it finds in Redis. When the settings name
# another Redis it must look there: the one of before may know of nothing, or of much more.
#
# Remedy: ca_role_reconnect() (role.c), called by reload() (worker.c): without the branch of ca_follow_reconnect() the
# standby goes on asking the Redis of before.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
$RedisServer::deadline = 40;
my ($redis, $other) = map { RedisServer->new(name => $_)->start } 'first', 'other';
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 9);
wait_delivered($node);
my $standby = CacheAside->new_standby('standby', $node, redis => $redis);
ok(status_is($standby, 'redis_state', 'connected'), 'it follows');
my $key = position_key($node);
my $clients = sub { return scalar(() = $_[0]->command('CLIENT', 'LIST') =~ /name=cache_aside_standby/g) };

foreach my $to ($other, $redis)
{
	my $from = $to == $redis ? $other : $redis;
	reload_conf($_, 'cache_aside.redis_url' => $to->url) foreach $node, $standby;
	ok(wait_until(sub { $clients->($to) == 1 && $clients->($from) == 0 }), 'it is connected to ' . $to->name) or die 'elsewhere';
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1');
	ok( wait_until(
			sub {
				my (undef, $confirmed) = split / /, $to->get($key) // '- 0/0';
				$confirmed ne '0/0' && status($standby, "confirmed_lsn = '$confirmed'") eq 't';
			}),
		'and shows the position that is there');
}

# The same place under another database's number: nobody has delivered there, so there is nothing to keep.
reload_conf($standby, 'cache_aside.redis_url' => $redis->url =~ s/db=0/db=5/r);
ok(wait_until(sub { $redis->command('CLIENT', 'LIST') =~ /name=cache_aside_standby [^\n]*db=5/ }), 'another database');
ok($standby->poll_query_until('postgres', 'SELECT restart_lsn = read_lsn FROM cache_aside.status'), 'nothing to keep');

$standby->stop;
$node->stop;
done_testing();
