# What the guard costs delivery: draining a backlog with cache_aside.guard on and off, a thousand keys
# per transaction. And how long one call holds Redis.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers();
my $keys = scaled(500_000, 20_000);

sub guard
{
	my ($on) = @_;
	$sql->query("ALTER SYSTEM SET cache_aside.guard = $on");
	$sql->query('SELECT pg_reload_conf()');
	my $pattern = 'cache_aside:guard:*';
	$redis->wait_until(sub { ($on eq 'on') == (scalar(() = $redis->keys($pattern)) > 0) })
	  or die "guard = $on had no effect";
	return;
}

sub drain
{
	my ($on) = @_;
	guard($on);
	delivered($sql);
	my $worker = $pg->worker_pid;
	freeze($worker);
	$sql->query("SELECT cache_aside.invalidate(VARIADIC array_agg('k:' || lpad(i::text, 12, '0')))"
		  . " FROM generate_series($_ * 1000 + 1, $_ * 1000 + 1000) i")
	  foreach 0 .. $keys / 1000 - 1;
	cache_numbered($redis, 'k:', $keys);
	my $start = time;
	thaw($worker);
	delivered($sql);
	return $keys / (time - $start);
}

title('The guard and delivery');
my ($off, $on) = paired(scaled(4, 1),
	[ 'drained without guard, keys/s', sub { drain('off') } ],
	[ 'drained with guard, keys/s', sub { drain('on') } ]);
verdict('with / without', $on / $off, '>=', 0.67);
$redis->command('CONFIG', 'RESETSTAT');
drain('on');
my ($percentiles) = $redis->info('latency_percentiles_usec_fcall') // '';
note_line('one call holds Redis for, us', $percentiles);
my ($worst) = $percentiles =~ /p99\.9=([\d.]+)/;
verdict('99.9 % of the calls, us', $worst, '<', 1000, '%.0f') if defined $worst;
