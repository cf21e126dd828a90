# pg_partman beside us: partitions that it makes have the rules and versions of their table, rows that it moves keep theirs, and a
# partition that it drops takes its keys along.
#
# Remedies: row triggers, which PostgreSQL clones to partitions; the pattern that DROP TABLE and DETACH delete (src/rules/partition.c).
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
plan skip_all => 'pg_partman is not installed'
  if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_partman'}) eq '0';
my $native = $node->safe_psql('postgres', q{CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman;
	SELECT CASE WHEN extversion < '5' THEN '''native'',' ELSE '' END FROM pg_extension WHERE extname = 'pg_partman'});
my $interval = $native ? 'daily' : '1 day';
$node->safe_psql('postgres', qq{
	CREATE TABLE events (id int, day date NOT NULL, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	SELECT cache_aside.attach('events', 'event:{id}'), cache_aside.enable_versioning('events');
	SELECT partman.create_parent('public.events', 'day', $native '$interval', p_premake => 2,
		p_start_partition => (current_date - 5)::text)});
wait_delivered($node);

sub writes { $node->safe_psql('postgres', $_[0]); wait_delivered($node); return; }
sub state_of { return $node->safe_psql('postgres', "SELECT tableoid::regclass, v, version FROM events WHERE id = $_[0]"); }
sub cache { $redis->set("event:$_", 'v') foreach @_; return; }

cache(1, 2);
writes(q{INSERT INTO events VALUES (1, current_date - 4, 'old'), (2, current_date, 'new'), (3, current_date + 20, 'early')});
ok(!is_cached($redis, 'event:1') && !is_cached($redis, 'event:2'), 'its partitions have the rule');
like(state_of(3), qr/^events_default\|early\|1$/, 'a row that has no partition is in the default one');
writes(q{UPDATE events SET v = 'later' WHERE id = 3});
cache(1, 2, 3);
my $move = $native ? q{partman.partition_data_time('public.events', p_batch_count => 10)} : q{partman.partition_data_time('public.events', 10)};
writes("SELECT $move");
like(state_of(3), qr/^events_p\w+\|later\|2$/, 'moved to one of its own, at its version');
ok(!is_cached($redis, 'event:3'), '... which deletes its key');
cache(3);
writes(q{UPDATE events SET v = 'moved' WHERE id = 3});
ok(!is_cached($redis, 'event:3'), '... and so does a write there');
like(state_of(3), qr/\|moved\|3$/, '... which is counted');

writes(q{UPDATE partman.part_config SET retention = '2 days', retention_keep_table = false});
cache(1, 2);
writes(q{SELECT partman.run_maintenance('public.events')});
is(state_of(1), '', 'what is past its retention is dropped');
ok(wait_until(sub { !is_cached($redis, 'event:1') }), '... and its keys go');
is($node->safe_psql('postgres', 'SELECT count(*) FROM cache_aside.gaps'), 0, 'no gap');
is($node->safe_psql('postgres', 'SELECT bare_children FROM cache_aside.versioned'), '{}', 'no partition without versions');
done_testing();
