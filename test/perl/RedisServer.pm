
=pod

=head1 NAME

RedisServer - a private redis-server for a test, a demonstration or a benchmark

=head1 SYNOPSIS

  use RedisServer;
  RedisServer->skip_all_unless_available;            # in a TAP file
  my $redis = RedisServer->new->start;               # unix socket only
  my $other = RedisServer->new(port => 1, conf => "maxmemory 2mb\n")->start;

  $redis->url;                        # for cache_aside.redis_url; tcp_url when it has a port
  $redis->set('user:1', 'x', PX => 60000);
  $redis->command('HGETALL', 'h');    # anything, see RedisClient
  $redis->kill9; $redis->start; $redis->freeze; $redis->thaw;

=head1 DESCRIPTION

Finds the binary or tells why not; the environment's SERVER (make test SERVER=) names another. Everything lives in a short-named directory under the temporary
directory: socket, log, snapshot, certificates. Nothing is persisted unless `save` is called. The
server is signalled only by the pid that was started here, and ends with the program that started
it. Options of new: port (1 picks a free loopback port), tls (the port speaks TLS), conf (lines for
redis.conf), name, db.

=cut

package RedisServer;

use strict;
use warnings;

use Fcntl ':flock';
use File::Copy ();
use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use Time::HiRes ();

use RedisClient;

our $deadline = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;    # seconds

my @started;    # every server of this process, for END
my ($binary) = $ENV{SERVER} || grep { -x }
  map { ("$_/redis-server", "$_/valkey-server") }
  split(/:/, $ENV{PATH}), '/usr/local/bin', '/usr/bin';

sub why_not
{
	return $binary ? undef : 'neither redis-server nor valkey-server is installed';
}

sub skip_all_unless_available
{
	require Test::More;
	Test::More::plan(skip_all => why_not()) if why_not();
	return;
}

sub binary { return $binary; }

# (7, 0, 15)
sub version
{
	my ($numbers) = `$binary --version` =~ /v=([\d.]+)/ or die "cannot read the version of $binary";
	return split /\./, $numbers;
}

# Lines of a configuration that take functions away, where there are any.
sub no_functions { return (version())[0] < 7 ? '' : qq{rename-command FCALL ""\nrename-command FUNCTION ""\n}; }

# Words of ACL SETUSER; 6.0 knows no channels.
sub all_rights { return (version())[0] < 7 ? '~* +@all' : '~* &* +@all'; }

# Was it built with TLS? What it does not know in its configuration ends it, and is quoted: the first, or (Redis 8) all.
sub has_tls
{
	my $dir = File::Temp::tempdir('ca-redis-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	open my $fh, '>', "$dir/conf" or die "$dir/conf: $!";
	print $fh "port 0\ntls-port 0\nnothing-of-that-name 1\n";
	close $fh;
	my $said = `$binary $dir/conf 2>&1`;
	return $said =~ /nothing-of-that-name/ && $said !~ /tls-port/;
}

sub new
{
	my ($class, %args) = @_;
	die why_not() if why_not();
	my $self = bless { name => 'redis', conf => '', db => 0, owner => $$, %args }, $class;
	$self->{dir} = File::Temp::tempdir('ca-redis-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	$self->{port} = free_port() if $self->{port} && $self->{port} == 1;
	$self->{port} //= free_port() if $self->{tls};
	$self->_make_certificates if $self->{tls};
	$self->_write_conf;
	push @started, $self;
	return $self;
}

# A port of the loopback interface that is ours until this program ends, also while nobody listens there. Not of those
# that the system gives to whoever connects (from 32768 on): one of them is soon taken by somebody while a server is
# down. Tests that run beside this one see the lock.
my @locks;

sub free_port
{
	my $dir = $ENV{CA_WORK} ? "$ENV{CA_WORK}/tmp" : undef;
	foreach my $n (0 .. 19_999)
	{
		my $port = 10_000 + (time + 7919 * $$ + 61 * $n) % 20_000;
		my $lock;
		next if $dir && !(open($lock, '>>', "$dir/port-$port") && flock($lock, LOCK_EX | LOCK_NB));
		next unless IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, Proto => 'tcp', ReuseAddr => 1);
		push @locks, $lock;
		return $port;
	}
	die "no free port: $!";
}

sub _write_conf
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my $port = $self->{port} // 0;
	open my $fh, '>', "$dir/redis.conf" or die "$dir/redis.conf: $!";
	print $fh <<"EOC";
bind 127.0.0.1
unixsocket $dir/redis.sock
dir $dir
dbfilename dump.rdb
logfile $dir/redis.log
save ""
appendonly no
repl-diskless-sync-delay 0
EOC
	print $fh $self->{tls}
	  ? "port 0\ntls-port $port\ntls-cert-file $dir/server.crt\ntls-key-file $dir/server.key\n"
	  . "tls-ca-cert-file $dir/ca.crt\ntls-auth-clients no\n"
	  : "port $port\n";
	print $fh $self->{conf};
	close $fh;
	return;
}

# Lines for the next start; the last one that names a setting counts.
sub append_conf
{
	my ($self, $lines) = @_;
	open my $fh, '>>', "$self->{dir}/redis.conf" or die "$self->{dir}/redis.conf: $!";
	print $fh $lines;
	close $fh;
	return $self;
}

sub _make_certificates
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my $quiet = ">>$dir/openssl.log 2>&1";
	open my $fh, '>', "$dir/san" or die $!;
	print $fh "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
	close $fh;
	foreach my $command (
		"req -new -x509 -days 2 -nodes -newkey rsa:2048 -subj /CN=test-ca"
		. " -keyout $dir/ca.key -out $dir/ca.crt",
		"req -new -nodes -newkey rsa:2048 -subj /CN=localhost"
		. " -keyout $dir/server.key -out $dir/server.csr",
		"x509 -req -days 2 -in $dir/server.csr -CA $dir/ca.crt -CAkey $dir/ca.key"
		. " -CAcreateserial -extfile $dir/san -out $dir/server.crt")
	{
		system("openssl $command $quiet") == 0 or die "openssl failed, see $dir/openssl.log";
	}
	return;
}

=head2 Where it is

name, dir, socket, port, pid, logfile, rdb (path of the snapshot), ca_file; url, tcp_url

=cut

sub name { return $_[0]{name}; }
sub dir { return $_[0]{dir}; }
sub socket { return "$_[0]{dir}/redis.sock"; }
sub port { return $_[0]{port}; }
sub pid { return $_[0]{pid}; }
sub logfile { return "$_[0]{dir}/redis.log"; }
sub rdb { return "$_[0]{dir}/dump.rdb"; }
sub ca_file { return "$_[0]{dir}/ca.crt"; }

sub url
{
	my ($self) = @_;
	return "unix://" . $self->socket . "?db=$self->{db}";
}

sub tcp_url
{
	my ($self) = @_;
	return ($self->{tls} ? 'rediss' : 'redis') . "://127.0.0.1:$self->{port}/$self->{db}";
}

=head2 Life and death

start waits until commands are answered (start(wait => 0) does not); stop is SIGTERM; restart;
kill9; freeze and thaw are SIGSTOP and SIGCONT; is_running.

=cut

sub start
{
	my ($self, %args) = @_;
	die "$self->{name} runs already" if $self->is_running;
	unlink $self->socket;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->logfile;
		open STDERR, '>&', \*STDOUT;
		my @guard = -x '/usr/bin/setpriv' ? ('/usr/bin/setpriv', '--pdeathsig', 'KILL') : ();
		exec @guard, $self->_command or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$self->wait_ready if $args{wait} // 1;
	return $self;
}

sub _command { return ($binary, "$_[0]{dir}/redis.conf"); }

sub wait_ready
{
	my ($self) = @_;
	$self->_until(
		sub {
			die "$self->{name} ended while starting:\n" . $self->log_text unless $self->is_running;
			my ($ok, $reply) = eval { $self->_fresh_client(timeout => 5)->try('PING') };
			return $ok || ($reply // '') =~ /^(NOAUTH|NOPERM|MASTERDOWN)/;
		},
		'answer to PING');
	return $self;
}

sub stop
{
	my ($self) = @_;
	return $self->_end('TERM');
}

sub kill9
{
	my ($self) = @_;
	return $self->_end('KILL');
}

sub restart
{
	my ($self) = @_;
	$self->stop;
	return $self->start;
}

sub freeze
{
	my ($self) = @_;
	kill 'STOP', $self->{pid} or die "cannot stop $self->{name}: $!";
	$self->{frozen} = 1;
	return $self;
}

sub thaw
{
	my ($self) = @_;
	kill 'CONT', $self->{pid} or die "cannot continue $self->{name}: $!";
	$self->{frozen} = 0;
	return $self;
}

sub is_running
{
	my ($self) = @_;
	return 0 unless $self->{pid};
	return 1 if waitpid($self->{pid}, POSIX::WNOHANG()) == 0;
	delete $self->{pid};
	return 0;
}

sub _end
{
	my ($self, $signal) = @_;
	delete $self->{client};
	return $self unless $self->is_running;
	$self->thaw if $self->{frozen} && $signal ne 'KILL';
	kill $signal, $self->{pid};
	waitpid($self->{pid}, 0);
	delete @$self{qw(pid frozen)};
	return $self;
}

=head2 Commands

One connection is kept per object and process and is made anew when it broke.

=cut

sub _fresh_client
{
	my ($self, %args) = @_;
	return RedisClient->new(
		socket => $self->socket,
		db => $self->{db},
		auth => $self->{auth},
		%args);
}

# A connection of one's own.
sub client
{
	my ($self, %args) = @_;
	return $self->_fresh_client(%args);
}

# The same server, seen from another of its databases.
sub database
{
	my ($self, $db) = @_;
	return bless { %$self, db => $db, client => undef }, ref $self;
}

sub _call
{
	my ($self, $method, @args) = @_;
	my $client = $self->{client};
	delete $self->{client} if $client && $client->{pid} != $$;
	my $want = wantarray;
	my @result;
	my $done = eval {
		$self->{client} //= $self->_fresh_client;
		@result = $self->{client}->$method(@args);
		1;
	};
	return $want ? @result : $result[-1] if $done;
	my $error = $@;
	# After an error reply the connection is fine, after anything else it is not.
	delete $self->{client} unless $error =~ /\([A-Za-z.]+\)$/;
	die $error;
}

sub command { my $self = shift; return scalar $self->_call('command', @_); }
sub try { my $self = shift; return $self->_call('try', @_); }
sub pipeline { my $self = shift; return $self->_call('pipeline', @_); }

sub get { my $self = shift; return $self->command('GET', @_); }
sub set { my $self = shift; return $self->command('SET', @_); }
sub del { my $self = shift; return $self->command('DEL', @_); }
sub ttl { my $self = shift; return $self->command('PTTL', @_); }
sub dbsize { my $self = shift; return $self->command('DBSIZE'); }
sub flushall { my $self = shift; return $self->command('FLUSHALL'); }

# How many of these keys exist.
sub exists { my $self = shift; return @_ ? $self->command('EXISTS', @_) : 0; }

# ('key' => 'value', ...) as one pipeline.
sub mset
{
	my ($self, @pairs) = @_;
	my @commands;
	push @commands, [ 'SET', splice(@pairs, 0, 2) ] while @pairs;
	$self->pipeline(@commands);
	return;
}

# Keys that match a pattern, sorted; without the extension's own (cache_aside:...) unless asked for.
sub keys
{
	my ($self, $pattern) = @_;
	my ($cursor, %seen) = (0);
	do
	{
		my $reply = $self->command('SCAN', $cursor, 'MATCH', $pattern // '*', 'COUNT', 1000);
		$cursor = $reply->[0];
		$seen{$_} = 1 foreach @{ $reply->[1] };
	} while ($cursor ne '0');
	my @keys = sort keys %seen;
	return @keys if ($pattern // '') =~ /^cache_aside/;
	return grep { !/^cache_aside:/ } @keys;
}

# INFO as a hash, or one field of it.
sub info
{
	my ($self, $field) = @_;
	my %info = map { /^([^#:]+):(.*?)\r?$/ ? ($1, $2) : () }
	  split /\n/, $self->command('INFO', 'everything');
	return defined $field ? $info{$field} : \%info;
}

# 'master', 'slave'; or '' while it does not answer.
sub role
{
	my ($self) = @_;
	return eval { $self->command('ROLE')->[0] } // '';
}

sub config_get { my $self = shift; return $self->command('CONFIG', 'GET', $_[0])->[1]; }
sub config_set { my $self = shift; return $self->command('CONFIG', 'SET', @_); }

=head2 Snapshots and replication

save writes the snapshot now; save_to(path) also copies it; restore_from(path) stops the server,
puts that snapshot in place of its data and starts it again. replicaof(other) waits until the link
is up and the data has arrived; promote ends it.

=cut

sub save
{
	my ($self) = @_;
	$self->command('SAVE');
	return $self;
}

sub save_to
{
	my ($self, $path) = @_;
	$self->save;
	File::Copy::copy($self->rdb, $path) or die "$path: $!";
	return $self;
}

sub restore_from
{
	my ($self, $path) = @_;
	$self->kill9;
	File::Copy::copy($path, $self->rdb) or die "$path: $!";
	return $self->start;
}

sub replicaof
{
	my ($self, $master) = @_;
	die "$master->{name} has no port: replication needs one" unless $master->port;
	$self->command('REPLICAOF', '127.0.0.1', $master->port);
	$self->_until(sub { ($self->info('master_link_status') // '') eq 'up' }, 'link to its master');
	return $self;
}

sub promote
{
	my ($self) = @_;
	$self->command('REPLICAOF', 'NO', 'ONE');
	return $self;
}

sub log_text
{
	my ($self) = @_;
	open my $fh, '<', $self->logfile or return '';
	local $/;
	return scalar <$fh>;
}

=head2 wait_until(sub { ... })

True as soon as the code returns true, false when it did not within the deadline. The longer it takes the less often
it is asked: up to 30 ms apart.

=cut

sub wait_until
{
	my ($self, $condition, $seconds) = @_;
	my $end = Time::HiRes::time() + ($seconds // $deadline);
	my $pause = 0.005;
	until ($condition->())
	{
		return 0 if Time::HiRes::time() > $end;
		select undef, undef, undef, $pause;
		$pause *= 1.1 if $pause < 0.03;
	}
	return 1;
}

sub _until
{
	my ($self, $condition, $what) = @_;
	$self->wait_until($condition) or die "$self->{name}: no $what in $deadline s";
	return;
}

END
{
	my $status = $?;
	foreach my $server (grep { $_->{owner} == $$ } @started)
	{
		$server->kill9;
	}
	$? = $status;
}

1;
