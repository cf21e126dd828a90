
=pod

=head1 NAME

SentinelServer - one Sentinel of Sentinel.pm: a RedisServer that watches instead of storing

=head1 DESCRIPTION

Of the options of RedisServer::new, conf holds the lines that say what is watched. A Sentinel rewrites its
configuration; one that is started again knows what it knew.

=cut

package SentinelServer;

use strict;
use warnings;

use parent 'RedisServer';

sub _write_conf
{
	my ($self) = @_;
	open my $fh, '>', "$self->{dir}/redis.conf" or die "$self->{dir}/redis.conf: $!";
	print $fh <<"EOC";
bind 127.0.0.1
protected-mode no
port $self->{port}
unixsocket $self->{dir}/redis.sock
dir $self->{dir}
logfile $self->{dir}/redis.log
$self->{conf}
EOC
	close $fh;
	return;
}

sub _command
{
	my ($self) = @_;
	return ($self->SUPER::_command, '--sentinel');
}

sub _fresh_client
{
	my ($self, %args) = @_;
	return RedisClient->new(socket => $self->socket, auth => $self->{auth}, %args);
}

sub address { return "127.0.0.1:$_[0]{port}"; }

# The reply to SENTINEL MASTER as a hash; empty while it does not answer or knows none of that name.
sub knows
{
	my ($self, $name) = @_;
	my $reply = eval { $self->command('SENTINEL', 'MASTER', $name) };
	return $reply ? @$reply : ();
}

# Port of the master in its eyes; 0: it knows none, or does not answer.
sub master_port
{
	my ($self, $name) = @_;
	my $reply = eval { $self->command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', $name) };
	return $reply ? $reply->[1] : 0;
}

1;
