
=pod

=head1 NAME

OraclePublisher - tables of an Oracle that another server replicates to its own, logically

=head1 SYNOPSIS

  my $publisher = OraclePublisher->new($reader);
  $publisher->run('INSERT INTO rep.r ...');    # in the other server
  $publisher->wait;                            # applied here
  $publisher->reset;                           # empty again, without rules

=head1 DESCRIPTION

rep.r and rep.s; the second is partitioned here and a plain table there. Here they have no key, so that no
local write makes the apply worker fail, there the whole row is the replica identity.

=cut

package OraclePublisher;

use strict;
use warnings;

use OracleSession;
use PgServer;

my @here = (
	'CREATE SCHEMA rep', 'GRANT USAGE ON SCHEMA rep TO oracle_writer', 'CREATE TABLE rep.r (id int, a int, b text)',
	'CREATE TABLE rep.s (id int, a int, b text) PARTITION BY LIST (a)', 'CREATE TABLE rep.s1 PARTITION OF rep.s FOR VALUES IN (1, 2)',
	'CREATE TABLE rep.s2 (b text, gone int, a int, id int) PARTITION BY RANGE (id)', 'ALTER TABLE rep.s2 DROP COLUMN gone',
	'ALTER TABLE rep.s ATTACH PARTITION rep.s2 DEFAULT', 'CREATE TABLE rep.s21 PARTITION OF rep.s2 FOR VALUES FROM (0) TO (4)',
	'CREATE TABLE rep.s22 PARTITION OF rep.s2 DEFAULT', 'GRANT ALL ON ALL TABLES IN SCHEMA rep TO oracle_writer');
my @there = (
	'CREATE SCHEMA rep', 'CREATE TABLE rep.r (id int, a int, b text)', 'CREATE TABLE rep.s (id int, a int, b text)',
	'ALTER TABLE rep.r REPLICA IDENTITY FULL', 'ALTER TABLE rep.s REPLICA IDENTITY FULL', 'CREATE PUBLICATION p FOR ALL TABLES',
	q{SELECT pg_create_logical_replication_slot('sub', 'pgoutput')}, 'SET synchronous_commit = on');

# A server of its own: what sends changes decodes the whole log of its server.
sub new
{
	my ($class, $reader) = @_;
	my $pg = PgServer->new(conf => "shared_preload_libraries = ''\nwal_level = logical\nfsync = off\nautovacuum = off\nshared_buffers = 4MB\n"
		  . "max_wal_size = 64MB\ncheckpoint_timeout = 1h\n")->start;
	my $self = bless { pg => $pg, reader => $reader, there => OracleSession->connect($pg) }, $class;
	$self->{there}->rows($_) foreach @there;
	$reader->rows($_) foreach @here,
	  "CREATE SUBSCRIPTION sub CONNECTION 'host=$pg->{dir} port=$pg->{port} user=postgres dbname=postgres' PUBLICATION p "
	  . "WITH (create_slot = false, slot_name = 'sub', copy_data = false)";
	return $self;
}

sub run
{
	my ($self, $sql) = @_;
	my ($result, $lsn) = $self->{there}->run($sql, 'SELECT pg_current_wal_flush_lsn()');
	$self->{lsn} = $lsn->{rows}[0][0] // die "$lsn->{error}\n";
	return $result;
}

# Nobody may hold locks that the apply worker needs.
sub wait
{
	my ($self) = @_;
	my $lsn = delete $self->{lsn} // return;
	my $applied = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'sub' AND replay_lsn >= '$lsn'";
	foreach my $n (1 .. 30_000)
	{
		return if ($self->{there}->rows($applied))[0][0];
		select undef, undef, undef, $n < 20 ? 0.001 : 0.01;
	}
	die "not applied\n";
}

sub reset
{
	my ($self) = @_;
	$self->run('TRUNCATE rep.r, rep.s');
	$self->wait;
	$self->{reader}->run('TRUNCATE rep.r, rep.s');
	my @rules = $self->{reader}->rows(q{SELECT DISTINCT relation::text FROM cache_aside.rules WHERE relation::text LIKE 'rep.%'});
	$self->{reader}->run(map { "SELECT cache_aside.detach('$_->[0]')" } @rules);
	return;
}

1;
