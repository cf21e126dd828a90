# Keys that begin with "cache_aside:" belong to the extension: whoever could name one would move the
# position, fence the worker, or let stale values in. SQL refuses them, before key_prefix and after it,
# and what the worker deletes by pattern leaves them alone.
#
# Remedies: refuse_reserved() in ca_prefix_each (prefix.c) for keys; ca_prefix_check_pattern, called by
# attach, attach_query, CREATE TRIGGER, register_pattern and invalidate_pattern; check_key_prefix
# (cache_aside.c); ca_prefix_is_reserved in unlink_matching (scan.c).
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE TABLE t (id int, name text)});

sub refused
{
	my ($statement, $detail) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
	$detail //= qr/"cache_aside:"/;
	return like($err, qr/ERROR:  22023: .*DETAIL:  .*$detail.*HINT: /s, "refused: $statement");
}

sub no_error
{
	my ($statement) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $statement, on_error_stop => 0);
	return unlike($err, qr/ERROR/, "allowed: $statement");
}

# ---- keys that are given
my $key = 'cache_aside:position:1';
refused("SELECT cache_aside.$_")
  foreach "invalidate('$key')", "invalidate('user:1', 'cache_aside:')", "get('$key')", "fill('$key', 'v')",
  "fetch('$key', 'SELECT ''v''', '1 min', VARIADIC '{}')", "shard('$key', 2)", "warm(\$\$SELECT '$key', 'v'\$\$)";
no_error("SELECT cache_aside.$_")
  foreach "invalidate('cache_aside')", "invalidate('cache_aside.x')", "get('Cache_aside:x')", "shard('x', 2)";

# ---- patterns that can match nothing else
foreach my $pattern ('cache_aside:*', '\\cache_aside:?', '[c]ache_aside[:]guard:*')
{
	refused("SELECT cache_aside.invalidate_pattern('$pattern')", qr/only keys/);
	refused("SELECT cache_aside.register_pattern('$pattern')", qr/only keys/);
	refused("SELECT cache_aside.attach_query('t', 'SELECT name FROM changed', '$pattern')", qr/only keys/);
}
no_error("SELECT cache_aside.register_pattern('$_')") foreach 'cache*', '[cd]ache_aside:*', 'cache_aside', '*';
$node->safe_psql('postgres', q{DELETE FROM cache_aside.registered_pattern});

# ---- rules
refused(q{SELECT cache_aside.attach('t', 'cache_aside:stick:{id}')});
refused(q{CREATE TRIGGER mine AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION
	cache_aside.invalidate_row('cache_aside:guard:{id}')});
no_error(q{SELECT cache_aside.attach('t', '{name}')});
no_error(q{SELECT cache_aside.attach_query('t', 'SELECT name FROM changed WHERE id = 2', '*')});
refused(qq{INSERT INTO t VALUES (1, '$key')}, qr/Rule "\{name\}" of table "t"/);
no_error(q{INSERT INTO t VALUES (1, 'user:1')});
refused(qq{UPDATE t SET name = '$key'});
$node->safe_psql('postgres', q{SELECT cache_aside.detach('t', '{name}')});
refused(qq{INSERT INTO t VALUES (2, '$key')}, qr/Rule "\*" of table "t"/);
$node->safe_psql('postgres', qq{INSERT INTO t VALUES (1, '$key')});
refused(q{SELECT * FROM cache_aside.audit('t', '{name}', 1)});
refused(q{SELECT cache_aside.warm('t', '{name}', '1 min')});

# ---- sticks: a name is text behind a prefix of its own
$node->safe_psql('postgres', "SELECT cache_aside.stick('$_')") foreach $key, '*', "a b\n", 'x' x 1024;
like(($node->psql('postgres', q{SELECT cache_aside.stick(repeat('x', 1025))}))[2], qr/too long/, 'a long name');
wait_delivered($node);
ok(RedisServer->wait_until(sub { $redis->exists(map { "cache_aside:stick:$_" } $key, '*', "a b\n", 'x' x 1024) == 4 }),
	'each stick has its own key');

# ---- what matches everything deletes none of ours
my @ours = ($redis->keys('cache_aside:*'), 'cache_aside:lease:user:1', 'cache_aside:position:99');
$redis->mset(map { $_ => 'x' } 'user:1', 'cache_aside', @ours[ -2, -1 ]);
foreach my $statement (
	q{SELECT cache_aside.invalidate_pattern('*')},
	q{SELECT cache_aside.invalidate_pattern('cache*')},
	q{SELECT cache_aside.invalidate_pattern('[a-z]*')},
	q{TRUNCATE t},
	q{SELECT cache_aside.flush('t')},
	q{SELECT cache_aside.resync()})
{
	$redis->set('cache_aside', 'x');
	$node->safe_psql('postgres', $statement);
	wait_delivered($node);
	is($redis->exists(@ours), scalar @ours, "$statement: ours are there");
	ok(!$redis->exists('cache_aside'), 'and the cache is gone');
}

# ---- a prefix that makes a name reserved
my ($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET cache_aside.key_prefix = 'a:, cache_aside:x'");
like($err, qr/invalid value .*DETAIL: .*"cache_aside:".*HINT/s, 'key_prefix itself is refused');
reload_conf($node, 'cache_aside.key_prefix' => 'app:,cache_');
refused("SELECT cache_aside.$_('aside:x')") foreach 'invalidate', 'get', 'invalidate_pattern', 'register_pattern';
refused("SELECT cache_aside.invalidate('$key')");
refused(q{SELECT cache_aside.attach('t', 'aside:{id}')});
no_error(q{SELECT cache_aside.invalidate('x'), cache_aside.invalidate_pattern('a*')});

# A rule that was right before the prefix changed: writes say why they fail, gaps too; dropping the
# table and a resync do not fail.
reload_conf($node, 'cache_aside.key_prefix' => '');
$node->safe_psql('postgres', q{CREATE TABLE late (id int); SELECT cache_aside.attach('late', 'aside:{id}')});
reload_conf($node, 'cache_aside.key_prefix' => 'cache_,');
refused('INSERT INTO late VALUES (1)', qr/Rule "aside:\{id\}" of table "late"/);
like($node->safe_psql('postgres', q{SELECT gap FROM cache_aside.gaps WHERE relation = 'late'::regclass}),
	qr/reserved/, 'gaps tells');
$redis->set('aside:5', 'x');
$node->safe_psql('postgres', q{TRUNCATE late; SELECT cache_aside.resync(); DROP TABLE late});
wait_delivered($node);
ok(!$redis->exists('aside:5'), 'the other prefix is served');
is($redis->exists(@ours), scalar @ours, 'ours are there');
done_testing();
