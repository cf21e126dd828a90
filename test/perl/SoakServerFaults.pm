
=pod

=head1 NAME

SoakServerFaults - what happens to the primary and its standby in a soak; see SoakFaults

=cut

package SoakServerFaults;

use strict;
use warnings;

sub _restart
{
	my ($soak, $role, $signal) = @_;
	$soak->{cluster}->end($role, $signal);
	$soak->{cluster}->$role->start;
	return;
}

sub _wait_for_standby
{
	my ($cluster, $what) = @_;
	my ($row) = $cluster->sql('SELECT pg_current_wal_flush_lsn()');
	$cluster->wait_until_true("pg_last_wal_${what}_lsn() >= '$row->[0]'", 'standby');
	return;
}

sub catch_up
{
	my ($cluster) = @_;
	$cluster->standby->follow($cluster->primary);
	$cluster->sql('SELECT pg_wal_replay_resume()', 'standby');
	return _wait_for_standby($cluster, 'replay');
}

# Old primary gone (with lives_on going: it goes on for a while, not knowing), standby promoted, and the
# old one made its standby. Before that the standby got everything that was flushed; with `behind` the
# last is lost, with `paused` it is not replayed yet.
sub _promote
{
	my ($soak, $signal, %how) = @_;
	my $cluster = $soak->{cluster};
	my $remade = rand() < 0.5 ? 'rewind' : 'backup';
	my ($behind, $lives_on) = (rand 0.5, rand 1);
	catch_up($cluster);
	$cluster->standby->disconnect if $how{behind};
	$cluster->sql('SELECT pg_wal_replay_pause()', 'standby') if $how{paused};
	$soak->load_runs($behind) if $how{behind} || $how{paused};
	$cluster->end('primary', $signal) unless $how{lives_on};
	$cluster->standby->promote;
	$cluster->swap;
	if ($how{lives_on})
	{
		# Every other client learns of it.
		$cluster->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid % 2 = 0 AND pid <> pg_backend_pid()}, 'standby');
		$soak->load_runs($lives_on);
		$cluster->end('standby', $signal);
	}
	$cluster->standby->become_standby($cluster->primary, $remade)->start;
	return;
}

# Redis is away meanwhile: the new primary has to deliver what the old one did not.
sub _promote_without_redis
{
	my ($soak, $redis) = @_;
	$redis->save->kill9;
	$soak->load_runs(rand 0.5);
	_promote($soak, rand() < 0.5 ? 'INT' : 'KILL');
	$redis->start;
	return;
}

# Commits are flushed and wait for a standby that never answers, until it is given up.
sub _stall_commits
{
	my ($soak, $meanwhile) = @_;
	my $primary = $soak->{cluster}->primary;
	$primary->configure("synchronous_standby_names = 'nobody'\n");
	$soak->load_runs(0.1 + rand 0.7);
	$meanwhile->();
	$primary->configure("synchronous_standby_names = ''\n");
	return;
}

# More log than may be kept while Redis is away.
sub _remove_log
{
	my ($soak, $redis) = @_;
	my $cluster = $soak->{cluster};
	$redis->save->kill9;
	$cluster->primary->configure("cache_aside.max_wal_retained = 16MB\nwal_keep_size = 0\n");
	$cluster->sql(q{SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000))
		FROM generate_series(1, 20); SELECT pg_switch_wal()}) foreach 1 .. 2;
	# Or it would have to be made anew. One that is paused does not connect again.
	$cluster->sql('SELECT pg_wal_replay_resume()', 'standby');
	_wait_for_standby($cluster, 'receive');
	$cluster->sql('CHECKPOINT');
	$soak->load_runs(rand 0.3);
	$cluster->primary->configure("cache_aside.max_wal_retained = 1GB\nwal_keep_size = 128MB\n");
	$redis->start;
	return;
}

sub _kill_worker
{
	my ($soak, $role) = @_;
	kill 'KILL', $soak->{cluster}->worker_pid($role);
	return;
}

our %faults = (
	worker_killed => sub { _kill_worker($_[0], 'primary') },
	worker_stopped => sub {
		my ($soak) = @_;
		my $pid = $soak->{cluster}->worker_pid('primary');
		kill 'STOP', $pid;
		$soak->load_runs(rand 0.8);
		kill 'CONT', $pid;
	},
	backend_ended => sub {
		$_[0]{cluster}->sql(q{SELECT pg_terminate_backend(min(pid)) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
	},
	checkpoint => sub { $_[0]{cluster}->sql('CHECKPOINT') },
	slot_dropped => sub {
		eval { $_[0]{cluster}->sql(q{SELECT pg_drop_replication_slot('cache_aside')}) };    # or it is held
	},
	log_removed => \&_remove_log,
	commits_stalled => sub { _stall_commits($_[0], sub { }) },
	commits_stalled_server_killed => sub {
		my ($soak) = @_;
		_stall_commits($soak, sub { _restart($soak, 'primary', 'KILL'); $soak->load_runs(rand 0.5) });
	},
	server_restarted => sub { _restart($_[0], 'primary', 'INT') },
	server_stopped_at_once => sub { _restart($_[0], 'primary', 'QUIT') },
	server_killed => sub { _restart($_[0], 'primary', 'KILL') },
	server_restarted_redis_frozen => sub {
		my ($soak, $redis) = @_;
		$redis->freeze;
		_restart($soak, 'primary', 'INT');
		$redis->thaw;
	},
	all_killed => sub {
		my ($soak, $redis) = @_;
		$redis->save->kill9;
		_restart($soak, 'primary', 'KILL');
		$redis->start;
	},
	# Until the next of these two, or a promotion
	standby_paused => sub { $_[0]{cluster}->sql('SELECT pg_wal_replay_pause()', 'standby') },
	standby_resumed => sub { $_[0]{cluster}->sql('SELECT pg_wal_replay_resume()', 'standby') },
	standby_killed => sub { _restart($_[0], 'standby', 'KILL') },
	standby_worker_killed => sub { _kill_worker($_[0], 'standby') },
	promotion_clean => sub { _promote($_[0], 'INT') },
	promotion_at_once => sub { _promote($_[0], 'QUIT') },
	promotion_killed => sub { _promote($_[0], 'KILL') },
	promotion_lossy => sub { _promote($_[0], 'KILL', behind => 1) },
	promotion_paused => sub { _promote($_[0], 'KILL', paused => 1) },
	promotion_redis_away => \&_promote_without_redis,
	promotion_old_lives_on => sub { _promote($_[0], 'KILL', lives_on => 1) });

1;
