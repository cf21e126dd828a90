# Redis is away while the server changes twice. Planned switchovers lose nothing and need no resync, two
# in a row neither; but a planned one that follows a lossy promotion does not make that one clean: what
# was cached from a lost commit must go. And a standby that has found no database with the extension
# delivers as soon as it is promoted.
#
# Fails when the last switch alone decides (ca_tap_clean_switch with clean_switches > 0 alone, tap.c), and, for
# the last sentence, without counted_in_recovery in due() (census.c).
#
# Begun early: it takes long.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $conf = "wal_log_hints = on\nwal_keep_size = 64MB\nlog_min_messages = debug1\n";
my $a = CacheAside->new_node('a', redis => $redis, extension => 0, conf => $conf);
my $b = CacheAside->new_standby('b', $a, redis => $redis);
ok(wait_until(sub { log_since($b) =~ /unregistering background worker "cache_aside survey/ }),
	'the standby looked for the extension');
$a->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
make_users($a, 100);
wait_delivered($a);
cache_users($redis, 1 .. 100);

sub switch
{
	my ($from, $to, $how) = @_;
	$from->stop($how);
	take_over($to);
	return;
}

# The other one, which was stopped, follows now.
sub follow
{
	my ($standby, $primary) = @_;
	my $conf = PostgreSQL::Test::Utils::slurp_file($standby->data_dir . '/postgresql.conf');
	$primary->safe_psql('postgres', 'CHECKPOINT');
	system('pg_rewind', '--target-pgdata', $standby->data_dir, '--source-server', $primary->connstr('postgres'),
		'--no-sync') == 0 or die 'pg_rewind failed';
	unlink $standby->data_dir . '/postgresql.conf';
	PostgreSQL::Test::Utils::append_to_file($standby->data_dir . '/postgresql.conf', $conf);
	$standby->enable_streaming($primary);
	$standby->set_standby_mode;
	$standby->start;
	$primary->wait_for_catchup($standby->name, 'replay', $primary->lsn('insert'));
	return;
}

my $log = log_position($b);
switch($a, $b, 'fast');
$b->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id = 1');
ok(keys_gone($redis, 'user:1'), 'promoted, it delivers');
wait_delivered($b);
follow($a, $b);

# ---- two planned switchovers
cache_users($redis, 1 .. 100);
$b->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id = 2');
wait_delivered($b);
$redis->save->kill9;
$log = log_position($b);
switch($b, $a, 'fast');
follow($b, $a);
switch($a, $b, 'fast');
$redis->start;
wait_delivered($b);
is($redis->exists(user_keys(1 .. 100)), 99, 'two switchovers: everything stays');
like(log_since($b, $log), qr/needs no resync/, '... and that is said');
follow($a, $b);

# ---- a lossy one and a planned one
$a->append_conf('postgresql.conf', "primary_conninfo = ''\n");
$a->reload;
$a->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver') or die;
$b->safe_psql('postgres', 'UPDATE users SET v = 7 WHERE id = 3');
wait_delivered($b);
$redis->set('user:3', 'what is lost');
$redis->save->kill9;
switch($b, $a, 'immediate');
follow($b, $a);
switch($a, $b, 'fast');
$redis->start;
wait_delivered($b);
is($b->safe_psql('postgres', 'SELECT v FROM users WHERE id = 3'), 0, 'a commit was lost');
is($redis->exists('user:3'), 0, 'what was cached from it is gone');
is(status($b, 'timeline'), 6, 'no timeline was used twice');

$b->stop;
done_testing();
