
=pod

=head1 NAME

RedisClient - one connection to Redis: RESP over a socket, binary-safe

=head1 SYNOPSIS

  my $c = RedisClient->new(socket => '/tmp/x/redis.sock');    # or host/port, tls
  $c->command('SET', 'user:1', $bytes);      # the reply; dies with the text of an error reply
  my ($ok, $reply) = $c->try('GET', 'x');    # never dies for an error reply
  my @replies = $c->pipeline([ 'GET', 'a' ], [ 'GET', 'b' ]);

Replies: nil is undef, integers and strings are scalars, arrays are array references; an error
inside a pipeline or an array is a RedisClient::Error, which stringifies to its text. A broken
connection or no answer in `timeout` seconds dies; the object is useless afterwards.

=cut

package RedisClient;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket;
use Time::HiRes ();

our $default_timeout = 30;

sub new
{
	my ($class, %args) = @_;
	my $self = bless {
		buffer => '',
		timeout => $args{timeout} // $default_timeout,
		pid => $$
	}, $class;
	$self->{fh} = $class->_connect(%args)
	  or die "cannot connect to Redis at " . ($args{socket} // ($args{host} // "127.0.0.1") . ":$args{port}") . ": $!\n";
	$self->command('AUTH', @{ $args{auth} }) if $args{auth};
	$self->command('SELECT', $args{db}) if $args{db};
	return $self;
}

sub _connect
{
	my ($class, %args) = @_;
	return IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $args{socket}) if $args{socket};
	my @tcp = (
		PeerHost => $args{host} // '127.0.0.1',
		PeerPort => $args{port},
		Timeout => 10);
	return IO::Socket::INET->new(@tcp) unless $args{tls};
	require IO::Socket::SSL;
	return IO::Socket::SSL->new(@tcp, %{ $args{tls} });
}

sub close
{
	my ($self) = @_;
	close(delete $self->{fh}) if $self->{fh};
	return;
}

# Sends without waiting for the answer; `receive` takes the answers in order.
sub send
{
	my ($self, @command) = @_;
	$self->_write(_encode(@command));
	return;
}

sub receive
{
	my ($self) = @_;
	return $self->_reply(Time::HiRes::time() + $self->{timeout});
}

sub command
{
	my ($self, @command) = @_;
	my $reply = $self->pipeline(\@command);
	die "Redis: $reply ($command[0])\n" if ref $reply eq 'RedisClient::Error';
	return $reply;
}

sub try
{
	my ($self, @command) = @_;
	my $reply = $self->pipeline(\@command);
	return ref $reply eq 'RedisClient::Error' ? (0, "$reply") : (1, $reply);
}

# In pieces, so that neither side's buffers fill up while both wait for the other.
sub pipeline
{
	my ($self, @commands) = @_;
	my @replies;
	while (my @piece = splice(@commands, 0, 1000))
	{
		$self->_write(join('', map { _encode(@$_) } @piece));
		push @replies, $self->receive foreach @piece;
	}
	return wantarray ? @replies : $replies[-1];
}

sub _encode
{
	my (@words) = @_;
	utf8::encode($_) foreach grep { utf8::is_utf8($_) } @words;
	return join "\r\n", '*' . @words, (map { ('$' . length, $_) } @words), '';
}

sub _write
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $sent = 0;
	while ($sent < length $bytes)
	{
		$! = 0;
		die "Redis: not writable for $self->{timeout} s\n"
		  unless IO::Select->new($self->{fh})->can_write($self->{timeout}) || $!{EINTR};
		my $n = syswrite($self->{fh}, $bytes, length($bytes) - $sent, $sent);
		next if !defined $n && $!{EINTR};
		die "Redis: connection lost while writing: $!\n" unless defined $n;
		$sent += $n;
	}
	return;
}

sub _fill
{
	my ($self, $deadline) = @_;
	my $left = $deadline - Time::HiRes::time();
	my $pending = $self->{fh}->can('pending') ? $self->{fh}->pending : 0;
	$! = 0;
	if (!$pending && ($left <= 0 || !IO::Select->new($self->{fh})->can_read($left)))
	{
		return if $!{EINTR};    # a child process ended or was stopped; our caller tries again
		die "Redis: no answer in $self->{timeout} s\n";
	}
	my $n = sysread($self->{fh}, $self->{buffer}, 65536, length $self->{buffer});
	return if !defined $n && $!{EINTR};
	die "Redis: connection lost while reading" . (defined $n ? "\n" : ": $!\n") unless $n;
	return;
}

sub _line
{
	my ($self, $deadline) = @_;
	my ($end, $at) = (0, 0);
	while (($end = index $self->{buffer}, "\r\n", $at) < 0)
	{
		$at = length($self->{buffer}) > 0 ? length($self->{buffer}) - 1 : 0;
		die "Redis: a line longer than 1 MB\n" if $at > 1_000_000;    # a fault's: "+", and no end
		$self->_fill($deadline);
	}
	my $line = substr($self->{buffer}, 0, $end, '');
	substr($self->{buffer}, 0, 2, '');
	return $line;
}

sub _reply
{
	my ($self, $deadline) = @_;
	my $line = $self->_line($deadline);
	my $kind = substr($line, 0, 1, '');
	return $line if $kind eq '+' || $kind eq ':';
	return bless \$line, 'RedisClient::Error' if $kind eq '-';
	die "Redis: not RESP2: $kind$line\n" unless $kind =~ /[\$*]/ && $line =~ /^-?\d+$/;
	return undef if $line < 0;
	if ($kind eq '$')
	{
		$self->_fill($deadline) while length $self->{buffer} < $line + 2;
		my $value = substr($self->{buffer}, 0, $line, '');
		substr($self->{buffer}, 0, 2, '');
		return $value;
	}
	my $values = $self->_bulks($line);
	return [ @$values, map { $self->_reply($deadline) } @$values + 1 .. $line ];
}

# As many strings, of so many elements, as have come and come first: those of an MGET in one go.
sub _bulks
{
	my ($self, $count) = @_;
	my ($buffer, $at, @values) = (\$self->{buffer}, 0);
	while (@values < $count && substr($$buffer, $at, 1) eq '$' && (my $end = index $$buffer, "\r\n", $at) > 0)
	{
		my $length = substr $$buffer, $at + 1, $end - $at - 1;
		last if $length >= 0 && length $$buffer < $end + 4 + $length;
		push @values, $length < 0 ? undef : substr $$buffer, $end + 2, $length;
		$at = $end + 2 + ($length < 0 ? 0 : $length + 2);
	}
	substr $$buffer, 0, $at, '';
	return \@values;
}

package RedisClient::Error;

use overload '""' => sub { ${ $_[0] } }, fallback => 1;

1;
