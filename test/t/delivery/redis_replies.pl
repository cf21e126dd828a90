
# Whatever Redis answers to a delivery, the commit stands, the worker lives, and the key is deleted
# when Redis is well again. Each fault is injected between the worker and a real Redis.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use FakeRedis;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $fake = FakeRedis->new(upstream => $redis)->start;
my $node = CacheAside->new_node('main', conf => <<"EOC");
cache_aside.redis_url = '${\ $fake->url }'
cache_aside.connect_timeout = 2s
cache_aside.command_timeout = 300ms
EOC
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users VALUES (1, 'Ada');
	SELECT cache_aside.attach('users', 'user:{id}');
});
wait_delivered($node);
my $pid = worker_pid($node);
my $delivery = qr/^(EVALSHA|FCALL)\b.*user:1/s;

# A fault meets the delivery of a commit; `error` is what status then says. Nothing is deleted before
# the fault is over, everything after it.
sub story
{
	my ($name, $pattern, $action, $argument, $error, %options) = @_;
	$redis->set('user:1', 'old');
	my $since = log_position($node);
	my $begin = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	$fake->on($pattern, $action, $argument, %options);
	$fake->hang_up if $options{reconnect};
	$node->safe_psql('postgres', q{UPDATE users SET name = name || '.' WHERE id = 1});
	my $new_error = "CASE WHEN last_error_at > '$begin' THEN last_error END";
	ok(wait_until(sub { status($node, $new_error) =~ $error }), "$name: $error")
	  or diag(status($node, 'last_error'));
	ok(is_cached($redis, 'user:1'), "$name: not delivered") unless $options{delivers};
	$fake->clear;
	ok(keys_gone($redis, 'user:1'), "$name: delivered when it is over");
	wait_delivered($node);
	is(worker_pid($node), $pid, "$name: the worker lives");
	my $log = log_since($node, $since);
	# and before it one for the connection that was hung up
	is(scalar(() = $log =~ /cannot deliver to Redis/g), $options{hung_up} ? 2 : 1, "$name: one line for the cause");
	return;
}

foreach my $error (
	'LOADING Redis is loading the dataset in memory',
	"READONLY You can't write against a read only replica.",
	"OOM command not allowed when used memory > 'maxmemory'.",
	"NOPERM this user has no permissions to run the 'evalsha' command",
	'NOAUTH Authentication required.',
	'BUSY Redis is busy running a script.',
	"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
	'CLUSTERDOWN The cluster is down',
	'ERR something nobody has seen before')
{
	my ($kind) = $error =~ /^(\w+)/;
	story("$kind to a delivery", $delivery, error => $error, qr/^\Q$error\E|\Q$error\E/);
	next unless $kind =~ /LOADING|MASTERDOWN|NOAUTH|BUSY/;
	story("$kind to the login", qr/^PING/, error => $error, qr/PING was refused: \Q$error\E/,
		reconnect => 1, hung_up => 1);
}

my $closed = qr/Redis closed the connection|Connection reset by peer/;
story('closed before the reply', $delivery, close => 1, $closed, times => 1, delivers => 1);
story('carried out, reply lost', $delivery, lose => 1, $closed, times => 1, delivers => 1);
story('half a reply', $delivery, half => 2, $closed, times => 1, delivers => 1);
story('garbage', $delivery, raw => "garbage\r\n", qr/bad reply: .*got "g"/);
story('another protocol', qr/^PING/, raw => "HTTP/1.1 400 Bad Request\r\n\r\n",
	qr/bad reply: .*got "H"/, reconnect => 1);
story('two replies for one command', $delivery, raw => ":0\r\n:0\r\n",
	qr/sent what nobody asked for/, delivers => 1);
story('a reply of RESP3', $delivery, raw => ",1.5\r\n", qr/bad reply/);
story('a frozen server', $delivery, freeze => 1, qr/no answer from Redis for 300 ms/);
story('a reply that stops', $delivery, stall => 2, qr/no answer from Redis for 300 ms/, delivers => 1);
story('a server that never greets', qr/^\(CONNECT\)/, freeze => 1,
	qr/time-out after 2000 ms while logging in/, reconnect => 1);
story('control characters', $delivery, error => "ERR \x01\xff\xfe bad", qr/ERR \?\?\? bad/);

sub memory_peak
{
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
	return $kb / 1024;
}

SKIP:
{
	skip 'no /proc', 1 unless -r "/proc/$pid/status";
	my $before = memory_peak();
	story('a reply without end', $delivery, endless => "\$999999999\r\n", qr/longer than 64 MB/);
	story('a line without end', $delivery, endless => '+', qr/a line longer than 64 kB/);
	story('arrays in arrays', $delivery, flood => "*1\r\n", qr/bad reply: .*nested/);
	story('a huge array', $delivery, raw => "*2000000000\r\n", qr/array of more than/);
	story('huge arrays', $delivery, flood => "*1000000\r\n", qr/array of more than/);
	cmp_ok(memory_peak() - $before, '<', 200, 'memory of the worker stayed bounded (MB)');
}

# While Redis is frozen, commits go on, however many: they prove nothing about Redis.
$fake->on($delivery, 'freeze', 1);
my $commits = 0;
my $noticed = wait_until(
	sub {
		$node->safe_psql('postgres', q{UPDATE users SET name = 'Eve' WHERE id = 1});
		$commits++;
		return status($node, 'redis_state') eq 'unreachable';
	});
ok($noticed, "a frozen server is noticed while commits go on ($commits)");
$fake->clear;
wait_delivered($node);

# The listener away and back
$redis->set('user:1', 'old');
$fake->stop;
$node->safe_psql('postgres', q{UPDATE users SET name = 'Bob' WHERE id = 1});
ok(wait_until(sub { status($node, 'last_error') =~ /could not connect: Connection refused/ }),
	'connection refused');
$fake->start;
ok(keys_gone($redis, 'user:1'), 'delivered after Redis listens again');

done_testing();
