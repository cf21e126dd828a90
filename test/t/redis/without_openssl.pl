# Built with WITH_OPENSSL=no: no warning, no symbol of OpenSSL's; delivers without TLS, and refuses rediss:// with what to
# do: by ALTER SYSTEM, by a reload, where the old URL stays in force, and at the start, which is misconfigured then.
#
# Remedy: CA_NO_TLS in redis_url.c (without: a URL that no connection can follow is taken); the halves of redis_tls.c and
# redis_tls_files.c without CA_WITH_OPENSSL (without: it does not link).
use strict;
use warnings;

use CacheAside;
use File::Temp ();
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $tree = $INC{'CacheAside.pm'} =~ s{[^/]*$}{../..}r;
my $conf = $ENV{CACHE_ASIDE_CONF} && slurp_file($ENV{CACHE_ASIDE_CONF});
my ($installed) = ($conf // '') =~ m{^dynamic_library_path = '([^':]*)}m;
plan skip_all => 'the extension is in the directories of the server itself' unless $installed;

# What is compiled already is the same, but for the folder that knows TLS.
my $copy = File::Temp::tempdir('ca-plain-XXXXXX', TMPDIR => 1, CLEANUP => 1);
system("cp -Rp $tree/Makefile $tree/cache_aside.control $tree/sql $tree/src $tree/scripts $copy/ && rm -f $copy/src/redis/*.o") == 0 or die;
my $make = "make -s -j2 -C $copy cache_aside.so with_llvm=no WITH_OPENSSL=no PG_CFLAGS=-Werror COPT=-O1 PG_CONFIG=$ENV{PG_CONFIG} >$copy/log 2>&1";
is(system($make), 0, 'it builds without a warning') or BAIL_OUT(slurp_file("$copy/log"));
my $dynamic = `nm -D --undefined-only $copy/cache_aside.so; readelf -d $copy/cache_aside.so`;
like($dynamic, qr/redisReaderFeed/, 'it needs hiredis');
unlike($dynamic, qr/\b(SSL|X509|BIO|ERR|EVP|PEM)_|lib(ssl|crypto)/, 'and nothing of OpenSSL');

# Beside it, an installation that has it in place of the other
my ($place) = $conf =~ m{^\w+ = '([^':]*/install)\b}m or die $conf;
system("cp -Rp $place $copy/install") == 0 or die;
system('cp', "$copy/cache_aside.so", $installed =~ s{^\Q$place}{$copy/install}r) == 0 or die;
my $redis = RedisServer->new(port => 1)->start;
my $node = CacheAside->new_node('main', start => 0, redis => $redis, conf => $conf =~ s{\Q$place}{$copy/install}gr);
chmod 0755, $copy;
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION cache_aside;
	CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1); SELECT cache_aside.attach('users', 'user:{id}')});
my $reason = qr/rediss:\/\/ needs TLS, and this build of cache_aside is one without OpenSSL/;
my $hint = qr/HINT: +Install the headers of OpenSSL \(libssl-dev\) and build cache_aside with make WITH_OPENSSL=yes/;

sub delivers
{
	my ($name) = @_;
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', 'UPDATE users SET id = id');
	ok(keys_gone($redis, 'user:1'), "$name: delivers") or diag(status($node, 'last_error'));
	is(($node->psql('postgres', q{SELECT cache_aside.get('user:1')}))[2], '', "$name: a backend reads");
	return;
}

wait_delivering($node);
delivers('without TLS');
foreach my $url ('rediss://localhost:6380', 'rediss+sentinel://a:1,b:2,c:3/main')
{
	my ($rc, undef, $err) = $node->psql('postgres', "ALTER SYSTEM SET cache_aside.redis_url = '$url'");
	like($err, qr/ERROR: .*DETAIL: +$reason.*$hint/s, "$url: refused by ALTER SYSTEM");
}
my $good = $node->safe_psql('postgres', 'SHOW cache_aside.redis_url');
my $position = log_position($node);
$node->append_conf('postgresql.conf', "cache_aside.redis_url = 'rediss://localhost:6380'\ncache_aside.redis_tls_ca_file = 'absent.crt'\n");
$node->reload;
ok(wait_until(sub { log_since($node, $position) =~ /DETAIL: +$reason.*$hint.*contains errors/s }), 'refused by a reload');
like(log_since($node, $position), qr/redis_tls_ca_file.*"absent\.crt" does not exist/s, 'files are looked at all the same');
is($node->safe_psql('postgres', 'SHOW cache_aside.redis_url'), $good, 'the old one stays in force');
delivers('after the reload');
$node->restart;
ok(status_is($node, 'state', 'misconfigured'), 'at the start it is misconfigured');
like(status($node, 'last_error'), $reason, 'with the reason');
$node->stop;
done_testing();
