
=pod

=head1 NAME

SoakMeter - one process that commits small transactions all the time and notes how long each took

=head1 SYNOPSIS

  my $meter = SoakMeter->new($cluster);
  $meter->window('redis_frozen', $begin, $end);    # seconds, as Time::HiRes::time; 'before' is the measure
  $meter->stop;
  my @rows = $meter->table;    # [ name, commits, median ms, ratio to before, longest pause in ms ]

=head1 DESCRIPTION

A pause is the time from the first attempt to the one that succeeded, whether it took so long or the
server was away. Both times count for the window in which they begin.

=cut

package SoakMeter;

use strict;
use warnings;

use List::Util 'max';
use POSIX ();
use Time::HiRes 'time';

my $rows = 50;
my @pids;

sub schema
{
	return qq{
		CREATE TABLE meter (id int PRIMARY KEY, v int NOT NULL DEFAULT 0);
		INSERT INTO meter SELECT i FROM generate_series(1, $rows) i;
		SELECT cache_aside.attach('meter', 'meter:{id}');
	};
}

sub new
{
	my ($class, $cluster) = @_;
	my $self = bless { path => $cluster->dir . '/commits', windows => [] }, $class;
	$self->{pid} = fork // die "fork: $!";
	push @pids, $self->{pid};
	return $self if $self->{pid};
	@pids = ();
	my $parent = getppid;
	local $SIG{TERM} = sub { $self->{stopped} = 1 };
	open my $fh, '>', $self->{path} or POSIX::_exit(1);
	my ($n, $since) = (0);
	until ($self->{stopped} || getppid != $parent)
	{
		my $start = time;
		$since //= $start;
		if (eval { $self->_commit($cluster, 1 + $n++ % $rows) })
		{
			syswrite $fh, "$since $start " . time . "\n";
			undef $since;
		}
		else { delete $self->{client}; }
		select undef, undef, undef, 0.004;
	}
	POSIX::_exit(0);
}

END { kill 'TERM', @pids; }

sub _commit
{
	my ($self, $cluster, $id) = @_;
	$self->{client} //= $cluster->connect('primary');
	$self->{client}->query("UPDATE meter SET v = v + 1 WHERE id = $id");
	return 1;
}

sub window
{
	my ($self, $name, $begin, $end) = @_;
	push @{ $self->{windows} }, [ $name, $begin, $end ];
	return;
}

sub stop
{
	my ($self) = @_;
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	@pids = grep { $_ != $self->{pid} } @pids;
	open my $fh, '<', $self->{path} or die "$self->{path}: $!";
	$self->{commits} = [ map { [split] } <$fh> ];
	return;
}

sub _median
{
	my @sorted = sort { $a <=> $b } @_;
	return @sorted ? $sorted[ @sorted / 2 ] : undef;
}

# Windows are in the order of time, and so are commits.
sub _measure
{
	my ($self) = @_;
	my @windows = @{ $self->{windows} };
	my %ms = map { $_->[0] => [] } @windows;
	my %pause = map { $_->[0] => 0 } @windows;
	foreach my $commit (@{ $self->{commits} })
	{
		my ($since, $start, $done) = @$commit;
		shift @windows while @windows && $windows[0][2] < $since;
		my ($name, $begin) = @{ $windows[0] // last };
		next if $since < $begin;
		push @{ $ms{$name} }, 1000 * ($done - $start);
		$pause{$name} = max($pause{$name}, 1000 * ($done - $since));
	}
	return (\%ms, \%pause);
}

sub table
{
	my ($self) = @_;
	my ($ms, $pause) = $self->_measure;
	my $before = _median(@{ $ms->{before} // [] });
	return map {
		my $median = _median(@{ $ms->{$_} });
		[
			$_, scalar @{ $ms->{$_} },
			$median, defined $median && $before ? $median / $before : undef,
			$pause->{$_}
		]
	} sort keys %$ms;
}

1;
