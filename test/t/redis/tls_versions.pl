# Versions of the protocol: 1.2 and 1.3 alone are spoken, also after a restart of Redis, which knows no session then;
# one that offers less is refused with the reason, and so are both sides' settings of OpenSSL that would allow it.
#
# Remedy: SSL_CTX_set_min_proto_version in new_context of redis_tls_files.c (without: TLS 1.1 is spoken, by a server whose OpenSSL
# allows it); CA_OLD_TLS in redis_hint.c (without: nobody says what to do).
use strict;
use warnings;

use CacheAside;
use Certificates;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

Certificates->skip_all_unless_available;
my $pki = Certificates->new->issue('server', san => 'DNS:localhost');
append_to_file($pki->file('openssl.cnf'), <<'EOC');
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = anything
[anything]
MinProtocol = TLSv1
CipherString = DEFAULT:@SECLEVEL=0
EOC
$ENV{OPENSSL_CONF} = $pki->file('openssl.cnf');
my $redis = $pki->redis('server', conf => "tls-protocols TLSv1.2\n")->start;
my $node = CacheAside->new_node('main', conf => $pki->conf($redis));
wait_delivering($node);
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1);
	SELECT cache_aside.attach('users', 'user:{id}')});

# What the openssl program gets there with a version alone
sub offers { return `openssl s_client -connect 127.0.0.1:$redis->{tls_port} -$_[0] </dev/null 2>/dev/null` =~ /^ *Cipher *: *(?!0000)\w|Cipher is (?!\(NONE\))\w/m; }

sub delivers
{
	my ($name) = @_;
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', 'UPDATE users SET id = id');
	ok(keys_gone($redis, 'user:1'), "$name: delivers") or diag(status($node, 'last_error'));
	is(($node->psql('postgres', q{SELECT cache_aside.get('user:1')}))[2], '', "$name: a backend reads");
	return;
}

ok(offers('tls1_2') && !offers('tls1_3'), 'TLS 1.2 alone');
delivers('TLS 1.2');
$redis->restart;
ok(status_is($node, 'redis_state', 'connected'), 'TLS 1.2: connected again after a restart');
delivers('TLS 1.2 again');
$redis->append_conf("tls-protocols TLSv1.3\n")->restart;
ok(offers('tls1_3') && !offers('tls1_2'), 'TLS 1.3 alone');
ok(status_is($node, 'redis_state', 'connected'), 'connected');
delivers('TLS 1.3');
$redis->restart;
ok(status_is($node, 'redis_state', 'connected'), 'TLS 1.3: connected again after a restart');
delivers('TLS 1.3 again');

SKIP:
{
	$redis->append_conf("tls-protocols TLSv1.1\ntls-ciphers DEFAULT:\@SECLEVEL=0\n")->restart;
	skip 'this OpenSSL does not speak TLS 1.1', 3 unless offers('tls1_1') && !offers('tls1_2');
	ok(status_is($node, 'redis_state', 'unreachable'), 'TLS 1.1 alone: not connected');
	like(status($node, q{last_error || '; ' || hint}), qr/TLS: .*(protocol version|unsupported protocol).*; Redis must offer TLS 1\.2 or 1\.3/, 'TLS 1.1: and why');
	like(($node->psql('postgres', q{SELECT cache_aside.get('user:1')}))[2], qr/WARNING: .*protocol.*HINT: +Redis must offer TLS/s, 'TLS 1.1: a backend is told');
}
$node->stop;
done_testing();
