# Backends' connections to Redis: bounded for the whole server, shared, closed when idle, given back
# however a backend ends; and the worker gets in when Redis has too many clients.
#
# Remedies: ca_allowance_take() in open_connection() of backend_connection.c (without: no bound); is_wished() in
# ca_allowance_keep() and in tick() of allowance.c (without, the next backend waits in vain); `over` in
# tick(); give_back_at_exit(); worker_lacks_one(), settle() in backend_connection.c.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(conf => "maxclients 60\n")->start;
$redis->set('k', 'v');
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
cache_aside.max_backend_connections = 3
cache_aside.connect_timeout = 3s
max_connections = 60
EOC
$node->safe_psql('postgres', q{CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'v');
	SELECT cache_aside.attach('t', 't:{id}')});

sub clients { return grep { /name=cache_aside_backend/ } split /\n/, $redis->command('CLIENT', 'LIST'); }
sub clients_are { my ($n, $name) = @_; return ok(wait_until(sub { clients() == $n }), $name) || diag(scalar clients()); }
sub session { return background_sql($node, on_error_stop => 0); }
my $get = q{SELECT cache_aside.get('k')};
sub value { my ($session) = @_; return $session->query($get) =~ s/\s+\z//r; }

# ---- more sessions than connections: all are served, and the bound holds
my @sessions = map { session() } 1 .. 6;
my $most = 0;
foreach my $turn (1 .. 3)
{
	foreach my $session (@sessions)
	{
		is(value($session), 'v', 'served');
		my $n = clients();
		$most = $n if $n > $most;
	}
}
is($most, 3, 'at most three connections');
is(status($node, 'backend_connections'), 3, '... as status says');
$_->query_until(qr/begun/, "\\echo begun\nSELECT count(cache_aside.get('k')) FROM generate_series(1, 3000);\n") foreach @sessions;
ok(wait_until(sub { my $n = clients(); $most = $n if $n > $most;
	$node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ 'generate_series'
		AND pid <> pg_backend_pid()}) eq 0 }), 'all at once');
cmp_ok($most, '<=', 3, '... at most three connections');
is(value($_) =~ s/\n.*//sr, 3000, '... all are served') foreach @sessions;

# ---- however a backend ends, and however a statement does
my $ends = sub {
	my ($name, $end) = @_;
	my $holder = session();
	is(value($holder), 'v', "$name: connected");
	my $pid = $holder->query('SELECT pg_backend_pid()') =~ s/\D//gr;
	$end->($holder, $pid);
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), '... gone');
};
$_->quit foreach @sessions;
clients_are(0, 'sessions that end close theirs');
foreach my $round (1 .. 2) # more often than there are places
{
	$ends->('terminated', sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[1])") });
	$ends->('terminated while it asks', sub { $redis->freeze;
		$_[0]->query_until(qr/begun/, "\\echo begun\n$get;\n");
		$node->poll_query_until('postgres', "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $_[1]");
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($_[1])"); $redis->thaw });
	$ends->('the client is gone', sub { $_[0]->{run}->kill_kill });
}
my @holders = map { session() } 1 .. 3;
is(value($_), 'v', 'all places are free again') foreach @holders;
foreach my $holder (@holders)
{
	$redis->freeze;
	$holder->query("SET statement_timeout = 100; $get; SET statement_timeout = 0");
	$redis->thaw;
}
clients_are(0, 'cancelled statements close theirs');
my @others = map { session() } 1 .. 3;
is(value($_), 'v', '... and give the place back') foreach @others;

# ---- no place at all: a warning and a miss, in time; a wish that was given up harms nobody
$_->query("BEGIN; SELECT pg_advisory_lock(1)") foreach $others[0];
my @blocked = @others[ 1, 2 ];
reload_conf($node, 'cache_aside.connect_timeout' => '300ms', 'cache_aside.max_backend_connections' => 2);
$_->query_until(qr/begun/, "\\echo begun\nSELECT cache_aside.warm('SELECT ''w'', ''v'' FROM pg_advisory_lock_shared(1)');\n") foreach @blocked;
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 'two hold theirs');
my $took = soonest(
	3,
	sub {
		my $begun = time;
		my (undef, $out, $err) = $node->psql('postgres', "$get IS NULL; $get IS NULL");
		like("$out $err", qr/^t\nt .*WARNING.*all 2 connections of cache_aside.max_backend_connections are in use/s, 'no place: a warning and a miss');
		return time - $begun;
	});
cmp_ok($took, '<', 3, '... after connect_timeout');
$others[0]->query('COMMIT; SELECT pg_advisory_unlock_all()');
ok($node->poll_query_until('postgres', "$get = 'v'"), 'and then there is one');
reload_conf($node, 'cache_aside.max_backend_connections' => 1);
clients_are(1, 'a lower bound is soon kept');
$_->quit foreach @others, @holders;

# ---- idle: closed after a time, used again without a word
reload_conf($node, 'cache_aside.backend_idle_timeout' => '200ms');
my $idle = session();
is(value($idle), 'v', 'connected');
clients_are(0, 'closed when idle');
is(value($idle), 'v', 'connected again');
$idle->query('SELECT 1/0');
clients_are(0, 'closed when idle, after an error too');
is($idle->query("BEGIN; $get") =~ s/\s//gr, 'v', 'in a transaction');
clients_are(0, 'closed when idle in a transaction');
is($idle->query("$get; COMMIT") =~ s/\s//gr, 'v', 'which goes on');
$idle->quit;

# ---- Redis has too many clients: the worker goes first
reload_conf($node, 'cache_aside.backend_idle_timeout' => '1h', 'cache_aside.max_backend_connections' => 20, 'cache_aside.connect_timeout' => '1s');
wait_delivered($node);
my @many = map { session() } 1 .. 6;
is(value($_), 'v', 'connected') foreach @many;
my $admin = $redis->client;
my $worker = worker_pid($node);
my $since = log_position($node);
kill 'STOP', $worker;
$admin->command('CLIENT', 'KILL', 'ID', $admin->command('CLIENT', 'LIST') =~ s/.*^id=(\d+)[^\n]*name=cache_aside_worker.*/$1/msr);
my @strangers;
while (1)
{
	my $stranger = $redis->client;
	last unless eval { $stranger->command('PING') };
	push @strangers, $stranger;
}
kill 'CONT', $worker;
ok(wait_until(sub { $admin->command('CLIENT', 'LIST') =~ /name=cache_aside_worker/ }), 'the worker gets in');
like(log_since($node, $since), qr/max number of clients/, 'for it was refused');
cmp_ok(scalar clients(), '<', 6, 'and backends made room');
wait_delivered($node);
@strangers = ();
ok($node->poll_query_until('postgres', "$get = 'v'"), 'backends go on');
done_testing();
