# NOTIFY in a trigger, and a listener that deletes.
package Peer::Notify;

use strict;
use warnings;
use parent 'Peer';

sub title { return 'NOTIFY and listener'; }

sub set_up
{
	my ($self) = @_;
	$self->sql->query(<<'EOS');
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('invalidate', 'account:' || NEW.id);
	RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER UPDATE ON account FOR EACH ROW EXECUTE FUNCTION tell();
EOS
	return;
}

sub start
{
	my ($self) = @_;
	return $self->run_consumer('notify_listener', $self->conninfo . ' application_name=consumer', $self->cache->socket);
}

1;
