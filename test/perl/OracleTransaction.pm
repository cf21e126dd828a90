
=pod

=head1 NAME

OracleTransaction - what an Oracle knows of the transaction of one of its sessions

=head1 SYNOPSIS

  my $t = OracleTransaction->new(\%prepared);    # of all sessions, by name: { locks, count }
  my $may_have_committed = $t->note($op);        # { sql, error, in }: a statement that has ended
  $t->{in}; $t->{locks}; $t->{changes}; $t->count;

=cut

package OracleTransaction;

use strict;
use warnings;

sub new
{
	my ($class, $prepared) = @_;
	return bless { prepared => $prepared, in => 'I', locks => 0, levels => [ _level('') ] }, $class;
}

# Of the open transaction, then from each savepoint on: how many statements had no error.
sub _level { my ($name) = @_; return { name => $name, count => 0 }; }

sub count
{
	my ($self) = @_;
	my $count = 0;
	$count += $_->{count} foreach @{ $self->{levels} };
	return $count;
}

my $plain = qr/\A(INSERT|UPDATE|DELETE|MERGE|COPY|WITH|SELECT \*|SELECT 1|SAVEPOINT|RELEASE|ROLLBACK TO|BEGIN|SET|PREPARE q)/;

sub is_plain { return $_[0] =~ $plain && $_[0] !~ /TRUNCATE|ALTER /; }

sub note
{
	my ($self, $op) = @_;
	my $ends = $op->{sql} =~ /\A(COMMIT|ROLLBACK|PREPARE TRANSACTION)/;
	$self->{locks} = 1 unless $ends || is_plain($op->{sql});
	$self->{changes} = $self->{locks} || $op->{sql} =~ /PREPARED/;    # of the catalog, maybe
	my $was = $self->{in};
	$self->{in} = $op->{in};
	my $effect = $op->{error} ? $op->{sql} =~ /CONCURRENTLY|VACUUM|\bCOMMIT;/ : $self->_has_effect($op->{sql}, $was);
	$self->_end if $self->{in} eq 'I';
	return $effect;
}

sub _end
{
	my ($self) = @_;
	@$self{qw(locks levels)} = (0, [ _level('') ]);
	return;
}

sub _has_effect
{
	my ($self, $sql, $was) = @_;
	if ($sql =~ /\A(COMMIT|ROLLBACK) PREPARED '(.*)'/)
	{
		my $prepared = delete $self->{prepared}{$2};
		return $prepared && $prepared->{count} && $1 eq 'COMMIT';
	}
	return $self->_inside($sql) if $self->{in} ne 'I';
	return 1 if $was eq 'I';
	return 0 if $was ne 'T' || $sql =~ /\AROLLBACK/;
	return $self->count if $sql !~ /\APREPARE TRANSACTION '(.*)'/;
	$self->{prepared}{$1} = { locks => $self->{locks}, count => $self->count };
	return 0;
}

sub _inside
{
	my ($self, $sql) = @_;
	my $levels = $self->{levels};
	if ($sql =~ /\ASAVEPOINT (.*)/) { push @$levels, _level($1); }
	elsif ($sql =~ /\AROLLBACK TO (.*)/)
	{
		pop @$levels while $levels->[-1]{name} ne $1;
		$levels->[-1]{count} = 0;
	}
	elsif ($sql =~ /\ARELEASE (.*)/)
	{
		my $count = 0;
		do { $count += $levels->[-1]{count}; } while ((pop @$levels)->{name} ne $1);
		$levels->[-1]{count} += $count;
	}
	elsif ($sql !~ /\ABEGIN|\ASELECT 1/) { $levels->[-1]{count}++; }
	return 0;
}

1;
