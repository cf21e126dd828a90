# From COMMIT's return to the key being gone, as one client sees it: it caches a key, updates the row, and
# asks Redis until the key is gone. The answer that says so is included. On a quiet server, and while
# pgbench writes another table with a rule, eight clients at 80 % of the rate that they reach by themselves.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $cache = $redis->client;
my $samples = scaled(3000, 200);
my $seconds = scaled(10, 1);
my $key = numbered('row:', 1);
my $script = update_script();
my @ms;

sub sample
{
	cache_numbered($key);
	my $there = $cache->command('EXISTS', 'row:1');
	$sql->query('UPDATE t SET n = n + 1 WHERE id = 1');
	my $committed = time;
	1 while $cache->command('EXISTS', 'row:1');
	push @ms, 1000 * (time - $committed);
	return $there;
}

sub quiet
{
	my $there = 0;
	@ms = ();
	$there += sample() foreach 1 .. $samples;
	return (undef, commits => $samples, is => [ [ 'keys that were there', $there, $samples ] ]);
}

# As many samples as fit into the load, which runs in a child; what it has committed is told by its pipe.
sub loaded
{
	my ($rate) = @_;
	my ($there, $n) = (0, 0);
	@ms = ();
	my $pid = open(my $load, '-|') // die "fork: $!";
	if ($pid == 0)
	{
		my (undef, $count) = eval { pgbench("-c 8 -j 2 --rate=$rate -T $seconds -f $script") };
		print STDERR $@;
		print "$count\n" if $count;
		close STDOUT;
		POSIX::_exit($count ? 0 : 1);
	}
	my $end = time + 0.9 * $seconds;
	while (time < $end || $n == 0) { $there += sample(); $n++; select undef, undef, undef, 0.001; }
	my $count = <$load> // die "no load\n";
	close $load or die "the load failed\n";
	return (undef, commits => $count + $n, is => [ [ 'keys that were there', $there, $n ] ]);
}

# The same for each load: percentiles of each run, medians against targets.
sub measure
{
	my ($what, $run, @targets) = @_;
	my %p;
	foreach (1 .. scaled(5, 1))
	{
		proved($what, run => $run);
		push @{ $p{$_} }, percentile($_, @ms) foreach 50, 99, 99.9;
	}
	note_line("$what: p$_ of each run, ms", join '  ', map { sprintf '%.3f', $_ } @{ $p{$_} }) foreach 50, 99, 99.9;
	verdict("$what: p$_, ms", median(@{ $p{$_} }), '<=', shift @targets, '%.3f') foreach 50, 99, 99.9;
	return;
}

title('Commit to key gone, one client');
$sql->query("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)");
$sql->query("SELECT cache_aside.attach('t', 'row:{id}')");
my $accounts = accounts(scaled(3, 1));
$sql->query("SELECT cache_aside.attach('pgbench_accounts', 'account:{aid}')");
sample() foreach 1 .. 100;
delivered($sql);
measure('quiet', \&quiet, 0.15, 0.5, 2);
cache_numbered(numbered('account:', $accounts));
my ($full) = pgbench("-c 8 -j 2 -T $seconds -f $script");
delivered($sql);
my $rate = int(0.8 * $full) || 1;
note_line('80 % of full load, TPS', $rate);
measure('80 %', sub { loaded($rate) }, 0.15, 0.5, 2);
