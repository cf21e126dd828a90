#!/usr/bin/perl
# soak.pl: `make soak MINUTES=n SEED=s`; see Soak.pm. Ends with a table; 1 if a key was stale or lost.
# GUARDED=0 fills the cache with SETEX while the writers work: that must find stale keys.
# FAULTS='name name' allows only these; see SoakFaults.pm and SoakServerFaults.pm.
use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../perl';
use RedisServer;
use Soak;

$| = 1;
die RedisServer->why_not . "\n" if RedisServer->why_not;
$SIG{$_} = sub { exit 1 } foreach qw(INT TERM);
my $soak = Soak->new(
	seconds => 60 * ($ENV{MINUTES} || 5),
	guarded => $ENV{GUARDED} // 1,
	faults => $ENV{FAULTS} ? [ split ' ', $ENV{FAULTS} ] : undef,
	seed => $ENV{SEED} || 1 + int rand 1_000_000,
	report => sub { print "$_[0]\n" });
$soak->run;
print "\n" . $soak->table;
exit($soak->{stale} + $soak->{lost} > 0 ? 1 : 0);
