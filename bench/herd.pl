# A thundering herd: many readers of one key that is invalidated again and again, with a database read
# that takes 20 ms. How many reads reach the database, with the lease and without.
use strict;
use warnings;
use Bench;
use PgClient;
use Time::HiRes qw(time);

use constant END_LENGTH => 20;
my $readers = 40;
my ($redis, $pg, $sql) = servers();
my $seconds = scaled(5, 1);
$sql->query(q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0);
	SELECT cache_aside.attach('t', 't:{id}')});
armed();

# Begins when all are connected: each takes one END_LENGTH from `go`, the time at which to end.
sub reader
{
	my ($lease_ms, $go) = @_;
	my $c = $pg->connect;
	my $r = $redis->client;
	my $key = spoiled() ? 'other:t:1' : 't:1';
	my ($hits, $reads, $stored) = (0, 0, 0);
	syswrite STDOUT, "ready\n";
	sysread $go, my $end, END_LENGTH or return '0 0 0';
	while (time < $end)
	{
		my $found = $r->command('FCALL', 'cache_aside_get', 1, $key, $lease_ms);
		if (defined $found && !ref $found) { $hits++; next; }
		if ($lease_ms && !defined $found) { select undef, undef, undef, 0.005; next; }
		$reads++;
		my ($row) = $c->query('SELECT v, cache_aside.read_token() FROM t, pg_sleep(0.02) WHERE id = 1');
		$stored += $r->command('FCALL', 'cache_aside_fill', 1, $key, $row->[0], 60000, $row->[1], $found ? @$found : ())
		  if defined $row->[1];
	}
	return "$hits $reads $stored";
}

# Invalidated ten times a second; returns hits and database reads per second. Most of the invalidations
# find the key: it was filled since the one before.
sub herd
{
	my ($lease_ms) = @_;
	my ($hits, $reads, $stored, $updates, $there) = (0) x 5;
	pipe my $go, my $starter or die "pipe: $!";
	my @pipes = map {
		my $pid = open(my $fh, '-|') // die "fork: $!";
		if ($pid == 0) { print reader($lease_ms, $go), "\n"; close STDOUT; POSIX::_exit(0); }
		$fh;
	} 1 .. $readers;
	readline $_ foreach @pipes;
	my $end = time + $seconds;
	syswrite $starter, sprintf '%-*.6f', END_LENGTH, $end foreach @pipes;
	while (time < $end)
	{
		$there += $redis->exists('t:1');
		$updates++;
		$sql->query('UPDATE t SET v = v + 1');
		select undef, undef, undef, 0.1;
	}
	foreach my $fh (@pipes)
	{
		my ($h, $d, $s) = split ' ', scalar <$fh>;
		$hits += $h;
		$reads += $d;
		$stored += $s;
		close $fh;
	}
	return ([ $hits / $seconds, $reads / $seconds ],
		commits => $updates,
		is => [ [ 'hits', $hits, '>= 1' ], [ 'fills stored', $stored, '>= ' . int($updates / 2) ],
			[ 'invalidations that found the key', $there, '>= ' . int($updates / 2) ] ]);
}

title("$readers readers of one key, invalidated 10 times a second, 20 ms to read it");
my %hits;

sub reads
{
	my ($what, $lease_ms) = @_;
	my $rates = proved($what, run => sub { herd($lease_ms) });
	$hits{$what} = $rates->[0];
	return $rates->[1];
}

my ($without, $with) = paired(scaled(3, 1),
	[ 'database reads/s without lease', sub { reads('without lease', 0) } ],
	[ 'database reads/s with lease', sub { reads('with lease', 2000) } ]);
note_line('hits/s without and with lease', sprintf '%.0f, %.0f', @hits{ 'without lease', 'with lease' });
note_line('database load, without / with', sprintf '%.1f', $without / $with);
