# warm(): rows of a table, as key and value and as JSON: keys a second, and the CPU that backend and Redis take for each. It
# is claimed that every row is stored, under keys that were not there.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $rows = scaled(1_000_000, 20_000);
$sql->query("CREATE TABLE t AS SELECT i AS id, md5(i::text) AS payload FROM generate_series(1, $rows) i");
$sql->query(q{SELECT cache_aside.attach('t', 't:{id}')});
armed();
my $keys = numbered('t:', $rows);

my %cpu;

# Nanoseconds
sub cpu
{
	my ($pid) = @_;
	open my $fh, '<', "/proc/$pid/schedstat" or die "schedstat of $pid: $!";
	return (split ' ', <$fh>)[0];
}

sub warm
{
	my ($what, $call) = @_;
	return proved($what,
		keys => $keys,
		prepare => sub { forget_numbered($keys) },
		run => sub {
			my $stored;
			my @before = map { cpu($_) } $sql->backend_pid, $redis->pid;
			my $seconds = timed(sub { $stored = $sql->value('SELECT cache_aside.warm(' . $call->() . ')') });
			my @after = map { cpu($_) } $sql->backend_pid, $redis->pid;
			push @{ $cpu{$what}[$_] }, ($after[$_] - $before[$_]) / 1e3 / $rows foreach 0, 1;
			return ($rows / $seconds, stored => $rows, is => [ [ 'rows', $stored, $rows ] ]);
		});
}

sub other { return spoiled() ? 'other:' : ''; }

title('warm() of ' . commas($rows) . ' rows');
my $before = high_water($sql->backend_pid);
my ($query, $table) = paired(scaled($ENV{ROUNDS} // 5, 1),
	[ 'from a query, keys/s', sub {
		warm('from a query', sub { "\$\$SELECT '${\ other() }t:' || id, payload FROM t\$\$, '5 min'" });
	} ],
	[ 'from a table, keys/s', sub {
		warm('from a table', sub { "'t', '${\ other() }t:{id}', '5 min'" });
	} ]);
verdict('from a query, keys/s', $query, '>=', 250_000, '%.0f');
verdict('from a table, keys/s', $table, '>=', 250_000, '%.0f');
note_line("$_, us of CPU a key", sprintf 'backend %.2f, Redis %.2f', map { median(@$_) } @{ $cpu{$_} })
  foreach 'from a query', 'from a table';
note_line('memory of the backend grew by, MB', sprintf '%.1f', high_water($sql->backend_pid) - $before);
