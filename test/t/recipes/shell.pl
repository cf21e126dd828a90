# examples/shell: a reader in psql and redis-cli. It fills, it hits, and a write between its read and its fill is not lost.
#
# Remedy: FCALL cache_aside_fill in examples/shell/user.sh; SET in its place stores what the write made old.
use strict;
use warnings;

use CacheAside;
use File::Temp;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'guarded fills need Redis 7' if (RedisServer->version)[0] < 7;
plan skip_all => 'redis-cli is not installed' if system('command -v redis-cli >/dev/null 2>&1') != 0;

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users VALUES (1, E'a "b" | \n c'), (2, 'two'); SELECT cache_aside.attach('users', 'user:{id}')});
wait_delivered($node);
local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, 'postgres', scalar getpwuid($>));
local $ENV{REDISCLI} = '-s ' . $redis->socket;
my $user = './examples/shell/user.sh';
my $first = qq({"id":1,"name":"a \\"b\\" | \\n c"}\n);

wait_until(sub { return `$user 1` eq $first && is_cached($redis, 'user:1') }) or die 'not cached';
is($redis->get('user:1') . "\n", $first, 'the text of PostgreSQL is what is cached');
$redis->set('user:1', '"from the cache"');
is(`$user 1`, qq("from the cache"\n), 'a hit');
$node->safe_psql('postgres', q{UPDATE users SET name = 'Ada' WHERE id = 1});
wait_delivered($node);
is(`$user 1`, qq({"id":1,"name":"Ada"}\n), 'after a write the next reader sees it');
is(`$user 7`, "null\n", 'no such user');
is($redis->get('user:7'), 'null', '... is cached');
$node->safe_psql('postgres', q{INSERT INTO users VALUES (7, 'seven')});
wait_delivered($node);
is(`$user 7`, qq({"id":7,"name":"seven"}\n), '... until there is one');

# A psql that has its answer, and then sleeps while somebody writes
my $dir = File::Temp::tempdir('ca-sh-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $psql = `sh -c 'command -v psql'` =~ s/\n//r;
open my $slow, '>', "$dir/psql" or die $!;
print $slow <<"EOS";
#!/bin/sh
$psql "\$@" &&
$psql -qXAtc "UPDATE users SET name = 'newer' WHERE id = 2" -c 'SELECT cache_aside.wait_delivered()' >/dev/null
EOS
close $slow;
chmod 0755, "$dir/psql";
is(`PATH=$dir:\$PATH $user 2`, qq({"id":2,"name":"two"}\n), 'a reader that was overtaken has what it read');
ok(!is_cached($redis, 'user:2'), '... and caches nothing');
is(`$user 2`, qq({"id":2,"name":"newer"}\n), '... and the next one has the new row');

local $ENV{REDISCLI} = '-s /nonexistent/redis.sock';
is(`$user 2`, qq({"id":2,"name":"newer"}\n), 'without Redis it works, too');
is(system("$user 'x' 2>/dev/null") >> 8, 3, 'what PostgreSQL refuses is an error');
done_testing();
