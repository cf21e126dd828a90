# examples/events: a CDN, a memcached and a cache inside a process follow the same commits, and make up for what they missed.
#
# Remedies, in examples/events: the XACK behind the purge (a purge that fails is lost); forget_all() at each SUBSCRIBE (what came
# while the connection was down stays); `heard` in LocalCache.get() (what was read before an event is kept behind it).
use strict;
use warnings;

use CacheAside;
use EventReader;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my ($python) = grep { -x $_ && system("$_ -c 'import redis' 2>/dev/null") == 0 } qw(/usr/bin/python3 /usr/local/bin/python3);
plan skip_all => 'needs python3-redis' unless $python;
my ($memcached) = grep { -x $_ } qw(/usr/bin/memcached);

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.events = stream\n");
$node->safe_psql('postgres', q{CREATE TABLE book (id int PRIMARY KEY, title text);
	SELECT cache_aside.attach('book', 'book:{id}'); INSERT INTO book SELECT g, 'old' FROM generate_series(1, 9) g});
wait_delivered($node);
my $program = PostgreSQL::Test::Utils::tempdir . '/follow_all.py';
PostgreSQL::Test::Utils::append_to_file($program, <<'PYTHON');
import http.server, subprocess, sys, threading, time
import redis
import cdn, follow, local_cache, memcached

socket_path, name, memcached_port, psql = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
server = redis.Redis(unix_socket_path=socket_path)

def sql(*statements):
    for statement in statements:
        subprocess.run(psql + ['-c', statement], check=True, stdout=subprocess.DEVNULL)

def ok(what, holds):
    print(f"{what}: {'right' if holds else 'WRONG'}", flush=True)

def soon(what, holds):
    end = time.monotonic() + 30
    while time.monotonic() < end and not holds():
        time.sleep(0.01)
    ok(what, holds())

def follow_until(target, group, done):
    end = time.monotonic() + 30
    follow.follow_stream(server, name, group, target, lambda: time.monotonic() < end and not done())

# ---- a CDN
purged, broken = [], []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_PURGE(self):
        if not broken:
            purged.append(self.path)
        self.send_response(500 if broken else 200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *arguments):
        pass
front = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
threading.Thread(target=front.serve_forever, daemon=True).start()
purger = cdn.Cdn(f'http://127.0.0.1:{front.server_port}')
follow_until(purger, 'cdn', lambda: purged)
ok('a CDN: at first everything', purged[0] == '/*')
sql("UPDATE book SET title = 'new' WHERE id = 1")
follow_until(purger, 'cdn', lambda: '/book/1' in purged)
ok('... then a page', '/book/1' in purged)
broken.append(True)
sql("UPDATE book SET title = 'new' WHERE id = 2")
try:
    follow_until(purger, 'cdn', lambda: False)
    ok('... that fails', False)
except OSError:
    ok('... that fails', True)
broken.clear()
follow_until(purger, 'cdn', lambda: '/book/2' in purged)
ok('... is purged by the next one', '/book/2' in purged)
purged.clear()
sql("UPDATE book SET title = 'newer' WHERE id = 3", 'SELECT cache_aside.wait_delivered()')
server.xtrim(name, maxlen=0, approximate=False)
sql("UPDATE book SET title = 'newer' WHERE id = 4")
follow_until(purger, 'cdn', lambda: purged)
ok('... a stream that was cut: everything', purged[0] == '/*')

# ---- memcached
if memcached_port != '0':
    other = memcached.Memcached('127.0.0.1', memcached_port)
    def put(key):
        other.connection.sendall(b'set %s 0 0 1\r\nx\r\n' % key)
        other.answers.readline()
    def has(key):
        other.connection.sendall(b'get %s\r\n' % key)
        there = other.answers.readline() != b'END\r\n'
        if there:
            other.answers.readline(), other.answers.readline()
        return there
    put(b'left:1')
    follow_until(other, 'memcached', lambda: not has(b'left:1'))
    ok('memcached: at first everything', not has(b'left:1'))
    put(b'book:5'), put(b'other:1')
    sql("UPDATE book SET title = 'newer' WHERE id = 5", "SELECT cache_aside.invalidate('no key of memcached')")
    follow_until(other, 'memcached', lambda: not has(b'book:5'))
    ok('... then a key', not has(b'book:5') and has(b'other:1'))
    sql("TRUNCATE book", "INSERT INTO book SELECT g, 'old' FROM generate_series(1, 9) g")
    follow_until(other, 'memcached', lambda: not has(b'other:1'))
    ok('... a pattern empties it', not has(b'other:1'))

# ---- inside a process
sql("ALTER SYSTEM SET cache_aside.events = 'publish'", 'SELECT pg_reload_conf()')
told = psql + ['-At', '-c', 'SELECT events FROM cache_aside.endpoints']
while subprocess.run(told, check=True, stdout=subprocess.PIPE).stdout != b'publish\n':
    time.sleep(0.01)
cache = local_cache.LocalCache(server, name)
loads = []
def load(key):
    loads.append(key)
    return len(loads)
soon('inside a process: it hears', lambda: cache.ready)
first = cache.get(b'book:6', load)
ok('... and answers', cache.get(b'book:6', load) == first)
sql("UPDATE book SET title = 'y' WHERE id = 6")
soon('... until the row changes', lambda: b'book:6' not in cache.values)
def late(key):
    value = load(key)
    heard = cache.heard
    sql("UPDATE book SET title = 'z' WHERE id = 7")
    while cache.heard == heard:
        time.sleep(0.01)
    return value
cache.get(b'book:7', late)
ok('... what was read before an event is not kept', b'book:7' not in cache.values)
cache.get(b'book:8', load), cache.get(b'shop:1', load)
sql("SELECT cache_aside.invalidate_pattern('book:[7-8]*')")
soon('... a pattern', lambda: b'book:8' not in cache.values and b'shop:1' in cache.values)
server.client_kill_filter(_type='pubsub')
soon('... a lost connection empties it', lambda: b'shop:1' not in cache.values)
soon('... and it hears again', lambda: cache.ready)
PYTHON
my $port = 0;
my $pid;
if ($memcached)
{
	$port = RedisServer::free_port();
	$pid = fork // die "fork: $!";
	if (!$pid)
	{
		exec $memcached, '-l', '127.0.0.1', '-p', $port, '-U', 0, '-m', 8, ($> == 0 ? ('-u', 'root') : ());
	}
	ok(wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }), 'memcached');
}
local $ENV{PYTHONPATH} = 'examples/events';
local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
my ($out, $err) = run_command([ $python, $program, $redis->socket, EventReader::name($node), $port,
	'psql', '-X', '-q', '-h', $node->host, '-p', $node->port, '-d', 'postgres' ]);
if ($pid) { kill 'TERM', $pid; waitpid $pid, 0; }
is($err, '', 'no error');
foreach my $line (split /\n/, $out)
{
	my ($name, $verdict) = $line =~ /(.*): (.*)/;
	is($verdict, 'right', $name);
}
is(scalar(split /\n/, $out), $memcached ? 15 : 12, 'all of it ran');
done_testing();
