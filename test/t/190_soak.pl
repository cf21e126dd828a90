# A minute of `make soak`: writers, cache clients and faults of every kind; nothing stale, nothing lost.
use strict;
use warnings;

use RedisServer;
use Soak;
use Test::More;

RedisServer->skip_all_unless_available;
my $soak = Soak->new(seed => $ENV{SEED} || 1 + $$ % 1000, seconds => $ENV{SOAK_SECONDS} || 60,
	report => sub { note $_[0] });
$soak->run;
diag($_) foreach split /\n/, $soak->table;
is($soak->{stale}, 0, 'stale');
is($soak->{lost}, 0, 'lost');
cmp_ok($soak->{exact}, '>', 0, 'rounds in which nothing excuses a lost key');
done_testing();
