# A thundering herd: many readers of one key that is invalidated again and again, with a database read
# that takes 20 ms. How many reads reach the database, with the lease and without.
use strict;
use warnings;
use Bench;
use PgClient;
use Time::HiRes qw(time);

my $readers = 40;
my ($redis, $pg, $sql) = servers();
my $seconds = scaled(5, 1);
$sql->query(q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0);
	SELECT cache_aside.attach('t', 't:{id}')});
delivered($sql);
die 'not armed'
  unless $redis->wait_until(sub { $sql->value(q{SELECT cache_aside.fill('probe', 'v')}) eq 't' });

sub reader
{
	my ($lease_ms, $end) = @_;
	my $c = $pg->connect;
	my $r = $redis->client;
	my ($hits, $reads) = (0, 0);
	while (time < $end)
	{
		my $found = $r->command('FCALL', 'cache_aside_get', 1, 't:1', $lease_ms);
		if (defined $found && !ref $found) { $hits++; next; }
		if ($lease_ms && !defined $found) { select undef, undef, undef, 0.005; next; }
		$reads++;
		my ($row) = $c->query('SELECT v, cache_aside.read_token() FROM t, pg_sleep(0.02) WHERE id = 1');
		$r->command('FCALL', 'cache_aside_fill', 1, 't:1', $row->[0], 60000, $row->[1], $found ? @$found : ())
		  if defined $row->[1];
	}
	return "$hits $reads";
}

# Invalidated ten times a second; returns hits and database reads per second.
sub herd
{
	my ($lease_ms) = @_;
	my $end = time + $seconds;
	my ($hits, $reads) = (0, 0);
	my @pipes = map {
		my $pid = open(my $fh, '-|') // die "fork: $!";
		if ($pid == 0) { print reader($lease_ms, $end), "\n"; close STDOUT; POSIX::_exit(0); }
		$fh;
	} 1 .. $readers;
	while (time < $end)
	{
		$sql->query('UPDATE t SET v = v + 1');
		select undef, undef, undef, 0.1;
	}
	foreach my $fh (@pipes)
	{
		my ($h, $d) = split ' ', scalar <$fh>;
		$hits += $h;
		$reads += $d;
		close $fh;
	}
	return ($hits / $seconds, $reads / $seconds);
}

title("$readers readers of one key, invalidated 10 times a second, 20 ms to read it");
my %hits;
my ($without, $with) = paired(scaled(3, 1),
	[ 'database reads/s without lease', sub { my ($h, $d) = herd(0); $hits{0} = $h; return $d; } ],
	[ 'database reads/s with lease', sub { my ($h, $d) = herd(2000); $hits{1} = $h; return $d; } ]);
note_line('hits/s without and with lease', sprintf '%.0f, %.0f', $hits{0}, $hits{1});
note_line('database load, without / with', sprintf '%.1f', $without / $with);
