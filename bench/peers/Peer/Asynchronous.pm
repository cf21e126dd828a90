# cache_aside as it comes: a rule on the table; the worker reads the log and deletes behind the commit.
package Peer::Asynchronous;

use strict;
use warnings;
use parent 'Peer';

sub title { return 'cache_aside'; }
sub deleter { return 'the worker'; }

sub conf
{
	my ($self) = @_;
	return "shared_preload_libraries = 'cache_aside'\ncache_aside.redis_url = '" . $self->cache->url . "'\n";
}

sub set_up
{
	my ($self) = @_;
	my $sql = $self->sql;
	$sql->query('CREATE EXTENSION cache_aside');
	$sql->query(q{SELECT cache_aside.attach('account', 'account:{id}')});
	$self->cache->wait_until(sub { $self->caught_up }) or die "cache_aside does not deliver\n" if $self->deletes;
	return;
}

sub serving_pids { return $_[0]->pg->worker_pid // (); }

# To kill it is to kill any process of PostgreSQL: the server restarts itself.
sub kill_deleter
{
	my ($self) = @_;
	kill 'KILL', $self->pg->worker_pid;
	return;
}

sub supervise { return; }

# Until a resync has ended, too.
sub caught_up
{
	my ($self) = @_;
	my $sql = $self->sql;
	return $sql->value(q{SELECT cache_aside.wait_delivered(NULL, '30 s')}) eq 't'
	  && $sql->value('SELECT state FROM cache_aside.status') eq 'delivering';
}

1;
