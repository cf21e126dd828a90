
=pod

=head1 NAME

EventReader - what a consumer of cache_aside.events hears

=head1 SYNOPSIS

  my $stream = EventReader->stream($redis, $node);
  my $channel = EventReader->channel($redis, $node);
  my $event = $stream->next;               # a hash; dies when none comes in time
  $stream->until(sub { $_[0]{all} });      # the first such; what came before is in @{ $stream->{heard} }
  is_deeply([ $stream->keys ], [ 'user:1' ]);    # of all that it heard since the last call of forget
  is($stream->gaps, 0);

It holds each event to the protocol: numbers that follow each other within a series, and "all" first in a new one.

=cut

package EventReader;

use strict;
use warnings;

use JSON::PP ();
use Time::HiRes ();

sub name
{
	my ($node) = @_;
	return 'cache_aside:events:' . $node->value('postgres', 'SELECT system_identifier FROM pg_control_system()');
}

sub _new
{
	my ($class, %self) = @_;
	return bless { heard => [], gaps => 0, again => 0, %self }, $class;
}

sub stream
{
	my ($class, $redis, $node) = @_;
	return $class->_new(redis => $redis, name => name($node), at => '0');
}

sub channel
{
	my ($class, $redis, $node) = @_;
	my $self = $class->_new(name => name($node), client => $redis->client);
	$self->{client}->command('SUBSCRIBE', $self->{name});
	return $self;
}

sub _text
{
	my ($self, $ms) = @_;
	if ($self->{client})
	{
		local $self->{client}{timeout} = $ms / 1000;
		my $message = eval { $self->{client}->receive };
		die $@ if $@ && $@ !~ /no answer/;
		return $message && $message->[2];
	}
	my $client = $self->{reader} //= $self->{redis}->client;
	my $found = $client->command('XREAD', 'COUNT', 1, 'BLOCK', $ms, 'STREAMS', $self->{name}, $self->{at}) or return;
	my ($id, $fields) = @{ $found->[0][1][0] };
	$self->{at} = $id;
	die "fields: @$fields" if $fields->[0] ne 'event' || @$fields != 2;
	return $fields->[1];
}

sub _judge
{
	my ($self, $event) = @_;
	my $last = $self->{last};
	if (!$last || $last->{series} ne $event->{series})
	{
		$self->{gaps}++ if $last;
		die 'a series begins without "all"' if $last && !$event->{all};
	}
	else
	{
		$self->{gaps}++ if $event->{number} > $last->{number} + 1;
		$self->{again}++ if $event->{number} <= $last->{number};
	}
	$self->{last} = $event;
	return;
}

# undef: none came in that time
sub next
{
	my ($self, $ms) = @_;
	my $text = $self->_text($ms // 30_000);
	if (!defined $text)
	{
		die 'no event' unless defined $ms;
		return;
	}
	my $event = JSON::PP::decode_json($text);
	$self->_judge($event);
	push @{ $self->{heard} }, $event;
	return $event;
}

sub until
{
	my ($self, $condition) = @_;
	my $deadline = Time::HiRes::time() + 60;
	while (Time::HiRes::time() < $deadline)
	{
		my $event = $self->next;
		return $event if $condition->($event);
	}
	die 'not heard';
}

sub drain
{
	my ($self) = @_;
	1 while $self->next(100);
	return $self;
}

sub keys { return map { @{ $_->{keys} } } @{ $_[0]{heard} }; }
sub patterns { return map { @{ $_->{patterns} } } @{ $_[0]{heard} }; }
sub gaps { return $_[0]{gaps}; }

sub forget
{
	my ($self) = @_;
	$self->{heard} = [];
	return $self;
}

1;
