# After a blind start transactions that were prepared before it may have logged keys where nobody reads:
# they cost a second resync, and no token is given until they have ended. One that logged nothing costs
# neither, open or ended in whatever way, also after a restart of worker and server. One with keys does,
# and its keys are deleted.
#
# Remedies: ca_prepared_is_harmless() in may_be_unread() (tap.c) and ca_prepared_oldest() in
# ca_queue_look() (queue.c): a second resync, no token; ca_prepared_mark() in note_logged() (pending.c):
# the keys of those that have some stay.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "autovacuum = off\nmax_prepared_transactions = 10\n");
make_users($node, 100);
$node->safe_psql('postgres', 'CREATE TABLE plain (id int)');
wait_delivered($node);

sub prepare
{
	my ($name, $sql) = @_;
	$node->safe_psql('postgres', "BEGIN; $sql; PREPARE TRANSACTION '$name'");
	return;
}

# A worker that knows nothing: it begins at the checkpoint, behind what was prepared.
sub blind_start
{
	my $worker = stop_process(worker_pid($node));
	$node->safe_psql('postgres', 'CHECKPOINT');
	$redis->command('FLUSHALL');
	$redis->command('FUNCTION', 'FLUSH') if $redis->version >= 7;
	my $resyncs = status($node, 'resyncs');
	kill 'TERM', $worker;
	go_on($worker);
	wait_worker($node, $worker);
	wait_delivering($node);
	wait_delivered($node);
	$node->poll_query_until('postgres', "SELECT resyncs > $resyncs FROM cache_aside.status") or die 'no resync';
	return status($node, 'resyncs');
}

sub settled
{
	my ($resyncs, $what, $more) = @_;
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 100');
	wait_delivered($node);
	is(status($node, 'resyncs') - $resyncs, $more // 0, "$what: so many resyncs more");
	return;
}

my $token = 'SELECT cache_aside.read_token() IS NOT NULL';
prepare($_, 'INSERT INTO plain VALUES (1)') foreach qw(a b);
prepare('rolled back', 'SAVEPOINT a; UPDATE users SET v = v + 1 WHERE id = 9; ROLLBACK TO a; INSERT INTO plain VALUES (2)');
my $resyncs = blind_start();
ok($node->poll_query_until('postgres', $token), 'tokens, while they are prepared');
cache_users($redis, 1 .. 100);
$node->safe_psql('postgres', q{COMMIT PREPARED 'a'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'rolled back'});
settled($resyncs, 'committed');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'b'});
settled($resyncs, 'rolled back');
is($redis->exists(user_keys(1 .. 100)), 99, 'nothing is deleted in vain');

# ---- with keys, and a restart of the server in between, in order and by a crash
foreach my $how (qw(fast immediate))
{
	prepare('plain', 'INSERT INTO plain VALUES (3)');
	prepare('early', 'INSERT INTO plain VALUES (4)');
	prepare('with keys', 'UPDATE users SET v = v + 1 WHERE id = 1');
	prepare('subtransaction', 'SAVEPOINT a; UPDATE users SET v = v + 1 WHERE id = 2; RELEASE a');
	$node->stop($how);
	$node->start;
	wait_delivered($node);
	$resyncs = blind_start();
	is($node->safe_psql('postgres', $token), 'f', "$how: no tokens while one with keys is prepared");
	cache_users($redis, 1 .. 100);
	$node->safe_psql('postgres', q{COMMIT PREPARED 'early'});
	settled($resyncs, "$how: without keys, beside it");
	$node->safe_psql('postgres', q{COMMIT PREPARED 'with keys'});
	ok(keys_gone($redis, 'user:1'), "$how: its keys are deleted");
	wait_delivered($node);
	cache_users($redis, 1 .. 100);
	$node->safe_psql('postgres', q{COMMIT PREPARED 'subtransaction'});
	ok(keys_gone($redis, 'user:2'), "$how: and those of a subtransaction");
	ok($node->poll_query_until('postgres', $token), "$how: tokens, while the other one is prepared");
	wait_delivered($node);
	$resyncs = status($node, 'resyncs');
	$node->safe_psql('postgres', q{COMMIT PREPARED 'plain'});
	settled($resyncs, "$how: the other one");
}
$node->stop;
done_testing();
