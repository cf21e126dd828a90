# route() with a primary and two real streaming standbys: per replica, on what was replayed.
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $primary = CacheAside->new_node('primary', redis => $redis, conf => "autovacuum = off\n");
my %standby = map {
	$_ => CacheAside->new_standby($_, $primary,
		conf => "cluster_name = '$_'\ncache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n")
} qw(near far);
my $c = PgWire->new($primary);

sub route
{
	my ($args) = @_;
	my ($row) = @{ $c->query("SELECT role, name, conninfo, lsn, reason FROM cache_aside.route($args)")->{rows} };
	my %route;
	@route{qw(role name conninfo lsn reason)} = @$row;
	return \%route;
}

sub write_row
{
	$c->query('INSERT INTO t DEFAULT VALUES');
	return $c->value('SELECT cache_aside.commit_lsn()');
}

# Both have replayed it, and the primary knows.
sub settled
{
	my ($token, @names) = @_;
	foreach my $name (@names)
	{
		$primary->poll_query_until('postgres',
			"SELECT replayed >= '$token' FROM cache_aside.replica_status WHERE name = '$name'")
		  or die "$name did not report $token";
	}
	return;
}

sub chosen
{
	my ($args, $times) = @_;
	my %count;
	my $rows = $c->query('SELECT coalesce((r).name, (r).role), count(*) FROM'
		  . " (SELECT cache_aside.route($args) AS r FROM generate_series(1, $times)) s GROUP BY 1")->{rows};
	$count{ $_->[0] } = $_->[1] foreach @$rows;
	return \%count;
}

$c->query('CREATE TABLE t (id serial)');
$c->query(q{SELECT cache_aside.add_replica('near', 'host=near', 'east', 3),
	cache_aside.add_replica('far', 'host=far', 'west', 1)});
settled(write_row(), qw(near far));

# Shares follow the weights: chi-square with one degree of freedom, 10.83 is one in a thousand.
my $n = 40_000;
my $seen = chosen('after => NULL', $n);
my $chi = 0;
foreach ([ near => 0.75 ], [ far => 0.25 ])
{
	my ($name, $share) = @$_;
	$chi += ($seen->{$name} - $n * $share)**2 / ($n * $share);
}
note sprintf 'near %d, far %d of %d: chi-square %.2f', $seen->{near}, $seen->{far}, $n, $chi;
cmp_ok($chi, '<', 10.83, 'weights decide');

is_deeply(chosen(q{region => 'west'}, 100), { far => 100 }, 'own region first');
is(route(q{region => 'south'})->{reason}, 'none is eligible in the region', 'no such region: elsewhere');
is(route(q{region => 'west'})->{conninfo}, 'host=far', 'with its connection string');
$c->query(q{SELECT cache_aside.set_replica('near', weight => 0)});
is_deeply(chosen('', 100), { far => 100 }, 'weight 0: never');
$c->query(q{SELECT cache_aside.set_replica('near', weight => 3)});

# One standby does not replay: it is out for newer tokens, and only for those.
my $old = write_row();
settled($old, qw(near far));
$standby{near}->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$standby{near}->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
my $new = write_row();
settled($new, 'far');
$standby{near}->poll_query_until('postgres', "SELECT pg_last_wal_receive_lsn() >= '$new'");
is_deeply(chosen("after => '$new'", 200), { far => 200 }, 'received is not replayed');
my $both = chosen("after => '$old'", 200);
is($both->{near} + $both->{far}, 200, 'an older token: both');
cmp_ok($both->{near}, '>', 0, '... the lagging one too');
is_deeply(chosen("after => '$new', region => 'east'", 50), { far => 50 },
	'own region has not replayed: another region');
ok($primary->poll_query_until('postgres',
		q{SELECT lag > '300 ms' AND lag_bytes > 0 FROM cache_aside.replica_status WHERE name = 'near'}),
	'its lag grows while it stands still');
is_deeply(chosen(q{max_lag => '200 ms'}, 50), { far => 50 }, 'max_lag keeps it out');
is(chosen(q{max_lag => '1 hour'}, 200)->{far} < 200, 1, 'a larger one does not');

# Nobody has it: the primary.
$standby{far}->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$standby{far}->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
$new = write_row();
is(route("'$new'")->{role}, 'primary', 'nobody has replayed the token');
$standby{$_}->safe_psql('postgres', 'SELECT pg_wal_replay_resume()') foreach qw(near far);
# A standby that only replays would report it after ten seconds; its worker makes it report at once.
ok(wait_until(sub { route("'$new'")->{role} eq 'replica' }, 4), '... until somebody has, and that is known at once');
settled($new, qw(near far));

# An idle primary is not lag, however long nothing was written.
$c->query('SELECT pg_switch_wal()');
settled(write_row(), qw(near far));
ok($primary->poll_query_until('postgres',
		q{SELECT bool_and(lag = '0' AND lag_bytes = 0) FROM cache_aside.replica_status}),
	'idle: no lag');
is(route(q{max_lag => '0'})->{role}, 'replica', 'idle: eligible with no lag allowed');

# Far in the future: clamped, at once.
my $future = route(q{'FFFFFFFF/FFFFFFFF'});
is($future->{role}, 'primary', 'a token far in the future');
is($future->{reason}, q{the token is ahead of this server's log}, '... said so');

# On a standby.
my $there = PgWire->new($standby{near});
my $row = $there->query("SELECT role, name, reason FROM cache_aside.route('$new')")->{rows}[0];
is("@$row", 'replica near this standby', 'a standby answers for itself');
is($there->value(q{SELECT role FROM cache_aside.route('FFFFFFFF/0')}),
	'primary', '... and sends on what it has not replayed');

# Removed between choice and use: the choice stands as a hint, the next one differs.
my $route = route(q{region => 'east'});
is($route->{name}, 'near', 'chosen');
PgWire->new($primary)->query(q{SELECT cache_aside.remove_replica('near')});
is_deeply(chosen(q{region => 'east'}, 50), { far => 50 }, 'removed by another session: not chosen again');

# Stopped: the primary, and it is a replica again when it is back.
$standby{far}->stop;
ok($primary->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_replication WHERE application_name = 'far'}),
	'far is gone');
ok($primary->poll_query_until('postgres', q{SELECT role = 'primary' FROM cache_aside.route()}),
	'stopped: the primary');
$standby{far}->start;
ok($primary->poll_query_until('postgres', q{SELECT role = 'replica' FROM cache_aside.route()}),
	're-attached: chosen again');

# Promotion: the old primary's tokens mean nothing beyond the fork, and those below it still do.
my $before = write_row();
settled($before, 'far');
$primary->stop;
$standby{far}->promote;
$c = PgWire->new($standby{far});
is(route("'$before'")->{role}, 'primary', 'the new primary answers');
$standby{near}->enable_streaming($standby{far});
$standby{near}->reload;
$c->query(q{SELECT cache_aside.add_replica('near', 'host=near')});
my $token = write_row();
ok($standby{far}->poll_query_until('postgres',
		"SELECT name = 'near' FROM cache_aside.route('$token') WHERE role = 'replica'"),
	'the other standby follows and is chosen');
is(route("'$before'")->{name}, 'near', '... also for the token from before');

done_testing();
