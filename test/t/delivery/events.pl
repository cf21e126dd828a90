# Others are told which keys are deleted, by the call that deletes them: in a stream, on a channel, with functions and
# without. When an event can be read the key is gone. Patterns and resyncs are told when their scan is over. Nothing is
# told, nor in the position, and no other command comes, while the setting is off.
#
# Remedies: emit() in library/apply.lua, and its like in apply_plain.lua; tell_served() in scan.c (patterns);
# ca_resync_ended() in round.c (all); ca_events_note() in redelete.c (again); append_escaped() and append_hex() in
# event_text.c; MAXLEN (the cap); follow_settings() in ca_events_step() (the reload); compose's question for TOLD (off).
use strict;
use warnings;
use utf8;

use CacheAside;
use EventReader;
use Faults;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;


foreach my $plain (0, 1)
{
	my $kind = $plain ? 'without functions' : 'with functions';
	my $redis = RedisServer->new(conf => $plain ? RedisServer::no_functions() : '')->start;
	my $node = CacheAside->new_node($plain ? 'plain' : 'functions', redis => $redis);
	make_users($node, 2000);
	$node->safe_psql('postgres', q{CREATE TABLE posts (id int); SELECT cache_aside.attach('posts', 'post:{id}')});
	wait_delivered($node);
	my $name = EventReader::name($node);

	# ---- off
	is($redis->exists($name), 0, "$kind, off: no stream");
	unlike(position_of($redis, $node), qr/events/, '... nothing in the position');
	is($redis->info('cmdstat_publish') // $redis->info('cmdstat_xadd'), undef, '... no command');
	is($node->safe_psql('postgres', 'SELECT events FROM cache_aside.endpoints'), 'off', '... and says so');

	# ---- a stream
	reload_conf($node, 'cache_aside.events' => 'stream');
	my $stream = EventReader->stream($redis, $node);
	my $first = $stream->next;
	is($first->{all} . $first->{number}, '11', "$kind: the first event says that everything may have changed");
	cache_users($redis, 1 .. 3);
	my $before = $node->value('postgres', 'SELECT pg_current_wal_lsn()');
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 2');
	my $event = $stream->next;
	ok(!is_cached($redis, 'user:2'), 'the key is gone when its event is there');
	is_deeply([ @$event{qw(number all keys patterns timeline)} ], [ 2, JSON::PP::false, ['user:2'], [], 1 ], 'the event');
	is("cache_aside:events:$event->{system}", $name, '... its system');
	is($node->safe_psql('postgres', "SELECT '$event->{lsn}'::pg_lsn BETWEEN '$before' AND pg_current_wal_lsn()"), 't', '... its LSN');
	is($node->safe_psql('postgres', 'SELECT events FROM cache_aside.endpoints'), 'stream', '... and the view');

	$stream->forget;
	my @odd = ("a\"b\\c", "tab\there", "läng", "\x{1F600}", "line\nbreak", "\x01");
	$node->safe_psql('postgres', 'SELECT cache_aside.invalidate(' . join(', ', map { "'$_'" } @odd) . ')');
	$stream->next;
	is_deeply([ sort $stream->keys ], [ sort @odd ], 'keys of any text');

	$stream->forget;
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1');
	wait_delivered($node);
	$stream->drain;
	is_deeply([ sort $stream->keys ], [ sort(user_keys(1 .. 2000)) ], 'a large transaction: each key');
	is(scalar @{ $stream->{heard} }, 4, '... in an event for each batch');

	$stream->forget;
	$redis->set('post:1', 'cached');
	$node->safe_psql('postgres', 'TRUNCATE posts');
	$event = $stream->until(sub { @{ $_[0]{patterns} } });
	is_deeply($event->{patterns}, ['post:*'], 'TRUNCATE: the pattern');
	ok(!is_cached($redis, 'post:1'), '... when what it covers is gone');

	$redis->set('post:1', 'cached');
	$node->safe_psql('postgres', 'SELECT cache_aside.resync()');
	$event = $stream->until(sub { $_[0]{all} });
	is_deeply($event->{patterns}, [], 'a resync: all, and no pattern beside that');
	ok(!is_cached($redis, 'post:1'), '... when it is over');

	# A key that is no text
	$node->safe_psql('postgres', q{CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'});
	$node->safe_psql('ascii', q{CREATE EXTENSION cache_aside});
	$stream->forget;
	$node->safe_psql('ascii', q{SELECT cache_aside.invalidate(E'caf\351'), cache_aside.invalidate_pattern(E'\351*')});
	$event = $stream->until(sub { $_[0]{patterns_hex} });
	is($event->{patterns_hex}[0], 'e92a', 'a pattern that is not UTF-8');
	is((map { @{ $_->{keys_hex} // [] } } @{ $stream->{heard} })[0], '636166e9', '... and a key');

	# ---- bounded
	reload_conf($node, 'cache_aside.events_stream_length' => 5);
	$redis->config_set('stream-node-max-entries', 1);
	foreach my $id (1 .. 20) { $node->safe_psql('postgres', "UPDATE users SET v = v + 1 WHERE id = $id"); wait_delivered($node); }
	cmp_ok($redis->command('XLEN', $name), '<=', 6, 'the stream is cut');
	$stream->forget->drain;
	cmp_ok($stream->gaps, '>=', 1, '... and who reads too late sees it by the number');

	# ---- a channel
	my $channel = EventReader->channel($redis, $node);
	my $entries = $redis->command('XINFO', 'STREAM', $name)->[9];
	reload_conf($node, 'cache_aside.events' => 'publish');
	ok($channel->next->{all}, 'a channel: all, first');
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 7; TRUNCATE posts');
	$channel->until(sub { @{ $_[0]{patterns} } });
	is_deeply([ $channel->keys, $channel->patterns ], [ 'user:7', 'post:*' ], '... keys and patterns');
	$channel->forget;
	reload_conf($node, 'cache_aside.redelete' => 'on', 'cache_aside.redelete_delay' => '100ms');
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 8');
	$channel->next;
	$channel->next;
	is_deeply([ $channel->keys ], [ 'user:8', 'user:8' ], 'deleted again: told again');
	is($channel->gaps, 0, '... without a gap');
	is($redis->command('XINFO', 'STREAM', $name)->[9], $entries, '... and nothing in the stream');

	# ---- off again
	reload_conf($node, 'cache_aside.events' => 'off', 'cache_aside.redelete' => 'off');
	ok(wait_until(sub { position_of($redis, $node) !~ /events/ }), 'off: the position forgets it');
	$channel->drain->forget;
	$node->safe_psql('postgres', 'UPDATE users SET v = v + 1 WHERE id = 9');
	wait_delivered($node);
	is_deeply($channel->drain->{heard}, [], '... nothing is told');
	$node->stop;
}
done_testing();
