# Whose is a Redis: what the library decides about a newcomer of the same system, and about another system
# that writes the same keys. The rules are those of test/model (newcomer_waits, foreign_*).
#
# Remedies, in src/delivery/library: is_stranger_silent() in is_occupied(), either way; RESTART in may_write(); is_occupied(), mine.displaced, mark_pending() in claim(); `asks` in is_silent();
# mark_writers() in apply() and epoch(); `heard` in renew(); write_header() in mark_writers();
# floor_anew(); take_prefixes(). The test fails without each.
use strict;
use warnings;

use HandWorker;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $holder = HandWorker->new($redis);
my $clone = HandWorker->new($redis, timeline => 2);
my $position = $holder->position_key;

sub claims { my ($worker, $name, %args) = @_; return is(ref $worker->claim(%args), 'ARRAY', $name); }
sub refused { my ($worker, $name, %args) = @_; return like($worker->claim(%args), qr/^CA_OCCUPIED/, $name); }
sub lives { my ($worker) = @_; return $worker->renew($worker->now + 5000); }

# ---- a process that knows of no claim: who delivered before it started may come back for ten seconds
my $young = RedisServer->new->start;
my ($gone, $heir) = map { HandWorker->new($young, timeline => $_, system => 5) } 1, 2;
my ($owner, $returned) = map { HandWorker->new($young, timeline => $_, system => 6, prefix => '66666666') } 1, 2;
foreach my $worker ($gone, $owner)
{
	claims($worker, 'one delivers');
	$worker->apply('0/100', 'k');
}
$young->command('FUNCTION', 'FLUSH');
$heir->load;
my $first_asked = $heir->now;
like($_->claim, qr/^CA_OCCUPIED.* may come back/, 'a newer timeline, not announced') foreach ($heir, $returned) x 6;
claims($owner, 'the one that has returned is taken at once');
like($returned->claim, qr/^CA_OCCUPIED.* lives/, 'and it lives');

# ---- one system: a newer timeline
claims($holder, 'the first');
$holder->arm('0/100');
$holder->apply('0/200', 'k');
refused($clone, 'a newer timeline, not announced') foreach 1 .. 3;
is(lives($holder)->[2], 3, 'the holder hears of it');
$clone->announce(2);
refused($clone, 'announced, but it streamed another timeline');
$redis->del($clone->standby_key);
is($holder->fill('k', 'v', '0/200'), 1, 'nobody disarmed the holder');
lives($holder);
my $begun = $holder->now;
refused($clone, 'silent for a moment') foreach 1 .. 5;
lives($holder);
$begun = $holder->now;
$redis->wait_until(sub { $holder->now - $begun > 5100 }) or die 'time stands still';
refused($clone, 'a clock that says that the holder was silent is not enough') foreach 1 .. 3;
claims($clone, 'when it is found so again and again, it is gone');
like($holder->apply('0/300', 'k'), qr/^CA_NONCE/, 'the holder wakes');
like($holder->claim, qr/^CA_FENCED|^CA_OCCUPIED/, 'too late');
$clone->apply('0/280', 'k');
like($holder->claim, qr/^CA_FENCED/, 'fenced, when the other has written');
claims($holder, 'adopted', force => 1);
is($redis->get($position), undef, 'what the other has written is gone');
refused($clone, 'which is refused now');
$holder->{position} = '';
$holder->arm('0/300');
is(ref $holder->apply('0/310', 'k'), 'ARRAY', 'and the holder delivers');

# ---- questions that come in a burst, and a clock that jumps
my $fast = HandWorker->new($redis, timeline => 3);
refused($fast, 'asked again at once') foreach 1 .. 6;
lives($holder);

# ---- the same timeline: a copied volume
my $copy = HandWorker->new($redis);
refused($copy, 'a copy that knows no nonce');
my $nonce = $holder->{nonce};
claims($copy, 'a copy that has the file', previous => $nonce);
like(lives($holder), qr/^CA_NONCE/, 'displaces the holder');
claims($holder, 'which has it back, for it lives');
refused($copy, 'and the copy not again') foreach 1 .. 2;
my $restarted = HandWorker->new($redis);
claims($restarted, 'the holder after a restart is known by its nonce', previous => $holder->{nonce});
$holder = $restarted;
is($holder->disarm->[0], 1, 'it gives up');
claims($copy, 'then the next one waits for nobody');
$redis->flushall;

# ---- two systems
my $blue = HandWorker->new($redis, system => 11, prefix => 'ab');
my $green = HandWorker->new($redis, system => 12, prefix => 'ab');
is($blue->claim->[8], 1, 'the first system writes');
$blue->arm('0/100');
is($green->claim->[8], 0, 'the other is second');
is($green->arm('0/100'), 0, 'nothing is armed for it');
is($green->fill('k', 'v', '0/100'), 0, 'its tokens are refused');
$redis->mset(k => 'v', l => 'v');
is_deeply($green->apply('0/110', 'k'), [ 1, 0, 0 ], 'it deletes');
is($blue->fill('k', 'old', '0/200'), 0, 'what it deleted the writer cannot fill');
is($blue->fill('l', 'v', '0/200'), 1, 'other keys it can');
my $seen = lives($blue)->[3];
is($seen, 1, 'the writer hears of it');
is($blue->fill('k', 'old', '0/200'), 0, 'which is not enough');
$blue->renew($blue->now + 5000, 0, '0/0');
is($blue->fill('k', 'old', '0/200'), 0, 'nor is a renewal of before');
$green->apply('0/120', 'k2');
$blue->renew($blue->now + 5000, $seen, '0/201');
is($blue->fill('k', 'old', '0/201'), 0, 'nor while there is more to hear of');
$blue->renew($blue->now + 5000, 2, '0/201');
is($blue->fill('k', 'old', '0/200'), 0, 'a token of before is refused for good');
is($blue->fill('k', 'new', '0/201'), 1, 'a later one admitted');
is($blue->fill('m', 'v', '0/200'), 1, 'and any for other keys');
$blue->claim;
is($blue->arm('0/201'), 1, 'claimed again, with the guard as it was');
is($blue->fill('k', 'old', '0/200'), 0, 'the bucket stays');
$green->apply('0/128', 'k3');
$blue->claim;
$blue->arm('0/201');
is($blue->fill('k3', 'old', '0/FFF'), 0, 'and so does a mark');
$blue->renew($blue->now + 5000, 3, '0/201');

my $dump = $redis->command('DUMP', $blue->guard_key);
$green->apply('0/130', 'k');
$redis->command('RESTORE', $blue->guard_key, 0, $dump, 'REPLACE');
is($blue->fill('l', 'v', '0/300'), 0, 'each foreign deletion makes the guard another');
lives($blue);
is($blue->arm('0/300'), 2, 'made anew');
$blue->renew($blue->now + 5000, 4, '0/301');
is($blue->fill('l', 'v', '0/300'), 0, 'above the end of the log');
is($blue->fill('l', 'v', '0/301'), 1, 'by one');
is($green->epoch('0/140', 1), 1, 'patterns of the second, or many keys');
is($blue->fill('unrelated', 'v', '0/FFF'), 0, 'hold up every fill');
$blue->renew($blue->now + 5000, 5, '0/400');
is($blue->fill('unrelated', 'v', '0/3FF'), 0, 'of tokens of before');
is($blue->fill('unrelated', 'v', '0/400'), 1, 'until it was heard of');

# ---- the switch
$green->apply('0/141', 'k');
like($green->{position}, qr/ ok /, 'a position that says that all is well');
is($green->claim(force => 1)->[8], 2, 'adopted');
like($green->{position}, qr/^1 \S+ \S+ \d+ pending/, 'a resync is due');
is($blue->fill('unrelated', 'v', '0/FFF'), 0, "the writer's tokens are refused from here on");
like($blue->apply('0/500', 'k'), qr/^CA_NONCE/, 'and it has to claim again');
is($blue->claim->[8], 0, 'to be second');
is($green->arm('0/200'), 2, 'the other is armed');
is($green->fill('unrelated', 'v', '0/1FF'), 0, 'at the end of its log');
is($green->fill('unrelated', 'v', '0/200'), 1, 'and fills');
$begun = $blue->now;
$redis->wait_until(sub { $blue->now - $begun > 5100 }) or die 'time stands still';
is($blue->renew($blue->now)->[4], 0, 'a writer that is silent for seconds may just restart') foreach 1 .. 6;
is($green->disarm->[0], 1, 'it gives up');
is($blue->renew($blue->now)->[4], 2, 'and the second may take over at once');
is($blue->claim->[8], 2, 'by claiming again');
$redis->wait_until(sub { $heir->now - $first_asked > 10_000 }) or die 'time stands still';
claims($heir, 'ten seconds later nobody has come back to the other Redis: the newer timeline is taken there');
$redis->flushall;
$redis->command('FUNCTION', 'FLUSH');
$green->load;
$green->{position} = $blue->{position} = '';
is($green->claim(force => 2)->[8], 0, 'a Redis that lost everything: who was second waits for the writer');
is($blue->claim->[8], 1, 'which comes');
done_testing();
