
=pod

=head1 NAME

KeyDdl - what the stories of write/key_ddl share: rows whose keys are worked out, and DDL that changes what they are called

=head1 SYNOPSIS

  my $ddl = KeyDdl->new($node, $redis);     # called: a query rule that calls tag(); felt: a label; shaped: a row type
  $session->query("BEGIN; $ddl->{write}");
  $ddl->replace;                            # all three, and the worker has deleted the patterns
  $ddl->cache;                              # what a reader caches now, who sees only the old rows
  $session->query('COMMIT');
  $ddl->is_gone('open');

=cut

package KeyDdl;

use strict;
use warnings;

use CacheAside;
use Test::More ();

sub new
{
	my ($class, $node, $redis) = @_;
	$node->safe_psql('postgres', q{
		CREATE TYPE mood AS ENUM ('sad', 'ok');
		CREATE TYPE pair AS (a int, b int);
		CREATE TABLE called (id int PRIMARY KEY, v int DEFAULT 0);
		CREATE TABLE felt (id int, m mood, v int DEFAULT 0);
		CREATE TABLE shaped (id int PRIMARY KEY, p pair, v int DEFAULT 0);
		INSERT INTO called VALUES (1); INSERT INTO felt VALUES (1, 'sad'); INSERT INTO shaped VALUES (1, ROW(1, 2));
		CREATE FUNCTION tag(int) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'f:0:' || $1;
		CREATE FUNCTION holds() RETURNS bool LANGUAGE sql
			RETURN CASE WHEN current_setting('test.hold', true) = 'on' THEN pg_advisory_lock(7)::text IS NOT NULL ELSE true END;
		SELECT cache_aside.attach_query('called', 'SELECT public.tag(id) FROM changed WHERE public.holds()', 'f:*');
		SELECT cache_aside.attach('felt', 'm:{m}:{id}');
		SELECT cache_aside.attach('shaped', 's:{p}')});
	return bless {
		node => $node, redis => $redis, version => 0, label => 'sad', shape => '1,2',
		write => 'UPDATE called SET v = v + 1; UPDATE felt SET v = v + 1; UPDATE shaped SET v = v + 1'
	}, $class;
}

# What sql() says was not done.
sub undo
{
	my ($self) = @_;
	$self->{label} = $self->{label_before};
	chop $self->{shape};
	return;
}

# The three in one transaction, not ended. With `null` the function gives no key at all.
sub sql
{
	my ($self, $null) = @_;
	my $old = $self->{label_before} = $self->{label};
	my $n = ++$self->{version};
	$self->{label} = "sad$n";
	$self->{shape} .= ',';
	my $returns = $null ? 'NULL::text' : "'f:$n:' || \$1";
	return "BEGIN; ALTER TYPE mood RENAME VALUE '$old' TO '$self->{label}'; ALTER TYPE pair ADD ATTRIBUTE c$n int;"
	  . " CREATE OR REPLACE FUNCTION tag(int) RETURNS text LANGUAGE sql IMMUTABLE RETURN $returns";
}

sub replace
{
	my ($self, @null) = @_;
	$self->{node}->safe_psql('postgres', $self->sql(@null) . '; COMMIT');
	wait_delivered($self->{node});
	return;
}

sub _keys
{
	my ($self) = @_;
	return (function => "f:$self->{version}:1", label => "m:$self->{label}:1", 'row type' => "s:($self->{shape})");
}

sub cache
{
	my ($self) = @_;
	my %keys = $self->_keys;
	$self->{redis}->set($_, 'old row') foreach values %keys;
	return;
}

sub is_gone
{
	my ($self, $story, @which) = @_;
	my %keys = $self->_keys;
	Test::More::ok(keys_gone($self->{redis}, $keys{$_}), "$story: key of the new $_") foreach @which ? @which : sort keys %keys;
	return;
}

1;
