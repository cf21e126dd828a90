# Two-chunk (more than 64 kB) transactions, interleaved with others. Whatever position the worker ever
# wrote, resuming from it deletes every key of a commit above its confirmed LSN, and no key of one
# below.
#
# Fails without `position->restart = Min(position->restart, open)` in ca_ledger_next() (ledger.c):
# chunks before the position are never read. Fails without `EndRecPtr <= tap->skip` in
# commit_transaction() (tap.c): what was delivered is deleted once more.
use strict;
use warnings;

use CacheAside;
use Faults;
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "autovacuum = off\n");
my $key = position_key($node);
wait_delivered($node);
my $resyncs = status($node, 'resyncs');
my @sessions = map { PgWire->new($node) } 1 .. 3;
my @commits;                           # { lsn, keys }
my @positions = $redis->get($key);

sub lsn_number
{
	my ($hi, $lo) = split m{/}, $_[0];
	return (hex($hi) << 32) + hex $lo;
}

# 100 keys of about 1 kB make two chunks; one is small.
sub keys_of
{
	my ($name, $n) = @_;
	return map { $n == 1 ? "$name:$_" : "$name:$_:" . 'x' x 1000 } 1 .. $n;
}

sub write_keys
{
	my ($session, $name, $n) = @_;
	$sessions[$session]->query("SELECT cache_aside.invalidate(VARIADIC ARRAY["
		  . join(',', map { "'$_'" } keys_of($name, $n)) . '])');
	return;
}

sub committed
{
	my ($session, $name, $n) = @_;
	push @commits,
	  {
		lsn => lsn_number($sessions[$session]->value('SELECT cache_aside.commit_lsn()')),
		keys => [ keys_of($name, $n) ]
	  };
	wait_delivered($node);
	push @positions, $redis->get($key);
	return;
}

sub prepare
{
	my ($session, $name, $n) = @_;
	$sessions[$session]->query('BEGIN');
	write_keys($session, $name, $n);
	$sessions[$session]->query("PREPARE TRANSACTION '$name'");
	wait_delivered($node);
	push @positions, $redis->get($key);
	return;
}

sub commit_prepared
{
	my ($session, $name, $n) = @_;
	$sessions[$session]->query("COMMIT PREPARED '$name'");
	return committed($session, $name, $n);
}

sub simple { write_keys(@_); return committed(@_); }

prepare(0, 'a', 100);
simple(1, 'b', 1);
prepare(1, 'c', 100);
simple(2, 'd', 100);
commit_prepared(0, 'a', 100);
simple(2, 'e', 1);
prepare(0, 'never', 100);
prepare(2, 'f', 1);
commit_prepared(1, 'c', 100);
simple(1, 'g', 100);
$sessions[0]->query(q{ROLLBACK PREPARED 'never'});
commit_prepared(2, 'f', 1);
simple(0, 'h', 1);
is(scalar(() = grep { /^1 (\S+) (?!\1 )/ } @positions), 10, 'positions with a restart LSN of its own');

my @never = keys_of('never', 100);
foreach my $position (@positions)
{
	my (undef, $confirmed, $restart) = split / /, $position;
	my @above = map { @{ $_->{keys} } } grep { $_->{lsn} > lsn_number($confirmed) } @commits;
	my @below = map { @{ $_->{keys} } } grep { $_->{lsn} <= lsn_number($confirmed) } @commits;
	$redis->mset(map { ($_ => 'x') } @above, @below, @never);
	$redis->set($key, $position);
	wait_delivered($node);
	ok( $redis->exists(@above) == 0 && $redis->exists(@below, @never) == @below + @never,
		sprintf 'from confirmed %s, restart %s: %d keys gone, %d there',
		$confirmed, $restart, scalar @above, @below + @never);
}
is(status($node, 'resyncs'), $resyncs, 'no resync');

$node->stop;
done_testing();
