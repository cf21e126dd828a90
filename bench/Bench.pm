
=pod

=head1 NAME

Bench - what the measurements share: servers, paired runs, medians, verdicts

=head1 DESCRIPTION

Figures are ratios of medians of runs that alternate (A B A B ...), so that a machine that is busier
for a while hurts both sides. A measurement prints its target and what it found; it never fails for
being slow. PostgreSQL runs with its defaults except for what `servers` lists.

It does fail when it did not measure what it says. Each side of a measurement is a `proved` run: its
keys are counted in Redis before and after, the commits delivered are those that were made, and the
worker was neither in an outage nor, unless that is what is measured, in a resync. With BENCH_SPOIL=1 (the tests set it) each such run is
made first with other keys in the cache, or with what `spoiled` stands for, and has to fail.

=cut

package Bench;

use strict;
use warnings;

use Exporter 'import';
use List::Util qw(min);
use POSIX ();
use Time::HiRes qw(time);

use PgServer;
use RedisServer;

our @EXPORT = qw(servers restart stop_servers title note_line verdict median percentile paired timed scaled commas child
  wait_children freeze thaw high_water delivered armed
  numbered cache_numbered count_numbered forget_numbered spoiled proved accounts pgbench
  update_script rows_of_run);

$| = 1;
$SIG{$_} = sub { exit 130 } foreach qw(INT TERM HUP);

my $conf = <<'EOC';
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
EOC

my ($redis, $pg, $sql);
our $spoiled = 0;
my $run = 0;    # of pgbench

sub servers
{
	my (%args) = @_;
	$redis = RedisServer->new(%{ $args{redis} // {} })->start;
	$pg = PgServer->new(redis => $redis, under => $args{under}, conf => $conf . ($args{conf} // ''))->start;
	$sql = $pg->connect;
	$sql->query('CREATE EXTENSION cache_aside');
	delivered($sql);    # the first resync is over
	return ($redis, $pg, $sql);
}

# A fast shutdown, and from there the worker's whole start: until it delivers and has nothing left to do. -> (seconds, session)
sub restart
{
	$sql->close;
	$pg->stop('INT');
	my $seconds = timed(sub {
		$pg->start;
		$sql = $pg->connect;
		$redis->wait_until(sub { $sql->value('SELECT state FROM cache_aside.status') eq 'delivering' }, 600)
		  or die 'not delivering';
		delivered($sql);
	});
	return ($seconds, $sql);
}

sub stop_servers
{
	$sql->close;
	$pg->stop('QUIT');
	$redis->stop;
	return;
}

# The first number for a real run, the second with QUICK=1.
sub scaled { return $ENV{QUICK} ? $_[1] : $_[0]; }

sub title
{
	my ($text) = @_;
	my ($cpu) = map { /^model name\s*:\s*(.*)/ ? $1 : () } _lines('/proc/cpuinfo');
	my $cores = grep { /^processor/ } _lines('/proc/cpuinfo');
	print "\n$text\n", '=' x length $text, "\n";
	note_line('machine', "$cores x " . ($cpu // (POSIX::uname())[4]));
	note_line('', 'QUICK: the figures mean nothing') if $ENV{QUICK};
	return;
}

sub note_line { printf "  %-34s %s\n", @_; return; }

# what, value, '>=' or '<', target, format
sub verdict
{
	my ($what, $value, $sign, $target, $format) = @_;
	my $met = $sign eq '>=' ? $value >= $target : $sign eq '<=' ? $value <= $target : $value < $target;
	$format //= '%.2f';
	printf "  %-34s $format (target $sign $format): %s\n", $what, $value, $target,
	  $met ? 'met' : 'NOT MET';
	return;
}

sub median { return percentile(50, @_); }

sub percentile
{
	my ($percent, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;
	return $sorted[ min($#sorted, int(@sorted * $percent / 100)) ];
}

# paired(rounds, [name => code], ...): each code returns a number; returns medians in order.
sub paired
{
	my ($rounds, @sides) = @_;
	my @values;
	foreach (1 .. $rounds)
	{
		push @{ $values[$_] }, $sides[$_][1]->() foreach 0 .. $#sides;
	}
	foreach my $i (0 .. $#sides)
	{
		note_line($sides[$i][0], join '  ', map { sprintf '%.4g', $_ } @{ $values[$i] });
	}
	return map { median(@$_) } @values;
}

sub timed
{
	my ($code) = @_;
	my $start = time;
	$code->();
	return time - $start;
}

sub commas
{
	my ($n) = @_;
	$n = sprintf '%.0f', $n;
	1 while $n =~ s/^(\d+)(\d{3})/$1,$2/;
	return $n;
}

sub child
{
	my ($code) = @_;
	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	eval { $code->(); 1 } or do { print STDERR $@; POSIX::_exit(1) };
	POSIX::_exit(0);
}

sub wait_children
{
	foreach my $pid (@_) { waitpid($pid, 0); die "a client failed\n" if $?; }
	return;
}

=head2 Keys

numbered(prefix, n, digits): the keys "<prefix>1" to "<prefix>n", as a rule's template makes them, or
padded to so many digits: 12 are what redis-benchmark makes of __rand_int__. cache_numbered SETs them all,
count_numbered counts those that exist, forget_numbered deletes them.

=cut

sub numbered
{
	my ($prefix, $n, $digits) = @_;
	return { prefix => $prefix, n => $n, format => $digits ? "%s%0${digits}.0f" : '%s%.0f' };
}

# Does `command` to every key, in calls that Redis answers quickly; the sum of the answers.
sub _each_key
{
	my ($keys, $prefix, $command) = @_;
	my $script = 'local sum = 0 for i = tonumber(ARGV[3]), tonumber(ARGV[4]) do '
	  . "local key = string.format(ARGV[1], ARGV[2], i) sum = sum + $command end return sum";
	my $sum = 0;
	for (my $i = 1; $i <= $keys->{n}; $i += 5_000)
	{
		$sum += $redis->command('EVAL', $script, 0, $keys->{format}, $prefix, $i, min($keys->{n}, $i + 4_999));
	}
	return $sum;
}

sub cache_numbered
{
	my ($keys) = @_;
	_each_key($keys, ($spoiled ? 'other:' : '') . $keys->{prefix},
		'(redis.call("SET", key, "a value of an ordinary size") and 1)');
	return;
}

sub count_numbered { return _each_key($_[0], $_[0]{prefix}, 'redis.call("EXISTS", key)'); }
sub forget_numbered { return _each_key($_[0], $_[0]{prefix}, 'redis.call("UNLINK", key)'); }

=head2 Claims

  my $figure = proved('drain',
	keys => numbered('k:', $n),       # those that are counted
	prepare => sub { ... },           # not measured: fills the cache, stops the worker, ...
	run => sub { ...; return ($figure, commits => 1, gone => $n); });

What `run` returns behind the figure is what must have happened, each a number or ">= number": commits
(delivered), reconnects and resyncs (of the worker), gone or stored (of the keys), and is => [ [ what, found, claimed ], ... ] for
all else. The first three are 0 unless it says so. `baseline => 1`: a run with nothing to invalidate, which other keys cannot spoil.
spoiled() is for claims that are not about keys in the cache.

=cut

sub spoiled { return $spoiled; }

sub proved
{
	my ($what, %side) = @_;
	_spoil($what, %side) if $ENV{BENCH_SPOIL} && !$side{baseline};
	return _proved($what, %side);
}

sub _spoil
{
	my ($what, %side) = @_;
	local $spoiled = 1;
	forget_numbered($side{keys}) if $side{keys};
	my $held = eval { _proved($what, %side); 1 };
	die "$what: what it claims is not checked\n" if $held;
	die $@ unless $@ =~ /^not as claimed: /;
	print "  spoiled: $@";
	return;
}

sub _proved
{
	my ($what, %side) = @_;
	$side{prepare}->() if $side{prepare};
	my $keys = $side{keys};
	my $there = $keys ? count_numbered($keys) : 0;
	my %before = _worker();
	my ($figure, %claimed) = $side{run}->();
	delivered($sql);
	my %after = _worker();
	my $left = $keys ? count_numbered($keys) : 0;
	my @claims = ([ 'commits delivered', $after{commits} - $before{commits}, $claimed{commits} // 0 ],
		(map { [ $_, $after{$_} - $before{$_}, $claimed{$_} // 0 ] } 'reconnects', 'resyncs'),
		@{ $claimed{is} // [] });
	push @claims, [ 'keys deleted', $there - $left, $claimed{gone} ] if defined $claimed{gone};
	push @claims, [ 'keys stored', $left - $there, $claimed{stored} ] if defined $claimed{stored};
	die "not as claimed: $what: the worker was '$before{session}' and is '$after{session}'\n"
	  unless $after{session} eq $before{session} && $after{session} =~ /^delivering connected /;
	foreach (@claims)
	{
		my ($name, $found, $claimed) = @$_;
		my ($least, $number) = $claimed =~ /^(>=)?\s*(\d+)$/ or die "$what: $name: $claimed?";
		next if $least ? $found >= $number : $found == $number;
		die "not as claimed: $what: $name: $found, claimed $claimed\n";
	}
	return $figure;
}

# What must not change while something is measured, and how many commits it has delivered.
sub _worker
{
	my ($row) = $sql->query(q{SELECT concat_ws(' ', state, redis_state, 'pid', pid, 'retries', retries,
		'skipped', skipped), commits, reconnects, resyncs FROM cache_aside.status});
	return (session => $row->[0], commits => $row->[1], reconnects => $row->[2], resyncs => $row->[3]);
}

=head2 pgbench

accounts(scale) makes its tables and returns how many accounts there are. pgbench(options) returns TPS and
the number of transactions; a failed one or a warning is an error. The variable run is another number each
time: a script that writes it to abalance tells by rows_of_run which accounts it wrote last.

=cut

sub accounts
{
	my ($scale) = @_;
	my $out = join '', `pgbench -i -q -s $scale @{[ $pg->options ]} postgres 2>&1`;
	die $out if $?;
	return 100_000 * $scale;
}

sub pgbench
{
	my ($options) = @_;
	$options =~ s/-T \d+/-t 50/ if $ENV{BENCH_SPOIL};    # the figures do not count
	$run++;
	my $out = join '', `pgbench -n -M prepared -D run=$run $options @{[ $pg->options ]} postgres 2>&1`;
	my ($count) = $out =~ /actually processed: (\d+)/ or die $out;
	my ($tps) = $out =~ /tps = ([\d.]+)/ or die $out;
	die $out if $? || $out =~ /WARNING|failed transactions: [1-9]/;
	return ($tps, $count);
}

# For pgbench: each transaction writes one account, which says then in which run that was.
sub update_script
{
	my $script = $redis->dir . '/update.sql';
	open my $fh, '>', $script or die $!;
	print $fh "\\set aid random(1, 100000 * :scale)\n",
	  "UPDATE pgbench_accounts SET abalance = :run WHERE aid = :aid;\n";
	close $fh;
	return $script;
}

sub rows_of_run { return $sql->value("SELECT count(*) FROM pgbench_accounts WHERE abalance = $run"); }

sub freeze { my ($pid) = @_; kill 'STOP', $pid or die "cannot stop $pid: $!"; return; }
sub thaw { my ($pid) = @_; kill 'CONT', $pid or die "cannot continue $pid: $!"; return; }

# Most memory a process ever had resident, in MB.
sub high_water
{
	my ($pid) = @_;
	my ($kb) = map { /^VmHWM:\s+(\d+)/ ? $1 : () } _lines("/proc/$pid/status");
	return $kb / 1024;
}

sub delivered
{
	my ($sql) = @_;
	$sql->value("SELECT cache_aside.wait_delivered(NULL, '10 min')") eq 't' or die 'not delivered';
	return;
}

# Waits until guarded fills are admitted.
sub armed
{
	delivered($sql);
	$redis->wait_until(sub { $sql->value(q{SELECT cache_aside.fill('probe', 'v')}) eq 't' }) or die 'not armed';
	return;
}

sub _lines
{
	my ($path) = @_;
	open my $fh, '<', $path or return;
	return <$fh>;
}

1;
