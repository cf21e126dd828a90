# get() and fetch() of what is cached, from SQL, over a plain GET by the same backend (plain_get.c): the least that
# is possible, which blocks in read(), and the least that can be cancelled. And get() of what is missing. CPU of the
# backend and of Redis together, and the time that passes, a call; values of 100 bytes. It is claimed that every call
# brought a value, or that none did.
use strict;
use warnings;
use Bench;
use File::Basename qw(dirname);
use File::Temp ();

if (system('cc --version >/dev/null 2>&1')) { print "skipped: no C compiler\n"; exit 0; }
my ($redis, $pg, $sql) = servers();
my $n = scaled(5_000, 500);
my $dir = File::Temp::tempdir(TMPDIR => 1, CLEANUP => 1);

sub install
{
	chomp(my $include = `$ENV{PG_CONFIG} --includedir-server`);
	system('cc', '-O2', '-shared', '-fPIC', "-I$include", '-o', "$dir/plain_get.so", dirname(__FILE__) . '/plain_get.c', '-lhiredis') == 0
	  or die "plain_get.c does not compile\n";
	chmod 0755, $dir;
	my %functions = ('plain_get_connect(text)' => 'void', 'plain_get(text)' => 'text', 'plain_get_waiting(text)' => 'text');
	$sql->query("CREATE FUNCTION $_ RETURNS $functions{$_} LANGUAGE c AS '$dir/plain_get'") foreach sort keys %functions;
	$sql->query("SELECT plain_get_connect('" . $redis->socket . "')");
	return;
}

# Nanoseconds that backend and Redis have used
sub cpu
{
	my $sum = 0;
	foreach my $pid ($sql->backend_pid, $redis->pid)
	{
		open my $fh, '<', "/proc/$pid/schedstat" or die "schedstat of $pid: $!";
		$sum += (split ' ', <$fh>)[0];
	}
	return $sum;
}

my $keys = numbered('key:', $n);
my %elapsed;

# Microseconds of CPU a call; $call: of a key k
sub side
{
	my ($what, $call, $missing) = @_;
	my $query = "SELECT count($call) FROM (SELECT 'key:' || i AS k FROM generate_series(1, %d) i OFFSET 0) s";
	return proved($what,
		baseline => $missing || $call eq 'k',
		keys => $keys,
		prepare => sub { $missing ? forget_numbered($keys) : cache_numbered($keys) },
		run => sub {
			$sql->query(sprintf $query, 100);
			my ($cpu, $found) = (cpu());
			my $seconds = timed(sub { $found = $sql->value(sprintf $query, $n) });
			$cpu = cpu() - $cpu;
			push @{ $elapsed{$what} }, 1e6 * $seconds / $n;
			return ($cpu / 1e3 / $n, is => [ [ 'values', $found, $missing ? 0 : $n ] ]);
		});
}

install();
title('get() and fetch() from SQL over a plain GET; a call, of ' . commas($n));
my @sides = ([ 'the loop', 'k' ], [ 'plain GET, blocks', 'plain_get(k)' ], [ 'plain GET, waits', 'plain_get_waiting(k)' ],
	[ 'get', 'cache_aside.get(k)' ], [ 'fetch', q{cache_aside.fetch(k, 'SELECT NULL::text', '5 min')} ],
	[ 'get, missing', 'cache_aside.get(k)', 1 ]);
my @cpu = paired(scaled($ENV{ROUNDS} // 21, 1), map { my @side = @$_; [ "$side[0], us of CPU", sub { side(@side) } ] } @sides);
my @time = map { median(@{ $elapsed{ $_->[0] } }) } @sides;
note_line("$sides[$_][0], us that passed", sprintf '%.1f', $time[$_]) foreach 0 .. $#sides;
foreach my $of (1, 2)
{
	foreach my $what (3, 4)
	{
		my ($cpu, $time) = map { ($_->[$what] - $_->[0]) / ($_->[$of] - $_->[0]) } \@cpu, \@time;
		verdict("$sides[$what][0] / $sides[$of][0], CPU", $cpu, '<=', 1.2);
		verdict("$sides[$what][0] / $sides[$of][0], elapsed", $time, '<=', 1.2);
	}
}
