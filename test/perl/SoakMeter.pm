
=pod

=head1 NAME

SoakMeter - one process that commits small transactions all the time and notes how long each took

=head1 SYNOPSIS

  my $meter = SoakMeter->new($cluster);
  $meter->window('redis_frozen', $begin, $end);    # seconds, as Time::HiRes::time; 'before' is the measure
  $meter->stop;
  my @rows = $meter->table;    # [ name, commits, median ms, ratio to before, longest pause in ms ]

=head1 DESCRIPTION

A pause is the time from one commit to the next that succeeded, whether the second took so long or the
server was away; it counts for a window when it ends in it, or begins in it.

=cut

package SoakMeter;

use strict;
use warnings;

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
	my $n = 0;
	until ($self->{stopped} || getppid != $parent)
	{
		my $start = time;
		if (eval {
				my $client = $self->{client} //= $cluster->connect('primary');
				$client->query('UPDATE meter SET v = v + 1 WHERE id = ' . (1 + $n++ % $rows));
				1;
			})
		{
			syswrite $fh, "$start " . time . "\n";
		}
		else { delete $self->{client}; }
		select undef, undef, undef, 0.004;
	}
	POSIX::_exit(0);
}

END { kill 'TERM', @pids; }

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
	my (%ms, %pause, $at);
	my @commits = @{ $self->{commits} };
	foreach my $window (@{ $self->{windows} })
	{
		my ($name, $begin, $end) = @$window;
		$ms{$name} //= [];
		$pause{$name} //= 0;
		$at //= 0;
		$at++ while $at < @commits && $commits[$at][1] < $begin;
		my $i = $at;
		for (; $i < @commits && ($i == 0 || $commits[ $i - 1 ][1] <= $end); $i++)
		{
			my ($start, $done) = @{ $commits[$i] };
			push @{ $ms{$name} }, 1000 * ($done - $start) if $start >= $begin && $start <= $end;
			my $pause = 1000 * ($done - ($i > 0 ? $commits[ $i - 1 ][1] : $start));
			$pause{$name} = $pause if $pause > $pause{$name};
		}
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
