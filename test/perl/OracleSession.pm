
=pod

=head1 NAME

OracleSession - a PgWire that sends many statements at once and asks no more than it must

=head1 SYNOPSIS

  my $s = OracleSession->connect($pg);             # PgServer
  my @results = $s->run('BEGIN', 'UPDATE ...', "COPY t FROM STDIN;\n1\t2\n\\.\n");
  $results[1]{error}; $results[1]{rows}; $results[1]{in};
  $s->{in};                                        # 'I' idle, 'T' in a transaction, 'E' in an aborted one

=cut

package OracleSession;

use strict;
use warnings;

use PgWire;
our @ISA = ('PgWire');

sub connect
{
	my ($class, $pg, %args) = @_;
	my $self = bless { %{ $pg->connect(%args) } }, $class;
	$self->{in} = 'I';
	return $self;
}

# A COPY that fails makes the server ignore the data that follow.
sub _message_of
{
	my ($sql) = @_;
	my ($copy, $data) = $sql =~ /\A(COPY [^;]*FROM STDIN);\n(.*)\\\.\n\z/s or return 'Q' . pack('N', 5 + length $sql) . "$sql\0";
	return 'Q' . pack('N', 5 + length $copy) . "$copy\0d" . pack('N', 4 + length $data) . $data . 'c' . pack('N', 4);
}

sub run
{
	my ($self, @sql) = @_;
	$self->_write(join '', map { _message_of($_) } @sql);
	return map { $self->_result } @sql;
}

sub rows
{
	my ($self, $sql) = @_;
	my ($result) = $self->run($sql);
	die "$result->{error}: $sql\n" if $result->{error};
	return @{ $result->{rows} };
}

# The messages of one statement. They are read where they stand in the buffer: an oracle reads a great many.
sub _result
{
	my ($self) = @_;
	my ($buffer, $at, $error, @rows) = (\$self->{buffer}, 0);
	while (1)
	{
		$self->_need($at + 5) if length $$buffer < $at + 5;
		my ($kind, $length) = unpack 'aN', substr $$buffer, $at, 5;
		$self->_need($at + 1 + $length) if length $$buffer < $at + 1 + $length;
		if ($kind eq 'D') { push @rows, _row(substr $$buffer, $at + 5, $length - 4); }
		elsif ($kind eq 'E') { $error //= _error(substr $$buffer, $at + 5, $length - 4); }
		elsif ($kind eq 'Z')
		{
			$self->{in} = substr $$buffer, $at + 5, 1;
			last;
		}
		$at += 1 + $length;
	}
	substr $$buffer, 0, $at + 6, '';
	return { rows => \@rows, error => $error, in => $self->{in} };
}

sub _row
{
	my ($body) = @_;
	return index($body, "\xff\xff\xff\xff") < 0 ? [ unpack 'x2 (N/a)*', $body ] : PgClient::_row($body);    # maybe NULL
}

sub _error
{
	my ($body) = @_;
	my $fields = PgWire::_fields($body);
	my $error = "$fields->{M} ($fields->{C})";
	die "the server ended the session: $error\n" if $fields->{S} =~ /FATAL|PANIC/;
	return $error;
}

1;
