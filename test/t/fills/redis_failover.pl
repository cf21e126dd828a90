# Redis fails over to a replica that lags, behind one address (as with a virtual address or a proxy: the
# worker sees a connection that breaks, nothing else), while guarded fills go on. The replica has a guard
# that once admitted what the master refuses by now: it refuses every fill until the worker has claimed
# it, delivered again what it missed, and armed it. Asked in one transaction of Redis with each fill: as
# soon as one is stored, nothing stale is left.
#
# Fails when the worker arms before it has caught up from the position it found (arm_if_due without
# caught_up), and, where the old master comes back, when a bucket of another process's guard is believed
# (guard_admits without the header),
# or an older state of this process's own (write_header without counting).
use strict;
use warnings;

use CacheAside;
use Faults;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my ($master, $replica) = map { RedisServer->new(port => 1, name => $_)->start } 'first', 'second';
my $address = $master->dir . '/address.sock';
symlink $master->socket, $address or die $!;
my $node = CacheAside->new_node('main', conf => "cache_aside.redis_url = 'unix://$address'\n");
wait_delivering($node);
my $rows = 400;
make_users($node, $rows);
wait_delivered($node);
my $c = PgClient->new(dir => $node->host, port => $node->port);

sub reading
{
	my ($id) = @_;
	my ($row) = $c->query("SELECT v, cache_aside.read_token() FROM users WHERE id = $id");
	return [ $id, @$row ];
}

sub fill
{
	my ($redis, $reading) = @_;
	my ($id, $v, $token) = @$reading;
	return 0 unless defined $token;
	return $redis->command('FCALL', 'cache_aside_fill', 1, "user:$id", $v, 600000, $token);
}

sub admitted_soon
{
	my ($redis, $id) = @_;
	return $redis->wait_until(sub { fill($redis, reading($id)) });
}

sub change
{
	my ($first, $last) = @_;
	$c->query("UPDATE users SET v = v + 1 WHERE id = $_") foreach $first .. $last;
	wait_delivered($node);
	return;
}

# A fill of now and a count of what is stale, in one step of Redis.
sub stored_and_stale
{
	my ($redis, $reading, @stale) = @_;
	my ($id, $v, $token) = @$reading;
	my @replies = $redis->pipeline(['MULTI'],
		[ 'FCALL', 'cache_aside_fill', 1, "user:$id", $v, 600000, $token // '0-0-0/0' ],
		[ 'EXISTS', @stale ], ['EXEC']);
	my ($stored, $exist) = @{ $replies[-1] };
	return (ref $stored ? 0 : $stored, $exist);
}

sub move_address
{
	my ($to) = @_;
	symlink $to->socket, "$address.new" or die $!;
	rename "$address.new", $address or die $!;
	return;
}

# The replica stops to follow; rows 1 to 100 change and are filled anew; the master dies.
sub fail_over
{
	my ($what, $resyncs) = @_;
	my @early = map { reading($_) } 1 .. 100;
	is(scalar(grep { fill($master, $_) } @early), 100, "$what: everybody fills");
	ok(keys_there($replica, user_keys(1 .. 100)), "$what: the replica has it");
	$replica->freeze;
	$master->command('CLIENT', 'KILL', 'TYPE', 'replica');
	fill_log($node, 24); # that the worker has to read first, when it catches up
	change(1, 100);
	is($master->exists(user_keys(1 .. 100)), 0, "$what: the master delivered");
	is(scalar(grep { fill($master, $_) } @early), 0, "$what: and refuses what was read before");
	ok(admitted_soon($master, 200), "$what: reads of now are stored");

	my $worker = worker_pid($node);
	stop_process($worker);
	$master->kill9;
	$replica->thaw->promote;
	move_address($replica);
	is($replica->exists(user_keys(1 .. 100)), 100, "$what: the replica has stale values and their guard");
	is(scalar(grep { fill($replica, $_) } @early), 0, "$what: no worker yet: old reads are refused");
	is(fill($replica, reading(201)), 0, "$what: so are reads of now");
	go_on($worker);

	my ($stored, $stale) = (0, 0);
	ok($replica->wait_until(
			sub {
				($stored, $stale) = stored_and_stale($replica, reading(202), user_keys(1 .. 100));
				return $stored;
			}),
		"$what: fills are admitted again");
	is($stale, 0, "$what: not before everything that the replica missed was delivered again");
	is(scalar(grep { fill($replica, $_) } @early), 0, "$what: old reads stay refused");
	wait_delivered($node);
	foreach my $id (1, 50, 100)
	{
		ok(admitted_soon($replica, $id), "$what: user:$id is filled anew");
		is($replica->get("user:$id"), reading($id)->[1], "$what: with its row");
	}
	is(status($node, 'resyncs'), $resyncs, "$what: no resync");
	return;
}

ok(admitted_soon($master, 1), 'fills are admitted');
my $resyncs = status($node, 'resyncs');
$replica->replicaof($master);
fail_over('first fail-over', $resyncs);

# Back to the process that was master: it is started again and follows, then takes over again.
($master, $replica) = ($replica, $master);
$replica->start->replicaof($master);
fail_over('and back', $resyncs);

# ---- a switch without any death: the old master lives on, demoted, and its process remembers its arming
($master, $replica) = ($replica, $master);
$replica->start->replicaof($master);
ok(admitted_soon($master, 300), 'switch: fills are admitted');
my $early = reading(300);
ok(keys_there($replica, 'user:300'), 'switch: the replica follows');
my $worker = stop_process(worker_pid($node));
$replica->promote;
is(fill($replica, reading(301)), 0, 'switch: the new master refuses until it is claimed');
$master->replicaof($replica);
like(($master->try('FCALL', 'cache_aside_fill', 1, 'user:300', 1, 1000, $early->[2]))[1], qr/^READONLY/,
	'switch: the old one takes nothing');
move_address($replica);
go_on($worker);
change(300, 300);
is($replica->exists('user:300'), 0, 'switch: delivered to the new master');
ok(admitted_soon($replica, 301), 'switch: fills are admitted');
is(fill($replica, $early), 0, 'switch: old reads stay refused');
$worker = stop_process(worker_pid($node));
$replica->wait_until(sub { !$master->exists('user:300') && $master->exists('user:301') }) or die 'no replication';
$master->promote;
is(fill($master, $early), 0, 'switched back: the process that was armed once refuses, too');
is(fill($master, reading(302)), 0, 'switched back: reads of now as well');
go_on($worker);
$replica->kill9;
move_address($master);
ok(admitted_soon($master, 302), 'switched back: admitted after claim and arming');
is(fill($master, $early), 0, 'switched back: old reads stay refused');

# ---- back in its own past while the process lives on: a copy of the data is swapped in
$early = reading(303);
is(fill($master, $early), 1, 'past: stored');
$worker = stop_process(worker_pid($node));
$master->command('COPY', $_, $_, 'DB', 1) foreach 'user:303', $master->keys('cache_aside:*');
go_on($worker);
change(303, 303);
is(fill($master, $early), 0, 'past: refused after the change');
$worker = stop_process(worker_pid($node));
$master->command('SWAPDB', 0, 1);
ok(keys_there($master, 'user:303'), 'past: the stale value is back, and the guard of that time');
is(fill($master, $early), 0, 'past: the process knows that this is not the guard it wrote last');
go_on($worker);
ok($master->wait_until(sub { !$master->exists('user:303') }), 'past: delivered again');
ok(admitted_soon($master, 303), 'past: admitted after claim and arming');
is(fill($master, $early), 0, 'past: old reads stay refused');

$node->stop;
done_testing();
