-- cache_aside.redis_url: what is accepted, what is refused and why, and who may see it. The message
-- of a refusal never shows the value: a mistyped URL still contains the password.
\set ECHO queries
SELECT format('ALTER SYSTEM SET cache_aside.redis_url = %L', url) FROM (VALUES
	('redis://localhost'),
	('redis://localhost/'),
	('redis://cache-1.example.com:6380/15'),
	('REDIS://127.0.0.1:65535/2147483647'),
	('redis://[::1]'),
	('redis://[fe80::1%25eth0]:6379/1'),
	('redis://[::ffff:192.0.2.1]:1'),
	('redis://reader@localhost'),
	('redis://:secret@localhost'),
	('redis://reader:p%40ss%2Fw%3Ard%25@localhost:6379/3'),
	('redis://reader:with@sign@localhost'),
	('redis://reader:with:colon@localhost'),
	('unix:///run/redis/redis.sock'),
	('unix:///run/redis/with%20blank%3F.sock?db=7'),
	('unix://reader:secret@/run/redis/redis.sock?db=0')) AS good(url)
\gexec
SELECT format('ALTER SYSTEM SET cache_aside.redis_url = %L', url) FROM (VALUES
	(''),
	('localhost'),
	('http://localhost'),
	('redis:localhost'),
	('redis://'),
	('redis://:secret@'),
	('redis:///1'),
	('redis://local host'),
	('redis://local%00host'),
	('redis://local%2host'),
	('redis://localhost%'),
	('redis://local_host/0/1'),
	('redis://localhost:0'),
	('redis://localhost:'),
	('redis://localhost:65536'),
	('redis://localhost:+1'),
	('redis://localhost:99999999999999999999'),
	('redis://localhost/one'),
	('redis://localhost/-1'),
	('redis://localhost/2147483648'),
	('redis://localhost/0?ssl=true'),
	('redis://localhost#x'),
	('redis://::1'),
	('redis://[::1'),
	('redis://[::1]6379'),
	('redis://[127.0.0.1]'),
	('redis://[12345::1]'),
	('redis://:sec/ret@localhost'),
	('redis://:sec%zzret@localhost'),
	('redis://' || repeat('u', 256) || '@localhost'),
	('redis://:' || repeat('p', 8192) || '@localhost'),
	('redis://' || repeat('h', 256)),
	('unix://run/redis.sock'),
	('unix://'),
	('unix:///' || repeat('p', 107)),
	('unix:///run/redis.sock?'),
	('unix:///run/redis.sock?db='),
	('unix:///run/redis.sock?db=1&db=2'),
	('unix:///run/redis.sock?timeout=1'),
	('unix:///run/redis.sock#1')) AS bad(url)
\set ECHO none
\gexec
\set ECHO all
-- The last good one was written, and is what a reload would take.
SELECT setting, error FROM pg_file_settings
WHERE name = 'cache_aside.redis_url' AND sourcefile LIKE '%postgresql.auto.conf';
ALTER SYSTEM RESET cache_aside.redis_url;
SELECT count(*) FROM pg_file_settings
WHERE name = 'cache_aside.redis_url' AND sourcefile LIKE '%postgresql.auto.conf';
-- It cannot be set by a session, a role or a database: whoever could aim the server at any host.
SET cache_aside.redis_url = 'redis://localhost';
ALTER ROLE CURRENT_USER SET cache_aside.redis_url = 'redis://localhost';
ALTER ROLE CURRENT_USER SET cache_aside.redis_password_file = '/etc/hostname';
-- Only superusers, and roles they trust with every setting, see where Redis is.
SELECT name FROM pg_settings WHERE name LIKE 'cache\_aside.redis%' ORDER BY name;
CREATE ROLE regress_url_reader;
SET ROLE regress_url_reader;
SELECT name FROM pg_settings WHERE name LIKE 'cache\_aside.redis%' ORDER BY name;
\set VERBOSITY sqlstate
SHOW cache_aside.redis_url;
SELECT current_setting('cache_aside.redis_password_file');
\set VERBOSITY default
ALTER SYSTEM SET cache_aside.redis_url = 'redis://localhost';
RESET ROLE;
DROP ROLE regress_url_reader;
