
=pod

=head1 NAME

Soak - writers, cache clients and faults against two servers and their Redis, until time is up

=head1 SYNOPSIS

  my $result = Soak->new(seed => 7, seconds => 60, conf => '')->run;
  print $result->table;  exit($result->{stale} || $result->{lost});

=head1 DESCRIPTION

Rounds. At a quiet point no writer works (prepared transactions may stay open) and everything is
delivered: every cached value is compared with its row on the primary, then the cache is filled with
plain SET. Then the writers work, in some rounds with asynchronous commits, in some with commits that
wait for their delivery, while faults happen. Clients of the cache fill half of the keys all the time,
through writes, faults and quiet points, by guarded fills with what they read on the primary or on the
standby; with guarded => 0 by SETEX, and then stale values must be found. At the end guarded fills must
work and the standby must follow.

A value that differs from its row is stale. The key of a row that is as it was when the cache was
filled must still be there, or is lost, unless Redis itself lost its data, it evicted some, or a resync
ran in that round; the half that nobody fills in between shows it. (Absent rows and lists can change
and change back.) A promotion that was not clean loses commits; what is right is what the new primary
has, and a resync runs.

The seed decides the writers' statements, the faults, their order and their length; what coincides with
what is left to the machine. SoakCluster has the servers, SoakWriter the writers, SoakFiller the clients
of the cache, SoakFaults the faults, SoakMeter measures what commits feel of them.

=cut

package Soak;

use strict;
use warnings;

use List::Util qw(first max shuffle sum0);
use Time::HiRes 'time';

use RedisServer;
use SoakCluster;
use SoakFaults;
use SoakFiller;
use SoakMeter;
use SoakWriter;

sub new
{
	my ($class, %args) = @_;
	return bless {
		seed => 1,
		seconds => 60,
		writers => 4,
		fillers => 8,
		guarded => 1,
		standby => 1,
		conf => '',
		cluster_class => 'SoakCluster',
		began => sub { },    # gets the servers
		report => sub { },
		enough => sub { 1 },    # asked when time is up; at most as long again
		faults => undef,    # names; all
		stale => 0,
		lost => 0,
		commits => 0,
		keys => 0,
		rounds => 0,
		exact => 0,
		resynced => 0,
		happened => [],
		fills => {},
		%args
	}, $class;
}

# The faults of each round. Every kind comes once before any comes again, a promotion soon.
sub order
{
	my ($seed, @names) = @_;
	my @all;
	srand $seed;
	foreach (1 .. 100)
	{
		my @deck = shuffle sort @names;
		my $early = first { $deck[$_] =~ /^promotion/ } 0 .. $#deck;
		push @deck, splice @deck, 0, $early - rand 4 if ($early // 0) > 4;
		push @all, [ splice @deck, 0, rand() < 0.4 ? 2 : 1 ] while @deck;
	}
	return @all;
}

sub run
{
	my ($self) = @_;
	my @names = @{ $self->{faults} // [ SoakFaults::names() ] };
	SoakFaults::check(@names);
	$self->{order} = [ order($self->{seed}, @names) ];
	$self->_start;
	my $end = time + $self->{seconds};
	$self->_quiet_point;
	do
	{
		eval { $self->_round; $self->_quiet_point; 1 } or $self->_give_up($@);
	} while (time < $end || (time < $end + $self->{seconds} && !$self->{enough}->($self)));
	$_->stop foreach @{ $self->{writer} }, $self->{meter};
	$self->_stop_fillers;
	$self->_expect_fills if $self->{guarded};
	SoakServerFaults::catch_up($self->{cluster}) if $self->{standby};
	$self->{cluster}->stop;
	return $self;
}

sub _give_up
{
	my ($self, $why) = @_;
	$self->{report}->("log: $_") foreach $self->{cluster}->logged(qr/./);
	die "seed $self->{seed}, round $self->{rounds}, @{ $self->{happened}[-1] }: $why";
}

sub _start
{
	my ($self) = @_;
	my $cluster = $self->{cluster} =
	  $self->{cluster_class}->new(standby => $self->{standby}, conf => <<"EOC" . $self->{conf});
max_prepared_transactions = 50
fsync = off
wal_log_hints = on
wal_keep_size = 128MB
wal_retrieve_retry_interval = 100ms
hot_standby_feedback = on
wal_receiver_status_interval = 1s
max_standby_streaming_delay = 500ms
deadlock_timeout = 50ms
restart_after_crash = on
log_min_messages = log
cache_aside.command_timeout = 300ms
cache_aside.connect_timeout = 300ms
cache_aside.redelivery_window = 30s
EOC
	$self->{began}->($cluster);
	$cluster->sql('CREATE EXTENSION cache_aside');
	$cluster->sql(SoakWriter::schema() . SoakMeter::schema());
	$self->{writer} =
	  [ map { SoakWriter->new($cluster, $_, "$self->{seed}$_") } 1 .. $self->{writers} ];
	$self->{filler} =
	  [ map { SoakFiller->new($cluster, "$self->{seed}9$_", guarded => $self->{guarded}) }
		  1 .. $self->{fillers} ];
	$self->{meter} = SoakMeter->new($cluster);
	return;
}

sub _stop_fillers
{
	my ($self) = @_;
	foreach my $filler (@{ $self->{filler} })
	{
		my %sum = $filler->stop;
		$self->{fills}{$_} += $sum{$_} foreach keys %sum;
	}
	return;
}

# Whatever happened, fills are admitted again. (No token is given out while a transaction is open that
# was so when the position was lost.)
sub _expect_fills
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	$cluster->sql("ROLLBACK PREPARED '$_->[0]'") foreach $cluster->sql('SELECT gid FROM pg_prepared_xacts');
	$cluster->wait_until_true(q{cache_aside.fill('probe', 'v')});
	return;
}

# ---- a round ----

sub _round
{
	my ($self) = @_;
	my ($since, $what) = (time, 'before');
	my $next = sub {
		$self->{meter}->window($what, $since, time);
		($since, $what) = (time, @_);
	};
	my @faults = @{ $self->{order}[ $self->{rounds} % @{ $self->{order} } ] };
	push @{ $self->{happened} }, \@faults;
	srand 1000 * $self->{seed} + $self->{rounds}++;
	@$self{qw(wiped evicted)} = (0, 0);
	$self->{cluster}->mark_logs;
	my $how = ('plain', 'plain', 'async', 'wait')[ rand 4 ];
	$_->begin($how) foreach @{ $self->{writer} };
	foreach my $name (@faults)
	{
		$self->load_runs(rand 0.3);
		$self->{report}->("round $self->{rounds}: $name, $how commits");
		$next->($name);
		SoakFaults::happen($name, $self);
	}
	$self->load_runs(rand 0.5);
	$next->();
	$self->{commits} += $_->end foreach @{ $self->{writer} };
	return;
}

# Time for the load, not for a state: nothing waits for it to be long enough.
sub load_runs
{
	my ($self, $seconds) = @_;
	select undef, undef, undef, $seconds;
	return;
}

# ---- quiet points ----

sub snapshot { return $_[0]{cluster}->dir . '/quiet.rdb'; }

sub _quiet_point
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	$cluster->wait_followed;
	my ($delivered) = $cluster->sql(q{SELECT cache_aside.wait_delivered(NULL, '60 s')});
	if ($delivered->[0] ne 't')
	{
		my ($row) = $cluster->sql('SELECT state, redis_state, last_error FROM cache_aside.status');
		die join(', ', 'not delivered in a minute', map { $_ // '' } @$row) . "\n";
	}
	my %rows = map { @$_ } $cluster->sql(SoakWriter::state_query());
	$self->_compare(\%rows) if $self->{filled};
	$self->_fill(\%rows);
	return;
}

sub _compare
{
	my ($self, $rows) = @_;
	my @keys = sort keys %$rows;
	my %cached;
	@cached{@keys} = $self->{cluster}->redis->pipeline(map { [ 'GET', $_ ] } @keys);
	my $resynced = $self->{cluster}->logged(qr/cache_aside deletes everything/) ? 1 : 0;
	my $before = $self->{stale} + $self->{lost};
	my $excused = $self->{wiped} || $self->{evicted} || $resynced;
	$self->{resynced} += $resynced;
	$self->{exact}++ unless $excused;
	foreach my $key (@keys)
	{
		my $what =
		    defined $cached{$key} && $cached{$key} ne $rows->{$key} ? 'stale'
		  : !defined $cached{$key} && !$excused && $self->_is_unchanged($key, $rows->{$key}) ? 'lost'
		  : next;
		next if ++$self->{$what} > 20;
		$self->{report}->(sprintf 'round %d: %s is %s: row %s, filled %s, cached %s',
			$self->{rounds}, $key, $what, $rows->{$key},
			map { $_ // 'nothing' } $self->{filled}{$key}, $cached{$key});
	}
	$self->{report}->("round $self->{rounds}: log: $_") foreach
	  $self->{stale} + $self->{lost} > $before ? $self->{cluster}->logged(qr/cache_aside/) : ();
	$self->{keys} += @keys;
	return;
}

sub _is_unchanged
{
	my ($self, $key, $row) = @_;
	return $key !~ /^list:/ && $row ne 'none' && ($self->{filled}{$key} // '') eq $row;
}

# Nine keys of ten, absent rows included.
sub _fill
{
	my ($self, $rows) = @_;
	my @keys = grep { rand() < 0.9 } sort keys %$rows;
	$self->{filled} = { map { ($_ => $rows->{$_}) } @keys };
	my $redis = $self->{cluster}->redis;
	$redis->mset(%{ $self->{filled} });
	$self->{cluster}->keep($redis, $self->snapshot);
	return;
}

# ---- the result ----

# How often each fault happened: a hash.
sub happened
{
	my ($self) = @_;
	my %times;
	$times{$_}++ foreach map { @$_ } @{ $self->{happened} };
	return %times;
}

# Of commits, in ms, among these faults.
sub longest_pause
{
	my ($self, @names) = @_;
	my %wanted = map { $_ => 1 } @names;
	return max(0, map { $_->[4] } grep { $wanted{ $_->[0] } } $self->{meter}->table);
}

sub table
{
	my ($self) = @_;
	my %times = $self->happened;
	my @lines = (
		[ 'seed', $self->{seed} ], [ 'rounds', $self->{rounds} ],
		[ '  with a resync', $self->{resynced} ],
		[ '  without, and no data lost', $self->{exact} ],
		[ 'commits', $self->{commits} ],
		[ 'keys compared', $self->{keys} ],
		[ $self->{guarded} ? 'guarded fills' : 'plain fills', sum0 values %{ $self->{fills} } ],
		(map { [ "  $_", $self->{fills}{$_} ] } sort keys %{ $self->{fills} }));
	my @measured = map {
		my ($name, $commits, $median, $ratio, $pause) = @$_;
		sprintf "  %-32s %6s %10d %10s %8s %10.0f\n", $name, $times{$name} // '', $commits,
		  (map { defined $_ ? sprintf '%.2f', $_ : '-' } $median, $ratio), $pause;
	} $self->{meter}->table;
	return join '', (map { sprintf "%-34s %6s\n", @$_ } @lines),
	  sprintf("%-34s %6s %10s %10s %8s %10s\n", 'faults', sum0(values %times),
		'commits', 'median ms', 'ratio', 'pause ms'),
	  @measured, map { sprintf "%-34s %6s\n", $_, $self->{$_} } 'stale', 'lost';
}

1;
