# A minute of `make soak`: writers, clients that fill the cache all the time, and faults of
# every kind; nothing stale, nothing lost, and fills are admitted between the faults and after them.
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
cmp_ok($soak->{fills}{stored}, '>', 300, 'guarded fills that were stored');
cmp_ok($soak->{fills}{refused}, '>', 10, 'and that were refused');
done_testing();
