# While commits come fast the worker pauses between batches, for cache_aside.batch_delay; not at all with 0, nor while somebody waits for a delivery.
#
# Remedies: in pace.c pg_usleep() in ca_pace_pause (without: it reads log all the time), somebody_waits() there
# (who waits would wait for each pause), ca_queue_commits() in ca_pace_is_due() (commits delivered instead: after a long pause there seem to be few).
use strict;
use warnings;

use CacheAside;
use Faults;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes qw(sleep time);

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
autovacuum = off
log_statement = none
EOC
make_users($node, 100);
wait_delivered($node);
my $script = "$PostgreSQL::Test::Utils::tmp_check/commit.sql";
append_to_file($script, "\\set id random(1, 100)\nUPDATE users SET v = v + 1 WHERE id = :id;\n");

# Batches per second while 4000 commits come; `meanwhile` is done then. Undef: this machine is too slow for it.
sub batches
{
	my ($delay, $meanwhile) = @_;
	reload_conf($node, 'cache_aside.batch_delay' => $delay);
	my $load = IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-R', 4000, '-T', 20, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \my $out, '2>', \my $err);
	sleep 0.5;
	my ($before, $commits, $start) = (split(' ', status($node, q{batches || ' ' || commits})), time);
	sleep 1.5;
	my ($after, $later) = split ' ', status($node, q{batches || ' ' || commits});
	my $seconds = time - $start;
	note sprintf '%s: %.0f commits, %.0f batches a second', $delay, ($later - $commits) / $seconds, ($after - $before) / $seconds;
	$meanwhile->() if $meanwhile;
	$load->signal('TERM');
	eval { $load->finish };
	wait_delivered($node);
	return ($later - $commits) / $seconds > 2700 ? ($after - $before) / $seconds : undef;
}

my $long = batches('20ms');
my $took;
my $longest = batches('100ms', sub {
	my $start = time;
	wait_delivered($node) foreach 1 .. 20;
	$took = time - $start;
});
my $none = batches(0);
SKIP:
{
	skip('this machine is too slow', 4) unless $long && $longest && $none;
	cmp_ok($long, '<', 120, 'pauses: no more batches than they leave room for, or little more');
	cmp_ok($longest, '<', 40, 'with pauses longer than commits are counted for, too');
	cmp_ok($none, '>', 5 * $long, 'none: many more');
	cmp_ok($took, '<', 1, 'who waits does not wait for each pause');
}

$node->stop;
done_testing();
