# An application with the Redis user that docs/operations.md gives it: its work goes through redis-cli, ioredis,
# node-redis and redis-py without a single denial, and everything else is denied; also with plain +fcall,
# for servers that know no rules by first argument.
#
# Remedies: the second ACL in docs/operations.md, applied as written; misnamed() in library/claims.lua, without which
# names that the application may write get past the ACL's key rules.
use strict;
use warnings;

use HandWorker;
use NodePackage;
use RedisServer;
use RedisUsers;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'ACLs for functions need Redis 7' if (RedisServer->version)[0] < 7;
my $redis = RedisServer->new(db => 1)->start;
RedisUsers::create($redis);
my $worker = HandWorker->new($redis);
my ($position, $guard) = ($worker->position_key, $worker->guard_key);
$worker->claim;
$worker->arm('0/100');
is(ref $worker->apply('0/200', 'user:0', [ 'cache_aside:stick:42', '0/1', 600_000 ]), 'ARRAY', 'a worker is there');
my $token = $worker->token('0/200');

sub works
{
	my ($name, $command) = @_;
	my $output = `$command @{[ $redis->socket ]} $token 2>&1`;
	like($output, qr/^done$/m, "$name: an application's work") or return diag $output;
	# What clients ask for while connecting may be unknown to this server, but must not be denied.
	is_deeply([ RedisUsers::denied($redis, 'app') ], [ 'key cache_aside:position:1', 'command fcall' ],
		"$name: nothing of it was denied");
	$redis->command('ACL', 'LOG', 'RESET');
	return;
}

# ---- clients
my $cli = "redis-cli -s @{[ $redis->socket ]} --user app --pass secret --no-auth-warning -n 1 ";
my $lease = `$cli FCALL cache_aside_get 1 user:cli 2000` =~ s/\s//gr;
is(`$cli FCALL cache_aside_fill 1 user:cli v 60000 $token $lease`, "1\n", 'redis-cli: fill');
is(`$cli -3 FCALL cache_aside_get 1 user:cli 0`, "v\n", 'redis-cli: get');
is(`$cli GET cache_aside:stick:42`, "0/1\n", 'redis-cli: a stick');
like(`$cli FCALL cache_aside_fill 1 user:cli v 60000 1-1-0/1`, qr/^CA_TOKEN/, 'redis-cli: a token of another cluster');
is_deeply([ RedisUsers::denied($redis, 'app') ], [], 'redis-cli: nothing was denied');
SKIP:
{
	my ($package, $reason) = NodePackage->install('test/clients');
	skip $reason, 4 unless $package;
	works('ioredis', "node @{[ $package->dir ]}/ioredis.js");
	works('node-redis', "node @{[ $package->dir ]}/node-redis.js");
}
SKIP:
{
	my ($python) = grep { system("$_ -c 'import redis; redis.Redis.fcall' 2>/dev/null") == 0 } 'python3', '/usr/bin/python3';
	skip 'redis-py is not installed (python3-redis)', 2 unless $python;
	works('redis-py', "$python test/clients/redis_py.py");
}

# ---- everything else
my $nonce = $redis->get($guard) =~ s/^.{8}(.{16}).*/$1/sr;    # it can be read: it is no secret
my $app = RedisUsers::connect($redis, 'app');
my %before = map { $_ => $redis->command('DUMP', $_) } $redis->keys('cache_aside:*');
my @worker_calls = (
	[ 'claim_1', $nonce, 1 ], [ 'epoch_1', $nonce, $worker->{position}, 'p', '0/1', 1 ],
	[ 'arm_1', $nonce, $worker->{position}, '0/1', 1 ], [ 'renew_1', $nonce, 1 ], [ 'disarm_1', $nonce ], [ 'apply_1', $nonce, $worker->{position}, 'p', 'F/0' ]);
my @names = ([ $position, $guard ], [ 'cache_aside:position:5', 'cache_aside:guard:5' ], [ 'user:1', 'user:2' ], []);

sub call
{
	my ($command, $keys, $call) = @_;
	my ($name, @args) = @$call;
	return ($app->try($command, "cache_aside_$name", scalar @$keys, @$keys, @args))[1];
}
foreach my $command ('FCALL', 'FCALL_RO')
{
	foreach my $keys (@names)
	{
		like(call($command, $keys, $_), qr/^NOPERM/, "$command $_->[0] (@$keys)") foreach @worker_calls;
	}
}
like(call('FCALL', [$_], [ 'get', 1000 ]), qr/^NOPERM/, "get $_") foreach $position, $guard, 'order:1', 'user';
like(call('FCALL', [$_], [ 'fill', 'v', 1000, $token ]), qr/^NOPERM/, "fill $_") foreach $position, 'cache_aside:stick:42', 'order:1';
my @denied = map { [ split ' ' ] } (
	(map { ("SET $_ x", "DEL $_", "UNLINK $_") } $position, $guard, 'cache_aside:stick:42', 'cache_aside:replicas',
		'cache_aside:lease:order:1', 'order:1'),
	"GET order:1", "EXPIRE $guard 1", "RENAME user:0 $guard", "COPY user:0 $guard", 'SORT user:0', "RESTORE $guard 0 x",
	"OBJECT FREQ user:0", 'DUMP user:0', 'EVAL return 0', 'EVAL_RO return 0', 'EVALSHA 0 0', 'SCRIPT LOAD x', 'SCRIPT FLUSH',
	'FUNCTION LOAD x', 'FUNCTION LOAD REPLACE x', 'FUNCTION DELETE cache_aside', 'FUNCTION FLUSH', 'FUNCTION LIST',
	'FUNCTION DUMP', 'FUNCTION RESTORE x', 'FUNCTION KILL', 'FUNCTION STATS', 'KEYS *', 'SCAN 0', 'RANDOMKEY', 'DBSIZE',
	'FLUSHALL', 'FLUSHDB', 'SWAPDB 0 1', 'MOVE user:0 0', 'MIGRATE h 1 user:0 0 1', 'MULTI', 'WATCH user:0',
	'CONFIG GET maxmemory', 'CONFIG SET maxmemory 1', 'CONFIG REWRITE', 'ACL LIST', 'ACL WHOAMI', 'ACL SETUSER app allcommands',
	'CLIENT LIST', 'CLIENT KILL TYPE normal', 'CLIENT PAUSE 1000', 'CLIENT UNBLOCK 1', 'CLIENT NO-EVICT on', 'MONITOR',
	'SHUTDOWN NOSAVE', 'REPLICAOF NO ONE', 'SAVE', 'BGSAVE', 'SUBSCRIBE c', 'PUBLISH c m', 'MODULE LIST',
	'SLOWLOG GET', 'LATENCY RESET', 'WAIT 0 0', 'PSYNC ? -1');
like(($app->try(@$_))[1], qr/^NOPERM/, "denied: @$_") foreach @denied;

# ---- without rules by first argument, and in a transaction: the key rules alone
$redis->command('ACL', 'SETUSER', 'app', '+fcall', '+fcall_ro', '+multi', '+exec');
foreach my $call (@worker_calls)
{
	like(call('FCALL', $names[0], $call), qr/^NOPERM .*key/, "any function, $call->[0]: the keys are denied");
	like(call('FCALL', $names[1], $call), qr/^NOPERM .*key/, '... of another cluster too');
	like(call('FCALL', $_, $call), qr/^CA_ARGUMENT/, "... (@$_) are refused") foreach @names[ 2, 3 ];
	unlike(call('FCALL_RO', $names[0], $call), qr/^\d/, '... read-only: no');
}
$app->command('MULTI');
like(call('FCALL', $names[0], $worker_calls[0]), qr/^NOPERM/, 'in a transaction likewise');
like(($app->try('EXEC'))[1], qr/^EXECABORT/, 'which fails');
my %after = map { $_ => $redis->command('DUMP', $_) } $redis->keys('cache_aside:*');
is_deeply(\%after, \%before, 'the keys of cache_aside are as they were');
is(ref $worker->apply('0/300', 'user:0'), 'ARRAY', 'and the worker goes on');
is($worker->fill('user:0', 'v', '0/2FF'), 0, 'with its guard');
done_testing();
