# What the guard costs delivery: draining a backlog with cache_aside.guard on and off, a thousand keys
# per transaction. And how long one call holds Redis, by its own clock: the first ones, which load the
# library and make the guard, those of small transactions, which raise buckets, and those of the backlog.
use strict;
use warnings;
use Bench;
use List::Util qw(max);
use Time::HiRes qw(time);

my ($redis, $pg, $sql) = servers(redis => { conf => "slowlog-log-slower-than 500\nslowlog-max-len 100000\n" });
my $n = scaled(500_000, 20_000);
my $keys = numbered('k:', $n, 12);

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
	my $worker = $pg->worker_pid;
	return proved("drain, guard $on",
		keys => $keys,
		prepare => sub {
			guard($on);
			delivered($sql);
			freeze($worker);
			$sql->query("SELECT cache_aside.invalidate(VARIADIC array_agg('k:' || lpad(i::text, 12, '0')))"
				  . " FROM generate_series($_ * 1000 + 1, $_ * 1000 + 1000) i")
			  foreach 0 .. $n / 1000 - 1;
			cache_numbered($keys);
		},
		run => sub {
			my $start = time;
			thaw($worker);
			delivered($sql);
			my $rate = $n / (time - $start);
			my $guards = () = $redis->keys('cache_aside:guard:*');
			return ($rate, commits => $n / 1000, gone => $n, is => [ [ 'guards', $guards, $on eq 'on' ? 1 : 0 ] ]);
		});
}

# Calls of more than half a millisecond since the last look: how many, and the longest.
sub slow_calls
{
	my @slow = map { $_->[2] } grep { $_->[3][0] =~ /^(?:FCALL|FUNCTION)$/i } @{ $redis->command('SLOWLOG', 'GET', -1) };
	$redis->command('SLOWLOG', 'RESET');
	return (scalar @slow, max(0, @slow));
}

sub calls
{
	my ($what) = @_;
	my ($n, $longest) = slow_calls();
	my ($percentiles) = $redis->info('latency_percentiles_usec_fcall') // '';
	my ($calls) = ($redis->info('cmdstat_fcall') // '') =~ /calls=(\d+)/;
	note_line("$what: a call, us", $percentiles);
	note_line('', commas($calls // 0) . " calls, $n above 500 us");
	verdict('the longest, us', $longest, '<', 1000, '%.0f');
	$redis->command('CONFIG', 'RESETSTAT');
	return;
}

sub small_transactions
{
	my $small = numbered('k:', scaled(20_000, 1000));
	return proved('small transactions',
		keys => $small,
		prepare => sub { cache_numbered($small) },
		run => sub {
			$sql->query("DO \$\$BEGIN FOR i IN 1 .. $small->{n} LOOP PERFORM cache_aside.invalidate('k:' || i, 'm:' || i);"
				  . ' COMMIT; END LOOP; END$$');
			return (undef, commits => $small->{n}, gone => $small->{n});
		});
}

title('The guard and delivery');
armed();
calls('the first');
small_transactions();
calls('small transactions');
my ($off, $on) = paired(scaled(4, 1),
	[ 'drained without guard, keys/s', sub { drain('off') } ],
	[ 'drained with guard, keys/s', sub { drain('on') } ]);
verdict('with / without', $on / $off, '>=', 0.67);
slow_calls();
$redis->command('CONFIG', 'RESETSTAT');
drain('on');
calls('backlog');
