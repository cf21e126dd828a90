
=pod

=head1 NAME

SoakSentinel - the servers of a soak whose Redis is a master behind Sentinels, and the fail-overs

=head1 DESCRIPTION

A SoakCluster without a standby: three Sentinels, a master and two replicas. faults is what happens to the master:
killed, asleep past its replacement, handed over; each is a fail-over. What was filled at a quiet point is on all
replicas before the next one begins, so that a key that is not there was deleted. recoveries: for each master that was killed, the seconds
until the worker delivered to the next one, and until the clients that were given to clients() wrote to it.

=cut

package SoakSentinel;

use strict;
use warnings;

use File::Temp ();
use Time::HiRes 'time';

use PgServer;
use RedisClient;
use Sentinel;
use SoakFaults;

our @ISA = ('SoakCluster');

$SoakFaults::faults{sentinel_killed} = sub { _fail_over($_[0], 'killed') };
$SoakFaults::faults{sentinel_slept} = sub { _fail_over($_[0], 'slept') };
$SoakFaults::faults{sentinel_handed_over} = sub { _fail_over($_[0], 'handed over') };

sub names { return qw(sentinel_killed sentinel_slept sentinel_handed_over); }

sub new
{
	my ($class, %args) = @_;
	my $self = bless { dir => File::Temp::tempdir('ca-soak-XXXXXX', TMPDIR => 1, CLEANUP => 1), recoveries => [] }, $class;
	$self->{set} = Sentinel->new(period => 300)->start;
	$self->{primary} = PgServer->new(conf => "cache_aside.redis_url = '" . $self->{set}->url . "'\n" . $args{conf})->start;
	$self->_publish;
	return $self;
}

sub stop
{
	my ($self) = @_;
	$self->primary->stop;
	$self->{set}->stop;
	return;
}

sub redis { return $_[0]{set}->master // die "no majority names a master\n"; }

# Also in forked processes, as a client would find it.
sub cache
{
	my ($self) = @_;
	foreach my $sentinel ($self->{set}->sentinels)
	{
		my $address = eval {
			RedisClient->new(port => $sentinel->port, timeout => 2)
			  ->command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', $self->{set}->name);
		} or next;
		return RedisClient->new(port => $address->[1], timeout => 2);
	}
	die "no Sentinel answers\n";
}

# It hears of a fail-over up to a second after a majority of the Sentinels knows.
sub wait_followed
{
	my ($self) = @_;
	my $at = sub { '127.0.0.1:' . $self->redis->port . '/0' };
	my $follows = sub {
		my ($row) = $self->sql(q{SELECT endpoint FROM cache_aside.status WHERE redis_state = 'connected'});
		return $row && $row->[0] eq $at->();
	};
	RedisServer->wait_until(sub { eval { $follows->() } }, 60) or die "the worker does not follow\n";
	return;
}

# What was written by now is on the replicas.
sub settle
{
	my ($self) = @_;
	$self->{set}->wait_settled;
	my $n = $self->redis->command('WAIT', 2, 30_000);
	die "only $n replicas follow\n" if $n < 2;
	return;
}

sub recoveries { return @{ $_[0]{recoveries} }; }

# Programs that write a time whenever they could write to the master, one a line: name => file.
sub clients
{
	my ($self, %files) = @_;
	$self->{clients} = \%files;
	return;
}

sub _fail_over
{
	my ($soak, $what) = @_;
	my $self = $soak->{cluster};
	my ($set, $old) = ($self->{set}, $self->redis);
	my $begun = time;
	return $set->hand_over if $what eq 'handed over';
	$what eq 'killed' ? $old->kill9 : $old->freeze;
	my $new = $set->wait_for_another($old);
	$what eq 'killed' ? $self->_note_recovery($begun, $new) : $old->thaw;
	$soak->load_runs(rand 0.5);
	$old->start if $what eq 'killed';
	return;
}

sub _note_recovery
{
	my ($self, $begun, $new) = @_;
	my $client = $self->connect('primary');
	my $at = '127.0.0.1:' . $new->port . '/0';
	my %after;
	RedisServer->wait_until(
		sub {
			my ($row) = $client->query('SELECT endpoint, extract(epoch FROM redis_since) FROM cache_aside.status WHERE redis_state = \'connected\'');
			return $row && $row->[0] eq $at && ($after{worker} = $row->[1] - $begun);
		}) or die 'the worker does not follow';
	foreach my $name (sort keys %{ $self->{clients} // {} })
	{
		RedisServer->wait_until(sub { defined($after{$name} = _first_after($self->{clients}{$name}, $begun)) }, 30);
	}
	push @{ $self->{recoveries} }, \%after;
	return;
}

# What was on its way when the master was killed may have been done just then.
sub _first_after
{
	my ($file, $begun) = @_;
	open my $fh, '<', $file or return undef;
	foreach my $time (<$fh>)
	{
		return $time - $begun if $time > $begun + 0.2;
	}
	return undef;
}

1;
