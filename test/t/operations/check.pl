# check(): nothing when all is well, and each finding goes when its remedy is run as it is written. Here: rules, settings of the
# server, of roles and databases, privileges, the registry, counters. check_faults.pl: Redis, slot, worker.
#
# Remedies: sql/parts/check.sql, src/worker/check_server.c. Each block fails when its finding is taken out.
use strict;
use warnings;

use CacheAside;
use Check;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "max_slot_wal_keep_size = 4GB\ncache_aside.publish_interval = 50ms\n");
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub set { return $node->safe_psql('postgres', "ALTER SYSTEM SET $_[0]; SELECT pg_reload_conf()"); }

sql(q{CREATE ROLE alice; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; CREATE DATABASE other;
	CREATE TABLE t (id int PRIMARY KEY, name text); ALTER TABLE t OWNER TO alice; SELECT cache_aside.attach('t', 't:{id}')});
wait_delivered($node);
is(findings($node), '', 'all is well: nothing');
is(findings($node, extra_params => [ '-U', 'watcher' ]), '', '... as pg_monitor sees it');

my ($trigger) = split /\n/, sql(q{SELECT trigger FROM cache_aside.rule_triggers WHERE level = 'row'});
mended($node, qr/trigger $trigger is disabled/, sub { sql("ALTER TABLE t DISABLE TRIGGER $trigger") });
sql(q{ALTER TABLE t ADD n int; SELECT cache_aside.attach('t', 'n:{n}'); ALTER TABLE t DROP n});
mended($node, qr/column "n" is gone: every write deletes/, sub { }, severity => 'warning');

# ---- switches
mended($node, qr/^cache_aside.enabled is off: writes delete nothing/, sub { set('cache_aside.enabled = off') });
mended($node, qr/^cache_aside.ddl_invalidates is off/, sub { set('cache_aside.ddl_invalidates = off') }, severity => 'warning');
mended($node, qr/^cache_aside.log_keys is log/, sub { set('cache_aside.log_keys = log') }, severity => 'advice');
mended($node, qr/^cache_aside.delivery is off/, sub { set('cache_aside.delivery = off') });
wait_delivered($node);
mended($node, qr/^cache_aside.enabled is off for role alice$/, sub { sql('ALTER ROLE alice SET cache_aside.enabled = off') });
mended($node, qr/^cache_aside.enabled is off for all roles$/, sub { sql('ALTER ROLE ALL SET cache_aside.enabled = off') });
mended($node, qr/^cache_aside.enabled is off for database other$/, sub { sql('ALTER DATABASE other SET cache_aside.enabled = false') });
mended($node, qr/^cache_aside.ddl_invalidates is off for role alice database other$/,
	sub { sql('ALTER ROLE alice IN DATABASE other SET cache_aside.ddl_invalidates = 0') }, severity => 'warning');
sql('ALTER ROLE alice SET cache_aside.enabled = on');
is(findings($node), '', 'on is well');
is(sql('SET cache_aside.enabled = off; SELECT count(*) FROM cache_aside.check()'), 0, 'what a session has set for itself is its own');
mended($node, qr/comes from the command; the password file has one, too/,
	sub {
		$node->append_conf('postgresql.conf', "cache_aside.redis_password_file = '/dev/null'\ncache_aside.redis_credential_command = 'echo none'\n");
		$node->reload;
	},
	severity => 'warning');
$node->append_conf('postgresql.conf', "cache_aside.redis_credential_command = ''\n");
$node->reload;

# ---- log that is kept
mended($node, qr/^max_slot_wal_keep_size is -1/, sub { set('max_slot_wal_keep_size = -1') }, severity => 'advice');
mended($node, qr/^max_slot_wal_keep_size is 100 MB, less than/, sub { set("max_slot_wal_keep_size = '100MB'") }, severity => 'warning');

# ---- privileges, registry, what happened
mended($node, qr/^role alice owns tables with rules and may not use/, sub { sql('REVOKE USAGE ON SCHEMA cache_aside FROM PUBLIC') }, severity => 'warning');
sql('GRANT USAGE ON SCHEMA cache_aside TO PUBLIC');
mended($node, qr/^route\(\) does not choose it: /, sub { sql(q{SELECT cache_aside.add_replica('east', 'host=nowhere')}) }, severity => 'warning');
sql(q{SELECT cache_aside.add_replica('spare', 'host=nowhere', weight => 0)});
mended($node, qr/^changes of the registry/, sub { sql('ALTER TABLE cache_aside.replica DISABLE TRIGGER replica_changed') });
mended($node, qr/^1 since .*somebody calls pg_logical_emit_message/, sub { sql(q{SELECT pg_logical_emit_message(true, 'cache_aside', 'x')}) },
	severity => 'advice');
wait_delivered($node);
is(findings($node), '', 'all is well again');

# ---- who may
my (undef, undef, $err) = $node->psql('postgres', 'SET ROLE alice; SELECT * FROM cache_aside.check()');
like($err, qr/permission denied for function check/, 'nobody else');
is(sql(q{SET ROLE watcher; SELECT count(*) FROM cache_aside.redis_findings()}), 0, 'pg_monitor opens no connection to Redis');

$node->stop;
done_testing();
