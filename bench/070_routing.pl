# What routing costs: route() with 15 replicas, telling the client each commit's LSN, and
# classifying a ten-table join. The first and the last are timed inside the server, per call.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();

# Microseconds per call of an expression over n rows; every row evaluates it.
sub microseconds
{
	my ($n, $expression) = @_;
	my $query = "SELECT count(x) FROM (SELECT $expression AS x FROM generate_series(1, %d) g OFFSET 0) s";
	$sql->query(sprintf $query, 100);
	my $empty = timed(sub { $sql->query("SELECT count(x) FROM (SELECT g AS x FROM generate_series(1, $n) g OFFSET 0) s") });
	return 1e6 * (timed(sub { $sql->query(sprintf $query, $n) }) - $empty) / $n;
}

# Fifteen replicas that publish, as workers of standbys do; eight of them walsenders besides.
sub fifteen_replicas
{
	my $system = $sql->value('SELECT system_identifier FROM pg_control_system()');
	$sql->query(q{SELECT cache_aside.add_replica('r' || g, 'host=replica' || g || ' dbname=app',
		CASE g % 3 WHEN 0 THEN 'east' WHEN 1 THEN 'west' END, g) FROM generate_series(1, 15) g});
	my $script = 'local t = redis.call("time") local at = t[1] * 1000 + math.floor(t[2] / 1000) '
	  . 'for i = 1, 15 do redis.call("hset", "cache_aside:replicas", "r" .. i, string.format('
	  . q{'{"lsn":"0/1000000","timeline":1,"system":"%s","by":"replica","at":%.0f}'}
	  . ', ARGV[1], at)) end';
	my $pid = child(
		sub {
			my $client = $redis->client;
			while (getppid() != 1)
			{
				$client->command('EVAL', $script, 0, $system);
				select undef, undef, undef, 0.2;
			}
		});
	select undef, undef, undef, 0.02
	  until $sql->value('SELECT count(*) FROM cache_aside.replica_status WHERE eligible') == 15;
	return $pid;
}

sub tps
{
	my ($report) = @_;
	my $seconds = scaled(10, 1);
	local $ENV{PGOPTIONS} = "-c cache_aside.report_commit_lsn=$report";
	my $out = join '', `pgbench -n -M prepared -N -c 4 -j 2 -T $seconds @{[ $pg->options ]} postgres 2>&1`;
	return ($out =~ /tps = ([\d.]+)/)[0] // die $out;
}

title('Routing: route(), the token of a commit, is_read_only()');
my $publisher = fifteen_replicas();
my $n = scaled(100_000, 1000);
my @route = map { microseconds($n, q{cache_aside.route('0/1', 'east', '1 min')}) } 1 .. scaled(5, 1);
verdict('route(), 15 replicas, us', median(@route), '<', 20, '%.1f');
kill 'TERM', $publisher;
waitpid $publisher, 0;

$sql->query("CREATE TABLE t$_ (id int PRIMARY KEY, ref int, val text)") foreach 1 .. 10;
my $join = 'SELECT t1.id, t2.val, t10.val FROM t1 ' . join(' ', map { "JOIN t$_ ON t$_.ref = t" . ($_ - 1) . '.id' } 2 .. 10)
  . ' WHERE t1.id = \$1 AND t5.val LIKE \$2 ORDER BY t10.val LIMIT 20';
$join =~ s/\\//g;
my @classify = map { microseconds($n / 10, "cache_aside.is_read_only('$join' || left(g::text, 0))") } 1 .. scaled(5, 1);
verdict('is_read_only(), ten tables, us', median(@classify), '<', 100, '%.1f');

system("pgbench -i -q -s 5 @{[ $pg->options ]} postgres >/dev/null 2>&1") == 0 or die;
my ($off, $on) = paired(scaled(6, 1), [ 'TPS without a token', sub { tps('off') } ], [ 'TPS with', sub { tps('on') } ]);
verdict('ratio of medians', $on / $off, '>=', 0.98);
