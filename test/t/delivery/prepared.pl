# Prepared transactions: their keys go when COMMIT PREPARED does, not before, across restarts and
# crashes of server and worker, small and large, and when their log is gone. ROLLBACK PREPARED deletes
# nothing. Neither they nor open transactions hold up wait_delivered().
#
# Fails without `position->restart = Min(position->restart, open)` in ca_ledger_next() (ledger.c):
# the messages lie before the confirmed LSN, and are never read again. Past the retention bound fails
# without `note_open(tap, xid)->unread = true` in commit_transaction() (tap.c).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, initdb => ['--wal-segsize=1'],
	conf => <<'EOC');
min_wal_size = 2MB
max_wal_size = 2MB
autovacuum = off
cache_aside.max_wal_retained = 40MB
cache_aside.redelivery_window = 0
EOC
make_users($node, 60_000);
wait_delivered($node);
cache_users($redis, 1 .. 60_000);
my $resyncs = status($node, 'resyncs');

sub prepare
{
	my ($name, $where) = @_;
	$node->safe_psql('postgres',
		"BEGIN; UPDATE users SET v = v + 1 WHERE $where; PREPARE TRANSACTION '$name'");
	return;
}

my $open = background_sql($node);
$open->query_safe('BEGIN; UPDATE users SET v = v + 1 WHERE id = 59999');
prepare('small', 'id = 1');
prepare('subtransactions', 'id = 2; SAVEPOINT a; UPDATE users SET v = v + 1 WHERE id = 3;'
	  . ' SAVEPOINT b; UPDATE users SET v = v + 1 WHERE id = 4; ROLLBACK TO b; RELEASE a');
prepare('large', 'id BETWEEN 10001 AND 50000');
prepare('never', 'id BETWEEN 50001 AND 50010');
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 100');
wait_delivered($node);
ok(keys_gone($redis, 'user:100'), 'prepared and open transactions hold up nobody');
$open->query_safe('ROLLBACK');
$open->quit;

$node->restart;
wait_delivered($node);
is($redis->exists(user_keys(1 .. 99)), 99, 'prepared: the keys are there');
$node->safe_psql('postgres', q{COMMIT PREPARED 'small'});
ok(keys_gone($redis, 'user:1'), 'committed after a restart: gone');

$node->stop('immediate');
$node->start;
$node->safe_psql('postgres', q{COMMIT PREPARED 'subtransactions'});
ok(keys_gone($redis, 'user:2', 'user:3'), 'committed after a crash: gone, of subtransactions too');
ok(is_cached($redis, 'user:4'), 'not those of a rolled back savepoint');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'never'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'large'});
wait_delivered($node);
my $found = compare($node, $redis);
is($found->{stale}, '', 'large: every key is gone');
is($found->{lost}, '', 'nothing else, nor what ROLLBACK PREPARED forgot');

# ---- the log of a prepared transaction goes: it does not pin it, and is made good by a resync
my $before = status($node, 'resyncs');
prepare('old', 'id = 7');
prepare('old and large', 'id BETWEEN 51001 AND 59000');
my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
my $kept = q{SELECT count(*) FROM pg_ls_waldir() WHERE name <= pg_walfile_name('%s')};
ok( wait_until(
		sub {
			fill_log($node, 10);
			wait_delivered($node);    # the worker has read it before the next
			return $node->safe_psql('postgres', sprintf $kept, $lsn) == 0;
		}),
	'the log of prepared transactions is removed');
ok($node->poll_query_until('postgres', 'SELECT retained_wal < 44000000 FROM cache_aside.status'),
	'the slot keeps to its bound');
wait_delivered($node);
is(status($node, 'resyncs'), $before, 'nothing is lost yet');
$node->safe_psql('postgres', q{COMMIT PREPARED 'old'});
ok(keys_gone($redis, 'user:7'), 'small: the worker remembers it');
$node->restart;
wait_delivered($node);
cache_users($redis, 51001 .. 59000);
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
wait_delivered($node);
is($redis->exists(user_keys(51001 .. 59000)), 8000, 'cached again, and still prepared');
$node->safe_psql('postgres', q{COMMIT PREPARED 'old and large'});
ok(keys_gone($redis, user_keys(51001 .. 59000)), 'the log is gone: a resync');

$node->stop;
done_testing();
