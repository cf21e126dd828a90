# The worker dies at each of its named points (see debug.c), with single commits, a large one, a
# pattern and a resync under way. Nothing is stale afterwards, and after a death without resync or
# pattern nothing else is missing.
#
# Each point stands for the claim of a file header that dying there loses nothing. Fails when the
# position is written before its keys: with `position->confirmed = ca_tap_read_end(tap)` in
# ca_ledger_next() (ledger.c).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "restart_after_crash = on\n");
make_users($node, 20_000);
$node->safe_psql('postgres', q{CREATE TABLE other (id int);
	SELECT cache_aside.attach('other', 'other:{id}')});
my $crashes = 0;

sub reaches
{
	my ($point, $action) = @_;
	reload_conf($node, 'cache_aside.debug_point' => $action ? "$point=$action" : '');
	return;
}

foreach my $point (
	'batch-begins', 'batch-sent', 'batch-answered', 'slot-moves',
	'claimed', 'caught-up', 'scan-begins', 'resync-begins',
	'visit-begins')
{
	my $resync = $point =~ /resync|visit/;
	$node->safe_psql('postgres', 'UPDATE users SET v = 0 WHERE v > 0');
	wait_delivered($node);
	cache_users($redis, 1 .. 20_000);
	$redis->mset(map { ("other:$_" => 'cached') } 1 .. 1000);
	my $log = log_position($node);
	my $worker = stop_process(worker_pid($node));
	reaches($point, 'kill');
	$node->safe_psql('postgres', q{
		UPDATE users SET v = 1 WHERE id = 1;
		UPDATE users SET v = 1 WHERE id BETWEEN 101 AND 19000;
		UPDATE users SET v = 1 WHERE id = 2});
	$node->safe_psql('postgres', 'TRUNCATE other') if $point =~ /scan|resync|visit/;
	$node->safe_psql('postgres', 'SELECT cache_aside.resync()') if $resync;
	$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
	  if $point eq 'claimed' || $point eq 'caught-up';
	go_on($worker);
	ok(wait_until(sub { log_since($node, $log) =~ /cache_aside worker" \(PID $worker\) was terminated/ }),
		"$point: the worker dies there");
	unlink $node->data_dir . '/postgresql.auto.conf';
	ok( wait_until(
			sub {
				$node->reload;
				return eval { PgWire->new($node)->value('SHOW cache_aside.debug_point') eq '' };
			}),
		"$point: the server is back");
	wait_delivered($node);
	my $found = compare($node, $redis);
	is($found->{stale}, '', "$point: nothing is stale");
	is($found->{lost}, '', "$point: nothing is lost") unless $resync;
	is(scalar(() = $redis->keys('other:*')), 0, "$point: the pattern is gone") if $point =~ /scan|resync|visit/;
}

$node->stop;
done_testing();
