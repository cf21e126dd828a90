# Two systems, one Redis, the same keys, as around a blue/green switch by logical replication: both delete, the
# tokens of one are admitted, and none that was given before the other's deletion. The switch is adopt(),
# or happens by itself when the old system is switched off, or is silent for long.
#
# Remedies: mark_writers() in library/writer.lua (blue's old value is stored); `role` in claim() (tokens of both);
# ca_arming_heard() in arming.c (blue's keys stay refused for ever); CA_ROLE_TAKEN in resume.c (no
# reason is said; together with mark_pending() in library/handshake.lua: no resync at the switch); claim_again in
# contest.c (green never takes over).
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my ($blue, $green) = map { CacheAside->new_node($_, redis => $redis, conf => "wal_level = logical\n") } 'blue', 'green';
make_users($blue, 100);
$green->safe_psql('postgres', $_) foreach
  'CREATE TABLE users (id int PRIMARY KEY, v int)',
  q{SELECT cache_aside.attach('users', 'user:{id}')};
$blue->safe_psql('postgres', 'CREATE PUBLICATION pub FOR TABLE users (id, v)');
my $from = $blue->connstr('postgres') =~ s/'/''/gr;
$green->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '$from' PUBLICATION pub");
$green->poll_query_until('postgres', 'SELECT count(*) = 100 FROM users') or die 'no initial copy';
wait_delivered($_) foreach $blue, $green;

sub token { return $_[0]->safe_psql('postgres', 'SELECT cache_aside.read_token()'); }
sub fill { my ($key, $token) = @_; return $redis->command('FCALL', 'cache_aside_fill', 1, $key, 'v', 60_000, $token); }
sub fills { my ($node, $key) = @_; return wait_until(sub { fill($key, token($node)) }); }

# ---- before the switch
is(status($green, "state || ' ' || trouble"), 'delivering second', 'green delivers, and is second');
ok(fills($blue, 'user:1'), 'fills of blue are admitted');
is(fill('user:2', token($green)), 0, 'those of green are not');
my $old = token($blue);
cache_users($redis, 1);
$green->safe_psql('postgres', 'ALTER SUBSCRIPTION sub DISABLE');
$green->safe_psql('postgres', 'UPDATE users SET v = 7 WHERE id = 1');
wait_delivered($green);
is($redis->exists('user:1'), 0, 'what green writes is deleted');
is(fill('user:1', $old), 0, "blue's token of before is refused");
ok(wait_until(sub { log_since($blue) =~ /another PostgreSQL system deletes the same keys/ }), 'blue says what it knows');
is(fill('user:1', $old), 0, 'still refused');
$blue->safe_psql('postgres', 'UPDATE users SET v = v WHERE id = 50');
ok(fills($blue, 'user:1'), 'a later one is admitted');
is(fill('user:1', $old), 0, 'the old one never');
is(fill('user:3', $old), 1, 'for other keys it is');

# ---- the switch by hand, with blue alive
cache_users($redis, 1 .. 100);
$green->safe_psql('postgres', 'SELECT cache_aside.adopt()');
ok(keys_gone($redis, user_keys(1 .. 100)), 'adopted by green: everything cached from blue is deleted');
like(log_since($green), qr/deletes everything.*another system's fills were admitted until now/, 'and why is said');
ok(status_is($green, 'trouble IS NULL', 't'), 'green has its fills admitted');
ok(fills($green, 'user:1'), 'indeed');
is(fill('user:4', $old), 0, "blue's tokens are refused");
ok(status_is($blue, "state || ' ' || trouble", 'delivering second'), 'blue is second');
is(fill('user:4', token($blue)), 0, 'and its new tokens are refused, too');
cache_users($redis, 1);
$blue->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 1');
ok(keys_gone($redis, 'user:1'), 'though it deletes');
my $hint = $blue->safe_psql('postgres', 'SELECT hint FROM cache_aside.status');
like($hint, qr/adopt\(\)/, 'status says what to do');

# ---- and without a call: green delivers no more, blue takes over
my $token = token($green);
cache_users($redis, 2);
reload_conf($green, 'cache_aside.delivery' => 'off');
ok(status_is($blue, 'trouble IS NULL', 't'), 'green is off: blue takes over by itself');
ok(keys_gone($redis, 'user:2'), 'after a resync');
ok(fills($blue, 'user:2'), 'its fills are admitted');
is(fill('user:5', $token), 0, "green's are not any more");
$_->stop foreach $green, $blue;
done_testing();
