# User and password come from redis_credential_command: before the worker connects, and before they expire, while
# writers go on; what backends and a standby use is what the worker got; one that Redis refuses is replaced at once.
#
# Remedies, each taken out alone: ca_redis_login_again() (src/redis/redis_login.c) and renew_at in note_present()
# (src/redis/credential_command.c): without a login before it expires the worker loses its connection;
# ca_credential_refuse(): a refused one would be kept; the broadcast in ca_credential_store(): a backend would wait for
# connect_timeout; tell_unused_password() (src/worker/worker.c).
use strict;
use warnings;

use CacheAside;
use CredentialCommand;
use Faults;
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $n = 0;

# Each credential is a user of its own, so that what goes on as a former one shows: Redis ends it with its user.
sub next_user
{
	$n++;
	$redis->command('ACL', 'SETUSER', "rotating-$n", 'on', ">secret-number-$n", split / /, RedisServer::all_rights());
	return (user => "rotating-$n", password => "secret-number-$n");
}

sub connected_as
{
	my ($name, $i) = @_;
	return $redis->wait_until(sub { $redis->command('CLIENT', 'LIST') =~ /name=cache_aside_$name .*user=rotating-$i\b/ });
}

my $command = CredentialCommand->new->prints(next_user());
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "cache_aside.connect_timeout = '30s'\ncache_aside.redis_credential_command = '" . ($command->setting =~ s/'/''/gr) . "'\n");
sub sql { return scalar $node->safe_psql('postgres', shift); }

make_users($node, 100);
wait_delivered($node);
is($command->runs, 1, 'it ran once');
ok(connected_as('worker', 1), 'the worker is that user');
my $session = PgWire->new($node);
ok(wait_until(sub { ($session->value(q{SELECT cache_aside.fill('user:1', 'x')}) // '') eq 't' }), 'a backend fills');
ok(connected_as('backend', 1), 'and is that user');

# ---- the user is gone from Redis: the next one at once, for a backend, too
$command->prints(next_user(), expires => 2);
$redis->command('ACL', 'DELUSER', 'rotating-1');
$redis->wait_until(sub { $redis->command('CLIENT', 'LIST') !~ /user=rotating-1\b/ }) or die 'not ended';
my $start = time;
is($session->value(q{SELECT cache_aside.get('user:1') IS NOT NULL}), 't', 'refused: a backend gets the next one');
cmp_ok(time - $start, '<', 15, 'as soon as it is there');
wait_delivered($node);
ok(connected_as('worker', 2), 'and the worker');

# ---- rotation under load: a credential lives for two seconds, its user until the next one is in use
my ($reconnects, $errors) = split /\|/, sql('SELECT reconnects, reply_errors FROM cache_aside.status');
my $load = start_pgbench($node, 3, "\\set id random(1, 100)\nUPDATE users SET v = v + 1 WHERE id = :id;\n");
my @longest; # of each round: a busy machine may be late once
foreach my $round (1 .. 2)
{
	my $longest = 0;
	$command->prints(next_user(), expires => 2);
	wait_until(
		sub {
			my $lag = $session->value('SELECT lag_ms FROM cache_aside.status');
			$longest = $lag if $lag > $longest;
			return $redis->command('CLIENT', 'LIST') =~ /name=cache_aside_worker .*user=rotating-$n\b/;
		}) or die 'no login';
	push @longest, $longest;
	$session->value(q{SELECT cache_aside.get('user:1') IS NULL});
	ok(connected_as('backend', $n), 'a backend that stays connected logs in anew, too');
	$redis->command('ACL', 'DELUSER', 'rotating-' . ($n - 1));
}
stop_pgbench($load);
cache_users($redis, 1 .. 100);
sql('UPDATE users SET v = v + 1');
wait_delivered($node);
is($redis->exists(user_keys(1 .. 100)), 0, 'nothing is lost');
is(sql('SELECT reconnects, reply_errors FROM cache_aside.status'), "$reconnects|$errors", 'nor was the connection, nor a command');
cmp_ok((sort { $a <=> $b } @longest)[0], '<', 1000, "and nothing was late (@longest ms)");

# ---- a standby takes part, and goes on after its promotion
my $standby = CacheAside->new_standby('standby', $node, redis => $redis,
	conf => "cache_aside.redis_credential_command = '" . ($command->setting =~ s/'/''/gr) . "'\n");
ok(connected_as('standby', $n), 'a standby logs in');
is($standby->safe_psql('postgres', q{SELECT cache_aside.get('nothing') IS NULL}), 't', 'and so do its backends');

# ---- another command by a reload; contradictions
my ($rc, $out, $err) = $node->psql('postgres', q{ALTER SYSTEM SET cache_aside.redis_password_file = 'x'});
like($err, qr/invalid value.*redis_credential_command gives the password/s, 'a password file beside it is refused');
($rc, $out, $err) = $node->psql('postgres', q{ALTER SYSTEM SET cache_aside.redis_url = 'redis://:word@h'});
like($err, qr/invalid value.*redis_credential_command gives the password/s, 'and a password in the URL');
foreach my $bad ([ q{"a}, qr/quote is not closed/ ], [ 'a \\', qr/backslash is last/ ], [ '   ', qr/names no program/ ], [ q{'' x}, qr/no program/ ])
{
	($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET cache_aside.redis_credential_command = '" . ($bad->[0] =~ s/'/''/gr) . "'");
	like($err, $bad->[1], "$bad->[0] is refused");
}
sql('ALTER SYSTEM SET cache_aside.redis_url = \'' . $redis->url . '\'');

# lines of a file: in an order that is documented, and said
my $since = log_position($node);
is(sql('SELECT redis_credentials FROM cache_aside.status'), 'command', 'one of them');
$node->append_conf('postgresql.conf', "cache_aside.redis_password_file = '/no/such/file'\n");
$node->reload;
ok(wait_until(sub { sql('SELECT redis_credentials FROM cache_aside.status') eq 'command, not password file' }), 'a password file beside it in the file is not used');
ok(wait_until(sub { log_since($node, $since) =~ /LOG: +cache_aside takes the password for Redis from the command, not from the password file\n.*HINT: +Leave one/s }), 'which the log says');
is(sql(q{SELECT concat_ws('|', ok, value, follows) FROM cache_aside.check_redis() WHERE item = 'credentials'}),
	'f|command|The password file has a password, too, which is not used.', 'and check_redis()');
$node->reload;
sql('UPDATE users SET v = v + 1');
wait_delivered($node);
is(() = log_since($node, $since) =~ /takes the password for Redis/g, 1, 'once');
$node->append_conf('postgresql.conf', "cache_aside.redis_password_file = ''\n");
$node->reload;
ok(wait_until(sub { sql('SELECT redis_credentials FROM cache_aside.status') eq 'command' }), 'taken out again');

reload_conf($node, 'cache_aside.redis_credential_command' => '');
status_is($node, 'trouble IS NULL', 't');
wait_delivered($node);
pass('none any more');
($rc, $out, $err) = $node->psql('postgres', q{ALTER SYSTEM SET cache_aside.redis_password_file = 'x'});
is($err, '', 'a password file is allowed then');

foreach my $text ($node->logfile, $standby->logfile)
{
	unlike(PostgreSQL::Test::Utils::slurp_file($text), qr/secret-number/, 'no secret is in the log');
}
unlike(sql('SELECT s::text FROM cache_aside.status s') . sql('SELECT a::text FROM pg_stat_activity a'), qr/secret-number/, 'nor in SQL');
done_testing();
