# No help from the database: each client sends DEL when its COMMIT has returned.
package Peer::Application;

use strict;
use warnings;
use parent 'Peer';

sub title { return 'DEL after COMMIT'; }
sub deleter { return 'the application'; }
sub application_options { return '-D ' . $_[0]->cache->socket; }
sub prober_options { return '-D'; }

sub kill_deleter
{
	my ($self) = @_;
	kill 'KILL', $self->{application};
	return;
}

sub supervise { return; }
sub serving_pids { return; }

1;
