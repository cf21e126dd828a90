
# A host name that resolves slowly, never, or to nothing: the worker goes on answering everything
# else. Runs in namespaces of its own (user, mount, network), with a name server that obeys the test.

use strict;
use warnings;

use lib 'test/perl';
use OwnNetwork;
use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;

sub slow { select undef, undef, undef, 2.5; return ['127.0.0.1']; }

OwnNetwork::serve_names(
	never => sub { return undef },
	slow => \&slow,
	two => [qw(127.0.0.7 127.0.0.200)]) or plan skip_all => 'cannot replace /etc/resolv.conf';

# ---- the story ----

my $redis = RedisServer->new(port => 1, conf => "bind 127.0.0.1 127.0.0.200\n")->start;
my $port = $redis->port;
my $node = CacheAside->new_node('main', conf => <<"EOC");
cache_aside.redis_url = 'redis://two.test:$port/0'
cache_aside.connect_timeout = 1s
EOC
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users VALUES (1, 'Ada');
	SELECT cache_aside.attach('users', 'user:{id}');
});
my $pid = worker_pid($node);

sub works
{
	my ($name) = @_;
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', q{UPDATE users SET name = name || '.'});
	ok(keys_gone($redis, 'user:1'), "$name: delivers") or diag(status($node, 'last_error'));
	return;
}

# DROP DATABASE asks every process to close its files, and waits for all of them.
sub answers
{
	my ($name) = @_;
	my $begin = time;
	foreach (1 .. 3)
	{
		$node->safe_psql('postgres', 'CREATE DATABASE other STRATEGY file_copy');
		$node->safe_psql('postgres', 'DROP DATABASE other');
	}
	cmp_ok(time - $begin, '<', 20, "$name: DROP DATABASE does not wait for the resolver");
	$node->safe_psql('postgres', q{UPDATE users SET name = 'Eve'});
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event IS NOT
		NULL AND backend_type = 'cache_aside worker'}), 1, "$name: the worker sits in its own wait");
	return;
}

sub fails
{
	my ($name, $host, $error) = @_;
	my $moment = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	reload_conf($node, 'cache_aside.redis_url' => "redis://$host:$port/0");
	$node->safe_psql('postgres', q{UPDATE users SET name = name || '!'});
	my $new_error = "CASE WHEN last_error_at > '$moment' THEN last_error END";
	ok(wait_until(sub { status($node, $new_error) =~ $error }), "$name: $error")
	  or diag(status($node, 'last_error'));
	return;
}

works('the second of two addresses');

fails('no such name', 'none.test', qr/^could not resolve the host name: .*not known/);
fails('slower than the time-out', 'slow.test', qr/^time-out after 1000 ms while resolving/);
answers('slow');
works('an answer that comes after the time-out is used');

fails('never', 'never.test', qr/^time-out after 1000 ms while resolving the host name/);
answers('never');
my $since = log_position($node);
my $reconnects = status($node, 'reconnects');
ok(wait_until(sub { status($node, 'reconnects') > $reconnects + 4 }), 'several attempts later');
my @threads = glob "/proc/$pid/task/*";
cmp_ok(scalar @threads, '<=', 3, 'they share one look-up: threads do not pile up');
unlike(log_since($node, $since), qr/cannot deliver/, 'nor do lines in the log');

fails('many names that never resolve', $_ . '.never.test', qr/./) foreach qw(a b c d e);
@threads = glob "/proc/$pid/task/*";
cmp_ok(scalar @threads, '<=', 6, 'look-ups are bounded');
is(worker_pid($node), $pid, 'the worker lives');

my $begin = time;
$node->stop('fast');
cmp_ok(time - $begin, '<', 20, 'shutdown does not wait for the resolver');
unlike(log_since($node, 0), qr/terminated by signal/, 'the worker ended by itself');

done_testing();
