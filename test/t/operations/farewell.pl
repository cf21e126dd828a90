# A server that leaves a Redis says so first: from then on no token of before is worth anything there. One
# that does not come back takes along what is its own, and tells what it could not.
#
# Remedies, in src: has_parted() (role.c); without the call of ca_farewell_said() tokens are admitted until
# the arming ends by itself, and keys stay. handle_disarm() (farewell.c) minds the other claims: without it the
# library of another cluster is deleted.
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
my ($redis, $other) = map { RedisServer->new(name => $_)->start } 'first', 'other';
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 9);
my $c;

sub reading
{
	$c //= PgClient->new(dir => $node->host, port => $node->port);
	return @{ ($c->query('SELECT v, cache_aside.read_token() FROM users WHERE id = 1'))[0] };
}

sub fill
{
	my ($where, $v, $token, @lease) = @_;
	return 0 unless defined $token;
	return $where->command('FCALL', 'cache_aside_fill', 1, 'user:1', $v, 600_000, $token, @lease);
}

sub admitted { my ($where) = @_; return wait_until(sub { fill($where // $redis, reading()) }); }
# Sticks expire by themselves.
sub ours { return join ' ', (grep { !/^cache_aside:stick:/ } $_[0]->keys('cache_aside:*')), map { $_->[1] } @{ $_[0]->command('FUNCTION', 'LIST') }; }

# ---- delivery = off, and on again
ok(admitted(), 'fills are admitted');
my @old = reading();
$redis->del('user:1');
my ($lease) = @{ $redis->command('FCALL', 'cache_aside_get', 1, 'user:1', 60_000) };
reload_conf($node, 'cache_aside.delivery' => 'off');
ok(status_is($node, 'state', 'off'), 'off');
is(fill($redis, @old), 0, 'off: a token of before is refused at once');
is(fill($redis, @old, $lease), 0, 'off: with a lease, too');
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
cache_users($redis, 1 .. 9);
my $resyncs = status($node, 'resyncs');
my $begun = time;
reload_conf($node, 'cache_aside.delivery' => 'primary');
ok(keys_gone($redis, 'user:1'), 'on again: what was written meanwhile is delivered');
wait_delivered($node, undef, told => 1);
cmp_ok(time - $begun, '<', 6, 'on again: nobody waits for an arming that was ended');
is($redis->exists(user_keys(1 .. 9)), 8, 'on again: and nothing else');
is(status($node, 'resyncs'), $resyncs, 'on again: no resync');
is(fill($redis, @old), 0, 'on again: the token of before is still refused');

# ---- another address
ok(admitted(), 'fills are admitted');
@old = reading();
reload_conf($node, 'cache_aside.redis_url' => $other->url);
ok(status_is($node, 'endpoint', $other->socket . '?db=0'), 'another Redis');
is(fill($redis, @old), 0, 'the one before refuses at once');
ok(admitted($other), 'fills are admitted there');

# ---- DROP EXTENSION in the last database
$node->safe_psql('postgres', 'DROP EXTENSION cache_aside CASCADE');
ok(wait_until(sub { ours($other) eq '' }), 'dropped: neither keys nor library are left');
$node->safe_psql('postgres', q{CREATE EXTENSION cache_aside; SELECT cache_aside.attach('users', 'user:{id}')});
wait_delivering($node);
ok(admitted($other), 'created again: fills are admitted');

# ---- uninstall(): everything; beside another cluster; without the right; not to be reached; when off
sub uninstall
{
	my ($what, $do, $expect, %args) = @_;
	undef $c;
	$do->();
	$begun = time;
	my $left = $node->safe_psql('postgres', 'SELECT cache_aside.uninstall()');
	like($left, $expect, "uninstall, $what: $left");
	cmp_ok(time - $begun, '<', $args{seconds} // 3, "uninstall, $what: in time");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'cache_aside'}), 0, "uninstall, $what: no slot");
	return;
}

sub again
{
	reload_conf($node, 'cache_aside.delivery' => 'primary');
	$node->restart;
	ok(wait_until(sub { status($node, 'state') eq 'delivering' }), 'started again');
	return;
}

@old = reading();
uninstall('everything', sub { }, qr/^Left in Redis: nothing of the extension\./);
is(ours($other), '', 'neither keys nor library are left');
again();
uninstall('beside another cluster', sub { HandWorker->new($other, system => 99)->claim },
	qr/^Left in Redis: the function library .*others may use it/);
is(ours($other), 'cache_aside:writer:00000000 cache_aside', 'its key and the library are there, our keys are not');
ok(!ref HandWorker->new($other, system => 99)->get('x'), 'and works');
$other->command('FUNCTION', 'FLUSH');
$other->command(qw(ACL SETUSER default on nopass ~* &* +@all -function|delete));
again();
uninstall('without the right', sub { }, qr/^Left in Redis: the function library .*NOPERM/);
$other->command(qw(ACL SETUSER default +@all));
again();
uninstall('frozen', sub { $other->freeze }, qr/^Left in Redis: the keys .* and the function library .*no answer/, seconds => 8);
$other->thaw;
again();
uninstall('off', sub { reload_conf($node, 'cache_aside.delivery' => 'off'); status_is($node, 'state', 'off') },
	qr/^Left in Redis: the keys .*no connection/);

$node->stop;
done_testing();
