
=pod

=head1 NAME

PgWire - a PgClient that shows what the protocol said, can pipeline, and can reach a pooler by TCP

=head1 SYNOPSIS

  my $c = PgWire->new($node, options => '-c cache_aside.report_commit_lsn=on');
  my $r = $c->query('INSERT INTO t VALUES (1)');   # dies for an error, unless may_fail => 1
  $r->{rows};                                      # array references
  $r->{status}{'cache_aside.commit_lsn'};          # ParameterStatus of this query, last value
  $r->{reports}{'cache_aside.commit_lsn'};         # ... how many there were
  $r->{notices}[0]{M};                             # and its other fields
  $r->{tag};                                       # 'INSERT 0 1', of the last statement
  $c->send('SELECT 1', 'SELECT 2');                # pipelined: then receive twice

Options: host and port instead of the node's, db, user, options.

=cut

package PgWire;

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;

use PgClient;
our @ISA = ('PgClient');

sub new
{
	my ($class, $node, %args) = @_;
	my $host = $args{host} // $node->host;
	my $port = $args{port} // $node->port;
	my $fh =
	  $host =~ m{^/}
	  ? IO::Socket::UNIX->new(Peer => "$host/.s.PGSQL.$port")
	  : IO::Socket::INET->new(PeerHost => $host, PeerPort => $port);
	die "cannot connect to $host:$port: $!\n" unless $fh;
	my $self = bless { fh => $fh, buffer => '' }, $class;
	my %startup = (
		user => $args{user} // scalar getpwuid($<),
		database => $args{db} // 'postgres',
		$args{options} ? (options => $args{options}) : ());
	my $body = pack('N', 196608) . join('', map { "$_\0$startup{$_}\0" } keys %startup) . "\0";
	$self->_write(pack('N', 4 + length $body) . $body);
	$self->receive;
	return $self;
}

sub send
{
	my ($self, @sql) = @_;
	$self->_write(join '', map { 'Q' . pack('N', 5 + length $_) . "$_\0" } @sql);
	return;
}

# Everything up to the next ReadyForQuery.
sub receive
{
	my ($self, %args) = @_;
	my %result = (rows => [], status => {}, reports => {}, notices => []);
	while (1)
	{
		my ($kind, $body) = $self->_message;
		last if $kind eq 'Z';
		push @{ $result{rows} }, PgClient::_row($body) if $kind eq 'D';
		if ($kind eq 'S')
		{
			my ($name, $value) = split /\0/, $body;
			$result{status}{$name} = $value;
			$result{reports}{$name}++;
		}
		$result{tag} = $body =~ s/\0.*//sr if $kind eq 'C';
		push @{ $result{notices} }, _fields($body) if $kind eq 'N';
		$self->{pid} = unpack('N', $body) if $kind eq 'K';
		if ($kind eq 'E')
		{
			$result{error} = _fields($body);
			last if $result{error}{S} eq 'FATAL';
		}
	}
	die "$result{error}{M} ($result{error}{C})\n" if $result{error} && !$args{may_fail};
	return \%result;
}

# Of an error or notice: S severity, C code, M message, D detail, ...
sub _fields
{
	my ($body) = @_;
	return { map { (substr($_, 0, 1), substr($_, 1)) } split /\0/, $body };
}

sub query
{
	my ($self, $sql, %args) = @_;
	$self->send($sql);
	return $self->receive(%args);
}

sub value
{
	my ($self, $sql) = @_;
	return $self->query($sql)->{rows}[0][0];
}

1;
