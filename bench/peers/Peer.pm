
=pod

=head1 NAME

Peer - one way to keep a cache right, with servers of its own

=head1 SYNOPSIS

  package Peer::Mine;                       # bench/peers/Peer/Mine.pm
  use parent 'Peer';
  sub title { 'mine' }
  sub conf { "wal_level = logical\n" }      # for postgresql.conf
  sub set_up { $_[0]->sql->query('CREATE TRIGGER ... ON account ...') }
  sub start { $_[0]->run_consumer('my_consumer', $_[0]->conninfo, $_[0]->cache->socket) }
  sub kill_deleter { ... }

=head1 DESCRIPTION

Each has a PostgreSQL and a Redis (or memcached) that nobody else uses, on unix sockets: what is in one's way is not in
another's. All have the same table, account(id, n), of which the key is account:<id>. `start` begins what deletes,
`stop` ends it: between its turns a peer does nothing.

Where there is nothing to write down for a peer (deletes: does it delete keys at all; deleter: what does; lossless: are
all keys to be gone after any of the kills), the defaults are here.

=cut

package Peer;

use strict;
use warnings;

use POSIX ();
use Time::HiRes qw(time sleep);

use PgServer;
use RedisServer;

our $bin;     # where the programs are
our $rows;    # accounts that the application writes; behind them the prober has its own

my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());
my $conf = <<'EOC';
shared_preload_libraries = ''
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 1h
max_connections = 200
EOC
$conf .= "fsync = off\n" if $ENV{QUICK};    # making the servers is the most of it

sub name { return lc ref($_[0]) =~ s/.*:://r; }
sub conf { return ''; }
sub deletes { return 1; }
sub deleter { return 'the consumer'; }
sub set_up { return; }
sub start { return; }
sub application_options { return ''; }
sub prober_options { return ''; }
sub caught_up { return 1; }
sub make_cache { return RedisServer->new->start; }
sub cache_url { return 'redis:' . $_[0]{cache}->socket; }

# Why it cannot be run here, or nothing.
sub why_not { return; }

sub new
{
	my ($class) = @_;
	my $self = bless { consumers => [] }, $class;
	$self->{cache} = $self->make_cache;
	$self->{pg} = PgServer->new(conf => $conf . $self->conf)->start;
	# Room on each page, so that every update stays on its own; and no page is written whole while it is measured.
	$self->sql->query(<<"EOS");
CREATE TABLE account (id int PRIMARY KEY, n int NOT NULL, filler text) WITH (fillfactor = 60, autovacuum_enabled = off);
INSERT INTO account SELECT i, 0, repeat('x', 80) FROM generate_series(1, $rows + 200) i;
EOS
	$self->sql->query($_) foreach 'VACUUM ANALYZE account', 'CHECKPOINT', 'UPDATE account SET filler = filler', 'VACUUM account';
	$self->set_up;
	return $self;
}

sub pg { return $_[0]{pg}; }
sub cache { return $_[0]{cache}; }
sub sql { return $_[0]{pg}->connect; }

sub conninfo
{
	my ($self) = @_;
	return "host=@{[ $self->pg->dir ]} port=5432 user=postgres dbname=postgres";
}

# ---- consumers

# Programs that feed each other, as in a shell: ([program, argument ...], ...).
sub run_pipeline
{
	my ($self, @commands) = @_;
	my $input;
	foreach my $command (@commands)
	{
		my ($reader, $writer);
		pipe($reader, $writer) or die "pipe: $!";
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			open STDIN, '<&', $input or POSIX::_exit(127) if $input;
			open STDOUT, '>&', $writer or POSIX::_exit(127);
			open STDERR, '>>', $self->pg->dir . '/consumer.log';
			exec 'setpriv', '--pdeathsig', 'KILL', @$command or POSIX::_exit(127);
		}
		push @{ $self->{consumers} }, $pid;
		$input = $reader;
	}
	return $input;
}

# Returns when it has said that it is ready.
sub run_consumer
{
	my ($self, $program, @args) = @_;
	my $said = readline($self->run_pipeline([ "$bin/$program", @args ])) // '';
	return $said eq "ready\n";
}

sub kill_consumers
{
	my ($self) = @_;
	kill 'KILL', @{ $self->{consumers} };
	waitpid($_, 0) foreach @{ $self->{consumers} };
	$self->{consumers} = [];
	return;
}

sub stop { return $_[0]->kill_consumers; }
sub kill_deleter { return $_[0]->kill_consumers; }

# As the supervisor of a service does: one that ended is begun again.
sub supervise
{
	my ($self) = @_;
	my @alive = grep { waitpid($_, POSIX::WNOHANG()) == 0 } @{ $self->{consumers} };
	return if @alive && @alive == @{ $self->{consumers} };
	$self->{consumers} = \@alive;
	$self->kill_consumers;
	eval { $self->start; };
	return;
}

sub kill_server
{
	my ($self) = @_;
	my @pids = _children($self->pg->{pid});
	kill 'KILL', $self->pg->{pid}, @pids;
	$self->pg->stop('KILL');
	return;
}

sub kill_cache { $_[0]->cache->kill9; return; }

# ---- what it took

sub content
{
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	return scalar(<$fh>) // '';
}

sub _children
{
	my ($parent) = @_;
	return grep { (_stat($_))[1] == $parent } map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# Of /proc/<pid>/stat, what is behind the name: state, parent, ...
sub _stat { return split / /, content("/proc/$_[0]/stat") =~ s/.*\) //sr || '? 0'; }

# utime, stime, and of children that ended cutime, cstime, in seconds.
sub _cpu
{
	my ($pid) = @_;
	my @fields = _stat($pid);
	return @fields > 14 ? _sum(@fields[ 11 .. 14 ]) / $ticks : 0;
}

sub _sum { my $sum = 0; $sum += $_ foreach @_; return $sum; }

# Of a process and all below it.
sub cpu_below
{
	my ($pid) = @_;
	return _sum(_cpu($pid), map { cpu_below($_) } _children($pid));
}

# CPU seconds of the whole machine: used by anybody, taken by its host, and all.
sub cpu_of_machine
{
	my ($user, $nice, $system, $idle, $iowait, $irq, $softirq, $steal) = map { $_ / $ticks } content('/proc/stat') =~ /^cpu +(\d.*)/ ? split / /, $1 : ();
	my $used = _sum($user, $nice, $system, $irq, $softirq);
	return ($used, $steal, _sum($used, $steal, $idle, $iowait));
}

# CPU seconds so far; bytes of log written.
sub used
{
	my ($self) = @_;
	my $postmaster = $self->pg->{pid};
	return {
		wal => $self->sql->value(q{SELECT pg_current_wal_insert_lsn() - '0/0'}),
		server => _sum(map { _cpu($_) } $postmaster, _children($postmaster)),
		cache => _cpu($self->cache->pid),
		consumer => _sum(map { _cpu($_) } @{ $self->{consumers} }) };
}

# MB of the consumer and of the server process that serves it, without what all server processes share.
sub consumer_memory
{
	my ($self) = @_;
	my @pids = (@{ $self->{consumers} }, $self->serving_pids);
	return _sum(map { content("/proc/$_/smaps_rollup") =~ /^Pss_(?:Anon|File): +(\d+)/mg } @pids) / 1024;
}

sub serving_pids
{
	my ($self) = @_;
	return map { $_->[0] } $self->sql->query(
		q{SELECT pid FROM pg_stat_activity WHERE application_name IN ('consumer', 'pg_recvlogical')});
}

# ---- the table against the cache

sub _run
{
	my ($program, @args) = @_;
	my @said = `@{[ join ' ', map { quotemeta } "$bin/$program", @args ]} 2>>$bin/log`;
	chomp @said;
	return $? ? () : @said;
}

sub fill
{
	my ($self, $spoiled) = @_;
	my ($stored) = _run('keys', 'fill', $self->conninfo, $self->cache_url, $rows, $spoiled ? 'other:' : ());
	die $self->name . ": not every key was cached\n" unless ($stored // 0) == $rows;
	return;
}

# How many keys are there, how many of them stale.
sub audit
{
	my ($self) = @_;
	my ($said) = _run('keys', 'audit', $self->conninfo, $self->cache_url, $rows) or die $self->name . ": no audit\n";
	return split / /, $said;
}

# Samples in microseconds, sorted; none if a key did not go. ('-t', seconds) or ('-m', number)
sub probe
{
	my ($self, @limit) = @_;
	return _run('prober', '-d', $self->conninfo, '-u', $self->cache_url, '-n', $rows + 1, @limit,
		$self->prober_options || ());
}

# Everything that was committed before has been dealt with: the key of a later commit is gone.
sub drained
{
	my ($self, $deadline) = @_;
	return !$self->deletes || ($self->probe('-m', 1, '-w', $deadline // 20) && $self->caught_up);
}

# A running application, to be ended by finish_application: (commits, seconds, CPU seconds).
sub begin_application
{
	my ($self, @options) = @_;
	my @command = ("$bin/application", '-d', $self->conninfo, '-n', $rows, split(/ /, $self->application_options), @options);
	my $pid = open(my $pipe, '-|', 'setpriv', '--pdeathsig', 'KILL', @command) or die "application: $!";
	$self->{application} = $pid;
	return $pipe;
}

sub finish_application
{
	my ($self, $pipe) = @_;
	my $said = <$pipe> // '';
	close $pipe;
	return split / /, $said;
}

1;
