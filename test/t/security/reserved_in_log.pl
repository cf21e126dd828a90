# A reserved key that is in the log all the same (of a backend whose check is skipped by a debug point)
# is not deleted, what is committed with it is, and delivery goes on.
#
# Remedy: ca_prefix_is_reserved in add_entry (batch.c). Without it cache_aside_apply refuses the batch
# for ever: nothing of ours is deleted even then, but nothing else is delivered.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.redelete = on\ncache_aside.redelete_delay = '1ms'\n");
$node->safe_psql('postgres', q{SELECT cache_aside.stick('a', '1 hour')});
wait_delivered($node);
my @ours = $redis->keys('cache_aside:*');
my $guard = "cache_aside:guard:" . $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
ok(scalar(grep { $_ eq $guard } @ours), 'there is a guard');
reload_conf($node, 'cache_aside.debug_point' => 'reserved=skip');
$redis->mset(map { $_ => 'x' } 'user:1', 'user:2');
my $list = join ', ', map { "'$_'" } 'user:1', @ours, 'cache_aside:', 'user:2';
$node->safe_psql('postgres', "SELECT cache_aside.invalidate($list)");
is($node->safe_psql('postgres', qq{BEGIN; SELECT cache_aside.invalidate($list); SELECT count(*) FROM cache_aside.pending(); ROLLBACK}) =~ s/^\n//r,
	@ours + 3, 'they are captured');
ok(keys_gone($redis, 'user:1', 'user:2'), 'the others are deleted');
wait_delivered($node);
ok($node->poll_query_until('postgres', 'SELECT redelete_waiting = 0 FROM cache_aside.status'), 'and deleted again');
is($redis->exists(@ours), scalar @ours, 'ours are there');
is(status($node, 'reply_errors'), 0, 'Redis was not even asked');
done_testing();
