# A volume is rolled back: the same server and timeline, less log, and then other log at the same LSNs. What
# the position in Redis tells of is no more, by LSNs alone it looks delivered.
#
# Remedies, in src: is_same_log() (resume.c) compares the records that the position names: without it what
# the new life wrote below the old position is never deleted. Without `timed` (verify() there) two lives
# that write records of the same sizes look alike. Without `seen` in the floor (ca_admission_arm(),
# ca_admission_raise_floor() in admission.c) a token of the old life is admitted in the new one.
use strict;
use warnings;

use CacheAside;
use Faults;
use HandWorker;
use PgClient;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "max_prepared_transactions = 5\nautovacuum = off\nfull_page_writes = off\n");
make_users($node, 50);
$node->safe_psql('postgres', 'CREATE TABLE filler (t text)');
wait_delivered($node);
my $data = $node->data_dir;
my $snapshot = PostgreSQL::Test::Utils::tempdir() . '/snapshot';

sub touch { return $node->safe_psql('postgres', join ';', map { "UPDATE users SET v = v + 1 WHERE id = $_" } @_); }
sub fill_some { return $node->safe_psql('postgres', "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, $_[0])"); }
sub copy { return system('rm', '-rf', $_[1]) == 0 && system('cp', '-a', $_[0], $_[1]) == 0 || die 'no copy'; }

# The server is put back to where it was; `meanwhile` runs before its worker can see Redis.
sub roll_back
{
	my ($meanwhile) = @_;
	$node->stop;
	copy($snapshot, $data);
	$redis->freeze;
	$node->start;
	$meanwhile->();
	$redis->thaw;
	return;
}

# If the first life wrote one more record, of the server's own, the second ends before the position.
sub rolled_back
{
	my ($what, $log, $times) = @_;
	return is(scalar(() = log_since($node, $log) =~ /the log was rolled back behind|lies beyond this server's log/g), $times // 1, "$what: found out");
}

# ---- an old prepared transaction keeps the place where reading begins in the part that both lives share
$node->safe_psql('postgres', q{BEGIN; UPDATE users SET v = 5 WHERE id = 9; PREPARE TRANSACTION 'z'});
wait_delivered($node);
$node->stop;
copy($data, $snapshot);
$node->start;
wait_delivering($node);
touch(2);
fill_some(300);
touch(4);
wait_delivered($node);
cache_users($redis, 2, 7, 8);
my $log = log_position($node);
roll_back(sub { touch(7); fill_some(900); touch(8) });
ok(keys_gone($redis, user_keys(2, 7, 8)), 'prepared: the writes of the new life, early and late, and the lost one');
rolled_back('prepared', $log);
wait_delivered($node);
cache_users($redis, 1 .. 9);
$node->safe_psql('postgres', q{COMMIT PREPARED 'z'});
ok(keys_gone($redis, 'user:9'), 'prepared: delivered when it ends');

# ---- two lives that write the same, but for the values; the last record is equal in both
$node->stop;
copy($data, $snapshot);
sub live
{
	my ($v) = @_;
	my $end = $node->safe_psql('postgres', qq{
		UPDATE users SET v = $v WHERE id = @{[ 10 + $v ]};
		SELECT pg_logical_emit_message(false, 'x', 'the same in every life');
		SELECT pg_current_wal_insert_lsn()}) =~ s/.*\n//sr;
	$node->poll_query_until('postgres', "SELECT pg_current_wal_flush_lsn() >= '$end'") or die 'not flushed';
	return $end;
}
sub seen { return (split / /, position_of($redis, $node))[9]; }

$node->start;
wait_delivering($node);
my $end = live(1);
ok(wait_until(sub { $node->safe_psql('postgres', "SELECT '@{[ seen() ]}'::pg_lsn >= '$end'") eq 't' }), 'the first life is read to its end');
cache_users($redis, 12);
$node->stop('immediate');
$log = log_position($node);
my $other;
roll_back(sub { $other = live(2) });
is($other, $end, 'the second life ends at the same LSN');
ok(keys_gone($redis, 'user:12'), 'equal in size: what the second life wrote');
rolled_back('equal in size', $log);

# ---- a token of the old life
my $c = PgClient->new(dir => $node->host, port => $node->port);
sub reading { return @{ ($c->query('SELECT v, cache_aside.read_token() FROM users WHERE id = 20'))[0] }; }

sub fill
{
	my ($v, $token) = @_;
	return 0 unless defined $token;
	return $redis->command('FCALL', 'cache_aside_fill', 1, 'user:20', $v, 60_000, $token);
}

touch(21);
ok(wait_until(sub { fill(reading()) }), 'fills are admitted again, behind what the first life had read');
$node->stop;
copy($data, $snapshot);
$node->start;
wait_delivering($node);
$c = PgClient->new(dir => $node->host, port => $node->port);
fill_some(300);
ok(wait_until(sub { fill(reading()) }), 'fills are admitted in the life that is to end');
my @old = reading();
wait_delivered($node);
my $seen = seen();
undef $c;
roll_back(sub { touch(20) });
ok(keys_gone($redis, 'user:20'), 'the new life: delivered');
status_is($node, 'state', 'delivering') or die 'no end of the resync';
is(fill(@old), 0, 'a token of the old life is refused');
$c = PgClient->new(dir => $node->host, port => $node->port);
ok(wait_until(sub { defined((reading())[1]) }), 'there are tokens');
is(fill(reading()), 0, 'those of the new one too, until its log is as long as the other was');
$redis->del(position_key($node) =~ s/position/guard/r);
fill_some(100) while $node->safe_psql('postgres', "SELECT pg_current_wal_insert_lsn() <= '$seen'") eq 't';
ok(wait_until(sub { fill(reading()) }), 'then they are admitted');
$redis->del('user:20');
is(fill(@old), 0, 'and that of the old life is not');

# ---- no false alarm: a crash, a kill of the worker
$log = log_position($node);
foreach my $how ('immediate', 'fast')
{
	touch(1);
	$node->stop($how);
	$node->start;
	wait_delivered($node);
}
rolled_back('crash and shutdown', $log, 0);

$node->stop;
done_testing();
