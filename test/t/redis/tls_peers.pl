# Whoever answers at the address: one that is silent in the handshake, one that drips a byte at a time, a Redis
# without TLS behind rediss://, TLS behind redis://. Each ends within connect_timeout, says what to write
# instead, and stalls nobody meanwhile.
#
# Remedy: check_deadlines in redis.c (without: a handshake lasts as long as the other side likes); tls_first in
# redis_tls.c (without: "wrong version number"); the worker's own round, which answers a DROP DATABASE.
use strict;
use warnings;

use CacheAside;
use Certificates;
use IO::Select;
use IO::Socket::INET;
use RedisServer;
use Test::More;
use Time::HiRes ();

Certificates->skip_all_unless_available;
my $pki = Certificates->new;
$pki->issue('server', san => 'DNS:localhost');
my $redis = $pki->redis('server')->start;
my $plain = RedisServer->new(port => 1)->start;
my $node = CacheAside->new_node('main', conf => $pki->conf($redis) . "cache_aside.connect_timeout = 700ms\n");
wait_delivering($node);
my @children;
$ENV{PGOPTIONS} = '-c statement_timeout=30s'; # a handshake without an end fails, and does not hang

my $owner = $$;
END { kill 'KILL', map { -$_ } @children if $$ == $owner; }

# Listens at a free port; each connection is given to the code, in a process of its own.
sub peer
{
	my ($behave) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10) or die $!;
	my $pid = fork // die $!;
	push @children, $pid;
	return $listener->sockport if $pid;
	setpgrp(0, 0);
	open STDOUT, '>', '/dev/null';    # who waits for the end of our output does not wait for these
	open STDERR, '>&', \*STDOUT;
	local $SIG{CHLD} = 'IGNORE';
	local $SIG{PIPE} = 'IGNORE';
	while (my $client = $listener->accept)
	{
		next if fork;
		$client->autoflush(1);
		$behave->($client);
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}

sub told
{
	my ($name, $url, $error, $hint) = @_;
	my $position = log_position($node);
	reload_conf($node, 'cache_aside.redis_url' => $url);
	ok(wait_until(sub { log_since($node, $position) =~ /cannot deliver to Redis at \S+: $error\n.*?HINT: +[^\n]*$hint/s }),
		"$name: the log says why, and what to do") or die log_since($node, $position);
	my $took = soonest(
		5,
		sub {
			my $start = Time::HiRes::time();
			my (undef, undef, $err) = $node->psql('postgres', q{SELECT cache_aside.get('user:1')});
			like($err, qr/WARNING: .*$error\n.*HINT: +[^\n]*$hint/s, "$name: a backend is told");
			return Time::HiRes::time() - $start;
		});
	cmp_ok($took, '<', 5, "$name: in time");
	$node->safe_psql('postgres', 'CREATE DATABASE passing');
	$node->safe_psql('postgres', 'DROP DATABASE passing');
	pass("$name: a barrier is answered meanwhile");
	reload_conf($node, 'cache_aside.redis_url' => $pki->url($redis));
	ok(status_is($node, 'state', 'delivering'), "$name: TLS again");
	return;
}

my $no_tls = qr/write redis:\/\//;
my $tls = qr/write rediss:\/\//;
my $late = qr/TLS: the handshake was not over after 700 ms/;

my $port = peer(sub { my ($client) = @_; 1 while sysread($client, my $any, 4096); });
told('silent in the handshake', "rediss://localhost:$port", $late, $no_tls);

# What a TLS server says first, a byte a second; the record is never whole.
$port = peer(sub {
	my ($client) = @_;
	foreach my $byte (split //, "\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" . 'r' x 60)
	{
		syswrite($client, $byte) or last;
		select undef, undef, undef, 0.2;
	}
});
told('a byte at a time', "rediss://localhost:$port", $late, $no_tls);

# ---- the hello of one that is older than TLS 1.2
$port = peer(sub {
	my ($client) = @_;
	sysread($client, my $any, 4096);
	syswrite($client, "\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02" . 'r' x 32 . "\x00\x00\x35\x00");
	sysread($client, $any, 4096);
});
told('TLS 1.1', "rediss://localhost:$port", qr/TLS: unsupported protocol/, qr/Redis must offer TLS 1\.2 or 1\.3/);

# ---- a real one in between, whose bytes arrive one by one
my $target = $redis->{tls_port};
$port = peer(sub {
	my ($client) = @_;
	my $server = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$target") or die $!;
	my $both = IO::Select->new($client, $server);
	while (my @ready = $both->can_read)
	{
		foreach my $from (@ready)
		{
			sysread($from, my $byte, 1) or return;
			syswrite($from == $client ? $server : $client, $byte) or return;
		}
	}
});
reload_conf($node, 'cache_aside.redis_url' => "rediss://localhost:$port");
ok(status_is($node, 'endpoint', "localhost:$port/0"), 'single bytes');
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1);
	SELECT cache_aside.attach('users', 'user:{id}')});
$redis->set('user:1', 'old');
$node->safe_psql('postgres', 'UPDATE users SET id = id');
ok(keys_gone($redis, 'user:1'), 'single bytes make whole records');

# ---- the wrong scheme, both directions
told('plain Redis behind rediss://', 'rediss://localhost:' . $plain->port,
	qr/TLS: (the other side answers without TLS|the connection was closed in the handshake|the handshake was not over after 700 ms)/, $no_tls);
$port = peer(sub { my ($client) = @_; sysread($client, my $any, 4096); syswrite($client, "-ERR Protocol error: no\r\n"); });
told('an answer in clear', "rediss://localhost:$port", qr/TLS: the other side answers without TLS/, $no_tls);
told('TLS behind redis://', "redis://localhost:$target",
	qr/(Redis closed the connection before it said anything|could not \w+: [^\n]* before Redis said anything|bad reply: [^\n]*)/, $tls);
done_testing();
