# DDL that changes what keys are called (write/key_ddl), at places where nobody stands by chance: under way when a transaction
# looks first; over, and that session does not know it yet; committing behind its second look, before its commit record;
# prepared before the transaction that it concerns, with a worker that ends between the two commits. And from another
# library's pre-commit callback, the DDL as well as the rows.
#
# Remedies: in computed.c `quiet` (under way), AcceptInvalidationMessages() (over), `late` in ca_computed_note_first() (late
# rows), and its GetCurrentTransactionNestLevel() (likewise, behind what was rolled back); ca_open_meet() in open.c (behind), and
# in it note_place() of merge(), by which `first` moves (worker); `written` in ca_replacing_note() in replacing.c (late DDL).
use strict;
use warnings;

use CacheAside;
use Faults;
use KeyDdl;
use LogRecord;
use PgWire;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/stat";
debug_build();
my $library = test_library('late_writer');
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "shared_preload_libraries = '$library,cache_aside'\n");
my $ddl = KeyDdl->new($node, $redis);

# A session that stops at a debug point on its way through these statements.
sub stopped_session
{
	my ($point, $sql) = @_;
	reload_conf($node, 'cache_aside.debug_point' => "$point=stop");
	my $session = PgWire->new($node);
	$session->send($sql);
	ok(wait_until(sub { slurp_file("/proc/$session->{pid}/stat") =~ /\) T / }), "$point: it stands there");
	stop_process($session->{pid});
	reload_conf($node, 'cache_aside.debug_point' => '');
	return $session;
}

sub goes_on
{
	my ($session) = @_;
	go_on($session->{pid});
	$session->receive;
	return;
}

# ---- under way
my $session = PgWire->new($node);
my $other = stopped_session('chunk-logged', $ddl->sql . '; COMMIT');
$session->query("BEGIN; UPDATE called SET v = v + 1; UPDATE felt SET v = v + 1");
goes_on($other);
wait_delivered($node);
$ddl->cache;
$session->query('COMMIT');
$ddl->is_gone('under way', 'function', 'label');

# ---- over, but the session has no reason to take in invalidation messages: it has all locks, a plan, and no index to open
$session->query($_) foreach 'SET plan_cache_mode = force_generic_plan', 'PREPARE u AS UPDATE felt SET v = v + 1', 'EXECUTE u',
  'BEGIN', 'SET LOCAL cache_aside.enabled = off', 'EXECUTE u', 'EXECUTE u', 'SET LOCAL cache_aside.enabled = on';
$ddl->replace;
$ddl->cache;
$session->query('EXECUTE u');
$session->query('COMMIT');
$ddl->is_gone('over', 'label');

# ---- behind the second look
$other = stopped_session('computed-looked', "BEGIN; $ddl->{write}; COMMIT");
$ddl->replace;
$ddl->cache;
goes_on($other);
$ddl->is_gone('between look and commit');

# ---- the DDL's messages lie before those of the transaction that meets it
$node->safe_psql('postgres', $ddl->sql . q{; PREPARE TRANSACTION 'd'});
$node->safe_psql('postgres', q{BEGIN; UPDATE called SET v = v + 1; PREPARE TRANSACTION 'p'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'd'});
wait_delivered($node);
$ddl->cache;
$node->restart;
wait_delivered($node);
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
$ddl->is_gone('the worker ended in between', 'function');
is(status($node, 'resyncs'), 0, 'and by no resync');
$session = PgWire->new($node);

# ---- late DDL, while a transaction is open
$session->query('BEGIN; UPDATE felt SET v = v + 1');
my $late = PgWire->new($node);
$ddl->sql;
$late->query("SET late_writer.sql = 'ALTER TYPE mood RENAME VALUE ''$ddl->{label_before}'' TO ''$ddl->{label}'''");
$ddl->{shape} =~ s/,$//;
wait_delivered($node);
$ddl->cache;
$session->query('COMMIT');
$ddl->is_gone('late DDL', 'label');

# ---- late rows: with a plan of before, and nothing was logged when the DDL committed
my $held = PgWire->new($node);
$held->query('SELECT pg_advisory_lock(7)');
$session->send(q{
	SET late_writer.sql = $$
		DO $do$ BEGIN
			BEGIN
				UPDATE called SET v = v + 1;
				RAISE 'back';
			EXCEPTION WHEN others THEN NULL;
			END;
			PERFORM set_config('test.hold', 'on', true);
			UPDATE called SET v = v + 1;
		END $do$ $$});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'}), 'late rows, their query waits');
$ddl->replace;
$ddl->cache;
$held->query('SELECT pg_advisory_unlock(7)');
$session->receive;
$ddl->is_gone('late', 'function');

$node->stop;
done_testing();
