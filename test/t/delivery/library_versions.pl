# Servers of two releases on one Redis, as during an upgrade: neither takes the other's library away.
#
# Remedies, in src: `older` in ca_guard_read_claim() (guard.c; not: another), without which a newer revision is
# replaced; load_beside() there, without which a server whose library finds its names taken delivers nothing;
# the protocol in the functions' names (CA_LIBRARY_CALL), without which both replace each other for ever.
use strict;
use warnings;

use CacheAside;
use Faults;
use HandWorker;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
make_users($node, 100);
wait_delivered($node);

sub loads { return ($redis->info('cmdstat_function|load') =~ /^calls=(\d+)/)[0] // 0; }
sub revision { return (join(' ', map { "@$_" } @{ $redis->command('FUNCTION', 'LIST', 'WITHCODE') }) =~ /^local REVISION = (\d+)/m)[0]; }
sub libraries { return join ' ', sort map { $_->[1] } @{ $redis->command('FUNCTION', 'LIST') }; }
sub update { my ($id) = @_; return $node->safe_psql('postgres', "UPDATE users SET v = v + 1 WHERE id = $id"); }

sub delivers
{
	my ($what) = @_;
	cache_users($redis, 1);
	update(1);
	ok(keys_gone($redis, 'user:1'), "$what: delivered");
	return ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT cache_aside.fill('user:1', 'v')}) eq 't' }),
		"$what: fills are admitted");
}

# ---- revisions of the protocol
is(libraries(), 'cache_aside', 'the library');
is(loads(), 2, 'loaded once (and once not, beside it)');
foreach my $revision (99, 0)
{
	$redis->command('FUNCTION', 'LOAD', 'REPLACE', HandWorker::library(revision => $revision));
	delivers("revision $revision");
	is(revision(), $revision || HandWorker::revision(), 'a newer one stays, an older one is replaced');
}

# ---- another protocol, which takes the library away: once
my $other = HandWorker->new($redis, system => '42', protocol => 7);
foreach my $first (0, 1)
{
	my $what = $first ? 'another release was first' : 'another release takes over';
	if ($first)
	{
		$node->stop;
		$redis->command('FUNCTION', 'FLUSH');
	}
	$other->load;
	$node->start if $first;
	$other->{position} = $redis->get($other->position_key) // '';
	ok(ref $other->claim, "$what: its claim");
	is($other->arm('0/100'), 2, "$what: armed");
	$redis->command('CONFIG', 'RESETSTAT');
	delivers($what);
	is(libraries(), 'cache_aside cache_aside_1', "$what: both are there");
	my $loads = loads();
	foreach my $round (1 .. 5)
	{
		$redis->mset('other:1' => 'v');
		ok(ref $other->apply("0/20$round", 'other:1') && !$redis->exists('other:1'), "$what: it delivers") or last;
		is($other->fill('other:1', 'v', "0/20$round"), 1, "$what: its fills are admitted");
		update(1);
	}
	delivers("$what, later");
	is(loads(), $loads, "$what: nobody loads any more");
	my $token = $node->safe_psql('postgres', 'SELECT cache_aside.read_token()');
	is($redis->command('FCALL', 'cache_aside_fill', 1, 'user:2', 'v', 1000, $token),
		0, "$what: the plain name is the other's, which knows no claim of ours");
	is($redis->command('FCALL', 'cache_aside_fill_1', 1, 'user:2', 'v', 1000, $token), 1, "$what: the numbered one is ours");
}

# ---- the upgrade is over: both are deleted, ours returns
$redis->command('FUNCTION', 'DELETE', $_) foreach 'cache_aside', 'cache_aside_1';
delivers('the other is gone');
is(libraries(), 'cache_aside', 'ours has the plain names again');
my $token = $node->safe_psql('postgres', 'SELECT cache_aside.read_token()');
is($redis->command('FCALL', 'cache_aside_fill', 1, 'user:2', 'v', 1000, $token), 1, 'for the applications');

# A revision of the library beside another's is replaced there.
$other->load;
delivers('beside');
my $older = HandWorker::library(revision => 0) =~ s/name=cache_aside/name=cache_aside_1/r =~ s/^-- plain names.*//msr;
$redis->command('FUNCTION', 'LOAD', 'REPLACE', $older);
delivers('an older one beside');
is(libraries(), 'cache_aside cache_aside_1', 'replaced');
$node->stop;
done_testing();
