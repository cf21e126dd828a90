
=pod

=head1 NAME

OracleSequence - which statement comes next: tables and rules first, then whatever the seed decides

=cut

package OracleSequence;

use strict;
use warnings;

use OracleChanges;
use OracleRules qw(preamble trees names_of_trees make_rule kinds_of_rules);
use OracleStatements;

# Changes after which the tables have the same names, columns and kinds as before.
my %keeps = map { ($_ => 1) } qw(harmless rewrite enum composite function refresh instead rewrite_rule deferred foreign_key gap_drop_trigger gap_trigger
  foreign owner row_security before_trigger after_trigger);

sub new
{
	my ($class, $oracle, $seed) = @_;
	my $statements = OracleStatements->new(seed => $seed, always => $oracle->{always});
	my $self = bless { oracle => $oracle, statements => $statements, savepoints => [], rules => 0, transactions => 0, since => 0 }, $class;
	$self->{may}{$_} = rand() < 0.6 foreach qw(transactions savepoints prepare rules roles);
	$self->{may}{publish} = $oracle->{publisher} && rand() < 0.15;
	$self->{may}{$_} = rand() < 0.3 foreach qw(second joined fills);
	$self->{may}{$_} = 1 foreach @{ $oracle->{always} // [] };
	delete $self->{may}{fills} unless $oracle->{guard};
	return $self;
}

sub _do
{
	my ($self, @ops) = @_;
	$self->{oracle}->execute(@ops);
	return;
}

sub _sql { my ($self, @sql) = @_; return $self->_do(map { { sql => $_ } } @sql); }

sub _see
{
	my ($self) = @_;
	return if $self->{oracle}{writer}{in} eq 'E';
	return $self->_know($self->{oracle}->tables);
}

sub _sql_and_see
{
	my ($self, @sql) = @_;
	return $self->_know($self->{oracle}->execute_and_see(map { { sql => $_ } } @sql));
}

sub _know
{
	my ($self, $tables) = @_;
	$self->{unseen} = 0 if $tables;
	delete @$tables{ grep { /^rep\./ } keys %$tables } if $tables && !$self->{may}{publish};
	$self->{statements}->see($tables) if $tables;
	return;
}

sub run
{
	my ($self, $count) = @_;
	my $oracle = $self->{oracle};
	$self->_begin;
	delete $oracle->{broken};
	while (@{ $oracle->{done} } < $count)
	{
		my $found = $self->_step // delete $oracle->{broken};
		return $found if $found;
	}
	return $oracle->finish;
}

sub _begin
{
	my ($self) = @_;
	my $s = $self->{statements};
	my @trees = grep { $s->chance(/typed|foreign/ ? 0.15 : 0.45) } grep { $_ ne 'foreign' || $self->{oracle}{foreign} } names_of_trees();
	@trees = $s->pick(qw(plain partitioned inherited unlogged)) unless @trees;
	my %always = map { $_ => 1 } @{ $self->{oracle}{always} // [] };
	push @trees, grep { $always{$_} } names_of_trees();
	push @trees, grep { $s->chance(0.5) || $always{$_} } qw(child stored) if grep { $_ eq 'plain' } @trees;
	$self->_sql_and_see(preamble(), trees(@trees));
	$self->_rule foreach 1 .. 3 + int rand 4;
	$self->_rule('rep.r', 'rep.s', 'rep.s1', 'rep.s2') foreach $self->{may}{publish} ? 1 .. 3 : ();
	$self->_sql(grep { defined } map { scalar $OracleStatements::Writes::kinds{insert}->($s) } 1 .. 6);
	return;
}

# ---- steps ----

sub _step
{
	my ($self) = @_;
	my $s = $self->{statements};
	my $in = $self->{oracle}{writer}{in};
	$self->{since}++;
	return $self->_look if $self->{oracle}->can_look && $s->chance($self->{since} / 40);
	return $self->_second if $self->{may}{second} && $s->chance(0.25) && $self->_may_second;
	return $self->_fill if $self->{may}{fills} && $s->chance(0.12);
	return $self->_out_of_error if $in eq 'E';
	return $self->_inside if $in eq 'T' && $s->chance(0.3);
	return $self->_between if $in eq 'I' && $s->chance(0.2);
	return $self->_publish if $self->{may}{publish} && $s->chance(0.3);
	return $self->_change if $s->chance(0.3);
	return $self->_writes;
}

sub _look
{
	my ($self) = @_;
	$self->{since} = 0;
	return $self->{oracle}->look;
}

sub _writes
{
	my ($self) = @_;
	my $s = $self->{statements};
	my @sql;
	foreach (1 .. 1 + int rand 4)
	{
		my ($sql) = $s->write;
		next unless defined $sql;
		$sql = "SET ROLE oracle_writer; $sql; RESET ROLE" if $self->{may}{roles} && $s->chance(0.15) && $sql !~ /^COPY|^SET/;
		push @sql, $sql;
	}
	$self->_sql(@sql) if @sql;
	return undef;
}

# Another session's turn? It would wait for who alters a table.
sub _may_second
{
	my ($self) = @_;
	my $ours = $self->{oracle}{writer}{transaction};
	return !$self->{may}{joined} && ($ours->{in} eq 'I' || !$ours->{locks});
}

# A query rule that joins tables does not see, as the README says, what another transaction has not committed yet. It
# does see what was committed since its own transaction's snapshot: there the other one writes, and somebody caches it.
sub _join
{
	my ($self) = @_;
	my $s = $self->{statements};
	my @of_second = grep { /^\w+ (INTO |FROM )?app\.f\b/ } map { ($s->write)[0] // '' } 1 .. 12;
	$self->_do(map { { sql => $_, second => 1 } } @of_second) if @of_second;
	my $found = $self->_look;
	return $found if $found;
	my $set = $s->{tables}{'app.t'} && $s->assignment('app.t');
	$self->_sql("UPDATE app.t SET $set") if $set;
	return undef;
}

sub _second
{
	my ($self) = @_;
	my $s = $self->{statements};
	my $second = $self->{oracle}{second};
	my $in = $second ? $second->{in} : 'I';
	my @sql;
	if ($in eq 'E') { @sql = 'ROLLBACK'; }
	elsif ($in eq 'T' && $s->chance(0.4)) { @sql = $self->_end_of_second; }
	elsif ($in eq 'I' && $s->chance(0.15)) { @sql = $self->_change_of_second; }
	elsif ($in eq 'I' && $s->chance(0.5)) { @sql = 'BEGIN'; }
	else
	{
		my ($sql) = $s->write;
		@sql = grep { defined && ($in eq 'I' || !/^DO/) } $sql;
	}
	$self->_do(map { { sql => $_, second => 1 } } @sql) if @sql;
	return undef;
}

# It waits for nobody who worked out keys with what was there before.
sub _change_of_second
{
	my ($self) = @_;
	my $s = $self->{statements};
	my @kinds = grep { $s->{allowed}{$_} } qw(function enum);
	return @kinds ? scalar $OracleStatements::Changes::kinds{ $s->pick(@kinds) }->($s) : ();
}

sub _end_of_second
{
	my ($self) = @_;
	my $sql = $self->{statements}->pick('COMMIT', 'COMMIT', 'ROLLBACK', $self->{may}{prepare} ? 'PREPARE' : ());
	return $sql eq 'PREPARE' ? "PREPARE TRANSACTION 'g" . ++$self->{transactions} . "'" : $sql;
}

# A client of the cache does something; see OracleFills.
sub _fill
{
	my ($self) = @_;
	my $s = $self->{statements};
	my @names = map { $_->{name} } grep { $_->{born} && !$_->{retired} } @{ $self->{oracle}{classes} };
	return undef unless @names;
	$self->_do({ fill => $s->pick('snapshot', 'early', 'read', 'read', 'store', 'store'), of => [ map { $s->pick(@names) } 1 .. 2 ] });
	return undef;
}

# Written in the database that is replicated to ours.
sub _publish
{
	my ($self) = @_;
	my $s = $self->{statements};
	my $tables = $s->{tables};
	$s->see({ map { ($_ => { %{ $tables->{$_} }, kind => 'r' }) } grep { $tables->{$_} } 'rep.r', 'rep.s' });
	my ($sql) = $s->write;
	$s->see($tables);
	$self->_do({ sql => $sql, published => 1 }) if defined $sql && $sql !~ /^SELECT/;
	return undef;
}

sub _change
{
	my ($self) = @_;
	my ($sql, $name) = $self->{statements}->change;
	return undef unless defined $sql;
	if ($name =~ /^gap/ && $self->{oracle}->can_look)
	{
		my $found = $self->_look;
		return $found if $found;
	}
	$keeps{$name} && !$self->{unseen} ? $self->_sql($sql) : $self->_sql_and_see($sql);
	return undef;
}

sub _between
{
	my ($self) = @_;
	my $s = $self->{statements};
	my @prepared = sort keys %{ $self->{oracle}{prepared} };
	if (@prepared)
	{
		$self->_sql_and_see($s->pick('COMMIT', 'COMMIT', 'ROLLBACK') . " PREPARED '$prepared[0]'");
	}
	elsif ($self->{may}{rules} && $s->chance(0.2) && $self->{oracle}->can_look) { $self->_rules; }
	elsif ($self->{may}{transactions})
	{
		$self->{savepoints} = [];
		my $level = $s->pick('', '', '', ' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE');
		my $second = $level && $self->{may}{second};
		$self->_sql("BEGIN$level", $second ? 'SELECT 1' : ());
		return $self->_join if $second && $self->{may}{joined};
	}
	return undef;
}

sub _inside
{
	my ($self) = @_;
	my $s = $self->{statements};
	my $sql = $s->pick('COMMIT', 'COMMIT', 'ROLLBACK', ('savepoint') x ($self->{back} ? 1 : 3), 'prepare');
	$self->{back} = 0;
	if ($sql eq 'savepoint')
	{
		$sql = $self->_savepoint // return undef;
	}
	elsif ($sql eq 'prepare')
	{
		return undef unless $self->{may}{prepare};
		$sql = "PREPARE TRANSACTION 'g" . ++$self->{transactions} . "'";
	}
	$sql =~ /^ROLLBACK|^PREPARE/ ? $self->_sql_and_see($sql) : $self->_sql($sql);
	$self->{unseen} = 1 if $sql eq 'COMMIT' && $self->{oracle}{done}[-1]{error};
	return $self->_look if $sql eq 'COMMIT' && @{ $self->{savepoints} } && $self->{oracle}->can_look && $s->chance(0.5);
	return undef;
}

sub _savepoint
{
	my ($self) = @_;
	my $s = $self->{statements};
	return undef unless $self->{may}{savepoints};
	my @open = @{ $self->{savepoints} };
	if (!@open || $s->chance(0.5))
	{
		my $name = $s->new_name('s');
		push @{ $self->{savepoints} }, $name;
		return "SAVEPOINT $name";
	}
	my $at = int rand @open;
	my $back = $self->{back} = $s->chance(0.6);
	splice @{ $self->{savepoints} }, $back ? $at + 1 : $at;
	return ($back ? 'ROLLBACK TO ' : 'RELEASE ') . $open[$at];
}

sub _out_of_error
{
	my ($self) = @_;
	my $name = $self->{savepoints}[-1];
	$self->_sql_and_see(defined $name && $self->{statements}->chance(0.8) ? "ROLLBACK TO $name" : 'ROLLBACK');
	return undef;
}

# ---- rules ----

sub _rule
{
	my ($self, @tables) = @_;
	my $s = $self->{statements};
	my $oracle = $self->{oracle};
	my $table = (@tables ? $s->pick(@tables) : $s->table('rpmf')) // return undef;
	my @kinds = kinds_of_rules($table, $s->{tables});
	my @first = grep { my $kind = $_; grep { $_ eq $kind } @{ $oracle->{always} // [] } } @kinds;
	@kinds = @first if @first;
	return undef unless @kinds;
	my $kind = $s->pick(@kinds);
	return undef if $kind =~ /join|view|stored/ && $self->{may}{prepare};
	return undef if $kind =~ /join|view|stored/ && $self->{may}{second} && !$self->{may}{joined};
	my $rule = make_rule($kind, substr($kind, 0, 1) . ++$self->{rules}, $table, $s->pick('say', 'said'));
	$self->_do({ sql => $rule->{sql}, class => $rule });
	return undef;
}

sub _rules
{
	my ($self) = @_;
	my $s = $self->{statements};
	my $oracle = $self->{oracle};
	my @classes = grep { !$_->{retired} } @{ $oracle->{classes} };
	return $self->_rule if $s->chance(0.4) || !@classes;
	my $class = $s->pick(@classes);
	if ($s->chance(0.3))
	{
		$self->_sql("SELECT cache_aside.detach('$class->{table}', '$class->{rules}[0]')");
	}
	else
	{
		my $remedy = $oracle->remedy;
		$self->_sql_and_see($remedy =~ s/;\s*$//r) if defined $remedy && $remedy !~ /^--/;
	}
	return undef;
}

1;
