# An idle server: its worker wakes no more than once a second on the average, answers of Redis included,
# writes nothing into the log, and sends Redis nothing that writes: what it renews is memory of the library.
# So does that of a standby that follows, which reads an answer when it looks at the log next, and that of a
# server with replicas, which says that it lives when it renews. Where the extension is not installed, or
# delivery is off, it sleeps. After all of that a commit is delivered at once.
#
# Remedies: ca_publish_timeout() of nothing registered (publish.c), quiet_timeout() (run.c),
# STANDBY_IDLE_PAUSE and is_patient() (role.c), QUIET_INTERVAL and QUIET_PATIENCE (publish.c).
#
# Begun early: it takes long.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/status";
my $seconds = $ENV{IDLE} // 4;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, extension => 0, conf => "autovacuum = off\n");

my $key = '';    # of the position, once there is one

sub wakes { return (slurp_file("/proc/$_[0]/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m)[0] }

# What Redis was told to do so far, by the names of commands.
sub calls
{
	my %calls = $redis->command('INFO', 'commandstats') =~ /^cmdstat_(\S+?):calls=(\d+)/mg;
	return \%calls;
}

# The position is at the end of the log. What our own looks add to the log, by pruning a page, is flushed by a commit.
sub settle
{
	my $client = PgWire->new($node);
	my $at_end = sub { $client->value('SELECT confirmed_lsn = pg_current_wal_insert_lsn() FROM cache_aside.status') eq 't' };
	wait_until(
		sub {
			my $until = time + 3;
			$client->value('SELECT txid_current()');
			Time::HiRes::sleep(0.1) while !$at_end->() && time < $until;
			return $at_end->();
		}) or die 'it lags';
	return;
}

# Three seconds in a row with few wakes: in one, a busy machine may have kept it from waking.
sub wait_quiet
{
	my ($pid) = @_;
	my ($before, $quiet) = (wakes($pid), 0);
	wait_until(
		sub {
			Time::HiRes::sleep(1);
			my $now = wakes($pid);
			$quiet = $now - $before < 5 ? $quiet + 1 : 0;
			$before = $now;
			return $quiet >= 3;
		});
	return;
}

# A worker's wakes a second, and what it sent meanwhile.
sub idle
{
	my ($what, $pid, $most) = @_;
	wait_quiet($pid);
	my $client = PgWire->new($node);
	my $position = $key ? $redis->get($key) : '';
	my ($lsn, $before) = ($client->value("SELECT pg_current_wal_insert_lsn()"), calls());
	my ($woke, $start) = (wakes($pid), time);
	wait_until(sub { time - $start >= $seconds });
	my $rate = (wakes($pid) - $woke) / (time - $start);
	my $after = calls();
	is($key ? $redis->get($key) : '', $position, "$what: the position stays");
	my %new = map { $_ => $after->{$_} - ($before->{$_} // 0) } grep { $after->{$_} > ($before->{$_} // 0) } keys %$after;
	delete @new{qw(info ping)};
	diag sprintf '%s: %.2f wakes a second; %s', $what, $rate, join ', ', map { "$_ $new{$_}" } sort keys %new;
	cmp_ok($rate, '<=', $most, "$what: it sleeps");
	is($client->value('SELECT pg_current_wal_insert_lsn()'), $lsn, "$what: nothing is written to the log");
	return \%new;
}

# It writes a snapshot into the log up to 15 s after something else was written.
my $bgwriter = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'});
kill 'STOP', $bgwriter;
my $worker = wait_worker($node);
$node->poll_query_until('postgres', 'SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ $$cache_aside (survey|topology)$$', '0');
idle('not installed', $worker, 1);

$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
wait_delivering($node);
make_users($node, 10);
wait_delivered($node);
$node->safe_psql('postgres', 'CHECKPOINT');
$key = position_key($node);
settle();
my $new = idle('delivering', $worker, 1.1);
is(join(' ', grep { /^(set|hset|unlink|eval|evalsha|del)/ } sort keys %$new), '', 'no write');
my $took = soonest(
	0.5,
	sub {
		cache_users($redis, 1);
		my $start = time;
		$node->value('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
		ok(keys_gone($redis, 'user:1'), 'a commit is delivered');
		return time - $start;
	});
cmp_ok($took, '<', 0.5, 'at once');

# ---- a standby that follows
my $standby = CacheAside->new_standby('standby', $node, redis => $redis);
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
my $follower = wait_worker($standby);
wait_until(sub { wakes($follower) > 100 });    # it looked often in the first seconds
settle();
idle('following', $follower, 1.3);

# ---- replicas are registered
$node->safe_psql('postgres', q{SELECT cache_aside.add_replica('standby', 'host=x')});
wait_until(sub { $redis->exists('cache_aside:primary') });
settle();
idle('with a replica', $worker, 1.3);
$standby->stop;

# ---- switched off
reload_conf($node, 'cache_aside.delivery' => 'off');
status_is($node, 'state', 'off');
idle('off', $worker, 1);
kill 'CONT', $bgwriter;
$node->stop;
done_testing();
