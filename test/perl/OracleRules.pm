
=pod

=head1 NAME

OracleRules - the tables of a sequence, the rules on them, and what an application caches under their keys

=head1 DESCRIPTION

A class is what one rule, or two together, promise to keep fresh: keys C<name:1> to C<name:6>, and a query that
returns key and value as a reader of today sees them. A key the query does not return is cached as absent.
Of what PostgreSQL and the rules do the query knows nothing: that is the oracle.

=cut

package OracleRules;

use strict;
use warnings;

use Exporter 'import';
our @EXPORT_OK = qw(schemas preamble trees names_of_trees keys_of make_rule kinds_of_rules);

our $ids = 6;

# Where sequences are at home. It stays there for the next, if none of its statements may have changed it.
sub schemas
{
	return ('CREATE SCHEMA app', 'CREATE SCHEMA app2', 'GRANT USAGE, CREATE ON SCHEMA app, app2 TO oracle_owner', 'GRANT USAGE ON SCHEMA app, app2 TO oracle_writer',
		'ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT ALL ON TABLES TO oracle_writer, oracle_owner');
}

# Types and functions that sequences use; statements that make them anew each time.
sub preamble
{
	return ("CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'happy')",
		'CREATE DOMAIN app.dom AS int', 'CREATE TYPE app.comp AS (x int, y text)',
		q{CREATE FUNCTION app.say(n int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT n::text'},
		'CREATE FUNCTION app.said(n int) RETURNS text LANGUAGE sql IMMUTABLE RETURN n::text',
		'CREATE TYPE app.kind AS (id int, a int, b text)');
}

my %trees = (
	plain => [ 'CREATE TABLE app.t (id int PRIMARY KEY, a int, b text DEFAULT $$new$$, e app.mood, g int GENERATED ALWAYS AS (a * 2) STORED)' ],
	child => [
		'CREATE TABLE app.f (id int PRIMARY KEY, t_id int DEFAULT 1 REFERENCES app.t ON DELETE CASCADE ON UPDATE CASCADE, b text)',
		'CREATE VIEW app.v AS SELECT f.id AS fid, f.t_id AS tid, f.b FROM app.f',
		'CREATE VIEW app.w AS SELECT * FROM app.t WHERE a > 1' ],
	stored => ['CREATE MATERIALIZED VIEW app.m AS SELECT id, a, b FROM app.t'],
	partitioned => [
		'CREATE TABLE app.p (id int, a int, b text, d app.dom) PARTITION BY LIST (a)',
		'CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES IN (1, 2)',
		'CREATE TABLE app.p2 (b text, gone int, id int, a int, d app.dom) PARTITION BY RANGE (id)',
		'ALTER TABLE app.p2 DROP COLUMN gone', 'ALTER TABLE app.p ATTACH PARTITION app.p2 FOR VALUES IN (3, 4)',
		'CREATE TABLE app.p21 PARTITION OF app.p2 FOR VALUES FROM (0) TO (4)',
		'CREATE TABLE app.p22 PARTITION OF app.p2 DEFAULT', 'CREATE TABLE app.p3 PARTITION OF app.p DEFAULT' ],
	inherited => [
		'CREATE TABLE app.h (id int PRIMARY KEY, a int, b text, c app.comp)', 'CREATE TABLE app.h1 (x int) INHERITS (app.h)',
		'CREATE TABLE app.h2 () INHERITS (app.h1)' ],
	typed => ['CREATE TABLE app.o OF app.kind (PRIMARY KEY (id))'],
	foreign => [
		'CREATE TABLE app.far (id int, a int, b text)',
		q{CREATE FOREIGN TABLE app.ft (id int, a int, b text) SERVER loop OPTIONS (schema_name 'app', table_name 'far')} ],
	unlogged => ['CREATE UNLOGGED TABLE app.u (id int PRIMARY KEY, a int, b text, d app.dom, e app.mood[])']);

# Statements by name of a tree; a child wants its parent.
sub trees
{
	my (@names) = @_;
	return map { @{ $trees{$_} } } grep { my $n = $_; grep { $_ eq $n } @names } qw(plain child stored partitioned inherited unlogged typed foreign);
}

sub names_of_trees { return qw(plain partitioned inherited unlogged typed foreign); }

my %keys = (
	number => [ 1 .. $ids ],
	pair => [ map { my $id = $_; map { "$id:$_" } 1 .. 4 } 1 .. $ids ],
	copies => [ map { ("$_#0", "$_#1") } 1 .. $ids ],
	text => [ 'x', 'y', 'z', 1, 2, 3, 'xq', 'long text', 'd' ],
	mood => [qw(sad ok happy mood1 mood2 mood3 mood4 mood5)]);

sub keys_of { my ($class) = @_; return map { "$class->{name}:$_" } @{ $keys{ $class->{keys} // 'number' } }; }

# ---- rules ----

sub _values
{
	my ($name, $from, $key, $value) = @_;
	return "SELECT '$name:' || $key, jsonb_agg($value ORDER BY ($value)::text)::text FROM $from WHERE $key IS NOT NULL GROUP BY 1";
}

sub _template
{
	my ($column, $value, $options) = @_;
	return sub {
		my ($name, $table) = @_;
		return {
			rules => ["$name:{$column}"],
			sql => "SELECT cache_aside.attach('$table', '$name:{$column}'$options)",
			query => _values($name, "$table t", "t.$column", $value)
		};
	};
}

sub _query_sql
{
	my ($name, $table, $query) = @_;
	return "SELECT cache_aside.attach_query('$table', \$q\$$query\$q\$, '$name:*', '$name')";
}

# A join is kept fresh from both sides: a query rule here, templates there.
sub _joined
{
	my ($name, $query, $values, @columns) = @_;
	my @templates = map { "$name:{$_}" } @columns;
	return {
		rules => [ $name, @templates ],
		sql => join('; ', _query_sql($name, 'app.t', $query), map { "SELECT cache_aside.attach('app.f', '$_')" } @templates),
		query => $values
	};
}

my %kinds = (
	row => _template('id', 'to_jsonb(t)', ''),
	list => _template('a', 'to_jsonb(t)', ''),
	columns => _template('id', 'jsonb_build_array(t.id, t.b)', ", columns => '{b}'"),
	statement => _template('id', 'to_jsonb(t)', ", level => 'statement'"),
	statement_list => _template('a', 'to_jsonb(t)', ", level => 'statement'"),
	text => sub { return { %{ _template('b', 'to_jsonb(t)', '')->(@_) }, keys => 'text' }; },
	statement_text => sub { return { %{ _template('b', 'to_jsonb(t)', ", level => 'statement'")->(@_) }, keys => 'text' }; },
	mood => sub { return { %{ _template('e', 'to_jsonb(t)', '')->(@_) }, keys => 'mood' }; },
	pair => sub {
		my ($name, $table) = @_;
		return {
			rules => ["$name:{id}:{a}"],
			keys => 'pair',
			sql => "SELECT cache_aside.attach('$table', '$name:{id}:{a}')",
			query => _values($name, "$table t", "t.id || ':' || t.a", 'to_jsonb(t)')
		};
	},
	copies => sub {
		my ($name, $table) = @_;
		return {
			rules => ["$name:{id#2}"],
			keys => 'copies',
			sql => "SELECT cache_aside.attach('$table', '$name:{id#2}')",
			query => _values($name, "$table t, generate_series(0, 1) i", "t.id || '#' || i", 'to_jsonb(t)')
		};
	},
	by_hand => sub {
		my ($name, $table) = @_;
		my $on = "ON $table FOR EACH";
		return {
			rules => ["$name:{id}"],
			sql => "CREATE TRIGGER ${name}_row AFTER INSERT OR DELETE OR UPDATE OF id, b $on ROW EXECUTE FUNCTION cache_aside.invalidate_row('$name:{id}'); "
			  . "CREATE TRIGGER ${name}_all AFTER TRUNCATE $on STATEMENT EXECUTE FUNCTION cache_aside.invalidate_table('$name:{id}'); "
			  . "ALTER TABLE $table ENABLE ALWAYS TRIGGER ${name}_row; ALTER TABLE $table ENABLE ALWAYS TRIGGER ${name}_all",
			query => _values($name, "$table t", 't.id', 'jsonb_build_array(t.id, t.b)')
		};
	},
	rank => sub {    # what the query reads of the table itself: each write concerns the next number, too
		my ($name, $table) = @_;
		return {
			rules => [$name],
			sql => _query_sql($name, $table, "SELECT '$name:' || x.id FROM changed c, generate_series(c.id, c.id + 1) x (id)"),
			query => _values($name, "generate_series(1, 6) n (id) LEFT JOIN $table t ON t.id IN (n.id, n.id - 1)", 'n.id', 'to_jsonb(t)')
		};
	},
	query => sub {
		my ($name, $table) = @_;
		return {
			rules => [$name],
			sql => _query_sql($name, $table, "SELECT '$name:' || id FROM changed"),
			query => _values($name, "$table t", 't.id', 'to_jsonb(t)')
		};
	},
	called => sub {
		my ($name, $table, $function) = @_;
		return {
			rules => [$name],
			sql => _query_sql($name, $table, "SELECT '$name:' || app.$function(id) FROM changed"),
			query => _values($name, "$table t", "app.$function(t.id)", 'to_jsonb(t)')
		};
	},
	join => sub {
		my ($name) = @_;
		return _joined($name, "SELECT '$name:' || f.id FROM app.f JOIN changed c ON c.id = f.t_id",
			_values($name, 'app.f LEFT JOIN app.t ON t.id = f.t_id', 'f.id', 'jsonb_build_array(to_jsonb(f), to_jsonb(t))'), 'id');
	},
	view => sub {
		my ($name) = @_;
		return _joined($name, "SELECT '$name:' || v.tid FROM app.v JOIN changed c ON c.id = v.tid",
			_values($name, 'app.v JOIN app.t ON t.id = v.tid', 'v.tid', 'jsonb_build_array(to_jsonb(v), to_jsonb(t))'), 'id', 't_id');
	},
	stored => sub {
		my ($name) = @_;
		return {
			rules => [$name],
			sql => _query_sql($name, 'app.t', "SELECT '$name:' || m.id FROM app.m JOIN changed c ON c.id = m.id"),
			query => _values($name, 'app.m', 'm.id', 'to_jsonb(m)')
		};
	});

# Of a table, given by its name and the relation kinds and columns there are.
sub kinds_of_rules
{
	my ($table, $tables) = @_;
	my %has = map { $_->[0] => 1 } @{ $tables->{$table}{columns} };
	return ($has{id} ? 'row' : (), $has{a} ? 'list' : ()) if $tables->{$table}{kind} =~ /[mf]/;
	my @kinds = grep { $has{id} } qw(row row copies statement query called rank);
	push @kinds, grep { $has{id} && $has{a} } qw(list statement_list pair);
	push @kinds, grep { $has{id} && $has{b} } qw(columns by_hand text statement_text);
	push @kinds, 'mood' if grep { $_->[0] eq 'e' && $_->[1] eq 'app.mood' } @{ $tables->{$table}{columns} };
	if ($table eq 'app.t')
	{
		push @kinds, qw(join view) if $tables->{'app.f'} && $tables->{'app.v'};
		push @kinds, 'stored' if $tables->{'app.m'};
	}
	return @kinds;
}

sub make_rule
{
	my ($kind, $name, $table, @more) = @_;
	return { name => $name, kind => $kind, table => $table, %{ $kinds{$kind}->($name, $table, @more) } };
}

1;
