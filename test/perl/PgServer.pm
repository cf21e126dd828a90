
=pod

=head1 NAME

PgServer - a private PostgreSQL with the extension, for the demonstration and the benchmarks

=head1 SYNOPSIS

  my $pg = PgServer->new(redis => $redis, conf => "shared_buffers = 256MB\n")->start;
  my $client = $pg->connect;               # PgClient
  system('pgbench', $pg->options, ...);
  my $standby = PgServer->new_standby($pg)->start;
  $pg->stop('QUIT'); $standby->promote; $pg->become_standby($standby, 'rewind')->start;

The tests use PostgreSQL::Test::Cluster, which logs every statement and relaxes settings; this one
has PostgreSQL's defaults. Unix socket only, in a directory of its own; the server is a child of
this program and ends with it.

=cut

package PgServer;

use strict;
use warnings;

use File::Basename ();
use File::Temp ();
use POSIX ();
use Time::HiRes ();

use PgClient;

my $bindir = $ENV{PG_CONFIG} ? `$ENV{PG_CONFIG} --bindir` =~ s/\n//r : '';
$ENV{PATH} = "$bindir:$ENV{PATH}" if $bindir;
my @started;

sub _in_a_directory
{
	my ($class) = @_;
	my $dir = File::Temp::tempdir('ca-pg-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $self = bless { dir => $dir, port => 5432, owner => $$ }, $class;
	push @started, $self;
	return $self;
}

sub new
{
	my ($class, %args) = @_;
	my $self = $class->_in_a_directory;
	my $dir = $self->{dir};
	$self->{under} = $args{under};
	_initdb($dir);
	my $tree = File::Basename::dirname(__FILE__) . '/../..';
	open my $fh, '>>', "$dir/data/postgresql.conf" or die $!;
	print $fh "shared_preload_libraries = 'cache_aside'\n";
	print $fh "listen_addresses = ''\nunix_socket_directories = '$dir'\nport = $self->{port}\n";
	print $fh _content($ENV{CACHE_ASIDE_CONF}) if $ENV{CACHE_ASIDE_CONF};
	print $fh "cache_aside.redis_url = '" . $args{redis}->url . "'\n" if $args{redis};
	print $fh $args{conf} // '';
	close $fh;
	return $self;
}

# PGDATA_TEMPLATE: a directory of its making that is copied, made if it is not there: for many in a row.
sub _initdb
{
	my ($dir) = @_;
	my $template = $ENV{PGDATA_TEMPLATE} // "$dir/data";
	-d $template
	  or system("initdb -D $template -U postgres -A trust -E UTF8 --locale=C >$dir/initdb.log 2>&1") == 0
	  or die _content("$dir/initdb.log");
	return unless $ENV{PGDATA_TEMPLATE};
	system('cp', '-a', $template, "$dir/data") == 0 or die "cannot copy $template";
	return;
}

# Lines for postgresql.conf, the last of a setting counts; a server that runs is told.
sub configure
{
	my ($self, $lines) = @_;
	open my $fh, '>>', "$self->{dir}/data/postgresql.conf" or die $!;
	print $fh $lines;
	close $fh;
	kill 'HUP', $self->{pid} if $self->{pid};
	return $self;
}

=head2 Standbys

new_standby(primary) makes one from a base backup; become_standby(primary, how) turns a stopped server
into one, how being 'backup' or 'rewind' (which wants wal_log_hints); both have to be started.
disconnect lets a standby fall behind, follow lets it catch up; promote returns when it is done.

=cut

sub new_standby
{
	my ($class, $primary) = @_;
	return $class->_in_a_directory->become_standby($primary, 'backup');
}

sub become_standby
{
	my ($self, $primary, $how) = @_;
	my $data = "$self->{dir}/data";
	my $command =
	  $how eq 'rewind'
	  ? "pg_rewind -D $data --no-sync --source-server='" . $primary->_conninfo . " dbname=postgres'"
	  : "rm -rf $data && pg_basebackup -D $data -c fast --no-sync --no-manifest -d '" . $primary->_conninfo . "'";
	$primary->connect->query('CHECKPOINT') if $how eq 'rewind';    # it says on which timeline it is
	system("{ $command; } >$self->{dir}/standby.log 2>&1") == 0
	  or die "$how failed:\n" . _content("$self->{dir}/standby.log");
	open my $fh, '>', "$data/standby.signal" or die $!;
	$self->configure("unix_socket_directories = '$self->{dir}'\n");
	return $self->follow($primary);
}

sub follow
{
	my ($self, $primary) = @_;
	return $self->configure("primary_conninfo = '" . $primary->_conninfo . "'\n");
}

sub disconnect
{
	my ($self) = @_;
	$self->configure("primary_conninfo = ''\n");
	$self->_wait_until_true('count(*) = 0 FROM pg_stat_wal_receiver');
	return $self;
}

sub promote
{
	my ($self) = @_;
	$self->_wait_until_true('pg_promote(false)');
	$self->_wait_until_true('NOT pg_is_in_recovery()');
	return $self;
}

# Replay may cancel what is asked here.
sub _wait_until_true
{
	my ($self, $sql) = @_;
	foreach (1 .. 12000)
	{
		return if eval { $self->connect->value("SELECT $sql") eq 't' };
		select undef, undef, undef, 0.01;
	}
	die "not within two minutes: $sql\n";
}

sub _conninfo { return "host=$_[0]{dir} port=$_[0]{port} user=postgres"; }

sub start
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', "$dir/log";
		open STDERR, '>&', \*STDOUT;
		POSIX::setsid();    # an interrupt from the keyboard is for us to handle
		my @guard = -x '/usr/bin/setpriv' ? ('/usr/bin/setpriv', '--pdeathsig', 'QUIT') : ();
		exec @guard, @{ $self->{under} // [] }, 'postgres', '-D', "$dir/data" or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	foreach (1 .. 1200)
	{
		return $self if eval { $self->connect->value('SELECT 1') };
		last unless waitpid($pid, POSIX::WNOHANG()) == 0;
		select undef, undef, undef, 0.05;
	}
	die "PostgreSQL does not start:\n" . substr(_content("$dir/log"), -10_000);
}

sub stop
{
	my ($self, $signal) = @_;
	my $pid = delete $self->{pid} or return;
	kill $signal // 'INT', $pid;    # INT is a fast shutdown, QUIT an immediate one
	waitpid($pid, 0);
	return;
}

sub connect
{
	my ($self, %args) = @_;
	return PgClient->new(dir => $self->{dir}, port => $self->{port}, %args);
}

sub options { return ('-h', $_[0]{dir}, '-p', $_[0]{port}, '-U', 'postgres'); }
sub dir { return $_[0]{dir}; }
sub logfile { return "$_[0]{dir}/log"; }

sub worker_pid
{
	my ($self) = @_;
	return $self->connect->value(
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'cache_aside worker'");
}

sub _content
{
	my ($path) = @_;
	open my $fh, '<', $path or die "$path: $!\n";
	local $/;
	return scalar <$fh>;
}

END
{
	my $status = $?;
	foreach my $server (grep { $_->{owner} == $$ } @started)
	{
		$server->stop('QUIT');
	}
	$? = $status;
}

1;
