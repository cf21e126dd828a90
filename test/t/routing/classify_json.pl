# JSON_VALUE, JSON_TABLE and virtual columns of PostgreSQL 17 and 18 in classify(): places where the grammar wants a
# literal still get one, and the literal of a DEFAULT is not evaluated.
#
# Remedy: compute_default() in src/routing/analysis.c and CA_TAKES_LITERALS_ONLY() in src/common/compat.h; without either,
# the statements below are errors or call the CHECK.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PostgreSQL::Test::Utils;
use Test::More;

my ($major) = `pg_config --version` =~ /(\d+)/;
plan skip_all => "PostgreSQL $major has no JSON_TABLE" if $major < 17;

my $node = CacheAside->new_node('main',
	conf => "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
$node->safe_psql('postgres', q{
	CREATE FUNCTION loud(int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
	CREATE DOMAIN loud_int AS int CHECK (loud(VALUE));
	CREATE TYPE pair AS (x loud_int, y int);
	CREATE TYPE plain_pair AS (x int, y int);
	CREATE TABLE t (id int PRIMARY KEY, j jsonb)});

sub answers
{
	my ($expected, $sql) = @_;
	my ($code, $out, $err) = $node->psql('postgres', "SELECT cache_aside.is_read_only(\$classified\$$sql\$classified\$)");
	is("$out$err", $expected, $sql);
	return;
}

answers('t', q{SELECT JSON_VALUE(j, '$.a' RETURNING int DEFAULT '5' ON EMPTY DEFAULT 6 ON ERROR) FROM t});
answers('t', q{SELECT JSON_VALUE(j, '$.a' RETURNING date DEFAULT '2020-01-01'::date ON EMPTY) FROM t});
answers('t', q{SELECT JSON_VALUE(j, '$.a' RETURNING int DEFAULT 1 + '2'::int ON EMPTY) FROM t});
answers('t', q{SELECT JSON_QUERY(j, '$.a' RETURNING plain_pair DEFAULT '(1,2)'::plain_pair ON EMPTY) FROM t});
answers('t', q{SELECT JSON_VALUE(j, '$[*] ? (@ > $low)' PASSING '3' AS low NULL ON EMPTY) FROM t});
answers('t', q{SELECT * FROM t, JSON_TABLE(j, '$[*]' AS p PASSING 1 AS n
	COLUMNS (id FOR ORDINALITY, a int PATH '$.a' DEFAULT '7' ON EMPTY, NESTED PATH '$.b' COLUMNS (c text))) x});
answers('t', q{SELECT '1' IS JSON, JSON('{"a": 1}'), JSON_SCALAR('x'), JSON_OBJECT('a': 'b'), JSON_ARRAYAGG('x'), JSON_SERIALIZE('[]')});
answers('f', q{SELECT JSON_QUERY(j, '$.a' RETURNING pair DEFAULT '(1,2)'::pair ON EMPTY) FROM t});
answers('f', q{SELECT JSON_QUERY(j, '$.a' RETURNING pair DEFAULT '(1,2)' ON EMPTY) FROM t});
answers('f', q{SELECT * FROM t, JSON_TABLE(j, '$[*]' COLUMNS (a loud_int PATH '$.a' DEFAULT '7' ON EMPTY)) x});
answers('f', q{SELECT pg_input_is_valid('1', 'loud_int')});

SKIP:
{
	skip "PostgreSQL $major has no virtual columns", 1 if $major < 18;
	$node->safe_psql('postgres', q{CREATE TABLE v (a text, b text GENERATED ALWAYS AS (a || 'x') VIRTUAL)});
	answers('t', q{SELECT b || 'y', 'z' FROM v GROUP BY b || 'y'});
}

done_testing();
