# How much faster the worker reads a log without any message in it than pgbench, or COPY, writes one:
# the worker is stopped while they write; then the time is taken until it has read and confirmed all.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $worker = $pg->worker_pid;
my $seconds = scaled(20, 2);
my $rows = scaled(5_000_000, 100_000);

sub lsn { return $sql->value('SELECT pg_current_wal_flush_lsn()'); }

# (MB/s written, MB/s read)
sub write_then_read
{
	my ($write) = @_;
	delivered($sql);
	freeze($worker);
	my $from = lsn();
	my $written = timed($write);
	my $to = lsn();
	my $mb = $sql->value("SELECT '$to'::pg_lsn - '$from'::pg_lsn") / 1e6;
	thaw($worker);
	my $read = timed(sub { delivered($sql) });
	return ($mb / $written, $mb / $read);
}

sub pgbench
{
	system("pgbench -n -M prepared -c 8 -j 2 -T $seconds @{[ $pg->options ]} postgres >/dev/null 2>&1") == 0
	  or die 'pgbench failed';
	return;
}

sub copy
{
	my $file = $redis->dir . '/rows';
	$sql->query("TRUNCATE copied; COPY copied FROM '$file'");
	return;
}

sub measure
{
	my ($name, $write) = @_;
	my (@written, @read);
	foreach (1 .. scaled(3, 1))
	{
		my ($w, $r) = write_then_read($write);
		push @written, $w;
		push @read, $r;
	}
	note_line("$name writes, MB/s", join '  ', map { sprintf '%.0f', $_ } @written);
	note_line('worker reads it, MB/s', join '  ', map { sprintf '%.0f', $_ } @read);
	verdict('ratio of medians', median(@read) / median(@written), '>=', 5);
	return;
}

title('Reading a log without messages');
system("pgbench -i -q -s 10 @{[ $pg->options ]} postgres >/dev/null 2>&1") == 0 or die;
$sql->query('CREATE TABLE copied (id int, filler text)');
$sql->query("COPY (SELECT i, repeat('x', 90) FROM generate_series(1, $rows) i) TO '"
	  . $redis->dir . "/rows'");
measure('pgbench', \&pgbench);
measure('COPY', \&copy);
