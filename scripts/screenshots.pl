#!/usr/bin/perl
# screenshots.pl: the pictures in docs/images, made anew. Run by `make screenshots` (private.sh), which puts them there.
#
# A private PostgreSQL with a standby, a private Redis, pgbench at changing rates; examples/console in headless Chromium, light,
# dark and narrow, and without Redis; Prometheus with examples/monitoring, its own graph page. Takes SECONDS_OF_LOAD (180)
# and half a minute. Needs chromium, node, npm, pngquant, prometheus and prometheus-postgres-exporter; PICTURES is where to.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../test/perl";
use JSON::PP;
use POSIX ();

use NodePackage;
use PgServer;
use RedisServer;

my $into = $ENV{PICTURES} or die "PICTURES is not set: make screenshots\n";
my $seconds = $ENV{SECONDS_OF_LOAD} || 180;
my $monitoring = "$FindBin::Bin/../examples/monitoring";
my ($redis, $pg, @running);

$| = 1;
$SIG{$_} = sub { exit 130 } foreach qw(INT TERM HUP);
my $owner = $$;

foreach my $program (qw(chromium pngquant prometheus prometheus-postgres-exporter))
{
	die "$program is not installed\n" if system("command -v $program >/dev/null") != 0;
}
my ($package, $why_not) = NodePackage->install("$FindBin::Bin/../examples/console");
die "$why_not\n" unless $package;

sub content { my ($path) = @_; open my $fh, '<', $path or die "$path: $!"; local $/; return scalar <$fh>; }
sub write_file { my ($path, $text) = @_; open my $fh, '>', $path or die "$path: $!"; print $fh $text; close $fh; return $path; }

# A program that ends with this one; its pid
sub run
{
	my ($log, $env, @command) = @_;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		@ENV{ keys %$env } = values %$env;
		open STDOUT, '>', $log or die $!;
		open STDERR, '>&', \*STDOUT or die $!;
		exec @command or POSIX::_exit(127);
	}
	push @running, $pid;
	return $pid;
}

END
{
	my $status = $?;
	if ($$ == $owner) { kill 'TERM', @running; waitpid $_, 0 foreach @running; }
	$? = $status;
}

# The tables of pgbench, three rules, a replica
sub start_servers
{
	$redis = RedisServer->new(port => 1)->start;
	$pg = PgServer->new(conf => "max_wal_size = 2GB\nmax_slot_wal_keep_size = 4GB\n"
		  . "cache_aside.redis_url = '" . $redis->tcp_url . "'\n")->start;
	system("pgbench -i -q -s 4 @{[ $pg->options ]} postgres >/dev/null 2>&1") == 0 or die "pgbench -i failed\n";
	my $sql = $pg->connect;
	$sql->query($_) foreach 'CREATE EXTENSION cache_aside', 'CREATE ROLE console LOGIN IN ROLE pg_monitor',
	  map { "SELECT cache_aside.attach('pgbench_$_->[0]', '$_->[1]')" } [ 'accounts', 'account:{aid}' ],
	  [ 'tellers', 'teller:{tid}' ], [ 'branches', 'branch:{bid}' ];
	my $standby = PgServer->new_standby($pg)->configure("cluster_name = 'east-1'\n")->start;
	$sql->query("SELECT cache_aside.add_replica('east-1', 'host=" . $standby->dir . "', 'east')");
	return $standby;
}

# Now more, now less, as a day has it
sub start_load
{
	my ($log) = @_;
	my @rates = (150, 300, 500, 250, 700, 400);
	my $part = POSIX::ceil($seconds / @rates);
	my $options = join ' ', $pg->options;
	return run($log, {}, 'sh', '-c', join '; ', map { "pgbench -n -c 2 -T $part -R $_ $options postgres" } @rates, @rates);
}

sub start_prometheus
{
	my ($dir) = @_;
	my ($exporter, $port) = map { RedisServer::free_port() } 1, 2;
	my %env = (DATA_SOURCE_NAME => 'host=' . $pg->dir . ' port=5432 user=console dbname=postgres sslmode=disable');
	run("$dir/exporter.log", \%env, 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$exporter",
		"--extend.query-path=$monitoring/postgres_exporter.yaml", '--disable-default-metrics', '--disable-settings-metrics');
	write_file("$dir/alerts.yaml", content("$monitoring/alerts.yaml"));
	my $conf = content("$monitoring/prometheus.yml") =~ s/127\.0\.0\.1:9187/127.0.0.1:$exporter/r =~ s/15s/2s/gr;
	run("$dir/prometheus.log", {}, 'prometheus', "--web.listen-address=127.0.0.1:$port", "--storage.tsdb.path=$dir/data",
		'--config.file=' . write_file("$dir/prometheus.yml", $conf));
	return "http://127.0.0.1:$port";
}

sub start_console
{
	my ($dir) = @_;
	my $port = RedisServer::free_port();
	my %env = (PGHOST => $pg->dir, PGPORT => 5432, PGUSER => 'console', PGDATABASE => 'postgres');
	run("$dir/console.log", \%env, 'node', $package->dir . '/console.mjs', '--port', $port);
	return "http://127.0.0.1:$port/";
}

sub take
{
	my (@pictures) = @_;
	foreach my $picture (@pictures) { $picture->{out} = "$into/$picture->{name}.png"; }
	write_file($package->dir . '/pictures', join '', map { encode_json($_) . "\n" } @pictures);
	$package->run('node test/pictures.mjs <pictures') or die "no pictures\n";
	foreach my $picture (@pictures)
	{
		system('pngquant', '--force', '--ext', '.png', '--speed', 1, '128', $picture->{out}) == 0 or die "pngquant failed\n";
		printf "%-24s %d kB\n", "$picture->{name}.png", (-s $picture->{out}) / 1024;
	}
	return;
}

# Prometheus's own page (of its two the one that Debian has), one graph
sub graph
{
	my ($url, $name, $expression) = @_;
	my $minutes = POSIX::ceil($seconds / 60);
	my $escaped = $expression =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/ger;
	return { name => $name, url => "$url/classic/graph?g0.expr=$escaped&g0.tab=0&g0.stacked=0&g0.range_input=${minutes}m", width => 1200, height => 760,
		ready => '.rickshaw_graph path', settle => 3000 };
}

my $standby = start_servers();
my $console = start_console($pg->dir);
my $prometheus = start_prometheus($pg->dir);
start_load($pg->dir . '/pgbench.log');
print "$seconds s of load ...\n";
sleep $seconds;
my %ready = (ready => '#rules tbody tr', settle => 6000);
take({ %ready, name => 'console', url => $console, full => JSON::PP::true },
	{ %ready, name => 'console-dark', url => $console, scheme => 'dark', height => 820 },
	{ %ready, name => 'console-narrow', url => $console, width => 400, height => 860 },
	graph($prometheus, 'prometheus-delivery',
		'histogram_quantile(0.99, sum by (le) (rate(cache_aside_delivery_seconds_bucket[30s])))'),
	graph($prometheus, 'prometheus-keys', 'rate(cache_aside_keys_total[30s])'));
$redis->stop;
take({ name => 'console-trouble', url => $console, ready => '[data-state="bad"] #hint:not(:empty)', settle => 12_000, height => 620 });
