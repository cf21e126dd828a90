
=pod

=head1 NAME

OracleLook - the half of Oracle that looks: what is cached, what it should be, and what gaps says

=cut

package OracleLook;

use strict;
use warnings;

use OracleRules 'keys_of';

# Gaps that excuse a key that stands. With any other the rule deletes more, not less.
my $excuse = join '|', '^trigger \S+ is disabled', 'fires for replicated changes only', 'does not fire for replicated',
  'inherits from .* whose rule', 'no trigger fires on', 'which kept the rule', 'name of one that was dropped', 'above fire no statement',
  'logical replication fires no';
my $excuse_direct = 'writes that name a partition';
my $excuse_replica = 'every write but replicated ones';

# Keys of a class, without and with each prefix.
sub _keys
{
	my ($self, $class) = @_;
	return @{ $class->{all_keys} //= [ map { my $prefix = $_; map { [ $_, "$prefix$_" ] } keys_of($class) } @{ $self->{prefixes} } ] };
}

sub _forget
{
	my ($self, $class) = @_;
	my @keys = keys %{ $class->{cached} };
	$self->{cache}->command('DEL', @keys) if @keys;
	$class->{cached} = {};
	$self->{fills}->leave($class->{name}) if $self->{fills};
	return;
}

# Rules that gaps names now are not looked at, and what is cached under them is forgotten.
sub _see_gaps
{
	my ($self, @rows) = @_;
	my (%gap, %rule);
	foreach my $row (@rows)
	{
		if ($row->[0] eq 'rule') { $rule{ $row->[1] } = 1; }
		elsif ($row->[2] =~ /$excuse/ || ($self->{direct} && $row->[2] =~ /$excuse_direct/)
			|| ($self->{replica} && $row->[2] =~ /$excuse_replica/)) { $gap{ $row->[1] } = 1; }
	}
	foreach my $class (grep { !$_->{retired} } @{ $self->{classes} })
	{
		$class->{born} ||= !grep { !$rule{$_} } @{ $class->{rules} };
		$class->{gap} = grep { $gap{$_} } @{ $class->{rules} };
		$self->_forget($class) if $class->{gap};
	}
	return;
}

# gaps after a statement, as its own transaction sees it.
sub sample
{
	my ($self) = @_;
	my $result;
	if ($self->can_look) { ($result) = $self->{reader}->run('EXECUTE state'); }
	elsif ($self->{writer}{in} eq 'T')
	{
		(undef, $result) = $self->{writer}->run('SAVEPOINT oracle_sample', 'EXECUTE state');
		$self->{writer}->run('ROLLBACK TO oracle_sample', 'RELEASE oracle_sample');
	}
	$self->_see_gaps(@{ $result->{rows} }) if $result && !$result->{error};
	return;
}

# As a driver that prepares what it sends again. Of a table that is away nothing can be prepared.
sub _read
{
	my ($class) = @_;
	return ($class->{prepared} ? () : "PREPARE $class->{name} AS $class->{query}", "EXECUTE $class->{name}");
}

sub _has_read
{
	my ($self, $class, $results) = @_;
	$class->{prepared} ||= !(shift @$results)->{error};
	my $values = shift @$results;
	($values) = $self->{reader}->run($class->{query}) if ($values->{error} // '') =~ /cached plan/;
	return $values;
}

# Compares and caches; returns what is wrong, or undef. It asks gaps only if there is a difference, or a rule
# that has not been seen yet, and at every fourth look: to ask costs more than to look. Keys of a rule that gaps
# did name meanwhile are compared all the same, and the replay tells.
sub look
{
	my ($self) = @_;
	push @{ $self->{done} }, { look => 1 };
	return undef unless $self->can_look;
	$self->{publisher}->wait if $self->{published};
	my @classes = grep { !$_->{retired} } @{ $self->{classes} };
	my $ask = $self->{changed} && ($self->{asks} || ++$self->{looks} % 4 == 0 || grep { !$_->{born} } @classes);
	my ($delivered, $state, @read) = $self->{reader}->run('SELECT cache_aside.wait_delivered()',
		$ask ? 'EXECUTE state' : 'SELECT', map { _read($_) } @classes);
	die "not delivered\n" unless ($delivered->{rows}[0][0] // '') eq 't';
	if ($self->{changed}) { $_->{gap} = 0 foreach @classes; }
	my $failed = $ask && $self->_has_asked($state);
	return $failed if $failed;
	my @able;
	foreach my $class (@classes)
	{
		my $values = $self->_has_read($class, \@read);
		next if $class->{gap} || !$class->{born} || $values->{error};
		my %now = map { ($_->[0] => $_->[1]) } @{ $values->{rows} };
		push @able, [ $class, @$_, $now{ $_->[0] } // 'absent' ] foreach $self->_keys($class);
	}
	return @able ? $self->_compare(@able) : undef;
}

sub _has_asked
{
	my ($self, $state) = @_;
	return { what => "gaps fails: $state->{error}", class => '', at => scalar @{ $self->{done} } } if $state->{error};
	$self->_see_gaps(@{ $state->{rows} });
	$self->{changed} = 0;
	return undef;
}

sub _compare
{
	my ($self, @able) = @_;
	my $cached = $self->{cache}->command('MGET', map { $_->[2] } @able);
	push @{ $able[$_] }, $cached->[$_] foreach 0 .. $#able;
	my $wrong = $self->_first_wrong(@able);
	if ($wrong && $self->{changed})
	{
		my $failed = $self->_has_asked($self->{reader}->run('EXECUTE state'));
		return $failed if $failed;
		@able = grep { !$_->[0]{gap} } @able;
		$wrong = $self->_first_wrong(@able);
	}
	my @new = grep { !defined $_->[4] } @able;
	$self->{count}{compared} += @able - @new;
	$self->{count}{cached} += @new;
	$_->[0]{cached}{ $_->[2] } = 1 foreach @new;
	$self->{cache}->command('MSET', map { @$_[ 2, 3 ] } @new) if @new;
	$self->{effect} = 0;
	return undef unless $wrong;
	my ($class, $key, undef, $now, $was) = @$wrong;
	return { what => defined $was ? 'stale' : 'deleted, though nothing was committed', class => $class, key => $key, cached => $was,
		now => $now, at => scalar @{ $self->{done} } };
}

# Of [ class, key, with its prefix, what it should be, what it is ].
sub _first_wrong
{
	my ($self, @able) = @_;
	my $effect = $self->{effect};
	foreach my $one (@able)
	{
		my ($class, undef, $whole, $now, $cached) = @$one;
		return $one if defined $cached ? $cached ne $now : !$effect && $class->{cached}{$whole};
	}
	return undef;
}

1;
