# Databases that cannot be visited: locked by their owner, half dropped, without a directory, closed to
# connections. None stops a resync or the registry of the others, none is forgotten, and the server is never taken
# for one without the extension. Status and log name the database and what to do; all goes on by itself.
#
# Remedy: visits.c (ca_visits_too_long: the resync never ends; fail: is never told; list_places: template0 alone is
# left out); put_in_force in visit_registries.c (without ca_visits_owed: his replica goes); the "incomplete" of publish.c;
# conclude in census.c (complete || found).
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.publish_interval = 50ms\n");
foreach my $db (qw(postgres his))
{
	$node->safe_psql('postgres', 'CREATE DATABASE his') if $db eq 'his';
	$node->safe_psql($db, 'CREATE EXTENSION cache_aside') if $db eq 'his';
	$node->safe_psql($db, qq{CREATE TABLE $db (id int PRIMARY KEY); INSERT INTO $db VALUES (1);
		SELECT cache_aside.attach('$db', '$db:{id}'), cache_aside.add_replica('of_$db', 'host=$db')});
}
$node->safe_psql('his', q{SELECT cache_aside.add_replica('main', 'host=me')});
wait_delivered($node);
my $all = q{concat_ws(' ', state, trouble)};
my $directory = $node->data_dir . '/base/' . $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'his'});

sub lines { my ($since, $what) = @_; return scalar(() = log_since($node, $since) =~ /$what/g); }
sub registered { my %all = @{ $redis->command('HGETALL', 'cache_aside:replicas') }; return join ' ', sort keys %all; }
sub cache { $redis->set("$_:1", 'old') foreach qw(postgres his); return; }
# Two publications later the primary has dropped from the hash what it takes for not registered.
sub after_publications
{
	$redis->command('HSET', 'cache_aside:replicas', "of_$_", '{"at":9999999999999}') foreach qw(postgres his new);
	foreach (1 .. 2)
	{
		my $before = $redis->get('cache_aside:primary') // '';
		wait_until(sub { ($redis->get('cache_aside:primary') // '') ne $before });
	}
	return registered();
}

sub published
{
	my ($names, $what) = @_;
	my $seen;
	ok(wait_until(sub { ($seen = after_publications()) eq $names }), $what) or diag($seen);
	like($redis->get('cache_aside:primary'), qr/"conninfo":"host=me"/, "$what: from his registry, too") if $names =~ /of_his/;
	return;
}
published('of_his of_postgres', 'the registry is that of both');

# What any failed visit has in common; `begin` makes it fail, `end` ends that.
sub story
{
	my ($what, $error, $begin, $end) = @_;
	my $log = log_position($node);
	cache();
	$begin->();
	$node->safe_psql('postgres', q{SELECT cache_aside.add_replica('of_new', 'host=new'), cache_aside.resync()});
	ok(keys_gone($redis, 'postgres:1'), "$what: what the others have cached is deleted");
	ok(status_is($node, $all, 'resyncing waits for database his'), "$what: status says what it waits for");
	like(status($node, 'first_error'), $error, "$what: and why");
	like(status($node, 'hint'), qr/lock/, "$what: and what to do");
	ok(is_cached($redis, 'his:1'), "$what: that one is not done");
	$redis->set('postgres:1', 'old');
	$node->safe_psql('postgres', 'UPDATE postgres SET id = id');
	ok(keys_gone($redis, 'postgres:1'), "$what: writes are delivered");
	published('of_his of_new of_postgres', "$what: what is new is in the registry, and what cannot be looked at stays");
	$end->();
	ok(keys_gone($redis, 'his:1'), "$what: it goes on by itself");
	wait_delivered($node);
	ok(status_is($node, $all, 'delivering'), "$what: all is well");
	is(lines($log, 'cannot look into every database: database "his"'), 1, "$what: said once in the log");
	is(lines($log, 'has looked into every database again'), 1, "$what: and once when over");
	$node->safe_psql('postgres', q{SELECT cache_aside.remove_replica('of_new')});
	published('of_his of_postgres', "$what: what is removed goes");
	return;
}

my $open = background_sql($node);
story('locked', qr/^database "his" is locked by process \d+$/,
	sub { $open->query_safe('BEGIN; ALTER DATABASE his RENAME TO mine') },
	sub { $open->query_safe('ROLLBACK') });
$open->quit;
story('without directory', qr/^database "his" cannot be visited; the log has the error$/,
	sub { rename $directory, "$directory.away" or die $! },
	sub { rename "$directory.away", $directory or die $! });

# ---- closed to connections, the only one that has the extension
$node->safe_psql('postgres', q{DROP EXTENSION cache_aside CASCADE; ALTER DATABASE his ALLOW_CONNECTIONS false IS_TEMPLATE true});
$node->safe_psql('postgres', 'CREATE DATABASE look');
$node->restart;
my $worker = worker_pid($node);
kill STOP => $worker;
$redis->kill9->start;
$redis->set('his:1', 'old');
kill CONT => $worker;
ok(keys_gone($redis, 'his:1'), 'closed: its rules are known');
published('of_his', 'closed: so are its replicas');

# ---- none can be asked: nobody knows, until he can
rename $directory, "$directory.away" or die $!;
$node->restart;
ok(wait_until(sub { log_since($node, 0) =~ /cannot look into every database: database "his".*\z/s }), 'not asked: the log says so');
unlike(log_since($node), qr/not installed/, 'not taken for not installed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_replication_slots}), 1, 'the slot stays');
$node->safe_psql('look', q{CREATE EXTENSION cache_aside; SELECT cache_aside.add_replica('of_new', 'host=new')});
ok(wait_until(sub { $redis->exists('cache_aside:primary') }), 'another one has it');
is(after_publications(), 'of_his of_new of_postgres', 'what the primary cannot know it does not drop');
rename "$directory.away", $directory or die $!;
$node->safe_psql('look', 'DROP EXTENSION cache_aside');

# ---- half dropped
$node->safe_psql('postgres', q{ALTER DATABASE his ALLOW_CONNECTIONS true IS_TEMPLATE false; CREATE EXTENSION cache_aside;
	SELECT cache_aside.add_replica('of_postgres', 'host=postgres')});
published('of_his of_postgres', 'again both');
SKIP:
{
	$node->safe_psql('postgres', q{UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'his'});
	my ($rc, undef, $err) = $node->psql('his', 'SELECT 1');
	skip 'this minor release knows no invalid databases', 3 unless $err =~ /invalid database/;
	my $log = log_position($node);
	$redis->set('t:1', 'old');
	$node->safe_psql('postgres', q{CREATE TABLE t (id int); SELECT cache_aside.attach('t', 't:{id}'); SELECT cache_aside.resync();
		SELECT cache_aside.add_replica('of_new', 'host=new')});
	ok(keys_gone($redis, 't:1'), 'half dropped: a resync ends');
	published('of_his of_new of_postgres', 'half dropped: what was known of it is kept');
	unlike(log_since($node, $log), qr/cannot connect to invalid database/, 'half dropped: nobody tries to enter');
	$node->safe_psql('postgres', q{DROP DATABASE his; SELECT cache_aside.remove_replica('of_new')});
	published('of_postgres', 'dropped: its replicas go');
}

# ---- CREATE EXTENSION that nobody noticed: keys that are committed tell
$node->safe_psql('postgres', 'DROP EXTENSION cache_aside CASCADE; CREATE TABLE late (id int)');
ok(wait_until(sub { $node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots') eq '0' }), 'not installed');
$node->safe_psql('postgres', q{BEGIN; CREATE EXTENSION cache_aside; PREPARE TRANSACTION 'x'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'x'});
$node->safe_psql('postgres', q{SELECT cache_aside.attach('late', 'late:{id}'); INSERT INTO late VALUES (1)});
ok(status_is($node, 'state', 'delivering'), 'an extension that nobody noticed');

$node->stop;
done_testing();
