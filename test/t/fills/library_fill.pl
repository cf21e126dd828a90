# What applications call: get, fill, leases, lists; and every input that must store nothing.
use strict;
use warnings;

use HandWorker;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(conf => "proto-max-bulk-len 1mb\n")->start;
my $worker = HandWorker->new($redis);

# Every key of the server with its bytes: what "nothing stored" means.
sub contents
{
	return join "\n", map { "$_ " . ($redis->command('DUMP', $_) // '') } sort $redis->keys('*'),
	  $redis->keys('cache_aside*');
}

sub stores_nothing
{
	my ($expected, $name, @call) = @_;
	my $before = contents();
	my $reply = $worker->call(@call);
	like($reply // 'nil', $expected, $name);
	ok(contents() eq $before, 'nothing stored');
	return;
}

stores_nothing(qr/^0$/, 'a Redis that no worker has claimed refuses',
	'fill', ['k'], 'v', 1000, $worker->token('FFFFFFFF/0'));
$worker->claim;
$worker->arm('0/100');

# ---- values
my $bytes = join '', map { chr } 0 .. 255;
is($worker->fill($bytes, "$bytes$bytes", '0/100', ttl => 5000), 1, 'binary key and value');
is($redis->get($bytes), "$bytes$bytes", 'stored as they are');
my $ttl = $redis->ttl($bytes);
ok($ttl > 0 && $ttl <= 5000, "with its time to live, $ttl ms");
is($worker->get($bytes), "$bytes$bytes", 'get');
is($worker->fill('empty', '', '0/100'), 1, 'an empty value');
is($worker->get('empty'), '', 'is a value');
is($worker->fill('', 'v', '0/100'), 1, 'an empty key is a key to Redis');

# ---- refusals and errors
my $good = $worker->token('0/100');
stores_nothing(qr/^0$/, 'token below the floor', 'fill', ['k'], 'v', 1000, $worker->token('0/FF'));
stores_nothing(qr/^0$/, 'token of a timeline to come', 'fill', ['k'], 'v', 1000,
	$worker->token('0/100', 2));
foreach my $garbage (
	'', 'x', '0/100', '1-0/100', "$good\n", " $good", "$good-1", '-1-1-0/100',
	'1-1-0/123456789', '1-1-123456789/0', "1-1-0/1\0", '123456789012345678901-1-0/1', '1-1-G/0',
	'x' x 10000)
{
	(my $shown = substr($garbage, 0, 30)) =~ s/[^ -~]/?/g;
	stores_nothing(qr/^CA_TOKEN /, "garbage for a token: '$shown'", 'fill', ['k'], 'v', 1000, $garbage);
}
stores_nothing(qr/^CA_TOKEN .*cluster/, 'token of another cluster',
	'fill', ['k'], 'v', 1000, '42-1-0/100');
stores_nothing(qr/^ERR .*expire/, "time to live $_", 'fill', ['k'], 'v', $_, $good)
  foreach -1, 0, '9223372036854775807';
stores_nothing(qr/^ERR .*integer/, "time to live '$_'", 'fill', ['k'], 'v', $_, $good)
  foreach 'soon', '1.5', '';
stores_nothing(qr/^CA_ARGUMENT /, 'arguments missing', 'fill', ['k'], 'v', 1000);
stores_nothing(qr/^CA_ARGUMENT /, 'too many arguments', 'fill', ['k'], 'v', 1000, $good, 'l', 'x');
stores_nothing(qr/^CA_ARGUMENT /, 'no key', 'fill', [], 'v', 1000, $good);
stores_nothing(qr/^CA_ARGUMENT /, 'two keys', 'fill', [ 'k', 'l' ], 'v', 1000, $good);
stores_nothing(qr/^CA_ARGUMENT /, 'oversized lease', 'fill', ['k'], 'v', 1000, $good, 'x' x 65);
$redis->command('RPUSH', 'list', 'a');
stores_nothing(qr/^WRONGTYPE /, 'key that holds a list', 'fill', ['list'], 'v', 1000, $good);
stores_nothing(qr/^WRONGTYPE /, 'which get reports too', 'get', ['list'], 1000);

# A value above proto-max-bulk-len ends the connection before any function sees it.
my $before = contents();
my $client = $redis->client;
ok(!eval { $client->command('FCALL', 'cache_aside_fill', 1, 'k', 'x' x 1500000, 1000, $good) },
	'a value larger than Redis accepts');
like($@, qr/invalid bulk length|connection lost/, 'is an error');
ok(contents() eq $before, 'nothing stored');

# ---- leases
my $lease = $worker->get('cold', 20000);
is(ref $lease, 'ARRAY', 'first miss: a lease');
is($worker->get('cold', 20000), undef, 'second miss: somebody is filling');
is($worker->get('cold', 0), undef, 'without interest in a lease: nil');
is($worker->fill('cold', 'v', '0/100', lease => 'of somebody else'), 1, 'fills need no lease');
$redis->del('cold');
is($worker->get('cold', 20000), undef, 'and release only their own');
is($worker->fill('cold', 'w', '0/100', lease => $lease->[0]), 1, 'fill with the lease');
$redis->del('cold');
is(ref $worker->get('cold', 20000), 'ARRAY', 'releases it');
is($worker->fill('cold', 'w', '0/100', lease => ''), 1, 'an empty lease is none');
$redis->del('cold');
is($worker->get('cold', 20000), undef, 'and releases nothing');
$lease = $worker->get('cool', 20000)->[0];
is($worker->fill('cool', 'v', '0/1', lease => $lease), 0, 'a refused fill');
isnt($worker->get('cool', 20000), undef, 'releases it as well: the next reader may try at once');
my %seen = map { $worker->get("herd:$_", 1000)->[0] => 1 } 1 .. 100;
is(scalar keys %seen, 100, 'no lease is given twice');
ok($worker->get('short', 1), 'a lease of 1 ms');
ok($redis->wait_until(sub { ref $worker->get('short', 1) }), 'ends by itself');
stores_nothing(qr/^CA_ARGUMENT /, "lease_ms '$_'", 'get', ['cold2'], $_)
  foreach -1, 60001, '1.5', 'x', '', '1e99';
stores_nothing(qr/^CA_ARGUMENT /, 'no lease_ms', 'get', ['cold2']);

# ---- lists
$redis->flushall;
$worker->{position} = '';
$worker->apply('0/180', 'b');
$worker->arm('0/180');
$worker->apply('0/200', 'b');
$redis->command('RPUSH', 'list', 'a');
my $replies = $worker->call('fill_many', [ 'a', 'b', 'list', 'c' ], 1000, $worker->token('0/180'),
	'va', 'vb', 'vl', 'vc');
is_deeply([ @$replies[ 0, 1, 3 ] ], [ 1, 0, 1 ], 'fill_many judges key by key');
like($replies->[2], qr/^WRONGTYPE /, 'and reports errors in place');
$replies = $worker->call('get_many', [ 'a', 'b', 'list', 'c', 'b' ], 1000);
is_deeply([ @$replies[ 0, 3, 4 ] ], [ 'va', 'vc', undef ], 'get_many');
is(ref $replies->[1], 'ARRAY', 'gives a lease per missing key');
like($replies->[2], qr/^WRONGTYPE /, 'and reports errors in place');
$replies = $worker->call('fill_many', [ 'b', 'd' ], 1000, $worker->token('0/200'),
	'vb', 'vd', $replies->[1][0], '');
is_deeply($replies, [ 1, 1 ], 'fill_many with leases');
$redis->del('b');
is(ref $worker->get('b', 1000), 'ARRAY', 'releases them');
stores_nothing(qr/^CA_ARGUMENT /, 'a value missing', 'fill_many', [ 'x', 'y' ], 1000, $good, 'v');
stores_nothing(qr/^CA_TOKEN /, 'garbage token', 'fill_many', ['x'], 1000, 'x', 'v');
stores_nothing(qr/^CA_ARGUMENT /, 'lease_ms missing', 'get_many', ['x']);
is_deeply($worker->call('fill_many', [], 1000, $good), [], 'an empty list');

done_testing();
