# The view gaps of a table with a thousand partitions: well under a second, and not taken by the planner for millions
# of rows, which it would compile (jit) for seconds before it looks at the first.
#
# Remedies, in sql/parts: `above` and `apart` in the view gaps (rules.sql), without which each partition is compared with
# each; tables_below() (common.sql): as a part of the view it would be taken for more rows than there are tables.
use strict;
use warnings;

use CacheAside;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $partitions = 400;
my $node = CacheAside->new_node('main', conf => "cache_aside.delivery = off\njit = on\n");
my $gaps = 'SELECT count(*) FROM cache_aside.gaps';

sub sql { return $node->safe_psql('postgres', join(';', @_)) }

sub seconds
{
	my $begin = time;
	sql(@_);
	return time - $begin;
}

sql('CREATE TABLE part (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)',
	map { "CREATE TABLE part_$_ PARTITION OF part FOR VALUES FROM (${_}0) TO (${_}9)" } 1 .. $partitions);
sql(q{SELECT cache_aside.attach('part', 'part:{id}')}, q{SELECT cache_aside.enable_versioning('part')},
	'ANALYZE pg_class, pg_inherits, pg_trigger');
is(sql($gaps), 0, 'no gap');

my $plan = decode_json(sql("EXPLAIN (FORMAT JSON) $gaps"));
cmp_ok($plan->[0]{Plan}{'Total Cost'}, '<', sql('SHOW jit_above_cost'), 'not to be compiled');
cmp_ok(soonest(1, sub { seconds($gaps) }), '<', 1, 'and told within a second');

# ---- and those that there are
my @gaps = (
	[ 'ALTER TABLE part_7 DISABLE TRIGGER USER', 'each trigger that is off' ],
	[ 'CREATE TABLE child () INHERITS (plain)', 'a child' ]);
sql('CREATE TABLE plain (id int PRIMARY KEY, v int)', q{SELECT cache_aside.attach('plain', 'plain:{id}')});
foreach (@gaps)
{
	my ($statement, $name) = @$_;
	my $before = sql($gaps);
	sql($statement);
	cmp_ok(sql($gaps), '>', $before, $name);
}
$node->stop;
done_testing();
