# COMMIT PREPARED is delivered and then lost: the standby that takes over had not received it. There the
# transaction is still prepared, its messages lie before the restart LSN that the old primary wrote, and
# no resync of the promotion covers what is cached behind it. Committed again, its key is deleted.
#
# Fails without above_prepared() in cross_fork() (resume.c).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $old = CacheAside->new_node('old', redis => $redis,
	conf => "max_prepared_transactions = 5\nautovacuum = off\n");
make_users($old, 10);
my $new = CacheAside->new_standby('new', $old, redis => $redis);
ok(status_is($new, 'state', 'standby'), 'the standby follows');

$old->safe_psql('postgres', q{BEGIN; UPDATE users SET v = v + 1 WHERE id = 1; PREPARE TRANSACTION 'p'});
my $prepared = $old->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
$old->wait_for_catchup('new', 'replay', $prepared);
$new->stop('immediate');
$old->safe_psql('postgres', q{COMMIT PREPARED 'p'});
$old->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 2');
wait_delivered($old);
ok( wait_until(
		sub {
			my $restart = (split / /, position_of($redis, $old))[2];
			$old->safe_psql('postgres', "SELECT '$restart'::pg_lsn > '$prepared'::pg_lsn") eq 't';
		}),
	'delivered, and the position is behind it');
kill_server($old);

$new->start;
take_over($new);
wait_delivered($new);
cache_users($redis, 1 .. 10);
$new->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 3');
wait_delivered($new);
is($redis->exists(user_keys(1 .. 10)), 9, 'promoted: the resync is over, delivery is exact');
is($new->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 1, 'it is prepared here');
$new->safe_psql('postgres', q{COMMIT PREPARED 'p'});
ok(keys_gone($redis, 'user:1'), 'committed again: its key is deleted');
wait_delivered($new);
ok( $new->poll_query_until('postgres', 'SELECT cache_aside.read_token() IS NOT NULL'),
	'and when nothing is left that was open, there are tokens');

$new->stop;
done_testing();
