# Sentinels that know no such master, want a password, or another one: status says which of these, and what to do. Put
# right by a reload, each time. A connection that works outlives a new password of theirs until it is lost.
use strict;
use warnings;

use CacheAside;
use Faults;
use RedisServer;
use Sentinel;
use Test::More;

RedisServer->skip_all_unless_available;
my $set = Sentinel->new(replicas => 1, auth => ['secret'], redis_conf => "requirepass inner\nmasterauth inner\n",
	conf => "sentinel auth-pass cache inner\n");
$_->{auth} = ['inner'] foreach $set->servers;
$set->start;
my $node = CacheAside->new_node('main', extension => 0, conf => "cache_aside.redis_url = '"
	  . $set->url(user_info => ':inner') . "'\n");
$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
my $files = PostgreSQL::Test::Utils::tempdir();
my $number = 0;

sub password
{
	my ($password) = @_;
	my $file = "$files/" . ++$number;
	PostgreSQL::Test::Utils::append_to_file($file, "$password\n");
	reload_conf($node, 'cache_aside.redis_sentinel_password_file' => $file);
	return;
}

# Not by ALTER SYSTEM, which the tests' servers log.
sub change_name
{
	my ($name) = @_;
	$node->append_conf('postgresql.conf', "cache_aside.redis_url = '" . $set->url(user_info => ':inner', name => $name) . "'\n");
	$node->reload;
	return;
}

sub is_trouble
{
	my ($trouble, $hint, $what) = @_;
	ok(status_is($node, 'trouble', $trouble), "$what: status says so");
	like(status($node, 'hint'), $hint, "$what: and what to do");
	ok(status_is($node, 'redis_state', 'unreachable'), "$what: no connection");
	return;
}

is_trouble('Sentinel login', qr/redis_sentinel_password_file/, 'no password');
password('wrong');
is_trouble('Sentinel login', qr/redis_sentinel_password_file/, 'a wrong one');
password('secret');
wait_delivering($node);
ok(status_is($node, 'trouble', ''), 'the right one: nothing is wrong');
change_name('cash');
is_trouble('unknown master', qr/SENTINEL MASTERS/, 'no such name');
change_name('cache');
ok(status_is($node, 'trouble', ''), 'the right name: nothing is wrong');
is_deeply([ $node->psql('postgres', 'ALTER SYSTEM SET cache_aside.redis_url = \'redis+sentinel://s1,s1/cache\'') ]->[0], 3,
	'what is malformed is refused');
my $log = join "\n", grep { /LOG:  cache_aside/ } split /\n/, log_since($node);
is(scalar(my @told = $log =~ /LOG: .*$_/g), 1, "told once in the log: $_")
  foreach qr/name in redis_url/, qr/Sentinels are silent.*NOAUTH/;
unlike($log, qr/inner|secret/, 'no password is');

$node->stop;
done_testing();
