# The soak finds what guarded fills are for: clients that fill the same keys with SETEX, under the same
# writers and without any fault, leave stale values; with guarded fills there are none.
use strict;
use warnings;

use RedisServer;
use Soak;
use Test::More;

RedisServer->skip_all_unless_available;

sub soak
{
	my (%args) = @_;
	my $soak = Soak->new(seed => 7, seconds => 6, faults => ['none'], standby => 0, %args)->run;
	note $soak->table;
	return $soak;
}

my $plain = soak(guarded => 0, seconds => 3, enough => sub { $_[0]{stale} });
cmp_ok($plain->{stale}, '>', 0, 'SETEX: stale values are found');
my $guarded = soak(guarded => 1);
is($guarded->{stale} + $guarded->{lost}, 0, 'guarded fills: none');
cmp_ok($guarded->{fills}{stored}, '>', 100, 'many were stored');
cmp_ok($guarded->{fills}{refused}, '>', 0, 'and some refused');

done_testing();
