# Tokens do not trust the wall clock. It is set back by an hour while somebody reads: what the worker
# notes from then on must not look older than the reader's transaction, or a token selected after the row
# would vouch for it. (The step is simulated where samples take their time; readers keep theirs.)
#
# Fails with `now = wall` in next_time() (read_token.c): samples older than the last one are not taken, and
# nothing that changes is cached for an hour. With them taken (no level_gap), the old row is stored.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 5);
wait_delivered($node);
my ($reader, $c) = map { PgClient->new(dir => $node->host, port => $node->port) } 1, 2;

sub fill
{
	my ($id, $v, $token) = @_;
	return 0 unless defined $token;
	return $redis->command('FCALL', 'cache_aside_fill', 1, "user:$id", $v, 60000, $token);
}

sub admitted
{
	my ($id) = @_;
	my ($row) = $c->query("SELECT v, cache_aside.read_token() FROM users WHERE id = $id");
	return fill($id, @$row);
}

sub lsn_of { return $_[0] =~ s/.*-//r; }

ok(wait_until(sub { admitted(1) }), 'fills are admitted');
$reader->query('BEGIN');
my $v = $reader->value('SELECT v FROM users WHERE id = 1');
my $early = $reader->value('SELECT cache_aside.read_token()');

reload_conf($node, 'cache_aside.debug_point' => 'clock=skip');
foreach my $id (1, 2)
{
	$c->query("UPDATE users SET v = v + 1 WHERE id = $id");
	wait_delivered($node);
}
my $late = $reader->value('SELECT cache_aside.read_token()');
is($late, $early, 'set back: no later sample counts for a transaction that had begun');
is(fill(1, $v, $late), 0, 'and the row that was read before the change is refused');
$reader->query('COMMIT');

ok(wait_until(sub { admitted(2) }), 'set back: reads of now are stored');
my ($now) = $c->query('SELECT v, cache_aside.read_token() FROM users WHERE id = 2');
is($c->value("SELECT '" . lsn_of($now->[1]) . "'::pg_lsn <= pg_current_wal_flush_lsn()"), 't',
	'a token of now is not too high');

# The other way: the clock goes forward by an hour, to where it was.
$reader->query('BEGIN');
$v = $reader->value('SELECT v FROM users WHERE id = 3');
reload_conf($node, 'cache_aside.debug_point' => '');
$c->query('UPDATE users SET v = v + 1 WHERE id = 3');
wait_delivered($node);
is(fill(3, $v, $reader->value('SELECT cache_aside.read_token()')), 0, 'set forward: refused as well');
$reader->query('COMMIT');
ok(wait_until(sub { admitted($_) }), "and reads of now are stored, user:$_") foreach 1 .. 3;

$node->stop;
done_testing();
