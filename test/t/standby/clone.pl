# Last night's backup is restored with the same settings, which lead to the same Redis, and recovery ends on
# a newer timeline. Production goes on, the clone is refused, and an operator can decide otherwise, and back.
# A standby that streams is another matter: promoted, it takes over at once, though the old primary lives.
#
# Remedies: is_occupied() in library/contest.lua (without: production is fenced); be_refused() in session.c;
# ca_contest_renewed() in contest.c (the holder says nothing); resume_adopted() in resume.c (adopted, fenced all the
# same); the table in trouble.c (what status and committers are told); ca_announce_step() in follow.c.
use strict;
use warnings;

use CacheAside;
use Check;
use Faults;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $production = CacheAside->new_node('production', redis => $redis);
make_users($production, 100);
wait_delivered($production);
my $began = log_position($production);
my $clone = CacheAside->new_standby('clone', $production, redis => $redis, init => { has_streaming => 1 });
$clone->promote;

sub delivers
{
	my ($node, $what) = @_;
	cache_users($redis, 1);
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
	ok(keys_gone($redis, 'user:1'), "$what delivers");
	return ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT cache_aside.fill('user:2', 'v')}) eq 't' }),
		'... and its fills are admitted');
}

# What a synchronous committer is told.
sub told
{
	my ($node) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		'SET cache_aside.synchronous = on; UPDATE users SET v = v + 1 WHERE id = 3');
	return $err;
}

sub lines { my ($node, $text) = @_; return scalar(() = log_since($node) =~ /$text/g); }

# ---- refused
ok(status_is($clone, 'state', 'refused'), 'the clone is refused');
like((finding($clone, qr/^refused since /))[3], qr/^SELECT cache_aside\.adopt\(\); -- if this is the right server/, 'in check()');
delivers($production, 'production');
is(status($production, "state || ' ' || coalesce(trouble, '')"), 'delivering ', 'nothing happened to it');
is(told($production), '', 'and its committers wait for the deletion');
like(status($clone, 'last_error'), qr/timeline 1 delivers here and lives/, 'the clone says why');
ok(status_is($clone, "trouble || ', ' || redis_state", 'refused, not connected'), 'in status');
like(told($clone), qr/this server is refused: another one, which lives, delivers/, 'to its committers');
ok(wait_until(sub { log_since($production, $began) =~ /refused another server of this system/ }), 'production says so, too');
my $asked = status($clone, 'reconnects');
ok(wait_until(sub { status($clone, 'reconnects') > $asked + 2 }), 'the clone asks again');
is(lines($clone, 'CA_OCCUPIED'), 1, 'one line in its log');
like(log_since($clone), qr/CA_OCCUPIED.*?HINT:[^\n]*adopt\(\)/s, 'with a hint');
is(lines($production, 'refused another server'), 1, 'one in that of production');

# ---- an operator decides
$production->safe_psql('postgres', 'CREATE ROLE someone');
my (undef, undef, $error) = $clone->psql('postgres', 'SET ROLE pg_monitor; SELECT cache_aside.adopt()');
like($error, qr/permission denied/, 'not anybody');
$production->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION cache_aside.adopt() TO someone; GRANT USAGE ON SCHEMA cache_aside TO someone');
(undef, undef, $error) = $production->psql('postgres', 'SET ROLE someone; SELECT cache_aside.adopt()');
like($error, qr/only a superuser/, 'not by GRANT either');
$clone->safe_psql('postgres', 'SELECT cache_aside.adopt()');
ok(status_is($clone, 'state', 'delivering'), 'adopted by the clone');
delivers($clone, 'the clone');
ok(wait_until(sub { status($production, "state || ' ' || trouble") eq 'fenced fenced' }), 'production is fenced');
like(told($production), qr/this server is fenced/, 'and tells its committers');
like(log_since($production, $began), qr/CA_FENCED|newer timeline.*?HINT:[^\n]*adopt\(\)/s, 'and the log');
cache_users($redis, 1 .. 100);
$production->safe_psql('postgres', 'SELECT cache_aside.adopt()');
ok(status_is($production, 'state', 'delivering'), 'adopted back');
ok(keys_gone($redis, user_keys(1 .. 100)), 'what the clone may have left is deleted');
delivers($production, 'production');
ok(status_is($clone, 'state', 'refused'), 'the clone is refused again');

# ---- who was refused takes over when the holder is gone
$production->stop('immediate');
ok(status_is($clone, 'state', 'delivering'), 'production died: the clone delivers');
$clone->stop;
$redis->flushall;
$redis->command('FUNCTION', 'FLUSH');
$production->start;
ok(status_is($production, 'state', 'delivering'), 'production is back');

# ---- a successor
my $standby = CacheAside->new_standby('standby', $production, redis => $redis);
ok(wait_announced($redis), 'a standby that streams says so');
$standby->promote;
ok(status_is($standby, 'state', 'delivering'), 'promoted, it takes over');
unlike(log_since($standby), qr/CA_OCCUPIED/, 'at once, though the old primary lives');
delivers($standby, 'the new primary');
ok(wait_until(sub { status($production, 'state') eq 'fenced' }), 'the old one is fenced');
$_->stop foreach $standby, $production;
done_testing();
