# A minute of `make soak`: writers, clients that fill the cache all the time from a primary and its
# standby, and faults of every kind, promotions among them; nothing stale, nothing lost, fills are admitted
# between the faults and after them, and no fault of Redis holds up a commit.
#
# Begun early: it takes long.
use strict;
use warnings;

use Faults;
use RedisServer;
use Soak;
use SoakFaults;
use Test::More;

RedisServer->skip_all_unless_available;

sub order { return join ', ', map { "@$_" } Soak::order($_[0], SoakFaults::names()); }
is(order(7), order(7), 'the seed decides what happens');
isnt(order(7), order(8), '... another seed otherwise');

sub promotions
{
	my %happened = $_[0]->happened;
	return grep { /^promotion/ } keys %happened;
}

my $soak = Soak->new(seed => $ENV{SEED} || 1 + $$ % 1000, seconds => $ENV{SOAK_SECONDS} || 50,
	enough => sub { promotions($_[0]) && $_[0]{exact} }, report => sub { note $_[0] });
$soak->run;
diag($_) foreach split /\n/, $soak->table;
is($soak->{stale}, 0, 'stale');
is($soak->{lost}, 0, 'lost');
cmp_ok($soak->{exact}, '>', 0, 'rounds in which nothing excuses a lost key');
cmp_ok($soak->{fills}{stored}, '>', 100, 'guarded fills that were stored');
cmp_ok($soak->{fills}{refused}, '>', 10, 'and that were refused');
cmp_ok(scalar(promotions($soak)), '>', 0, 'kinds of promotion');
cmp_ok($soak->longest_pause(SoakFaults::names_of_redis()), '<', $Faults::longest,
	'whatever happens to Redis, commits go on (ms)');
done_testing();
