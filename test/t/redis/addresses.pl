# A name with many addresses: the next one begins a quarter of a second after the one before, or as soon as that failed;
# the first that is connected is taken, and the others are closed. IPv6 first, then in turn. So of the worker and of
# a backend. Runs in namespaces of its own, with a name server, and with listeners that let nobody in.
#
# Remedy: next_at in begin_next of dial.c (without: an address that swallows everything has half of connect_timeout);
# win there (without: sockets are left behind); advance_connect there, where it begins the next one while the others
# go on (without: who answers late never wins); copy_addresses in resolve.c (without: IPv4 comes behind all that there is of IPv6, which is
# more than are tried).
use strict;
use warnings;

use lib 'test/perl';
use OwnNetwork;
use CacheAside;
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
OwnNetwork::add_address($_) foreach '10.9.9.9', map { "fd00::$_" } 1 .. 17;
OwnNetwork::serve_names(
	hole => [qw(127.0.0.7 127.0.0.200)],    # in this order for glibc: what has less in common with 127.0.0.1 comes later
	refused => [qw(127.0.0.5 127.0.0.200)],
	both => [qw(127.0.0.1 ::1)],
	six => [qw(fd00::17 127.0.0.200)],
	turns => [ (map { "fd00::$_" } 1 .. 16), "127.0.0.200" ],
	late => [qw(127.0.0.1 127.0.0.7)],
	many => [ map { "127.0.0.$_" } 7, 11 .. 15, 200 ],
	holes => [qw(127.0.0.7 127.0.0.11)],
	nowhere => [qw(127.0.0.5 ::5)]) or plan skip_all => 'cannot replace /etc/resolv.conf';
my $redis = RedisServer->new(port => 1, conf => "bind 127.0.0.1 127.0.0.200 ::1\ntcp-backlog 1\n")->start;
my $port = $redis->port;
my %holes = map { $_ => OwnNetwork::make_hole($_, $port) } (map { "fd00::$_" } 1 .. 16), map { "127.0.0.$_" } 7, 11 .. 15;
my $node = CacheAside->new_node('main', conf => "cache_aside.redis_url = 'redis://127.0.0.1:$port'\ncache_aside.connect_timeout = 40s\n");
wait_delivering($node);
my $pid = worker_pid($node);

sub reader { my ($node) = @_; return ($node->psql('postgres', q{SELECT cache_aside.get('x')}))[2]; }

sub clients { return map { /addr=(\S+):\d+ .*name=cache_aside_worker/ } split /\n/, $redis->command('CLIENT', 'LIST'); }

sub sockets { return scalar grep { (readlink // '') =~ /^socket:/ } glob "/proc/$pid/fd/*"; }

# How long a backend, and the worker, need to the Redis of that name
sub connects
{
	my ($name, $most) = @_;
	reload_conf($node, 'cache_aside.redis_url' => "redis://$name.test:$port");
	my $begin = time;
	is(reader($node), '', "$name: a backend reads");
	my $needed = time - $begin;
	cmp_ok($needed, '<', $most, "$name: soon enough");
	ok(status_is($node, "endpoint || ' ' || redis_state", "$name.test:$port/0 connected"), "$name: the worker is connected")
	  or diag(status($node, 'last_error'));
	cmp_ok(time - $begin, '<', 2 * $most, "$name: soon, too");
	return $needed;
}

# ---- one that swallows everything before a good one
my $sockets = sockets();
cmp_ok(connects('hole', 8), '>', 0.2, 'hole: it had its quarter of a second');
is(sockets(), $sockets, 'what was tried beside it is closed');
cmp_ok(connects('many', 8), '>', 1.2, 'many: each had its turn');
is(sockets(), $sockets, 'all the others are closed');

# ---- one that refuses: no pause
connects('refused', 8);
connects('six', 8);

# ---- IPv6 first, and then in turn
connects('both', 8);
like((clients())[0], qr/^\[?::1\]?$/, 'both: by IPv6');
connects('turns', 8);

# ---- the one that began first and answers while the second is tried
$redis->freeze;
my $queue = OwnNetwork::fill_queue('127.0.0.1', $port);
$node->safe_psql('postgres', "ALTER SYSTEM SET cache_aside.redis_url = 'redis://late.test:$port'");
$node->reload;
ok(wait_until(sub { sockets() == $sockets + 1 }), 'two are tried at a time') or diag(sockets());
$redis->thaw;
ok(status_is($node, "endpoint || ' ' || redis_state", "late.test:$port/0 connected"), 'the first is still heard');
is(sockets(), $sockets, 'and the second closed');
undef $queue;

# ---- none of them
sub fails
{
	my ($name, $timeout, $error) = @_;
	reload_conf($node, 'cache_aside.redis_url' => "redis://$name.test:$port", 'cache_aside.connect_timeout' => $timeout);
	like(reader($node), qr/WARNING: .*$error/, "$name: a backend is told");
	ok(wait_until(sub { status($node, 'last_error') =~ /$error/ }), "$name: so is status") or diag(status($node, 'last_error'));
	return;
}

fails('holes', '700ms', 'time-out after 700 ms while connecting');
fails('nowhere', '700ms', 'could not connect: Connection refused');
ok(wait_until(sub { sockets() < $sockets }), 'nothing is left open') or diag(sockets());

# ---- a time-out that is too short for quarters of a second
reload_conf($node, 'cache_aside.redis_url' => "redis://hole.test:$port", 'cache_aside.connect_timeout' => '240ms');
ok(status_is($node, "endpoint || ' ' || redis_state", "hole.test:$port/0 connected"), 'a short time-out is shared');
is(worker_pid($node), $pid, 'the same worker all the time');
done_testing();
