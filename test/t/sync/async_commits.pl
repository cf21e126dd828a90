# Asynchronous commits: what is cached from one that a crash loses must not stay. So every commit with
# keys is flushed until the position in Redis says that asynchronous commits carry keys (note_logged()
# in pending.c), and after a crash that position makes the worker delete everything (note_crash()).
use strict;
use warnings;

use CacheAside;
use FakeRedis;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $fake = FakeRedis->new(upstream => $redis)->start;
my $node = CacheAside->new_node('main', conf => <<"EOC");
cache_aside.redis_url = '${\ $fake->url }'
wal_writer_delay = 10s
wal_writer_flush_after = 1GB
autovacuum = off
EOC
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, n int);
	INSERT INTO users SELECT g, 0 FROM generate_series(1, 20) g;
	CREATE TABLE bare (n int);
	SELECT cache_aside.attach('users', 'user:{id}');
});
wait_delivered($node);
my $session;

sub connect_again { $session = PgWire->new($node, options => '-c synchronous_commit=off'); }

# Was this commit on disk when it returned? Something else may have flushed the log, so try again.
sub flushed
{
	my ($sql) = @_;
	foreach (1 .. 5)
	{
		$session->send($sql, 'SELECT pg_current_wal_flush_lsn() >= cache_aside.commit_lsn()');
		$session->receive;
		return 0 if $session->receive->{rows}[0][0] eq 'f';
	}
	return 1;
}

sub recorded
{
	my ($position) = $redis->command('KEYS', 'cache_aside:position:*');
	$position = $position->[0] if ref $position;
	return (split / /, $redis->get($position))[5];
}

# The application caches what it reads. Returns whether row and cache agree once all is delivered.
sub cache_row { $redis->set('user:1', $session->value('SELECT n FROM users WHERE id = 1')); }

sub fresh
{
	my $cached = $redis->get('user:1');
	my $row = $session->value('SELECT n FROM users WHERE id = 1');
	note 'row ' . $row . ', cached ' . ($cached // 'nothing');
	return !defined $cached || $cached == $row;
}

sub crash
{
	$node->kill9;
	ok(wait_until(sub { !kill 0, $session->{pid} }), 'the server crashed');
	$node->start;
	connect_again();
	wait_delivered($node);
}

connect_again();
my $update = 'UPDATE users SET n = n + 1 WHERE id = 1';
is(recorded(), 0, 'no asynchronous commit carried keys yet');
is(flushed('INSERT INTO bare VALUES (1)'), 0, 'without keys a commit is as asynchronous as asked for');

# The first one with keys, and a crash at once.
reload_conf($node, 'cache_aside.delivery' => 'off');
status_is($node, 'state', 'off');
is(flushed($update), 1, 'the first with keys is flushed');
cache_row();
reload_conf($node, 'cache_aside.delivery' => 'primary');
crash();
ok(fresh(), 'nothing is stale after a crash');
is(recorded(), 1, 'Redis knows of asynchronous commits');

# From now on they are asynchronous, and lost ones are made up for.
is(flushed($update), 0, 'then they are asynchronous');
$session->query('UPDATE users SET n = n + 100 WHERE id = 1');
cache_row();
crash();
cmp_ok($session->value('SELECT n FROM users WHERE id = 1'), '<', 100, 'a commit was lost');
ok(wait_until(\&fresh), 'what was cached from it is deleted');
like(log_since($node), qr/asynchronous commits may be lost/, 'by a resync');

$session->query('SET cache_aside.synchronous = on');
is(flushed($update), 1, 'but for one that waits for delivery');
$session->query('RESET cache_aside.synchronous');

# What this session with Redis has not acknowledged does not count.
is(flushed($update), 0, 'asynchronous');
my $not_written = qr/^FCALL cache_aside_(apply|epoch)/;
$fake->on($not_written, error => "OOM command not allowed when used memory > 'maxmemory'.");
$fake->hang_up;
ok(wait_until(sub { $fake->commands($not_written) && status($node, 'last_error') =~ /OOM/ }),
	'a session begins and cannot write');
is(flushed($update), 1, 'flushed again');
$fake->clear;
wait_delivered($node);
is(flushed($update), 0, 'until Redis has said so');

done_testing();
