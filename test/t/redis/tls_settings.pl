# Settings of TLS that cannot be used are refused with the reason: by ALTER SYSTEM, and by a reload, where the old
# ones stay in force, both of a pair or neither. At the start they leave the server misconfigured, until repaired.
#
# Remedy: the check hooks of redis_tls_settings.c; check_rights_of_key, O_NONBLOCK and no_passphrase in redis_tls_files.c
# (without the latter the postmaster asks a terminal); refused_at_start (without: the system's store is trusted
# instead of the one asked for); pending_value (without: a pair in the order certificate, key is refused).
use strict;
use warnings;

use CacheAside;
use Certificates;
use POSIX ();
use RedisServer;
use Test::More;

Certificates->skip_all_unless_available;
my $pki = Certificates->new;
$pki->issue($_) foreach qw(client other);
$pki->issue('server', san => 'DNS:localhost');
my $redis = $pki->redis('server', auth_clients => 'yes')->start;

sub file { return $pki->file($_[0]); }

sub write_file
{
	my ($name, $text, $mode) = @_;
	unlink file($name);
	open my $fh, '>', file($name) or die $!;
	print $fh $text;
	close $fh;
	chmod $mode // 0600, file($name);
	return;
}

my $key = PostgreSQL::Test::Utils::slurp_file(file('client.key'));
write_file('open.key', $key, 0644);
write_file('group.key', $key, 0640);
write_file('nothing.pem', '');
write_file('text.pem', "no certificate\n");
write_file('unreadable.pem', $key, 0);
POSIX::mkfifo(file('pipe.pem'), 0600) or die $!;
system("cd $pki->{dir} && openssl pkey -in client.key -aes128 -passout pass:secret -out locked.key 2>/dev/null") == 0 or die;
chmod 0600, file('locked.key');

# The files of a good configuration, the certificate first.
sub pair { return "cache_aside.redis_tls_cert_file = '@{[ file(\"$_[0].crt\") ]}'\ncache_aside.redis_tls_key_file = '@{[ file(\"$_[1].key\") ]}'\n"; }

my $node = CacheAside->new_node('main', conf => $pki->conf($redis) . pair('client', 'client'));
wait_delivering($node);
pass('certificate and key, in this order, at the start');
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1);
	SELECT cache_aside.attach('users', 'user:{id}')});

sub delivers
{
	my ($name) = @_;
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', 'UPDATE users SET id = id');
	ok(keys_gone($redis, 'user:1'), "$name: delivers") or diag(status($node, 'last_error'));
	return;
}

# ---- ALTER SYSTEM
sub refused
{
	my ($setting, $value, $reason) = @_;
	my ($rc, undef, $err) = $node->psql('postgres', "ALTER SYSTEM SET cache_aside.$setting = '$value'",
		timeout => 60, timed_out => \my $late);
	if ($late) # a FIFO is being opened, which no request to stop would end
	{
		$node->stop('immediate');
		die "$setting = '$value' blocks the server\n";
	}
	like($err, qr/ERROR: +invalid value for parameter "cache_aside\.$setting".*$reason.*HINT: /s, "$setting: $reason");
	return;
}

foreach my $setting (qw(ca_file cert_file key_file))
{
	refused("redis_tls_$setting", file('absent.pem'), qr/DETAIL: +The file ".*absent\.pem" does not exist\./);
	refused("redis_tls_$setting", file('nothing.pem'), qr/nothing\.pem" is empty\./);
	refused("redis_tls_$setting", $pki->{dir}, qr/is not a regular file\./);
	refused("redis_tls_$setting", file('pipe.pem'), qr/is not a regular file\./);
	refused("redis_tls_$setting", file('text.pem'), qr/holds no (certificate|private key) in PEM format\./);
	refused("redis_tls_$setting", file('unreadable.pem'), qr/may not be read by the server\./) if $> != 0;
}
refused('redis_tls_key_file', file('open.key'), qr/has group or world access: chmod 0600/);
refused('redis_tls_key_file', file('group.key'), qr/has group or world access: chmod 0600/);
refused('redis_tls_key_file', file('locked.key'), qr/is protected by a passphrase, which nobody could enter/);
my ($rc, undef, $err) = $node->psql('postgres', q{ALTER SYSTEM SET cache_aside.redis_tls_verify = 'maybe'});
like($err, qr/ERROR: +invalid value .*HINT: +Available values: full, ca, none/s, 'an unknown word');
($rc, undef, $err) = $node->psql('postgres', q{ALTER SYSTEM SET cache_aside.redis_tls_server_name = 'a b'});
like($err, qr/character that host names do not have/, 'a name that is none');
refused('redis_url', 'rediss://redis://localhost', qr/It names two schemes/);
refused('redis_url', 'rediss://localhost?verify=none', qr/no parameters/);
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf' AND name LIKE 'cache_aside.redis%'}),
	'0', 'nothing of it was written');
my ($pid, $data) = (worker_pid($node), $node->data_dir);
system('cp', file('ca.crt'), "$data/own_ca.crt");
reload_conf($node, 'cache_aside.redis_tls_ca_file' => 'own_ca.crt');
delivers('a relative name');

# ---- a reload: the old ones stay, both of a pair
sub reload_with
{
	my ($lines) = @_;
	my $position = log_position($node);
	my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');
	$node->append_conf('postgresql.conf', $lines);
	$node->reload;
	$node->poll_query_until('postgres', "SELECT pg_conf_load_time() > '$before'");
	return $position;
}

sub stays
{
	my ($name, $lines, $reason) = @_;
	my $position = reload_with($lines);
	like(log_since($node, $position), qr/LOG: +invalid value for parameter "cache_aside\.redis_.*$reason/s, "$name: the log says $reason");
	is($node->safe_psql('postgres', q{SELECT current_setting('cache_aside.redis_tls_cert_file') || ' ' || current_setting('cache_aside.redis_tls_key_file')}),
		file('client.crt') . ' ' . file('client.key'), "$name: both stay");
	delivers($name);
	return;
}

stays('a key that is not its', pair('client', 'other'), qr/holds a key that is not the certificate's/);
stays('a key for everybody', pair('client', 'open'), qr/has group or world access/);
stays('a certificate without key', "cache_aside.redis_tls_cert_file = '@{[ file('client.crt') ]}'\ncache_aside.redis_tls_key_file = ''\n",
	qr/holds no private key, and redis_tls_key_file is not set/);
stays('two schemes', pair('client', 'client') . "cache_aside.redis_url = 'rediss://rediss://localhost'\n", qr/It names two schemes/);
reload_with($pki->conf($redis) . pair('other', 'other'));
is($node->safe_psql('postgres', q{SHOW cache_aside.redis_tls_cert_file}), file('other.crt'), 'a new pair is taken');
delivers('a new pair');
is(worker_pid($node), $pid, 'by the same worker');

# ---- ALTER SYSTEM of a certificate whose key nobody named
reload_with("cache_aside.redis_tls_cert_file = ''\ncache_aside.redis_tls_key_file = ''\n");
refused('redis_tls_cert_file', file('client.crt'), qr/holds no private key, and redis_tls_key_file is not set/);
($rc, undef, $err) = $node->psql('postgres', "ALTER SYSTEM SET cache_aside.redis_tls_cert_file = '@{[ file('client.crt') ]}'");
like($err, qr/HINT: +Set cache_aside\.redis_tls_key_file first/, 'what to do');
$node->safe_psql('postgres', "ALTER SYSTEM SET cache_aside.redis_tls_key_file = '@{[ file('client.key') ]}'");
reload_conf($node, 'cache_aside.redis_tls_cert_file' => file('client.crt'));
delivers('the key first, then the certificate');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');

# ---- the start
my $conf = PostgreSQL::Test::Utils::slurp_file("$data/postgresql.conf");
foreach my $case (
	[ 'an unreadable authority', "cache_aside.redis_tls_ca_file = 'absent.crt'\n", qr/cache_aside\.redis_tls_ca_file was refused: the file "absent\.crt" does not exist/ ],
	[ 'a key for everybody', pair('client', 'open'), qr/redis_tls_(cert|key)_file was refused: the file ".*open\.key" has group or world access/ ])
{
	my ($name, $lines, $reason) = @$case;
	$node->append_conf('postgresql.conf', $pki->conf($redis) . pair('client', 'client') . $lines);
	$node->restart;
	ok(status_is($node, "state || ' ' || redis_state", 'misconfigured misconfigured'), "$name: misconfigured");
	like(status($node, "last_error || '; ' || hint"), qr/$reason.*; Repair the file/, "$name: and why");
	reload_with($pki->conf($redis) . pair('client', 'client'));
	ok(status_is($node, 'state', 'delivering'), "$name: a reload with good ones repairs it");
	delivers($name);
}
done_testing();
