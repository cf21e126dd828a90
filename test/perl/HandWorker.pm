
=pod

=head1 NAME

HandWorker - the worker's calls of the function library, made by hand

=head1 SYNOPSIS

  my $worker = HandWorker->new($redis);         # loads the library unless it is there
  $worker->claim; $worker->arm('0/100');
  $worker->apply('0/200', 'user:1', 'user:2');
  is($worker->fill('user:1', 'value', '0/1FF'), 0);

Every call returns the reply; an error reply is a RedisClient::Error, which stringifies to its text.
The position text is "<timeline> <lsn> <lsn> <n> ...", as the worker writes it, and is remembered as
the one expected by the next call.

=cut

package HandWorker;

use strict;
use warnings;

use Cwd ();
use File::Basename ();

my $source = File::Basename::dirname(Cwd::abs_path(__FILE__)) . '/../../src/delivery';
my $nonces = 0;
my $servers = 0;

sub slurp    # a file of src/delivery
{
	my ($name) = @_;
	open my $fh, '<', "$source/$name" or die "$source/$name: $!";
	local $/;
	return scalar <$fh>;
}

sub new
{
	my ($class, $redis, %args) = @_;
	my $self = bless {
		redis => $redis,
		system => '7301234567890123456',
		timeline => 1,
		position => '',
		sequence => 0,
		server => sprintf('%016d', ++$servers),
		protocol => 1,
		prefix => '00000000',
		scope => '0',
		%args
	}, $class;
	$self->load unless @{ $redis->command('FUNCTION', 'LIST') };
	return $self;
}

sub load
{
	my ($self) = @_;
	return $self->{redis}->command('FUNCTION', 'LOAD', 'REPLACE', library(protocol => $self->{protocol}));
}

# The library's text, as the Makefile puts it together; of another protocol or revision, as another release has it.
sub library
{
	my (%args) = @_;
	my $text = join '', map { slurp("library/$_.lua") } slurp('library/ORDER') =~ /^([a-z]+):/mg;
	foreach my $name (sort keys %args)
	{
		my $upper = uc $name;
		$text =~ s/^local $upper = \K\d+/$args{$name}/m or die "no $upper in the library";
	}
	return $text;
}

sub revision { return (library() =~ /^local REVISION = (\d+)/m)[0]; }

sub position_key { return "cache_aside:position:$_[0]{system}"; }

# As its standby that streams, of its timeline or the one given.
sub announce
{
	my ($self, $timeline) = @_;
	return $self->{redis}->command('SET', $self->standby_key, $timeline // $self->{timeline} - 1, 'PX', 10_000);
}

sub standby_key { return "cache_aside:standby:$_[0]{system}:$_[0]{system}$_[0]{timeline}"; }
sub guard_key { return "cache_aside:guard:$_[0]{system}"; }

# The worker's calls carry the protocol's number.
sub call
{
	my ($self, $function, $keys, @args) = @_;
	$function .= "_$self->{protocol}" if $function =~ /^(claim|epoch|arm|renew|disarm|apply)$/;
	my ($reply) = $self->{redis}
	  ->pipeline([ 'FCALL', "cache_aside_$function", scalar(@$keys), @$keys, @args ]);
	return $reply;
}

sub _worker_call
{
	my ($self, $function, $keys, @args) = @_;
	return $self->call($function, [ $self->position_key, $self->guard_key, @$keys ],
		$self->{nonce}, @args);
}

sub claim
{
	my ($self, %args) = @_;
	my $previous = $args{previous} // $self->{nonce} // '';
	$self->{nonce} = sprintf('%08d%08d', $$ % 1e8, ++$nonces);
	my $reply = $self->_worker_call('claim', [ $self->standby_key, "cache_aside:writer:$self->{prefix}" ],
		$self->{timeline}, $previous, $self->{scope}, $args{force} // 0, $self->{server});
	$self->{position} = $reply->[2] if ref $reply eq 'ARRAY';
	return $reply;
}

sub next_position
{
	my ($self, $lsn, $state) = @_;
	return sprintf('%d %s %s %d %s 0 0',
		$self->{timeline}, $lsn, $lsn, ++$self->{sequence}, $state // 'ok');
}

# Redis's clock, in ms.
sub now
{
	my ($self) = @_;
	my ($s, $us) = @{ $self->{redis}->command('TIME') };
	return $s * 1000 + int($us / 1000);
}

# For an hour, unless told otherwise. Returns 1 or 2, as the library does.
sub arm
{
	my ($self, $floor, $until) = @_;
	$until //= $self->now + 3600_000;
	my $reply = $self->_worker_call('arm', [], $self->{position}, $floor, $until);
	return ref $reply eq 'ARRAY' ? $reply->[0] : $reply;
}

sub renew
{
	my ($self, $until, $heard, $above) = @_;
	return $self->_worker_call('renew', [], $until, $heard // 0, $above // '0/0');
}

sub disarm
{
	my ($self, $remove) = @_;
	return $self->_worker_call('disarm', [], $remove ? 1 : 0);
}

sub epoch
{
	my ($self, $floor, $clear) = @_;
	my $new = $self->next_position($floor, 'pending');
	my $reply = $self->_worker_call('epoch', [], $self->{position}, $new, $floor, $clear ? 1 : 0);
	$self->{position} = $new unless ref $reply;
	return $reply;
}

sub apply
{
	my ($self, $lsn, @keys) = @_;
	my @sticks = ref $keys[-1] ? @{ pop @keys } : ();
	my $new = $self->next_position($lsn eq '' ? '0/1' : $lsn);
	my $reply = $self->_worker_call('apply', \@keys, $self->{position}, $new, $lsn, @sticks);
	$self->{position} = $new if ref $reply eq 'ARRAY';
	return $reply;
}

sub token
{
	my ($self, $lsn, $timeline) = @_;
	return join('-', $self->{system}, $timeline // $self->{timeline}, $lsn);
}

sub fill
{
	my ($self, $key, $value, $lsn, %args) = @_;
	return $self->call('fill', [$key], $value, $args{ttl} // 60000,
		$self->token($lsn, $args{timeline}), defined $args{lease} ? $args{lease} : ());
}

sub get
{
	my ($self, $key, $lease_ms) = @_;
	return $self->call('get', [$key], $lease_ms // 0);
}

1;
