# check_redis() says in one table what a Redis can, as the server's user, with the repair for each "no": a healthy
# one, users that lack a right, a replica, a full one, one that lies, one that is silent. It is never an error.
#
# Remedies: ca_check_commands_refusal in src/reads/check_commands.c (what is refused is said), time_left in
# src/reads/check_redis.c (a silent one), the checks of types in find_field and handle_time there (lies).
use strict;
use warnings;

use CacheAside;
use FakeRedis;
use RedisServer;
use RedisUsers;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
plan skip_all => 'functions need Redis 7' if (RedisServer->version)[0] < 7;
my $redis = RedisServer->new(port => 1)->start;
RedisUsers::create($redis);
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "cache_aside.redis_url = '" . RedisUsers::url($redis) . "'\ncache_aside.command_timeout = '1s'\n");

# item => [ok, value, follows, repair]
sub check
{
	my %rows;
	my $out = $node->safe_psql('postgres', 'SELECT * FROM cache_aside.check_redis()', extra_params => [ '-F', "\t" ]);
	foreach my $line (split /\n/, $out)
	{
		my ($item, @row) = split /\t/, $line, -1;
		$rows{$item} = \@row;
	}
	return \%rows;
}

# On a busy machine the latency may be what it is.
sub bad { my ($rows) = @_; return sort grep { $rows->{$_}[0] eq 'f' && $_ ne 'latency' } keys %$rows; }

# ---- a healthy one, as the user of the README
my $rows = check();
is_deeply([ bad($rows) ], [], 'nothing is wrong');
is($rows->{version}[1], join(' ', $redis->info('valkey_version') ? 'Valkey' : 'Redis',
		$redis->info('valkey_version') // $redis->info('redis_version')), 'its version');
is($rows->{mode}[1], 'standalone', 'its mode');
is($rows->{role}[1], 'master', 'its role');
is($rows->{'function library'}[1], 'loaded', 'the library');
like($rows->{latency}[1], qr/^\d+\.\d{3} ms$/, 'latency');
like($rows->{clock}[1], qr/^[-+]0\.\d{3} s$/, 'clocks of one machine agree');
like($rows->{connection}[1], qr/^\/.*redis\.sock\?db=0$/, 'the endpoint, without the password');
is_deeply([ RedisUsers::denied($redis, 'cache_aside') ], [], 'and asks for no right beyond that user\'s');
is_deeply([ $redis->keys('cache_aside:check*'), $redis->keys('*check*') ], [], 'it leaves nothing behind');

# ---- each right taken away is one "no", with its repair
foreach my $right (grep { /^command / } sort keys %$rows)
{
	my ($command) = $right =~ /^command (\S+)/;
	next if $command eq 'ping';
	$redis->command('ACL', 'SETUSER', 'cache_aside', "-$command");
	my $now = check();
	$redis->command('ACL', 'SETUSER', 'cache_aside', "+$command");
	# the library's function that is called needs it, too
	my @expected = ($right, $command =~ /^(fcall|time)$/ ? 'function library' : $command eq 'get' ? ('command fcall', 'function library') : ());
	is_deeply([ bad($now) ], [ sort @expected ], "without $command");
	like($now->{$right}[1], qr/^NOPERM/, "$command: Redis says so");
	like($now->{$right}[3], qr/\+\Q$command\E/, "$command: the repair");
	ok($now->{$right}[2], "$command: what follows");
}
$redis->command('ACL', 'SETUSER', 'cache_aside', '-info');
is_deeply([ map { check()->{$_}[0] } 'version', 'mode', 'role', 'memory policy' ], [ '', '', '', '' ],
	'what INFO does not tell is unknown, not wrong');
$redis->command('ACL', 'SETUSER', 'cache_aside', '+info');
$redis->command('ACL', 'SETUSER', 'cache_aside', '>other', '<secret');
my ($row) = @{ check() }{'connection'};
like("@$row", qr/^f .*: AUTH was refused: WRONGPASS .*redis_password_file/, 'a wrong password, and what to do');
$redis->command('ACL', 'SETUSER', 'cache_aside', '>secret', '<other');
wait_until(sub { check()->{connection}[0] eq 't' });

# ---- a replica, a full one
my $master = RedisServer->new(port => 1, name => 'master')->start;
$redis->replicaof($master);
$rows = check();
like("@{ $rows->{role} }", qr/^f slave .*REPLICAOF NO ONE/, 'a replica');
like("@{ $rows->{'command set'} }", qr/^f READONLY/, 'takes no writes');
$redis->promote;
$redis->config_set('maxmemory', '1');
$rows = check();
like("@{ $rows->{'memory policy'} }", qr/^f noeviction, maxmemory 1 .*allkeys-lru/, 'noeviction');
like("@{ $rows->{'command set'} }", qr/^f OOM .*maxmemory/, 'full');
$redis->config_set('maxmemory', '0');

# ---- a cluster, and too few replicas
my $cluster = RedisServer->new(port => 1, name => 'cluster', conf => 'cluster-port ' . RedisServer::free_port() . "\ncluster-enabled yes\n")->start;
reload_conf($node, 'cache_aside.redis_url' => $cluster->tcp_url, 'cache_aside.redis_min_replicas' => 1);
$rows = check();
like("@{ $rows->{mode} }", qr/^f cluster .*no cluster in cache_aside\.redis_url/, 'a cluster');
like("@{ $rows->{replicas} }", qr/^f 0 .*Add replicas/, 'fewer replicas than are waited for');
like("@{ $rows->{TLS} }", qr/^ no .*rediss/, 'and no TLS, which is for you to judge');
is($rows->{'command wait'}[0], 't', 'WAIT counts then');
reload_conf($node, 'cache_aside.redis_min_replicas' => 0);

# ---- lies and silence, on a Redis that delivers well
my $fake = FakeRedis->new(upstream => $redis)->start;
reload_conf($node, 'cache_aside.redis_url' => $fake->url);
my $told = "\nredis_version:\0\xff\r\nrole:\nmode:\r\nmaxmemory_policy:";
foreach my $lie ("+OK\r\n", ":7\r\n", "*0\r\n", "*-1\r\n", "\$-1\r\n", "*2\r\n*1\r\n:1\r\n\$-1\r\n", "-\r\n",
	'$' . length($told) . "\r\n$told\r\n", "*2\r\n\$3\r\nabc\r\n\$30\r\n999999999999999999999999999999\r\n")
{
	$fake->clear;
	$fake->on(qr/^(INFO|TIME|FCALL cache_aside_get|GET cache_aside:check|FUNCTION LOAD #!none)/, raw => $lie);
	ok(keys %{ check() } > 20, 'an answer whatever it says: ' . ($lie =~ s/[^ -~]/./gr));
}
$fake->clear;
$fake->on(qr/^HGETALL cache_aside:check/, freeze => 1);
cmp_ok(soonest(2.5, sub { my $start = time; $rows = check(); return time - $start }), '<', 2.5, 'it does not wait for a silent one');
like("@{ $rows->{connection} }", qr/^f .*(no answer from Redis for|time-out after) \d+ ms/, 'and says so');
$fake->clear;
$redis->stop;
like("@{ check()->{connection} }", qr/^f /, 'nobody there');
$redis->start;
$fake->on(qr/cache_aside_check/, slow => 0.2);
cmp_ok(soonest(2.5, sub { my $start = time; check(); return time - $start }), '<', 2.5, 'nor for one that drips: all answers together have command_timeout');
$fake->instead(qr/^PING/, slow => 0.1);    # 0.7 s for each: none of them too late by itself
cmp_ok(soonest(2.5, sub { my $start = time; check(); return time - $start }), '<', 2.5, 'nor for one that answers each question late');
my ($rc, $out, $err) = $node->psql('postgres', 'CREATE ROLE nobody; SET ROLE nobody; SELECT * FROM cache_aside.check_redis()');
like($err, qr/permission denied/, 'not for everybody');
done_testing();
