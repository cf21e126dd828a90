# Guarded fills against SETEX: redis-benchmark, 16 commands in the pipeline, values of 100 bytes; with
# a token that is newer than every invalidation, and with one that is older than the last, for which
# the key's bucket has to be looked up. And what a token costs where it is made.
use strict;
use warnings;
use Bench;

my ($redis, $pg, $sql) = servers();
my $n = scaled(400_000, 20_000);
my $value = 'x' x 100;
$sql->query(q{CREATE TABLE t (id int PRIMARY KEY); SELECT cache_aside.attach('t', 't:{id}')});
delivered($sql);
die 'not armed'
  unless $redis->wait_until(sub { $sql->value(q{SELECT cache_aside.fill('probe', 'v')}) eq 't' });
my $older = $sql->value('SELECT cache_aside.read_token()');
$sql->query('INSERT INTO t VALUES (1)');
delivered($sql);
my $token;
$redis->wait_until(sub { ($token = $sql->value('SELECT cache_aside.read_token()')) ne $older });

sub rate
{
	my @command = @_;
	my $out = join '', qx{redis-benchmark -s @{[ $redis->socket ]} -n $n -r 100000 -P 16 -c 20 -q @command 2>&1};
	my ($rate) = $out =~ /.*:\s*([\d.]+) requests per second/s or die $out;
	return $rate;
}

sub fill_rate
{
	my ($with) = @_;
	my $rate = rate("FCALL cache_aside_fill 1 key:__rand_int__ $value 300000 $with");
	die 'fills are refused'
	  unless $redis->command('FCALL', 'cache_aside_fill', 1, 'k', 'v', 1000, $with);
	return $rate;
}

sub get_rate { return rate('FCALL cache_aside_get 1 key:__rand_int__ 0'); }

# Seconds per call, without those of the loop around it
sub token_cost
{
	my $calls = scaled(2_000_000, 100_000);
	my $loop = timed(sub { $sql->query("SELECT count(pg_backend_pid()) FROM generate_series(1, $calls)") });
	my $all = timed(sub { $sql->query("SELECT count(cache_aside.read_token()) FROM generate_series(1, $calls)") });
	return 1e6 * ($all - $loop) / $calls;
}

title('Guarded fills');
my $rounds = scaled(5, 1);
my ($setex, $fill, $late, $plain_get, $get) = paired($rounds,
	[ 'SETEX, per second', sub { rate("SETEX key:__rand_int__ 300 $value") } ],
	[ 'cache_aside_fill, per second', sub { fill_rate($token) } ],
	[ 'with an older token', sub { fill_rate($older) } ],
	[ 'GET, per second', sub { rate('GET key:__rand_int__') } ],
	[ 'cache_aside_get, per second', \&get_rate ]);
verdict('fill / SETEX', $fill / $setex, '>=', 0.35);
note_line('with an older token / SETEX', sprintf '%.2f', $late / $setex);
note_line('get / GET', sprintf '%.2f', $get / $plain_get);
my ($us) = paired($rounds, [ 'read_token, us', \&token_cost ]);
verdict('read_token, us', $us, '<', 2.0);
