
=pod

=head1 NAME

Memcached - a private memcached on a unix socket, with the methods of RedisServer that are needed here

=cut

package Memcached;

use strict;
use warnings;

use File::Temp ();
use IO::Socket::UNIX;
use POSIX ();
use Time::HiRes qw(sleep);

my @started;

sub binary { return (grep { -x } map { "$_/memcached" } split(/:/, $ENV{PATH}), '/usr/bin')[0]; }

sub new
{
	my ($class) = @_;
	my $self = bless { dir => File::Temp::tempdir('ca-mc-XXXXXX', TMPDIR => 1, CLEANUP => 1), owner => $$ }, $class;
	push @started, $self;
	return $self;
}

sub socket { return "$_[0]{dir}/memcached.sock"; }
sub pid { return $_[0]{pid}; }

sub start
{
	my ($self) = @_;
	unlink $self->socket;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		exec 'setpriv', '--pdeathsig', 'KILL', binary(), '-m', 256, '-s', $self->socket or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	foreach (1 .. 500)
	{
		return $self if IO::Socket::UNIX->new(Peer => $self->socket);
		sleep 0.01;
	}
	die "memcached does not start\n";
}

sub save { return; }    # it keeps nothing

sub kill9
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	kill 'KILL', $pid;
	waitpid($pid, 0);
	return;
}

END
{
	my $status = $?;
	$_->kill9 foreach grep { $_->{owner} == $$ } @started;
	$? = $status;
}

1;
