# Sentinels name the master by a host name (resolve-hostnames, announce-hostnames), by an address that is not the one it is bound
# to first (as replica-announce-ip behind NAT has it), or by one of IPv6. The name is looked up, the address taken as it is, and another
# by the same rule followed.
#
# Remedy: read_host() in sentinel.c takes names and colons; without either no majority is understood.
use strict;
use warnings;

use CacheAside;
use Faults;
use IO::Socket::IP;
use RedisServer;
use Sentinel;
use Test::More;

RedisServer->skip_all_unless_available;
my @hosts = ('localhost', '127.0.0.2');
push @hosts, '::1' if IO::Socket::IP->new(LocalHost => '::1', Listen => 1);
my $node = CacheAside->new_node('main', start => 0);
foreach my $host (@hosts)
{
	my $set = Sentinel->new(sentinels => 1, replicas => 1, host => $host)->start;
	my $shown = $host =~ /:/ ? "[$host]" : $host;
	$node->append_conf('postgresql.conf', "cache_aside.redis_url = '" . $set->url . "'\n");
	$host eq $hosts[0] ? $node->start : $node->reload;
	$node->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS cache_aside');
	my $master = $set->master;
	ok(status_is($node, 'endpoint', "$shown:" . $master->port . '/0'), "$host: named") or diag(status($node, 'last_error'));
	wait_delivering($node);
	make_users($node, 10) if $host eq $hosts[0];
	is($node->safe_psql('postgres', q{SELECT error IS NULL FROM cache_aside.ping()}), 't', "$host: ping");
	my $next = $set->hand_over;
	ok(status_is($node, 'endpoint', "$shown:" . $next->port . '/0'), "$host: another is followed");
	cache_users($next, 1);
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
	ok(keys_gone($next, 'user:1'), "$host: and delivered to");
	is($node->safe_psql('postgres', 'SELECT sentinel FROM cache_aside.sentinels WHERE agrees'), "$shown:" . ($set->sentinels)[0]->port,
		"$host: the view names the Sentinel as it is listed");
	$set->stop;
}

$node->stop;
done_testing();
