# Guarded fills against SETEX: Redis's CPU for one call; redis-benchmark, 16 commands in the pipeline, values of 100 bytes,
# keys of which most are missing, since a fill follows a miss; with a token that is newer than every invalidation, and with
# one that is older than the last, for which the key's class has to be looked up, or its bucket. Beside it the floor, a
# function that does nothing but SET. And what a token costs where it is made. It is claimed that every
# fill stored (by Redis's count of SETs and by the keys that are there), that every GET found its value, and that
# every token was one.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $n = scaled(30_000, 20_000);    # of the keys that there may be, 100 000
my $value = 'x' x 100;
$sql->query(q{CREATE TABLE t (id int PRIMARY KEY); SELECT cache_aside.attach('t', 't:{id}')});
armed();
my $older = $sql->value('SELECT cache_aside.read_token()');
$sql->query('INSERT INTO t VALUES (1)');
delivered($sql);
my $token;
$redis->wait_until(sub { ($token = $sql->value('SELECT cache_aside.read_token()')) ne $older });

my $keys = numbered('key:', 100_000, 12);

# Microseconds of Redis's CPU a call
sub cost
{
	my @command = @_;
	my $before = $redis->info('used_cpu_user') + $redis->info('used_cpu_sys');
	my $out = join '', qx{redis-benchmark -s @{[ $redis->socket ]} -n $n -r 100000 -P 16 -c 20 -q @command 2>&1};
	die $out if $? || $out =~ /error/i;
	return 1e6 * ($redis->info('used_cpu_user') + $redis->info('used_cpu_sys') - $before) / $n;
}

sub key { return (spoiled() ? 'other:' : '') . 'key:__rand_int__'; }

# What Redis counted since the last CONFIG RESETSTAT, whoever called it
sub calls { return (($redis->info("cmdstat_$_[0]") // '') =~ /calls=(\d+)/)[0] // 0; }

sub store_cost
{
	my ($what, $command) = @_;
	return proved($what,
		keys => $keys,
		prepare => sub { forget_numbered($keys); $redis->command('CONFIG', 'RESETSTAT'); },
		run => sub {
			my $cost = cost($command->());
			# the worker's own come once a second; a random choice leaves some keys out, and 0 is one
			return ($cost, stored => '>= ' . int(99_000 * (1 - exp(-$n / 100_000))),
				is => [ [ 'SETs by Redis\'s count', calls('set') + calls('setex'), ">= $n" ] ]);
		});
}

sub fill_cost
{
	my ($what, $with) = @_;
	return store_cost($what, sub { 'FCALL cache_aside_fill 1 ' . key() . " $value 300000 $with" });
}

# What any function that stores costs, without a question asked
$redis->command('FUNCTION', 'LOAD', <<'EOL');
#!lua name=bench
local call
redis.register_function('bench_set', function(keys, args)
    call = call or redis.call
    call('SET', keys[1], args[1], 'PX', args[2])
    return 1
end)
EOL

sub floor_cost
{
	return store_cost('floor', sub { 'FCALL bench_set 1 ' . key() . " $value 300000 $token" });
}

sub read_cost
{
	my ($what, $command) = @_;
	return proved($what,
		keys => $keys,
		prepare => sub { cache_numbered($keys); $redis->command('SET', 'key:000000000000', 'v'); },
		run => sub {
			my $hits = $redis->info('keyspace_hits');
			my $cost = cost($command);
			return ($cost, stored => 0,
				is => [ [ 'values found', $redis->info('keyspace_hits') - $hits, ">= $n" ] ]);
		});
}

# Seconds per call, without those of the loop around it
sub token_cost
{
	my $calls = scaled(2_000_000, 100_000);
	my $loop = timed(sub { $sql->query("SELECT count(pg_backend_pid()) FROM generate_series(1, $calls)") });
	my $tokens;
	my $query = "SELECT count(cache_aside.read_token()) FROM generate_series(1, $calls)";
	my $all = timed(sub { $tokens = $sql->value($query) });
	return (1e6 * ($all - $loop) / $calls, is => [ [ 'tokens', $tokens, $calls ] ]);
}

title('Guarded fills');
my $rounds = scaled($ENV{ROUNDS} // 15, 1);
my ($setex, $floor, $fill, $late, $plain_get, $get) = paired($rounds,
	[ 'SETEX, us', sub { store_cost('SETEX', sub { 'SETEX ' . key() . " 300 $value" }) } ],
	[ 'a function that only SETs, us', \&floor_cost ],
	[ 'cache_aside_fill, us', sub { fill_cost('fill', $token) } ],
	[ 'with an older token, us', sub { fill_cost('fill, older token', $older) } ],
	[ 'GET, us', sub { read_cost('GET', 'GET key:__rand_int__') } ],
	[ 'cache_aside_get, us', sub { read_cost('get', 'FCALL cache_aside_get 1 key:__rand_int__ 0') } ]);
verdict('fill, of SETEX', $setex / $fill, '>=', 0.50);
verdict('with an older token, of SETEX', $setex / $late, '>=', 0.40);
note_line('a function that only SETs, of SETEX', sprintf '%.2f', $setex / $floor);
note_line('fill, of a function that only SETs', sprintf '%.2f', $floor / $fill);
note_line('get, of GET', sprintf '%.2f', $plain_get / $get);
my ($us) = paired(scaled(5, 1), [ 'read_token, us', sub { proved('read_token', baseline => 1, run => \&token_cost) } ]);
verdict('read_token, us', $us, '<', 2.0);
