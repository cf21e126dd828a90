# Items of a table whose primary key is WITHOUT OVERLAPS, an exclusion constraint of PostgreSQL 18: its
# columns infer no unique index, so put_if_absent names the constraint. A row whose period overlaps exists.
# And virtual generated columns, which 18 has as well.
#
# Remedy: key_is_exclusive() in src/rows/item_table.c; without it put_if_absent always fails there.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PostgreSQL::Test::Utils;
use Test::More;

my ($major) = `pg_config --version` =~ /(\d+)/;
plan skip_all => "PostgreSQL $major has no WITHOUT OVERLAPS" if $major < 18;

my $node = CacheAside->new_node('main',
	conf => "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");

# Integers and ranges have no common GiST opclass without btree_gist, which needs contrib.
$node->safe_psql('postgres', qq{
	CREATE TABLE booking (room int4range, during tsrange, guest text, nights int, price int GENERATED ALWAYS AS (nights * 100) VIRTUAL,
		stored int GENERATED ALWAYS AS (nights * 10) STORED,
		CONSTRAINT "No double" PRIMARY KEY (room, during WITHOUT OVERLAPS));
	SELECT cache_aside.enable_versioning('booking')});

sub answer { return $node->safe_psql('postgres', "SELECT $_[0]"); }

sub put
{
	my ($days, $guest) = @_;
	return answer(qq~cache_aside.put_if_absent('booking', '{"room": "[1,2)", "during": "$days",
		"guest": "$guest", "nights": 3}')~);
}

like(put('[2026-01-01,2026-01-04)', 'Ada'), qr/"price": 300/, 'stored, virtual column and all');
is(put('[2026-01-01,2026-01-04)', 'Bob'), '', 'the same key existed');
is(put('[2026-01-03,2026-01-05)', 'Bob'), '', 'and so did one that overlaps');
like(put('[2026-01-04,2026-01-05)', 'Bob'), qr/"guest": "Bob"/, 'the next day is free');

my $key_of_bob = q~'{"room": "[1,2)", "during": "[2026-01-04,2026-01-05)"}'~;
my $bob = "cache_aside.get_item('booking', $key_of_bob)";
like(answer($bob), qr/"price": 300/, 'read');
like(answer(qq~cache_aside.update_item('booking', $key_of_bob, $bob || '{"nights": 4}', 1)~),
	qr/"price": 400.*"version": 2/, 'sent back whole, generated columns and all');
is(answer(q~count(*) FROM cache_aside.query_items('booking', '{"price": 400}')~), '1',
	'matched by a virtual column');
my $first = answer(q~cursor FROM cache_aside.query_page('booking', '{}', row_limit => 1)~);
is(answer(qq~item->>'guest' FROM cache_aside.query_page('booking', '{}', row_limit => 1, after => '$first')~),
	'Ada', 'a page after a range');
is(answer("cache_aside.delete_item('booking', $key_of_bob, 2)"), 't', 'deleted');

done_testing();
