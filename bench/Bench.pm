
=pod

=head1 NAME

Bench - what the measurements share: servers, paired runs, medians, verdicts

=head1 DESCRIPTION

Figures are ratios of medians of runs that alternate (A B A B ...), so that a machine that is busier
for a while hurts both sides. A measurement prints its target and what it found; it never fails for
being slow. PostgreSQL runs with its defaults except for what `servers` lists.

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

our @EXPORT = qw(servers title note_line verdict median percentile paired timed scaled commas child
  wait_children cache_numbered freeze thaw high_water delivered);

$| = 1;
$SIG{$_} = sub { exit 130 } foreach qw(INT TERM HUP);

my $conf = <<'EOC';
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
EOC

sub servers
{
	my (%args) = @_;
	my $redis = RedisServer->new(%{ $args{redis} // {} })->start;
	my $pg = PgServer->new(redis => $redis, conf => $conf . ($args{conf} // ''))->start;
	my $sql = $pg->connect;
	$sql->query('CREATE EXTENSION cache_aside');
	return ($redis, $pg, $sql);
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

# SETs "<prefix><12 digits>" for 1 .. n, quickly: what redis-benchmark calls __rand_int__.
sub cache_numbered
{
	my ($redis, $prefix, $n) = @_;
	my $script = 'for i = ARGV[2], ARGV[3] do '
	  . 'redis.call("SET", string.format("%s%012d", ARGV[1], i), "a value of an ordinary size") end';
	for (my $i = 1; $i <= $n; $i += 10_000)
	{
		$redis->command('EVAL', $script, 0, $prefix, $i, min($n, $i + 9_999));
	}
	return;
}

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

sub _lines
{
	my ($path) = @_;
	open my $fh, '<', $path or return;
	return <$fh>;
}

1;
