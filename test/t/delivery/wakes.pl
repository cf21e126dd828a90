# A commit wakes the worker only if it wants to know: not where delivery is off, nor in an outage whose first commit
# it knows. Whoever begins to want it misses none: one that came when that was not known yet is found by looking at
# the log once more, before the worker sleeps.
#
# Remedies: ca_status_tell_commit in status.c (without its condition: woken by each); in worker.c the return behind
# ca_status_want_commits (without: found ten seconds later).
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
plan(skip_all => 'needs /proc') unless -r "/proc/$$/status";
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', conf => "autovacuum = off\n");
reload_conf($node, 'cache_aside.redis_url' => $redis->url);
make_users($node, 100);
wait_delivered($node);
my $client = PgWire->new($node);
my $worker = worker_pid($node);

sub of_worker { my ($what) = @_; return (slurp_file("/proc/$worker/status") =~ /^$what:\s+(\S+)/m)[0]; }
sub commit { my ($id) = @_; $client->query("UPDATE users SET v = v + 1 WHERE id = $id"); return; }

# How often the worker slept while so many transactions committed
sub wakes
{
	my ($commits) = @_;
	my $before = of_worker('voluntary_ctxt_switches');
	commit(1 + $_ % 100) foreach 1 .. $commits;
	return of_worker('voluntary_ctxt_switches') - $before;
}

# ---- who delivers is woken
cache_users($redis, 1 .. 100);
cmp_ok(wakes(50), '>', 0, 'delivering: it wakes');
wait_delivered($node);

# ---- in an outage for the first
$redis->stop;
status_is($node, 'trouble', 'unreachable');
commit(1);
ok(status_is($node, 'oldest_undelivered IS NOT NULL', 't'), 'outage: the first is noticed');
my $start = time;
my $wakes = wakes(400);
cmp_ok($wakes, '<', 100 + 30 * (time - $start), 'outage: it sleeps through those behind');
$redis->start;
wait_delivered($node);
cache_users($redis, 5);
commit(5);
ok(keys_gone($redis, 'user:5'), 'the outage is over: delivered');

# ---- off: for none
reload_conf($node, 'cache_aside.delivery' => 'off');
status_is($node, 'state', 'off');
$start = time;
cmp_ok(wakes(400), '<', 100 + 30 * (time - $start), 'off: it sleeps');

# ---- it begins to want them, and one commits before anybody can know
$node->safe_psql('postgres', 'CHECKPOINT');    # from where it reads, in one round
unlink $node->data_dir . '/postgresql.auto.conf';    # to be delivered, nobody knows where to
reload_conf($node, 'cache_aside.debug_point' => 'wants-commits=stop');
ok(wait_until(sub { of_worker('State') eq 'T' }), 'the worker has looked at the log, and stops');
commit(7);
$start = time;
go_on($worker);
ok(status_is($node, 'oldest_undelivered IS NOT NULL', 't'), 'it is found');
cmp_ok(time - $start, '<', 7, 'at once');

$node->stop;
done_testing();
