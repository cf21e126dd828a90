# Statements that routers of other systems sent to a replica by mistake: whatever classify() admits is run on a
# real standby by a session of its own, and must not fail there. Each was reported against some library that told reads
# from writes by the text's first word.
#
# Remedy: src/routing/harmless.c (what fails in recovery), src/routing/volatility.c (initial values, temporary objects, types
# of literals), check_text() in src/routing/classify.c (no statement). Each taken out lets one of the statements through.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PgClient;
use Test::More;

my $conf = "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n";
my $node = CacheAside->new_node('main', conf => $conf);
$node->safe_psql('postgres', q{
	CREATE TABLE t (id serial PRIMARY KEY, v text);
	INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 10);
	CREATE UNLOGGED TABLE ul (id int);
	CREATE SEQUENCE sq;
	CREATE VIEW vl AS SELECT * FROM t FOR UPDATE;
	CREATE VIEW vn AS SELECT nextval('sq');
	CREATE MATERIALIZED VIEW mv AS SELECT * FROM t;
	CREATE TABLE pt (id int) PARTITION BY RANGE (id);
	CREATE UNLOGGED TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (9);
	CREATE FUNCTION w() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO t (v) VALUES (1) RETURNING id';
	CREATE FUNCTION ok(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('sq'); RETURN true; END $$;
	CREATE DOMAIN checked AS int CHECK (ok(VALUE));
	CREATE TYPE pair AS (x int, y checked);
	CREATE FUNCTION keep(pair, int) RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT $1';
	CREATE AGGREGATE first_pair(int) (SFUNC = keep, STYPE = pair, INITCOND = '(1,2)')});
my $standby = CacheAside->new_standby('standby', $node, conf => $conf);
$node->wait_for_catchup($standby);

my @statements = grep { /\S/ } split /\n/, <<'SQL';
SELECT 1
SELECT * FROM t
SELECT * FROM ul
SELECT * FROM pt
SELECT * FROM vl
SELECT * FROM vn
SELECT * FROM t FOR UPDATE
WITH x AS (SELECT * FROM t FOR KEY SHARE) SELECT * FROM x
SELECT nextval('sq')
SELECT last_value FROM sq
SELECT lastval()
SELECT w()
SELECT pg_advisory_lock(1)
SELECT txid_current()
SELECT pg_current_xact_id_if_assigned()
SELECT txid_current_snapshot()
SELECT pg_current_wal_insert_lsn()
SELECT pg_walfile_name('0/1')
SELECT * FROM pg_walfile_name_offset('0/1')
EXPLAIN SELECT 1 WHERE pg_walfile_name('0/1') = 'x'
SELECT pg_replication_origin_oid('x')
SELECT '(1,2)'::pair
SELECT '{1}'::checked[]
EXPLAIN SELECT '(1,2)'::pair
SELECT first_pair(id) FROM t
SELECT pg_switch_wal()
LISTEN a
SHOW work_mem
SET work_mem = '1MB'
BEGIN
BEGIN READ ONLY
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
EXPLAIN ANALYZE SELECT * FROM t
EXPLAIN UPDATE t SET v = 'a'
SELECT * INTO tt FROM t
CREATE TEMP TABLE x AS SELECT 1
VALUES (1)
TABLE t
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t
PREPARE a AS SELECT 1
EXECUTE a
DEALLOCATE ALL
LOCK TABLE t IN ACCESS SHARE MODE
DO $$BEGIN PERFORM 1; END$$
REFRESH MATERIALIZED VIEW mv
SELECT * FROM mv
CHECKPOINT
SELECT lo_get(1)
SELECT * FROM pg_stat_replication
SELECT pg_last_xact_replay_timestamp()
SELECT now(), random(), clock_timestamp(), gen_random_uuid(), pg_sleep(0)
SELECT pg_table_size('ul')
SELECT count(*) FROM pg_prepared_xacts
SELECT to_regclass('x')
/* c */ -- d
;
SELECT 1; SELECT 2
SELECT 1; DELETE FROM t
SELECT * FROM pg_sequences
SELECT cache_aside.read_token()
SELECT cache_aside.route()
SELECT cache_aside.get_item('t', '{"id": 1}')
SELECT cache_aside.query_items('t', '{}')
SELECT cache_aside.query_page('t', '{}')
SELECT * FROM cache_aside.status
SELECT * FROM cache_aside.gaps
SELECT * FROM cache_aside.rules
SELECT * FROM cache_aside.versioned
SELECT cache_aside.keys('t', '{"id": 1}')
SQL

my $primary = PgClient->new(dir => $node->host, port => $node->port);
my $admitted = 0;
foreach my $statement (@statements)
{
	(my $quoted = $statement) =~ s/'/''/g;
	next if $primary->value("SELECT cache_aside.is_read_only('$quoted')") ne 't';
	$admitted++;
	my $session = PgClient->new(dir => $standby->host, port => $standby->port);
	# An empty text is an error of drivers, not of the server.
	my $error = $statement =~ m{^(;|/\*.*)$} ? 'no statement' : eval { $session->query($statement); '' } // $@;
	is($error, '', $statement);
	$session->close;
}
cmp_ok($admitted, '>', 25, "$admitted of " . @statements . ' are admitted');

done_testing();
