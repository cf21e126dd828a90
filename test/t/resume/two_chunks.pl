# A transaction of two messages (more than 64 kB of keys), not prepared: others commit between its
# first message, its second and its commit record. The worker ends, or loses Redis, at each of these
# places in the log and goes on: no key is missed. And whatever position it ever wrote, resuming from
# it deletes every key of a commit above its confirmed LSN, and no key of one below.
#
# Fails without `position->restart = Min(position->restart, open)` in ca_ledger_next() (ledger.c):
# the first message lies before the position, and is never read again. (resume/resume_points is this
# for prepared transactions.)
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/stat";
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "autovacuum = off\n");
my $key = position_key($node);
my $watch = PgWire->new($node);
my @commits;                              # { lsn, keys }
my %positions;
my $run = 0;
wait_delivered($node);
my $resyncs = status($node, 'resyncs');

sub lsn_number
{
	my ($hi, $lo) = split m{/}, $_[0];
	return (hex($hi) << 32) + hex $lo;
}

# 100 keys of about 1 kB make two messages; a single one is small.
sub keys_of
{
	my ($name, $n) = @_;
	return map { $n == 1 ? "$name:$_" : "$name:$_:" . 'x' x 1000 } 1 .. $n;
}

sub invalidate
{
	return 'SELECT cache_aside.invalidate(VARIADIC ARRAY[' . join(',', map { "'$_'" } @_) . '])';
}

sub committed
{
	my ($session, @keys) = @_;
	push @commits,
	  { lsn => lsn_number($session->value('SELECT cache_aside.commit_lsn()')), keys => \@keys };
	return;
}

sub small_commit
{
	my ($name) = @_;
	my $session = PgWire->new($node);
	$session->query(invalidate(keys_of($name, 1)));
	return committed($session, keys_of($name, 1));
}

# At its debug point a process stops itself.
sub stopped
{
	my ($pid) = @_;
	return wait_until(sub { slurp_file("/proc/$pid/stat") =~ /\) T / })
	  || die "process $pid does not stop";
}

# A session that stops behind each message it logs.
sub hesitant_session
{
	reload_conf($node, 'cache_aside.debug_point' => 'chunk-logged=stop');
	return PgWire->new($node);
}

# The worker has read and written everything there is; then it ends, or its connection does.
sub interrupt
{
	my ($how) = @_;
	wait_delivered($node);
	$positions{ $redis->get($key) } = 1 if $run % 2;
	return if $how eq 'nothing';
	my $worker = worker_pid($node);
	if ($how eq 'the worker ends')
	{
		$watch->query("SELECT pg_terminate_backend($worker)");
		wait_worker($node, $worker);
	}
	else
	{
		my $reconnects = status($node, 'reconnects');
		$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
		$node->poll_query_until('postgres', "SELECT reconnects > $reconnects FROM cache_aside.status")
		  or die 'no new connection';
	}
	return;
}

# One transaction of two messages among small ones, interrupted at place number `at`.
sub interleave
{
	my ($how, $at) = @_;
	my $name = 'run' . ++$run;
	my @large = keys_of("$name:large", 100);
	my @all = (@large, map { keys_of("$name:$_", 1) } 'b', 'c', 'd');
	my @places = ('before', 'behind the first message', 'behind another commit',
		'behind the second message', 'before its commit', 'behind its commit');
	$redis->mset((map { ($_ => 'x') } @all), "$name:kept" => 'x');
	my $session = hesitant_session();
	my $place = sub { interrupt($_[0] == $at ? $how : 'nothing') };
	$place->(0);
	$session->send(invalidate(@large));
	stopped($session->{pid});
	reload_conf($node, 'cache_aside.debug_point' => '');    # for the others
	$place->(1);
	small_commit("$name:b");
	$place->(2);
	go_on($session->{pid});
	stopped($session->{pid});
	$place->(3);
	small_commit("$name:c");
	$place->(4);
	go_on($session->{pid});
	is($session->receive->{tag}, 'SELECT 1', 'it commits');
	committed($session, @large);
	small_commit("$name:d");
	$place->(5);
	wait_delivered($node);
	ok($redis->exists(@all) == 0 && is_cached($redis, "$name:kept"),
		"$how $places[$at]: every key is gone, no other");
	return;
}

foreach my $how ('the worker ends', 'Redis hangs up') { interleave($how, $_) foreach 1 .. 5; }

# ---- every position that was ever there
my @positions = sort keys %positions;
cmp_ok(scalar(grep { !/^1 (\S+) \1 / } @positions), '>=', 15, 'positions with a restart LSN of its own');
my $wrong = 0;
foreach my $position (@positions)
{
	my (undef, $confirmed) = split / /, $position;
	my @above = map { @{ $_->{keys} } } grep { $_->{lsn} > lsn_number($confirmed) } @commits;
	my @below = map { @{ $_->{keys} } } grep { $_->{lsn} <= lsn_number($confirmed) } @commits;
	$redis->mset(map { ($_ => 'x') } @above, @below);
	$redis->set($key, $position);
	wait_delivered($node);
	next if (!@above || $redis->exists(@above) == 0) && (!@below || $redis->exists(@below) == @below);
	$wrong++;
	diag("resumed wrongly from $position");
}
is($wrong, 0, scalar(@positions) . ' positions: resuming from each is exact');
is(status($node, 'resyncs'), $resyncs, 'no resync');

$node->stop;
done_testing();
