# A prepared transaction with keys stays open past the retention bound and across a promotion: the log
# of its messages is gone on the new primary, too, and the worker there never read it. COMMIT PREPARED
# makes it good by a resync, also when a restart lies in between; ROLLBACK PREPARED deletes nothing.
#
# Fails without `note_open(tap, xid)->unread = true` in commit_transaction() (tap.c); behind the
# restart also when ca_position_parse() (position.c) forgets the barrier.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $conf = <<'EOC';
min_wal_size = 2MB
max_wal_size = 2MB
wal_keep_size = 0
autovacuum = off
cache_aside.max_wal_retained = 16MB
cache_aside.redelivery_window = 0
EOC
my $old = CacheAside->new_node('old', redis => $redis, conf => $conf, initdb => ['--wal-segsize=1']);
make_users($old, 12_000);
my $new = CacheAside->new_standby('new', $old, redis => $redis);
ok(status_is($new, 'state', 'standby'), 'the standby follows');
wait_delivered($old);

sub prepare
{
	my ($name, $where) = @_;
	$old->safe_psql('postgres',
		"BEGIN; UPDATE users SET v = v + 1 WHERE $where; PREPARE TRANSACTION '$name'");
	return;
}

prepare('small', 'id = 1');
prepare('never', 'id = 2');
prepare('large', 'id BETWEEN 3001 AND 12000');
my $lsn = $old->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
foreach my $server ($old, $new)
{
	ok( wait_until(
			sub {
				fill_log($old, 10);
				wait_delivered($old);
				$old->wait_for_catchup('new', 'replay', $old->lsn('insert'));
				$new->safe_psql('postgres', 'CHECKPOINT');
				return $server->safe_psql('postgres',
					"SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^0'"
					  . " AND substr(name, 9) <= substr('"
					  . $old->safe_psql('postgres', "SELECT pg_walfile_name('$lsn')")
					  . "', 9)") == 0;
			}),
		$server->name . ': the log of the prepared transactions is removed');
}

kill_server($old);
take_over($new);
wait_delivered($new);
like(log_since($new), qr/deletes everything its rules could have cached: the log that had to be delivered next is gone/,
	'the new primary notices');
cache_users($redis, 1 .. 12_000);

sub settled { wait_delivered($new); return status($new, 'resyncs'); }

my $resyncs = settled();
$new->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 3');
settled();
is($redis->exists(user_keys(1 .. 12_000)), 11_999, 'cached again; delivery is exact');
$new->safe_psql('postgres', q{ROLLBACK PREPARED 'never'});
is(settled(), $resyncs, 'ROLLBACK PREPARED needs no resync');
is($redis->exists(user_keys(1 .. 12_000)), 11_999, '... and deletes nothing');
$new->safe_psql('postgres', q{COMMIT PREPARED 'small'});
ok(keys_gone($redis, 'user:1'), 'COMMIT PREPARED: its key is gone');
is(settled(), $resyncs + 1, '... by a resync');

cache_users($redis, 1 .. 12_000);
$new->restart;
settled();
is($redis->exists(user_keys(1 .. 12_000)), 12_000, 'restarted: every key is there');
$new->safe_psql('postgres', q{COMMIT PREPARED 'large'});
ok(keys_gone($redis, user_keys(3001 .. 12_000)), 'COMMIT PREPARED behind a restart: its keys are gone');

# Nothing is left that was open then: exact from here on.
settled();
cache_users($redis, 1 .. 12_000);
$new->safe_psql('postgres', q{BEGIN; UPDATE users SET v = v + 1 WHERE id = 4; PREPARE TRANSACTION 'late'});
$new->safe_psql('postgres', q{COMMIT PREPARED 'late'});
settled();
is($redis->exists(user_keys(1 .. 12_000)), 11_999, 'a later one is exact');

$new->stop;
done_testing();
