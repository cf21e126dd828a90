
=pod

=head1 NAME

TestNode - a PostgreSQL::Test::Cluster that costs a busy machine less

=head1 DESCRIPTION

The suite starts some two hundred servers and waits thousands of times. Some things are done otherwise:

init copies what one initdb made for the whole run. Such servers have one system identifier, and two servers of a
story are strangers to each other: the first of a program is a copy, every other has an initdb of its own.

init_from_backup copies with cp; or moves, if the backup is not needed again (move => 1).

safe_psql waits, after a rule was attached, until what is cached under it is deleted: tests put keys into Redis next,
as plain clients do.

poll_query_until asks over the wire, with a connection for each attempt as psql has: a psql each time keeps a
processor busy for as long as the test waits. value and text ask once.

=cut

package TestNode;

use strict;
use warnings;

use parent -norequire, 'PostgreSQL::Test::Cluster';

use Digest::MD5 ();
use Fcntl ':flock';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils (); # not command_ok and the like, which would hide the methods of a node
use Test::More ();

use PgWire;
use RedisServer;

my $initialised = 0;

sub init
{
	my ($self, @options) = @_;
	my $run = \&PostgreSQL::Test::Utils::system_or_bail;
	no warnings 'redefine';
	local *PostgreSQL::Test::Utils::system_or_bail = sub {
		my (@command) = @_;
		return $run->(@command)
		  if $command[0] ne 'initdb' || $initialised++ || !$ENV{CA_WORK} || !-d "$ENV{CA_WORK}/tmp";
		_copy(_template($run, @command), $self->data_dir);
		return;
	};
	return $self->SUPER::init(@options);
}

# What initdb makes with these options; made by whoever comes first.
sub _template
{
	my ($run, @command) = @_;
	my ($at) = grep { $command[$_] =~ /^(-D|--pgdata)$/ } 0 .. $#command;
	my $key = Digest::MD5::md5_hex(join "\0", map { $_ == $at + 1 ? '' : $command[$_] } 0 .. $#command);
	my $template = "$ENV{CA_WORK}/tmp/initdb-$key";
	open my $lock, '>', "$template.lock" or die "$template.lock: $!";
	flock $lock, LOCK_EX or die "$template.lock: $!";
	return $template if -e "$template/PG_VERSION";
	$command[ $at + 1 ] = "$template.new";
	system('rm', '-rf', "$template.new") == 0 or die "cannot remove $template.new";
	$run->(@command);
	rename "$template.new", $template or die "$template: $!";
	return $template;
}

sub _copy
{
	my ($from, $to) = @_;
	system('cp', '-a', '-T', $from, $to) == 0 or die "cannot copy $from to $to";
	return;
}

sub _move
{
	my ($from, $to) = @_;
	rename $from, $to or die "cannot move $from to $to: $!";
	return;
}

sub init_from_backup
{
	my ($self, $root, $backup, %options) = @_;
	no warnings 'redefine';
	local *PostgreSQL::Test::RecursiveCopy::copypath = delete $options{move} ? \&_move : \&_copy;
	return $self->SUPER::init_from_backup($root, $backup, %options);
}

# The only value that the query yields, as text; undef for NULL.
sub value
{
	my ($self, $db, $sql) = @_;
	return PgWire->new($self, db => $db)->value($sql);
}

# What it yields, as psql -At prints it.
sub text
{
	my ($self, $db, $sql) = @_;
	return join "\n", map { join '|', map { $_ // '' } @$_ } @{ PgWire->new($self, db => $db)->query($sql)->{rows} };
}

sub safe_psql
{
	my ($self, $db, $sql, @options) = @_;
	my $out = $self->SUPER::safe_psql($db, $sql, @options);
	eval {
		$self->value('postgres',
			"SELECT cache_aside.wait_delivered(NULL, '10 s') FROM cache_aside.status WHERE state = 'delivering'");
	} if $sql =~ /cache_aside\.attach/;
	return $out;
}

sub poll_query_until
{
	my ($self, $db, $sql, $expected) = @_;
	my $last;
	$expected //= 't';
	return 1 if RedisServer->wait_until(sub { ($last = eval { $self->text($db, $sql) } // $@) eq $expected });
	Test::More::diag("waited in vain for $expected of: $sql\nlast: $last");
	return 0;
}

1;
