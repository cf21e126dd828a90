# A pattern and keys made to cost as much as matching can: neither the worker nor Redis is held by them.
# Remedies: LOOK_COST in matches_any() and is_cheap() in choose_match() (src/resync/scan.c).
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;
use Time::HiRes qw(time);

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.command_timeout = '60 s'\n");
$node->safe_psql('postgres', q{
	CREATE TABLE users (id int PRIMARY KEY, name text);
	SELECT cache_aside.attach('users', 'user:{id}');
	INSERT INTO users VALUES (1)});
wait_delivered($node);

# Seconds until a change of the row is delivered.
sub delay
{
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', q{UPDATE users SET name = 'x'});
	my $begun = time;
	RedisServer->wait_until(sub { !$redis->exists('user:1') }, 60) or return 60;
	return time - $begun;
}

# Each star of the pattern tries every place of the key, and nearly matches there.
$redis->set(('a' x 8000) . sprintf('%04d', $_), 'x') foreach 1 .. 600;
my $pattern = '*' . ('a' x 4000) . 'b*' . ('a' x 1000);
$node->safe_psql('postgres', "SELECT cache_aside.invalidate_pattern('$pattern')");
my @delays = map { delay() } 1 .. 8;
my $median = (sort { $a <=> $b } @delays)[4];
cmp_ok($median, '<', 3, 'ordinary keys are delivered meanwhile') or diag "@delays";
cmp_ok(soonest(1, sub { my $begun = time; $redis->command('PING'); return time - $begun }), '<', 1, 'Redis answers meanwhile');
wait_delivered($node);
is(scalar(grep { /^a/ } $redis->keys), 600, 'what does not match stays');

# ---- what no rule can name is left alone
$redis->set('a' x 8192, 'x');
$redis->set('a' x 8193, 'x');
$node->safe_psql('postgres', q{SELECT cache_aside.invalidate_pattern('a*')});
wait_delivered($node);
is(join(',', map { length } grep { /^a/ } $redis->keys), 8193, 'all keys that a rule can name are gone');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP/, 'nothing crashed');
done_testing();
