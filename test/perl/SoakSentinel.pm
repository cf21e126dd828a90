
=pod

=head1 NAME

SoakSentinel - the servers of a soak whose Redis is a master behind Sentinels, and the fail-overs

=head1 DESCRIPTION

A SoakCluster without a standby: three Sentinels, a master and two replicas. faults is what happens to the master:
killed, killed while its replicas lag, asleep past its replacement, asleep together with the worker, handed over; each is a
fail-over. What was filled at a quiet point is on all replicas before the next one begins, so that a key that is not there was
deleted. SoakWitness watches what is told meanwhile. recoveries: for each master that was killed, the seconds
until the worker delivered to the next one, and until the clients that were given to clients() wrote to it.

A quiet point waits until the worker is at the master that the Sentinels name. With QUIET=early it does not: then the old
master has taken what was delivered, and the new one is compared, where keys are stale until the worker is there; or filled, and what
it delivers there again deletes some. That must be found.

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
use SoakWitness;

our @ISA = ('SoakCluster');

$SoakFaults::faults{sentinel_killed} = sub { _fail_over($_[0], 'killed') };
$SoakFaults::faults{sentinel_lagging} = sub { _fail_over($_[0], 'lagging') };
$SoakFaults::faults{sentinel_slept} = sub { _fail_over($_[0], 'slept') };
$SoakFaults::faults{sentinel_all_slept} = sub { _fail_over($_[0], 'all slept') };
$SoakFaults::faults{sentinel_handed_over} = sub { _fail_over($_[0], 'handed over') };

sub names { return qw(sentinel_killed sentinel_lagging sentinel_slept sentinel_all_slept sentinel_handed_over); }

sub new
{
	my ($class, %args) = @_;
	my $self = bless { dir => File::Temp::tempdir('ca-soak-XXXXXX', TMPDIR => 1, CLEANUP => 1), recoveries => [] }, $class;
	$self->{set} = Sentinel->new(period => 300)->start;
	$self->{primary} = PgServer->new(conf => "cache_aside.redis_url = '" . $self->{set}->url . "'\n" . $args{conf})->start;
	$self->_publish;
	$self->_note_master($self->redis);
	return $self;
}

# For SoakWitness: who is the master, and since when everybody could know; or nobody knows.
sub _note_master
{
	my ($self, $master) = @_;
	open my $fh, '>', "$self->{dir}/master.new" or die $!;
	print $fh ($master ? $master->port : 0) . ' ' . time;
	close $fh;
	rename "$self->{dir}/master.new", "$self->{dir}/master" or die $!;
	return;
}

sub master_known
{
	my ($self) = @_;
	open my $fh, '<', "$self->{dir}/master" or die $!;
	return split ' ', readline $fh;
}

# On the way, by name: a hash.
sub witness
{
	my ($self, $seed) = @_;
	$self->{witness} = SoakWitness->new($self, $seed);
	return;
}

sub witnessed { return $_[0]{witness}->stop; }
sub told_too_early { return $_[0]{witness}->early; }

sub stop
{
	my ($self) = @_;
	$self->primary->stop;
	$self->{set}->stop;
	return;
}

# Over a new connection: Sentinels close those to who is promoted.
sub redis
{
	my $master = $_[0]{set}->master // die "no majority names a master\n";
	delete $master->{client};
	return $master;
}

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
	return if ($ENV{QUIET} // '') eq 'early';
	my $at = sub { '127.0.0.1:' . $self->redis->port . '/0' };
	my $follows = sub {
		my ($row) = $self->sql(q{SELECT endpoint FROM cache_aside.status WHERE redis_state = 'connected'});
		return $row && $row->[0] eq $at->();
	};
	RedisServer->wait_until(sub { eval { $follows->() } }, 60) or die "the worker does not follow\n";
	return;
}

# What was filled by now is on the replicas.
sub keep
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

# With a password that its master does not know a replica does not connect. Sentinels close connections as they please.
sub _mislead
{
	my ($replica, $password) = @_;
	RedisServer->wait_until(sub { eval { $replica->client->command('CONFIG', 'SET', 'masterauth', $password) } })
	  or die 'a replica does not answer';
	return;
}

my %fail_over = (
	'handed over' => sub { $_[0]{set}->hand_over },
	'killed' => sub { $_[1]->kill9 },
	'lagging' => sub {
		my ($self, $old, $soak) = @_;
		my @replicas = $self->{set}->replicas;
		_mislead($_, 'wrong') foreach @replicas;
		$old->client->command('CLIENT', 'KILL', 'TYPE', 'replica');
		$soak->load_runs(rand 0.5);
		$old->kill9;
		_mislead($_, '') foreach @replicas;
	},
	'slept' => sub { $_[1]->freeze },
	# What the worker sent is answered when it wakes: an answer that is missing would end its session.
	'all slept' => sub { kill 'STOP', $_[0]->worker_pid('primary'); $_[2]->load_runs(0.1); $_[1]->freeze });

sub _fail_over
{
	my ($soak, $what) = @_;
	my $self = $soak->{cluster};
	my ($set, $old) = ($self->{set}, $self->redis);
	my $worker = $self->worker_pid('primary');
	my $begun = time;
	$soak->{report}->(sprintf '  %.3f: %s', $begun, $what);
	$self->_note_master;
	$fail_over{$what}->($self, $old, $soak);
	$begun = time if $what eq 'lagging';
	my $new = $set->wait_for_another($old);
	$self->_note_master($new);
	$soak->{report}->(sprintf '  %.3f: %d is the master, no longer %d', time, $new->port, $old->port);
	return if $what eq 'handed over';
	$self->_note_recovery($begun, $new) unless $what =~ /slept/;
	$self->_wake_worker($worker, $soak, $old) if $what eq 'all slept';
	$old->thaw if $what eq 'slept';
	$soak->load_runs(rand 0.5);
	$old->start unless $what =~ /slept/;
	return;
}

# The worker and the old master wake up together, and the Sentinels need a moment to answer.
sub _wake_worker
{
	my ($self, $worker, $soak, $old) = @_;
	my @sentinels = $self->{set}->sentinels;
	$soak->load_runs(0.8);
	$_->freeze foreach @sentinels;
	$old->thaw;
	kill 'CONT', $worker;
	$soak->load_runs(0.2);
	$_->thaw foreach @sentinels;
	$soak->{report}->(sprintf '  %.3f: all are awake', time);
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
