#!/usr/bin/perl
# demo.pl: the main job on a real workload, told as it happens. Run by `make demo` (private.sh).
#
# A private PostgreSQL and a private Redis. First the race that invalidating from the application
# loses, then the same steps with a rule. Then pgbench's own tables and script from several clients
# against a cache that ordinary clients filled before and guarded readers refill meanwhile, and at the
# end every cached value is compared with its row. Exit status 1 if one is stale, or if a key went that
# should not have.
#
# SECONDS_OF_LOAD=n (default 10) is how long pgbench writes, CLIENTS=n (default 4) how many write.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../test/perl";
use List::Util qw(min);
use POSIX ();
use Time::HiRes qw(time);

use PgServer;
use RedisServer;

my $seconds = $ENV{SECONDS_OF_LOAD} || 10;
my $clients = $ENV{CLIENTS} || 4;
my $scale = 4;                # of pgbench: 100 000 accounts and one branch each
my $every = 4;                # one account in so many is cached
my $probe_account = 10_000_001;    # one that pgbench does not know

my ($redis, $pg, $sql);

$| = 1;
$SIG{$_} = sub { exit 130 } foreach qw(INT TERM HUP);

sub main
{
	start_servers();
	show_race();
	show_rules();
	my $cached = fill_cache();
	run_load();
	return compare($cached) ? 0 : 1;
}

# ---- what is told ----

sub narrate { print @_, "\n"; return; }
sub title { my ($text) = @_; narrate("\n$text\n", '=' x length $text); return; }
sub step { my ($who, $what, $result) = @_; printf "  %-8s %-58s %s\n", $who, $what, $result // ''; return; }

sub commas
{
	my ($n) = @_;
	1 while $n =~ s/^(\d+)(\d{3})/$1,$2/;
	return $n;
}

sub start_servers
{
	narrate('Starting a private PostgreSQL and a private Redis ...');
	$redis = RedisServer->new->start;
	$pg = PgServer->new(redis => $redis, conf => "max_wal_size = 2GB\n")->start;
	$sql = $pg->connect;
	my @made = `pgbench -i -q -s $scale @{[ $pg->options ]} postgres 2>&1`;
	die "pgbench -i failed:\n@made" if $?;
	$sql->query("INSERT INTO pgbench_accounts VALUES ($probe_account, 1, 0, '')");
	narrate('PostgreSQL ', $sql->value('SHOW server_version') =~ s/ .*//r,
		', Redis ', join('.', RedisServer->version), '; pgbench tables with ',
		commas($scale * 100_000), ' accounts.');
	return;
}

sub balance { return $sql->value("SELECT abalance FROM pgbench_accounts WHERE aid = $_[0]"); }
sub cached { return $redis->get($_[0]) // 'nothing'; }

sub show_race
{
	my $writer = $pg->connect;
	title('1. The race: the application deletes the key itself');
	$redis->set('account:1', balance(1));
	step('writer', 'BEGIN; UPDATE pgbench_accounts SET abalance = 100 ...');
	$writer->query('BEGIN; UPDATE pgbench_accounts SET abalance = 100 WHERE aid = 1');
	$redis->del('account:1');
	step('writer', 'DEL account:1');
	step('reader', 'GET account:1', '-> ' . cached('account:1'));
	my $read = balance(1);
	step('reader', 'SELECT abalance ..., not yet committed', "-> $read");
	$redis->set('account:1', $read);
	step('reader', "SET account:1 $read");
	$writer->query('COMMIT');
	step('writer', 'COMMIT');
	step('later', 'the cache says ' . cached('account:1') . ', the row says ' . balance(1),
		'-> stale until the next write');
	narrate('  Deleting after COMMIT moves the hole: a process that dies in between never deletes.');
	return;
}

sub show_rules
{
	my $example = <<'EOS';
CREATE EXTENSION cache_aside;
SELECT cache_aside.attach('pgbench_accounts', 'account:{aid}');
SELECT cache_aside.attach('pgbench_branches', 'branch:{bid}');
-- a committed write: its key is gone as soon as the write can be seen
UPDATE pgbench_accounts SET abalance = 200 WHERE aid = 1;
-- a write that is rolled back: nothing happens
BEGIN;
UPDATE pgbench_accounts SET abalance = 300 WHERE aid = 2;
ROLLBACK;
SELECT cache_aside.wait_delivered();    -- only a demonstration needs to wait
EOS
	title('2. The same with rules: ten lines of SQL');
	my ($create, $accounts, $branches, @rest) = split /;\K[^;]*?\n/, $example =~ s/ *--.*//gr;
	$sql->query($create);
	# what an earlier life of the server may have left in Redis is deleted first
	RedisServer->wait_until(sub { $sql->value('SELECT state FROM cache_aside.status') eq 'delivering' })
	  or die "the worker does not deliver\n";
	# and a rule deletes what was cached before it was there
	$sql->query($_) foreach $accounts, $branches, 'SELECT cache_aside.wait_delivered()';
	$redis->mset('account:1', balance(1), 'account:2', balance(2));
	step('before', 'account:1 and account:2 in the cache', cached('account:1') . ', ' . cached('account:2'));
	narrate("\n", $example =~ s/^/    /gmr);
	$sql->query($_) foreach @rest;
	step('after', 'account:1 and account:2 in the cache', cached('account:1') . ', ' . cached('account:2'));
	die "the key of the rolled back write is gone\n" if cached('account:2') eq 'nothing';
	step('', 'the rows', balance(1) . ', ' . balance(2));
	return;
}

# ---- the workload ----

# Runs code in a child; returns its pid.
sub child
{
	my ($code) = @_;
	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	$SIG{$_} = 'DEFAULT' foreach qw(INT TERM HUP);
	eval { $code->(); 1 } or do { print STDERR $@; POSIX::_exit(1) };
	POSIX::_exit(0);
}

sub wait_children
{
	my (@pids) = @_;
	my $bad = 0;
	foreach my $pid (@pids) { waitpid($pid, 0); $bad ||= $?; }
	die "a client failed\n" if $bad;
	return;
}

my %source = (
	account => "SELECT 'account:' || aid, row_to_json(a) FROM pgbench_accounts a WHERE aid % $every = 0",
	branch => "SELECT 'branch:' || bid, row_to_json(b) FROM pgbench_branches b");

# Ordinary clients: read a row, store it as JSON for an hour.
sub fill_cache
{
	title('3. A cache filled by ordinary clients, then writers and guarded readers');
	$redis->del('account:1', 'account:2');
	my @readers = map {
		my $part = $_;
		child(
			sub {
				my $reader = $pg->connect;
				my $client = $redis->client;
				my @rows = $reader->query("$source{account} AND aid / $every % 3 = $part");
				push @rows, $reader->query($source{branch}) if $part == 0;
				$client->pipeline(map { [ 'SETEX', $_->[0], 3600, $_->[1] ] } @rows);
			})
	} 0 .. 2;
	wait_children(@readers);
	my $cached = count_keys();
	step('cache', 'keys before', commas($cached->{account}) . " accounts, $cached->{branch} branches");
	return $cached;
}

sub count_keys
{
	my %count = (account => 0, branch => 0);
	foreach my $key ($redis->keys('*')) { $count{$1}++ if $key =~ /^(\w+):/; }
	return \%count;
}

sub run_load
{
	my $latencies = $redis->dir . '/latencies';
	my $prober = child(sub { probe($latencies, time + $seconds) });
	my $fills = $redis->dir . '/fills';
	my @readers = (RedisServer->version)[0] < 7 ? ()
	  : map { my $file = "$fills.$_"; child(sub { refill($file, time + $seconds) }) } 1, 2;
	my $output = join '', `pgbench -n -c $clients -j 2 -T $seconds @{[ $pg->options ]} postgres 2>&1`;
	my ($transactions) = $output =~ /actually processed: (\d+)/ or die $output;
	my ($tps) = $output =~ /tps = (\d+)/;
	wait_children($prober, @readers);
	my @loaded = numbers($latencies);
	step('writers', "pgbench's own script, $clients clients, $seconds s",
		commas($transactions) . ' transactions, ' . commas($tps) . '/s');
	show_fills(map { "$fills.$_" } 1 .. @readers) if @readers;
	$sql->value('SELECT cache_aside.wait_delivered()') eq 't' or die "not delivered in 10 s\n";
	wait_children(child(sub { probe($latencies, time + 2) }));
	my @idle = numbers($latencies);
	step('client', 'from its COMMIT until its key is gone, p50 / p99', percentiles(@loaded) . ' during the load');
	step('', '(as a client polls it, two round trips included)', percentiles(@idle) . ' on a quiet server');
	return;
}

# A reader through the cache, while the writers write: what is missing is read and filled, with the
# token that proves how fresh the read was. Half of it on the branches, which are written all the time.
sub refill
{
	my ($path, $end) = @_;
	my ($reader, $cache) = ($pg->connect, $redis->client);
	my %count = (hits => 0, stored => 0, refused => 0);
	while (time < $end)
	{
		my ($kind, $column, $id) = rand() < 0.5 ? ('branch', 'bid', 1 + int rand $scale)
		  : ('account', 'aid', $every * (1 + int rand(100_000 * $scale / $every)));
		my $table = $kind eq 'branch' ? 'pgbench_branches' : 'pgbench_accounts';
		my $found = $cache->command('FCALL', 'cache_aside_get', 1, "$kind:$id", 1000);
		if (defined $found && !ref $found) { $count{hits}++; next; }
		next unless $found;    # somebody else is filling
		my ($row) = $reader->query(
			"SELECT row_to_json(t), cache_aside.read_token() FROM $table t WHERE $column = $id");
		next unless defined $row->[1];
		my $stored = $cache->command('FCALL', 'cache_aside_fill', 1, "$kind:$id", $row->[0], 3600_000,
			$row->[1], $found->[0]);
		$count{ $stored ? 'stored' : 'refused' }++;
	}
	open my $fh, '>', $path or die $!;
	print $fh join(' ', @count{qw(hits stored refused)}), "\n";
	close $fh;
	return;
}

sub show_fills
{
	my (@files) = @_;
	my @sum = (0, 0, 0);
	foreach my $file (@files)
	{
		open my $fh, '<', $file or die $!;
		my @counts = split ' ', scalar <$fh>;
		$sum[$_] += $counts[$_] foreach 0 .. 2;
	}
	step('readers', 'guarded fills meanwhile: hits / stored / refused as outdated',
		join ' / ', map { commas($_) } @sum);
	return;
}

# One client that caches its row, writes it and watches Redis until the key is gone. The clock starts
# when COMMIT has returned to it.
sub probe
{
	my ($path, $end) = @_;
	my ($writer, $cache) = ($pg->connect, $redis->client);
	my $key = "account:$probe_account";
	open my $fh, '>', $path or die $!;
	while (time < $end)
	{
		$cache->command('SET', $key, 'cached');
		$writer->query("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = $probe_account");
		my $committed = time;
		while ($cache->command('EXISTS', $key)) { die "still there after 10 s\n" if time > $committed + 10; }
		print $fh 1000 * (time - $committed), "\n";
	}
	close $fh;
	return;
}

sub numbers
{
	my ($path) = @_;
	open my $fh, '<', $path or die $!;
	chomp(my @numbers = <$fh>);
	return sort { $a <=> $b } @numbers;
}

sub percentiles
{
	my (@sorted) = @_;
	my ($p50, $p99) = map { $sorted[ min($#sorted, int(@sorted * $_)) ] } 0.5, 0.99;
	return sprintf '%.2f / %.2f ms', $p50, $p99;
}

# ---- the verdict ----

# Every cached value against its row; every key that is gone against the rows pgbench wrote.
sub compare
{
	my ($before) = @_;
	my $after = count_keys();
	my ($written, $wrong) = ($sql->value(
		"SELECT count(DISTINCT aid) FROM pgbench_history WHERE aid % $every = 0"), 0);
	my ($checked, @stale) = (0);
	foreach my $kind (qw(account branch))
	{
		my @rows = $sql->query($source{$kind});
		my @values = $redis->pipeline(map { [ 'GET', $_->[0] ] } @rows);
		foreach my $i (grep { defined $values[$_] } 0 .. $#rows)
		{
			$checked++;
			push @stale, "$rows[$i][0]: cached $values[$i], row $rows[$i][1]" if $values[$i] ne $rows[$i][1];
		}
	}
	step('cache', 'keys after', commas($after->{account}) . " accounts, $after->{branch} branches");
	step('', 'cached accounts that pgbench wrote', commas($written) . ', gone and not filled again: '
		  . commas($before->{account} - $after->{account}));
	narrate("  STALE $_") foreach @stale[ 0 .. min($#stale, 4) ];
	if ($before->{account} - $after->{account} > $written)
	{
		narrate('  WRONG: only the keys of written rows should be gone.');
		$wrong = 1;
	}
	narrate("\n", commas($checked), ' keys checked, ', scalar @stale, ' stale');
	return !@stale && !$wrong;
}

exit main();
