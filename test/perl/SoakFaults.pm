
=pod

=head1 NAME

SoakFaults - what happens to the server and to Redis in a soak; each begins and ends within one call

=cut

package SoakFaults;

use strict;
use warnings;

use RedisServer;

sub names { return sort keys %SoakFaults::faults; }

sub happen
{
	my ($name, $soak) = @_;
	$SoakFaults::faults{$name}->($soak, $soak->{redis}, $soak->{pg});
	return;
}

sub _position_key
{
	my ($redis) = @_;
	return ($redis->keys('cache_aside:position:*'))[0];
}

sub _worker
{
	my ($soak) = @_;
	my $pid;
	RedisServer->wait_until(
		sub {
			($pid) = eval {
				$soak->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'cache_aside worker'});
			};
			return $pid;
		},
		60) or die 'no worker';
	return $pid->[0];
}

# After a crash the postmaster begins anew; a restart of ours waits until the old processes are gone.
sub _restart
{
	my ($soak, $signal) = @_;
	my @pids = map { $_->[0] } $soak->sql('SELECT pid FROM pg_stat_activity');
	$soak->{pg}->stop($signal);
	RedisServer->wait_until(sub { !grep { kill 0, $_ } @pids }, 60) or die 'old processes are left';
	$soak->{pg}->start;
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

our %faults = (
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
	redis_went_back => sub {
		my ($soak, $redis) = @_;
		$redis->restore_from($redis->dir . '/quiet.rdb');
	},
	redis_full => sub {
		my ($soak, $redis) = @_;
		_while($soak, sub { $redis->config_set(maxmemory => 1) }, sub { $redis->config_set(maxmemory => 0) });
	},
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
	clients_killed => sub { $_[1]->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') },
	position_evicted => sub { $_[1]->del(_position_key($_[1]) // 'x') },
	position_nonsense => sub { $_[1]->set(_position_key($_[1]) // 'x', "\xffnonsense") },
	position_beyond => sub { $_[1]->set(_position_key($_[1]) // 'x', '1 FF/0 FF/0 1 ok 0 0') },
	worker_killed => sub { my ($soak) = @_; kill 'KILL', _worker($soak); },
	worker_stopped => sub {
		my ($soak) = @_;
		my $pid = _worker($soak);
		_while($soak, sub { kill 'STOP', $pid }, sub { kill 'CONT', $pid });
	},
	backend_ended => sub {
		$_[0]->sql(q{SELECT pg_terminate_backend(min(pid)) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
	},
	checkpoint => sub { $_[0]->sql('CHECKPOINT') },
	slot_dropped => sub {
		eval { $_[0]->sql(q{SELECT pg_drop_replication_slot('cache_aside')}) };    # or it is held
	},
	server_restarted => sub { _restart($_[0], 'INT') },
	server_stopped_at_once => sub { _restart($_[0], 'QUIT') },
	server_killed => sub { _restart($_[0], 'KILL') },
	all_killed => sub {
		my ($soak, $redis) = @_;
		$redis->save->kill9;
		_restart($soak, 'KILL');
		$redis->start;
	});

1;
