# A standby that delivers to a Redis of its own is restarted, and begins again behind what it had
# delivered: until it has replayed that, it admits no fill and gives no token. Here the position in its
# Redis is moved ahead by hand, which is the same from where the worker stands.
#
# Fails without ca_wal_ends_before() in ca_round_read() (round.c): the guard is made with a floor below what was
# delivered; and without it in token_timeline(): tokens vouch for log that is not replayed.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my ($redis, $region) = map { RedisServer->new(name => $_)->start } 'main', 'region';
my $primary = CacheAside->new_node('primary', redis => $redis);
make_users($primary, 10);
my $standby = CacheAside->new_standby('standby', $primary, redis => $region,
	conf => "cache_aside.delivery = always\n");
wait_delivering($standby);

sub admitted { return $standby->safe_psql('postgres', q{SELECT cache_aside.fill('probe', 'v')}) eq 't'; }

sub token { return $standby->safe_psql('postgres', 'SELECT cache_aside.read_token()'); }

ok(wait_until(\&admitted), 'the standby admits fills');
my $position_key = position_key($standby);
$standby->stop;
my @position = split / /, $region->get($position_key);
$primary->safe_psql('postgres', 'UPDATE users SET v = v + 1');
my $ahead = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$region->set($position_key, join ' ', $position[0], $ahead, $ahead, @position[ 3 .. $#position ]);
$region->save->restart;    # so that its guard has to be made anew
$primary->stop;

$standby->start;
ok( wait_until(sub { (split / /, $region->get($position_key))[3] > $position[3] }),
	'behind what it delivered: a session runs, and writes its position');
is(status($standby, 'state'), 'catching up', 'it is catching up');
is(token(), '', 'there is no token');
is(scalar(() = $region->keys('cache_aside:guard:*')), 0, 'and no guard');
ok(!admitted(), 'fills are refused');

$primary->start;
fill_log($primary, 3);
$primary->wait_for_catchup('standby', 'replay', $primary->lsn('insert'));
ok(wait_until(\&admitted), 'it has replayed it: fills are admitted');
my (undef, undef, $lsn) = split /-/, token();
is($primary->safe_psql('postgres', "SELECT '$lsn'::pg_lsn >= '$ahead'::pg_lsn"), 't', 'with tokens from there');

$_->stop foreach $standby, $primary;
done_testing();
