# redis_credential_command misbehaves in every way: it hangs, fails, floods, prints nonsense, cannot be run, leaves others
# behind. Delivery goes on with the credential there is, without one it says why, and nothing of it stays: no process,
# no secret in the log.
#
# Remedies, each taken out alone: kill() in ca_child_kill, that in conclude(), close_all_from(), the handler of SIGCHLD and
# ca_child_pipes() (src/common/child.c); time_left(), the time-out in advance_run(), tell_failure()
# (src/redis/credential_command.c); cut_out() and the cut (src/redis/credential_output.c); session.awaits
# (src/delivery/session.c).
use strict;
use warnings;

use CacheAside;
use CredentialCommand;
use Faults;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'time';

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new(conf => 'user app on >secret-one ' . RedisServer::all_rights() . "\n")->start;
my $command = CredentialCommand->new->prints(user => 'app', password => 'secret-one', expires => 1);
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "cache_aside.redis_credential_command = '" . ($command->setting =~ s/'/''/gr) . "'\n"
	  . "cache_aside.redis_credential_timeout = '700ms'\n");
my $session = PgWire->new($node);
make_users($node, 10);
wait_delivered($node);

sub delivers
{
	my ($name) = @_;
	cache_users($redis, 1);
	$session->query('UPDATE users SET v = v + 1 WHERE id = 1');
	ok(keys_gone($redis, 'user:1'), "$name: delivered");
	return;
}

sub alive { return grep { kill 0, $_ } @_; }

# ---- it hangs while the present one is good: nobody waits
my $runs = $command->runs;
$command->does("sleep 600 &\nsleep 600\n");
ok($command->wait_for_runs($runs + 1), 'before it expires it runs again');
my $hanging = ($command->pids)[-1];
delivers('while it hangs');
ok(alive($hanging), 'it still hangs');
ok(wait_until(sub { !alive($hanging) && `pgrep -g $hanging` eq '' }), 'it is killed, and what it began');
ok(wait_until(sub { log_since($node, 0) =~ /failed: it did not end within 700 ms/ }), 'which is said');
delivers('with the old one, though it has expired');
$command->prints(user => 'app', password => 'secret-one', expires => 600);
ok(wait_until(sub { log_since($node, 0) =~ /redis_credential_command works again/ }), 'its end is said');

# ---- what a child gets (of grep's own signals: while it starts grep, a shell has all its own blocked)
$command->does(qq{readlink /proc/\$\$/fd/* >'$command->{dir}/fds'; grep -E '^Sig(Blk|Ign)|^NSpgid' /proc/self/status >'$command->{dir}/signals'
	pwd >'$command->{dir}/pwd'; echo "\$1" >'$command->{dir}/argument'; echo user app; echo password secret-one});
my $serial = 0;

# Another command: what the one before gave is forgotten, and the worker connects anew.
sub anew
{
	my ($setting) = @_;
	$setting //= $command->setting . ' ' . ++$serial;
	$session->query("ALTER SYSTEM SET cache_aside.redis_credential_command = '" . ($setting =~ s/'/''/gr) . "'");
	$session->query('SELECT pg_reload_conf()');
	return;
}

anew();
ok(wait_until(sub { -s "$command->{dir}/argument" }), 'another command runs after a reload');
delivers('another command');
is(slurp_file("$command->{dir}/argument"), "an argument\n", 'its argument is one word');
is(slurp_file("$command->{dir}/pwd"), $node->data_dir . "\n", 'in the data directory');
my @fds = split /\n/, slurp_file("$command->{dir}/fds");
is_deeply([ grep { !m{^/dev/null$|^pipe:|/(body|run|fds)$} } @fds ], [], 'none of our files and sockets');
my ($blocked, $ignored) = map { hex } slurp_file("$command->{dir}/signals") =~ /^Sig\w+:\s*(\w+)$/mg;
is_deeply([ $blocked, $ignored & 0x7fffffff ], [ 0, 0 ], 'no signal is blocked or ignored');

# ---- a run costs the worker a few wake-ups: nobody asks the program, or for its credential, again and again
sub wakes { return (slurp_file('/proc/' . worker_pid($node) . '/status') =~ /^voluntary_ctxt_switches:\s+(\d+)/m)[0]; }

$runs = $command->runs;
$command->does("sleep 600\n");
anew();
$command->wait_for_runs($runs + 1) or die;
my $woken = wakes();
ok(wait_until(sub { status($node, 'trouble') eq 'no credential' }), 'no credential');
$woken = wakes() - $woken;
cmp_ok($woken, '<', 30, "few wake-ups in 700 ms: $woken");

# ---- its end is an event of its own, for what it writes into may be closed long before
reload_conf($node, 'cache_aside.redis_credential_timeout' => '120s');
$command->does("echo user app; echo password secret-one\nexec >&- 2>&-\nsleep 0.2\n");
my $start = time;
anew();
ok(wait_until(sub { status($node, 'trouble') eq '' }), 'it closes its output and goes on');
cmp_ok(time - $start, '<', 60, 'its end is seen');
reload_conf($node, 'cache_aside.redis_credential_timeout' => '700ms');

# ---- without any credential: what is wrong is said, and the end of it ends the trouble
my $big = 'head -c 3000000 /dev/zero | tr "\\0" "x"';
foreach my $fault (
	[ 'hangs', 'sleep 600', qr/did not end within 700 ms/ ],
	[ 'fails', 'echo "no route to the vault" >&2; exit 3', qr/exit status 3/, qr/It said: no route to the vault/ ],
	[ 'is killed', 'kill -9 $$', qr/ended by signal 9/ ],
	[ 'tells a secret', 'echo password leaked-one; printf "got leaked-one\n\tleaked-one" >&2; exit 1', qr/exit status 1/, qr/It said: got \*\*\* \?\*\*\*$/m ],
	[ 'prints megabytes', "echo password leaked-one; $big", qr/printed more than 16 kB/ ],
	[ 'prints megabytes without an end', 'yes leaked-one', qr/printed more than 16 kB/ ],
	[ 'says megabytes', "$big >&2; exit 1", qr/exit status 1/, qr/It said: x{1000}$/m ],
	[ 'says much without an end', 'echo password leaked-one; yes leaked-one >&2', qr/did not end/ ],
	[ 'prints nothing', 'exit 0', qr/there is no password/ ],
	[ 'prints garbage', 'head -c 3000 /dev/urandom', qr/a line begins with none of|it has a NUL/ ],
	[ 'prints a NUL', 'printf "user app\npassword leaked-one\000x\n"', qr/it has a NUL/ ],
	[ 'prints two', 'echo password leaked-one; echo password leaked-two', qr/a keyword comes twice/ ],
	[ 'prints an expired one', 'echo password leaked-one; echo expires 2020-01-01T00:00:00Z', qr/it has expired/ ],
	[ 'prints when, wrongly', 'echo password leaked-one; echo expires soon', qr/no number of seconds and no time/ ],
	[ 'prints a long one', 'printf "password leaked-one"; head -c 9000 /dev/zero | tr "\\0" "y"', qr/a value is too long/ ])
{
	my ($name, $body, $error, $said) = @$fault;
	my $since = log_position($node);
	my $moment = $session->value('SELECT clock_timestamp()');
	$command->does("$body\n");
	anew();
	my $trouble = "SELECT CASE WHEN last_error_at > '$moment' THEN concat(trouble, ': ', last_error) ELSE '' END FROM cache_aside.status";
	ok(wait_until(sub { $session->value($trouble) =~ /^no credential: redis_credential_command: .*$error/ }), "$name: $error")
	  or diag status($node, 'last_error');
	ok(wait_until(sub { log_since($node, $since) =~ ($said // $error) }), "$name: in the log");
	unlike(log_since($node, $since), qr/.{3000}/, "$name: in few words");
}
my $since = log_position($node);
anew('/no/such/program');
ok(wait_until(sub { log_since($node, $since) =~ /could not execute it: No such file or directory/ }), 'missing');
anew($node->data_dir . '/PG_VERSION');
ok(wait_until(sub { log_since($node, $since) =~ /could not execute it: Permission denied/ }), 'not executable');
like($session->query(q{SELECT cache_aside.get('k')})->{notices}[0]{M}, qr/redis_credential_command has given nothing yet/, 'backends say so');

# ---- what it leaves behind
$command->does("sleep 600 &\necho user app; echo password secret-one\n");
$runs = $command->runs;
anew();
ok($command->wait_for_runs($runs + 1), 'it leaves others behind');
delivers('with what it printed');
ok(wait_until(sub { !`pgrep -g ${\ ($command->pids)[-1]}` }), 'which are ended');
my $worker = worker_pid($node);
is(`ps --no-headers --ppid $worker`, '', 'no child is left, no zombie');
$command->does("sleep 600 &\nsleep 600\n");
$runs = $command->runs;
anew();
ok($command->wait_for_runs($runs + 1), 'it hangs');
$session->query("SELECT pg_terminate_backend($worker)");
ok(wait_until(sub { !`pgrep -g ${\ ($command->pids)[$runs]}` }), 'it ends with the worker');
$command->prints(user => 'app', password => 'secret-one');
delivers('all is well again');
unlike(slurp_file($node->logfile), qr/secret-one|leaked/, 'no secret in the log');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP/, 'and nothing crashed');
done_testing();
