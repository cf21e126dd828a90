# check(), what goes wrong around Redis, with the slot, and with the worker: each finding, and that it goes with its remedy.
#
# Remedies: src/worker/check_server.c, src/reads/findings.c; SHORT_MS in check_redis.c (how long it waits).
use strict;
use warnings;

use CacheAside;
use Check;
use FakeRedis;
use HandWorker;
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'CONF');
max_slot_wal_keep_size = 4GB
max_replication_slots = 2
cache_aside.command_timeout = 60s
min_wal_size = 32MB
CONF
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub set { return $node->safe_psql('postgres', "ALTER SYSTEM SET $_[0]; SELECT pg_reload_conf()"); }

sql(q{CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0); SELECT cache_aside.attach('t', 't:{id}')});
wait_delivered($node);
is(findings($node), '', 'all is well');

# ---- Redis
my $url = $redis->url;
mended($node, qr/^misconfigured since /, sub { $node->adjust_conf('postgresql.conf', 'cache_aside.redis_url', undef); $node->restart },
	edit => sub { s{redis://host:6379/0}{$url} or fail('no example of a URL') });
mended($node, qr/^unreachable since /, sub { $redis->stop }, by => sub { $redis->start });
mended($node, qr/^memory policy: noeviction, maxmemory/, sub { $redis->command('CONFIG', 'SET', 'maxmemory', '100mb') }, severity => 'warning',
	by => sub { $redis->command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru') });
mended($node, qr/^all 1 connections of cache_aside.max_backend_connections/,
	sub {
		set('cache_aside.max_backend_connections = 1');
		our $reader = PgWire->new($node);
		wait_until(sub { $reader->value("SELECT cache_aside.get('t:1')"); sql('SELECT backend_connections FROM cache_aside.status') eq '1' });
	},
	severity => 'warning');
mended($node, qr/has no functions, or forbids them/,
	sub { $redis->command('ACL', 'SETUSER', 'default', '-fcall'); $redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') },
	severity => 'warning');
$redis->command('ACL', 'SETUSER', 'default', '+fcall');
sql($_) foreach 'ALTER SYSTEM RESET cache_aside.guard', 'SELECT pg_reload_conf()';
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
wait_until(sub { status($node, 'redis_mode') eq 'functions' });
mended($node, qr/^a commit of .* is not delivered yet, although nothing seems wrong/, sub { $redis->freeze; sql('UPDATE t SET n = n + 1') },
	severity => 'warning', by => sub { $redis->thaw });

wait_delivered($node);
mended($node, qr/has a function library of revision 99, this server's is/,
	sub { $redis->command('FUNCTION', 'LOAD', 'REPLACE', HandWorker::library(revision => 99)) }, severity => 'advice',
	by => sub { $redis->command('FUNCTION', 'LOAD', 'REPLACE', HandWorker::library()) });

# Redis answers, and then no more: check() has waited long enough after two seconds, whatever command_timeout says.
wait_delivered($node);
my $fake = FakeRedis->new(upstream => $redis)->start;
reload_conf($node, 'cache_aside.redis_url' => $fake->url);
wait_delivered($node);
$fake->on(qr/^INFO memory/i, 'freeze', 1);
my $start = time;
like(findings($node), qr/warning\|Redis\|connection/, 'a Redis that stops answering is a row');
cmp_ok(time - $start, '<', 20, '... and soon');
$fake->clear;
reload_conf($node, 'cache_aside.redis_url' => $url);

# ---- the log that is kept
wait_delivered($node);
mended($node, qr/MB of log are kept for delivery, of 16 MB/,
	sub {
		set("cache_aside.max_wal_retained = '16MB'");
		$redis->stop;
		sql('UPDATE t SET n = n + 1; SELECT pg_switch_wal(); UPDATE t SET n = n + 1; SELECT pg_switch_wal(); UPDATE t SET n = n + 1');
	},
	severity => 'warning');
$redis->start;
wait_delivered($node);
mended($node, qr/^uninstall\(\) was called/, sub { sql('SELECT cache_aside.uninstall()') }, by => sub {
	sql("SELECT pg_create_physical_replication_slot(n) FROM (VALUES ('a'), ('b')) v (n)");
	$node->restart;
});
mended($node, qr/^there is no replication slot/, sub { }, severity => 'warning');
sql('SELECT pg_drop_replication_slot(n) FROM (VALUES ($$a$$), ($$b$$)) v (n)');

# ---- the worker
mended($node, qr/^no worker has begun/, sub { set('max_worker_processes = 0'); $node->restart });
wait_delivered($node);
is(findings($node), '', 'all is well again');

$node->stop;
done_testing();
