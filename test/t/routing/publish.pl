# What the worker publishes in Redis, and sticks: tokens for others.
#
# Begun early: it takes long.
use strict;
use warnings;

use CacheAside;
use JSON::PP;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $primary = CacheAside->new_node('primary', redis => $redis,
	conf => "cache_aside.publish_interval = '50 ms'\n");
my $standby = CacheAside->new_standby('near', $primary,
	conf => "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
# Behind the standby, with the primary's Redis: it has no walsender on the primary.
my $deep = CacheAside->new_standby('deep', $primary, redis => $redis, start => 0,
	conf => "cache_aside.publish_interval = '50 ms'\n");
$deep->enable_streaming($standby);
$deep->start;
my $c = PgWire->new($primary);

sub entry
{
	my ($name) = @_;
	my $json = $redis->command('HGET', 'cache_aside:replicas', $name);
	return $json ? decode_json($json) : undef;
}

sub write_row
{
	$c->query('INSERT INTO t DEFAULT VALUES');
	return $c->value('SELECT cache_aside.commit_lsn()');
}

sub lsn { my ($high, $low) = split m{/}, $_[0]; return hex($high) * 2**32 + hex($low); }

sub redis_ms
{
	my $time = $redis->command('TIME');
	return $time->[0] * 1000 + int($time->[1] / 1000);
}

$c->query('CREATE TABLE t (id serial)');
wait_delivered($primary);
is($redis->exists('cache_aside:replicas', 'cache_aside:primary'), 0, 'nothing registered, nothing published');

$c->query(q{SELECT cache_aside.add_replica('near', 'host=n user=''a "b"''', 'east', 7)});
my $token = write_row();
ok(wait_until(sub { my $e = entry('near'); $e && lsn($e->{lsn}) >= lsn($token) }),
	'registered: published, and it follows');
my $e = entry('near');
is($e->{conninfo}, q{host=n user='a "b"'}, 'connection string');
is($e->{region}, 'east', 'region');
is($e->{weight}, 7, 'weight');
is($e->{by}, 'primary', 'by whom');
is($e->{timeline}, 1, 'timeline');
is($e->{system}, $c->value('SELECT system_identifier FROM pg_control_system()'), 'system');
cmp_ok(abs(redis_ms() - $e->{at}), '<', 5000, q{time by Redis' clock});
ok(wait_until(sub { my $x = entry('near'); $x->{lag_bytes} == 0 && $x->{lag_ms} == 0 }), 'no lag when idle');
my $main = decode_json($redis->get('cache_aside:primary'));
is($main->{name}, 'primary', 'the primary: its name');
ok(lsn($main->{lsn}) >= lsn($token), '... and its log');
foreach my $key (qw(cache_aside:replicas cache_aside:primary))
{
	my $ttl = $redis->ttl($key);
	ok($ttl > 0 && $ttl <= 5000, "$key expires");
}

$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$standby->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
write_row();
ok(wait_until(sub { my $x = entry('near'); $x->{lag_bytes} > 0 && $x->{lag_ms} > 100 }), 'lag is seen');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');

$c->query(q{SELECT cache_aside.set_replica('near', region => 'west')});
ok(wait_until(sub { entry('near')->{region} eq 'west' }), 'a change is published');

$c->query(q{SELECT cache_aside.add_replica('deep', 'host=d', 'sea')});
$token = write_row();
ok($primary->poll_query_until('postgres',
		"SELECT name = 'deep' FROM cache_aside.route('$token', 'sea') WHERE reason = 'eligible'"),
	'a standby behind a standby: chosen by what its worker published');
is($c->value(q{SELECT state FROM cache_aside.replica_status WHERE name = 'deep'}), 'publishing', '... so it says');
is(entry('deep')->{by}, 'replica', '... and who wrote the entry');

# What is published counts if it can be true.
$c->query(q{SELECT cache_aside.add_replica('far', 'host=f', 'moon')});
my %far = (lsn => write_row(), timeline => 1, system => $e->{system}, lag_bytes => 0, by => 'replica');

sub far_says
{
	my (%more) = @_;
	my %entry = (%far, %more);
	my $json = join ',', map { qq{"$_":} . ($entry{$_} =~ /^\d+$/ && $_ ne 'system' ? $entry{$_} : qq{"$entry{$_}"}) } sort keys %entry;
	$redis->command('HSET', 'cache_aside:replicas', 'far', "{$json,\"at\":" . redis_ms() . '}');
	return;
}
sub far_is { return $c->value(q{SELECT state FROM cache_aside.replica_status WHERE name = 'far'}); }

is(far_is(), 'unknown', 'it has not published');
ok(wait_until(sub { far_says(); far_is() eq 'publishing' }), 'it has');
is($c->value("SELECT (cache_aside.route('$far{lsn}', 'moon')).name"), 'far', 'chosen by what it published');
ok($primary->poll_query_until('postgres',
		q{SELECT state = 'unknown' FROM cache_aside.replica_status WHERE name = 'far'}),
	'silent for a while: not chosen');
foreach ([ 'another timeline', timeline => 2 ], [ 'another system', system => '12345' ],
	[ 'a future LSN', lsn => 'FFFFFFFF/0' ], [ 'nonsense', lsn => 'x' ])
{
	my ($what, @change) = @$_;
	far_says(@change);
	my $seen = decode_json($redis->get('cache_aside:primary'))->{at};
	wait_until(sub { decode_json($redis->get('cache_aside:primary'))->{at} > $seen + 100 });
	isnt($c->value(q{SELECT (cache_aside.route(NULL, 'moon')).name}), 'far', "$what: ignored");
}

$c->query(q{SELECT cache_aside.remove_replica('far')});
ok(wait_until(sub { !entry('far') }), 'removed: gone');
$c->query(q{SELECT cache_aside.remove_replica('near'), cache_aside.remove_replica('deep')});
ok(wait_until(sub { $redis->exists('cache_aside:replicas', 'cache_aside:primary') == 0 }),
	'the last one removed: nothing is published');

# Sticks.
sub stuck { return $c->value("SELECT cache_aside.stuck_at('$_[0]')"); }

is(stuck('user:42'), undef, 'no stick');
$c->query(q{BEGIN; INSERT INTO t DEFAULT VALUES; SELECT cache_aside.stick('user:42', '20 s'); COMMIT});
$token = $c->value('SELECT cache_aside.commit_lsn()');
wait_delivered($primary);
is(stuck('user:42'), $token, 'the LSN of the commit');
is(lsn($redis->get('cache_aside:stick:user:42')), lsn($token), '... for any process');
my $ttl = $redis->ttl('cache_aside:stick:user:42');
ok($ttl > 10_000 && $ttl <= 20_000, '... for as long as asked');
$c->query(q{BEGIN; SELECT cache_aside.stick('user:43'); ROLLBACK});
$c->query(q{BEGIN; SAVEPOINT a; SELECT cache_aside.stick('user:44'); ROLLBACK TO a;
	SELECT cache_aside.stick('user:45'); COMMIT});
wait_delivered($primary);
is(stuck('user:43'), undef, 'rolled back: none');
is(stuck('user:44'), undef, 'savepoint rolled back: none');
isnt(stuck('user:45'), undef, '... and the rest of that transaction');
$redis->set('cache_aside:stick:user:42', 'FFFFFFFF/0');
$c->query(q{SELECT cache_aside.stick('user:42')});
wait_delivered($primary);
is(lsn(stuck('user:42')), lsn('FFFFFFFF/0'), 'never backwards');
$redis->set('cache_aside:stick:user:46', 'x');
is($c->query(q{SELECT cache_aside.stuck_at('user:46')}, may_fail => 1)->{error}{C}, '22P02', 'not an LSN');

# The publisher dies: readers of Redis notice.
# A standby's worker looks into the registry again every 30 s, so 'deep' is still there for it.
$c->query(q{SELECT cache_aside.add_replica('near', 'host=n'), cache_aside.add_replica('deep', 'host=d')});
ok(wait_until(sub { entry('near') && entry('deep') }, 60), 'published again');
$primary->stop('immediate');
ok(wait_until(sub { !$redis->exists('cache_aside:primary') && !entry('near') }, 30),
	'a dead publisher: what it wrote expires');
ok(entry('deep') && redis_ms() - entry('deep')->{at} < 5000, 'the other standby still publishes');
$standby->stop;
$deep->stop;
ok(wait_until(sub { !$redis->exists('cache_aside:replicas') }, 30), 'nobody publishes: nothing is left');
$redis->stop;
$primary->start;
$c = PgWire->new($primary);
is($c->query(q{SELECT cache_aside.stuck_at('user:42')}, may_fail => 1)->{error}{C}, '08006', 'no Redis: an error');

done_testing();
