
=pod

=head1 NAME

OracleStatements - random statements over the tables that there are

=head1 SYNOPSIS

  my $statements = OracleStatements->new(seed => 7, always => ['merge']);
  $statements->see($tables);              # what the catalog says; see Oracle.pm
  my $sql = $statements->write;           # DML
  my $sql = $statements->change;          # DDL

=head1 DESCRIPTION

Each sequence may use only some of the kinds of statements ("swarm testing": what a mix of everything drowns,
a mix of a few finds). Statements fit the catalog mostly; that some fail is as it should be.

=cut

package OracleStatements;

use strict;
use warnings;

use OracleRules ();

sub new
{
	my ($class, %args) = @_;
	my $self = bless { tables => {}, sorted => [], made => 0 }, $class;
	srand $args{seed};
	$self->{allowed}{$_} = rand() < 0.55 foreach sort(keys %OracleStatements::Changes::kinds), sort keys %OracleStatements::Writes::kinds;
	$self->{rare}{$_} = rand() < 0.2 foreach qw(gap direct roles);
	$self->{allowed}{$_} = 1 foreach @{ $args{always} // [] };
	return $self;
}

sub see
{
	my ($self, $tables) = @_;
	@$self{qw(tables sorted targets)} = ($tables, [ sort keys %$tables ], {});
	return;
}

# ---- choices ----

sub chance { return rand() < $_[1]; }
sub pick { my ($self, @of) = @_; return $of[ rand @of ]; }
sub id { return 1 + int rand $OracleRules::ids; }

# Names of relations of some kinds (pg_class.relkind), sorted so that a seed repeats.
sub names
{
	my ($self, $kinds, $want) = @_;
	my $tables = $self->{tables};
	return grep { index($kinds, $tables->{$_}{kind}) >= 0 && (!$want || $want->($tables->{$_})) } @{ $self->{sorted} };
}

sub table
{
	my ($self, $kinds, $want) = @_;
	my @names = $self->names($kinds, $want);
	return @names ? $self->pick(@names) : undef;
}

sub columns
{
	my ($self, $table) = @_;
	return map { $_->[0] } @{ $self->{tables}{$table}{columns} };
}

sub has { my ($self, $table, $column) = @_; return scalar grep { $_ eq $column } $self->columns($table); }

sub new_name { my ($self, $start) = @_; return $start . ++$self->{made}; }

# A value that fits the type.
sub value
{
	my ($self, $type) = @_;
	return $self->id if $type =~ /^(smallint|integer|bigint|numeric|real|double precision|app\.dom)$/;
	return "'" . $self->pick(qw(x y z 1 2), 'long text') . "'" if $type =~ /^(text|character varying|jsonb?)$/ && $type !~ /json/;
	return "(enum_range(NULL::app.mood))[" . (1 + int rand 3) . ']' if $type eq 'app.mood';
	return 'ARRAY(SELECT unnest(enum_range(NULL::app.mood)) LIMIT ' . int(rand 3) . ')' if $type eq 'app.mood[]';
	return "ROW(" . $self->id . ", 'c')::app.comp" if $type eq 'app.comp';
	return 'DEFAULT';
}

sub writable
{
	my ($self, $table) = @_;
	return grep { !$_->[2] } @{ $self->{tables}{$table}{columns} };
}

sub assignment
{
	my ($self, $table, $alias) = @_;
	my @columns = grep { $_->[0] ne 'id' || rand() < 0.3 } $self->writable($table);
	return undef unless @columns;
	my $c = $self->pick(@columns);
	my $old = $alias ? "$alias.$c->[0]" : $c->[0];
	return "$c->[0] = $old % 6 + 1" if $c->[1] =~ /^(integer|bigint|smallint|numeric)$/ && rand() < 0.4;
	return "$c->[0] = $old || 'q'" if $c->[1] eq 'text' && rand() < 0.3;
	return "$c->[0] = $old + 1" if $c->[0] eq 'version';
	return "$c->[0] = " . $self->value($c->[1]);
}

sub condition
{
	my ($self, $table, $alias) = @_;
	my $p = $alias ? "$alias." : '';
	my @numbers = map { $_->[0] } grep { $_->[1] =~ /^(integer|bigint|numeric|app\.dom)$/ } @{ $self->{tables}{$table}{columns} };
	return 'true' if !@numbers || rand() < 0.03;
	my $c = ($self->has($table, 'id') && rand() < 0.6) ? 'id' : $self->pick(@numbers);
	return "$p$c " . $self->pick(('=') x 6, '>', '<') . ' ' . $self->id;
}

sub row
{
	my ($self, $table, @columns) = @_;
	return '(' . join(', ', map { rand() < 0.05 && $_->[0] ne 'id' ? 'NULL' : $self->value($_->[1]) } @columns) . ')';
}

# ---- one of them ----

sub _one
{
	my ($self, $kinds) = @_;
	my $allowed = $self->{chosen}{$kinds} //= [ grep { $self->{allowed}{$_} } sort keys %$kinds ];
	return undef unless @$allowed;
	my $name = $self->pick(@$allowed);
	my $sql = $kinds->{$name}->($self);
	return defined $sql ? ($sql, $name) : ();
}

sub write { return $_[0]->_one(\%OracleStatements::Writes::kinds); }

# What is replicated keeps its form.
sub change
{
	my ($self) = @_;
	my $tables = $self->{tables};
	$self->see({ map { ($_ => $tables->{$_}) } grep { !/^rep\./ } keys %$tables });
	my @change = $self->_one(\%OracleStatements::Changes::kinds);
	$self->see($tables);
	return @change;
}

# May it be written to? What is, or may become, a partition is named only where that is allowed: a rule by
# statement on the table above does not see it, as gaps says.
sub may_name
{
	my ($self, $table) = @_;
	return 0 if $table->{kind} eq 'v' && $table->{name} !~ /\.[wv]$/;
	return $self->{rare}{direct} || $table->{name} !~ /\.p.|rep\.s./;
}

sub target
{
	my ($self, $kinds) = @_;
	my $names = $self->{targets}{ $kinds //= 'rpvf' } //= [ $self->names($kinds, sub { $self->may_name($_[0]) }) ];
	return @$names ? $self->pick(@$names) : undef;
}

package OracleStatements::Writes;

our %kinds;
%kinds = (
	insert => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		my @c = $s->writable($t);
		return unless @c;
		return "INSERT INTO $t (" . join(', ', map { $_->[0] } @c) . ') VALUES ' . join(', ', map { $s->row($t, @c) } 1 .. 1 + int rand 3);
	},
	upsert => sub {
		my ($s) = @_;
		my $t = $s->table('r', sub { $_[0]{unique} }) // return;
		my @c = $s->writable($t);
		my $do = $s->chance(0.8) ? 'UPDATE SET ' . ($s->assignment($t, $s->pick($t =~ s/.*\.//r, 'excluded')) // return) : 'NOTHING';
		return "INSERT INTO $t (" . join(', ', map { $_->[0] } @c) . ') VALUES ' . $s->row($t, @c) . " ON CONFLICT (id) DO $do";
	},
	update => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		my $set = $s->assignment($t) // return;
		my $only = $s->chance(0.1) ? 'ONLY ' : '';
		return "UPDATE $only$t SET $set WHERE " . $s->condition($t);
	},
	update_more => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		my $set = $s->assignment($t) // return;
		my $other = $s->assignment($t) // return;
		$set = "$set, $other" unless ($other =~ /^(\S+)/)[0] eq ($set =~ /^(\S+)/)[0];
		return "UPDATE $t SET $set WHERE " . $s->condition($t);
	},
	update_from => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		my $o = $s->table('rp', sub { $_[0]{name} ne $t }) // return;
		my $set = $s->assignment($t, 'x') // return;
		return unless $s->has($t, 'id') && $s->has($o, 'id');
		return "UPDATE $t x SET $set FROM $o y WHERE x.id = y.id AND " . $s->condition($t, 'x');
	},
	delete => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		return 'DELETE FROM ' . ($s->chance(0.1) ? 'ONLY ' : '') . "$t WHERE " . $s->condition($t);
	},
	merge => sub {
		my ($s) = @_;
		my $t = $s->target('rp') // return;
		return unless $s->has($t, 'id') && $s->has($t, 'a');
		my @when;
		my $and = sub { return $s->chance(0.3) ? ' AND ' . $s->condition($t, 't') : ''; };
		push @when, 'WHEN MATCHED' . $and->() . ' THEN DELETE' if $s->chance(0.3);
		push @when, 'WHEN MATCHED' . $and->() . ' THEN UPDATE SET '
		  . ($s->chance(0.6) ? 'a = s.a' : $s->assignment($t, 't') // 'id = s.id') if $s->chance(0.8);
		push @when, 'WHEN NOT MATCHED THEN INSERT (id, a) VALUES (s.id, s.a)' if $s->chance(0.5) || !@when;
		my ($i, $j) = ($s->id, 1 + int rand 3);
		return "MERGE INTO $t t USING (SELECT i AS id, i % 5 + $j AS a FROM generate_series($i, $i + $j) i) s ON t.id = s.id "
		  . join(' ', @when);
	},
	copy => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		return if $s->{tables}{$t}{kind} eq 'v';
		my @c = grep { $_->[1] =~ /^(integer|bigint|text|app\.dom)$/ } $s->writable($t);
		return unless @c;
		return "COPY $t (" . join(', ', map { $_->[0] } @c) . ") FROM STDIN;\n"
		  . join('', map { join("\t", map { $s->id } @c) . "\n" } 1 .. 1 + int rand 4) . "\\.\n";
	},
	move => sub {
		my ($s) = @_;
		my ($t, $o) = ($s->target, $s->target);
		return unless defined $o && $s->has($t, 'id') && $s->has($o, 'id');
		my $get = $s->chance(0.5) ? "DELETE FROM $t WHERE " . $s->condition($t) : "UPDATE $t SET "
		  . ($s->assignment($t) // return) . ' WHERE ' . $s->condition($t);
		my $put = $s->chance(0.5) ? "INSERT INTO $o (id) SELECT id FROM x" : "DELETE FROM $o y USING x WHERE y.id = x.id";
		return "WITH x AS ($get RETURNING id) $put";
	},
	truncate => sub {
		my ($s) = @_;
		return unless $s->chance(0.4);
		my $t = $s->table('rpf') // return;
		return 'TRUNCATE ' . ($s->chance(0.2) ? 'ONLY ' : '') . $t . $s->pick('', '', ' CASCADE', ' RESTART IDENTITY CASCADE');
	},
	block => sub {
		my ($s) = @_;
		my ($one) = $kinds{update}->($s) // return;
		my ($two) = $kinds{delete}->($s) // return;
		my ($three) = $kinds{insert}->($s) // return;
		return "DO \$\$ BEGIN $one; BEGIN $two; $three; " . $s->pick('', 'PERFORM 1 / 0;', "RAISE 'no';")
		  . " EXCEPTION WHEN others THEN NULL; END; END \$\$";
	},
	replica => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		my $sql = $s->pick($kinds{insert}, $kinds{update}, $kinds{delete})->($s) // return;
		return "SET session_replication_role = replica; $sql; SET session_replication_role = origin";
	},
	prepared => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		return unless $s->has($t, 'id') && $s->has($t, 'a');
		return "PREPARE q (int, int) AS UPDATE $t SET a = \$2 WHERE id = \$1; EXECUTE q (" . $s->id . ', ' . $s->id . '); DEALLOCATE q';
	},
	cursor => sub {
		my ($s) = @_;
		my $t = $s->target('r') // return;
		my $set = $s->assignment($t) // return;
		return "DO \$\$ DECLARE c CURSOR FOR SELECT * FROM $t FOR UPDATE; r record; BEGIN OPEN c; FETCH c INTO r; "
		  . "IF FOUND THEN UPDATE $t SET $set WHERE CURRENT OF c; END IF; END \$\$";
	},
	commits => sub {    # a block that commits in between; only outside of a transaction
		my ($s) = @_;
		my @do = map { $s->pick($kinds{update}, $kinds{delete}, $kinds{insert})->($s) // 'NULL' } 1 .. 3;
		return "DO \$\$ BEGIN $do[0]; " . $s->pick('COMMIT', 'ROLLBACK') . "; $do[1]; " . $s->pick('COMMIT', 'ROLLBACK') . "; $do[2]; END \$\$";
	},
	returned => sub {    # a table made of what a statement gave back
		my ($s) = @_;
		my $sql = $s->pick($kinds{update}, $kinds{delete}, $kinds{insert})->($s) // return;
		my $o = $s->target // return;
		my $set = $s->assignment($o) // return;
		return "WITH x AS ($sql RETURNING 1), y AS (UPDATE $o SET $set WHERE " . $s->condition($o) . ' RETURNING 1) SELECT count(*) FROM x, y';
	},
	whole_row => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		my @c = map { $_->[0] } $s->writable($t);
		return unless @c;
		return "UPDATE $t SET (" . join(', ', @c) . ') = ROW(' . join(', ', map { $s->value($_->[1]) } $s->writable($t)) . ') WHERE ' . $s->condition($t);
	},
	same => sub {
		my ($s) = @_;
		my $t = $s->target // return;
		my ($c) = map { $_->[0] } $s->pick($s->writable($t)) // return;
		return "UPDATE $t SET $c = $c WHERE " . $s->condition($t);
	},
	copy_back => sub {    # INSERT ... SELECT from another table, doubles left out
		my ($s) = @_;
		my ($t, $o) = ($s->target('r'), $s->table('rpv'));
		return unless defined $t && defined $o && $s->has($t, 'id') && $s->has($o, 'id') && $s->has($t, 'a') && $s->has($o, 'a');
		return "INSERT INTO $t (id, a) SELECT id, a FROM $o WHERE " . $s->condition($o) . ' ON CONFLICT DO NOTHING';
	},
	look_and_lock => sub {
		my ($s) = @_;
		my $t = $s->table('rp') // return;
		return "SELECT * FROM $t WHERE " . $s->condition($t) . ' FOR UPDATE';
	});
1;
