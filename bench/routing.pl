# What routing costs: route() with 15 replicas, telling the client each commit's LSN, and
# classifying a ten-table join. The first and the last by the session's CPU, per call. It is
# claimed that every answer is the one that costs: a replica, read only, a commit whose LSN is told.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();

# Microseconds of the session's CPU that the code takes
sub cpu
{
	my ($code) = @_;
	my @ns = map {
		$code->() if $_;
		open my $fh, '<', '/proc/' . $sql->backend_pid . '/schedstat' or die "schedstat: $!";
		(split ' ', <$fh>)[0];
	} 0, 1;
	return ($ns[1] - $ns[0]) / 1e3;
}

# ... that a call of an expression takes; it is called for n rows.
sub microseconds
{
	my ($n, $expression) = @_;
	my $query = "SELECT count(x) FROM (SELECT $expression AS x FROM generate_series(1, %d) g OFFSET 0) s";
	$sql->query(sprintf $query, 100);
	my $empty = cpu(sub { $sql->query("SELECT count(x) FROM (SELECT g AS x FROM generate_series(1, $n) g OFFSET 0) s") });
	return (cpu(sub { $sql->query(sprintf $query, $n) }) - $empty) / $n;
}

my $made = 0;
sub own_name { return "r${made}_"; }

# Fifteen replicas that publish, as workers of standbys do, and replay all there is; with other names each time, for those
# of before are known for a moment longer.
sub fifteen_replicas
{
	$made++;
	my $own = own_name();
	my $system = $sql->value('SELECT system_identifier FROM pg_control_system()');
	$sql->query("SELECT cache_aside.add_replica('$own' || g, " . q{'host=replica' || g || ' dbname=app',
		CASE g % 3 WHEN 0 THEN 'east' WHEN 1 THEN 'west' END, g) FROM generate_series(1, 15) g});
	my $name = spoiled() ? 'other' : $own;
	my $script = 'local t = redis.call("time") local at = t[1] * 1000 + math.floor(t[2] / 1000) '
	  . 'for i = 1, 15 do redis.call("hset", "cache_aside:replicas", ARGV[2] .. i, string.format('
	  . q{'{"lsn":"%s","timeline":1,"system":"%s","by":"replica","at":%.0f}'}
	  . ', ARGV[3], ARGV[1], at)) end';
	my $pid = child(
		sub {
			my $client = $redis->client;
			my $server = $pg->connect;
			while (getppid() != 1)
			{
				$client->command('EVAL', $script, 0, $system, $name,
					$server->value('SELECT pg_current_wal_flush_lsn()'));
				select undef, undef, undef, 0.2;
			}
		});
	select undef, undef, undef, 0.02
	  until spoiled() || $sql->value('SELECT count(*) FROM cache_aside.replica_status WHERE eligible') == 15;
	return $pid;
}

sub route_us
{
	my ($n) = @_;
	my $route = q{cache_aside.route('0/1', 'east', '1 min')};
	my $publisher;
	return proved('route',
		prepare => sub { $publisher = fifteen_replicas(); delivered($sql); },
		run => sub {
			my $us = microseconds($n, $route);
			my $replicas = $sql->value("SELECT count(*) FROM generate_series(1, 100) g, $route r WHERE r.role = 'replica'");
			kill 'TERM', $publisher;
			waitpid $publisher, 0;
			$sql->query("SELECT cache_aside.remove_replica('" . own_name() . "' || g) FROM generate_series(1, 15) g");
			$redis->del('cache_aside:replicas');
			return ($us, is => [ [ 'answers that name a replica', $replicas, 100 ] ]);
		});
}

# A writer in it, when it is to be spoiled
sub classify_us
{
	my ($n, $join) = @_;
	return proved('is_read_only',
		run => sub {
			my $text = spoiled() ? "$join FOR UPDATE" : $join;
			my $yes = $sql->value("SELECT cache_aside.is_read_only('$text')");
			return (microseconds($n, "cache_aside.is_read_only('$text' || left(g::text, 0))"),
				is => [ [ 'read only', $yes eq 't' ? 1 : 0, 1 ] ]);
		});
}

sub tps
{
	my ($report) = @_;
	my $seconds = scaled(10, 1);
	return proved("report_commit_lsn $report",
		baseline => $report eq 'off',
		run => sub {
			local $ENV{PGOPTIONS} = '-c cache_aside.report_commit_lsn=' . (spoiled() ? 'off' : $report);
			my ($tps) = pgbench("-N -c 4 -j 2 -T $seconds");
			my $client = $pg->connect(options => { options => $ENV{PGOPTIONS} });
			$client->query('UPDATE pgbench_accounts SET abalance = 0 WHERE aid = 1');
			my $told = $client->setting('cache_aside.commit_lsn');
			return ($tps, is => [ [ 'commits told of', $told ? 1 : 0, $report eq 'on' ? 1 : 0 ] ]);
		});
}

title('Routing: route(), the token of a commit, is_read_only()');
my $n = scaled(100_000, 1000);
my @route = map { route_us($n) } 1 .. scaled(5, 1);
verdict('route(), 15 replicas, us', median(@route), '<=', 1, '%.2f');

$sql->query("CREATE TABLE t$_ (id int PRIMARY KEY, ref int, val text)") foreach 1 .. 10;
my $join = 'SELECT t1.id, t2.val, t10.val FROM t1 ' . join(' ', map { "JOIN t$_ ON t$_.ref = t" . ($_ - 1) . '.id' } 2 .. 10)
  . ' WHERE t1.id = $1 AND t5.val LIKE $2 ORDER BY t10.val LIMIT 20';
my @classify = map { classify_us($n / 10, $join) } 1 .. scaled(5, 1);
verdict('is_read_only(), ten tables, us', median(@classify), '<=', 35, '%.1f');

accounts(scaled(5, 1));
my ($off, $on) = paired(scaled(6, 1), [ 'TPS without a token', sub { tps('off') } ], [ 'TPS with', sub { tps('on') } ]);
verdict('ratio of medians', $on / $off, '>=', 0.98);
