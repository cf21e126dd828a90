
=pod

=head1 NAME

PgClient - one connection to PostgreSQL over a unix socket, without a driver

=head1 SYNOPSIS

  my $c = PgClient->new(dir => $socket_directory, port => 5432, user => 'postgres');
  my @rows = $c->query('SELECT aid, abalance FROM pgbench_accounts');   # array references
  my $one = $c->value('SELECT count(*) FROM t');

For demonstrations and benchmarks, where starting psql per statement would be what is measured, and
a driver would be one more package. Simple query protocol, trust authentication; values are text or
undef. An error dies with the server's message after the connection is ready again.

=cut

package PgClient;

use strict;
use warnings;

use IO::Socket::UNIX;

sub new
{
	my ($class, %args) = @_;
	my $path = "$args{dir}/.s.PGSQL.$args{port}";
	my $fh = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) or die "$path: $!\n";
	my $self = bless { fh => $fh, buffer => '', settings => {} }, $class;
	my %startup = (
		user => $args{user} // 'postgres',
		database => $args{database} // 'postgres',
		%{ $args{options} // {} });
	my $body = pack('N', 196608) . join('', map { "$_\0$startup{$_}\0" } keys %startup) . "\0";
	$self->_write(pack('N', 4 + length $body) . $body);
	$self->_until_ready;
	return $self;
}

sub close
{
	my ($self) = @_;
	close(delete $self->{fh}) if $self->{fh};
	return;
}

# Runs one or more statements and returns the rows of them all.
sub query
{
	my ($self, $sql) = @_;
	$self->send_query($sql);
	return $self->_until_ready;
}

sub value
{
	my ($self, $sql) = @_;
	my ($row) = $self->query($sql);
	return $row ? $row->[0] : undef;
}

# The two halves of query, for statements that wait for somebody else.
sub send_query
{
	my ($self, $sql) = @_;
	$self->_write('Q' . pack('N', 5 + length $sql) . "$sql\0");
	return;
}

sub finish { return $_[0]->_until_ready; }

# Extended protocol in two steps: the server takes its snapshot for the portal at bind.
sub bind
{
	my ($self, $sql) = @_;
	$self->_write('P' . pack('N', 8 + length $sql) . "\0$sql\0\0\0");
	$self->_write('B' . pack('N', 12) . "\0\0" . pack('nnn', 0, 0, 0));
	$self->_write('H' . pack('N', 4));
	while (1)
	{
		my ($kind) = $self->_message;
		die "bind failed: $sql\n" if $kind eq 'E';
		last if $kind eq '2';
	}
	return;
}

sub execute
{
	my ($self) = @_;
	$self->_write('E' . pack('N', 9) . "\0" . pack('N', 0) . 'S' . pack('N', 4));
	return $self->_until_ready;
}

# A statement with a name, then as often as wanted with parameters, as drivers and pgbench -M prepared do it.
sub prepare
{
	my ($self, $name, $sql) = @_;
	$self->_write('P' . pack('N', 4 + length("$name$sql") + 4) . "$name\0$sql\0\0\0" . 'S' . pack('N', 4));
	$self->_until_ready;
	return;
}

sub run_prepared
{
	my ($self, $name, @values) = @_;
	my $values = join '', map { pack('N/a*', $_) } @values;
	my $bind = "\0$name\0" . pack('n', 0) . pack('n', scalar @values) . $values . pack('n', 0);
	$self->_write('B' . pack('N', 4 + length $bind) . $bind . 'E' . pack('N', 9) . "\0" . pack('N', 0) . 'S' . pack('N', 4));
	return $self->_until_ready;
}

sub backend_pid { return $_[0]{pid}; }

# What the server reported by ParameterStatus.
sub setting { return $_[0]{settings}{ $_[1] }; }

sub _write
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $sent = 0;
	while ($sent < length $bytes)
	{
		my $n = syswrite($self->{fh}, $bytes, length($bytes) - $sent, $sent);
		next if !defined $n && $!{EINTR};    # a child process ended or was stopped
		die "connection to PostgreSQL lost: $!\n" unless defined $n;
		$sent += $n;
	}
	return;
}

sub _need
{
	my ($self, $bytes) = @_;
	while (length $self->{buffer} < $bytes)
	{
		my $n = sysread($self->{fh}, $self->{buffer}, 65536, length $self->{buffer});
		next if !defined $n && $!{EINTR};
		die 'connection to PostgreSQL lost' . (defined $n ? "\n" : ": $!\n") unless $n;
	}
	return;
}

sub _message
{
	my ($self) = @_;
	$self->_need(5);
	my ($kind, $length) = unpack('aN', $self->{buffer});
	$self->_need(1 + $length);
	my $body = substr($self->{buffer}, 5, $length - 4);
	substr($self->{buffer}, 0, 1 + $length, '');
	return ($kind, $body);
}

sub _row
{
	my ($body) = @_;
	my ($columns, $at, @row) = (unpack('n', $body), 2);
	foreach (1 .. $columns)
	{
		my $length = unpack('l>', substr($body, $at, 4));
		$at += 4;
		push @row, $length < 0 ? undef : substr($body, $at, $length);
		$at += $length if $length > 0;
	}
	return \@row;
}

sub _until_ready
{
	my ($self) = @_;
	my (@rows, $error);
	while (1)
	{
		my ($kind, $body) = $self->_message;
		if ($kind eq 'D') { push @rows, _row($body); }
		elsif ($kind eq 'E')
		{
			my %field = map { (substr($_, 0, 1), substr($_, 1)) } split /\0/, $body;
			$error //= "$field{S}: $field{M} ($field{C})\n";
			die $error if $field{S} eq 'FATAL';
		}
		elsif ($kind eq 'S')
		{
			my ($name, $value) = split /\0/, $body;
			$self->{settings}{$name} = $value;
		}
		elsif ($kind eq 'K') { $self->{pid} = unpack('N', $body); }
		elsif ($kind eq 'R')
		{
			die "the server asks for a password\n" if unpack('N', $body) != 0;
		}
		last if $kind eq 'Z';
	}
	die $error if $error;
	return @rows;
}

1;
