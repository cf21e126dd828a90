
=pod

=head1 NAME

SoakChild - a process of Soak that does one thing again and again, and counts what became of it

=head1 DESCRIPTION

new(cluster, seed, ...) forks; the process calls `again` until stop, each time, and counts what it returns, or nothing:
"no answer". stop returns the counts as a hash. For SoakFiller and SoakWitness, which may say by `begin` what comes
first.

=cut

package SoakChild;

use strict;
use warnings;

use POSIX ();

my @pids;

sub new
{
	my ($class, $cluster, $seed, %args) = @_;
	my $self = bless { cluster => $cluster, parent => $$, sum => {}, %args }, $class;
	pipe $self->{result}, my $result or die $!;
	$self->{pid} = fork // die "fork: $!";
	push @pids, $self->{pid};
	return $self if $self->{pid};
	@pids = ();
	srand $seed;
	local $SIG{TERM} = sub { $self->{stopped} = 1 };
	eval { $self->begin; 1 } or POSIX::_exit(1);
	until ($self->{stopped} || getppid() != $self->{parent})
	{
		$self->{sum}{ eval { $self->again } // $self->gave_up }++;
	}
	syswrite $result, join '', map { "$_=$self->{sum}{$_}\n" } keys %{ $self->{sum} };
	POSIX::_exit(0);
}

sub begin { return; }
sub gave_up { return 'no answer'; }

sub stop
{
	my ($self) = @_;
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	die ref($self) . ": its process died\n" if $?;
	@pids = grep { $_ != $self->{pid} } @pids;
	my $lines = '';
	sysread $self->{result}, $lines, 65536;
	return map { /(.*)=(\d+)/ } split /\n/, $lines;
}

END { kill 'TERM', @pids; }

1;
