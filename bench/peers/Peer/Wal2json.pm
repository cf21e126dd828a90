# Logical decoding: a slot with wal2json, pg_recvlogical, and a consumer behind its pipe.
package Peer::Wal2json;

use strict;
use warnings;
use parent 'Peer';

sub title { return 'wal2json and consumer'; }
sub conf { return "wal_level = logical\n"; }

sub why_not
{
	chomp(my $lib = `$ENV{PG_CONFIG} --pkglibdir`);
	return -e "$lib/wal2json.so" ? () : 'wal2json is not installed';
}

sub set_up
{
	my ($self) = @_;
	my $sql = $self->sql;
	# newer minor releases want to be told
	if ($sql->value(q{SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'}))
	{
		$self->pg->configure("output_plugin_libraries = 'wal2json'\n");
		$self->cache->wait_until(sub { $self->sql->value('SHOW output_plugin_libraries') eq 'wal2json' });
	}
	$self->sql->query(q{SELECT pg_create_logical_replication_slot('consumer', 'wal2json')});
	return;
}

sub start
{
	my ($self) = @_;
	my @options = map { ('-o', $_) } 'format-version=2', 'include-transaction=0', 'include-types=0', 'add-tables=public.account', 'actions=update';
	$self->run_pipeline(
		[ 'pg_recvlogical', '-d', $self->conninfo, '--slot', 'consumer', '--start', '--no-loop', '-f', '-', @options ],
		[ "$Peer::bin/wal2json_consumer", $self->cache->socket ]);
	return $self->cache->wait_until(sub { $self->_active eq 't' }, 5);
}

# pg_recvlogical tells only every ten seconds how far it came: without this the next turn would begin with what this one
# had deleted.
sub stop
{
	my ($self) = @_;
	$self->SUPER::stop;
	$self->cache->wait_until(sub { $self->_active eq 'f' }, 10) or die "the slot stays active\n";
	$self->sql->query(q{SELECT pg_replication_slot_advance('consumer', pg_current_wal_flush_lsn())});
	return;
}

sub _active { return $_[0]->sql->value(q{SELECT active FROM pg_replication_slots WHERE slot_name = 'consumer'}); }

# The one that deletes; what feeds it ends by itself.
sub kill_deleter
{
	my ($self) = @_;
	kill 'KILL', $self->{consumers}[-1];
	return;
}

1;
