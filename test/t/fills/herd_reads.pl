# Many readers of one hot key: at most one read of the database for each invalidation, also when the key is invalidated
# again before the fill, which is refused then: that reader's lease is taken away with the invalidation, so nobody
# waits for it, and its refusal does not let eight in at once. But a key that is invalidated faster than it can be
# read does not hold its readers up.
#
# Remedies: take_leases() in library/leases.lua, called by raise_buckets() in guard.lua (without, the others wait for a
# read that is of no use, and then eight read); `held[4] >= LOST` there (without, one after the other, for ever).
use strict;
use warnings;

use CacheAside;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
plan(skip_all => 'no guarded fills in this Redis') if (RedisServer->version)[0] < 7;
my $node = CacheAside->new_node('main', redis => $redis);
my ($writer, $database) = map { PgClient->new(dir => $node->host, port => $node->port) } 1 .. 2;
$writer->query(q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0);
	SELECT cache_aside.attach('t', 't:{id}'); SET cache_aside.synchronous = on; SET cache_aside.synchronous_timeout = '60 s'});
ok($node->poll_query_until('postgres', q{SELECT cache_aside.fill('probe', 'v')}), 'fills are admitted');
my ($invalidations, $reads) = (0, 0);

# Delivered when it returns
sub invalidate { $invalidations++; return $writer->query('UPDATE t SET v = v + 1'); }

# Thirty readers miss: the leases that they get, in order; '' lets one in without. Each that gets one reads the database.
sub rush { return map { @$_ } grep { ref } map { $redis->command('FCALL', 'cache_aside_get', 1, 't:1', 20000) } 1 .. 30; }

# -> value, token, and the lease to fill with
sub read_row
{
	my ($lease) = @_;
	$reads++;
	return (@{ ($database->query('SELECT v, cache_aside.read_token() FROM t'))[0] }, $lease);
}

sub fill
{
	my ($value, $token, $lease) = @_;
	return $redis->command('FCALL', 'cache_aside_fill', 1, 't:1', $value, 60000, $token, $lease);
}

sub hits
{
	my ($name) = @_;
	is($redis->command('FCALL', 'cache_aside_get', 1, 't:1', 20000), $writer->value('SELECT v FROM t'), "$name: all find the row");
	return;
}

foreach my $round (1 .. 5)
{
	invalidate();
	my @leases = rush();
	is(scalar @leases, 1, "round $round: one of thirty has the lease");
	is(fill(read_row($leases[0])), 1, '... and stores');
	hits('then');

	invalidate();
	my @late = read_row(rush());
	invalidate();
	@leases = rush();
	is(scalar @leases, 1, 'invalidated while it was read: one more, at once');
	is(fill(@late), 0, '... the first is refused');
	is(scalar(rush()), 0, '... which lets nobody in');
	is(fill(read_row($leases[0])), 1, '... the second stores');
	hits('then');

	invalidate();
	@late = read_row(rush());
	invalidate();
	is(fill(@late), 0, 'refused before anybody has missed it again');
	@leases = rush();
	is(scalar @leases, 1, '... one of thirty');
	is(fill(read_row($leases[0])), 1, '... stores');
}
cmp_ok($reads, '<=', $invalidations, "$reads reads for $invalidations invalidations");

# ---- invalidated faster than it is read
sub lets_in
{
	invalidate();
	my @leases = rush();
	return $leases[0] eq '' ? 'everybody' : scalar @leases;
}
is(join(' ', map { lets_in() } 1 .. 13), '1 1 1 1 1 1 8 8 8 8 8 8 everybody', 'then eight, then everybody');
is(lets_in(), 'everybody', '... which an invalidation does not end');
is(fill(read_row('')), 1, 'a fill that is stored does');
is(lets_in(), 1, '... one again');
done_testing();
