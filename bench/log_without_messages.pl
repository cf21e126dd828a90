# How much faster the worker reads a log without any message in it than pgbench, or COPY, writes one:
# the worker is stopped while they write; then the time is taken until it has read and confirmed all.
# That the log holds no message is claimed: no commit of it is one that the worker has to deliver.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $worker = $pg->worker_pid;
my $seconds = scaled(20, 2);
my $rows = scaled(5_000_000, 100_000);

# Whether what is written has rules; it has none unless this is to be spoiled.
sub set_rules
{
	my ($wanted) = @_;
	foreach ([ 'pgbench_accounts', 'aid' ], [ 'copied', 'id' ])
	{
		$sql->query("SELECT cache_aside.detach('$_->[0]')");
		$sql->query("SELECT cache_aside.attach('$_->[0]', 'spoiled:{$_->[1]}')") if $wanted;
	}
	delivered($sql);
	return;
}

sub lsn { return $sql->value('SELECT pg_current_wal_flush_lsn()'); }

# (MB/s written, MB/s read)
sub write_then_read
{
	my ($write) = @_;
	freeze($worker);
	my $from = lsn();
	my $written = timed($write);
	my $to = lsn();
	my $mb = $sql->value("SELECT '$to'::pg_lsn - '$from'::pg_lsn") / 1e6;
	my $unread = $sql->value("SELECT count(*) FROM cache_aside.status WHERE confirmed_lsn <= '$from' AND read_lsn <= '$from'");
	thaw($worker);
	my $read = timed(sub { delivered($sql) });
	my $confirmed = $sql->value("SELECT count(*) FROM cache_aside.status WHERE confirmed_lsn >= '$to'");
	return ([ $mb / $written, $mb / $read ],
		is => [ [ 'all of it unread before', $unread, 1 ], [ 'read after', $confirmed, 1 ], [ 'kB written', int(1000 * $mb), '>= 10' ] ]);
}

sub tpcb { return pgbench("-c 8 -j 2 -T $seconds"); }

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
		my $rates = proved($name,
			prepare => sub { set_rules(spoiled()) },
			run => sub { write_then_read($write) });
		push @written, $rates->[0];
		push @read, $rates->[1];
	}
	note_line("$name writes, MB/s", join '  ', map { sprintf '%.0f', $_ } @written);
	note_line('worker reads it, MB/s', join '  ', map { sprintf '%.0f', $_ } @read);
	verdict('ratio of medians', median(@read) / median(@written), '>=', 5);
	return;
}

title('Reading a log without messages');
accounts(scaled(10, 1));
$sql->query('CREATE TABLE copied (id int, filler text)');
$sql->query("COPY (SELECT i, repeat('x', 90) FROM generate_series(1, $rows) i) TO '"
	  . $redis->dir . "/rows'");
measure('pgbench', \&tpcb);
measure('COPY', \&copy);
