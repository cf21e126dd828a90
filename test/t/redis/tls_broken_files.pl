# Certificates and keys that are broken on disk while the server runs: refused at a reload, with the reason, and what they
# held before goes on to be used, by the worker, by the backends of before, and by new ones: over the connections that
# there are, over new ones, and after a crash. Good files are taken again without a word.
#
# Remedy: tell_unusable in worker.c (without: the working connection is given up for nothing); `kept` in
# ca_redis_tls_files_context of redis_tls_files.c (without: nobody connects anew); accept_files in
# redis_tls_settings.c (without: a backend that never connected cannot).
use strict;
use warnings;

use CacheAside;
use Certificates;
use File::Copy ();
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

Certificates->skip_all_unless_available;
my $pki = Certificates->new;
$pki->issue('server', san => 'DNS:localhost')->issue('client');
my $redis = $pki->redis('server', auth_clients => 'yes')->start;
my $node = CacheAside->new_node('main', conf => $pki->conf($redis) . <<"EOC");
cache_aside.redis_tls_cert_file = '@{[ $pki->file('client.crt') ]}'
cache_aside.redis_tls_key_file = '@{[ $pki->file('client.key') ]}'
restart_after_crash = on
EOC
wait_delivering($node);
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1);
	SELECT cache_aside.attach('users', 'user:{id}')});
my $said = qr/LOG: +cache_aside connects to Redis with what it read earlier: TLS: the file/;
my %session;

sub client_ids { return join ' ', $redis->command('CLIENT', 'LIST') =~ /^id=(\d+) [^\n]*name=cache_aside_worker/mg; }

sub all_work
{
	my ($name) = @_;
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', 'UPDATE users SET id = id');
	ok(keys_gone($redis, 'user:1'), "$name: delivers") or diag(status($node, 'last_error'));
	is(($node->psql('postgres', q{SELECT cache_aside.get('user:1')}))[2], '', "$name: a new backend reads");
	foreach my $which (sort keys %session)
	{
		my ($out, $failed) = $session{$which}->query(q{SELECT cache_aside.get('user:1')});
		is($session{$which}{stderr} =~ s/^\s+//r, '', "$name: one of before that $which reads");
		$session{$which}{stderr} = '';
	}
	return;
}

# Breaks a file, reloads, makes Redis hang up, and repairs it.
sub breaks
{
	my ($name, $file, $how, $reason) = @_;
	my $path = $pki->file($file);
	File::Copy::copy($path, "$path.good") or die $!;
	my $id = client_ids();
	my $position = log_position($node);
	$how->($path);
	$node->reload;
	ok(wait_until(sub { log_since($node, $position) =~ /cache_aside keeps its connection to Redis: the file "\Q$path\E" $reason.*HINT: +Repair/s }),
		"$name: the log says why, and what to do") or diag(log_since($node, $position));
	like(log_since($node, $position), qr/invalid value for parameter "cache_aside\.redis_tls_.*$reason/s, "$name: so does the postmaster");
	is(client_ids(), $id, "$name: the worker keeps its connection");
	all_work($name);
	is(log_since($node, $position) =~ $said, '', "$name: there was nothing else to say");
	$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	ok(wait_until(sub { client_ids() ne '' && client_ids() ne $id }), "$name: hung up on, it connects anew");
	ok(status_is($node, 'redis_state', 'connected'), "$name: connected anew");
	all_work("$name, anew");
	is(scalar(() = log_since($node, $position) =~ /$said "\Q$path\E" $reason/g), 1, "$name: which is said, once");
	return;
}

sub repair
{
	my ($file) = @_;
	my $path = $pki->file($file);
	my $position = log_position($node);
	unlink $path;
	rename "$path.good", $path or die $!;
	my $id = client_ids();
	$node->reload;
	ok(wait_until(sub { client_ids() ne '' && client_ids() ne $id }), "$file repaired: a new connection");
	all_work("$file repaired");
	unlike(log_since($node, $position), $said, "$file repaired: nothing is to be said");
	return;
}

sub truncate_it { open my $fh, '>', $_[0] or die $!; print $fh "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"; close $fh; return; }

$session{'had a connection'} = background_sql($node);
$session{'had a connection'}->query_safe(q{SELECT cache_aside.get('user:1')});
$session{'had none'} = background_sql($node);
breaks('a broken authority', 'ca.crt', \&truncate_it, 'holds a certificate that cannot be read');
repair('ca.crt');
breaks('a key for everybody', 'client.key', sub { chmod 0644, $_[0] }, 'has group or world access');

# ---- a crash while they are broken: only the postmaster knows them still
my $position = log_position($node);
kill 'KILL', worker_pid($node);
ok(wait_until(sub { log_since($node, $position) =~ /all server processes terminated; reinitializing/ }), 'a crash');
$_->{run}->finish foreach values %session;
%session = ();
$node->poll_query_until('postgres', q{SELECT redis_state = 'connected' FROM cache_aside.status});
all_work('after the crash');
chmod 0600, $pki->file('client.key.good');
repair('client.key');

# ---- a certificate and a key that are no pair: ALTER SYSTEM sees one at a time and takes both, a reload neither
$pki->issue('other');
$position = log_position($node);
$node->safe_psql('postgres', "ALTER SYSTEM SET cache_aside.redis_tls_key_file = '@{[ $pki->file('other.key') ]}'");
$node->reload;
ok(wait_until(sub { log_since($node, $position) =~ /invalid value for parameter "cache_aside.redis_tls_key_file".*holds a key that is not the certificate's/s }),
	'no pair: refused at the reload');
is($node->safe_psql('postgres', q{SHOW cache_aside.redis_tls_key_file}), $pki->file('client.key'), 'the old one stays');
all_work('no pair');
reload_conf($node, 'cache_aside.redis_tls_cert_file' => $pki->file('other.crt'));
is($node->safe_psql('postgres', q{SHOW cache_aside.redis_tls_key_file}), $pki->file('other.key'), 'with its certificate it is taken');
all_work('a new pair');
$node->stop;
done_testing();
