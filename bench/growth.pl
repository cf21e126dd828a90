# How what cache_aside costs grows: with rules, tables, partitions, databases, sessions, keys, transactions, entries of the
# cache, log, rows to audit. One axis after the other, each with servers of its own; ONLY=rules,log: some of them.
# MARKDOWN=yes prints the tables of docs/benchmarks/growth.md at the end.
use strict;
use warnings;
use Bench;
use Growth;
use List::Util qw(max);
use Time::HiRes qw(time);

use RedisClient;

my ($redis, $pg, $sql);

sub ms { my ($code) = @_; return 1000 * timed($code); }

# Median of so many times, in ms.
sub median_ms
{
	my ($times, $code) = @_;
	return median(map { ms($code) } 1 .. $times);
}

sub resync
{
	$sql->query('SELECT cache_aside.resync()');
	delivered($sql);
	return;
}

# ---- rules of a table

sub rules_of_table
{
	my ($rules) = @_;
	$sql->query('DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)');
	$sql->query("SELECT cache_aside.attach('t', 'k:{id}$_')") foreach 1 .. $rules;
	delivered($sql);
	my $keys = numbered('k:1', $rules);
	my $updates = scaled(300, 20);
	my $figure = proved('rules',
		keys => $keys,
		prepare => sub { cache_numbered($keys) },
		run => sub {
			my $session = $pg->connect;
			$session->prepare('u', 'UPDATE t SET n = n + 1 WHERE id = $1');
			$session->run_prepared('u', 1) foreach 1 .. 10;
			my $ms = median_ms($updates, sub { $session->run_prepared('u', 1) });
			return ({ ms => $ms }, commits => $updates + 10, gone => $rules);
		});
	return $figure;
}

# ---- tables with a rule

my $tables = 0;

sub tables_with_rules
{
	my ($n) = @_;
	for (; $tables < $n; $tables++)
	{
		$sql->query("CREATE TABLE t$tables (id int PRIMARY KEY, n int); INSERT INTO t$tables VALUES (1, 0)");
		$sql->query("SELECT cache_aside.attach('t$tables', 't$tables:{id}')");
	}
	my $keys = numbered('t0:', 1);
	my %found;
	($found{start}, $sql) = restart();
	proved('tables',
		keys => $keys,
		prepare => sub { cache_numbered($keys) },
		run => sub {
			my $session = $pg->connect;
			$found{first} = ms(sub { $session->query('UPDATE t0 SET n = n + 1') });
			return (0, commits => 1, gone => 1);
		});
	$found{resync} = timed(\&resync);
	$found{rules} = ms(sub { $sql->value('SELECT count(*) FROM cache_aside.rules') == $n or die 'rules' });
	$found{gaps} = ms(sub { $sql->value('SELECT count(*) FROM cache_aside.gaps') == 0 or die 'gaps' });
	return \%found;
}

# ---- partitions

sub make_partitions
{
	my ($name, $n) = @_;
	$sql->query("DROP TABLE IF EXISTS $name; CREATE TABLE $name (id int PRIMARY KEY, n int) PARTITION BY RANGE (id)");
	$sql->query("CREATE TABLE ${name}_$_ PARTITION OF $name FOR VALUES FROM (${_}0) TO (${_}9)") foreach 1 .. $n;
	$sql->query("INSERT INTO $name VALUES (11, 0)");
	return;
}

sub update_ms
{
	my ($table, $times) = @_;
	my $session = $pg->connect;
	$session->prepare('u', "UPDATE $table SET n = n + 1 WHERE id = \$1");
	$session->run_prepared('u', 11) foreach 1 .. 10;
	return median_ms($times, sub { $session->run_prepared('u', 11) });
}

sub partitions
{
	my ($n) = @_;
	make_partitions('plain', $n);
	make_partitions('part', $n);
	my %found;
	$found{attach} = ms(sub { $sql->query(q{SELECT cache_aside.attach('part', 'part:{id}')}) });
	$sql->query('ANALYZE pg_class, pg_inherits, pg_trigger');
	$found{gaps} = ms(sub { $sql->value('SELECT count(*) FROM cache_aside.gaps') == 0 or die 'gaps' });
	delivered($sql);
	my $keys = numbered('part:1', 1);
	my $times = scaled(200, 20);
	$found{without} = update_ms('plain', $times);
	proved('partitions',
		keys => $keys,
		prepare => sub { cache_numbered($keys) },
		run => sub {
			$found{with} = update_ms('part', $times);
			return (0, commits => $times + 10, gone => 1);
		});
	return \%found;
}

# ---- databases with the extension

my $databases = 1;

sub databases
{
	my ($n) = @_;
	for (; $databases < $n; $databases++)
	{
		$sql->query("CREATE DATABASE d$databases STRATEGY file_copy");
		$pg->connect(database => "d$databases")->query('CREATE EXTENSION cache_aside; CREATE TABLE t (id int);'
			  . q{SELECT cache_aside.attach('t', 't:{id}')});
	}
	delivered($sql);
	my %found;
	($found{start}, $sql) = restart();
	my $keys = numbered('t:', 1);
	proved('databases',
		baseline => $n == 1,
		keys => $keys,
		prepare => sub { cache_numbered($keys) },
		run => sub { $found{resync} = timed(\&resync); return (0, commits => 1, resyncs => 1, $n > 1 ? (gone => 1) : ()) });
	return \%found;
}

# ---- sessions that write

sub sessions
{
	my ($n) = @_;
	my $script = update_script();
	my $seconds = scaled(4, 1);
	my $keys = numbered('account:', 100_000);
	my %tps;
	foreach my $round (1 .. scaled(3, 1))
	{
		foreach my $rule (0, 1)
		{
			$sql->query(q{SELECT cache_aside.detach('pgbench_accounts')});
			$sql->query(q{SELECT cache_aside.attach('pgbench_accounts', 'account:{aid}')}) if $rule;
			delivered($sql);
			my $tps = proved('sessions',
				baseline => !$rule,
				keys => $keys,
				prepare => sub { cache_numbered($keys) },
				run => sub {
					my ($tps, $count) = pgbench("-c $n -j 2 -T $seconds -f $script");
					return ($tps, commits => $rule ? $count : 0, gone => $rule ? rows_of_run() : 0);
				});
			push @{ $tps{$rule} }, $tps;
		}
	}
	my ($without, $with) = map { median(@{ $tps{$_} }) } 0, 1;
	return { without => $without, with => $with, ratio => $with / $without };
}

# ---- keys of one transaction

sub keys_of_transaction
{
	my ($n) = @_;
	my $session = $pg->connect;
	my $worker = $pg->worker_pid;
	my $keys = numbered('k:', $n > 100_000 ? 100_000 : $n);
	$session->query(q{SELECT count(cache_aside.invalidate('k:' || i)) FROM generate_series(1, 100000) i}); # its buffers
	delivered($sql);
	return proved('keys',
		keys => $keys,
		prepare => sub { cache_numbered($keys) },
		run => sub {
			my @before = map { high_water($_) } $worker, $session->backend_pid;
			my $began = time;
			$session->query("SELECT count(cache_aside.invalidate('k:' || i)) FROM (SELECT generate_series(1, $n) AS i) AS keys");
			my $committed = time - $began;
			delivered($sql);
			my %found = (committed => $committed, delivered => time - $began,
				worker => max(0, high_water($worker) - $before[0]), backend => max(0, high_water($session->backend_pid) - $before[1]));
			return (\%found, commits => 1, gone => $keys->{n});
		});
}

# ---- transactions that are open, each with a key

my $prepared = 0;

sub open_transactions
{
	my ($n) = @_;
	my $session = $pg->connect;
	for (; $prepared < $n; $prepared++)
	{
		$session->query("BEGIN; SELECT cache_aside.invalidate('open:$prepared'); PREPARE TRANSACTION 'p$prepared'");
	}
	$sql->query('DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)');
	$sql->query(q{SELECT cache_aside.attach('t', 'k:{id}')});
	delivered($sql);
	my $keys = numbered('k:', 1);
	my $times = scaled(100, 10);
	my $found = proved('open',
		keys => $keys,
		prepare => sub { cache_numbered($keys) },
		run => sub {
			my @ms = map { gone_ms($session) } 1 .. $times;
			return ({ gone => median(@ms), worker => high_water($pg->worker_pid) }, commits => $times, gone => 1);
		});
	return $found;
}

# From the COMMIT's answer until the key is gone, in ms.
sub gone_ms
{
	my ($session) = @_;
	$redis->set((spoiled() ? 'other:' : '') . 'k:1', 'x');
	$session->query('UPDATE t SET n = n + 1');
	my $began = time;
	while ($redis->command('EXISTS', 'k:1')) { }
	return 1000 * (time - $began);
}

# ---- entries of the cache, while they are looked through

# p99 and the longest of GETs of another client of Redis, in ms, until told to stop.
sub watcher
{
	my ($file) = @_;
	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	my $client = RedisClient->new(socket => $redis->socket);
	my @ms;
	until ($stop)
	{
		my $began = time;
		$client->command('GET', 'other:1');
		push @ms, 1000 * (time - $began);
		select undef, undef, undef, 0.0005;
	}
	open my $fh, '>', $file or die $!;
	print $fh percentile(99, @ms), ' ', max(@ms), "\n";
	close $fh;
	return;
}

sub entries
{
	my ($n) = @_;
	my $others = numbered('other:', $n);
	my $keys = numbered('k:', 1000);
	my $file = $redis->dir . '/watched';
	return proved('entries',
		keys => $keys,
		prepare => sub { cache_numbered($keys); fill_others($others) },
		run => sub {
			my $child = child(sub { watcher($file) });
			my $seconds = timed(\&resync);
			kill 'TERM', $child;
			wait_children($child);
			open my $fh, '<', $file or die $!;
			my ($p99, $longest) = split ' ', <$fh>;
			return ({ resync => $seconds, p99 => $p99, longest => $longest }, commits => 1, resyncs => 1, gone => 1000);
		});
}

sub fill_others
{
	my ($others) = @_;
	local $Bench::spoiled = 0;
	cache_numbered($others);
	return;
}

# ---- patterns, which every entry is compared with

my $patterns = 0;

sub patterns
{
	my ($n) = @_;
	for (; $patterns < $n; $patterns++)
	{
		$sql->query("SELECT cache_aside.register_pattern('rule$patterns:*')");
	}
	delivered($sql);
	my $keys = numbered('rule0:', 1000);
	my $figure = proved('patterns',
		keys => $keys,
		prepare => sub { cache_numbered($keys); fill_others(numbered('other:', scaled(1_100_000, 10_000))) },
		run => sub {
			my $cpu = cpu($pg->worker_pid);
			my $seconds = timed(\&resync);
			return ({ resync => $seconds, cpu => cpu($pg->worker_pid) - $cpu }, commits => 1, resyncs => 1, gone => 1000);
		});
	return $figure;
}

# Seconds of user and system.
sub cpu
{
	my ($pid) = @_;
	open my $fh, '<', "/proc/$pid/schedstat" or die $!;
	return (split ' ', <$fh>)[0] / 1e9;
}

# ---- log to catch up

sub log_behind
{
	my ($mb) = @_;
	my $worker = $pg->worker_pid;
	my $keys = numbered('t:', 1);
	my %found;
	proved('log',
		keys => $keys,
		prepare => sub {
			cache_numbered($keys);
			$sql->query('TRUNCATE copied');
			delivered($sql);
			freeze($worker);
		},
		run => sub {
			my $from = $sql->value('SELECT pg_current_wal_flush_lsn()');
			my $written = timed(sub {
				$sql->query(q{SELECT cache_aside.invalidate('t:1')});
				$sql->query(q{INSERT INTO copied SELECT i, repeat('x', 900) FROM generate_series(1, } . int($mb * 1050) . ') i');
			});
			my $real = $sql->value("SELECT (pg_current_wal_flush_lsn() - '$from') / 1e6");
			thaw($worker);
			my $read = timed(sub { delivered($sql) });
			%found = (written => $written, read => $read, ratio => $written / $read, mb => $real);
			return (0, commits => 1, gone => 1, is => [ [ 'MB written', int($real), '>= ' . int($mb * 0.9) ] ]);
		});
	return \%found;
}

# ---- rows to audit

sub audited
{
	my ($n) = @_;
	$sql->query('DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, n int)');
	$sql->query("INSERT INTO t SELECT i, 0 FROM generate_series(1, $n) i");
	$sql->query(q{SELECT cache_aside.attach('t', 'k:{id}')});
	delivered($sql);
	armed();
	my $found = proved('audit',
		run => sub {
			$sql->query(q{SELECT cache_aside.warm('t', '} . (spoiled() ? 'other:{id}' : 'k:{id}') . q{', '1 hour')});
			my ($row, $seconds);
			my $session = $pg->connect;
			$seconds = timed(sub {
				($row) = $session->query(q{SELECT checked, fresh FROM cache_aside.audit_summary('t', 'k:{id}', 1.0)});
			});
			return ({ audit => $seconds, backend => high_water($session->backend_pid) },
				is => [ [ 'rows checked', $row->[0], $n ], [ 'fresh', $row->[1], $n ] ]);
		});
	return $found;
}

# ---- all of them

my %axes = (
	rules => { title => 'Rules of a table', of => 'rules', sizes => [ 1, 3, 10, 30, 100 ],
		text => 'An UPDATE of one row by its key, prepared; each rule has a key of its own in the cache.',
		columns => [ [ ms => 'UPDATE, ms' ] ], measure => \&rules_of_table },
	tables => { title => 'Tables with a rule', of => 'tables', sizes => [ 10, 100, 1000, 10_000 ],
		text => 'From the start of the server until the worker delivers; the first write of a session; a resync of a nearly empty'
		  . ' cache, which asks every database for its rules first; two views.',
		columns => [ [ start => 'start, s' ], [ first => 'first write, ms' ], [ resync => 'resync, s' ], [ rules => 'rules, ms' ], [ gaps => 'gaps, ms' ] ],
		measure => \&tables_with_rules },
	partitions => { title => 'Partitions', of => 'partitions', sizes => [ 10, 100, 1000, 3000 ], conf => "max_locks_per_transaction = 1000\n",
		text => 'attach() on the parent; the view gaps; an UPDATE of one row through the parent, prepared, without a rule and with one.',
		columns => [ [ attach => 'attach, ms' ], [ gaps => 'gaps, ms' ], [ without => 'UPDATE without, ms' ], [ with => 'with, ms' ] ],
		measure => \&partitions },
	databases => { title => 'Databases', of => 'databases', sizes => [ 1, 10, 50, 200 ],
		text => 'Each has the extension and one rule. From the start of the server until the worker delivers; a resync, which visits each.',
		columns => [ [ start => 'start, s' ], [ resync => 'resync, s' ] ], measure => \&databases },
	sessions => { title => 'Sessions', of => 'sessions', sizes => [ 10, 50, 100, 500 ], conf => "max_connections = 600\n",
		text => 'pgbench, an UPDATE of one row, without a rule and with one whose keys are all in the cache.',
		columns => [ [ without => 'TPS without' ], [ with => 'TPS with' ], [ ratio => 'ratio' ] ], measure => \&sessions,
		prepare => sub { accounts(1) } },
	keys => { title => 'Keys of one transaction', of => 'keys', sizes => [ 1, 1000, 100_000, 1_000_000, 10_000_000 ],
		conf => "cache_aside.max_wal_retained = 64GB\njit = off\n",
		text => 'invalidate() so many times in one transaction: until it is committed, until Redis has deleted all; how far the two'
		  . ' processes grew beyond what they took before.',
		columns => [ [ committed => 'committed, s' ], [ delivered => 'delivered, s' ], [ worker => 'worker, MB' ], [ backend => 'session, MB' ] ],
		measure => \&keys_of_transaction },
	open => { title => 'Transactions that are open', of => 'transactions', sizes => [ 1, 10, 100, 1000, 10_000 ],
		conf => "max_prepared_transactions = 100100\nmax_locks_per_transaction = 16\n",
		text => 'Prepared ones, each with a key of its own: how long another commit takes from its COMMIT until its key is gone; the'
		  . ' most memory the worker had.',
		columns => [ [ gone => 'commit to gone, ms' ], [ worker => 'worker, MB' ] ], measure => \&open_transactions },
	entries => { title => 'Entries of the cache', of => 'entries', sizes => [ 100_000, 300_000, 1_000_000, 3_000_000 ],
		text => 'A resync with one rule, and what a GET of another client takes meanwhile.',
		columns => [ [ resync => 'resync, s' ], [ p99 => 'GET p99, ms' ], [ longest => 'longest, ms' ] ], measure => \&entries,
		prepare => sub { $sql->query(q{SELECT cache_aside.register_pattern('k:*')}) } },
	patterns => { title => 'Patterns', of => 'patterns', sizes => [ 1, 100, 1000, 4000 ], conf => "cache_aside.scan_rate = 0\n",
		text => 'A resync of 1,100,000 entries, as fast as can be: each is compared with every pattern that can match it.',
		columns => [ [ resync => 'resync, s' ], [ cpu => 'worker, CPU s' ] ], measure => \&patterns },
	log => { title => 'Log to catch up', of => 'MB', sizes => [ 1, 10, 100, 1000 ],
		text => 'The worker is stopped while a session writes a row of 900 bytes after the other, behind one invalidation; then it goes on.',
		columns => [ [ written => 'written, s' ], [ read => 'read, s' ], [ ratio => 'ratio' ] ], measure => \&log_behind,
		prepare => sub { $sql->query('CREATE TABLE copied (id int, filler text)') } },
	audit => { title => 'Rows to audit', of => 'rows', sizes => [ 10_000, 100_000, 1_000_000 ],
		text => 'audit_summary() of a table whose rows are all in the cache, every one of them compared; the most memory the session had.',
		columns => [ [ audit => 'audit, s' ], [ backend => 'session, MB' ] ], measure => \&audited });

foreach my $name (grep { wanted($_) } qw(rules tables partitions databases sessions keys open entries patterns log audit))
{
	my $axis = $axes{$name};
	($redis, $pg, $sql) = servers(conf => $axis->{conf});
	$axis->{prepare}->() if $axis->{prepare};
	$axis->{sizes} = [2] if $ENV{QUICK};
	axis($name, %$axis);
	stop_servers();
}
print "\n", tables() if $ENV{MARKDOWN};
