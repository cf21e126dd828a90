# What is no death, and deaths that have nothing to do with what is read.
#
# Redis accepts every login and refuses to delete: the worker begins at one place again and again, with
# reloads, orderly restarts and two real deaths between. Nothing is skipped and nothing else than what was
# written is deleted. Then the worker dies before it has read anything, each time: from the fourth time on it
# waits longer and longer before it begins, so that the server can be used; a reload ends the wait.
#
# Remedies: ca_breaker_end() in end() (run.c): without, everything is deleted.
# pause_before() in ca_breaker_attach (breaker.c): without, the server never stays up.
#
# Begun early: it takes long.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "restart_after_crash = on\nautovacuum = off\n");
make_users($node, 100);
wait_delivered($node);
cache_users($redis, 1 .. 100);
my $log = log_position($node);

sub sessions
{
	my ($n) = @_;
	my $retries = status($node, 'retries');
	return ok(wait_until(sub { status($node, 'retries') >= $retries + $n }), "$n sessions begin and fail");
}

$redis->command('ACL', 'SETUSER', 'default', '-unlink', '-del');
$node->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id = 1');
sessions(6);
foreach (1, 2)
{
	my $killed = log_position($node);
	kill 'KILL', worker_pid($node);
	ok(wait_until(sub { log_since($node, $killed) =~ /ready to accept connections/ && answers($node) }),
		'the worker is killed');
	sessions(2);
	$node->reload;
	$node->restart;
	sessions(2);
}
$redis->command('ACL', 'SETUSER', 'default', '+@all');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 100)), 99, 'the key that was written is deleted, no other');
unlike(log_since($node, $log), qr/skips the log/, 'nothing was skipped');

# ---- deaths before anything is read
$log = log_position($node);
reload_conf($node, 'cache_aside.debug_point' => 'claimed=segv');
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
ok(wait_until(sub { log_since($node, $log) =~ /cache_aside waits 2 s before it begins/ }),
	'the worker dies again and again, and waits');
like(log_since($node, $log), qr/waits 1 s before it begins\n.*DETAIL: .* 4 times in a row/,
	'... a second after the fourth death, then longer');
ok(wait_until(sub { log_since($node, $log) =~ /cache_aside waits 8 s before it begins/ && answers($node) }),
	'... and the server can be used');
is(status($node, 'state'), 'paused', '... status says so');
$node->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id = 2');
reload_conf($node, 'cache_aside.debug_point' => '');
ok(wait_until(sub { status($node, 'state') ne 'paused' }, 5), 'a reload ends the wait');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 100)), 98, 'and delivery goes on where it stood');
unlike(log_since($node, $log), qr/skips the log/, 'nothing was skipped');

# ---- it has delivered everything: the next death is the first one
$log = log_position($node);
ok(wait_until(sub { status($node, 'state') eq 'delivering' }), 'all is well');
kill 'KILL', worker_pid($node);
ok(wait_until(sub { log_since($node, $log) =~ /ready to accept connections/ && answers($node) }), 'another death');
wait_delivered($node);
unlike(log_since($node, $log), qr/before it begins/, 'it begins at once');

$node->stop;
done_testing();
