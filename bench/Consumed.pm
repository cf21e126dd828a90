
=pod

=head1 NAME

Consumed - what processes used between two looks: CPU seconds and voluntary context switches, by kind

=head1 DESCRIPTION

  my $watch = Consumed::watch($pg, $redis, $seconds);   # while a load of so many seconds runs
  my $used = $watch->();    # undef: the load was over too soon

A child looks once when the load has begun and once before it ends, so that the sessions of the load are
there both times. CPU is from schedstat (nanoseconds, not ticks). The client's own is not counted.

=cut

package Consumed;

use strict;
use warnings;

use Time::HiRes qw(sleep time);

sub _slurp
{
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	return <$fh> // '';
}

sub _kind
{
	my ($title) = @_;
	return 'worker' if $title =~ /cache_aside/;
	return 'sessions' if $title =~ /^postgres: \S+ \S+ (?:\[local\]|\S+\(\d+\)) /;
	return 'other server processes';
}

# pid -> kind, of all that count
sub _processes
{
	my ($pg, $redis) = @_;
	my ($postmaster) = _slurp($pg->dir . '/data/postmaster.pid') =~ /^(\d+)/ or die 'no postmaster.pid';
	my %kinds = ($redis->pid => 'Redis');
	foreach (glob '/proc/[0-9]*/stat')
	{
		my ($pid, $parent) = _slurp($_) =~ /^(\d+) \(.*\) \S (\d+) / or next;
		$kinds{$pid} = _kind(_slurp("/proc/$pid/cmdline")) if $parent == $postmaster;
	}
	return \%kinds;
}

sub _look
{
	my ($pg, $redis) = @_;
	my $kinds = _processes($pg, $redis);
	my %look = (at => time);
	foreach my $pid (keys %$kinds)
	{
		my ($ns) = _slurp("/proc/$pid/schedstat") =~ /^(\d+)/ or next;
		my ($switches) = _slurp("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m or next;
		$look{pids}{$pid} = [ $kinds->{$pid}, $ns, $switches ];
	}
	return \%look;
}

# of processes that are in both looks
sub _differences
{
	my ($first, $second) = @_;
	my %used;
	foreach my $pid (keys %{ $first->{pids} })
	{
		my ($kind, $ns, $switches) = @{ $second->{pids}{$pid} // next };
		$used{$kind}[0] += ($ns - $first->{pids}{$pid}[1]) / 1e9;
		$used{$kind}[1] += $switches - $first->{pids}{$pid}[2];
		$used{busy}++ if $kind eq 'sessions' && $ns - $first->{pids}{$pid}[1] > 1e6;
	}
	return delete $used{busy} ? \%used : {};
}

sub watch
{
	my ($pg, $redis, $seconds) = @_;
	my $pid = open(my $pipe, '-|') // die "fork: $!";
	if ($pid == 0)
	{
		sleep 0.15 * $seconds;
		my $first = _look($pg, $redis);
		sleep 0.7 * $seconds;
		my $second = _look($pg, $redis);
		my $used = _differences($first, $second);
		print 'seconds ', $second->{at} - $first->{at}, " 0\n";
		print "$_ @{ $used->{$_} }\n" foreach keys %$used;
		close STDOUT;
		POSIX::_exit(0);
	}
	return sub {
		my %used;
		while (<$pipe>) { $used{$1} = [ $2, $3 ] if /^(.+) (\S+) (\S+)$/; }
		close $pipe;
		my $window = delete $used{seconds};
		return unless $window && $used{sessions};
		return { seconds => $window->[0], kinds => \%used };
	};
}

1;
