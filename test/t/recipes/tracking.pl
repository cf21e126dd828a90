# What Redis tells clients with CLIENT TRACKING when cache_aside deletes, what examples/l1 builds upon: keys that went inside a
# function, by a scan, by a fill; each key once, and before the answer to what was asked next on that connection.
# It protects no line of ours: it holds Redis to what the README there says of it.
use strict;
use warnings;

use CacheAside;
use RedisClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'guarded fills need Redis 7' if (RedisServer->version)[0] < 7;

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users SELECT i, 'a' FROM generate_series(1, 400) i; SELECT cache_aside.attach('users', 'user:{id}')});
wait_delivered($node);

# A connection that hears (RESP2: by the channel of old), and one that reads
my ($ear, $eye) = map { RedisClient->new(socket => $redis->socket) } 1 .. 2;
my $id = $ear->command('CLIENT', 'ID');

sub track
{
	my ($client, @how) = @_;
	$client->command('CLIENT', 'TRACKING', 'OFF');
	return $client->command('CLIENT', 'TRACKING', 'ON', 'REDIRECT', $id, @how);
}

# What came before the answer to a PING: texts of messages
sub heard
{
	my @heard;
	$ear->send('PING');
	while ((my $message = $ear->receive)->[0] ne 'pong') { push @heard, defined $message->[2] ? @{ $message->[2] } : 'all'; }
	return join ' ', sort @heard;
}

sub write_and_deliver
{
	$node->safe_psql('postgres', $_[0]);
	wait_delivered($node);
	return;
}

sub token { return $node->safe_psql('postgres', 'SELECT cache_aside.read_token() FROM users LIMIT 1'); }

sub fill
{
	my ($client, $key) = @_;
	return wait_until(sub { $client->command('FCALL', 'cache_aside_fill', 1, $key, '"v"', 100_000, token()) });
}

fill($redis, "user:$_") foreach 1 .. 4;
track($eye);
$ear->command('SUBSCRIBE', '__redis__:invalidate');
is($eye->command('GET', 'user:1'), '"v"', 'a hit');
is($eye->command('FCALL', 'cache_aside_get', 1, 'user:2', 2000), '"v"', '... and one by the function');
write_and_deliver(q{UPDATE users SET name = 'b' WHERE id IN (1, 2, 3)});
is(heard(), 'user:1 user:2', 'what was read is announced when the worker deletes it; what was not read is not');
write_and_deliver(q{UPDATE users SET name = 'c' WHERE id IN (1, 2)});
is(heard(), '', '... once');

$eye->command('GET', 'user:4');
write_and_deliver('BEGIN; UPDATE users SET name = NULL WHERE id = 4; ROLLBACK');
is(heard(), '', 'what was rolled back is not');
write_and_deliver('TRUNCATE users');
is(heard(), 'user:4', 'a scan announces what it deletes');
$node->safe_psql('postgres', q{INSERT INTO users SELECT i, 'a' FROM generate_series(1, 400) i});
wait_delivered($node);

# A miss is a read as well; a fill writes
$eye->command('FCALL', 'cache_aside_get', 1, 'user:1', 0);
fill($redis, 'user:1');
is(heard(), 'user:1', 'a fill is announced to who had read that there was nothing');
$eye->command('GET', 'user:2');
fill($eye, 'user:2');
is(heard(), 'user:2', '... and to who fills');
track($eye, 'NOLOOP');
$eye->command('GET', 'user:6');
fill($eye, 'user:6');
is(heard(), '', '... but with NOLOOP');
$eye->command('GET', 'user:3');
my $old = token();
write_and_deliver(q{UPDATE users SET name = 'b' WHERE id = 3});
is($eye->command('FCALL', 'cache_aside_fill', 1, 'user:3', '"v"', 100_000, $old), 0, 'a fill that is refused ...');
is(heard(), '', '... is not announced');

# Broadcast: by beginnings of keys, whoever reads
track($eye, 'BCAST', 'PREFIX', 'user:');
fill($redis, 'user:5');
is(heard(), 'user:5', 'BCAST: a fill is announced to all');
write_and_deliver('UPDATE users SET name = NULL WHERE id < 7');
is(heard(), 'user:1 user:2 user:5 user:6', '... and what a commit deletes, if it was there');
my $token = token();
$redis->pipeline(map { [ 'FCALL', 'cache_aside_fill', 1, "user:$_", '"v"', 100_000, $token ] } 1 .. 300);
is($redis->exists(map { "user:$_" } 1 .. 300), 300, 'filled');
heard();
write_and_deliver('UPDATE users SET name = name');
is(scalar(split / /, heard()), 300, '... each key of a large one');
track($eye, 'BCAST');
write_and_deliver('UPDATE users SET name = NULL WHERE id = 400');
like(heard(), qr/^(cache_aside:\S+ ?)+$/, 'BCAST without PREFIX: each batch says where delivery stands');
$redis->flushall;
like(heard(), qr/^all\b/, 'FLUSHALL: all');

# Who reads on a connection that is gone is told nothing
track($eye);
fill($redis, 'user:1');
$eye->command('GET', 'user:1');
$eye->close;
wait_until(sub { $redis->command('CLIENT', 'LIST') !~ / flags=\S*t/ });
write_and_deliver(q{UPDATE users SET name = 'b' WHERE id = 1});
is(heard(), '', 'with the connection that read goes what is known of its keys');
done_testing();
