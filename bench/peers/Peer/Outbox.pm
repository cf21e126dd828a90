# A table as outbox, filled by a trigger, and a poller that deletes keys, then rows. It looks every 5 ms.
package Peer::Outbox;

use strict;
use warnings;
use parent 'Peer';

sub title { return 'outbox and poller'; }

sub set_up
{
	my ($self) = @_;
	$self->sql->query(<<'EOS');
CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL);
CREATE FUNCTION put_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO outbox (key) VALUES ('account:' || NEW.id);
	RETURN NULL;
END $$;
CREATE TRIGGER put_out AFTER UPDATE ON account FOR EACH ROW EXECUTE FUNCTION put_out();
EOS
	return;
}

sub start
{
	my ($self) = @_;
	return $self->run_consumer('outbox_poller', $self->conninfo . ' application_name=consumer', $self->cache->socket, 5);
}

1;
