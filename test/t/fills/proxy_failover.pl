# One address whose Redis is another from one command to the next, while the connection stays open (a proxy that speaks
# Redis), or breaks (one that passes bytes): a replica that lags takes over, and the old master comes back. The worker
# notices by what its next call is answered, delivers again what the other one missed, and no fill of before is stored
# behind that. With functions, and without; where SCRIPT is forbidden, so that no server says that it lacks the script.
#
# Remedies: the position that each call compares (apply_plain.lua; check() in src/delivery/library/claims.lua) and the nonce
# that it names (claimed() there). Without functions the position is missed where a batch is the first that goes to the other
# one; an idle worker looks by itself (admission.c). With functions neither is missed here: a replica that was synchronized
# in full knows no claim, and refuses every call; library_worker.pl fails without either.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use RedisProxy;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;

sub story
{
	my ($mode, $conf) = @_;
	my ($master, $replica) = map { RedisServer->new(port => 1, name => $_, conf => $conf)->start } 'first', 'second';
	my $proxy = RedisProxy->new(upstream => $master)->start;
	my $node = CacheAside->new_node($mode, conf => "cache_aside.redis_url = '" . $proxy->url . "'\n");
	wait_delivering($node);
	make_users($node, 100);
	wait_delivered($node);
	is(status($node, 'redis_mode'), $mode, $mode);
	my $session = PgWire->new($node);
	foreach my $way ('the connection stays open', 'the connection breaks', 'the connection stays open, and a batch is the next')
	{
		$replica->replicaof($master);
		my $name = "$mode, $way";
		cache_users($master, 1 .. 50);
		ok(keys_there($replica, user_keys(1 .. 50)), "$name: the replica has them");
		my $token = $session->value('SELECT cache_aside.read_token()');
		$replica->promote;    # from here on it lags
		$session->query('UPDATE users SET v = v + 1 WHERE id <= 50');
		ok(keys_gone($master, user_keys(1 .. 50)), "$name: delivered to the master");
		is($replica->exists(user_keys(1 .. 50)), 50, "$name: the other one has the old values");
		my $before = status($node, 'reconnects');
		my $worker = worker_pid($node);
		stop_process($worker);
		$proxy->lead_to($replica);
		$proxy->hang_up if $way =~ /breaks/;
		$session->query('UPDATE users SET v = v + 1 WHERE id = 60') if $way =~ /batch/;
		go_on($worker);
		ok(keys_gone($replica, user_keys(1 .. 50)), "$name: delivered again");
		cmp_ok(status($node, 'reconnects'), '>', $before, "$name: by a session of its own");
		my ($stored) = $replica->try('FCALL', 'cache_aside_fill', 1, 'user:1', 'old', 60000, $token);
		is($replica->get('user:1'), undef, "$name: a fill of before is not stored");
		$session->query('UPDATE users SET v = v + 1 WHERE id = 60');
		cache_users($replica, 70);
		$session->query('UPDATE users SET v = v + 1 WHERE id = 70');
		ok(keys_gone($replica, 'user:70'), "$name: deliveries go on there");
		ok(wait_until(sub { status($node, 'trouble') eq '' }), "$name: no trouble is left");
		if ($mode eq 'functions')
		{
			ok(wait_until(sub { ($session->value(q{SELECT cache_aside.fill('user:2', 'new')}) // '') eq 't' }), "$name: fills are admitted");
		}
		($master, $replica) = ($replica, $master);
	}
	$node->stop;
	return;
}

story('functions', '') if (RedisServer->version)[0] >= 7;
story('plain', RedisServer::no_functions() . qq{rename-command SCRIPT ""\n});
done_testing();
