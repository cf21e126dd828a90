-- The registry of replicas, route() without any, and their bad input.
\set VERBOSITY default
SET search_path = cache_aside;

SELECT role, name, conninfo, lsn IS NOT NULL AS lsn, reason FROM route();
SELECT add_replica('one', 'host=a port=5432 dbname=app user=reader');
SELECT add_replica('two', 'postgresql://reader@b:5433,c/app?target_session_attrs=any', 'east', 3);
SELECT add_replica(name => 'three', conninfo => 'service=app', weight => 0);
TABLE replica ORDER BY name;
-- One registered and not connected, then several.
SELECT role, reason FROM route();
SELECT name, state, replayed, lag_bytes, lag, last_seen, eligible, why_not FROM replica_status ORDER BY name;
SELECT set_replica('two', weight => 0), set_replica('two', region => ''),
	set_replica('one', 'host=z', 'west');
TABLE replica ORDER BY name;

-- Duplicate, unknown, negative, NULL.
SELECT add_replica('one', 'host=a');
SELECT set_replica('nobody', 'host=a');
SELECT remove_replica('nobody');
SELECT add_replica('bad', 'host=a', NULL, -1);
SELECT set_replica('one', weight => -1);
SELECT add_replica(NULL, 'host=a');
SELECT add_replica('bad', NULL);
SELECT add_replica('bad', 'host=a', NULL, NULL);
SELECT set_replica(NULL, 'host=a');
SELECT remove_replica(NULL);
SELECT add_replica('', 'host=a');
SELECT add_replica('has space', 'host=a');
SELECT add_replica(repeat('x', 64), 'host=a');
SELECT route(max_lag => '-1 s');
SELECT route('x');
SELECT role, reason FROM route('FFFFFFFF/FFFFFFFF');
SELECT role, reason FROM route(NULL, NULL, NULL);

-- Malformed connection strings.
\set VERBOSITY terse
SELECT check_conninfo('');
SELECT check_conninfo(E' \t');
SELECT check_conninfo('host');
SELECT check_conninfo('host=''a');
SELECT check_conninfo('nonsense=1');
SELECT check_conninfo('postgresql://[::1');
SELECT check_conninfo('postgresql://a/b?nonsense=1');
SELECT check_conninfo('postgresql://a/%zz');
SELECT check_conninfo(NULL);
-- Passwords, wherever they hide.
SELECT check_conninfo('host=a password=x');
SELECT check_conninfo('password = x host=a');
SELECT check_conninfo('host=''a b\'' c'' password=''''');
SELECT check_conninfo('user=a\ b sslpassword=x');
SELECT check_conninfo('postgresql://user:secret@a/b');
SELECT check_conninfo('postgres://user:@a/b');
SELECT check_conninfo('postgresql://a/b?password=x');
SELECT check_conninfo('postgresql://a/b?connect_timeout=3&p%61ssword=x');
SELECT check_conninfo('postgresql://us?er:secret@a/b');
-- What only looks like one.
SELECT check_conninfo('host=a user=password');
SELECT check_conninfo('host=''password=x''');
SELECT check_conninfo('passfile=/home/app/.pgpass');
SELECT check_conninfo('postgresql://user@a:5432/password?application_name=password');
SELECT check_conninfo('postgresql://user@[::1]:5432/b');
INSERT INTO replica VALUES ('direct', 'host=a password=x');

-- A session sees what another changed, and what it rolled back itself.
BEGIN;
SELECT remove_replica('one'), remove_replica('two'), remove_replica('three');
SELECT reason FROM route();
ROLLBACK;
SELECT reason FROM route();
TRUNCATE replica;
SELECT reason FROM route();
SELECT count(*) FROM replica_status;

-- Without privileges.
CREATE ROLE regress_router;
GRANT USAGE ON SCHEMA cache_aside TO regress_router;
SET ROLE regress_router;
SELECT role FROM cache_aside.route();
SELECT cache_aside.add_replica('x', 'host=a');
SELECT count(*) FROM cache_aside.replica;
SELECT count(*) FROM cache_aside.replica_status;
SELECT cache_aside.stick('x');
SELECT cache_aside.stuck_at('x');
RESET ROLE;
DROP OWNED BY regress_router;
DROP ROLE regress_router;

-- Sticks: what is wrong with them is said at once.
SELECT stick('');
SELECT stick(repeat('x', 1025));
SELECT stick('x', '0');
SELECT stick('x', '-1 s');
SELECT stick(NULL);
SELECT stuck_at(NULL);
BEGIN READ ONLY;
SELECT stick('x');
ROLLBACK;
BEGIN;
SELECT stick('user:42');
SELECT * FROM pending();
ROLLBACK;
SELECT caught_up(NULL), caught_up('0/1'), caught_up('FFFFFFFF/0');
CALL wait_for('0/1');
