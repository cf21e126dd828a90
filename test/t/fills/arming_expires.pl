# A Redis that was replaced without a copy, and comes back so, still has its memory: armed, with the guard
# that its data hold. It must not admit a value that misses what was deleted elsewhere meanwhile, if anybody
# was told that it is.
#
# Fails when an arming does not end by itself (is_armed() in library/fill.lua without left_until): the old
# Redis stores the old value after the COMMIT was told. Fails when the worker tells at once on a process
# that it did not claim last (ca_arming_untold() in arming.c): the same, a few seconds earlier. The last two fail when the file does not keep
# the claim's nonce (ca_breaker_note_claim() in breaker.c).
use strict;
use warnings;

use CacheAside;
use Faults;
use HandWorker;
use PgClient;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;

# ---- the library alone
my ($first, $second) = map { RedisServer->new(name => $_)->start } 'first', 'second';
my $worker = HandWorker->new($first);
$worker->claim;
$worker->arm('0/1', $worker->now + 300);
is($worker->fill('k', 'v', '0/1'), 1, 'armed: stored');
ok($first->wait_until(sub { $worker->fill('k', 'v', '0/1') == 0 }), 'the arming ends by itself');
is($worker->renew($worker->now - 1)->[0], 1, 'a renewal that waited too long ...');
is($worker->fill('k', 'v', '0/1'), 0, '... extends nothing');
$worker->renew($worker->now + 60_000);
is($worker->fill('k', 'v', '0/1'), 1, 'renewed: stored');
$first->command('PEXPIREAT', $worker->guard_key, 4102444800000 + 500);
is($worker->fill('k', 'v', '0/1'), 1, 'the clock goes back half a second: stored');
$first->command('PEXPIREAT', $worker->guard_key, 4102444800000 + 5000);
is($worker->fill('k', 'v', '0/1'), 0, 'five seconds: not armed any more');
$first->command('PERSIST', $worker->guard_key);
is($worker->fill('k', 'v', '0/1'), 0, 'a guard without its time is not believed');
is($worker->claim->[5], 1, 'the process that was claimed last says so');
$worker->{nonce} = 'x' x 16;
is($worker->claim->[5], 0, 'and one that was not');
$first->flushall;

# ---- a worker, and two Redis behind an address
my $address = $first->dir . '/address.sock';
symlink $first->socket, $address or die $!;
my $node = CacheAside->new_node('main', conf => "cache_aside.redis_url = 'unix://$address'\n");
make_users($node, 2);
wait_delivered($node);
my $c = PgClient->new(dir => $node->host, port => $node->port);

sub hang_up { return $_[0]->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'); }

sub put_there
{
	my ($redis) = @_;
	symlink $redis->socket, "$address.new" or die $!;
	rename "$address.new", $address or die $!;
	return;
}

sub reading { return @{ ($c->query('SELECT v, cache_aside.read_token() FROM users WHERE id = 1'))[0] }; }

sub fill
{
	my ($redis, $v, $token) = @_;
	return 0 unless defined $token;
	return $redis->command('FCALL', 'cache_aside_fill', 1, 'user:1', $v, 600_000, $token);
}

ok(wait_until(sub { fill($first, reading()) }), 'fills are admitted');
my ($old, $token) = reading();
$first->del('user:1');
put_there($second);
hang_up($first);
$second->set('user:1', 'cached');
$c->query('UPDATE users SET v = v + 1 WHERE id = 1');
my $lsn = $c->value('SELECT cache_aside.commit_lsn()');
ok(keys_gone($second, 'user:1'), 'the key is deleted on the other Redis');
foreach my $what ('connects again', 'is started again')
{
	my $pid = worker_pid($node);
	$what =~ /started/ ? kill 'TERM', $pid : hang_up($second);
	wait_worker($node, $pid) if $what =~ /started/;
	$second->set('user:1', 'cached');
	$c->query('UPDATE users SET v = v + 1 WHERE id = 1');
	keys_gone($second, 'user:1') or die 'not delivered';
	is($c->value(q{SELECT cache_aside.wait_delivered(NULL, '300 ms')}), 'f', "it $what: and tells nobody");
}
my ($admitted, $told) = (0, 0);
ok( wait_until(
		sub {
			$told = status($node, 'confirmed_lsn >= ' . "'$lsn'") eq 't';
			$admitted = fill($first, $old, $token);
			$first->del('user:1');
			return $told;
		}),
	'in the end it is confirmed');
is($admitted, 0, 'and by then the old Redis, which nobody disarmed, refuses the old value');
ok(wait_until(sub { fill($second, reading()) }), 'fills are admitted by the other');

# Second asleep for a while already, its arming ends the sooner.
$second->freeze;
ok($node->poll_query_until('postgres', q{SELECT redis_state = 'unreachable' FROM cache_aside.status}), 'the other is frozen');
put_there($first);
$first->set('user:1', 'cached');
$c->query('UPDATE users SET v = v + 1 WHERE id = 1');
ok(keys_gone($first, 'user:1'), 'the key is deleted on the first');
my $deleted = time;
is($c->value(q{SELECT cache_aside.wait_delivered(NULL, '30 s')}), 't', 'and that is told');
cmp_ok(time - $deleted, '<', 5.5, '... sooner than if nobody knew when it was armed last');
$second->thaw;

# Neither a worker that is started again nor a server has to wait: a file knows the process.
foreach my $what ('worker', 'server')
{
	my $took = soonest(
		6,
		sub {
			my $pid = worker_pid($node);
			$what eq 'worker' ? kill 'TERM', $pid : $node->restart;
			wait_worker($node, $pid);
			$c = PgClient->new(dir => $node->host, port => $node->port);
			my $begun = time;
			$c->query('UPDATE users SET v = v + 1 WHERE id = 1');
			wait_delivered($node, undef, told => 1);
			return time - $begun;
		});
	cmp_ok($took, '<', 6, "the same Redis, the next $what: nobody waits");
}
$node->stop;
done_testing();
