
=pod

=head1 NAME

Sentinel - a master, its replicas, and Sentinels that watch them, for a test

=head1 SYNOPSIS

  my $set = Sentinel->new->start;             # three Sentinels, a master and two replicas
  $set->url;                                  # for cache_aside.redis_url
  my $old = $set->master;                     # RedisServer, as most Sentinels see it
  $old->kill9; $set->wait_for_another($old);  # until most name another one, which is returned
  $set->hand_over;                            # SENTINEL FAILOVER
  $_->kill9 foreach $set->sentinels;

=head1 DESCRIPTION

Real servers on free ports of the loopback interface, each in a directory of its own. A master that does not
answer is replaced by wait_for_another, within some two seconds, and otherwise not for a minute, however slow the
machine is (down_after, in ms, for both: all the time). An old master that is back is made a replica about ten
seconds later, as Sentinels do, or with period => ms, which shortens how often they look and tell, after some
four of these. Options: sentinels, replicas, name, down_after, period, quorum, conf (lines for the Sentinels),
redis_conf (for the others), auth (what the Sentinels want), host (by what name or address of the loopback interface all know them; 127.0.0.1), tls (Certificates with
one called "server": nothing but TLS is spoken, except to the test).

=cut

package Sentinel;

use strict;
use warnings;

use RedisServer;
use SentinelServer;

sub new
{
	my ($class, %args) = @_;
	my $self = bless {
		sentinels => 3, replicas => 2, name => 'cache', period => 0, host => '127.0.0.1',
		conf => '', redis_conf => '', %args
	}, $class;
	$self->{quorum} //= 1 + int($self->{sentinels} / 2);
	$self->{redis} = [
		map { $self->_dress(RedisServer->new(port => 1, name => "redis$_", conf => $self->{redis_conf} . "repl-diskless-sync yes\n")) }
		  0 .. $self->{replicas} ];
	return $self;
}

# Another name or address than 127.0.0.1; TLS, and nothing beside it.
sub _dress
{
	my ($self, $server) = @_;
	my ($pki, $host) = @$self{qw(tls host)};
	my $is_name = $host =~ /[g-z]/;
	$server->append_conf('bind 127.0.0.1 ' . ($is_name ? '-::1' : $host) . "\n") if $host ne '127.0.0.1';
	$server->append_conf(
		ref $server eq 'RedisServer' ? "replica-announce-ip $host\n"
		: $is_name ? "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
		: '');
	$server->append_conf("port 0\ntls-port @{[ $server->port ]}\ntls-replication yes\ntls-auth-clients no\n"
		  . "tls-cert-file $pki->{dir}/server.crt\ntls-key-file $pki->{dir}/server.key\ntls-ca-cert-file $pki->{dir}/ca.crt\n") if $pki;
	return $server;
}

sub start
{
	my ($self) = @_;
	my ($master, @replicas) = @{ $self->{redis} };
	$_->start foreach $master, @replicas;
	$_->command('REPLICAOF', $self->{host}, $master->port) foreach @replicas;
	$self->{watch} = [ map { $self->_sentinel($_, $master) } 1 .. $self->{sentinels} ];
	$_->start foreach $self->sentinels;
	$self->_hasten($_) foreach $self->sentinels;
	$self->wait_settled;
	return $self;
}

sub _sentinel
{
	my ($self, $number, $master) = @_;
	my ($name, $port) = ($self->{name}, $master->port);
	my $down_after = $self->{down_after} // 60_000;
	my $password = $self->{auth} ? "requirepass $self->{auth}[-1]\nsentinel sentinel-pass $self->{auth}[-1]\n" : '';
	return $self->_dress(SentinelServer->new(port => 1, name => "sentinel$number", auth => $self->{auth}, conf => <<"EOC"));
sentinel monitor $name $self->{host} $port $self->{quorum}
sentinel down-after-milliseconds $name $down_after
sentinel failover-timeout $name 3000
sentinel parallel-syncs $name 2
$password$self->{conf}
EOC
}

# Forgotten when it is started again.
sub _hasten
{
	my ($self, $sentinel) = @_;
	my $ms = $self->{period} or return;
	$sentinel->command('SENTINEL', 'DEBUG', 'PUBLISH-PERIOD', $ms, 'INFO-PERIOD', $ms);
	return;
}

=head2 What there is

sentinels; servers, all that store; master; replicas; name; url(user_info => ':secret', db => 3), where
at => ['127.0.0.1:5000', ...] lists these, FakeRedis perhaps, in place of the Sentinels.

=cut

sub name { return $_[0]{name}; }
sub sentinels { return @{ $_[0]{watch} }; }
sub servers { return @{ $_[0]{redis} }; }

sub url
{
	my ($self, %args) = @_;
	my $user = defined $args{user_info} ? "$args{user_info}\@" : '';
	my @listed = $args{at} ? @{ $args{at} } : map { $self->{host} =~ s/(.*:.*)/[$1]/r . ':' . $_->port } $self->sentinels;
	return ($self->{tls} ? 'rediss' : 'redis') . "+sentinel://$user" . join(',', @listed) . '/' . ($args{name} // $self->{name})
	  . ($args{db} ? "/$args{db}" : '');
}

# The one that most Sentinels name, or undef.
sub master
{
	my ($self) = @_;
	my %votes;
	$votes{ $_->master_port($self->{name}) }++ foreach grep { $_->is_running && !$_->{frozen} } $self->sentinels;
	my ($named) = grep { 2 * $votes{$_} > $self->{sentinels} } keys %votes;
	my ($master) = grep { $named && $_->port == $named } $self->servers;
	return $master;
}

sub replicas
{
	my ($self) = @_;
	my $master = $self->master;
	return grep { !$master || $_ != $master } $self->servers;
}

=head2 What happens

wait_settled: each Sentinel knows all others and all replicas, which follow the master. wait_for_another(old):
most name another, which says that it is the master. hand_over: a fail-over without a fault; returns the new master.

=cut

sub wait_settled
{
	my ($self) = @_;
	my ($others, $replicas) = ($self->{sentinels} - 1, $self->{replicas});
	my $is_settled = sub {
		foreach my $sentinel ($self->sentinels)
		{
			my %known = $sentinel->knows($self->{name});
			return 0 if ($known{'num-other-sentinels'} // -1) != $others
			  || $known{'num-slaves'} < $replicas || $known{flags} ne 'master';
		}
		my $master = $self->master or return 0;
		return $master->info('connected_slaves') >= $replicas
		  && !grep { ($_->info('master_link_status') // '') ne 'up' } $self->replicas;
	};
	RedisServer->wait_until(sub { eval { $is_settled->() } }) or die 'the Sentinels do not settle';
	return;
}

sub _watch_for
{
	my ($self, $ms) = @_;
	return if $self->{down_after};
	eval { $_->command('SENTINEL', 'SET', $self->{name}, 'down-after-milliseconds', $ms) }
	  foreach grep { $_->is_running && !$_->{frozen} } $self->sentinels;
	return;
}

sub wait_for_another
{
	my ($self, $old) = @_;
	my $new;
	my $is_named = sub { $new = $self->master; return $new && $new != $old; };
	$self->_watch_for(500);
	my $named = RedisServer->wait_until($is_named);
	$self->_watch_for(60_000); # at once, or a slow machine sees the next one replaced, too
	RedisServer->wait_until(sub { $is_named->() && (eval { $new->role } // '') eq 'master' }) && $named
	  or die 'no other master is named';
	return $new;
}

# Asked again each second: it may be given up (no replica good enough just now).
sub hand_over
{
	my ($self, %args) = @_;
	my $old = $self->master or die 'there is no master';
	my $sentinel = ($self->sentinels)[ $args{by} // 0 ];
	my ($new, $asked) = (undef, 0);
	RedisServer->wait_until(
		sub {
			$sentinel->try('SENTINEL', 'FAILOVER', $self->{name}), $asked = time if time > $asked + 1;
			$new = $self->master;
			return $new && $new != $old && (eval { $new->role } // '') eq 'master';
		}) or die 'no other master is named';
	return $new;
}

sub stop
{
	my ($self) = @_;
	$_->kill9 foreach $self->sentinels, $self->servers;
	return;
}

1;
