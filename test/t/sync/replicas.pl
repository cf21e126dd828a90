# With cache_aside.redis_min_replicas a synchronous commit returns when so many replicas of Redis have deleted its keys,
# too: then no fail-over brings the old value back. A replica that is away makes it wait, up to its time-out; deliveries
# go on meanwhile, for everybody else.
#
# Remedies: deliver() in src/shared/sync.c (who is delivered is held back), ca_sync_replicated there; release_held (what was
# held back is asked for again); rest() in handle_wait() of src/delivery/replicas.c (a WAIT in vain is followed by a pause).
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(port => 1, name => 'master', conf => 'user service on nopass ' . RedisServer::all_rights() . "\n")->start;
my $replica = RedisServer->new(port => 1, name => 'replica')->start->replicaof($redis);
my $node = CacheAside->new_node('main', redis => $redis, conf => <<EOC);
cache_aside.redis_url = '@{[ $redis->url =~ s{//}{//service:x@}r ]}'
cache_aside.redis_min_replicas = 1
cache_aside.synchronous_timeout = 60s
EOC
make_users($node, 1000);
my ($session, $other) = map { PgWire->new($node, options => '-c cache_aside.synchronous=on') } 1 .. 2;
my $watch = PgWire->new($node);

# The share of time in which the worker's connection was blocked by a WAIT, from so many looks.
sub blocked
{
	my ($looks) = @_;
	my ($n, $blocked) = (0, 0);
	wait_until(sub { $blocked++ if $redis->info('blocked_clients'); return ++$n >= $looks }) or die;
	return $blocked / $n;
}

sub touch { return $_[0]->query("UPDATE users SET v = v + 1 WHERE id = $_[1]")->{notices}; }

# ---- the replica has it when COMMIT returns
my ($late, $longest) = (0, 0);
foreach my $i (1 .. 200)
{
	cache_users($redis, $i);
	$replica->wait_until(sub { $replica->exists("user:$i") });
	my $start = time;
	touch($session, $i);
	$longest = time - $start if time - $start > $longest;
	$late++ if $replica->exists("user:$i");
}
is($late, 0, '200 commits: gone from the replica when each returned');
diag(sprintf 'slowest of them: %.1f ms', $longest * 1000);

# ---- the replica is away: it waits, and others are delivered
$replica->freeze;
cache_users($redis, 1 .. 500);
$session->send('UPDATE users SET v = v + 1 WHERE id = 1');
ok(keys_gone($redis, 'user:1'), 'the master has deleted it');
foreach my $id (2 .. 300) { $watch->query("UPDATE users SET v = v + 1 WHERE id = $id"); }
ok(keys_gone($redis, user_keys(2 .. 300)), 'others are delivered meanwhile');
my $share = blocked(200);    # after each the next comes after four times as long
cmp_ok($share, '<', 0.5, "which WAIT does not hold up for most of the time: a share of $share");
cmp_ok($share, '>', 0, 'but sometimes');
is($watch->value("SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid} AND state = 'active'"), 1, 'it still waits');
$other->query(q{SET cache_aside.synchronous_timeout = '300ms'});
like(touch($other, 301)->[0]{M}, qr/synchronous_timeout/, 'another ends with its time-out, as ever');
$replica->thaw;
is_deeply($session->receive->{notices}, [], 'the replica is back: COMMIT returns');
is_deeply([ map { $_->exists('user:1') } $redis, $replica ], [ 0, 0 ], 'gone from both');
is_deeply(touch($other, 302), [], 'and so do later ones');

# ---- two are wanted, one is there
reload_conf($node, 'cache_aside.redis_min_replicas' => 2);
wait_until(sub { (touch($other, 303)->[0]{M} // '') =~ /synchronous_timeout/ }) or die;
pass('too few: the time-out');
$session->send('UPDATE users SET v = v + 1 WHERE id = 304');
ok(wait_until(sub { $watch->value("SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid} AND state = 'active'") == 1 }), 'one waits');
reload_conf($node, 'cache_aside.redis_min_replicas' => 0);
is_deeply($session->receive->{notices}, [], 'until none is wanted any more');
reload_conf($node, 'cache_aside.redis_min_replicas' => 1);

# ---- the connection breaks while it waits: it asks again
$replica->freeze;
$session->send('UPDATE users SET v = v + 1 WHERE id = 400');
ok(keys_gone($redis, 'user:400'), 'held back');
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes', 'USER', 'service');
my $result = $session->receive;
like($result->{notices}[0]{M} // '', qr/cannot be reached/, 'a lost connection ends the wait, with a warning');
$replica->thaw;
ok(wait_until(sub { !@{ touch($other, 400) } }), 'until it is there again');

# ---- WAIT is forbidden
my $since = log_position($node);
$redis->command('ACL', 'SETUSER', 'service', '-wait');
like(touch($other, 401)->[0]{M}, qr/synchronous_timeout/, 'forbidden: the time-out');
like(log_since($node, $since), qr/cannot wait for replicas of Redis: NOPERM.*Permit WAIT/s, 'which is said');
is($redis->exists('user:401'), 0, 'and it is delivered all the same');
$redis->command('ACL', 'SETUSER', 'service', '+wait');
ok(wait_until(sub { !@{ touch($other, 402) } }), 'permitted again');
is($watch->value(q{SELECT ok FROM cache_aside.check_redis() WHERE item = 'command wait'}), 't', 'check_redis knows of it');
done_testing();
