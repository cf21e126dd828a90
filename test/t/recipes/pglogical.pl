# pglogical beside us: what its apply worker writes deletes keys on the subscriber, since rules are ENABLE ALWAYS; versions are
# the provider's. A trigger of a rule that is ORIGIN would not fire there, which gaps says.
#
# Remedy: ENABLE ALWAYS in attach() (src/rules/attach.c).
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $conf = "wal_level = logical\ntrack_commit_timestamp = on\n";
my $provider = CacheAside->new_node('provider', conf => "$conf\ncache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
plan skip_all => 'pglogical is not installed'
  if $provider->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pglogical'}) eq '0';
my $subscriber = CacheAside->new_node('subscriber', redis => $redis, conf => $conf);
my %url = map { $_->name => $_->connstr . ' dbname=postgres' } $provider, $subscriber;
foreach my $node ($provider, $subscriber)
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_aside, pglogical'\n");
	$node->append_conf('postgresql.conf', "output_plugin_libraries = 'pgoutput, pglogical_output'\n")
	  if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'});
	$node->restart;
	$node->safe_psql('postgres', qq{CREATE EXTENSION pglogical;
		CREATE TABLE users (id int PRIMARY KEY, name text); CREATE TABLE notes (id int PRIMARY KEY, title text);
		SELECT cache_aside.enable_versioning('users');
		SELECT pglogical.create_node(node_name => '@{[ $node->name ]}', dsn => '$url{$node->name}')});
}
$subscriber->safe_psql('postgres', q{SELECT cache_aside.attach('users', 'user:{id}'), cache_aside.attach('notes', 'notes', level => 'statement')});
wait_delivering($subscriber);
$provider->safe_psql('postgres', q{INSERT INTO users SELECT i, 'a' FROM generate_series(1, 3) i;
	SELECT pglogical.replication_set_add_all_tables('default', ARRAY['public'])});
$redis->set("user:$_", 'v') foreach 0 .. 50;
$subscriber->safe_psql('postgres', qq{SELECT pglogical.create_subscription(subscription_name => 'mirror', provider_dsn => '$url{provider}')});

sub applied
{
	my ($query, $value) = @_;
	$subscriber->poll_query_until('postgres', "SELECT ($query) = '$value'") or die "never: $query = $value";
	wait_delivered($subscriber);
	return;
}

applied('SELECT count(*) FROM users', 3);
ok(!is_cached($redis, "user:$_"), "the first copy deletes user:$_") foreach 1, 3;
ok(is_cached($redis, 'user:0'), '... and no other');
$redis->set("user:$_", 'v') foreach 1 .. 3;
$provider->safe_psql('postgres', q{UPDATE users SET name = 'b' WHERE id = 1; DELETE FROM users WHERE id = 2});
applied(q{SELECT count(*) || name || version FROM users JOIN users u USING (id, name, version) WHERE id = 1 GROUP BY name, version}, '1b2');
applied('SELECT count(*) FROM users', 2);
ok(!is_cached($redis, "user:$_"), "an applied write deletes user:$_") foreach 1, 2;
ok(is_cached($redis, 'user:3'), '... and no other');
$provider->safe_psql('postgres', q{INSERT INTO users SELECT i, 'many' FROM generate_series(10, 50) i});
applied('SELECT count(*) FROM users', 43);
is($redis->exists(map { "user:$_" } 10 .. 50), 0, 'many INSERTs of one transaction, too');
$redis->set('user:9', 'v');
$provider->safe_psql('postgres', 'TRUNCATE users');
applied('SELECT count(*) FROM users', 0);
ok(!is_cached($redis, 'user:9'), 'TRUNCATE');

$redis->set('notes', 'v');
$provider->safe_psql('postgres', q{INSERT INTO notes VALUES (1, 'a')});
applied('SELECT count(*) FROM notes', 1);
ok(is_cached($redis, 'notes'), 'a statement-level rule sees nothing of it, as with subscriptions of core');
my $trigger = $subscriber->safe_psql('postgres', q{SELECT triggers[1] FROM cache_aside.rules WHERE relation = 'users'::regclass});
$subscriber->safe_psql('postgres', qq{ALTER TABLE users ENABLE TRIGGER "$trigger"});
like($subscriber->safe_psql('postgres', 'SELECT gap, remedy FROM cache_aside.gaps'), qr/does not fire for replicated changes.*ENABLE ALWAYS/,
	'a trigger that is not ENABLE ALWAYS is a gap');
done_testing();
