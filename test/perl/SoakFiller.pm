
=pod

=head1 NAME

SoakFiller - one process that fills the cache of Soak all the time, through every fault

=head1 DESCRIPTION

A SoakChild that reads rows and stores them, with a pause in between. It does not stop at quiet points: what it
read before one may arrive after it.

guarded: cache_aside_get gives the lease of a missing key, the row comes with cache_aside.read_token(),
cache_aside_fill stores it. Otherwise GET and SETEX, as most code has it. Half of the reads go to the
standby. Connections are given up now and then, to find servers that changed places. No answer from a
server is an answer.

=cut

package SoakFiller;

use strict;
use warnings;

use parent 'SoakChild';

use SoakWriter;

my $ttl = 3600;    # longer than any soak's round: a key that expired would count as lost

sub again
{
	my ($self) = @_;
	my @keys = SoakWriter::busy_keys();
	return $self->_fill_one($keys[ rand @keys ]);
}

sub gave_up
{
	my ($self) = @_;
	delete @$self{qw(client cache)};    # whichever it was
	_pause(0.1);
	return 'no answer';
}

sub _pause { select undef, undef, undef, rand $_[0]; return; }

# Half of the fills are for a miss, half replace what is there: refreshing must be as safe.
sub _fill_one
{
	my ($self, $key) = @_;
	delete $self->{client} if rand() < 0.02;
	my $cache = $self->{cache} //= $self->{cluster}->cache;
	my $lease;
	if (rand() < 0.5)
	{
		my @get = $self->{guarded} ? ('FCALL', 'cache_aside_get', 1, $key, 200) : ('GET', $key);
		$lease = $cache->command(@get);
		return 'no miss' if $self->{guarded} ? !ref $lease : defined $lease;
	}
	my ($value, $token) = @{ $self->_read($key, rand() < 0.5 ? 'primary' : 'standby', int rand 4) };
	_pause(rand() < 0.2 ? 0.2 : 0.02);
	return $cache->command('SETEX', $key, $ttl, $value) && 'stored' unless $self->{guarded};
	return 'no token' unless defined $token;
	my @fill = ('FCALL', 'cache_aside_fill', 1, $key, $value, 1000 * $ttl, $token, $lease ? $lease->[0] : ());
	my ($answered, $stored) = $cache->try(@fill);
	return !$answered ? 'error' : $stored ? 'stored' : 'refused';
}

# The row and its token, in ways that let the snapshot grow old in between.
sub _read
{
	my ($self, $key, $role, $way) = @_;
	my $client = $self->{client}{$role} //= $self->{cluster}->connect($role);
	my $sql = SoakWriter::read_query($key);
	if ($way == 0)
	{
		$client->bind($sql);
		_pause(0.01);
		return ($client->execute)[0];
	}
	return ($client->query($sql))[0] if $way > 1;
	$client->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	_pause(0.01);
	my ($row) = $client->query($sql);
	$client->query('COMMIT');
	return $row;
}

1;
