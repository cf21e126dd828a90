-- Settings out of range are refused with DETAIL and HINT, however they are set.
SET lc_messages = 'C';
-- The first and the last value of each range, then what lies beyond. ALTER SYSTEM takes all of them.
SELECT format('ALTER SYSTEM SET cache_aside.%s = %L', name, value)
FROM (VALUES
	('connect_timeout', '10ms', '1min', '9ms', '60001ms'),
	('command_timeout', '10ms', '1min', '0', '2 min'),
	('scan_rate', '0', '2147483647', '-1', '-2147483648'),
	('max_backend_connections', '1', '262143', '0', '262144'),
	('backend_idle_timeout', '0', '1d', '-1', '25h'),
	('publish_interval', '0', '60s', '-1', '61s'),
	('redelete_delay', '0', '1h', '-1s', '2h'),
	('batch_delay', '0', '100ms', '-1', '1s'),
	('events_stream_length', '1', '100000000', '0', '100000001'),
	('synchronous_timeout', '1ms', '60s', '0', '1d'),
	('redelivery_window', '0', '1d', '-1', '25h'),
	('max_wal_retained', '16MB', '1TB', '15MB', '-1')) AS range(name, lowest, highest, below, above),
	LATERAL (VALUES (1, lowest), (2, highest), (3, below), (4, above)) AS given(n, value)
ORDER BY name, n
\gexec
-- Beyond int, with a wrong unit, or no number: PostgreSQL's own hint. So for words that are no choice.
ALTER SYSTEM SET cache_aside.redelete_delay = '1000d';
ALTER SYSTEM SET cache_aside.max_wal_retained = '10 furlongs';
ALTER SYSTEM SET cache_aside.delivery = 'sometimes';
ALTER SYSTEM SET cache_aside.resync_on_promotion = 'maybe';
-- Texts
SELECT format('ALTER SYSTEM SET cache_aside.key_prefix = %L', prefix) FROM (VALUES
	(repeat('p', 4096)), (repeat('p', 4097)), ('old:,' || repeat('p', 4097)),
	('a:,b:,'), (repeat('p:,', 5000))) AS given(prefix)
\set ECHO none
\gexec
\set ECHO all
ALTER SYSTEM SET cache_aside.replica_name = 'r1';
ALTER SYSTEM SET cache_aside.replica_name = 'two words';
ALTER SYSTEM SET cache_aside.replica_name =
	'x23456789012345678901234567890123456789012345678901234567890123';
ALTER SYSTEM SET cache_aside.replica_name =
	'x234567890123456789012345678901234567890123456789012345678901234';
-- What was refused changed nothing.
SELECT name, left(setting, 20) AS setting FROM pg_file_settings
WHERE name LIKE 'cache\_aside.%' AND sourcefile LIKE '%postgresql.auto.conf' ORDER BY name;
SELECT format('ALTER SYSTEM RESET %s', name) FROM pg_file_settings
WHERE name LIKE 'cache\_aside.%' AND sourcefile LIKE '%postgresql.auto.conf' ORDER BY name
\gexec
-- A session's own, by every way it has
SET cache_aside.synchronous_timeout = '2s';
SET cache_aside.synchronous_timeout = 0;
SELECT set_config('cache_aside.synchronous_timeout', '61s', false);
CREATE FUNCTION regress_waits() RETURNS int LANGUAGE sql SET cache_aside.synchronous_timeout = '-1'
	RETURN 1;
ALTER ROLE CURRENT_USER SET cache_aside.synchronous_timeout = '1h';
SHOW cache_aside.synchronous_timeout;
-- Units work, and each range is told: a new setting has one, too.
SELECT name, setting, unit, (regexp_match(extra_desc, '^From [^.;]*'))[1] AS range
FROM pg_settings WHERE name LIKE 'cache\_aside.%' AND vartype IN ('integer', 'real') ORDER BY name;
SELECT name, min_val, max_val FROM pg_settings
WHERE name LIKE 'cache\_aside.%' AND (min_val <> '-2147483648' OR max_val <> '2147483647');
