
=pod

=head1 NAME

SoakFaults - what happens to Redis and to the servers in a soak

=head1 DESCRIPTION

happen(name, soak) lets one fault begin and end, or leaves it to the next round, as its comment says.
Faults of one server are in SoakServerFaults, those of Redis here. All chance comes from rand.

=cut

package SoakFaults;

use strict;
use warnings;

use IO::Socket::UNIX;

use FakeRedis;
use RedisServer;
use SoakServerFaults;

our %faults;

sub names { return sort keys %faults; }

sub check
{
	my @unknown = grep { !$faults{$_} } @_;
	die "no such fault: @unknown\nThere are: @{[ names() ]}\n" if @unknown;
	return;
}

# Those that leave PostgreSQL alone: they must not hold up a commit.
sub names_of_redis { return grep { /^(redis|clients|functions|position)_/ } names(); }

sub happen
{
	my ($name, $soak) = @_;
	$faults{$name}->($soak, $soak->{cluster}->redis);
	return;
}

sub _while
{
	my ($soak, $begin, $end) = @_;
	$begin->();
	$soak->load_runs(rand 0.8);
	$end->();
	return;
}

sub _position_key
{
	my ($redis) = @_;
	return ($redis->keys('cache_aside:position:*'))[0] // 'x';
}

# Everybody connects anew.
sub _hang_up
{
	my ($redis) = @_;
	return $redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
}

sub _become
{
	my ($soak, $redis, $socket) = @_;
	$soak->{cluster}->redis_is_at($socket);
	_hang_up($redis);
	return;
}

# Somebody else answers at Redis' address, some commands wrongly.
sub _talk_nonsense
{
	my ($soak, $redis, $action, @arguments) = @_;
	my $fake = FakeRedis->new(upstream => $redis)->start;
	my $pattern = (
		qr/^FCALL cache_aside_apply/, qr/^FCALL cache_aside_(claim|arm|epoch)/,
		qr/^(FCALL|GET|INFO|SCAN)/, qr/^FCALL cache_aside_(get|fill)/)[ rand 4 ];
	$fake->on($pattern, $action, @arguments ? $arguments[ rand @arguments ] : 1);
	_while($soak, sub { _become($soak, $redis, $fake->socket) },
		sub { _become($soak, $redis, $redis->socket) });
	$fake->stop;
	return;
}

# A replica that may lag takes over, at the same address.
sub _fail_over
{
	my ($soak, $redis) = @_;
	my $replica = $soak->{cluster}{spare_redis};
	my $lag = rand 0.6;
	unlink $replica->rdb;
	$replica->start->replicaof($redis);
	if ($lag > 0.2)
	{
		$replica->freeze;
		$redis->command('CLIENT', 'KILL', 'TYPE', 'replica');
		$soak->load_runs($lag);
	}
	$redis->kill9;
	$replica->thaw->promote;
	$soak->{cluster}->swap_redis;
	return;
}

# Less memory than is used: something goes, perhaps the guard or the position.
sub _evict
{
	my ($soak, $redis) = @_;
	my $before = $redis->info('evicted_keys');
	my $less = 30_000 + int rand 300_000;
	$redis->config_set('maxmemory-policy' => rand() < 0.5 ? 'allkeys-lru' : 'allkeys-random');
	_while(
		$soak,
		sub { $redis->config_set(maxmemory => $redis->info('used_memory') - $less) },
		sub { $redis->config_set(maxmemory => 0, 'maxmemory-policy' => 'noeviction') });
	$soak->{evicted} = 1 if $redis->info('evicted_keys') > $before;
	return;
}

%faults = (
	%SoakServerFaults::faults,
	none => sub { },
	redis_frozen => sub {
		my ($soak, $redis) = @_;
		_while($soak, sub { $redis->freeze }, sub { $redis->thaw });
	},
	redis_killed => sub {
		my ($soak, $redis) = @_;
		$soak->{wiped} = 1;
		_while($soak, sub { $redis->kill9; unlink $redis->rdb }, sub { $redis->start });
	},
	redis_restarted => sub {
		my ($soak, $redis) = @_;
		_while($soak, sub { $redis->save->kill9 }, sub { $redis->start });
	},
	# Its data is there, and it says LOADING for some 0.7 s
	redis_loading => sub {
		my ($soak, $redis) = @_;
		my $delay = 200 + int rand 400;
		$redis->save->kill9;
		$redis->append_conf("key-load-delay $delay\nloading-process-events-interval-bytes 1024\n");
		$redis->start->append_conf("key-load-delay 0\n");
	},
	redis_went_back => sub {
		my ($soak, $redis) = @_;
		$redis->restore_from($soak->snapshot);
	},
	redis_failed_over => \&_fail_over,
	redis_refuses_connections => sub {
		my ($soak, $redis) = @_;
		my $closed = $soak->{cluster}->dir . '/closed';
		unlink $closed;
		IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $closed, Listen => 1)->close;
		_while($soak, sub { _become($soak, $redis, $closed) }, sub { _become($soak, $redis, $redis->socket) });
	},
	redis_garbage => sub {
		_talk_nonsense(@_, 'raw', "\xff\0nonsense\r\n", "+OK\r\n", ":-1\r\n", "*1000000000\r\n",
			"*3\r\n:1\r\n:", "\$-7\r\n", "-ERR who knows\r\n", "%1\r\n+a\r\n+b\r\n");
	},
	redis_half_replies => sub { _talk_nonsense(@_, 'half', 0 .. 20) },
	redis_stalled_replies => sub { _talk_nonsense(@_, 'stall', 0 .. 20) },
	redis_lost_replies => sub { _talk_nonsense(@_, 'lose') },
	redis_slow_replies => sub { _talk_nonsense(@_, 'slow', 0.002, 0.02) },
	redis_endless_replies => sub { _talk_nonsense(@_, 'endless', '+', '$100000000' . "\r\n") },
	redis_full => sub {
		my ($soak, $redis) = @_;
		_while($soak, sub { $redis->config_set(maxmemory => 1) }, sub { $redis->config_set(maxmemory => 0) });
	},
	redis_evicts => \&_evict,
	redis_read_only => sub {
		my ($soak, $redis) = @_;
		_while($soak, sub { $redis->command('REPLICAOF', '127.0.0.1', 1) }, sub { $redis->promote });
	},
	redis_busy => sub {
		my ($soak, $redis) = @_;
		my $client = $redis->client;
		$redis->config_set('busy-reply-threshold' => 1);
		_while($soak, sub { $client->send('EVAL', 'while true do end', 0) },
			sub { $redis->command('SCRIPT', 'KILL') });
	},
	redis_flushed => sub {
		my ($soak, $redis) = @_;
		$soak->{wiped} = 1;
		$redis->flushall;
	},
	functions_flushed => sub { $_[1]->command('FUNCTION', 'FLUSH') },
	clients_killed => sub { _hang_up($_[1]) },
	position_evicted => sub { $_[1]->del(_position_key($_[1])) },
	position_nonsense => sub { $_[1]->set(_position_key($_[1]), "\xffnonsense") },
	position_beyond => sub { my $key = _position_key($_[1]); $_[1]->set($key, ($_[1]->get($key) // '') =~ s{^(\d+) \S+ \S+}{$1 FF/0 FF/0}r) });

1;
