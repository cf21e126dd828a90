#!/usr/bin/perl
# oracle.pl: `make oracle SECONDS=60 SEED=1 SEQUENCES=n JOBS=2`; see Oracle.pm. Each job has servers of its own
# and takes every so many seeds. Ends with a table; 1 if something was found, which is printed as scripts for
# psql. SEED=n SEQUENCES=1 is one sequence again; SHOW=1 prints its statements.
use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../perl';
use Oracle;
use OracleShrink;
use RedisServer;
use Time::HiRes 'time';

my $most = 5;    # findings of a job

$| = 1;
die RedisServer->why_not . "\n" if RedisServer->why_not;
$SIG{$_} = sub { exit 1 } foreach qw(INT TERM);
my $seed = $ENV{SEED} || 1;
my $sequences = $ENV{SEQUENCES} || 1e9;
my $seconds = $ENV{ORACLE_SECONDS} || ($ENV{SEQUENCES} ? 1e9 : 60);
my $jobs = $ENV{JOBS} || 1;

sub report
{
	my ($oracle, $found) = @_;
	print OracleShrink->new($oracle, $found)->shrink(120)->script . "\n";
	print "-- this was not found again: it depends on the time, or on the sequence before\n" if $found->{not_repeated};
	return;
}

sub run
{
	my ($job) = @_;
	my $oracle = Oracle->new(replication => 1, prefixes => $job % 2 ? [ 'o:', 'new:' ] : ['']);
	my ($start, $findings) = (time, 0);
	for (my $n = $job; $n < $sequences && $findings < $most && time < $start + $seconds; $n += $jobs)
	{
		my $found = $oracle->sequence($seed + $n);
		print map { ($_->{second} ? '-- second: ' : '') . ($_->{sql} // ($_->{look} ? '-- look' : "-- $_->{fill} @{ $_->{of} // [] }")) . ";\n" . ($_->{error} ? "-- ERROR: $_->{error}\n" : '') } @{ $oracle->{done} } if $ENV{SHOW};
		next unless $found;
		$findings++;
		report($oracle, $found);
	}
	my $count = { %{ $oracle->{count} }, $oracle->{fills} ? %{ $oracle->{fills}{count} } : () };
	printf "%d sequences from seed %d, %.1f a second; %s; found: %d\n", $count->{sequences}, $seed + $job,
	  $count->{sequences} / (time - $start), join(', ', map { "$_ $count->{$_}" } grep { $_ ne 'sequences' } sort keys %$count), $findings;
	return $findings;
}

exit(run(0) ? 1 : 0) if $jobs == 1;
my @children;
foreach my $job (0 .. $jobs - 1)
{
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		exit(run($job) ? 1 : 0);
	}
	push @children, $pid;
}
my $failed = 0;
foreach my $pid (@children)
{
	waitpid($pid, 0);
	$failed = 1 if $?;
}
exit $failed;
