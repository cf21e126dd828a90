
=pod

=head1 NAME

RedisProxy - one address with changing Redis servers behind it

=head1 SYNOPSIS

  my $proxy = RedisProxy->new(upstream => $master)->start;   # everything that FakeRedis can, besides
  $proxy->lead_to($replica);      # every open connection, from its next command on

=head1 DESCRIPTION

As a proxy that speaks Redis does (Envoy): the client's connection stays open, and nothing tells it that another server
answers now. To see a proxy that passes bytes (HAProxy with on-marked-down shutdown-sessions), hang_up after lead_to.

=cut

package RedisProxy;

use strict;
use warnings;

use parent 'FakeRedis';

use RedisClient;

sub new
{
	my ($class, %args) = @_;
	my $self = $class->SUPER::new(%args);
	return $self->lead_to($args{upstream});
}

sub lead_to
{
	my ($self, $redis) = @_;
	open my $fh, '>', "$self->{dir}/upstream.new" or die $!;
	print $fh $redis->socket;
	close $fh;
	rename "$self->{dir}/upstream.new", "$self->{dir}/upstream" or die $!;
	return $self;
}

# ---- in the process of one connection

sub _true_reply
{
	my ($self, @command) = @_;
	open my $fh, '<', "$self->{dir}/upstream" or die $!;
	my $socket = <$fh>;
	if ($socket ne ($self->{leads_to} // ''))
	{
		$self->{leads_to} = $socket;
		$self->{client} = RedisClient->new(socket => $socket, db => 0);
		$self->{up} = $self->{client}{fh};
	}
	return $self->SUPER::_true_reply(@command);
}

1;
