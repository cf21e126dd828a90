
=pod

=head1 NAME

SoakWitness - one process that commits synchronously and looks whether what it was told is true

=head1 DESCRIPTION

A SoakChild that fills keys as SoakFiller does, changes their rows, and when a COMMIT returns without a warning asks
the master whether the old value is there, until stop, which returns what it saw as a hash: told, untold, and early: told, and
an old value was read afterwards at the master that had been named for at least 0.3 seconds before the commit began. (Before, a worker
may not have heard of it yet.) Which one that is, the parent knows (master_known), and that it changes.

=cut

package SoakWitness;

use strict;
use warnings;

use parent 'SoakChild';

use IO::Handle;
use Time::HiRes 'time';

use PgWire;
use RedisClient;

my $rows = 20;
my $heard = 0.3;

sub begin
{
	my ($self) = @_;
	open $self->{log}, '>', $self->{cluster}->dir . '/early' or die $!;
	$self->{log}->autoflush(1);
	return;
}

# Lines, one for each that was told too early.
sub early
{
	my ($self) = @_;
	open my $fh, '<', $self->{cluster}->dir . '/early' or return ();
	return <$fh>;
}

sub again
{
	my ($self) = @_;
	select undef, undef, undef, 0.01;
	return $self->_commit;
}

sub gave_up
{
	my ($self) = @_;
	delete $self->{client};
	return 'no answer';
}

sub _client
{
	my ($self) = @_;
	return $self->{client} if $self->{client};
	my $client = PgWire->new(undef, host => $self->{cluster}->dir . '/primary', port => 5432);
	$client->query(q{SET cache_aside.synchronous = on; SET cache_aside.synchronous_timeout = '300ms'});
	if (!$self->{made})
	{
		$client->query(qq{CREATE TABLE witness (id int PRIMARY KEY, v int NOT NULL DEFAULT 0);
			INSERT INTO witness SELECT i FROM generate_series(1, $rows) i;
			SELECT cache_aside.attach('witness', 'witness:{id}')});
		$self->{made} = 1;
	}
	return $self->{client} = $client;
}

sub _fill
{
	my ($self, $cache, $id) = @_;
	my ($v, $token) =
	  @{ $self->_client->query("SELECT v, cache_aside.read_token() FROM witness WHERE id = $id")->{rows}[0] };
	$cache->try('FCALL', 'cache_aside_fill', 1, "witness:$id", $v, 600_000, $token) if defined $token;
	return;
}

sub _commit
{
	my ($self) = @_;
	my ($port, $since) = $self->{cluster}->master_known;
	my $cache = $port && eval { RedisClient->new(port => $port, timeout => 0.3) };
	eval { $self->_fill($cache, 1 + int rand $rows) } if $cache;
	my ($id, $begun) = (1 + int rand $rows, time);
	my $result = $self->_client->query("UPDATE witness SET v = v + 1 WHERE id = $id RETURNING v");
	return 'untold' if @{ $result->{notices} };
	return 'told, not asked' if !$cache || $begun - $since < $heard || ($self->{cluster}->master_known)[0] != $port;
	my $told = time;
	my $cached = eval { RedisClient->new(port => $port, timeout => 0.3)->command('GET', "witness:$id") };
	return 'told' unless defined $cached && $cached < $result->{rows}[0][0];
	return 'told, not asked' if ($self->{cluster}->master_known)[0] != $port; # it changes just now
	printf { $self->{log} } "%.3f: witness:%d at %d (master for %.3f s) is %s, not %s, told in %.3f s\n", $begun, $id, $port,
	  $begun - $since, $cached, $result->{rows}[0][0], $told - $begun;
	return 'early';
}

1;
