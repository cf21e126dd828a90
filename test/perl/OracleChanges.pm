
=pod

=head1 NAME

OracleChanges - random DDL, for OracleStatements

=head1 DESCRIPTION

Each entry returns one statement, or several in one text (then one transaction, unless one is open), or
nothing where it does not fit. Those that make a gap of their own accord are under C<rare>.

=cut

package OracleStatements::Changes;

use strict;
use warnings;

my @types = ('int', 'text', 'app.mood', 'app.dom', 'app.comp');
my @defaults = ('', ' DEFAULT 1', ' DEFAULT 2');

sub _table { my ($s) = @_; return $s->table('rpf', sub { !$_[0]{is_partition} }); }

sub _column
{
	my ($s, $t, @not) = @_;
	my %not = map { $_ => 1 } @not;
	my @columns = grep { !$not{ $_->[0] } } @{ $s->{tables}{$t}{columns} };
	return @columns ? $s->pick(@columns) : undef;
}

our %kinds;
%kinds = (
	add_column => sub {
		my ($s) = @_;
		my $t = _table($s) // return;
		return if $s->columns($t) > 8;
		my $n = $s->new_name('c');
		return "ALTER TABLE $t ADD COLUMN $n " . $s->pick('int', 'int DEFAULT 3', 'text', q{text DEFAULT 'd'}, 'app.mood', 'app.dom',
			'int DEFAULT (random() * 5)::int', 'int GENERATED ALWAYS AS (id + 1) STORED');
	},
	drop_column => sub {
		my ($s) = @_;
		my $t = _table($s) // return;
		my $c = _column($s, $t, 'id') // return;
		return if $c->[0] =~ /^[ab]$/ && $s->chance(0.7);
		return "ALTER TABLE $t DROP COLUMN $c->[0]" . $s->pick('', '', ' CASCADE');
	},
	rename_column => sub {
		my ($s) = @_;
		my $t = $s->table('rpvm', sub { !$_[0]{is_partition} }) // return;
		my $c = _column($s, $t, 'id') // return;
		my @missing = grep { !$s->has($t, $_) } qw(a b);
		my $to = @missing && $s->chance(0.8) ? $s->pick(@missing) : $s->new_name('n');
		return "ALTER TABLE $t RENAME COLUMN $c->[0] TO $to";
	},
	replace_column => sub {    # the migration: add a column, copy, rename
		my ($s) = @_;
		my $t = _table($s) // return;
		my ($b) = grep { $_->[0] eq 'b' } @{ $s->{tables}{$t}{columns} };
		my $c = ($s->chance(0.4) ? $b : undef) // _column($s, $t, 'id') // return;
		return if $c->[2];
		my ($new, $old) = ($s->new_name('new'), $s->new_name('old'));
		my $type = $s->pick($c->[1], 'text');
		return "ALTER TABLE $t ADD COLUMN $new $type; UPDATE $t SET $new = $c->[0]::text::$type; ALTER TABLE $t RENAME $c->[0] TO $old; "
		  . "ALTER TABLE $t RENAME $new TO $c->[0]";
	},
	type => sub {
		my ($s) = @_;
		my $t = _table($s) // return;
		my $c = _column($s, $t) // return;
		return if $c->[2];
		my $type = $c->[1] =~ /int|numeric/ ? $s->pick('int', 'bigint', 'numeric') : $s->pick('text', 'varchar(20)', 'varchar(60)');
		return "ALTER TABLE $t ALTER COLUMN $c->[0] TYPE $type USING $c->[0]::text::$type";
	},
	harmless => sub {
		my ($s) = @_;
		my $t = _table($s) // return;
		return $s->pick("ALTER TABLE $t ALTER COLUMN id SET STATISTICS 10", "COMMENT ON TABLE $t IS 'x'", "ANALYZE $t",
			"CREATE INDEX ON $t (id)", "ALTER TABLE $t ADD CHECK (id > 0)", "GRANT SELECT ON $t TO oracle_writer",
			"ALTER TABLE $t ALTER COLUMN id SET DEFAULT 6", "ALTER TABLE $t SET (fillfactor = 70)");
	},
	rewrite => sub {
		my ($s) = @_;
		my $t = $s->table('r') // return;
		return $s->pick("VACUUM FULL $t", "ALTER TABLE $t SET LOGGED", "ALTER TABLE $t SET UNLOGGED", "REINDEX TABLE $t", "VACUUM $t");
	},
	enum => sub {
		my ($s) = @_;
		my $n = $s->pick(qw(sad ok happy), map { "mood$_" } 1 .. 5);
		return "DO \$\$ BEGIN EXECUTE format('ALTER TYPE app.mood RENAME VALUE %L TO %L', (enum_range(NULL::app.mood))["
		  . (1 + int rand 3) . "], '$n'); END \$\$";
	},
	composite => sub {
		my ($s) = @_;
		my $n = $s->new_name('x');
		return $s->pick("ALTER TYPE app.comp RENAME ATTRIBUTE x TO $n", "ALTER TYPE app.comp RENAME ATTRIBUTE y TO x CASCADE",
			"ALTER TYPE app.comp ADD ATTRIBUTE $n int", "ALTER TYPE app.comp DROP ATTRIBUTE y");
	},
	domain => sub {
		my ($s) = @_;
		return $s->pick('ALTER DOMAIN app.dom SET DEFAULT 4', 'ALTER DOMAIN app.dom ADD CHECK (VALUE > 0)',
			'ALTER DOMAIN app.dom RENAME TO dom2; ALTER DOMAIN app.dom2 RENAME TO dom');
	},
	view => sub {
		my ($s) = @_;
		return unless $s->{tables}{'app.v'} && $s->{tables}{'app.f'};
		return 'CREATE OR REPLACE VIEW app.v AS SELECT ' . $s->pick('f.id AS fid, f.t_id AS tid', 'f.t_id AS fid, f.id AS tid')
		  . ', ' . $s->pick('f.b', 'upper(f.b) AS b', "'k'::text AS b") . ' FROM app.f' . $s->pick('', ' WHERE f.id > 2', ' WHERE f.id < 4');
	},
	function => sub {
		my ($s) = @_;
		my $body = $s->pick('n::text', '(n % 6 + 1)::text', '(7 - n)::text');
		return $s->pick("CREATE OR REPLACE FUNCTION app.say(n int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $body'",
			"CREATE OR REPLACE FUNCTION app.said(n int) RETURNS text LANGUAGE sql IMMUTABLE RETURN $body");
	},
	refresh => sub {
		my ($s) = @_;
		return unless $s->{tables}{'app.m'};
		return $s->pick('REFRESH MATERIALIZED VIEW app.m', 'REFRESH MATERIALIZED VIEW app.m', 'REFRESH MATERIALIZED VIEW app.m WITH NO DATA',
			'CREATE UNIQUE INDEX ON app.m (id); REFRESH MATERIALIZED VIEW CONCURRENTLY app.m');
	},
	made_anew => sub {    # a view or a materialized one, dropped and made in one
		my ($s) = @_;
		my $what = $s->pick('m', 'v');
		return unless $s->{tables}{"app.$what"};
		return 'DROP VIEW app.v; CREATE VIEW app.v AS SELECT id AS fid, t_id AS tid, b FROM app.f WHERE id <> ' . $s->id if $what eq 'v' && $s->{tables}{'app.f'};
		return unless $s->{tables}{'app.t'} && $s->has('app.t', 'a') && $s->has('app.t', 'b');
		return 'DROP MATERIALIZED VIEW app.m; CREATE MATERIALIZED VIEW app.m AS SELECT id, a + 1 AS a, b FROM app.t';
	},
	instead => sub {
		my ($s) = @_;
		return unless $s->{tables}{'app.v'} && $s->{tables}{'app.f'};
		return 'CREATE OR REPLACE FUNCTION app.instead() RETURNS trigger LANGUAGE plpgsql AS \'BEGIN IF TG_OP = $$DELETE$$ THEN DELETE FROM app.f WHERE id = OLD.fid; RETURN OLD; '
		  . 'ELSE INSERT INTO app.f (id, b) VALUES (NEW.fid, NEW.b) ON CONFLICT (id) DO UPDATE SET b = NEW.b; RETURN NEW; END IF; END\'; '
		  . 'CREATE OR REPLACE TRIGGER instead INSTEAD OF INSERT OR UPDATE OR DELETE ON app.v FOR EACH ROW EXECUTE FUNCTION app.instead()';
	},
	rewrite_rule => sub {
		my ($s) = @_;
		my ($t, $o) = ($s->table('r'), $s->target('r'));
		return unless defined $t && defined $o && $t ne $o && $s->has($o, 'id') && $s->has($t, 'id');
		my $set = $s->assignment($o) // return;
		return $s->pick("CREATE OR REPLACE RULE also AS ON UPDATE TO $t DO ALSO UPDATE $o SET $set WHERE id = OLD.id",
			"CREATE OR REPLACE RULE also AS ON INSERT TO $t DO ALSO DELETE FROM $o WHERE id = NEW.id", "DROP RULE also ON $t");
	},
	typed => sub {
		my ($s) = @_;
		my $n = $s->new_name('k');
		return $s->pick("ALTER TYPE app.kind ADD ATTRIBUTE $n int CASCADE", 'ALTER TYPE app.kind DROP ATTRIBUTE b CASCADE',
			"ALTER TYPE app.kind RENAME ATTRIBUTE a TO $n CASCADE", 'ALTER TYPE app.kind ALTER ATTRIBUTE a TYPE bigint CASCADE',
			'ALTER TABLE app.o NOT OF');
	},
	drop_type => sub {
		my ($s) = @_;
		return unless $s->chance(0.3);
		return $s->pick('DROP TYPE app.mood CASCADE', 'DROP DOMAIN app.dom CASCADE', 'DROP TYPE app.comp CASCADE', 'DROP FUNCTION app.say(int)',
			'DROP FUNCTION app.said(int)', 'ALTER FUNCTION app.said(int) RENAME TO unsaid', 'ALTER FUNCTION app.unsaid(int) RENAME TO said',
			'DROP OWNED BY oracle_owner CASCADE; GRANT USAGE, CREATE ON SCHEMA app, app2 TO oracle_owner');
	},
	expression => sub {
		my ($s) = @_;
		my $t = _table($s) // return;
		my ($c) = grep { $_->[2] } @{ $s->{tables}{$t}{columns} };
		return $c ? "ALTER TABLE $t ALTER COLUMN $c->[0] DROP EXPRESSION" : undef;
	},
	deferred => sub {
		my ($s) = @_;
		my $t = $s->table('r') // return;
		my $write = $OracleStatements::Writes::kinds{update}->($s) // return;
		return if $write =~ /\Q$t\E\b/;
		my $n = $s->new_name('late');
		return "CREATE FUNCTION app.$n() RETURNS trigger LANGUAGE plpgsql AS \$f\$ BEGIN IF coalesce(current_setting('oracle.late', true), '') = '' "
		  . "THEN PERFORM set_config('oracle.late', 'x', true); $write; END IF; RETURN NULL; END \$f\$; CREATE CONSTRAINT TRIGGER $n AFTER INSERT OR UPDATE ON $t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.$n()";
	},
	foreign_key => sub {
		my ($s) = @_;
		my ($t, $o) = ($s->table('r', sub { !$_[0]{is_partition} }), $s->table('r', sub { $_[0]{unique} && $_[0]{name} !~ /\.p/ }));
		return unless defined $t && defined $o && $t ne $o && $s->has($t, 'a') && $s->has($o, 'id');
		return "UPDATE $t SET a = NULL WHERE a NOT IN (SELECT id FROM $o); ALTER TABLE $t ADD FOREIGN KEY (a) REFERENCES $o (id) ON UPDATE CASCADE ON DELETE "
		  . $s->pick('SET NULL', 'CASCADE', 'SET DEFAULT') . $s->pick('', ' DEFERRABLE INITIALLY DEFERRED');
	},
	replace_partition => sub {    # out and in, in one
		my ($s) = @_;
		my $t = $s->table('r', sub { $_[0]{is_partition} && $_[0]{name} =~ /\.p1$/ }) // return;
		my $parent = $s->{tables}{$t}{parents}[0];
		my $n = $s->new_name('app.p_');
		return "CREATE TABLE $n (LIKE $t INCLUDING ALL); INSERT INTO $n (id, a) VALUES (" . $s->id . ", 1); ALTER TABLE $parent DETACH PARTITION $t; "
		  . "ALTER TABLE $parent ATTACH PARTITION $n FOR VALUES IN (1, 2)";
	},
	gap_drop_trigger => sub {
		my ($s) = @_;
		return unless $s->{rare}{gap};
		my $do = $s->pick('DROP TRIGGER %2$I ON %1$s', 'ALTER TABLE %1$s DISABLE TRIGGER %2$I', 'ALTER TABLE %1$s ENABLE TRIGGER %2$I',
			'ALTER TABLE %1$s ENABLE REPLICA TRIGGER %2$I', 'ALTER TABLE %1$s ENABLE ALWAYS TRIGGER %2$I', 'ALTER TRIGGER %2$I ON %1$s RENAME TO renamed');
		# Who drops the last trigger of a rule takes the whole rule away, as detach() does; a foreign table has only one before 16.
		my $which = $do =~ /DROP/ ? 'WHERE (SELECT count(*) FROM cache_aside.rule_triggers o WHERE (o.relation, o.rule) = (t.relation, t.rule)) > 1 ' : '';
		return "DO \$\$ DECLARE do_it text; BEGIN SELECT format(\$f\$$do\$f\$, relation, trigger) INTO do_it FROM cache_aside.rule_triggers t $which"
		  . "ORDER BY relation::text, trigger OFFSET " . int(rand 6) . ' LIMIT 1; IF do_it IS NOT NULL THEN EXECUTE do_it; END IF; END $$';
	},
	foreign => sub {
		my ($s) = @_;
		my $t = $s->table('f') // return;
		return $s->pick("ALTER FOREIGN TABLE $t OPTIONS (ADD fetch_size '10')", "ALTER FOREIGN TABLE $t OPTIONS (DROP fetch_size)", "ALTER FOREIGN TABLE $t ALTER a OPTIONS (ADD column_name 'id')",
			"ALTER FOREIGN TABLE $t ALTER a OPTIONS (DROP column_name)", "ALTER SERVER loop OPTIONS (ADD fetch_size '7')", 'ALTER SERVER loop OPTIONS (DROP fetch_size)');
	},
	detach_partition => sub {
		my ($s) = @_;
		my $t = $s->table('rpf', sub { $_[0]{is_partition} }) // return;
		my $parent = $s->{tables}{$t}{parents}[0];
		return "ALTER TABLE $parent DETACH PARTITION $t" . $s->pick('', '', ' CONCURRENTLY');
	},
	attach_partition => sub {
		my ($s) = @_;
		my $t = $s->table('rpf', sub { $_[0]{name} =~ ($s->{rare}{direct} ? qr/^app\.[pt]|ft$/ : qr/^app\.p|ft$/) && !$_[0]{is_partition} && !@{ $_[0]{parents} } }) // return;
		my $parent = $s->table('p', sub { $_[0]{name} ne $t }) // return;
		my $bound =
		  $s->{tables}{$parent}{key} =~ /LIST/
		  ? $s->pick('FOR VALUES IN (1, 2)', 'FOR VALUES IN (3, 4)', 'FOR VALUES IN (5)', 'DEFAULT', 'DEFAULT')
		  : $s->pick('FOR VALUES FROM (0) TO (4)', 'FOR VALUES FROM (4) TO (6)', 'DEFAULT', 'DEFAULT');
		return "ALTER TABLE $parent ATTACH PARTITION $t $bound";
	},
	make_partition => sub {
		my ($s) = @_;
		my $parent = $s->table('p') // return;
		my $n = $s->new_name('app.p_');
		my $bound = $s->{tables}{$parent}{key} =~ /LIST/ ? $s->pick('FOR VALUES IN (5)', 'FOR VALUES IN (6)', 'DEFAULT') : 'FOR VALUES FROM (4) TO (6)';
		return "CREATE TABLE $n PARTITION OF $parent $bound" . $s->pick('', '', ' PARTITION BY RANGE (id)');
	},
	load_partition => sub {    # filled first, attached then
		my ($s) = @_;
		my $parent = $s->table('p', sub { $_[0]{key} =~ /LIST/ }) // return;
		my $n = $s->new_name('app.p_');
		my $v = $s->pick(5, 6);
		return "CREATE TABLE $n (LIKE $parent INCLUDING ALL); INSERT INTO $n (id, a) VALUES (" . $s->id . ", $v), (" . $s->id
		  . ", $v); ALTER TABLE $parent ATTACH PARTITION $n FOR VALUES IN ($v)";
	},
	inherit => sub {
		my ($s) = @_;
		my $t = $s->table('r', sub { $_[0]{name} =~ /^app\.h/ && @{ $_[0]{parents} } }) // return;
		my $parent = $s->{tables}{$t}{parents}[0];
		return "ALTER TABLE $t NO INHERIT $parent";
	},
	inherit_again => sub {
		my ($s) = @_;
		my $t = $s->table('r', sub { $_[0]{name} =~ /^app\.h./ && !@{ $_[0]{parents} } }) // return;
		return "ALTER TABLE $t INHERIT " . $s->pick('app.h', 'app.h1');
	},
	drop => sub {
		my ($s) = @_;
		return unless $s->chance(0.3);
		my $t = $s->table('rpv') // return;
		my $what = $s->{tables}{$t}{kind} eq 'v' ? 'VIEW' : 'TABLE';
		return "DROP $what $t" . $s->pick('', ' CASCADE');
	},
	swap => sub {
		my ($s) = @_;
		my $t = $s->table('r', sub { !$_[0]{is_partition} && !@{ $_[0]{parents} } }) // return;
		return if $t =~ /_old/;
		my $short = $t =~ s/.*\.//r;
		my $n = $s->new_name('_');
		my @c = map { $_->[0] } $s->writable($t);
		return unless @c;
		my $c = join ', ', @c;
		return "CREATE TABLE ${t}_new$n (LIKE $t INCLUDING ALL); INSERT INTO ${t}_new$n ($c) SELECT $c FROM $t; ALTER TABLE $t RENAME TO ${short}_old$n; "
		  . "ALTER TABLE ${t}_new$n RENAME TO $short; " . $s->pick("SELECT cache_aside.attach_like('$t', '${t}_old$n')", "SELECT cache_aside.attach_like('$t', '${t}_old$n'); DROP TABLE ${t}_old$n CASCADE");
	},
	rename => sub {
		my ($s) = @_;
		my $t = $s->table('rpvm') // return;
		my $short = $t =~ s/.*\.//r;
		my $back = $short =~ s/_away\d+$//r;
		return "ALTER TABLE $t RENAME TO $back" if $back ne $short;
		return "ALTER TABLE $t RENAME TO $short" . $s->new_name('_away');
	},
	there_and_back => sub {
		my ($s) = @_;
		my $t = $s->table('rpvm') // return;
		my $short = $t =~ s/.*\.//r;
		my $write = ($OracleStatements::Writes::kinds{update}->($s) // return) =~ s/\Q$t\E\b/app.elsewhere/gr;
		return $s->pick("ALTER TABLE $t RENAME TO elsewhere; $write; ALTER TABLE app.elsewhere RENAME TO $short",
			"ALTER TABLE $t SET SCHEMA app2; ALTER TABLE app2.$short SET SCHEMA app",
			'ALTER SCHEMA app RENAME TO app3; ALTER SCHEMA app3 RENAME TO app');
	},
	owner => sub {
		my ($s) = @_;
		return unless $s->{rare}{roles};
		my $t = $s->table('rp') // return;
		return "ALTER TABLE $t OWNER TO " . $s->pick('oracle_owner', 'postgres');
	},
	row_security => sub {
		my ($s) = @_;
		return unless $s->{rare}{roles};
		my $t = $s->table('rp') // return;
		return $s->pick("ALTER TABLE $t ENABLE ROW LEVEL SECURITY", "ALTER TABLE $t DISABLE ROW LEVEL SECURITY",
			"CREATE POLICY some ON $t USING (id > 2)");
	},
	before_trigger => sub {
		my ($s) = @_;
		my $t = $s->table('rp', sub { $_[0]{name} =~ /\.[tphu]/ }) // return;
		return unless $s->has($t, 'a');
		return "CREATE OR REPLACE FUNCTION app.nudge() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.a := NEW.a % 4 + 1; RETURN NEW; END'; "
		  . "CREATE OR REPLACE TRIGGER nudge BEFORE INSERT OR UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION app.nudge()";
	},
	after_trigger => sub {
		my ($s) = @_;
		my $t = $s->table('r') // return;
		my $write = $OracleStatements::Writes::kinds{update}->($s) // return;
		return if $write =~ /\Q$t\E\b/ || $t =~ /app\.[pf]/;
		return "CREATE OR REPLACE FUNCTION app.follow() RETURNS trigger LANGUAGE plpgsql AS \$f\$ BEGIN IF pg_trigger_depth() < 2 THEN $write; END IF; RETURN NULL; END \$f\$; "
		  . "CREATE OR REPLACE TRIGGER zz_follow AFTER UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION app.follow()";
	},
	versioning => sub {
		my ($s) = @_;
		my $t = _table($s) // return;
		return $s->has($t, 'version')
		  ? $s->pick("SELECT cache_aside.disable_versioning('$t', true)", "SELECT cache_aside.disable_versioning('$t')")
		  : "SELECT cache_aside.enable_versioning('$t'" . $s->pick('', ", presents => 'read'", ", start => 'sequence'", ", columns => '{id}'") . ')';
	},
	gap_trigger => sub {
		my ($s) = @_;
		return unless $s->{rare}{gap};
		my $t = $s->table('rp') // return;
		my $do = $s->pick('DISABLE TRIGGER ALL', 'ENABLE TRIGGER ALL', 'DISABLE TRIGGER USER', 'ENABLE TRIGGER USER');
		return "ALTER TABLE $t $do";
	},
	gap_swap => sub {
		my ($s) = @_;
		return unless $s->{rare}{gap};
		my $sql = $kinds{swap}->($s) // return;
		return $sql =~ s/SELECT cache_aside.attach_like[^;]*(; )?//r;
	},
	gap_child => sub {
		my ($s) = @_;
		return unless $s->{rare}{gap};
		my $t = $s->table('r', sub { $_[0]{name} =~ /^app\.[hu]/ }) // return;
		return 'CREATE TABLE ' . $s->new_name('app.h_') . " () INHERITS ($t)";
	});
1;
