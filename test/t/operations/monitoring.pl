# examples/monitoring as an operator uses it: Prometheus scrapes postgres_exporter and sql_exporter, whose role has
# pg_monitor and nothing else; both give the same figures; each query of the dashboard has an answer under load,
# those of trouble when Redis is away; the alerts are right by promtool, and one fires here.
#
# Remedy: none in src/. Fails when a column that a query names, a metric that a panel or an alert names, or a rule of
# prometheus.yml is changed or taken out.
use strict;
use warnings;

use CacheAside;
use Faults;
use HTTP::Tiny;
use JSON::PP;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

my ($prometheus, $promtool, $exporter, $sql_exporter) =
  qw(prometheus promtool prometheus-postgres-exporter prometheus-sql-exporter);
foreach my $program ($prometheus, $promtool, $exporter, $sql_exporter)
{
	plan(skip_all => "$program is not installed") unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}
RedisServer->skip_all_unless_available;

my $examples = $INC{'CacheAside.pm'} =~ s{[^/]*$}{../../examples/monitoring}r;
my $dir = PostgreSQL::Test::Utils::tempdir();
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
my @ports = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 3;
my ($port, $exporter_port, $sql_port) = @ports;
my @running;
END { local $?; stop_all(); }

sub stop_all
{
	my @pids = splice @running;
	kill 'TERM', @pids;
	waitpid $_, 0 foreach @pids;
	return;
}

sub run
{
	my ($name, $env, @command) = @_;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		@ENV{ keys %$env } = values %$env;
		open STDOUT, '>', "$dir/$name.log" or die $!;
		open STDERR, '>&', \*STDOUT or die $!;
		exec @command or die "$command[0]: $!";
	}
	push @running, $pid;
	return;
}

sub get
{
	my ($on, $path) = @_;
	my $answer = HTTP::Tiny->new(timeout => 5)->get("http://127.0.0.1:$on$path");
	return $answer->{success} ? $answer->{content} : undef;
}

sub metrics { return get($_[0], '/metrics') // '' }

# A file of the examples, with the addresses of this test.
sub configured
{
	my ($file, %replace) = @_;
	my $text = slurp_file("$examples/$file");
	foreach my $from (sort keys %replace)
	{
		$text =~ s/\Q$from\E/$replace{$from}/g or die "$file has no '$from'";
	}
	PostgreSQL::Test::Utils::append_to_file("$dir/$file", $text);
	return "$dir/$file";
}

# ---- promtool
PostgreSQL::Test::Utils::command_ok([ $promtool, 'check', 'config', "$examples/prometheus.yml" ], 'prometheus.yml');
PostgreSQL::Test::Utils::command_ok([ $promtool, 'test', 'rules', "$examples/alerts_test.yaml" ], 'the alerts');

# ---- a server with rules, a replica that is not there, a rule that misses writes, and load
make_users($node, 100);
$node->safe_psql('postgres', q{CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	SELECT cache_aside.add_replica('r1', 'host=/nowhere', 'here');
	CREATE TABLE gap (id int PRIMARY KEY); SELECT cache_aside.attach('gap', 'gap:{id}');
	ALTER TABLE gap DISABLE TRIGGER USER});
my ($host, $pg_port) = ($node->host, $node->port);
run('exporter', { DATA_SOURCE_NAME => "host=$host port=$pg_port user=monitor dbname=postgres sslmode=disable" },
	$exporter, "--web.listen-address=127.0.0.1:$exporter_port", "--extend.query-path=$examples/postgres_exporter.yaml",
	'--disable-default-metrics', '--disable-settings-metrics', '--no-collector.database', '--no-collector.bgwriter');
run('sql_exporter', {}, $sql_exporter, "-web.listen-address=127.0.0.1:$sql_port", '-config.file',
	configured('sql_exporter.yaml', 'postgres://monitor@127.0.0.1:5432/postgres?sslmode=disable' =>
		  "postgres://monitor@/postgres?host=$host&port=$pg_port&sslmode=disable", 'interval: 15s' => 'interval: 1s'));
configured('alerts.yaml', 'cache_aside_trouble_seconds > 60' => 'cache_aside_trouble_seconds > 1');
configured('prometheus.yml', '15s' => '1s', "'127.0.0.1:9187'" => "'127.0.0.1:$exporter_port', '127.0.0.1:$sql_port'");
run('prometheus', {}, $prometheus, "--web.listen-address=127.0.0.1:$port", "--config.file=$dir/prometheus.yml",
	"--storage.tsdb.path=$dir/data");

sub query
{
	my ($expression) = @_;
	my $escaped = $expression =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/ger;
	my $answer = get($port, "/api/v1/query?query=$escaped") // return;
	return decode_json($answer)->{data}{result};
}

sub has_answer { return @{ query($_[0]) // [] } > 0 }

sub write_some { $node->safe_psql('postgres', 'UPDATE users SET v = v + 1'); return 1; }

ok(wait_until(sub { write_some() && has_answer("sum(rate(cache_aside_keys_total[10s])) > 0") }), 'Prometheus sees the load');

# ---- the dashboard
my $dashboard = decode_json(slurp_file("$examples/grafana.json"));
my @panels = map {
	my $panel = $_;
	map { [ $panel->{title}, $_->{expr} =~ s/\$__rate_interval/10s/gr =~ s/\$instance/.*/gr ] } @{ $panel->{targets} }
} @{ $dashboard->{panels} };
cmp_ok(scalar @panels, '>', 20, 'the dashboard has queries');
foreach (grep { $_->[0] ne 'Trouble' } @panels)
{
	my ($title, $expression) = @$_;
	ok(wait_until(sub { write_some() && has_answer($expression) }, 60), "$title: $expression");
}

# ---- both exporters
sub names { my ($text) = @_; return join "\n", sort keys %{ { map { $_ => 1 } $text =~ /^(cache_aside\w*)[{ ]/mg } } }
my $both = sub { my ($on) = @_; my $found = query(qq{count by (__name__) ({__name__=~"cache_aside.*", instance="127.0.0.1:$on"})});
	return join "\n", sort map { $_->{metric}{__name__} } @$found };
is($both->($sql_port), $both->($exporter_port), 'both exporters give the same metrics');
is(names(metrics($exporter_port)), $both->($exporter_port), '... and Prometheus has all of them');
my ($gaps) = metrics($exporter_port) =~ /^cache_aside_rules_gaps\{.*\} (\d+)$/m;
is($gaps, $node->safe_psql('postgres', 'SELECT count(*) FROM cache_aside.gaps'), 'the gaps are those of the view');

# ---- trouble
$redis->stop;
write_some();
foreach (grep { $_->[0] eq 'Trouble' } @panels)
{
	ok(wait_until(sub { has_answer($_->[1]) }), "without Redis: $_->[1]");
}
ok(wait_until(sub { has_answer('ALERTS{alertname="CacheAsideTrouble", alertstate="firing", cause="unreachable"}') }),
	'the alert fires, with its cause');
stop_all();
$node->stop;
done_testing();
