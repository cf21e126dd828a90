
# A host name that resolves slowly, never, or to nothing: the worker goes on answering everything
# else. Runs in namespaces of its own (user, mount, network), with a name server that obeys the test.

use strict;
use warnings;

# Before anything redirects our output
BEGIN
{
	my @unshare = qw(unshare --map-current-user --keep-caps --mount --net);
	if (!$ENV{CA_OWN_NAMESPACES})
	{
		if (system("@unshare true >/dev/null 2>&1") != 0)
		{
			print "1..0 # SKIP namespaces of its own are not to be had\n";
			exit 0;
		}
		$ENV{CA_OWN_NAMESPACES} = 1;
		exec @unshare, $^X, (map { "-I$_" } @INC), $0 or die "unshare: $!";
	}
}

use lib 'test/perl';
use CacheAside;
use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Utils;
use RedisServer;
use Socket;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;

# ---- the loopback interface, and a resolver that asks us ----

socket(my $any, AF_INET, SOCK_DGRAM, 0) or die $!;
my $request = pack 'a16 s x22', 'lo', 1;    # IFF_UP
ioctl $any, 0x8914, $request or die "SIOCSIFFLAGS: $!";
my $resolv = File::Temp->new;
print $resolv "nameserver 127.0.0.9\noptions timeout:60 attempts:1\n";
close $resolv;
chmod 0644, "$resolv";
plan skip_all => 'cannot replace /etc/resolv.conf'
  if system("mount --bind $resolv /etc/resolv.conf 2>/dev/null") != 0;

# <kind>.test: never no answer; none does not exist; slowN after N ms; two has a dead address first
sub answer
{
	my ($query) = @_;
	my ($id, $flags, $question) = unpack 'a2 a2 x8 a*', $query;
	my ($kind) = $question =~ /([a-z0-9]+)\x04test/ or return undef;
	my ($end) = index $question, "\0";
	my $type = unpack 'n', substr($question, $end + 1, 2);
	$question = substr $question, 0, $end + 5;
	return undef if $kind eq 'never';
	select undef, undef, undef, $1 / 1000 if $kind =~ /^slow(\d+)/;
	return $id . pack('n5', 0x8183, 1, 0, 0, 0) . $question if $kind eq 'none';
	my @addresses = $type != 1 ? () : $kind eq 'two' ? qw(127.0.0.7 127.0.0.1) : qw(127.0.0.1);
	return $id . pack('n5', 0x8180, 1, scalar @addresses, 0, 0) . $question
	  . join '', map { "\xc0\x0c" . pack('n n N n', 1, 1, 0, 4) . inet_aton($_) } @addresses;
}

my $dns = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.9', LocalPort => 53)
  or die "cannot be a name server: $!";
my $server = fork // die $!;
if ($server == 0)
{
	local $SIG{CHLD} = 'IGNORE';
	while (defined(my $peer = $dns->recv(my $query, 512)))
	{
		next if fork;
		my $reply = answer($query);
		$dns->send($reply, 0, $peer) if defined $reply;
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}
END { kill 'KILL', $server if $server; }

# ---- the story ----

my $redis = RedisServer->new(port => 1)->start;
my $port = $redis->port;
my $node = CacheAside->new_node('main', conf => <<"EOC");
cache_aside.redis_url = 'redis://two.test:$port/0'
cache_aside.connect_timeout = 1s
EOC
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users VALUES (1, 'Ada');
	SELECT cache_aside.attach('users', 'user:{id}');
});
my $pid = worker_pid($node);

sub works
{
	my ($name) = @_;
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', q{UPDATE users SET name = name || '.'});
	ok(keys_gone($redis, 'user:1'), "$name: delivers") or diag(status($node, 'last_error'));
	return;
}

# DROP DATABASE asks every process to close its files, and waits for all of them.
sub answers
{
	my ($name) = @_;
	my $begin = time;
	foreach (1 .. 3)
	{
		$node->safe_psql('postgres', 'CREATE DATABASE other STRATEGY file_copy');
		$node->safe_psql('postgres', 'DROP DATABASE other');
	}
	cmp_ok(time - $begin, '<', 20, "$name: DROP DATABASE does not wait for the resolver");
	$node->safe_psql('postgres', q{UPDATE users SET name = 'Eve'});
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event IS NOT
		NULL AND backend_type = 'cache_aside worker'}), 1, "$name: the worker sits in its own wait");
	return;
}

sub fails
{
	my ($name, $host, $error) = @_;
	my $moment = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	reload_conf($node, 'cache_aside.redis_url' => "redis://$host:$port/0");
	$node->safe_psql('postgres', q{UPDATE users SET name = name || '!'});
	my $new_error = "CASE WHEN last_error_at > '$moment' THEN last_error END";
	ok(wait_until(sub { status($node, $new_error) =~ $error }), "$name: $error")
	  or diag(status($node, 'last_error'));
	return;
}

works('the second of two addresses');

fails('no such name', 'none.test', qr/^could not resolve the host name: .*not known/);
fails('slower than the time-out', 'slow2500.test', qr/^time-out after 1000 ms while resolving/);
answers('slow');
works('an answer that comes after the time-out is used');

fails('never', 'never.test', qr/^time-out after 1000 ms while resolving the host name/);
answers('never');
my $since = log_position($node);
my $reconnects = status($node, 'reconnects');
ok(wait_until(sub { status($node, 'reconnects') > $reconnects + 4 }), 'several attempts later');
my @threads = glob "/proc/$pid/task/*";
cmp_ok(scalar @threads, '<=', 3, 'they share one look-up: threads do not pile up');
unlike(log_since($node, $since), qr/cannot deliver/, 'nor do lines in the log');

fails('many names that never resolve', $_ . '.never.test', qr/./) foreach qw(a b c d e);
@threads = glob "/proc/$pid/task/*";
cmp_ok(scalar @threads, '<=', 6, 'look-ups are bounded');
is(worker_pid($node), $pid, 'the worker lives');

my $begin = time;
$node->stop('fast');
cmp_ok(time - $begin, '<', 20, 'shutdown does not wait for the resolver');
unlike(log_since($node, 0), qr/terminated by signal/, 'the worker ended by itself');

done_testing();
