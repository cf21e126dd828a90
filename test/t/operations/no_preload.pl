# A server that does not preload the library: CREATE EXTENSION says what to do. Where the library was
# taken out later no write is refused, its keys are logged all the same, and delivered when it is back.
#
# Fails without ca_preload_require() in copy_status() (status.c), and with a trigger function that
# asks for it.
use strict;
use warnings;

use CacheAside;
use Check;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, extension => 0,
	conf => "shared_preload_libraries = ''\n");

# Each of these says the same.
sub refused
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	like($err, qr/ERROR:  55000: .*not loaded by shared_preload_libraries/, "$sql: error");
	like($err, qr/DETAIL:  \S/, '... detail');
	like($err, qr/HINT:  Add cache_aside to shared_preload_libraries and restart/, '... hint');
	return;
}

refused('CREATE EXTENSION cache_aside');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'cache_aside'}), 0,
	'nothing was created');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_aside'\n");
$node->restart;
$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
make_users($node, 100);
wait_delivered($node);

# ---- taken out
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
cache_users($redis, 1 .. 100);
refused("SELECT $_") foreach 'state FROM cache_aside.status', 'cache_aside.wait_delivered()',
  'error FROM cache_aside.ping()', 'cache_aside.reset_stats()';
$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id <= 10');
$node->safe_psql('postgres', q{BEGIN; UPDATE users SET v = v + 1 WHERE id = 20;
	SAVEPOINT s; UPDATE users SET v = v + 1 WHERE id = 30; ROLLBACK TO s; COMMIT});
is($redis->exists(user_keys(1 .. 100)), 100, 'taken out: writes are accepted, nobody delivers');

# ---- and back, as check() says; it does not fail for want of the library
mended($node, qr/^shared_preload_libraries does not name cache_aside/, sub { });
wait_delivered($node);
my $found = compare($node, $redis);
is("$found->{written}|$found->{stale}|$found->{lost}", '11||', 'back: delivered, exactly');

$node->stop;
done_testing();
