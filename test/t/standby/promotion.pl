# The primary dies under load and a standby takes over, with keys undelivered, prepared transactions
# open and two-chunk ones under way: every key of a row that the new primary has is gone, no other; what
# was prepared there is committed here. Then the old primary is rewound and follows, and a planned
# switchover back needs no resync.
#
# Fails when the follower keeps no log: without ca_slot_keep() in the worker's round (worker.c) what
# the primary had not delivered is removed by the restartpoints, and a resync takes everything. The
# switchover fails without ca_tap_clean_switch() in ca_catch_up_reached() (catch_up.c).
#
# Begun early: it takes long.
use strict;
use warnings;

use CacheAside;
use Faults;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $a = CacheAside->new_node('a', redis => $redis, initdb => ['--wal-segsize=1'],
	conf => "wal_log_hints = on\nmin_wal_size = 2MB\nmax_wal_size = 2MB\nautovacuum = off\n"
	  . "wal_keep_size = 64MB\n");
make_users($a, 20_000);
my $b = CacheAside->new_standby('b', $a, redis => $redis,
	conf => "cache_aside.resync_on_promotion = never\nwal_keep_size = 0\n");
ok(status_is($b, 'state', 'standby'), 'the standby follows');
wait_delivered($a);
cache_users($redis, 1 .. 20_000);

sub prepare
{
	my ($node, $name, $where) = @_;
	$node->safe_psql('postgres',
		"BEGIN; UPDATE users SET v = v + 1 WHERE $where; PREPARE TRANSACTION '$name'");
	return;
}

prepare($a, 'small', 'id = 15001');
prepare($a, 'large', 'id BETWEEN 16001 AND 20000');
prepare($a, 'never', 'id = 15002');
my $load = start_pgbench($a, 3, mixed_writes(15_000));
my $done = 'SELECT count(*) >= 300 FROM users WHERE v > 0';
$a->poll_query_until('postgres', $done) or die 'no load';

# Redis is away, its data is not; the log is switched and restartpoints are made on both.
$redis->save->kill9;
$a->poll_query_until('postgres', $done =~ s/300/600/r) or die 'no load';
$a->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id BETWEEN 14001 AND 14900');
fill_log($a, 20);
$a->wait_for_catchup('b', 'replay', $a->lsn('insert'));
$b->safe_psql('postgres', 'CHECKPOINT');
$a->poll_query_until('postgres', $done =~ s/300/800/r) or die 'no load';
kill_server($a);
stop_pgbench($load);
take_over($b);
$redis->start;
wait_delivered($b);
my $found = compare($b, $redis);
cmp_ok($found->{written}, '>=', 600, "rows were written ($found->{written})");
is($found->{stale}, '', 'promoted: every key of a written row is gone');
is($found->{lost}, '', 'promoted: every other key is there');

$b->safe_psql('postgres', q{ROLLBACK PREPARED 'never'});
$b->safe_psql('postgres', q{COMMIT PREPARED 'large'});
$b->safe_psql('postgres', q{COMMIT PREPARED 'small'});
wait_delivered($b);
$found = compare($b, $redis);
is("$found->{stale}|$found->{lost}", '|', 'prepared before, committed after the promotion');

# ---- the old primary, rewound, becomes a standby
$a->start;
ok(status_is($a, 'state', 'fenced'), 'the old primary is fenced');
$a->stop('fast');
$b->safe_psql('postgres', 'CHECKPOINT');
my $conf = PostgreSQL::Test::Utils::slurp_file($a->data_dir . '/postgresql.conf');
system('pg_rewind', '--target-pgdata', $a->data_dir, '--source-server', $b->connstr('postgres'),
	'--no-sync') == 0 or die 'pg_rewind failed';
unlink $a->data_dir . '/postgresql.conf', $a->data_dir . '/postgresql.auto.conf';
PostgreSQL::Test::Utils::append_to_file($a->data_dir . '/postgresql.conf', $conf);
$a->enable_streaming($b);
$a->set_standby_mode;
$a->start;
ok(status_is($a, 'state', 'standby'), 'rewound: it follows');
cache_users($redis, 1 .. 20_000);
$b->safe_psql('postgres', 'UPDATE users SET v = 0 WHERE v > 0');
wait_delivered($b);
cache_users($redis, 1 .. 20_000);
$b->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id <= 100');
wait_delivered($b);

# ---- planned switchover, back to a
$a->append_conf('postgresql.conf', "cache_aside.resync_on_promotion = auto\n");
$a->reload;
prepare($b, 'across', 'id BETWEEN 201 AND 300');
$redis->save->kill9;
$b->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id BETWEEN 101 AND 200');
$b->stop('fast');
my $log = log_position($a);
take_over($a);
$redis->start;
wait_delivered($a);
$found = compare($a, $redis);
is($found->{written}, 200, 'switchover: nothing is lost');
is("$found->{stale}|$found->{lost}", '|', '... exact');
like(log_since($a, $log), qr/needs no resync: the old primary was shut down cleanly/, '... and said');
$a->safe_psql('postgres', q{COMMIT PREPARED 'across'});
wait_delivered($a);
is($redis->exists(user_keys(1 .. 20_000)), 19_700, 'prepared across the switchover');

# ---- not planned: what nobody can know is deleted
my $c = CacheAside->new_standby('c', $a, redis => $redis);
cache_users($redis, 1 .. 20_000);
$a->wait_for_catchup('c', 'replay', $a->lsn('insert'));
kill_server($a);
take_over($c);
ok(keys_gone($redis, user_keys(1 .. 20_000)), 'auto, not clean: a resync');

$c->stop;
done_testing();
