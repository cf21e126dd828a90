# What a single-row UPDATE costs with rules: throughput, CPU seconds of everything, voluntary context
# switches, latency; pgbench, prepared, all on the same cores as Redis and the worker. The key of every
# account is cached. Where commits are synchronous, it is claimed that each key is gone when its commit
# returns: nobody was told to go on without an answer.
#
# CPU and switches are those of the middle of a run (bench/Consumed.pm). ONLY=8,32,1,rate,floors: some of it.
# Floors, of the same run: a trigger in C that does nothing, one that logs the bare record (floor.c), the same keys
# unlinked, as many in a call as the worker had; and for synchronous commits, without worker (floor_wait.c): the session
# sleeps once after its commit, or sends a command over a connection of its own and waits for the answer.
use strict;
use warnings;
use Bench;
use Callgrind;
use Consumed;
use File::Basename qw(dirname);
use File::Temp ();
use List::Util qw(shuffle);
use Time::HiRes qw(sleep);

my ($redis, $pg, $sql) = servers();
my $seconds = $ENV{SECONDS_EACH} // scaled(8, 1);
my $rounds = $ENV{ROUNDS} // scaled(5, 1);
my %only = map { $_ => 1 } split /,/, $ENV{ONLY} // '8,32,1,rate,floors';
my $script = update_script();
my @prefixes = map { "account$_:" } '', 2 .. 5;
# The least that a session which deletes its own key has to do: look at position and guard, delete, write the position.
my $apply = 'EVAL "redis.call([[GET]],KEYS[1]) redis.call([[GET]],KEYS[2]) redis.call([[SET]],KEYS[1],ARGV[1]) '
  . 'return redis.call([[UNLINK]],KEYS[3])" 3 floor:position floor:guard account:%s a:position:of:forty:bytes:or:so:1/23456789';
my %sides = (
	untracked => { rules => 0 },
	'an empty C trigger' => { rules => 0, trigger => 'floor_empty()' },
	'the bare record' => { rules => 0, trigger => 'floor_record()' },
	'and a nap' => { rules => 0, trigger => 'floor_nap()' },
	'and a PING' => { rules => 0, trigger => asking('PING') },
	'and the key in a script' => { rules => 0, gone => 1, trigger => asking($apply) },
	asynchronous => { rules => 1 },
	'delivery = off' => { rules => 1, off => 1 },
	'five rules' => { rules => 5 },
	synchronous => { rules => 1, options => '-c cache_aside.synchronous=on' });
my %batch;    # side -> keys in a batch, on average, in the last run
my (%used, %latency);    # load, side -> what each run used; percentiles of its latencies

sub asking { return sprintf "floor_ask('%s', '%s')", $redis->url =~ s{^unix://([^?]*).*}{$1}r, $_[0]; }

title('Single-row UPDATE: with rules against without');
my $accounts = accounts(scaled(3, 1));
my @keys = map { numbered($_, $accounts) } @prefixes;

sub deliver
{
	my ($whether) = @_;
	$pg->configure("cache_aside.delivery = $whether\n");
	my $state = $whether eq 'off' ? 'off' : 'delivering';
	$redis->wait_until(sub { $sql->value('SELECT state FROM cache_aside.status') eq $state }) or die "not $state";
	return;
}

# Milliseconds, from pgbench's log of each transaction.
sub latencies
{
	my ($prefix) = @_;
	my @ms;
	foreach my $file (glob "$prefix.*")
	{
		open my $fh, '<', $file or die "$file: $!";
		push @ms, map { (split)[2] / 1000 } <$fh>;
		close $fh;
		unlink $file;
	}
	return { map { $_ => percentile($_, @ms) } 50, 99 };
}

sub batches { return $sql->value('SELECT batches FROM cache_aside.status'); }

# One run; what is claimed of it.
sub run
{
	my ($load, $name) = @_;
	my $side = $sides{$name};
	local $ENV{PGOPTIONS} = $side->{options} // '';
	my $log = $redis->dir . '/latency';
	deliver('off') if $side->{off};
	my $watch = Consumed::watch($pg, $redis, $seconds);
	my $before = batches();
	my ($tps, $count) = pgbench("$load->{options} -T $seconds -f $script" . ($load->{log} ? " -l --log-prefix=$log" : ''));
	my $used = $watch->();
	my $sent = batches() - $before;
	$batch{$name} = int($count / $sent) || 1 if $sent;
	my $left = $side->{options} ? count_numbered($keys[0]) : 0;
	my $rows = $side->{rules} || $side->{gone} ? rows_of_run() : 0;
	deliver('primary') if $side->{off};
	if (!Bench::spoiled)
	{
		push @{ $used{ $load->{name} }{$name} }, { %$used, commits => $tps * $used->{seconds} } if $used;
		push @{ $latency{ $load->{name} }{$name} }, latencies($log) if $load->{log};
	}
	return ($tps, commits => $side->{rules} ? $count : 0, gone => $rows, reconnects => $side->{off} ? 1 : 0,
		is => $side->{options} ? [ [ 'keys left when they returned', $left, $accounts - $rows ] ] : []);
}

sub prepare
{
	my ($rules) = @_;
	cache_numbered($_) foreach @keys[ 0 .. ($rules || 1) - 1 ];
	$sql->query('CHECKPOINT');
	delivered($sql);
	return;
}

# With five rules the last one's keys are counted.
sub measured
{
	my ($load, $name) = @_;
	my $rules = $sides{$name}{rules};
	my @templates = map { "$prefixes[$_]\{aid}" } 0 .. $rules - 1;
	$sql->query("SELECT cache_aside.attach('pgbench_accounts', '$_')") foreach @templates;
	$sql->query("CREATE TRIGGER floor AFTER INSERT OR UPDATE OR DELETE ON pgbench_accounts FOR EACH ROW EXECUTE FUNCTION $sides{$name}{trigger}")
	  if $sides{$name}{trigger};
	delivered($sql);
	my $tps = proved("$load->{name}, $name",
		baseline => !$rules && !$sides{$name}{gone},
		keys => $keys[ $rules ? $rules - 1 : 0 ],
		prepare => sub { prepare($rules) },
		run => sub { run($load, $name) });
	$sql->query('DROP TRIGGER floor ON pgbench_accounts') if $sides{$name}{trigger};
	$sql->query("SELECT cache_aside.detach('pgbench_accounts')") if $rules;
	return $tps;
}

# ---- figures

sub per_commit
{
	my ($load, $name, $kind, $what) = @_;
	my @each = map { ($_->{kinds}{$kind} // [ 0, 0 ])->[$what] / $_->{commits} } @{ $used{$load}{$name} // [] };
	return @each ? median(@each) : 0;
}

my @kinds = ('sessions', 'worker', 'other server processes', 'Redis');

# CPU seconds per 100 000 commits, of everything
sub cpu
{
	my ($load, $name) = @_;
	my $sum = 0;
	$sum += 1e5 * per_commit($load, $name, $_, 0) foreach @kinds;
	return $sum;
}

sub show_used
{
	my ($load, $name) = @_;
	return unless $used{$load}{$name};
	note_line("$name: CPU s per 100 000", sprintf '%.2f: %s', cpu($load, $name),
		join ', ', map { sprintf '%s %.2f', $_, 1e5 * per_commit($load, $name, $_, 0) } @kinds);
	note_line('switches per commit', join ', ', map { sprintf '%s %.2f', $_, per_commit($load, $name, $_, 1) } @kinds);
	return;
}

sub show_latency
{
	my ($load, $name) = @_;
	my %p = map { my $p = $_; $p => median(map { $_->{$p} } @{ $latency{$load}{$name} }) } 50, 99;
	note_line("$name: p50, p99 ms", sprintf '%.3f, %.3f', @p{ 50, 99 });
	return \%p;
}

# Name -> median TPS.
sub compare
{
	my ($load, @names) = @_;
	my %tps;
	@tps{@names} = paired($rounds, map { my $name = $_; [ "$load->{name}, TPS $name", sub { measured($load, $name) } ] } @names);
	show_used($load->{name}, $_) foreach @names;
	return \%tps;
}

sub verdict_cpu
{
	my ($load, $name, $target) = @_;
	my $floor = cpu($load, 'untracked') or return;
	return verdict("CPU of $name / untracked", cpu($load, $name) / $floor, '<=', $target);
}

my $full;    # untracked TPS of eight clients
if ($only{8})
{
	my $tps = compare({ name => '8 clients', options => '-c 8 -j 2' },
		'untracked', 'asynchronous', 'delivery = off', 'five rules', 'synchronous');
	$full = $tps->{untracked};
	verdict('asynchronous / untracked', $tps->{asynchronous} / $full, '>=', 0.90);
	verdict('five rules / untracked', $tps->{'five rules'} / $full, '>=', 0.80);
	verdict('synchronous / untracked', $tps->{synchronous} / $full, '>=', 0.75);
	note_line('delivery = off / untracked', sprintf '%.2f', $tps->{'delivery = off'} / $full);
	verdict_cpu('8 clients', 'asynchronous', 1.11);
	verdict_cpu('8 clients', 'delivery = off', 1.06);
	verdict_cpu('8 clients', 'synchronous', 1.33);
}
if ($only{32})
{
	my $tps = compare({ name => '32 clients', options => '-c 32 -j 2' }, 'untracked', 'synchronous');
	verdict('synchronous / untracked', $tps->{synchronous} / $tps->{untracked}, '>=', 0.85);
	verdict_cpu('32 clients', 'synchronous', 1.33);
}
if ($only{1})
{
	my @names = ('untracked', 'asynchronous', 'synchronous');
	compare({ name => '1 client', options => '-c 1 -j 1', log => 1 }, @names);
	my %p = map { $_ => show_latency('1 client', $_) } @names;
	verdict('synchronous adds, p50 ms', $p{synchronous}{50} - $p{untracked}{50}, '<=', 0.12, '%.3f');
	note_line('of that the rule itself, ms', sprintf '%.3f', $p{asynchronous}{50} - $p{untracked}{50});
}
if ($only{rate})
{
	$full //= compare({ name => 'full load', options => '-c 8 -j 2' }, 'untracked')->{untracked};
	my $rate = int(0.7 * $full) || 1;
	compare({ name => '70 %', options => "-c 8 -j 2 --rate=$rate", log => 1 }, 'untracked', 'asynchronous');
	my ($without, $with) = map { show_latency('70 %', $_) } 'untracked', 'asynchronous';
	verdict('p50 asynchronous / untracked', $with->{50} / $without->{50}, '<=', 1.03);
	verdict('p99 asynchronous / untracked', $with->{99} / $without->{99}, '<=', 1.10);
}

# ---- floors

# CPU seconds of Redis for 100 000 keys, unlinked by so many in a call, a millisecond apart.
sub unlinked
{
	my ($batch) = @_;
	my $keys = $keys[0];
	my $client = $redis->client;
	my @numbers = shuffle(1 .. $keys->{n});
	$#numbers = scaled(3000, 100) * $batch - 1 if @numbers > scaled(3000, 100) * $batch;
	return proved("UNLINK",
		keys => $keys,
		prepare => sub { cache_numbered($keys) },
		run => sub {
			my @left = @numbers;
			my $before = cpu_seconds($redis->pid);
			while (@left)
			{
				$client->command('UNLINK', map { sprintf $keys->{format}, $keys->{prefix}, $_ } splice @left, 0, $batch);
				sleep 0.001;
			}
			return (1e5 * (cpu_seconds($redis->pid) - $before) / @numbers, commits => 0, gone => scalar @numbers);
		});
}

sub cpu_seconds
{
	my ($pid) = @_;
	open my $fh, '<', "/proc/$pid/schedstat" or die "schedstat: $!";
	return (split ' ', <$fh>)[0] / 1e9;
}

sub install_waits
{
	my ($dir) = @_;
	my $here = dirname(__FILE__);
	chomp(my $include = `$ENV{PG_CONFIG} --includedir-server`);
	system("cc", "-O2", "-shared", "-fPIC", "-I$include", "-o", "$dir/wait.so", "$here/floor_wait.c") == 0
	  or die "floor_wait.c does not compile\n";
	$sql->query("CREATE FUNCTION $_() RETURNS trigger LANGUAGE c AS '$dir/wait'") foreach 'floor_nap', 'floor_ask';
	return;
}

if ($only{floors} && !Callgrind::why_not())
{
	my $dir = File::Temp::tempdir(TMPDIR => 1, CLEANUP => 1);
	Callgrind::install($sql, $dir, counts => 0);
	install_waits($dir);
	my @waits = ('and a nap', 'and a PING', 'and the key in a script');
	compare({ name => 'floors', options => '-c 8 -j 2' },
		'untracked', 'an empty C trigger', 'the bare record', 'delivery = off', 'asynchronous', 'synchronous', @waits);
	foreach my $side ('asynchronous', 'synchronous')
	{
		note_line("UNLINK alone, $batch{$side} keys, as $side: s of Redis",
			join '  ', map { sprintf '%.2f', unlinked($batch{$side}) } 1 .. scaled(3, 1));
	}
	compare({ name => 'floors, 32 clients', options => '-c 32 -j 2' }, 'untracked', 'synchronous', @waits);
}
