# A minute of `make oracle`: random DDL and DML over a small tree of tables with rules of every kind. After each
# sequence every key whose row changed is gone, or gaps had named its rule beforehand; a key is gone only if
# something was committed. What is found is printed as a script for psql, as short as it gets.
#
# That each remedy which is left out is found: oracle_bites.pl.
#
# Begun early: it takes long.
use strict;
use warnings;

use Oracle;
use OracleShrink;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;

my $seed = $ENV{SEED} || 1;
my $end = time + ($ENV{ORACLE_SECONDS} || 60);
my $oracle = Oracle->new(replication => 1);
my $found;
while (!$found && time < $end)
{
	$found = $oracle->sequence($seed++);
}
diag(OracleShrink->new($oracle, $found)->shrink(60)->script) if $found;
ok(!$found, 'every key of a row that changed is gone');
my $count = $oracle->{count};
diag(join ', ', map { "$_: $count->{$_}" } sort keys %$count);
cmp_ok($count->{compared}, '>', 50 * $count->{sequences}, 'cached keys that were compared');
cmp_ok($count->{errors}, '<', $count->{statements} / 3, 'statements that failed');
is($count->{'not repeated'} // 0, 0, 'what is found is found again');
done_testing();
