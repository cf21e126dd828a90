# The record is core's own: pg_waldump and logical decoding show it under the name cache_aside, with the
# database it was written in, and other databases do not decode it. A standby that delivers in its own
# region reads the same. And after an upgrade in place from a library that wrote other messages (the
# position in Redis is not one of this format) what those would have deleted goes by a resync: what
# committed before, and what was prepared then and commits now.
#
# Remedies: the format in ca_position_format() (position.c); start_behind_another() instead of
# start_blind() in ca_resume_choose() (resume.c), without which the prepared one deletes nothing;
# `record.dbId = MyDatabaseId` in log_record() (message.c).
use strict;
use warnings;

use CacheAside;
use Faults;
use LogRecord;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my ($redis, $region) = map { RedisServer->new->start } 1 .. 2;
my $node = CacheAside->new_node('main', redis => $redis, conf => "wal_level = logical\nautovacuum = off\n");
$node->append_conf('postgresql.conf', "output_plugin_libraries = 'test_decoding'")
  if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'});
$node->restart;
make_users($node, 10);
my $standby =
  CacheAside->new_standby('standby', $node, redis => $region, conf => "cache_aside.delivery = always\n");
$node->safe_psql('postgres', 'CREATE DATABASE other');
wait_delivering($_) foreach $node, $standby;

# ---- others read it
my $decodes = grep { $node->psql($_, q{SELECT pg_create_logical_replication_slot('d_' || current_database(), 'test_decoding')}) == 0 } 'postgres', 'other';
my $start = $node->lsn('insert');
cache_users($_, 1 .. 3) foreach $redis, $region;
$node->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id = 1');
wait_delivered($node);
my $end = $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
my ($dump) = run_command([ 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $start, '-e', $end, '-r', 'LogicalMessage' ]);
like($dump, qr/transactional, prefix "cache_aside"; payload \(12 bytes\): 00 6B 06 00 00 00 75 73 65 72 3A 31$/m,
	'pg_waldump: flags, kind, length, user:1');
like($dump, qr/non-transactional, prefix "cache_aside"; payload \(1 bytes\): 00$/m, 'and the barrier');
SKIP:
{
	skip('no test_decoding', 2) unless $decodes == 2;
	my $changes = q{SELECT encode(data, 'escape') FROM pg_logical_slot_get_binary_changes('d_' || current_database(), NULL, NULL)};
	like($node->safe_psql('postgres', $changes),
		qr/message: transactional: 1 prefix: cache_aside, sz: 12 content:/,
		'test_decoding shows it');
	unlike($node->safe_psql('other', $changes), qr/cache_aside/, 'in its own database');
}
ok(keys_gone($region, 'user:1'), 'a standby delivers it in its own region');
is($region->exists(user_keys(2, 3)), 2, 'and nothing else');
is(status($standby, $_), 0, "standby: $_") foreach 'foreign_records', 'unreadable_records';

# ---- an upgrade in place: what the messages before were is what any role may write now
sub of_before
{
	my ($sql) = @_;
	return "BEGIN; UPDATE users SET v = v + 1 WHERE id = 1; SELECT pg_logical_emit_message(true, 'cache_aside', 'x'); $sql";
}
my $key = position_key($node);
my @fields = split / /, position_of($redis, $node);
is($fields[-1], '1', 'the position ends with the format');
foreach my $old (join ' ', @fields[ 0 .. 6 ])
{
	my $what = "position '$old'";
	$node->safe_psql('postgres', 'CHECKPOINT');
	$node->safe_psql('postgres', of_before('COMMIT'));
	$node->safe_psql('postgres', of_before(q{PREPARE TRANSACTION 'p'}));
	wait_delivered($node);
	my $resyncs = status($node, 'resyncs');
	cache_users($redis, 1 .. 3);
	$redis->set($key, $old);
	ok(keys_gone($redis, user_keys(1 .. 3)), "$what: a resync");
	wait_delivered($node);
	is((split / /, position_of($redis, $node))[-1], '1', "$what: replaced");
	cache_users($redis, 1 .. 3);
	$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
	ok(keys_gone($redis, user_keys(1 .. 3)), "$what: another when the one prepared before commits");
	wait_delivered($node);
	cache_users($redis, 1 .. 3);
	$node->safe_psql('postgres', 'UPDATE users SET v = 1 WHERE id = 2');
	wait_delivered($node);
	is($redis->exists(user_keys(1 .. 3)), 2, "$what: and then as ever");
}

$_->stop foreach $standby, $node;
done_testing();
