# Through pgbouncer in transaction mode: each client gets the token of its own commits, although they
# share one server connection.
use strict;
use warnings;

use CacheAside;
use File::Temp;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

my ($pgbouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
plan skip_all => 'pgbouncer is not installed' unless $pgbouncer;

my $node = CacheAside->new_node('main',
	conf => "cache_aside.report_commit_lsn = on\ncache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
my $dir = File::Temp::tempdir('ca-bouncer-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $port = RedisServer::free_port();
my $user = getpwuid($<);
append_to_file("$dir/users", qq{"$user" ""\n});
append_to_file("$dir/ini", <<"EOC");
[databases]
postgres = host=@{[ $node->host ]} port=@{[ $node->port ]} pool_size=1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = trust
auth_file = $dir/users
pool_mode = transaction
logfile = $dir/log
EOC

my $pid = fork // die "fork: $!";
if ($pid == 0)
{
	open STDOUT, '>>', "$dir/out";
	open STDERR, '>&', \*STDOUT;
	exec $pgbouncer, "$dir/ini" or POSIX::_exit(127);
}
END
{
	my $status = $?;
	if ($pid) { kill 'INT', $pid; waitpid $pid, 0; }
	$? = $status;
}

my $one;
wait_until(sub { $one = eval { PgWire->new(undef, host => '127.0.0.1', port => $port) } }, 30)
  or die "pgbouncer does not answer:\n" . slurp_file("$dir/out");
my $two = PgWire->new(undef, host => '127.0.0.1', port => $port);

sub token { return $_[0]{status}{'cache_aside.commit_lsn'}; }

$one->query('CREATE TABLE t (id int)');
my $first = token($one->query('INSERT INTO t VALUES (1)'));
ok($first, 'a commit: its token came through');
is($one->value('SELECT cache_aside.commit_lsn()'), $first, '... the right one');
is(token($two->query('SELECT count(*) FROM t')), undef, 'another client that only reads gets none');
my $second = token($two->query('BEGIN; INSERT INTO t VALUES (2); COMMIT'));
ok($second && $second ne $first, 'its commit: a token of its own');
is(token($one->query('SELECT 1')), undef, '... which the first client does not get');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
	AND pid <> pg_backend_pid()}), 1, 'both shared one server connection');
$one->query('BEGIN');
$one->query('INSERT INTO t VALUES (3)');
ok(token($one->query('COMMIT')), 'a transaction of several messages');
$one->query('BEGIN');
$one->query('INSERT INTO t VALUES (4)');
is(token($one->query('ROLLBACK')), undef, 'rolled back: none');

# docs/beside-other-tools.md: what belongs to a session is whose turn it is
my $mine = token($one->query('INSERT INTO t VALUES (5)'));
my $theirs = token($two->query('INSERT INTO t VALUES (6)'));
is($one->value('SELECT cache_aside.commit_lsn()'), $theirs, "commit_lsn(), asked later, may be another client's");
isnt($mine, $theirs, '... so the token is the one that came with the COMMIT');
$one->query('SET cache_aside.synchronous = on');
is($two->value('SHOW cache_aside.synchronous'), 'on', "SET changes whoever comes next");
$one->query('RESET cache_aside.synchronous');
$one->query('BEGIN; SET LOCAL cache_aside.synchronous = on; COMMIT');
is($two->value('SHOW cache_aside.synchronous'), 'off', 'SET LOCAL does not');
is($one->value("SELECT role FROM cache_aside.route('$mine')"), 'primary', 'route() answers');
is($one->value("CALL cache_aside.wait_for('$mine')"), 'not in recovery', '... and wait_for()');
$one->query(qq{ALTER ROLE "$user" SET cache_aside.synchronous = on});
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
ok(wait_until(sub { eval { ($two = PgWire->new(undef, host => '127.0.0.1', port => $port))->value('SHOW cache_aside.synchronous') } eq 'on' }),
	'ALTER ROLE ... SET is for all of its connections');
done_testing();
