
=pod

=head1 NAME

SoakCluster - a primary, its standby and their Redis, at addresses that stay when they change places

=head1 SYNOPSIS

  my $cluster = SoakCluster->new(conf => "...");
  my $client = $cluster->connect('primary');    # or 'standby'; also in forked processes
  my $cache = $cluster->cache;                  # RedisClient
  $cluster->primary; $cluster->standby; $cluster->redis;    # PgServer, PgServer, RedisServer
  $cluster->swap; $cluster->redis_is_at($path);

=head1 DESCRIPTION

An address is a symbolic link in a directory of this object: to the directory of a server's socket, or
to the socket of Redis. A connection stays where it was made; who lost one finds the new server. With
standby => 0 the primary is at the standby's address, too.

=cut

package SoakCluster;

use strict;
use warnings;

use File::Temp ();

use PgClient;
use PgServer;
use RedisClient;
use RedisServer;

my $patience = 60;    # seconds

sub new
{
	my ($class, %args) = @_;
	my $self = bless { dir => File::Temp::tempdir('ca-soak-XXXXXX', TMPDIR => 1, CLEANUP => 1) }, $class;
	$self->{$_} = RedisServer->new(port => 1, name => $_) foreach qw(redis spare_redis);
	$self->redis_is_at($self->redis->start->socket);
	my $url = "cache_aside.redis_url = 'unix://$self->{dir}/redis'\n";
	$self->{primary} = PgServer->new(conf => $url . $args{conf})->start;
	$self->{standby} = PgServer->new_standby($self->{primary})->start if $args{standby} // 1;
	$self->_publish;
	return $self;
}

sub stop
{
	my ($self) = @_;
	$_->stop foreach $self->_servers;
	$_->kill9 foreach @$self{qw(redis spare_redis)};
	return;
}

sub _servers { return grep { defined } @{ $_[0] }{qw(primary standby)}; }
sub dir { return $_[0]{dir}; }
sub primary { return $_[0]{primary}; }
sub standby { return $_[0]{standby}; }
sub redis { return $_[0]{redis}; }

# The worker is at the Redis that the others are at.
sub wait_followed { return; }

# What was filled: Redis may go back to it.
sub keep
{
	my ($self, $redis, $snapshot) = @_;
	return $redis->save_to($snapshot);
}

sub _link
{
	my ($self, $name, $to) = @_;
	symlink $to, "$self->{dir}/$name.new" or die $!;
	rename "$self->{dir}/$name.new", "$self->{dir}/$name" or die $!;
	return;
}

sub _publish
{
	my ($self) = @_;
	$self->_link(primary => $self->{primary}->dir);
	$self->_link(standby => ($self->{standby} // $self->{primary})->dir);
	return;
}

# The standby was promoted; what was the primary is made a standby by whoever calls this.
sub swap
{
	my ($self) = @_;
	@$self{qw(primary standby)} = @$self{qw(standby primary)};
	$self->_publish;
	return;
}

sub redis_is_at
{
	my ($self, $socket) = @_;
	return $self->_link('redis', $socket);
}

# The other Redis takes over, by its own means.
sub swap_redis
{
	my ($self) = @_;
	@$self{qw(redis spare_redis)} = @$self{qw(spare_redis redis)};
	return $self->redis_is_at($self->redis->socket);
}

sub connect
{
	my ($self, $role) = @_;
	return PgClient->new(dir => "$self->{dir}/$role", port => 5432);
}

sub cache
{
	my ($self) = @_;
	return RedisClient->new(socket => "$self->{dir}/redis");
}

# On a connection of its own, made when the server is back from whatever happened to it.
sub sql
{
	my ($self, $sql, $role) = @_;
	my @rows;
	my $answered = RedisServer->wait_until(
		sub {
			return 1 if eval { @rows = $self->connect($role // 'primary')->query($sql); 1 };
			die $@ if $@ =~ /^ERROR/ && $@ !~ /conflict with recovery/;
			return 0;
		},
		$patience);
	die "no answer from PostgreSQL: $@" unless $answered;
	return @rows;
}

sub wait_until_true
{
	my ($self, $sql, $role) = @_;
	my $is_true = sub { return ($self->sql("SELECT coalesce(($sql), false)", $role))[0][0] eq 't'; };
	RedisServer->wait_until($is_true, $patience) or die "not within $patience s: $sql\n";
	return;
}

# Ends a server; returns when none of its processes is left, as a postmaster killed leaves some.
sub end
{
	my ($self, $role, $signal) = @_;
	my @pids = map { $_->[0] } $self->sql('SELECT pid FROM pg_stat_activity', $role);
	$self->{$role}->stop($signal);
	RedisServer->wait_until(sub { !grep { kill 0, $_ } @pids }, $patience) or die 'old processes are left';
	return;
}

sub worker_pid
{
	my ($self, $role) = @_;
	my $pid;
	RedisServer->wait_until(
		sub {
			my @rows = $self->sql(
				q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'cache_aside worker'}, $role);
			return $pid = @rows && $rows[0][0];
		},
		$patience) or die 'no worker';
	return $pid;
}

# ---- what the servers logged since mark_logs ----

sub mark_logs
{
	my ($self) = @_;
	$self->{mark}{ $_->logfile } = -s $_->logfile foreach $self->_servers;
	return;
}

sub logged
{
	my ($self, $pattern) = @_;
	my @lines;
	foreach my $server ($self->_servers)
	{
		open my $fh, '<', $server->logfile or die $!;
		seek $fh, $self->{mark}{ $server->logfile } // 0, 0;
		push @lines, grep { $_ =~ $pattern } <$fh>;
	}
	return @lines;
}

1;
