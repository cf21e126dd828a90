# Memory of the worker and of the backend stays where it was: a million subtransactions, one
# transaction with millions of keys (KEYS=n; a hundred million take two to four minutes and 4 GB of
# disk), log without any message. LLVM, if it were loaded, would be 50 MB of code in the backend.
#
# Fails without make_large() in append_payload() (tap.c): the worker keeps every key of an open
# transaction. Without truncate_set() at ABORT_SUB (pending.c) the rolled back keys would be deleted.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/status";
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
shared_buffers = 16MB
jit = off
cache_aside.max_wal_retained = 64GB
EOC
make_users($node, 1000);
my $client = PgWire->new($node);
my $backend = $client->value('SELECT pg_backend_pid()');
my $worker = worker_pid($node);
my $keys = $ENV{KEYS} || 6_000_000;

sub peak
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
	return $kb / 1024;
}

sub many_keys
{
	my ($n) = @_;
	return $client->query("SELECT count(cache_aside.invalidate('key:' || i))"
		  . " FROM (SELECT generate_series(1, $n) AS i) AS keys");
}

# Buffers, output and the large path have been used once.
many_keys(100_000);
$client->query('UPDATE users SET v = v + 1');
wait_delivered($node);

sub flat
{
	my ($what, $code) = @_;
	my @before = (peak($worker), peak($backend));
	my $start = time;
	$code->();
	my $written = time - $start;
	wait_delivered($node);
	my @grown = (peak($worker) - $before[0], peak($backend) - $before[1]);
	diag(sprintf '%s: %.1f s, delivered after %.1f s; worker %+.1f MB, backend %+.1f MB',
		$what, $written, time - $start, @grown);
	cmp_ok($grown[0], '<', 32, "$what: the worker's memory is flat");
	cmp_ok($grown[1], '<', 64, "$what: the backend's memory is flat");
	return;
}

# Half of them roll back; every tenth has a transaction id and a row.
cache_users($redis, 1 .. 1000);
$redis->set('rolled back', 'x');
$redis->set('kept', 'x');
flat('a million subtransactions', sub {
	$client->query(q{DO $$ BEGIN
		FOR i IN 1 .. 500000 LOOP
			BEGIN
				IF i % 10 = 0 THEN INSERT INTO users VALUES (1000 + i); END IF;
				PERFORM cache_aside.invalidate('kept');
			EXCEPTION WHEN unique_violation THEN NULL;
			END;
			BEGIN
				PERFORM cache_aside.invalidate('rolled back');
				RAISE EXCEPTION 'x';
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
		END LOOP;
		UPDATE users SET v = 1 WHERE id <= 10;
	END $$});
});
is($redis->exists('kept'), 0, 'keys of committed subtransactions are gone');
is($redis->exists('rolled back'), 1, 'those of rolled back ones are there');
is($redis->exists(user_keys(1 .. 1000)), 990, 'and of untouched rows');

$redis->mset(map { ("key:$_" => 'x') } 1, $keys / 2, $keys, $keys + 1);
flat("$keys keys in one transaction", sub { many_keys($keys) });
is($redis->exists(map { "key:$_" } 1, $keys / 2, $keys), 0, 'first, middle and last are gone');
is($redis->exists('key:' . ($keys + 1)), 1, 'no other');

flat('400 MB of log without a message', sub { fill_log($node, 400) });
$client->query('UPDATE users SET v = 2 WHERE id = 500');
wait_delivered($node);
is($redis->exists('user:500'), 0, 'and then as ever');

$node->stop;
done_testing();
