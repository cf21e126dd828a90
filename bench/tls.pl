# What TLS costs: the same Redis through TCP, plain and with TLS, in turn. From COMMIT's return to the key being
# gone, as in commit_to_gone.pl, and draining a backlog, as in drain.pl. Keys are cached, and looked for, over
# the unix socket.
use strict;
use warnings;
use Bench;
use Certificates;
use Time::HiRes qw(time);

if (Certificates::why_not())
{
	print Certificates::why_not(), "\n";
	exit 0;
}
my $pki = Certificates->new->issue('server', san => 'IP:127.0.0.1');
my $tls_port = RedisServer::free_port();
my ($redis, $pg, $sql) = servers(
	redis => {
		port => 1,
		conf => "tls-port $tls_port\ntls-cert-file $pki->{dir}/server.crt\ntls-key-file $pki->{dir}/server.key\n"
		  . "tls-ca-cert-file $pki->{dir}/ca.crt\ntls-auth-clients no\n" },
	conf => "cache_aside.redis_tls_ca_file = '$pki->{dir}/ca.crt'\n");
my %urls = (plain => 'redis://127.0.0.1:' . $redis->port, TLS => "rediss://127.0.0.1:$tls_port");
my $cache = $redis->client;
my $samples = scaled(1000, 100);
my $n = scaled(500_000, 20_000);
my $key = numbered('row:', 1);
my $backlog = numbered('k:', $n, 12);

# The worker talks to Redis that way.
sub connect_by
{
	my ($way) = @_;
	my ($endpoint) = $urls{$way} =~ m{//(.*)};
	$sql->query("ALTER SYSTEM SET cache_aside.redis_url = '$urls{$way}'");
	$sql->query('SELECT pg_reload_conf()');
	$redis->wait_until(sub {
		$sql->value("SELECT endpoint || state || redis_state FROM cache_aside.status") eq "$endpoint/0deliveringconnected";
	}) or die "no connection by $way";
	delivered($sql);
	return;
}

sub gone
{
	my ($way) = @_;
	my ($there, @ms) = (0);
	return proved("$way, one commit at a time",
		prepare => sub { connect_by($way) },
		run => sub {
			($there, @ms) = (0);
			foreach (1 .. $samples)
			{
				cache_numbered($key);
				$there += $cache->command('EXISTS', 'row:1');
				$sql->query('UPDATE t SET n = n + 1 WHERE id = 1');
				my $committed = time;
				1 while $cache->command('EXISTS', 'row:1');
				push @ms, 1000 * (time - $committed);
			}
			return (percentile(50, @ms), commits => $samples, is => [ [ 'keys that were there', $there, $samples ] ]);
		});
}

sub drain
{
	my ($way) = @_;
	my ($worker, $others);
	return proved("$way, backlog",
		keys => $backlog,
		prepare => sub {
			connect_by($way);
			$worker = $pg->worker_pid;
			freeze($worker);
			$sql->query("SELECT cache_aside.invalidate(VARIADIC array_agg('k:' || lpad(i::text, 12, '0')))"
				  . " FROM generate_series($_ * 1000 + 1, $_ * 1000 + 1000) i")
			  foreach 0 .. $n / 1000 - 1;
			cache_numbered($backlog);
			$others = $redis->dbsize - $n;
		},
		run => sub {
			my $start = time;
			thaw($worker);
			select undef, undef, undef, 0.002 while !spoiled() && $redis->dbsize > $others + 4;
			return ($n / (time - $start), commits => $n / 1000, gone => $n);
		});
}

title('TLS, beside plain TCP');
$sql->query("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)");
$sql->query("SELECT cache_aside.attach('t', 'row:{id}')");
delivered($sql);
my ($plain, $tls) = paired(scaled(5, 1), [ 'plain: p50, ms', sub { gone('plain') } ], [ 'TLS: p50, ms', sub { gone('TLS') } ]);
verdict('commit to gone, ratio of medians', $tls / $plain, '<', 1.3);
($plain, $tls) = paired(scaled(3, 1), [ 'plain: drained, keys/s', sub { drain('plain') } ], [ 'TLS: drained, keys/s', sub { drain('TLS') } ]);
verdict('drained, ratio of medians', $tls / $plain, '>=', 0.7);
