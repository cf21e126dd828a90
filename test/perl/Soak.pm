
=pod

=head1 NAME

Soak - writers, cache clients and faults against one server and one Redis, until time is up

=head1 SYNOPSIS

  my $result = Soak->new(seed => 7, seconds => 60, conf => '')->run;
  print $result->table;  exit($result->{stale} || $result->{lost});

=head1 DESCRIPTION

Rounds. At a quiet point no writer works (prepared transactions may stay open) and everything is
delivered: every cached value is compared with its row, then the cache is filled with plain SET. Then
the writers work while faults happen. Clients of the cache fill half of the keys all the time, through
writes, faults and quiet points, by guarded fills; with guarded => 0 by SETEX, and then stale values
must be found. At the end guarded fills must work.

A value that differs from its row is stale. The key of a row that is as it was when the cache was
filled must still be there, or is lost, unless Redis itself lost its data or a resync ran in that
round; the half that nobody fills in between shows it. (Absent rows and lists can change and change
back.)

The seed decides the writers' statements, the faults and their order; what coincides with what is
left to the machine.

=cut

package Soak;

use strict;
use warnings;

use List::Util qw(shuffle);
use Time::HiRes 'time';

use PgServer;
use RedisServer;
use SoakFaults;
use SoakFiller;
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
		conf => '',
		report => sub { },
		faults => undef,    # names; all
		stale => 0,
		lost => 0,
		commits => 0,
		keys => 0,
		rounds => 0,
		exact => 0,
		resynced => 0,
		happened => {},
		fills => {},
		%args
	}, $class;
}

sub run
{
	my ($self) = @_;
	srand $self->{seed};
	$self->_start;
	my $end = time + $self->{seconds};
	$self->_quiet_point;
	do
	{
		$self->_round;
		$self->_quiet_point;
	} while (time < $end);
	$_->stop foreach @{ $self->{writer} };
	$self->_stop_fillers;
	$self->_expect_fills if $self->{guarded};
	$self->{pg}->stop;
	$self->{redis}->kill9;
	return $self;
}

sub _start
{
	my ($self) = @_;
	$self->{redis} = RedisServer->new->start;
	# With asynchronous commits every crash ends in a resync: half of the seeds do without.
	$self->{pg} = PgServer->new(redis => $self->{redis}, conf => <<"EOC" . $self->{conf})->start;
max_prepared_transactions = 50
fsync = off
deadlock_timeout = 50ms
restart_after_crash = on
log_min_messages = log
cache_aside.command_timeout = 300ms
cache_aside.connect_timeout = 300ms
EOC
	$self->sql('CREATE EXTENSION cache_aside');
	$self->sql(SoakWriter::schema());
	$self->{writer} = [
		map { SoakWriter->new($self->{pg}, $_, "$self->{seed}$_", async => $self->{seed} % 2 == 0) }
		  1 .. $self->{writers} ];
	$self->{filler} = [
		map { SoakFiller->new(@$self{qw(pg redis)}, "$self->{seed}9$_", guarded => $self->{guarded}) }
		  1 .. $self->{fillers} ];
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
	$self->sql("ROLLBACK PREPARED '$_->[0]'") foreach $self->sql('SELECT gid FROM pg_prepared_xacts');
	my $probe = sub { return ($self->sql(q{SELECT cache_aside.fill('probe', 'v')}))[0][0] eq 't'; };
	RedisServer->wait_until($probe, 60) or die "fills are refused for a minute\n";
	return;
}

# On a connection of its own, made when the server is back from whatever happened to it.
sub sql
{
	my ($self, $sql) = @_;
	my @rows;
	my $answered = RedisServer->wait_until(
		sub {
			return 1 if eval { @rows = $self->{pg}->connect->query($sql); 1 };
			die $@ if $@ =~ /^ERROR/;
			return 0;
		},
		60);
	die "no answer from PostgreSQL: $@" unless $answered;
	return @rows;
}

# ---- a round ----

sub _round
{
	my ($self) = @_;
	my @names = $self->{faults} ? @{ $self->{faults} } : SoakFaults::names();
	my @chosen = (shuffle @names)[ 0 .. (rand() < 0.4 && @names > 1 ? 1 : 0) ];
	my $seconds = 0.4 + rand 0.8;
	$self->{rounds}++;
	$self->{wiped} = 0;
	$self->{log_size} = -s $self->{pg}->logfile;
	$_->work($seconds) foreach @{ $self->{writer} };
	foreach my $name (@chosen)
	{
		$self->load_runs(rand 0.3);
		$self->{happened}{$name}++;
		$self->{report}->("round $self->{rounds}: $name");
		SoakFaults::happen($name, $self);
	}
	foreach my $writer (@{ $self->{writer} })
	{
		$self->{commits} += $writer->wait_done;
	}
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

sub _quiet_point
{
	my ($self) = @_;
	my ($delivered) = $self->sql(q{SELECT cache_aside.wait_delivered(NULL, '60 s')});
	if ($delivered->[0] ne 't')
	{
		my ($row) = $self->sql('SELECT state, redis_state, last_error FROM cache_aside.status');
		die "not delivered in a minute: @{[ map { $_ // '' } @$row ]}\n";
	}
	my %rows = map { @$_ } $self->sql(SoakWriter::state_query());
	$self->_compare(\%rows) if $self->{filled};
	$self->_fill(\%rows);
	return;
}

# What the worker logged in this round.
sub _log
{
	my ($self) = @_;
	open my $fh, '<', $self->{pg}->logfile or die $!;
	seek $fh, $self->{log_size}, 0;
	return grep { /cache_aside/ } <$fh>;
}

sub _compare
{
	my ($self, $rows) = @_;
	my @keys = sort keys %$rows;
	my %cached;
	@cached{@keys} = $self->{redis}->pipeline(map { [ 'GET', $_ ] } @keys);
	my $resynced = grep({ /deletes everything/ } $self->_log) ? 1 : 0;
	my $before = $self->{stale} + $self->{lost};
	my $excused = $self->{wiped} || $resynced;
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
	  $self->{stale} + $self->{lost} > $before ? $self->_log : ();
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
	$self->{redis}->mset(%{ $self->{filled} });
	$self->{redis}->save_to($self->{redis}->dir . '/quiet.rdb');
	return;
}

# ---- the result ----

sub table
{
	my ($self) = @_;
	my ($faults, $fills) = (0, 0);
	$fills += $_ foreach values %{ $self->{fills} };
	$faults += $_ foreach values %{ $self->{happened} };
	my @lines = (
		[ 'seed', $self->{seed} ], [ 'rounds', $self->{rounds} ],
		[ '  with a resync', $self->{resynced} ],
		[ '  with neither that nor data lost', $self->{exact} ],
		[ 'commits', $self->{commits} ],
		[ 'keys compared', $self->{keys} ],
		[ $self->{guarded} ? 'guarded fills' : 'plain fills', $fills ],
		(map { [ "  $_", $self->{fills}{$_} ] } sort keys %{ $self->{fills} }),
		[ 'faults', $faults ],
		(map { [ "  $_", $self->{happened}{$_} ] } sort keys %{ $self->{happened} }),
		[ 'stale', $self->{stale} ], [ 'lost', $self->{lost} ]);
	return join '', map { sprintf "%-34s %10s\n", @$_ } @lines;
}

1;
