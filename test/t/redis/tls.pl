# Everything over TLS with a private authority: delivery, synchronous commits, guarded fills, a standby's look.
# Redis restarts; its certificate and its authority are renewed on disk and taken by the next connection, and by
# a reload, without a restart of the server.
#
# Remedy: add_file in redis_tls_settings.c (without: a reload sees no new certificate); leads_where_it_should in
# backend_connection.c.
use strict;
use warnings;

use CacheAside;
use Certificates;
use RedisServer;
use Test::More;

Certificates->skip_all_unless_available;
my $pki = Certificates->new;
$pki->issue('server', san => 'DNS:localhost,IP:127.0.0.1');
my $redis = $pki->redis('server')->start;
my $node = CacheAside->new_node('main', conf => $pki->conf($redis) . "cache_aside.synchronous_timeout = 60s\n");

sub sql { return scalar $node->safe_psql('postgres', shift); }

sub connections { return scalar(() = $redis->command('CLIENT', 'LIST') =~ /name=cache_aside_$_[0]/g); }

sub worker_id { return ($redis->command('CLIENT', 'LIST') =~ /^id=(\d+) [^\n]*name=cache_aside_worker/m)[0] // ''; }

sub delivers
{
	my ($name) = @_;
	$redis->set('user:1', 'old');
	my $error = ($node->psql('postgres', q{SET cache_aside.synchronous = on; UPDATE users SET name = name || '.' WHERE id = 1}))[2];
	is($error . $redis->exists('user:1'), '0', "$name: gone once COMMIT returns") or diag(status($node, 'last_error'));
	return;
}

# ---- the whole flow
wait_delivering($node);
like(status($node, 'endpoint'), qr/^localhost:/, 'by its name');
sql(q{CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'Ada'), (2, 'Bob');
	SELECT cache_aside.attach('users', 'user:{id}')});
delivers('a private authority');
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('user:2', name) FROM users WHERE id = 2}), 'a fill is stored');
is($redis->get('user:2'), 'Bob', 'as it was sent');
my $token = sql('SELECT cache_aside.read_token()');
is(sql(q{SELECT cache_aside.get('user:2')}), 'Bob', 'get');
sql(q{SET cache_aside.synchronous = on; UPDATE users SET name = 'Eve' WHERE id = 2});
is(sql("SELECT cache_aside.fill('user:2', 'Bob', '1 min', '$token')"), 'f', 'an older fill is refused');
my $large = sql(q{SELECT cache_aside.fill('large', repeat('x', 1000000)); SELECT md5(cache_aside.get('large')) = md5(repeat('x', 1000000))});
like($large, qr/t$/, 'a value of many records, there and back');
sql(q{INSERT INTO users SELECT g, 'n' FROM generate_series(10, 50009) g});
sql(q{UPDATE users SET name = name || '!'});
wait_delivered($node);
is(sql('SELECT keys >= 100000 FROM cache_aside.status'), 't', '100 000 keys');

# ---- Redis restarts: a full handshake again, nothing to resume
$redis->restart;
ok(status_is($node, 'redis_state', 'connected'), 'connected again');
delivers('after a restart of Redis');

# ---- renewed on disk; those connected go on, a reload takes it
my $session = background_sql($node);
$session->query_safe(q{SELECT cache_aside.get('user:1')});
is(connections('backend'), 1, 'a backend is connected');
my $id = worker_id();
$pki->authority('ca')->issue('server', san => 'DNS:localhost');
$pki->show($redis, 'server');
delivers('renewed on disk');
is(worker_id(), $id, 'over the same connection');
$node->reload;
ok(wait_until(sub { worker_id() ne '' && worker_id() ne $id }), 'a reload makes a new one');
delivers('renewed and reloaded');
my $before = $redis->info('total_connections_received');
is($session->query_safe(q{SELECT cache_aside.get('user:1')}), '', 'the backend reads');
ok($redis->info('total_connections_received') > $before, '... over a new one');

# ---- nothing changed: nothing happens
$id = worker_id();
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT pg_conf_load_time() > now() - interval $$1 min$$'), 'a reload without news');
delivers('reloaded');
is(worker_id(), $id, 'keeps the connection');

$session->quit;

# ---- no TLS is left over: the same server, plain
reload_conf($node, 'cache_aside.redis_url' => $redis->url);
delivers('plain again');
done_testing();
