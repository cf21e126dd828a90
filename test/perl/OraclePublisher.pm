
=pod

=head1 NAME

OraclePublisher - tables of an Oracle that another database of the server replicates to it, logically

=head1 SYNOPSIS

  my $publisher = OraclePublisher->new($pg, $reader);
  $publisher->run('INSERT INTO rep.r ...');    # in the other database
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

sub new
{
	my ($class, $pg, $reader) = @_;
	$reader->rows($_) foreach 'CREATE DATABASE pub', @here;
	my $self = bless { reader => $reader, there => OracleSession->connect($pg, database => 'pub') }, $class;
	$self->{there}->rows($_) foreach @there;
	$reader->rows("CREATE SUBSCRIPTION sub CONNECTION 'host=$pg->{dir} port=$pg->{port} user=postgres dbname=pub' PUBLICATION p "
		  . "WITH (create_slot = false, slot_name = 'sub', copy_data = false)");
	return $self;
}

sub run
{
	my ($self, $sql) = @_;
	my ($result) = $self->{there}->run($sql);
	($self->{lsn}) = map { $_->[0] } $self->{there}->rows('SELECT pg_current_wal_flush_lsn()');
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
		return if ($self->{reader}->rows($applied))[0][0];
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
