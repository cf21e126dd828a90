# What services and proxies forbid or rename: each command that can be done without is done without, and status says what
# is lost; and every maxmemory-policy: full or not, keys are deleted, and nothing stale stays.
#
# Remedies: ca_redis_reply_forbids (src/redis/redis_reply.c) and those who ask it in src/delivery/handshake.c; EVAL in
# send_plain (src/delivery/apply.c).
use strict;
use warnings;

use CacheAside;
use FakeRedis;
use Faults;
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'functions need Redis 7' if (RedisServer->version)[0] < 7;
my $redis = RedisServer->new(conf => "user service on nopass ~* &* +\@all\nuser default on nopass ~* &* +\@all\n")->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "cache_aside.redis_url = '" . ($redis->url =~ s{//}{//service:x@}r) . "'\n");
make_users($node, 100);
my $session = PgWire->new($node);

sub status_of { return $session->value("SELECT concat($_[0]) FROM cache_aside.status"); }

sub delivers
{
	my ($what) = @_;
	cache_users($redis, 1);
	$session->query('UPDATE users SET v = v + 1 WHERE id = 1');
	ok(keys_gone($redis, 'user:1'), "$what: delivered")
	  or diag status_of("trouble, ': ', last_error");
	ok(wait_until(sub { status_of('trouble') eq '' }), "$what: no trouble");
	return;
}

sub filled { return $session->value(q{SELECT cache_aside.fill('user:2', 'x')}) // ''; }

# Redis forgets the connection, so that it begins anew.
sub anew
{
	my (@rules) = @_;
	$redis->command('ACL', 'SETUSER', 'service', '+@all', @rules);
	my $before = status_of('reconnects');
	$redis->command('CLIENT', 'KILL', 'USER', 'service');
	wait_until(sub { status_of('reconnects') > $before && status_of('state') eq 'delivering' }) or do {
		diag "@rules: " . $session->value('SELECT s FROM cache_aside.status s'), $redis->command('CLIENT', 'LIST');
		die 'no new session';
	};
	return;
}

delivers('nothing forbidden');
is(status_of('redis_mode'), 'functions', 'with functions');
# ---- every way to be full
$session->query('SET cache_aside.synchronous = on');
my $used = $redis->info('used_memory');
foreach my $policy (qw(noeviction allkeys-lru allkeys-lfu allkeys-random volatile-lru volatile-lfu volatile-random volatile-ttl))
{
	$redis->config_set('maxmemory-policy', $policy);
	$redis->config_set('maxmemory', $used + 1024 * 1024);
	$redis->try('SET', "junk:$policy:$_", 'x' x 8000, $_ % 2 ? () : (PX => 600000)) foreach 1 .. 250;
	cache_users($redis, 3) if $policy !~ /noeviction/;
	my $warned = @{ $session->query('UPDATE users SET v = v + 1 WHERE id = 3')->{notices} };
	# an evicted position ends a session, and that a wait
	ok(!$redis->exists('user:3') || ($warned && $policy =~ /^allkeys/), "$policy: gone when COMMIT returns without a warning");
	ok(keys_gone($redis, 'user:3'), "$policy: gone");
	$redis->config_set('maxmemory', 0);
	delivers($policy);
	$redis->del($redis->keys('junk:*'));
}
$session->query('RESET cache_aside.synchronous');

# ---- commands
foreach my $rules ([qw(-info)], [qw(-client)], [qw(-config)], [qw(-role)], [qw(-command)], [qw(-info -client -config -role -command -wait -acl)])
{
	anew(@$rules);
	delivers("@$rules");
	is(status_of('redis_mode'), 'functions', "@$rules: with functions");
}
is(status_of('redis_version'), '', 'without INFO the version is not known');
ok(wait_until(sub { filled() eq 't' }), 'and fills are admitted');

# ---- without functions
foreach my $rules ([qw(-fcall)], [qw(-function -fcall -info)], [qw(-function)], [qw(-function|load -script)], [qw(-time)])
{
	$redis->command('FUNCTION', 'FLUSH');
	my $since = log_position($node);
	anew(@$rules);
	delivers("@$rules");
	is(status_of('redis_mode'), 'plain', "@$rules: plain");
	is(filled(), 'f', "@$rules: guarded fills are refused");
	like(log_since($node, $since), qr/guarded fills are not available.*Redis said: NOPERM.*check_redis/s, "@$rules: which is said");
	anew();
	is(status_of('redis_mode'), 'functions', 'allowed again: with functions');
}
ok(wait_until(sub { filled() eq 't' }), 'fills are admitted again');

# ---- in words of others: renamed, or a proxy's
foreach my $words ("ERR unknown command 'FUNCTION', with args beginning with: 'LOAD'", 'ERR Command is not available: FUNCTION',
	'ERR command not supported', 'unsupported command \'FUNCTION\'', 'ERR This command is disabled')
{
	$redis->command('FUNCTION', 'FLUSH');
	my $fake = FakeRedis->new(upstream => $redis)->start;
	$fake->on(qr/^(FUNCTION|INFO|CLIENT|CONFIG|ROLE) /, error => $words);
	$session->query("ALTER SYSTEM SET cache_aside.redis_url = '" . $fake->url . "'");
	$session->query('SELECT pg_reload_conf()');
	ok(wait_until(sub { status_of('endpoint') eq $fake->socket . '?db=0' && status_of('redis_mode') eq 'plain' }), "$words: plain")
	  or diag status_of("trouble, ': ', last_error");
	delivers($words);
	ok($fake->commands(qr/^EVALSHA/) > 0, 'by a script');
}
$session->query("ALTER SYSTEM RESET cache_aside.redis_url");
$session->query('SELECT pg_reload_conf()');
ok(wait_until(sub { status_of('redis_mode') eq 'functions' }), 'back');

ok(wait_until(sub { filled() eq 't' }), 'fills are admitted');

# ---- all that can be done without, renamed away on a real one
$redis = RedisServer->new(conf => join '', map { qq{rename-command $_ ""\n} } qw(ACL CLIENT COMMAND CONFIG FCALL FUNCTION INFO ROLE SCRIPT TIME WAIT))->start;
$session->query("ALTER SYSTEM SET cache_aside.redis_url = '" . $redis->url . "'");
$session->query('SELECT pg_reload_conf()');
ok(wait_until(sub { status_of('endpoint') eq $redis->socket . '?db=0' && status_of('redis_mode') eq 'plain' }), 'renamed: plain');
delivers('renamed');
$redis->set('user:5', 'x');
$session->query('TRUNCATE users');
ok(keys_gone($redis, 'user:5'), 'renamed: a pattern');
is($session->value('SELECT skipped FROM cache_aside.status'), 0, 'nothing was skipped');
done_testing();
