
=pod

=head1 NAME

Oracle - random DDL and DML over tables with rules, and whether every key of a row that changed is gone

=head1 SYNOPSIS

  my $oracle = Oracle->new(conf => "...", prefixes => ['a:', 'b:'], replication => 1);    # or nothing
  my $found = $oracle->sequence(7);                # undef, or what is wrong: a hash
  print OracleShrink->new($oracle)->script($found);
  $oracle->{count};                                # sequences, statements, compared, ...
  $oracle->{always} = ['merge', 'savepoints'];     # statements, rules, tables that no sequence goes without

=head1 DESCRIPTION

A sequence is 200 statements that a seed decides: by one session, in some sequences by two whose transactions
interleave. In some a client of the cache reads under tokens and stores much later (OracleFills). In between, also
while transactions are open, the oracle looks: all is delivered; each key that stands in Redis must have the value that
a reader gets now; keys that do not stand are cached. It does not know how an invalidation comes about.

A rule that C<gaps> names when it is asked is not looked at while it is named, and its keys are forgotten; nor is a
key looked at whose row cannot be read (its table is away). A difference is run again in a fresh session, in schemas
made anew, that asks C<gaps> after every statement: if one of them was named, nothing was missed unannounced.

A key that is gone although nothing was committed since the last look is wrong, too.

A statement that ends with an internal error (XX000) is a finding, too, and so is an error of C<gaps>.

=cut

package Oracle;

use strict;
use warnings;

use Digest::MD5 'md5_hex';
use OracleFills;
use OracleLook;
use OraclePublisher;
use OracleRules 'schemas';
use OracleSequence;
use OracleSession;
use OracleTransaction;
use PgServer;
use RedisServer;

our @ISA = ('OracleLook');
our $statements = 200;

# Core's own errors that have no SQLSTATE. The second: a function's statement is not planned anew when a type that it
# names is dropped (app.follow).
my $usual = 'cannot rename trigger .* on table';
my $usual_of_dropped = 'cache lookup failed for type';

my $state = <<'EOS';
PREPARE state AS
SELECT 'gap' AS kind, rule AS name, gap AS what, remedy FROM cache_aside.gaps
UNION ALL SELECT 'rule', name, NULL, NULL FROM cache_aside.rules
EOS

# Away with whatever is in the schemas, but not with them: a schema that is made or dropped costs everybody the plans.
my $clear = <<'EOS';
DO $$
DECLARE
	drop_it text;
BEGIN
	FOR drop_it IN
		WITH home AS (SELECT oid FROM pg_namespace WHERE nspname IN ('app', 'app2'))
		SELECT format('DROP %s IF EXISTS %s CASCADE', kind, string_agg(name, ', ')) FROM (
			SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
				oid::regclass::text FROM pg_class WHERE relnamespace IN (TABLE home) AND relkind IN ('r', 'p', 'v', 'm', 'f')
			UNION ALL SELECT 'ROUTINE', oid::regprocedure::text FROM pg_proc WHERE pronamespace IN (TABLE home)
			UNION ALL SELECT CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, t.oid::regtype::text
				FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
				WHERE typnamespace IN (TABLE home) AND (typtype IN ('e', 'd') OR c.relkind = 'c')) x (kind, name)
		GROUP BY kind ORDER BY kind = 'TABLE' DESC, kind <> 'VIEW', kind
	LOOP
		EXECUTE drop_it;
	END LOOP;
END $$
EOS

# The tables there are: what OracleStatements wants to know.
my $tree = <<'EOS';
PREPARE tree AS
SELECT n.nspname || '.' || c.relname, c.relkind, c.relispartition,
       ARRAY(SELECT i.inhparent::regclass FROM pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno),
       ARRAY(SELECT a.attname || ' ' || a.attgenerated::text || ' ' || format_type(a.atttypid, NULL) FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) ELSE '' END,
       EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('app', 'app2', 'app3', 'rep') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
EOS

sub new
{
	my ($class, %args) = @_;
	my $self = bless { prefixes => [''], count => {}, %args }, $class;
	local $ENV{TMPDIR} = _memory() // $ENV{TMPDIR};
	$self->{redis} = RedisServer->new->start;
	$self->{guard} = (RedisServer->version)[0] >= 7;
	$self->{pg} = PgServer->new(
		redis => $self->{redis},
		conf => "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nautovacuum = off\n"
		  . "max_prepared_transactions = 10\nlock_timeout = '20ms'\nclient_min_messages = error\nlog_min_messages = log\n"
		  . "log_min_error_statement = panic\nlog_statement = none\nmax_wal_size = 256MB\nshared_buffers = 64MB\ncheckpoint_timeout = 1h\n"
		  . "track_counts = off\nupdate_process_title = off\njit = off\n"
		  . "cache_aside.scan_rate = 0\ncache_aside.max_wal_retained = '256MB'\n"
		  . "cache_aside.key_prefix = '" . join(',', @{ $self->{prefixes} }) . "'\n"
		  . ($args{replication} ? "wal_level = logical\nwal_retrieve_retry_interval = '10ms'\n" : '')
		  . ($args{conf} // ''))->start;
	my $first = OracleSession->connect($self->{pg});
	$first->rows($_) foreach 'CREATE ROLE oracle_owner', 'CREATE ROLE oracle_writer', 'CREATE EXTENSION cache_aside';
	$self->{foreign} = $first->value(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'});
	$first->rows($_) foreach $self->{foreign} ? _foreign_server($self->{pg}) : ();
	$self->_reader;
	foreach (1 .. 3000)
	{
		last if $first->value('SELECT state FROM cache_aside.status') eq 'delivering';
		select undef, undef, undef, 0.01;
	}
	$self->{publisher} = OraclePublisher->new($self->{reader}) if $self->{replication};
	return $self;
}

# A sequence makes and drops some hundred files: a quarter of its time on a disk.
sub _memory
{
	my ($free) = map { /(\d+)/ } grep { /^tmpfs/ } `df --output=fstype,avail /dev/shm 2>/dev/null`;
	return ($free // 0) > 2_000_000 && -w '/dev/shm' ? '/dev/shm' : undef;
}

# For tables of this very database.
sub _foreign_server
{
	my ($pg) = @_;
	return ('CREATE EXTENSION postgres_fdw', "CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$pg->{dir}', port '$pg->{port}', dbname 'postgres')",
		q{CREATE USER MAPPING FOR PUBLIC SERVER loop OPTIONS (user 'postgres', password_required 'false')});
}

sub _reader
{
	my ($self) = @_;
	$self->{reader} = OracleSession->connect($self->{pg});
	$self->{reader}->rows($state);
	$self->{cache} = $self->{redis}->client;
	return;
}

# ---- a sequence begins ----

sub begin
{
	my ($self, %how) = @_;
	my $is_new = ++$self->{age} % 20 == 0 || $how{fresh};
	my ($writer, $second) = map { $self->_again($_, $is_new) } delete $self->{writer}, delete $self->{second} // $self->{spare};
	$self->{fills}->forget if $self->{fills};
	$self->{reader}->run(map { "ROLLBACK PREPARED '$_->[0]'" } $self->{reader}->rows('SELECT gid FROM pg_prepared_xacts'));
	$writer //= $self->_writer($how{fresh});
	$self->_clear($how{fresh});
	$self->{parsed} = {} if keys %{ $self->{parsed} } > 5000;
	$self->{publisher}->reset if delete $self->{published};
	$self->_vacuum if $self->{age} % 50 == 0;
	$self->{reader}->rows('SELECT cache_aside.wait_delivered()');
	my @keys = map { $self->_keys($_) } @{ $self->{classes} // [] };
	$self->{cache}->command('DEL', map { $_->[1] } @keys) if @keys;
	@$self{qw(classes prepared done effect)} = ([], {}, [], 1);
	$self->{writer} = $self->_writer_of_this($writer);
	$self->{spare} = $second;
	return;
}

# A session that wrote, as for the next sequence, or nothing.
sub _again
{
	my ($self, $session, $is_new) = @_;
	return undef unless $session;
	delete $session->{transaction};
	$session->run('ROLLBACK');
	if ($is_new)
	{
		$session->close;
		return undef;
	}
	$session->run('RESET SESSION AUTHORIZATION', 'RESET ALL', 'DEALLOCATE q', 'DISCARD TEMP');
	return $session;
}

# Only one that looks at gaps itself has to have read that large view.
sub _writer
{
	my ($self, $looks) = @_;
	my $writer = OracleSession->connect($self->{pg});
	$writer->rows($_) foreach $tree, $looks ? $state : ();
	return $writer;
}

sub _clear
{
	my ($self, $all) = @_;
	my $reader = $self->{reader};
	my @prepared = map { "DEALLOCATE $_->{name}" } grep { delete $_->{prepared} } @{ $self->{classes} // [] };
	my $changed = grep { ($_->{sql} // '') =~ /ALTER SCHEMA|DROP OWNED/ } @{ $self->{done} // [] };
	my ($left) = $all || $changed || !$self->{done} ? { error => 'as it comes' } : $reader->run($clear);
	$reader->run('DROP SCHEMA IF EXISTS app, app2, app3 CASCADE', schemas()) if $left->{error};
	$reader->run(@prepared, 'DELETE FROM cache_aside.lost_rule; DELETE FROM cache_aside.stray_pattern');
	return;
}

# Catalogs from which a thousand tables were dropped are slow to read.
sub _vacuum
{
	my ($self) = @_;
	$self->{reader}->run(map { "VACUUM pg_catalog.$_" } qw(pg_class pg_attribute pg_type pg_depend pg_trigger pg_inherits pg_index
		pg_constraint pg_shdepend pg_rewrite pg_attrdef pg_description pg_statistic pg_proc pg_enum pg_namespace));
	$self->{reader}->run('VACUUM cache_aside.lost_rule', 'VACUUM cache_aside.stray_pattern');
	return;
}

# ---- operations: { sql => text }, with class => what it makes, second => 1 or published => 1; { look => 1 }; { fill => how, of => names } ----

# Runs them, all but the last plain statements that change nothing of what comes next, in one go.
sub execute
{
	my ($self, @ops) = @_;
	return $self->_publish(@ops) if $ops[0]{published};
	return $self->_fill(@ops) if $ops[0]{fill};
	my $session = $ops[0]{second} ? $self->_second : $self->{writer};
	return $self->_executed(\@ops, $session->run(map { $_->{sql} } @ops));
}

# The same; returns what OracleStatements has to know then, or undef.
sub execute_and_see
{
	my ($self, @ops) = @_;
	my @results = $self->{writer}->run((map { $_->{sql} } @ops), 'EXECUTE tree');
	my $tree = pop @results;
	$self->_executed(\@ops, @results);
	return $self->_tables($tree);
}

sub _executed
{
	my ($self, $ops, @results) = @_;
	foreach my $op (@$ops)
	{
		my $result = shift @results;
		@$op{qw(error in)} = @$result{qw(error in)};
		$self->{count}{statements}++;
		$self->{count}{errors}++ if $result->{error};
		push @{ $self->{done} }, $op;
		$self->_broken($op, $result->{error}) if ($result->{error} // '') =~ /\(XX...\)$/ && !$self->_is_usual($result->{error});
		$self->_after($op);
	}
	return;
}

sub _is_usual
{
	my ($self, $error) = @_;
	return 1 if $error =~ /$usual/;
	return $error =~ /$usual_of_dropped/ && grep({ ($_->{sql} // '') =~ /FUNCTION app\.follow/ } @{ $self->{done} })
	  && grep({ ($_->{sql} // '') =~ /DROP TYPE/ } @{ $self->{done} });
}

# A statement of the database that is replicated to ours.
sub _publish
{
	my ($self, $op) = @_;
	$op->{error} = $self->{publisher}->run($op->{sql})->{error};
	$self->{count}{statements}++;
	push @{ $self->{done} }, $op;
	$self->{effect} = 1;
	return;
}

sub _after
{
	my ($self, $op) = @_;
	my $transaction = $self->_session($op)->{transaction};
	$self->{effect} = 1 if $transaction->note($op);
	$self->{changed} = 1 if $transaction->{changes};
	push @{ $self->{classes} }, { %{ $op->{class} }, cached => {} } if $op->{class} && !$op->{error};
	$self->_retire_detached($op->{sql});
	return;
}

sub _session { my ($self, $op) = @_; return $op->{second} ? $self->{second} : $self->{writer}; }

# Only some sequences have another session that writes.
sub _second
{
	my ($self) = @_;
	return $self->{second} //= $self->_writer_of_this(delete $self->{spare} // OracleSession->connect($self->{pg}));
}

sub _writer_of_this
{
	my ($self, $session) = @_;
	$session->{transaction} = OracleTransaction->new($self->{prepared});
	return $session;
}

# Read by a client of the cache, or stored.
sub _fill
{
	my ($self, $op) = @_;
	push @{ $self->{done} }, $op;
	return if $op->{fill} ne 'store' && !$self->can_look;
	my %of = map { $_ => 1 } @{ $op->{of} // [] };
	my @classes = grep { $of{ $_->{name} } && $_->{born} && !$_->{gap} && !$_->{retired} } @{ $self->{classes} };
	$self->_keys($_) foreach @classes;
	$self->{fills} //= OracleFills->new($self->{pg}, $self->{cache});
	$self->{fills}->do($op->{fill}, @classes);
	return;
}

# Whoever detaches a rule, unless it is made anew at once, or moves it to another table, is left alone with its keys;
# also where a view goes on reading the table that the rules were moved away from.
sub _retire_detached
{
	my ($self, $sql) = @_;
	return if index($sql, 'cache_aside.') < 0;
	my %moved = map { ($_ => 1) } $sql =~ /cache_aside\.attach_like\('[^']*', '([^']*)'\)/g;
	my $from_view = $sql =~ /cache_aside\.attach_like\('app\.f'/;
	my %gone = $sql =~ /cache_aside\.attach/ ? () : map { ($_ => 1) } $sql =~ /cache_aside\.detach\('[^']*', '([^']*)'\)/g;
	my %less = $sql =~ /cache_aside\.attach\('[^']*', '([^']*)', columns => '(?!\{(?:\w+,)*b[,}])([^']*)'/ ? ($1 => 1) : ();    # b was dropped
	foreach my $class (@{ $self->{classes} })
	{
		next unless $moved{ $class->{table} } || ($from_view && $class->{kind} eq 'view') || grep { $gone{$_} || $less{$_} && $class->{kind} =~ /columns|by_hand/ } @{ $class->{rules} };
		$class->{retired} = 1;
		$self->_forget($class);
	}
	return;
}

sub _broken
{
	my ($self, $op, $error) = @_;
	$self->{broken} //= { what => "error $error", class => '', at => scalar @{ $self->{done} } };
	return;
}

# What gaps says to run, one of it: always the same of the same. (The view is planned once, for all questions.)
sub remedy
{
	my ($self) = @_;
	my ($first) = sort { md5_hex($a) cmp md5_hex($b) } grep { defined } map { $_->[3] } $self->{reader}->rows('EXECUTE state');
	return $first;
}

# Can a reader look without being held up?
sub can_look
{
	my ($self) = @_;
	my @open = grep { $_->{in} ne 'I' } map { $_->{transaction} } grep { defined } @$self{qw(writer second)};
	return 0 if $self->{published} && (@open || %{ $self->{prepared} });
	return !grep { $_->{locks} } @open, values %{ $self->{prepared} };
}

# ---- whole sequences ----

# undef, or what was found; the operations that led to it are in it.
sub sequence
{
	my ($self, $seed) = @_;
	$self->begin;
	my $sequence = OracleSequence->new($self, $seed);
	$self->{direct} = $sequence->{statements}{rare}{direct};
	@$self{qw(asks looks)} = (0, 0);
	$self->{published} = $sequence->{may}{publish};
	$self->{replica} = $sequence->{statements}{allowed}{replica};
	my $found = $sequence->run($statements);
	$self->{count}{sequences}++;
	return undef unless $found;
	my @ops = @{ $self->{done} };
	my $again = $self->replay(\@ops, sample => 1);
	if (!$again)
	{
		my $excused = $self->replay(\@ops);
		$self->{count}{ $excused ? 'excused' : 'not repeated' }++;
		return undef if $excused;
		$found->{not_repeated} = 1;
	}
	return { %{ $again // $found }, ops => \@ops, seed => $seed, direct => $self->{direct} };
}

# The same operations again, in a fresh session.
sub replay
{
	my ($self, $ops, %how) = @_;
	$self->begin(fresh => 1);
	@$self{qw(asks looks)} = ($how{sample}, 0);
	$self->{published} = grep { $_->{published} } @$ops;
	$self->{replica} = grep { ($_->{sql} // '') =~ /session_replication_role/ } @$ops;
	delete $self->{broken};
	my $found;
	foreach my $op (@$ops)
	{
		if ($op->{look}) { $found = $self->look; }
		else
		{
			$self->execute({%$op});
			$self->sample if $how{sample};
			$found = delete $self->{broken};
		}
		return $found if $found;
	}
	return $self->finish(%how);
}

# Ends what is open, and looks a last time.
sub finish
{
	my ($self, %how) = @_;
	my @end = map { { sql => 'COMMIT', second => $_ } } grep { ($self->_session({ second => $_ }) // { in => 'I' })->{in} ne 'I' } 1, 0;
	push @end, map { { sql => "COMMIT PREPARED '$_'" } } sort keys %{ $self->{prepared} };
	push @end, { fill => 'store' } if $self->{fills} && @{ $self->{fills}{read} };
	foreach my $op (@end)
	{
		$self->execute($op);
		$self->sample if $how{sample};
	}
	return delete $self->{broken} // $self->look;
}

sub tables
{
	my ($self) = @_;
	return $self->_tables($self->{writer}->run('EXECUTE tree'));    # it may wait for a prepared transaction
}

sub _tables
{
	my ($self, $result) = @_;
	return undef if $result->{error};
	my @tables = map { $self->{parsed}{ join "\n", @$_ } //= _table(@$_) } @{ $result->{rows} };
	return { map { ($_->{name} => $_) } grep { $_->{name} ne 'app.far' } @tables };    # written only through the foreign table
}

sub _table
{
	my ($name, $kind, $is_partition, $parents, $columns, $key, $unique) = @_;
	my @parents = map { s/"//gr } grep { length } split /,/, $parents =~ tr/{}//dr;
	my @columns = map { [ /^(\S+) (\S?) (.*)$/ ] } grep { length } split /,/, $columns =~ tr/{}"//dr;
	return { name => $name, kind => $kind, is_partition => $is_partition eq 't', parents => \@parents,
		columns => [ map { [ $_->[0], $_->[2], $_->[1] ] } @columns ], key => $key, unique => $unique eq 't' };
}

1;
