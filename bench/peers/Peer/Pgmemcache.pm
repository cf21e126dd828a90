# pgmemcache: a trigger tells memcached, from inside the transaction and before its commit.
package Peer::Pgmemcache;

use strict;
use warnings;
use parent 'Peer';

use Memcached;

sub title { return 'pgmemcache trigger'; }
sub deleter { return 'a backend'; }
sub make_cache { return Memcached->new->start; }
sub cache_url { return 'memcached:' . $_[0]->cache->socket; }

sub why_not
{
	chomp(my $lib = `$ENV{PG_CONFIG} --pkglibdir`);
	return 'pgmemcache is not installed' unless -e "$lib/pgmemcache.so";
	return Memcached::binary() ? () : 'memcached is not installed';
}

sub conf
{
	my ($self) = @_;
	return "shared_preload_libraries = 'pgmemcache'\npgmemcache.default_servers = '" . $self->cache->socket . "'\n";
}

sub set_up
{
	my ($self) = @_;
	$self->sql->query(<<'EOS');
CREATE EXTENSION pgmemcache;
CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM memcache_delete('account:' || NEW.id);
	RETURN NULL;
END $$;
CREATE TRIGGER forget AFTER UPDATE ON account FOR EACH ROW EXECUTE FUNCTION forget();
EOS
	return;
}

# What deletes is whoever commits.
sub kill_deleter
{
	my ($self) = @_;
	kill 'KILL', $self->sql->value(
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1});
	return;
}

sub supervise { return; }
sub serving_pids { return; }

1;
