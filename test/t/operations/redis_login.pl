
# Where Redis is and how to get in can change at any time: passwords, users, databases, the address.
# What is wrong is said in status, and no secret ever gets into the log or the status.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use FakeRedis;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(port => 1, conf => 'user reader on >re@der:pa%ss ' . RedisServer::all_rights() . "\n")->start;
my $node = CacheAside->new_node('main', redis => $redis);
my $password_file = $node->basedir . '/redis password';
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users VALUES (1, 'Ada');
	SELECT cache_aside.attach('users', 'user:{id}');
});

sub write_password
{
	my ($content) = @_;
	unlink $password_file;
	append_to_file($password_file, $content);
	return;
}

sub works
{
	my ($name, $client) = @_;
	$client //= $redis;
	$client->command('SET', 'user:1', 'old');
	$node->safe_psql('postgres', q{UPDATE users SET name = name || '.'});
	ok(wait_until(sub { $client->command('EXISTS', 'user:1') == 0 }), "$name: delivers")
	  or diag(status($node, 'last_error'));
	return;
}

# Errors are compared with what is said after this moment.
my $moment;

sub now { $moment = $node->safe_psql('postgres', 'SELECT clock_timestamp()'); return; }

sub fails
{
	my ($name, $error) = @_;
	$node->safe_psql('postgres', q{UPDATE users SET name = name || '!'});
	ok( wait_until(
			sub { status($node, "CASE WHEN last_error_at > '$moment' THEN last_error END") =~ $error }),
		"$name: $error")
	  or diag(status($node, 'last_error'));
	return;
}

my $port = $redis->port;
works('unix socket');
my $name = $redis->command('CLIENT', 'LIST');
like($name, qr/name=cache_aside_worker/, 'the connection has a name');

reload_conf($node, 'cache_aside.redis_url' => "redis://reader:re%40der%3Apa%25ss\@127.0.0.1:$port/0");
works('user and percent-encoded password');
like($redis->command('CLIENT', 'LIST'), qr/name=cache_aside_worker .*user=reader/, 'as that user');

reload_conf($node, 'cache_aside.redis_url' => "redis://localhost:$port/3");
works('a name, another database', $redis->client(db => 3));

now();
reload_conf($node, 'cache_aside.redis_url' => "redis://127.0.0.1:$port/16");
fails('no such database', qr/^SELECT was refused: ERR DB index is out of range/);

# The server begins to ask for a password.
$redis->{auth} = ['open sesame'];
$redis->config_set('requirepass', 'open sesame');
now();
reload_conf($node, 'cache_aside.redis_url' => "redis://127.0.0.1:$port/0");
fails('no password', qr/NOAUTH Authentication required/);

now();
write_password("wrong word\n");
reload_conf($node, 'cache_aside.redis_password_file' => $password_file);
fails('wrong password', qr/^AUTH was refused: WRONGPASS$/);
write_password("open sesame\r\nsecond line\n");
works('first line of the password file, no reload needed');

$redis->config_set('requirepass', 'rotated one');
$redis->{auth} = ['rotated one'];
now();
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
fails('rotated in Redis only', qr/^AUTH was refused: WRONGPASS$/);
write_password('rotated one');
works('rotated in the file, too');

foreach my $bad (
	[ sub { unlink $password_file }, qr/^the password file does not exist$/ ],
	[ sub { write_password('') }, qr/^the password file is empty$/ ],
	[ sub { write_password("\nrotated one\n") }, qr/^the password file begins with an empty line$/ ],
	[ sub { write_password('x' x 10000) }, qr/^the first line of the password file is too long$/ ],
	[ sub { unlink $password_file; mkdir $password_file }, qr/^the password file is not a regular file$/ ])
{
	$bad->[0]->();
	now();
	$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	fails('password file', $bad->[1]);
}
rmdir $password_file;
write_password('rotated one');
works('password file is back');

# A URL that does not parse: a reload says why and keeps the old one.
my $since = log_position($node);
my $old = $node->safe_psql('postgres', 'SHOW cache_aside.redis_url');
$node->append_conf('postgresql.conf', "cache_aside.redis_url = 'redis://:hush/hush\@127.0.0.1'\n");
$node->safe_psql('postgres', 'ALTER SYSTEM RESET cache_aside.redis_url');
$node->reload;
ok(wait_until(sub { log_since($node, $since) =~ /contains errors; unaffected changes were applied/ }),
	'the bad URL is refused');
like(log_since($node, $since), qr/The port must be a number from 1 to 65535/, 'with the reason');
is($node->safe_psql('postgres', 'SHOW cache_aside.redis_url'), $old, 'the old one is in force');
works('with the old URL');

# A server that quotes what it was told
my $fake = FakeRedis->new(port => 1)->start;
$fake->on(qr/^AUTH/, error => "ERR unknown command 'AUTH', with args beginning with: 'rotated one'");
now();
reload_conf($node, 'cache_aside.redis_url' => $fake->url);
fails('a server that quotes the password', qr/^AUTH was refused \(the server's words/);
$fake->clear;
$fake->on(qr/^PING/, error => 'ERR what do you mean by rotated one?');
fails('a server that quotes it later', qr/^PING was refused: ERR what do you mean by \*\*\*\?$/);
is($node->safe_psql('postgres', 'SELECT endpoint FROM cache_aside.status'),
	'127.0.0.1:' . $fake->port . '/0', 'the endpoint has no secret');

my $log = log_since($node, 0);
foreach my $secret ('open sesame', 'wrong word', 'rotated one', 'hush')
{
	unlike($log, qr/\Q$secret\E/, "'$secret' is not in the log");
}

done_testing();
