
=pod

=head1 NAME

OracleFills - a client of the cache that reads under a token and stores later, for an Oracle

=head1 SYNOPSIS

  my $fills = OracleFills->new($pg, $cache);
  $fills->do('snapshot');             # REPEATABLE READ: what is read later is read as of now
  $fills->do('early', @classes);      # READ COMMITTED: read now, the token comes with the next
  $fills->do('read', @classes);       # ends either, or reads what is there
  $fills->do('store');                # all that was read and not stored yet
  $fills->leave('r1');                # what is read or stored of this class, as of now, is not right
  $fills->forget;                     # a sequence begins
  $fills->{count};                    # stored, refused, no token

=head1 DESCRIPTION

What it stores may be as old as it likes: the token has to tell. No lock is waited for; a table that cannot
be read is not. Whether what was stored is right the oracle sees at its next look.

=cut

package OracleFills;

use strict;
use warnings;

use OracleSession;

my $token = 'SELECT cache_aside.read_token()';

sub new
{
	my ($class, $pg, $cache) = @_;
	my $self = bless { session => OracleSession->connect($pg), cache => $cache, count => {} }, $class;
	return $self->forget;
}

sub forget
{
	my ($self) = @_;
	$self->{session}->run('ROLLBACK') if $self->{session}{in} ne 'I';
	@$self{qw(read early left)} = ([], [], {});
	return $self;
}

# As long as it has the snapshot that it has now.
sub leave
{
	my ($self, $name) = @_;
	$self->{left}{$name} = 1;
	@{ $self->{$_} } = grep { $_->[0] ne $name } @{ $self->{$_} } foreach qw(read early);
	return;
}

# Of a class: { name, query, all_keys => [ [ key, key with prefix ], ... ] }
sub do
{
	my ($self, $what, @classes) = @_;
	my $session = $self->{session};
	return $self->_store if $what eq 'store';
	if ($session->{in} eq 'I')
	{
		$session->run($what eq 'early' ? 'BEGIN' : 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT 1');
		$self->{left} = {};
	}
	push @{ $self->{early} }, $self->_values(grep { !$self->{left}{ $_->{name} } } @classes) if $what ne 'snapshot';
	return if $what ne 'read';
	my ($row) = $session->rows($token);
	$session->run('COMMIT');
	push @{ $self->{read} }, map { [ @$_, $row->[0] ] } splice @{ $self->{early} };
	return;
}

sub _values
{
	my ($self, @classes) = @_;
	my @results = $self->{session}->run(map { ('SAVEPOINT f', $_->{query}, 'ROLLBACK TO f') } @classes);
	my @values;
	foreach my $class (@classes)
	{
		my (undef, $rows) = splice @results, 0, 3;
		next if $rows->{error};
		my %now = map { @$_ } @{ $rows->{rows} };
		push @values, map { [ $class->{name}, $_->[1], $now{ $_->[0] } // 'absent' ] } @{ $class->{all_keys} };
	}
	return @values;
}

sub _store
{
	my ($self) = @_;
	my ($with, $without) = ([], []);
	push @{ defined $_->[3] ? $with : $without }, $_ foreach splice @{ $self->{read} };
	$self->{count}{'no token'} += @$without;
	return unless @$with;
	my @replies = $self->{cache}->pipeline(map { [ 'FCALL', 'cache_aside_fill', 1, @$_[ 1, 2 ], 3_600_000, $_->[3] ] } @$with);
	foreach my $reply (@replies)
	{
		die "Redis: $reply\n" if ref $reply;
		$self->{count}{ $reply ? 'stored' : 'refused' }++;
	}
	return;
}

1;
