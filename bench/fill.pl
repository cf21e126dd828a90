# Guarded fills against SETEX: redis-benchmark, 16 commands in the pipeline, values of 100 bytes; with
# a token that is newer than every invalidation, and with one that is older than the last, for which
# the key's bucket has to be looked up. Beside it the floor, a function that does nothing but SET. And what a
# token costs where it is made. It is claimed that every fill stored (by Redis's count of SETs and by the keys that
# are there), that every GET found its value, and that every token was one.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $n = scaled(400_000, 20_000);
my $value = 'x' x 100;
$sql->query(q{CREATE TABLE t (id int PRIMARY KEY); SELECT cache_aside.attach('t', 't:{id}')});
armed();
my $older = $sql->value('SELECT cache_aside.read_token()');
$sql->query('INSERT INTO t VALUES (1)');
delivered($sql);
my $token;
$redis->wait_until(sub { ($token = $sql->value('SELECT cache_aside.read_token()')) ne $older });

my $keys = numbered('key:', 100_000, 12);

sub rate
{
	my @command = @_;
	my $out = join '', qx{redis-benchmark -s @{[ $redis->socket ]} -n $n -r 100000 -P 16 -c 20 -q @command 2>&1};
	my ($rate) = $out =~ /.*:\s*([\d.]+) requests per second/s or die $out;
	return $rate;
}

sub key { return (spoiled() ? 'other:' : '') . 'key:__rand_int__'; }

# What Redis counted since the last CONFIG RESETSTAT, whoever called it
sub calls { return (($redis->info("cmdstat_$_[0]") // '') =~ /calls=(\d+)/)[0] // 0; }

sub store_rate
{
	my ($what, $command) = @_;
	return proved($what,
		keys => $keys,
		prepare => sub { forget_numbered($keys); $redis->command('CONFIG', 'RESETSTAT'); },
		run => sub {
			my $rate = rate($command->());
			# the worker's own come once a second; a random choice leaves some keys out, and 0 is one
			return ($rate, stored => '>= ' . int(99_000 * (1 - exp(-$n / 100_000))),
				is => [ [ 'SETs by Redis\'s count', calls('set') + calls('setex'), ">= $n" ] ]);
		});
}

sub fill_rate
{
	my ($what, $with) = @_;
	return store_rate($what, sub { 'FCALL cache_aside_fill 1 ' . key() . " $value 300000 $with" });
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

sub floor_rate
{
	return store_rate('floor', sub { 'FCALL bench_set 1 ' . key() . " $value 300000 $token" });
}

sub read_rate
{
	my ($what, $command) = @_;
	return proved($what,
		keys => $keys,
		prepare => sub { cache_numbered($keys); $redis->command('SET', 'key:000000000000', 'v'); },
		run => sub {
			my $hits = $redis->info('keyspace_hits');
			my $rate = rate($command);
			return ($rate, stored => 0,
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
my $rounds = scaled(5, 1);
my ($setex, $floor, $fill, $late, $plain_get, $get) = paired($rounds,
	[ 'SETEX, per second', sub { store_rate('SETEX', sub { 'SETEX ' . key() . " 300 $value" }) } ],
	[ 'a function that only SETs, per second', \&floor_rate ],
	[ 'cache_aside_fill, per second', sub { fill_rate('fill', $token) } ],
	[ 'with an older token', sub { fill_rate('fill, older token', $older) } ],
	[ 'GET, per second', sub { read_rate('GET', 'GET key:__rand_int__') } ],
	[ 'cache_aside_get, per second', sub { read_rate('get', 'FCALL cache_aside_get 1 key:__rand_int__ 0') } ]);
verdict('fill / SETEX', $fill / $setex, '>=', 0.35);
note_line('a function that only SETs / SETEX', sprintf '%.2f', $floor / $setex);
note_line('fill / a function that only SETs', sprintf '%.2f', $fill / $floor);
note_line('with an older token / SETEX', sprintf '%.2f', $late / $setex);
note_line('get / GET', sprintf '%.2f', $get / $plain_get);
my ($us) = paired($rounds, [ 'read_token, us', sub { proved('read_token', baseline => 1, run => \&token_cost) } ]);
verdict('read_token, us', $us, '<', 2.0);
