# Keys that a query rule gives outside its declared pattern: deleted all the same, warned of once, and
# remembered as patterns, so that a resync deletes them and gaps says what to do. Nobody waits for it.
#
# Remedy: ca_stray_note() in add_query_key() of src/rules/capture.c; is_remembered() in src/rules/stray.c (a row per
# write); the view patterns.

use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);

sub sql { return $node->safe_psql('postgres', join(';', @_)) }
my $patterns = q{SELECT string_agg(pattern, ' ' ORDER BY pattern COLLATE "C") FROM cache_aside.patterns};

sql('CREATE ROLE writer; CREATE TABLE t (id int, k text); GRANT INSERT ON t TO writer',
	q{SELECT cache_aside.attach_query('t', 'SELECT k || id FROM changed', 'feed:*')});
is(sql($patterns), 'feed:*', 'before');
my (undef, undef, $err) = $node->psql('postgres', q{SET ROLE writer; INSERT INTO t VALUES (1, 'feed:');
	INSERT INTO t SELECT i, 'other:' FROM generate_series(1, 50) i; INSERT INTO t VALUES (1, 'other:'), (2, 'count'), (3, '')});
like($err, qr/^psql.*WARNING:  query of cache rule "feed:\*" gives keys outside its pattern\nDETAIL:  Some do not match "feed:\*"/,
	'a warning, for a role without rights on the table');
is(() = $err =~ /WARNING/g, 1, 'and one only');
is(sql($patterns), '3 count* feed:* other:*', 'remembered, by their beginnings');
is(sql('SELECT count(*) FROM cache_aside.stray_pattern'), 3, 'once each');
sql(q{INSERT INTO t VALUES (7, 'other:')}, q{INSERT INTO t VALUES (8, 'other:')});
is(sql('SELECT count(*) FROM cache_aside.stray_pattern'), 3, 'also by later transactions');
sql(q{BEGIN; INSERT INTO t VALUES (1, 'never:'); ROLLBACK});
is(sql($patterns), '3 count* feed:* other:*', 'not what was rolled back');
like(sql(q{SELECT gap || remedy FROM cache_aside.gaps}), qr/^the query gave keys outside its pattern.*attach_query/, 'gaps says so');

# they are deleted by a write, and by a resync
wait_delivered($node);
$redis->command('SET', $_, 'x') foreach qw(feed:1 other:1 other:99 count7 mine:1);
sql(q{INSERT INTO t VALUES (1, 'other:')});
wait_delivered($node);
ok(!$redis->command('EXISTS', 'other:1'), 'the key of the write is gone');
sql('SELECT cache_aside.resync()');
ok(keys_gone($redis, 'feed:1', 'other:99', 'count7'), 'a resync deletes them');
ok($redis->command('EXISTS', 'mine:1'), 'and nothing else');

# a second session inserts what a first one has not committed: nobody waits
my $open = background_sql($node);
$open->query_safe(q{SET client_min_messages = error; BEGIN; INSERT INTO t VALUES (1, 'new:')});
sql(q{SET client_min_messages = error; SET statement_timeout = '5s'; INSERT INTO t VALUES (2, 'new:')});
$open->query_safe('COMMIT');
$open->quit;
is(sql($patterns), '3 count* feed:* new:* other:*', 'and the pattern is there once');

sql(q{SELECT cache_aside.detach('t')}, q{SELECT cache_aside.unregister_pattern(p) FROM unnest('{3,count*,new:*,other:*}'::text[]) p});
is(sql($patterns), '', 'unregister_pattern() forgets them');

done_testing();
