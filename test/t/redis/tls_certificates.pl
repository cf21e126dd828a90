# Which certificates are taken, and what is said of those that are not: in the log, in status and to a backend,
# by OpenSSL's reason and with what to do. Redis's own, and ours that Redis asks for.
#
# Remedy: expect_host in redis_tls.c (without: a certificate for another host is taken); SSL_VERIFY_PEER in
# new_context of redis_tls_files.c; hints in redis_hint.c.
use strict;
use warnings;

use CacheAside;
use Certificates;
use RedisServer;
use Test::More;

Certificates->skip_all_unless_available;
my $pki = Certificates->new;
$pki->authority('other');
$pki->issue('named', san => 'DNS:localhost');
$pki->issue('numbered', san => 'IP:127.0.0.1');
$pki->issue('wildcard', san => 'DNS:*.example.com');
$pki->issue('elsewhere', san => 'DNS:cache.example.com,DNS:example.com');
$pki->issue('localhost');
$pki->issue('late', san => 'DNS:localhost', ended => 1);
$pki->issue('strange', san => 'DNS:localhost', by => 'other');
$pki->self_signed('alone', san => 'DNS:localhost');
$pki->issue('client');
$pki->issue('stranger', by => 'other');
$pki->issue('late_client', ended => 1);
my $redis = $pki->redis('named')->start;
my $node = CacheAside->new_node('main', conf => $pki->conf($redis));
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1);
	SELECT cache_aside.attach('users', 'user:{id}')});

# A new connection under these settings; {show} is the certificate of Redis.
sub meets
{
	my (%args) = @_;
	$pki->show($redis, delete $args{show}) if $args{show};
	$redis->config_set('tls-auth-clients', delete $args{asks}) if $args{asks};
	reload_conf($node, 'cache_aside.redis_url' => $redis->url);
	ok(status_is($node, 'state', 'delivering'), 'plain in between');
	my $position = log_position($node);
	$node->safe_psql('postgres', "ALTER SYSTEM SET cache_aside.redis_tls_key_file = '$args{key_file}'") if $args{key_file};
	reload_conf($node, 'cache_aside.redis_url' => $pki->url($redis, host => delete $args{host}),
		map { ("cache_aside.redis_tls_$_" => $args{$_}) } keys %args);
	return $position;
}

sub good
{
	my ($name, %args) = @_;
	meets(%args);
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', 'UPDATE users SET id = id');
	ok(keys_gone($redis, 'user:1'), "$name: delivers") or diag(status($node, 'last_error'));
	my (undef, undef, $err) = $node->psql('postgres', q{SELECT cache_aside.get('user:1')});
	is($err, '', "$name: a backend reads");
	return;
}

sub bad
{
	my ($name, $reason, $hint, %args) = @_;
	my $position = meets(%args);
	ok( wait_until(sub { log_since($node, $position) =~ /cannot deliver to Redis at \S+: TLS: $reason\n.*?HINT: +[^\n]*$hint/s }),
		"$name: the log says $reason, with a hint") or diag(log_since($node, $position));
	like(status($node, q{trouble || ': ' || last_error || '; ' || hint}), qr/^TLS: TLS: $reason; .*$hint/, "$name: status");
	my (undef, undef, $err) = $node->psql('postgres', q{SELECT cache_aside.get('user:1')});
	like($err, qr/WARNING: .*TLS: $reason\n.*HINT: +[^\n]*$hint/s, "$name: a backend is told");
	return;
}

my $authority = qr/redis_tls_ca_file/;
my $unknown = qr/unable to get local issuer certificate|unable to verify the first certificate|self.signed certificate in certificate chain/;
my $other_name = qr/subjectAltName/;
my %back = (verify => 'full', server_name => '', ca_file => $pki->file('ca.crt'));

# ---- the certificate of Redis
good('the name in the certificate', show => 'named');
bad('an address that is not', qr/IP address mismatch/, $other_name, host => '127.0.0.1');
good('an address in it', show => 'numbered', host => '127.0.0.1');
bad('a name that is not', qr/[Hh]ostname mismatch/, $other_name, show => 'elsewhere');
good('the name of the setting', server_name => 'cache.example.com');
bad('another one', qr/[Hh]ostname mismatch/, $other_name, server_name => 'other.example.com');
good('a wildcard', show => 'wildcard', server_name => 'cache.example.com');
bad('the common name alone', qr/[Hh]ostname mismatch/, $other_name, %back, show => 'localhost');
good('any host', verify => 'ca');
bad('any host of another authority', $unknown, $authority,
	show => 'strange');
good('no check', verify => 'none', show => 'alone');
bad('self-signed', qr/self.signed certificate/, $authority, %back);
good('trusted itself', ca_file => $pki->file('alone.crt'));
bad('expired', qr/certificate has expired/, qr/Renew/, %back, show => 'late');
bad('the store of the system', $unknown, $authority,
	ca_file => '', show => 'named');
good('the right one', %back);

# ---- ours
my $required = qr/tls.* alert (certificate required|handshake failure)/;
bad('none, where one is asked for', $required, qr/redis_tls_cert_file/, asks => 'yes');
good('the right one', key_file => $pki->file('client.key'), cert_file => $pki->file('client.crt'));
bad('of another authority', qr/.*alert unknown ca/, qr/Redis refuses the certificate/,
	key_file => $pki->file('stranger.key'), cert_file => $pki->file('stranger.crt'));
bad('expired', qr/.*alert certificate expired/, qr/Redis refuses the certificate/,
	key_file => $pki->file('late_client.key'), cert_file => $pki->file('late_client.crt'));
open my $fh, '>', $pki->file('both.pem') or die $!;
chmod 0600, $pki->file('both.pem');
print $fh PostgreSQL::Test::Utils::slurp_file($pki->file("client.$_")) foreach qw(crt key);
close $fh;
good('certificate and key in one file', key_file => '', cert_file => $pki->file('both.pem'));
unlike(log_since($node, 0), qr/PRIVATE KEY/, 'no key is in the log');
done_testing();
