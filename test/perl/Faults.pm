
=pod

=head1 NAME

Faults - what the fault stories share: tables under a rule, a cache beside them, commit latency

=head1 SYNOPSIS

  make_users($node, 100);                 # users (id, v) with the rule user:{id}
  cache_users($redis, 1 .. 100);          # as a client that read them would
  my $before = commit_ms($node);          # { median, worst } of single-row updates, in ms
  never_waits($node, $before, 'Redis is frozen');
  stop_process($pid); go_on($pid);        # SIGSTOP, SIGCONT; continued at the end of the program
  my ($load) = start_pgbench($node, 4, <<'EOS'); ... ; stop_pgbench($load);

=cut

package Faults;

use strict;
use warnings;

use Exporter 'import';
use File::Spec ();
use IPC::Run ();
use PostgreSQL::Test::Utils ();
use Test::More ();
use Time::HiRes 'time';

use CacheAside;
use PgWire;

our @EXPORT = qw(make_users cache_users user_keys commit_ms never_waits stop_process go_on
  start_pgbench stop_pgbench fill_log kill_server compare position_of set_position
  position_key debug_build answers mixed_writes);

# No commit may take longer than this, though Redis itself is given up only after much longer.
our $longest = 3000;    # ms

my %stopped;

sub make_users
{
	my ($node, $n, %args) = @_;
	$node->safe_psql($args{db} // 'postgres', qq{
		CREATE TABLE users (id int PRIMARY KEY, v int NOT NULL DEFAULT 0);
		INSERT INTO users SELECT i FROM generate_series(1, $n) i;
		SELECT cache_aside.attach('users', 'user:{id}');
	});
	return;
}

sub user_keys { return map { "user:$_" } @_; }

sub cache_users
{
	my ($redis, @ids) = @_;
	$redis->mset(map { ("user:$_" => 'cached') } @ids);
	return;
}

# Rows 1 to 50 are written in turn, one commit each.
sub commit_ms
{
	my ($node, $n) = @_;
	my $client = PgWire->new($node);
	my @ms;
	foreach my $i (1 .. $n // 200)
	{
		my $start = time;
		$client->query('UPDATE users SET v = v + 1 WHERE id = ' . (1 + $i % 50));
		push @ms, 1000 * (time - $start);
	}
	@ms = sort { $a <=> $b } @ms;
	return { median => $ms[ @ms / 2 ], worst => $ms[-1] };
}

sub never_waits
{
	my ($node, $before, $what) = @_;
	my $now = commit_ms($node);
	Test::More::diag(
		sprintf '%s: commit %.2f ms median, %.2f before, ratio %.2f; worst %.1f ms',
		$what, $now->{median}, $before->{median}, $now->{median} / $before->{median}, $now->{worst});
	Test::More::cmp_ok($now->{worst}, '<', $longest, "$what: no commit waits");
	return;
}

sub stop_process
{
	my ($pid) = @_;
	kill 'STOP', $pid or die "cannot stop $pid: $!";
	$stopped{$pid} = 1;
	return $pid;
}

sub go_on
{
	my ($pid) = @_;
	delete $stopped{$pid};
	kill 'CONT', $pid or die "cannot continue $pid: $!";
	return;
}

# Clients that run a pgbench script until they are stopped or the server is gone.
sub start_pgbench
{
	my ($node, $clients, $script, %args) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/load.sql';
	PostgreSQL::Test::Utils::append_to_file($file, $script);
	my @command = (
		'pgbench', '-n', '-M', 'simple', '-c', $clients, '-j', 1, '-T', 600, '-f', $file,
		'-h', $node->host, '-p', $node->port, 'postgres');
	my $output = '';
	my $load = IPC::Run::start(\@command, '<', \undef, '>&', \$output);
	return { handle => $load, output => \$output };
}

# For pgbench: commits of two kinds that write rows 1 to 10 000; writes of others, up to `above`, are rolled back.
sub mixed_writes
{
	my ($above) = @_;
	return <<"EOS";
\\set id random(1, 10000)
\\set other 10000 + random(1, $above - 10000)
UPDATE users SET v = v + 1 WHERE id = :id;
BEGIN;
UPDATE users SET v = v + 1 WHERE id = 5 * (:id / 5);
SAVEPOINT s;
UPDATE users SET v = v + 1 WHERE id = :other;
ROLLBACK TO s;
COMMIT;
EOS
}

sub stop_pgbench
{
	my ($load) = @_;
	$load->{handle}->signal('TERM'); # INT may be ignored where the tests were started in the background
	$load->{handle}->finish;
	return;
}

# Log of so many MB that nobody needs, and a checkpoint that removes what may go.
sub fill_log
{
	my ($node, $mb) = @_;
	$node->safe_psql('postgres', qq{
		SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000 * 1000))
		FROM generate_series(1, $mb);
		SELECT pg_switch_wal();
		CHECKPOINT});
	return;
}

# Also while it crashes and starts again.
sub answers
{
	my ($node) = @_;
	return eval { $node->value('postgres', 'SELECT 1') };
}

# kill -9 of the postmaster; returns when its children have noticed and are gone.
sub kill_server
{
	my ($node) = @_;
	my ($postmaster) = PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @pids = ($postmaster, map { $_->[0] }
		  @{ PgWire->new($node)->query('SELECT pid FROM pg_stat_activity')->{rows} });
	$node->kill9;
	wait_until(sub { !grep { kill 0, $_ } @pids }) or die 'processes outlive their postmaster';
	return;
}

# Rows of users with v = 0 were not written since the cache was filled. Returns what is wrong.
sub compare
{
	my ($node, $redis) = @_;
	my (@stale, @lost);
	my $client = PgWire->new($node);
	my @rows = @{ $client->query('SELECT id, v FROM users')->{rows} };
	my @there = $redis->pipeline(map { [ 'EXISTS', "user:$_->[0]" ] } @rows);
	foreach my $i (0 .. $#rows)
	{
		my ($id, $v) = @{ $rows[$i] };
		push @stale, $id if $v > 0 && $there[$i];
		push @lost, $id if $v == 0 && !$there[$i];
	}
	my $written = grep { $_->[1] > 0 } @rows;
	return { written => $written, stale => "@stale", lost => "@lost" };
}

sub position_key
{
	my ($node) = @_;
	return 'cache_aside:position:'
	  . $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
}

sub position_of
{
	my ($redis, $node) = @_;
	return $redis->get(position_key($node));
}

sub set_position
{
	my ($redis, $node, $text) = @_;
	return $redis->set(position_key($node), $text);
}

=head2 debug_build

Builds the extension with its debug points (src/common/debug.h) into a directory of its own, once for all
tests that need it, and makes every server started from now on use it. Skips the story where that cannot be.

=cut

sub debug_build
{
	my $conf = $ENV{CACHE_ASIDE_CONF} ? PostgreSQL::Test::Utils::slurp_file($ENV{CACHE_ASIDE_CONF}) : '';
	my ($installed) = $conf =~ /^extension_(?:destdir|control_path) = '([^':]*?)(?:\/usr\/|'|:)/m;
	Test::More::plan(skip_all => 'needs extension_destdir or extension_control_path') unless $installed && $ENV{CA_WORK};
	my $dir = "$ENV{CA_WORK}/debug_points";
	my $tree = File::Spec->rel2abs($INC{'Faults.pm'} =~ s{[^/]*$}{../..}r);
	mkdir $dir;
	open my $lock, '>', "$dir/lock" or die $!;
	flock $lock, 2 or die $!;
	# A copy, since objects of the usual build lie in the tree.
	system("cp -Rup $tree/Makefile $tree/*.control $tree/sql $tree/scripts $dir && cd $tree &&"
		  . " find src '(' -name '*.[ch]' -o -name '*.lua' ')' -exec cp -up --parents {} $dir ';' && cd $dir &&"
		  . " find src -name '*.[ch]' -exec test ! -e $tree/{} ';' -delete &&"
		  . " set -- PG_CONFIG=$ENV{PG_CONFIG} DESTDIR=$dir/install COPT='-O0 -DCA_DEBUG_POINTS' with_llvm=no &&"
		  # Installed once: install replaces the file, and a server of another test may be about to load it.
		  . ' { make -s -j2 all "$@" && sum=$(cat *.so *.control sql/*.sql | cksum) &&'
		  . ' { [ "$sum" = "$(cat installed 2>/dev/null)" ] || make -s install "$@" && echo "$sum" >installed; }; } >log 2>&1') == 0
	  or die PostgreSQL::Test::Utils::slurp_file("$dir/log");
	PostgreSQL::Test::Utils::append_to_file("$dir/conf.$$", $conf =~ s/\Q$installed\E/$dir\/install/gr);
	rename "$dir/conf.$$", "$dir/conf" or die $!;
	$ENV{CACHE_ASIDE_CONF} = "$dir/conf";
	return;
}

END
{
	kill 'CONT', keys %stopped;
}

1;
