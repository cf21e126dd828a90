
=pod

=head1 NAME

OracleSession - a PgWire that sends many statements at once and asks no more than it must

=head1 SYNOPSIS

  my $s = OracleSession->connect($pg);             # PgServer
  my @results = $s->run('BEGIN', 'UPDATE ...', "COPY t FROM STDIN;\n1\t2\n\\.\n");
  $results[1]{error}; $results[1]{rows};
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

sub _result
{
	my ($self) = @_;
	my (@rows, $error);
	while (1)
	{
		my ($kind, $body) = $self->_message;
		if ($kind eq 'D') { push @rows, PgClient::_row($body); }
		elsif ($kind eq 'E')
		{
			my $fields = PgWire::_fields($body);
			$error //= "$fields->{M} ($fields->{C})";
			die "the server ended the session: $error\n" if $fields->{S} =~ /FATAL|PANIC/;
		}
		elsif ($kind eq 'Z')
		{
			$self->{in} = $body;
			return { rows => \@rows, error => $error };
		}
	}
	return;
}

1;
