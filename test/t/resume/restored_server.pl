# The server goes back in time: a base backup is put in its place, with recovery to a point in time
# (a new timeline) and, wrongly, without (the same timeline, less log). What was cached from commits
# that no longer exist is deleted, once.
#
# Fails without the resync that cross_fork() (resume.c) asks for ("this server was promoted"), and without what looks
# whether the log is the same in resume_stored() there (both, `position->confirmed > end` and is_same_log()): user:2
# was cached from a commit that is lost, and nobody writes it again.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
sub resyncs { return scalar(() = log_since($_[0], 0) =~ /deletes everything its rules/g); }

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, start => 0);
$node->enable_archiving;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
make_users($node, 100);
$node->backup('b');
$node->safe_psql('postgres', q{UPDATE users SET v = 1 WHERE id = 1; SELECT pg_create_restore_point('p')});
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->safe_psql('postgres', 'UPDATE users SET v = 2 WHERE id = 2');
wait_delivered($node);
cache_users($redis, 1 .. 100);    # user:2 holds v = 2
my $timeline = status($node, 'timeline');

# ---- to a point in time
$node->stop;
my $pitr = TestNode->new('pitr');
$pitr->init_from_backup($node, 'b', has_restoring => 1, standby => 0);
$pitr->append_conf('postgresql.conf',
	"recovery_target_name = 'p'\nrecovery_target_action = promote\narchive_mode = off\n");
$pitr->start;
$pitr->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no promotion';
adopt($pitr);    # who else delivers is another story
is($pitr->safe_psql('postgres', 'SELECT v FROM users WHERE id IN (1, 2) ORDER BY id'), "1\n0",
	'the second write is lost');
ok(keys_gone($redis, user_keys(1 .. 100)), 'point in time: what was cached from it is gone');
wait_delivered($pitr);
is(resyncs($pitr), 1, 'one resync');
cmp_ok(status($pitr, 'timeline'), '>', $timeline, 'another timeline');

# The old server again: it must not touch what belongs to the new one.
cache_users($redis, 1 .. 100);
$node->start;
ok(status_is($node, 'state', 'fenced'), 'the old server is fenced');
$node->safe_psql('postgres', 'UPDATE users SET v = 3 WHERE id = 3');
$pitr->safe_psql('postgres', 'UPDATE users SET v = 3 WHERE id = 4');
wait_delivered($pitr);
is($redis->exists(user_keys(1 .. 100)), 99, 'only the new one delivers');
$node->stop;
$pitr->stop;

# ---- the same timeline, less log
$redis->flushall;
$node->start;
wait_delivered($node);
fill_log($node, 4);
wait_delivered($node);
cache_users($redis, 1 .. 100);
$node->stop;
my $copy = TestNode->new('copy');
$copy->init_from_backup($node, 'b');
$copy->append_conf('postgresql.conf', "archive_mode = off\n");
$copy->start;
adopt($copy);
ok(keys_gone($redis, user_keys(1 .. 100)), 'same timeline, less log: a resync');
wait_delivered($copy);
is(resyncs($copy), 1, 'one');

$copy->stop;
done_testing();
