# A Redis without functions (before 7): there is no claim to renew. The holder writes its position each two
# seconds, with and without news, and a clone that sees it change is refused; a standby that streams takes over
# at once; a silent holder is replaced; adopt() works against a newer timeline.
#
# Remedies: is_plainly_occupied() in handshake.c (the clone takes over); LIVES_MS in ca_ledger_due()
# (ledger.c: it does when production is idle); handle_announcement() in handshake.c (the standby is refused);
# resume_adopted() in resume.c (production stays fenced).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(conf => RedisServer::no_functions())->start;
my $production = CacheAside->new_node('production', redis => $redis);
make_users($production, 10);
wait_delivered($production);

sub delivers
{
	my ($node, $what) = @_;
	cache_users($redis, 1);
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
	return ok(keys_gone($redis, 'user:1'), "$what delivers");
}

my $clone = CacheAside->new_standby('clone', $production, redis => $redis);
$clone->promote;
ok(status_is($clone, 'state', 'refused'), 'the clone is refused');
my ($position, $asked) = (position_of($redis, $production), status($clone, 'reconnects'));
ok(wait_until(sub { position_of($redis, $production) ne $position }), 'an idle holder writes its position');
ok(wait_until(sub { status($clone, 'reconnects') > $asked + 7 }), 'the clone watches for longer than it would have to');
is(status($clone, "state || ' ' || trouble"), 'refused refused', 'and is refused still');
delivers($production, 'production');
is(status($production, 'state'), 'delivering', 'and nothing happened to it');
$clone->safe_psql('postgres', 'SELECT cache_aside.adopt()');
ok(status_is($clone, 'state', 'delivering'), 'adopted by the clone');
delivers($clone, 'the clone');
ok(wait_until(sub { status($production, 'state') eq 'fenced' }), 'production is fenced');
cache_users($redis, 1 .. 10);
$production->safe_psql('postgres', 'SELECT cache_aside.adopt()');
ok(status_is($production, 'state', 'delivering'), 'adopted back');
ok(keys_gone($redis, user_keys(1 .. 10)), 'with a resync');
ok(status_is($clone, 'state', 'refused'), 'the clone is refused again');
$clone->stop;

my $standby = CacheAside->new_standby('standby', $production, redis => $redis);
ok(wait_announced($redis), 'a standby that streams says so');
$standby->promote;
ok(status_is($standby, 'state', 'delivering'), 'promoted, it takes over');
unlike(log_since($standby), qr/was not its standby just now/, 'at once');
$_->stop('immediate') foreach $standby, $production;
done_testing();
