# A commit that is flushed but not yet visible, because it waits for a synchronous standby: its key
# must stay (a reader would put the old row back), keys of others are delivered meanwhile, and it goes
# as soon as the commit is visible, though nothing is written then. Below and beyond transaction id
# 2^31, where asking TransactionIdIsInProgress() from a process without transactions goes wrong.
#
# Fails without XidInMVCCSnapshot() in mark_visible() (queue.c), and the half beyond 2^31 with
# TransactionIdIsInProgress() in its place.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;

# The next transaction id, with the page of pg_xact that it needs.
sub begin_at
{
	my ($node, $xid) = @_;
	$node->start;    # whatever has a transaction id that would lie in the future then is frozen
	$node->safe_psql($_, 'VACUUM FREEZE') foreach qw(postgres template1);
	$node->stop;
	command_ok([ 'pg_resetwal', '-f', '-x', $xid, '-u', $xid - 1_000_000, '-D', $node->data_dir ],
		"transaction ids from $xid");
	foreach my $segment (int(($xid - 1_000_000) / 1048576) .. int($xid / 1048576))
	{
		my $file = sprintf '%s/pg_xact/%04X', $node->data_dir, $segment;
		next if -e $file;
		append_to_file($file, "\x55" x 262144);    # all committed
		chmod 0600, $file;
	}
	return;
}

foreach my $xid (0, 3_000_000_000)
{
	my $node = CacheAside->new_node("from_$xid", redis => $redis, start => 0,
		conf => "autovacuum = off\n");
	begin_at($node, $xid) if $xid;
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
	make_users($node, 100);
	cmp_ok($node->safe_psql('postgres', 'SELECT pg_current_xact_id()'), '>', $xid, "xid of $xid");
	wait_delivered($node);
	cache_users($redis, 1 .. 100);
	$node->safe_psql('postgres', 'CREATE TABLE slow (id int)');

	reload_conf($node, synchronous_standby_names => 'nobody');
	my @stalled = map { PgWire->new($node) } 1 .. 3;
	my $other = PgWire->new($node, options => '-c synchronous_commit=local');
	foreach my $i (0 .. 2)
	{
		$stalled[$i]->send('UPDATE users SET v = v + 1 WHERE id = ' . (1 + $i));
		ok($node->poll_query_until('postgres',
				q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, $i + 1),
			"commit $i waits");
		# Other commits, with messages and without, before and behind it
		$other->query('UPDATE users SET v = v + 1 WHERE id = ' . (11 + $i));
		$other->query('INSERT INTO slow VALUES (1)');
		ok(keys_gone($redis, 'user:' . (11 + $i)), 'the key of another commit is gone');
	}
	is($redis->exists(user_keys(1 .. 3)), 3, 'keys of commits that are not visible are there');
	is($node->safe_psql('postgres', q{SELECT cache_aside.wait_delivered(NULL, '200 ms')}), 'f',
		'and hold up wait_delivered()');

	# Given up by an administrator: visible, with a warning.
	$node->safe_psql('postgres',
		q{SELECT pg_cancel_backend(min(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
	ok(wait_until(sub { $redis->exists(user_keys(1 .. 3)) == 2 }), 'cancelled: one key is gone');

	# An idle server: the standby comes, nothing is written.
	my $errors = status($node, 'last_error');
	reload_conf($node, synchronous_standby_names => '');
	$stalled[$_]->receive foreach 0 .. 2;
	my $visible = time;
	ok(keys_gone($redis, user_keys(1 .. 3)), 'visible: gone');
	my $after = time - $visible;
	cmp_ok($after, '<', 0.9, sprintf 'after %.0f ms', 1000 * $after);
	wait_delivered($node);
	my $found = compare($node, $redis);
	is($found->{stale} . $found->{lost}, '', 'exactly the keys of written rows are gone');

	# Stalled while the server crashes: committed then.
	reload_conf($node, synchronous_standby_names => 'nobody');
	my $last = PgWire->new($node);
	$last->send('UPDATE users SET v = v + 1 WHERE id = 20');
	$node->poll_query_until('postgres',
		q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, 1) or die;
	is($redis->exists('user:20'), 1, 'stalled again');
	$node->stop('immediate');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
	unlink $node->data_dir . '/postgresql.auto.conf';
	$node->start;
	ok(keys_gone($redis, 'user:20'), 'after a crash it is committed, and its key gone');
	$node->stop;
}
done_testing();
