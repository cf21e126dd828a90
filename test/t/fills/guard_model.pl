# Many readers and writers, with everything that can make a fill late: random pauses between read and
# fill, one-snapshot and long transactions, a pause between Bind and Execute, a standby that stands
# still now and then; and with everything that makes Redis forget: evictions in a small memory,
# FLUSHALL, the guard evicted, kill -9, an old snapshot restored.
#
# The row counts its versions. An observer reads a version, waits until everything so far is
# delivered, and then the cache must not hold an older one; at the end, every entry is compared with
# its row. The same with plain SETEX must find stale entries: it shows that the test bites.
#
# Whoever kills Redis puts off for some seconds that anybody is told (arming.c). So it is killed in the first
# part of each 15 s: the observer compares in the rest, whatever the seed.
#
# SEED=n repeats a run's choices, SECONDS=n makes it longer. The pauses are what is tested; nothing
# here waits for time to pass.
use strict;
use warnings;

use CacheAside;
use File::Temp;
use PgClient;
use POSIX qw(fmod);
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
my $seed = $ENV{SEED} // time % 1_000_000;
my $seconds = $ENV{SECONDS} // 15;
my $rows = 30;
my $results = File::Temp::tempdir(CLEANUP => 1);
my $redis = RedisServer->new(conf => "maxmemory-policy allkeys-lru\n")->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', qq{CREATE TABLE kv (id int PRIMARY KEY, v int NOT NULL);
	SELECT cache_aside.attach('kv', 'kv:{id}');
	INSERT INTO kv SELECT g, 0 FROM generate_series(1, $rows) g});
wait_delivered($node);
my $standby = CacheAside->new_standby('standby', $node, redis => $redis);
my $old = $redis->dir . '/old.rdb';
diag "SEED=$seed";

my ($begin, $end, $guarded, $number);

use constant { PERIOD => 15, KILLING => 6, TOLD_WITHIN => '10 s' };

sub pause { select undef, undef, undef, rand($_[0]); return; }
sub pg { return PgClient->new(dir => $_[0]->host, port => $_[0]->port); }

# Commands to a Redis that may be dead, full, frozen or new: no answer is an answer.
sub redis_call
{
	my @command = @_;
	my $reply = eval { $redis->command(@command) };
	return $reply;
}

# Runs a step again and again in a process of its own; what it returns is added up in a file. The step
# is made in the process, so that its connections are the process's own.
sub spawn
{
	my ($name, $make, @with) = @_;
	my $me = ++$number;
	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	srand($seed + $me);
	delete $redis->{client};
	my %sum;
	my $ok = eval {
		my $step = $make->(@with);
		while (time < $end) { my ($what) = $step->(); $sum{$what}++ if defined $what; }
		1;
	};
	open my $fh, '>', "$results/$name.$me" or POSIX::_exit(1);
	print $fh "$_ $sum{$_}\n" foreach keys %sum;
	print $fh "died: $@" unless $ok;
	close $fh;
	POSIX::_exit(0);
}

sub writer
{
	my $c = pg($node);
	return sub {
		my $id = 1 + int rand $rows;
		my $big = rand() < 0.02; # now and then more keys than raise buckets one by one
		$c->query(rand() < 0.1 ? "BEGIN; UPDATE kv SET v = v + 1 WHERE id = $id; ROLLBACK"
			: $big ? "BEGIN; UPDATE kv SET v = v + 1 WHERE id = $id;
				SELECT cache_aside.invalidate(VARIADIC array_agg('other:' || g))
				FROM generate_series(1, 300) g; COMMIT"
			: "UPDATE kv SET v = v + 1 WHERE id = $id");
		pause(0.02);
		return $big ? 'big' : 'written';
	};
}

sub read_row
{
	my ($c, $id, $way) = @_;
	my $read = "SELECT v, cache_aside.read_token() FROM kv WHERE id = $id";
	if ($way == 0)
	{
		$c->bind($read);
		pause(0.03);
		return $c->execute;
	}
	if ($way == 1)
	{
		$c->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
		pause(0.03);
		my ($row) = $c->query($read);
		$c->query('COMMIT');
		return $row;
	}
	if ($way == 2) # token and row of different statements
	{
		$c->query('BEGIN');
		my $v = $c->value("SELECT v FROM kv WHERE id = $id");
		pause(0.03);
		my $token = $c->value('SELECT cache_aside.read_token()');
		$c->query('COMMIT');
		return [ $v, $token ];
	}
	return ($c->query($read))[0];
}

sub reader
{
	my ($server) = @_;
	my $c = pg($server);
	return sub {
		my $id = 1 + int rand $rows;
		my ($row) = read_row($c, $id, int rand 6);
		my ($v, $token) = @$row;
		pause(rand() < 0.2 ? 0.2 : 0.01);
		if (!$guarded)
		{
			redis_call('SETEX', "kv:$id", 60, $v);
			return 'stored';
		}
		return 'no token' unless defined $token;
		my $stored = redis_call('FCALL', 'cache_aside_fill', 1, "kv:$id", $v, 60000, $token);
		return !defined $stored ? 'no answer' : $stored ? 'stored' : 'refused';
	};
}

# A transaction that reads once and fills again and again.
sub long_reader
{
	my $c = pg($node);
	return sub {
		$c->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
		foreach (1 .. 20)
		{
			my $id = 1 + int rand $rows;
			my ($v, $token) = @{ read_row($c, $id, 9) };
			if ($guarded && defined $token)
			{
				redis_call('FCALL', 'cache_aside_fill', 1, "kv:$id", $v, 60000, $token);
			}
			elsif (!$guarded) { redis_call('SETEX', "kv:$id", 60, $v); }
			pause(0.05);
		}
		$c->query('COMMIT');
		return 'long';
	};
}

# A Redis that went back in time may be read until it was caught up with: hence the second look.
sub observer
{
	my $c = pg($node);
	return sub {
		my $id = 1 + int rand $rows;
		my $v = $c->value("SELECT v FROM kv WHERE id = $id");
		foreach (1, 2)
		{
			return 'undecided' if $c->value(q{SELECT cache_aside.wait_delivered(NULL, '} . TOLD_WITHIN . q{')}) ne 't';
			my $cached = redis_call('GET', "kv:$id");
			return defined $cached ? 'compared' : 'absent' if !defined $cached || $cached >= $v;
		}
		return 'stale';
	};
}

# A Redis that is started again, as it was or as it was once.
sub restart
{
	my ($snapshot) = @_;
	return if fmod(time - $begin, PERIOD) > KILLING || $snapshot && !-e $snapshot;
	$redis->kill9->start unless $snapshot;
	$redis->restore_from($snapshot) if $snapshot;
	return $snapshot ? 'old snapshot' : 'kill -9';
}

sub faults
{
	my $replica = pg($standby);
	my $paused = 0;
	my @faults = (
		sub { redis_call('FLUSHALL'); return 'flush'; },
		sub { redis_call('DEL', $redis->keys('cache_aside:guard*')); return 'guard evicted'; },
		sub { redis_call('DEL', $redis->keys('cache_aside:position*')); return 'position evicted'; },
		sub { return restart(); },
		sub { $redis->save_to($old); return 'saved'; },
		sub { return restart($old); },
		sub { redis_call('CONFIG', 'SET', 'maxmemory', 1 + $redis->info('used_memory')); return 'small'; },
		sub { redis_call('CONFIG', 'SET', 'maxmemory', 0); return 'roomy'; },
		(
			sub {
				$paused = !$paused;
				$replica->query('SELECT pg_wal_replay_' . ($paused ? 'pause' : 'resume') . '()');
				return $paused ? 'standby paused' : 'standby resumed';
			}
		) x 3);
	return sub {
		pause(0.6);
		return $faults[ rand @faults ]->();
	};
}

sub totals
{
	my (%sum, @died);
	foreach my $file (glob "$results/*")
	{
		open my $fh, '<', $file or die $!;
		my ($name) = $file =~ m{([^/]+)\.\d+$};
		while (my $line = <$fh>)
		{
			if ($line =~ /^(.*) (\d+)$/ && $line !~ /^died/) { $sum{"$name: $1"} += $2; }
			else { push @died, "$name $line"; }
		}
		close $fh;
		unlink $file;
	}
	is("@died", '', 'every process lived to the end');
	diag join ', ', map { "$_ $sum{$_}" } sort keys %sum;
	return \%sum;
}

# Faults are injected by this process: it owns the servers.
sub round
{
	($guarded, my $with_faults) = @_;
	$begin = time;
	$end = $begin + ($guarded ? $seconds : $seconds / 2);
	$number = 0;
	my @pids;
	push @pids, spawn('writer', \&writer) foreach 1, 2;
	push @pids, spawn('reader', \&reader, $node) foreach 1 .. 4;
	push @pids, spawn('standby reader', \&reader, $standby) foreach 1, 2;
	push @pids, spawn('long reader', \&long_reader);
	push @pids, spawn('observer', \&observer) foreach 1, 2;
	my (%injected, $step);
	srand($seed);
	$step = faults() if $with_faults;
	while ($with_faults && time < $end)
	{
		my $what = $step->();
		$injected{$what}++ if defined $what;
	}
	waitpid($_, 0) foreach @pids;
	diag join ', ', map { "$_ $injected{$_}" } sort keys %injected if $with_faults;
	redis_call('CONFIG', 'SET', 'maxmemory', 0);
	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
	wait_delivered($node);
	my %row = map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT id, v FROM kv');
	my @stale = grep { my $v = redis_call('GET', "kv:$_"); defined $v && $v != $row{$_} } keys %row;
	my $sum = totals();
	return (scalar @stale, $sum);
}

my ($left, $sum) = round(0, 0);
cmp_ok($left + ($sum->{'observer: stale'} // 0), '>', 0, 'plain SETEX: stale entries are found');
$redis->flushall;
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), 'armed');
($left, $sum) = round(1, 1);
is($sum->{'observer: stale'} // 0, 0, 'guarded fills: none stale at any time');
is($left, 0, 'and none stale at the end');
cmp_ok($sum->{'reader: stored'} // 0, '>', 100, 'many fills were stored');
cmp_ok($sum->{'standby reader: stored'} // 0, '>', 0, 'from the standby too');
cmp_ok(($sum->{'reader: refused'} // 0) + ($sum->{'standby reader: refused'} // 0), '>', 10, 'and many refused');
cmp_ok($sum->{'observer: compared'} // 0, '>', 50, 'many entries were compared');
done_testing();
