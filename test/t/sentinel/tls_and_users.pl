# Nothing but TLS, to the Sentinels and to Redis, under an authority of our own; a user of its own at each, at the Sentinels one with
# no more than docs/sentinel.md says. Through a fail-over, for the worker and for backends. Then an authority that nobody
# here has a certificate of.
#
# Remedy: ca_redis_address_of_sentinel() in redis_address.c (without: Redis's user at the Sentinels), and that it keeps tls.
use strict;
use warnings;

use CacheAside;
use Certificates;
use Faults;
use PgWire;
use Sentinel;
use Test::More;

Certificates->skip_all_unless_available;
my $pki = Certificates->new;
$pki->issue('server', san => 'DNS:localhost,IP:127.0.0.1');
my ($may) = PostgreSQL::Test::Utils::slurp_file('docs/sentinel.md') =~ /restricted user of a Sentinel needs `([^`]+)`/ or die;
my $set = Sentinel->new(
	replicas => 1, tls => $pki,
	conf => "user watcher on >seen resetchannels -\@all $may\n",
	redis_conf => "user delivery on >secret ~* &* +\@all\n")->start;
my $files = PostgreSQL::Test::Utils::tempdir();
PostgreSQL::Test::Utils::append_to_file("$files/password", "seen\n");
my $node = CacheAside->new_node('main', extension => 0, conf => <<"EOC");
cache_aside.redis_url = '@{[ $set->url(user_info => 'delivery:secret') ]}'
cache_aside.redis_sentinel_user = 'watcher'
cache_aside.redis_sentinel_password_file = '$files/password'
cache_aside.redis_tls_ca_file = '$pki->{dir}/ca.crt'
EOC
$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
wait_delivering($node);
make_users($node, 10);
wait_delivered($node);
my $client = PgWire->new($node);
my $first = $set->master;
my $id = 0;

sub is_delivered
{
	my ($redis, $what) = @_;
	$id++;
	cache_users($redis, $id);
	is($client->query("SELECT cache_aside.get('user:$id')")->{rows}[0][0], 'cached', "$what: a backend reads there");
	$client->query("UPDATE users SET v = v + 1 WHERE id = $id");
	return ok(keys_gone($redis, "user:$id"), "$what: delivered");
}

is_delivered($first, 'at first');
ok( $node->poll_query_until('postgres', 'SELECT count(*) = 3 FROM cache_aside.sentinels WHERE agrees AND problem IS NULL'),
	'each Sentinel answers');
like(join(' ', map { $_->command('CLIENT', 'LIST') } $set->sentinels), qr/(?:sub=1 .*user=watcher.*){3}/s,
	'to the user that is for them, who listens');
like($first->command('CLIENT', 'LIST'), qr/name=cache_aside\S* .*user=delivery/, 'and Redis has its own');
my $second = $set->hand_over;
ok(status_is($node, 'endpoint', '127.0.0.1:' . $second->port . '/0'), 'handed over: followed');
is_delivered($second, 'handed over');

$pki->authority('other');
reload_conf($node, 'cache_aside.redis_tls_ca_file' => "$pki->{dir}/other.crt");
ok(status_is($node, 'redis_state', 'unreachable'), 'another authority: no connection');
ok(wait_until(sub { status($node, 'last_error') =~ /Sentinels are silent.*certificate/ }), 'and why')
  or diag(status($node, 'last_error'));
reload_conf($node, 'cache_aside.redis_tls_ca_file' => "$pki->{dir}/ca.crt");
wait_delivering($node);
is_delivered($second, 'the right one');

$node->stop;
done_testing();
