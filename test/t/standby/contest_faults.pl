# Who delivers, while things go wrong: two clones, a holder that is stopped and wakes when another has taken over,
# a Redis that restarts while the holder is stopped, and with it forgets every claim, adopt() on both sides at once, an
# announcement that somebody deletes. At each moment at most one server writes, and keys are deleted.
#
# Remedies, in src/delivery/library: is_stranger_silent() in is_occupied() (the clone takes a Redis that restarted); check()
# in apply() (the holder that wakes deletes and writes); `last` in is_occupied() (adopted twice, both go on).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $production = CacheAside->new_node('production', redis => $redis);
make_users($production, 10);
wait_delivered($production);
$production->backup('backup');
my @clones = map { CacheAside->new_standby($_, $production, redis => $redis, backup => 'backup') } 'first', 'second';
$_->promote foreach @clones;

sub states { return join ' ', map { status($_, 'state') } @_; }
sub timeline { return (position_of($redis, $production) // '') =~ /^(\d+) / ? $1 : 0; }

sub delivers
{
	my ($node, $what) = @_;
	cache_users($redis, 1);
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
	return ok(keys_gone($redis, 'user:1'), "$what delivers");
}

# ---- two clones; a Redis that restarts
ok(status_is($_, 'state', 'refused'), $_->name . ' is refused') foreach @clones;
delivers($production, 'production');
my $worker = stop_process(worker_pid($production));
$redis->save->kill9->start;
foreach my $clone (@clones)
{
	ok(wait_until(sub { status($clone, 'last_error') =~ /delivered here and may come back/ }),
		$clone->name . ' is the first to ask a Redis that restarted, and is refused');
}
go_on($worker);
delivers($production, 'production');
foreach my $clone (@clones)
{
	my $asked = status($clone, 'reconnects');
	ok(wait_until(sub { status($clone, 'reconnects') > $asked + 6 }), 'a clone asks for seconds');
}
is(states($production, @clones), 'delivering refused refused', 'and nobody else was faster');
$clones[1]->stop;

# ---- the holder's worker is stopped, and wakes
stop_process($worker = worker_pid($production));
$production->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 2');
ok(status_is($clones[0], 'state', 'delivering'), 'a holder that is stopped is silent: the other takes over');
cache_users($redis, 2);
my $written = position_of($redis, $production);
go_on($worker);
ok(wait_until(sub { status($production, 'state') eq 'fenced' }), 'it wakes, and is fenced');
is($redis->exists('user:2'), 1, 'it deleted nothing');
is(timeline(), 2, 'and wrote nothing');
delivers($clones[0], 'the other');

# ---- adopt() on both sides at once
foreach my $round (1 .. 3)
{
	my @sessions = map { background_sql($_) } $production, $clones[0];
	$_->query_safe('SELECT cache_aside.adopt()') foreach @sessions;
	$_->quit foreach @sessions;
	ok(wait_until(sub { states($production, $clones[0]) =~ /^(delivering (refused|fenced)|(refused|fenced) delivering)$/ }),
		'adopted by both: one has it');
}
my $has = status($production, 'state') eq 'delivering' ? $production : $clones[0];
delivers($has, 'it');
$production->safe_psql('postgres', 'SELECT cache_aside.adopt()');
ok(status_is($production, 'state', 'delivering'), 'and adopted by production again');
$clones[0]->stop;

# ---- an announcement that is deleted comes back
my $standby = CacheAside->new_standby('standby', $production, redis => $redis);
ok(wait_announced($redis), 'a standby announces itself');
my ($key) = $redis->keys('cache_aside:standby:*');
cmp_ok($redis->ttl($key), '<=', 10_000, 'for seconds');
$redis->del($key);
ok(keys_there($redis, $key), 'and again');
$standby->stop;
$production->stop;
done_testing();
