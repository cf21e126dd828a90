-- Sentinels in cache_aside.redis_url: what is accepted, what is refused and why. No refusal shows the value: a
-- mistyped URL still contains the password.
\set ECHO queries
SELECT format('ALTER SYSTEM SET cache_aside.redis_url = %L', url) FROM (VALUES
	('redis+sentinel://s1/cache'),
	('redis+sentinel://s1:26379,s2,s3:1/cache'),
	('redis+sentinel://s1,s2,s3/cache/'),
	('redis+sentinel://s1,s2,s3/cache/15'),
	('REDIS+SENTINEL://127.0.0.1:5000,[::1]:5000,[::1]/A-z.0_9/2147483647'),
	('redis+sentinel://:sec%2Cret@s1,s2/cache'),
	('redis+sentinel://reader:secret@s1,s2/cache/1'),
	('redis+sentinel://s1,s2,s3,s4,s5,s6,s7,s8,s9,s10,s11,s12,s13,s14,s15,s16/cache'),
	('redis+sentinel://s1/' || repeat('n', 127))) AS good(url)
\gexec
SELECT format('ALTER SYSTEM SET cache_aside.redis_url = %L', url) FROM (VALUES
	('redis+sentinel://'),
	('redis+sentinel:///cache'),
	('redis+sentinel://s1'),
	('redis+sentinel://s1/'),
	('redis+sentinel://s1,s2'),
	('redis+sentinel://s1//1'),
	('redis+sentinel://s1,/cache'),
	('redis+sentinel://,s1/cache'),
	('redis+sentinel://s1,,s2/cache'),
	('redis+sentinel://s1:,s2/cache'),
	('redis+sentinel://s1:0/cache'),
	('redis+sentinel://s1:65536/cache'),
	('redis+sentinel://s1;s2/cache'),
	('redis+sentinel://s1 s2/cache'),
	('redis+sentinel://::1,s2/cache'),
	('redis+sentinel://[::1,s2/cache'),
	('redis+sentinel://s1,s2,s1/cache'),
	('redis+sentinel://s1,S1:26379/cache'),
	('redis+sentinel://s1/my cache'),
	('redis+sentinel://s1/my%20cache'),
	('redis+sentinel://s1/c%00ache'),
	('redis+sentinel://s1/c%ache'),
	('redis+sentinel://s1/cache/x'),
	('redis+sentinel://s1/cache/-1'),
	('redis+sentinel://s1/cache/2147483648'),
	('redis+sentinel://s1/cache/1/2'),
	('redis+sentinel://s1/cache?db=1'),
	('redis+sentinel://s1/cache#x'),
	('redis+sentinel://s1,redis://s2/cache'),
	('redis+sentinel://unix:///run/redis.sock/cache'),
	('redis+unix:///run/redis.sock'),
	('redis-sentinel://s1/cache'),
	('sentinel://s1/cache'),
	('redis+sentinel://:sec/ret@s1/cache'),
	('redis+sentinel://s1,s2,s3,s4,s5,s6,s7,s8,s9,s10,s11,s12,s13,s14,s15,s16,s17/cache'),
	('redis+sentinel://s1/' || repeat('n', 128)),
	('redis+sentinel://' || repeat('h', 256) || '/cache')) AS bad(url)
\set ECHO none
\gexec
\set ECHO all
-- The last good one was written, and is what a reload would take.
SELECT left(setting, 24) AS setting, error FROM pg_file_settings
WHERE name = 'cache_aside.redis_url' AND sourcefile LIKE '%postgresql.auto.conf';
ALTER SYSTEM RESET cache_aside.redis_url;
-- How to log in at Sentinels is nobody's business, either.
ALTER SYSTEM SET cache_aside.redis_sentinel_user = 'watcher';
SELECT format('ALTER SYSTEM SET cache_aside.redis_sentinel_user = %L', repeat('u', 256)) \gexec
ALTER SYSTEM RESET cache_aside.redis_sentinel_user;
SET cache_aside.redis_sentinel_user = 'watcher';
ALTER ROLE CURRENT_USER SET cache_aside.redis_sentinel_password_file = '/etc/hostname';
-- No Sentinel is listed where the tests run.
SELECT * FROM cache_aside.sentinels;
CREATE ROLE regress_sentinel_reader;
SET ROLE regress_sentinel_reader;
\set VERBOSITY sqlstate
SELECT * FROM cache_aside.sentinels;
SELECT cache_aside.sentinel_answers();
\set VERBOSITY default
RESET ROLE;
GRANT pg_monitor TO regress_sentinel_reader;
SET ROLE regress_sentinel_reader;
SELECT * FROM cache_aside.sentinels;
RESET ROLE;
DROP ROLE regress_sentinel_reader;
