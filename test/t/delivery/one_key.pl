# What Redis refuses for one key alone. A stick whose name something else has can never be written: it is counted, said
# once and skipped, and what is beside it is delivered. A right that lacks for one key may be given in a moment: it stops
# the position, with a hint, and then everything goes, with functions and without them. A key of any type, and of any
# length that a rule can make, is deleted.
#
# Remedies: the two lines about WRONGTYPE in write_sticks() of library/apply.lua and in apply_plain.lua (nothing is
# delivered any more, or a stick is lost for good); ca_lost_sticks_skipped() (not said); "executing the script" in
# trouble.c (no hint).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $user = join ' ', '~user:* ~cache_aside:[^s]* ~cache_aside:standby:* ~cache_aside:stick: +@all';

sub url
{
	my ($redis) = @_;
	return $redis->url =~ s{//}{//worker:secret@}r;
}

foreach my $plain (0, 1)
{
	my $kind = $plain ? 'without functions' : 'with functions';
	my $redis = RedisServer->new(conf => $plain ? RedisServer::no_functions() : '')->start;
	$redis->command('ACL', 'SETUSER', 'worker', 'reset', 'on', '>secret', split / /, $user);
	my $node = CacheAside->new_node($plain ? 'plain' : 'functions', conf => "cache_aside.redis_url = '" . url($redis) . "'\n"
		  . "cache_aside.synchronous_timeout = 200\n");
	make_users($node, 10);
	wait_delivered($node);
	my $log = log_position($node);

	sub write_with { my ($n, $id, $sql) = @_; return $n->safe_psql('postgres', "BEGIN; UPDATE users SET v = v + 1 WHERE id = $id; SELECT $sql; COMMIT") }

	# ---- no right to one key
	foreach my $case ([ stick => q{cache_aside.stick('me')}, '~cache_aside:stick:*', 'cache_aside:stick:me' ], [ key => q{cache_aside.invalidate('other:1')}, '~other:*' ])
	{
		my ($what, $sql, $right, $stick) = @$case;
		cache_users($redis, 1 .. 10);
		$redis->set('other:1', 'x');
		write_with($node, 1, $sql);
		$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 2');
		ok(status_is($node, 'trouble', 'NOPERM'), "$kind, no right to a $what: said");
		like(status($node, 'hint'), qr/ACL SETUSER/, '... with a hint');
		is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(NULL, '100 ms')}), 'f', '... and nothing goes on');
		$redis->command('ACL', 'SETUSER', 'worker', $right);
		wait_delivered($node);
		is($redis->exists(user_keys(1 .. 10)), 8, '... until it is given: exactly the keys');
		is($redis->exists($stick // 'other:1'), $stick ? 1 : 0, "... and the $what");
	}

	# ---- what can never be
	$log = log_position($node);
	my $skipped = status($node, 'skipped');
	cache_users($redis, 1 .. 10);
	$redis->command('RPUSH', 'cache_aside:stick:taken', 'x');
	my @others = ([ 'RPUSH', 'user:3', 'x' ], [ 'HSET', 'user:4', 'a', 'b' ], [ 'XADD', 'user:5', '*', 'a', 'b' ]);
	$redis->command(@$_) foreach map { [ 'DEL', $_->[1] ], $_ } @others;
	write_with($node, $_, q{cache_aside.stick('taken'), cache_aside.stick('free}.$_.q{')}) foreach 3 .. 5;
	my $long = 'user:' . 'x' x (8192 - 5);
	$redis->set($long, 'x');
	$node->safe_psql('postgres', "SELECT cache_aside.invalidate('$long')");
	wait_delivered($node);
	is($redis->exists(user_keys(1 .. 10), $long), 7, "$kind, a stick's name is taken: keys of other types and a long one go");
	is($redis->exists(map { "cache_aside:stick:free$_" } 3 .. 5), 3, '... and sticks beside it are there');
	is(status($node, 'skipped') - $skipped, 3, '... it is counted');
	is(scalar(() = log_since($node, $log) =~ /cannot leave a stick in Redis .*DETAIL:.*HINT:/sg), 1, '... said once');
	is(status($node, 'trouble'), '', '... and no trouble');
	$node->stop;
}
done_testing();
