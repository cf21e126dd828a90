# From COMMIT's return to the key being gone, as one client sees it on a quiet server: it caches a key,
# updates the row, and asks Redis until the key is gone. The answer that says so is included.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $cache = $redis->client;
my $samples = scaled(3000, 200);
my $key = numbered('row:', 1);
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

sub samples
{
	my $there = 0;
	@ms = ();
	$there += sample() foreach 1 .. $samples;
	return (undef, commits => $samples, is => [ [ 'keys that were there', $there, $samples ] ]);
}

title('Commit to key gone, one client');
$sql->query("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)");
$sql->query("SELECT cache_aside.attach('t', 'row:{id}')");
sample() foreach 1 .. 100;
delivered($sql);
my (@p50, @p99);
foreach (1 .. scaled(5, 1))
{
	proved('samples', run => \&samples);
	push @p50, percentile(50, @ms);
	push @p99, percentile(99, @ms);
}
note_line('p50 of each run, ms', join '  ', map { sprintf '%.3f', $_ } @p50);
note_line('p99 of each run, ms', join '  ', map { sprintf '%.3f', $_ } @p99);
verdict('p50, ms', median(@p50), '<', 0.5);
verdict('p99, ms', median(@p99), '<', 3.0);
