# The soak finds what it is for: a build that delivers before the commit (at PREPARE, without asking
# whether the transaction is visible), one that resumes at the end of the log, not at the position, and
# one that after a promotion keeps what was cached from commits that were lost.
#
# Begun early: it takes long.
use strict;
use warnings;

use Faults;
use RedisServer;
use Soak;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();
local $ENV{PGDATA_TEMPLATE} = PostgreSQL::Test::Utils::tempdir() . '/data';

sub found
{
	my ($point, $enough, @faults) = @_;
	my $soak = Soak->new(seed => 7, seconds => 7, faults => \@faults,
		standby => scalar(grep { /promotion/ } @faults),
		enough => $enough,
		conf => $point ? "cache_aside.debug_point = '$point=skip'\n" : '');
	$soak->run;
	note $soak->table;
	return $soak;
}

my $whole = found('', sub { $_[0]{rounds} >= 3 }, 'redis_frozen', 'clients_killed', 'promotion_lossy');
is($whole->{stale} + $whole->{lost}, 0, 'the same build, nothing skipped: nothing is found');
my $early = found('commit', sub { $_[0]{stale} && $_[0]{lost} }, 'none');
cmp_ok($early->{lost}, '>', 0, 'delivered before the commit: keys of rolled back writes are lost');
cmp_ok($early->{stale}, '>', 0, '... and keys that were filled again before it are stale');
my $forgetful = found('position', sub { $_[0]{stale} }, 'clients_killed', 'redis_frozen');
cmp_ok($forgetful->{stale}, '>', 0, 'the position is skipped: keys are stale');
my $trusting = found('promotion', sub { $_[0]{stale} }, 'promotion_lossy');
cmp_ok($trusting->{stale} + $trusting->{lost}, '>', 0,
	'neither resync nor floor after a promotion: keys are stale, or deleted for commits that are no more');

done_testing();
