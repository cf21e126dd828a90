# What is wrong is told truly: status shows the cause as it is now, since when there has been trouble, the error
# it began with and what to do; the log has one line with SQLSTATE and HINT for each cause, however often it
# returns, and one when it is over; who does not wait for a commit hears the cause. A worker that is started anew
# in the middle repeats nothing. Also for a standby that only reads the position, and for publishing.
#
# Remedy: ca_trouble_begin, ca_trouble_over and the table in trouble.c; told and first in CaTroubleState (in
# shared memory, status.h); ca_trouble_excuse in sync.c; note_trouble in follow.c; note_answer in publish.c.
use strict;
use warnings;

use CacheAside;
use FakeRedis;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $fake = FakeRedis->new(upstream => $redis)->start;
my $node = CacheAside->new_node('main', redis => $fake, conf => <<'EOC');
log_error_verbosity = verbose
cache_aside.command_timeout = 300ms
cache_aside.synchronous_timeout = 60s
cache_aside.publish_interval = 50ms
EOC
$node->safe_psql('postgres', q{CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
	SELECT cache_aside.attach('t', 't:{id}')});
wait_delivered($node);
my $delivery = qr/^(EVALSHA|FCALL)\b.*t:1/s;
my $none = q{concat_ws(' ', trouble, trouble_since, first_error, hint)};
is(status($node, $none), '', 'nothing is wrong');

sub lines { my ($since, $what) = @_; return scalar(() = log_since($node, $since) =~ /$what/g); }
sub is_wrong { my ($what) = @_; return ok(status_is($node, 'trouble', $what), "trouble: $what"); }
sub write_row { return $node->psql('postgres', "@_ UPDATE t SET id = id"); }

my $readonly = "READONLY You can't write against a read only replica.";
my $full = "OOM command not allowed when used memory > 'maxmemory'.";

# ---- a trouble that changes its cause
my $log = log_position($node);
$fake->on($delivery, error => $readonly);
write_row('');
is_wrong('READONLY');
is(status($node, 'first_error'), $readonly, 'the first error');
like(status($node, 'hint'), qr/^Set cache_aside\.redis_url to the master/, 'what to do');
ok(status_is($node, 'redis_state', 'refuses'), 'it is reached, and refuses');
my $since = status($node, 'trouble_since');
my (undef, undef, $warned) = write_row('SET cache_aside.synchronous = on;');
like($warned, qr/not known to be deleted: Redis is a replica, and read-only/, 'who does not wait is told the cause');
$fake->instead($delivery, error => $full);
is_wrong('OOM');
is(status($node, 'first_error'), $readonly, 'the first error stays');
is(status($node, 'last_error'), $full, 'the last one is the current one');
$fake->instead($delivery, error => $readonly);
is_wrong('READONLY');

my $pid = worker_pid($node);
kill TERM => $pid;
wait_worker($node, $pid);
is(status($node, q{concat_ws(' ', trouble, trouble_since)}), "READONLY $since", 'a new worker knows it');
ok(wait_until(sub { status($node, 'retries') > 4 }), 'it goes on trying');
is_wrong('READONLY');
is(lines($log, 'cannot deliver to Redis'), 2, 'one line for each cause');
like(log_since($node, $log), qr/LOG:  25006: cache_aside cannot deliver to Redis at \S+: \Q$readonly\E.*?DETAIL: .*?HINT:  Set/s,
	'with SQLSTATE, DETAIL and HINT');
is(lines($log, 'delivers to Redis'), 0, 'it is not over');
$fake->clear;
wait_delivered($node);
ok(status_is($node, $none, ''), 'over: nothing is wrong');
is(lines($log, 'delivers to Redis at \S+ again'), 1, 'which is said once');
is(status($node, 'last_error'), $readonly, 'last_error stays');

# ---- each cause
my %named = (
	"NOPERM this user has no permissions to run the 'fcall' command" => [ 'NOPERM', 42501, 'ACL SETUSER' ],
	'PING was refused: LOADING Redis is loading' => [ 'LOADING', '57P03', 'has read its data' ],
	'NOAUTH Authentication required.' => [ 'WRONGPASS', '28P01', 'redis_password_file' ],
	'ERR Error running script (call to f_0): @user_script:1: -OOM command not allowed' => [ 'OOM', 53200, 'maxmemory' ],
	'MISCONF Redis is configured to save RDB snapshots' => [ 'MISCONF', 58030, 'log of Redis' ],
	'NOREPLICAS Not enough good replicas to write.' => [ 'NOREPLICAS', '57P03', 'min-replicas' ],
	'MOVED 1 127.0.0.1:1' => [ 'cluster', '0A000', 'not supported' ],
	'CA_NONCE another session' => [ 'changed', 55000, 'two servers' ],
	'ERR OOMPH, and no AUTHOR' => [ 'error', 38000, "Redis's own" ]);
foreach my $error (sort keys %named)
{
	my ($name, $state, $hint) = @{ $named{$error} };
	$log = log_position($node);
	$fake->on($delivery, error => $error);
	write_row('');
	is_wrong($name);
	$fake->clear;
	wait_delivered($node);
	ok(status_is($node, $none, ''), "$name: over");
	like(log_since($node, $log), qr/LOG:  $state: cache_aside cannot deliver.*?HINT: [^\n]*\Q$hint\E.*delivers to Redis/s, "$name: in the log");
	is(lines($log, 'cannot deliver'), 1, "$name: once");
}
$fake->stop;
write_row('');
is_wrong('unreachable');
$fake->start;
wait_delivered($node);

# ---- publishing
$log = log_position($node);
$fake->on(qr/^EVAL\b.*cache_aside:replicas/s, error => 'NOPERM No permissions to access a key');
$node->safe_psql('postgres', q{SELECT cache_aside.add_replica('r', 'host=r')});
is_wrong('NOPERM');
is(status($node, 'state'), 'delivering', 'delivery goes on');
ok(wait_until(sub { (() = $fake->commands(qr{^EVAL\b.*cache_aside:replicas}s)) > 10 }), 'it is tried again');
is(lines($log, 'cannot publish the replicas in Redis at \S+: NOPERM'), 1, 'one line');
$fake->clear;
ok(status_is($node, $none, ''), 'over');
is(lines($log, 'publishes the replicas in Redis at \S+ again'), 1, 'which is said');

# ---- a standby that reads the position
my $standby = CacheAside->new_standby('standby', $node, redis => $fake);
ok(status_is($standby, "concat_ws(' ', state, redis_state, trouble)", 'standby connected'), 'a standby follows');
$fake->on(qr/^GET\b.*cache_aside:position/s, error => "NOPERM this user has no permissions to run the 'get' command");
ok(status_is($standby, "concat_ws(' ', state, redis_state, trouble)", 'standby refuses NOPERM'), 'it says what it lacks');
$fake->clear;
ok(status_is($standby, "concat_ws(' ', state, redis_state, trouble)", 'standby connected'), 'over');
my $said = log_since($standby, 0);
is(scalar(() = $said =~ /cannot read the position from Redis at \S+: NOPERM/g), 1, 'one line');
is(scalar(() = $said =~ /reads the position from Redis at \S+ again/g), 1, 'and one when it is over');

$standby->stop;
$node->stop;
done_testing();
