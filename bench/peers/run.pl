#!/usr/bin/perl
# Ways to keep a cache right, side by side in one run: each of Peer/ with servers of its own, the same table, the same
# application, the same prober. `make bench-peers` runs it; see docs/benchmarks/peers.md.
#
#	ROUNDS=7 CLIENTS=8                of the main measurement, and
#	PEERS_SECONDS=3.5                 of each of its turns (make's SECONDS=; to bash that is a clock)
#	PEERS="untracked notify"          only these (names of the files in Peer/, in lower case)
#	OUT=dir                           where data, table and plots go
#	QUICK=1                           everything so short that it only shows that it works
#	BENCH_SPOIL=1                     each turn first with other keys in the cache than those of the table: it has to fail
#
# Four parts. Throughput: rounds of one turn each, the order rotated by one from round to round; the cache holds every
# row; after a turn exactly the keys of the rows written are gone, and of those left none is stale. Clients: the same
# with 1 to 64. Latency: the prober beside the application at 80 % of the peer's own throughput. Loss: what deletes, the
# cache, the server are killed with SIGKILL while the application writes, and started again; then every key that is left
# is compared with its row.
use strict;
use warnings;

use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use List::Util qw(min);
use Time::HiRes qw(time sleep);

use lib dirname(__FILE__), dirname(__FILE__) . '/../../test/perl';
use Peer;
use Report;

$| = 1;
$SIG{$_} = sub { exit 130 } foreach qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';

my $here = dirname(__FILE__);
my $quick = $ENV{QUICK};
our $spoiled = 0;
my $rounds = $ENV{ROUNDS} || ($quick ? 1 : 7);
my $seconds = $ENV{PEERS_SECONDS} || ($quick ? 0.2 : 3.5);
my $clients = $ENV{CLIENTS} || ($quick ? 2 : 8);
my @clients = $quick ? (1) : (1, 2, 4, 8, 16, 32, 64);
my @order = qw(untracked undelivered asynchronous synchronous pgmemcache notify outbox wal2json application);
my @kills = (deleter => 'kill_deleter', ($quick ? () : (cache => 'kill_cache', server => 'kill_server')));

my $out = $ENV{OUT} || tempdir('ca-peers-XXXXXX', TMPDIR => 1, CLEANUP => 1);
make_path($out);
my $started = time;
my $turns = 0;

sub progress { printf "%4d s  %s\n", time - $started, join ' ', @_; return; }

sub compile
{
	$Peer::bin = tempdir('ca-bin-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	chomp(my $include = `$ENV{PG_CONFIG} --includedir`);
	chomp(my $lib = `$ENV{PG_CONFIG} --libdir`);
	my %with = (
		(map { $_ => 'cache' } qw(application prober keys)),
		(map { $_ => 'invalidator' } qw(notify_listener outbox_poller wal2json_consumer)));
	foreach my $program (sort keys %with)
	{
		system("cc -O2 -Wall -I$include -o $Peer::bin/$program $here/$program.c $here/$with{$program}.c -L$lib -lpq -lhiredis") == 0
		  or die "$program.c does not compile\n";
	}
	return;
}

# The peers asked for that can run here, each set up.
sub peers
{
	my %wanted = map { $_ => 1 } split / /, $ENV{PEERS} || "@order";
	my @peers;
	foreach my $name (grep { delete $wanted{$_} } @order)
	{
		my $class = 'Peer::' . ucfirst $name;
		require "Peer/\u$name.pm";
		if (my $why = $class->why_not) { progress("$name: left out, $why"); next; }
		push @peers, $class->new;
		progress("$name: ready");
	}
	die "no such peer: @{[ sort keys %wanted ]}; there are @order\n" if %wanted;
	return @peers;
}

sub begin
{
	my ($peer) = @_;
	$peer->start;
	$peer->drained or die "not as claimed: @{[ $peer->name ]}: a key does not go\n";    # nor is there anything old
	$peer->fill($spoiled);
	return;
}

# What every turn claims: as many keys are gone as commits were made, and what is left is right.
sub claimed
{
	my ($peer, $commits) = @_;
	my ($left, $stale) = $peer->audit;
	my ($claimed_left, $claimed_stale) = $peer->deletes ? ($Peer::rows - $commits, 0) : ($Peer::rows, $commits);
	die sprintf "not as claimed: %s: %d commits, %d keys left, %d of them stale\n", $peer->name, $commits, $left, $stale
	  unless $commits > 0 && $left == $claimed_left && $stale == $claimed_stale;
	return;
}

# One turn of the application, until everything is dealt with.
sub turn
{
	my ($peer, $clients, $seconds) = @_;
	begin($peer);
	my $before = $peer->used;
	my ($commits, $elapsed, $cpu) = $peer->finish_application(
		$peer->begin_application('-c', $clients, '-t', $seconds, '-s', 37_777 * ++$turns));
	die $peer->name . ": the application failed\n" unless $commits;
	my $drain = time;
	$peer->drained or die "not as claimed: @{[ $peer->name ]}: a key does not go\n";
	$drain = time - $drain;
	my $after = $peer->used;
	my %figures = (commits => $commits, tps => $commits / $elapsed, behind => $drain, memory => $peer->consumer_memory,
		wal => ($after->{wal} - $before->{wal}) / $commits, application => 100_000 * $cpu / $commits);
	$figures{$_} = 100_000 * ($after->{$_} - $before->{$_}) / $commits foreach qw(server cache consumer);
	claimed($peer, $commits);
	$peer->stop;
	return \%figures;
}

# With BENCH_SPOIL the same with other keys in the cache comes first, and has to fail.
sub proved_turn
{
	my ($peer, @args) = @_;
	if ($ENV{BENCH_SPOIL})
	{
		local $spoiled = 1;
		eval { turn($peer, @args); 1 } and die $peer->name . ": what it claims is not checked\n";
		die $@ unless $@ =~ /^not as claimed: /;
		print "  spoiled: $@";
		$peer->stop;
	}
	return turn($peer, @args);
}

sub throughput
{
	my ($report, @peers) = @_;
	foreach my $round (1 .. $rounds)
	{
		foreach my $peer (@peers)
		{
			my $figures = proved_turn($peer, $clients, $seconds);
			$report->add_turn($peer, $clients, $figures);
			progress(sprintf 'round %d of %d: %-14s %6.0f TPS', $round, $rounds, $peer->name, $figures->{tps});
		}
		push @peers, shift @peers;
	}
	return;
}

sub by_clients
{
	my ($report, @peers) = @_;
	foreach my $n (@clients)
	{
		foreach my $peer (@peers)
		{
			my $figures = turn($peer, $n, 0.5 * $seconds);
			$report->add_clients($peer, $n, $figures);
			progress(sprintf '%2d clients: %-14s %6.0f TPS', $n, $peer->name, $figures->{tps});
		}
		push @peers, shift @peers;
	}
	return;
}

sub latency
{
	my ($report, @peers) = @_;
	foreach my $peer (grep { $_->deletes } @peers)
	{
		begin($peer);
		my $rate = 0.8 * $report->tps($peer);
		my $length = min(3 * $seconds, 0.85 * $Peer::rows / $rate);    # there have to be rows to write until the end
		my $application = $peer->begin_application('-c', $clients, '-t', $length, '-r', $rate);
		my @samples = $peer->probe('-t', 0.95 * $length) or die "not as claimed: @{[ $peer->name ]}: a key does not go\n";
		my ($commits) = $peer->finish_application($application);
		$peer->drained or die "not as claimed: @{[ $peer->name ]}: a key does not go\n";
		claimed($peer, $commits);
		$report->add_latency($peer, $commits / $length, @samples);
		progress(sprintf 'latency: %-14s p50 %.2f ms at %.0f TPS', $peer->name, $samples[@samples / 2] / 1000, $rate);
		$peer->stop;
	}
	return;
}

# Lets time pass while somebody starts again what ended.
sub supervised
{
	my ($peer, $until) = @_;
	while (time < $until) { $peer->supervise; sleep 0.02; }
	return;
}

# Keys stale, and right keys that are gone, after what is killed was killed.
sub loss
{
	my ($peer, $kill) = @_;
	begin($peer);
	$peer->cache->save;    # the last snapshot that Redis made
	my $length = $quick ? 0.4 : 2.4;
	my $application = $peer->begin_application('-c', $clients, '-t', $length, '-k');
	my $end = time + $length;
	sleep $length / 3;
	$peer->$kill;
	sleep 0.1;
	$peer->cache->start unless $peer->cache->pid;
	$peer->pg->start unless $peer->pg->{pid};
	supervised($peer, $end);
	$peer->finish_application($application);
	return settled($peer);
}

# Until nothing changes any more.
sub settled
{
	my ($peer) = @_;
	my $begun = time;
	until (eval { $peer->drained(1) })
	{
		die $peer->name . ": does not come back\n" if time > $begun + 60;
		supervised($peer, time + 0.1);
	}
	my $seconds = time - $begun;
	my ($left, $stale, $last) = ($peer->audit, -1);
	while ($stale > 0 && $stale != $last)
	{
		$last = $stale;
		supervised($peer, time + ($quick ? 0.2 : 1));
		($left, $stale) = $peer->audit;
	}
	$peer->stop;
	my $written = $peer->sql->value('SELECT count(*) FROM account JOIN earlier USING (id) WHERE account.n > earlier.n');
	return { stale => $stale, left => $left, written => $written, seconds => $seconds };
}

sub losses
{
	my ($report, @peers) = @_;
	foreach my $peer (grep { $_->deletes } @peers)
	{
		for (my $i = 0; $i < @kills; $i += 2)
		{
			my ($what, $kill) = @kills[ $i, $i + 1 ];
			$peer->sql->query("DROP TABLE IF EXISTS earlier; CREATE TABLE earlier AS SELECT id, n FROM account WHERE id <= $Peer::rows");
			my $found = loss($peer, $kill);
			$report->add_loss($peer, $what, $found);
			progress(sprintf 'loss: %-14s %s killed: %d stale of %d written, %d keys left; %.1f s',
				$peer->name, $what, @$found{qw(stale written left seconds)});
		}
	}
	return;
}

$Peer::rows = $quick ? 5_000 : int(50_000 * $seconds);
compile();
my @peers = peers();
my $report = Report->new(out => $out, rounds => $rounds, seconds => $seconds, clients => $clients, peers => \@peers);
throughput($report, @peers);
by_clients($report, @peers);
latency($report, @peers);
losses($report, @peers);
$report->write(time - $started);
progress("data, table and plots are in $out") if $ENV{OUT};
