
=pod

=head1 NAME

PgServer - a private PostgreSQL with the extension, for the demonstration and the benchmarks

=head1 SYNOPSIS

  my $pg = PgServer->new(redis => $redis, conf => "shared_buffers = 256MB\n")->start;
  my $client = $pg->connect;               # PgClient
  system('pgbench', $pg->options, ...);

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

sub new
{
	my ($class, %args) = @_;
	my $dir = File::Temp::tempdir('ca-pg-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $self = bless { dir => $dir, port => 5432, owner => $$ }, $class;
	system("initdb -D $dir/data -U postgres -A trust -E UTF8 --locale=C >$dir/initdb.log 2>&1") == 0
	  or die _content("$dir/initdb.log");
	my $tree = File::Basename::dirname(__FILE__) . '/../..';
	open my $fh, '>>', "$dir/data/postgresql.conf" or die $!;
	print $fh "shared_preload_libraries = 'cache_aside'\n";
	print $fh "listen_addresses = ''\nunix_socket_directories = '$dir'\nport = $self->{port}\n";
	print $fh _content($ENV{CACHE_ASIDE_CONF}) if $ENV{CACHE_ASIDE_CONF};
	print $fh "cache_aside.redis_url = '" . $args{redis}->url . "'\n" if $args{redis};
	print $fh $args{conf} // '';
	close $fh;
	push @started, $self;
	return $self;
}

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
		exec @guard, 'postgres', '-D', "$dir/data" or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	foreach (1 .. 1200)
	{
		return $self if eval { $self->connect->value('SELECT 1') };
		last unless waitpid($pid, POSIX::WNOHANG()) == 0;
		select undef, undef, undef, 0.05;
	}
	die "PostgreSQL does not start:\n" . _content("$dir/log");
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
