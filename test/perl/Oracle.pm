
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

A sequence is 200 statements, by one session, that a seed decides. In between, also while the session's
transaction is open, the oracle looks: all is delivered; each key that stands in Redis must have the value that
a reader gets now; keys that do not stand are cached. It does not know how an invalidation comes about.

A rule that C<gaps> names is not looked at while it is named, and its keys are forgotten; nor is a key whose
row cannot be read (its table is away). A difference is run again in a fresh session that asks C<gaps> after every
statement: if one of them was named, nothing was missed unannounced.

A key that is gone although nothing was committed since the last look is wrong, too.

A statement that ends with an internal error (XX000) is a finding, too, and so is an error of C<gaps>.

=cut

package Oracle;

use strict;
use warnings;

use OraclePublisher;
use OracleRules qw(keys_of);
use OracleSequence;
use OracleSession;
use PgServer;
use RedisServer;

our $statements = 200;

# Gaps that are no excuse: the rule deletes more, not less.
my $excuse = join '|', '^trigger \S+ is disabled', 'fires for replicated changes only', 'does not fire for replicated',
  'inherits from .* whose rule', 'no trigger fires on', 'which kept the rule', 'name of one that was dropped', 'above fire no statement',
  'logical replication fires no';
# Core's own error that has no SQLSTATE.
my $usual = 'cannot rename trigger .* on table';
my $excuse_direct = 'writes that name a partition';
my $excuse_replica = 'every write but replicated ones';

my $state = <<'EOS';
PREPARE state AS
SELECT 'gap' AS kind, rule AS name, gap AS what FROM cache_aside.gaps
UNION ALL SELECT 'rule', name, NULL FROM cache_aside.rules
EOS

# The tables there are: what OracleStatements wants to know.
my $tree = <<'EOS';
PREPARE tree AS
SELECT n.nspname || '.' || c.relname, c.relkind, c.relispartition,
       ARRAY(SELECT i.inhparent::regclass FROM pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno),
       ARRAY(SELECT a.attname || ' ' || a.attgenerated::text || ' ' || format_type(a.atttypid, NULL) FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END,
       EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('app', 'app2', 'app3', 'rep') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
EOS

sub new
{
	my ($class, %args) = @_;
	my $self = bless { prefixes => [''], count => {}, %args }, $class;
	$self->{redis} = RedisServer->new->start;
	$self->{pg} = PgServer->new(
		redis => $self->{redis},
		conf => "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nautovacuum = off\n"
		  . "max_prepared_transactions = 10\nlock_timeout = '20ms'\nclient_min_messages = error\nlog_min_messages = log\n"
		  . "log_min_error_statement = panic\nlog_statement = none\nmax_wal_size = 4GB\nshared_buffers = 64MB\ncheckpoint_timeout = 1h\n"
		  . "cache_aside.scan_rate = 0\n"
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
	$self->{publisher} = OraclePublisher->new($self->{pg}, $self->{reader}) if $self->{replication};
	return $self;
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
	my $writer = delete $self->{writer};
	$writer->run('ROLLBACK') if $writer;
	$self->{reader}->run(map { "ROLLBACK PREPARED '$_->[0]'" } $self->{reader}->rows('SELECT gid FROM pg_prepared_xacts'));
	$writer = undef if $how{fresh} || ++$self->{age} % 20 == 0;
	$writer->close if !$writer && $self->{writer};
	if ($writer) { $writer->run('RESET SESSION AUTHORIZATION', 'DISCARD ALL'); }
	else { $writer = OracleSession->connect($self->{pg}); }
	$self->{reader}->run('DROP SCHEMA IF EXISTS app, app2, app3 CASCADE',
		'DELETE FROM cache_aside.lost_rule; DELETE FROM cache_aside.stray_pattern');
	$self->{publisher}->reset if delete $self->{published};
	$self->_vacuum if $self->{age} % 50 == 0;
	$self->{reader}->rows('SELECT cache_aside.wait_delivered()');
	my @keys = map { $self->_keys($_) } @{ $self->{classes} // [] };
	$self->{cache}->command('DEL', map { $_->[1] } @keys) if @keys;
	$writer->rows($_) foreach $state, $tree;
	@$self{qw(writer classes locks prepared ops done state effect)} = ($writer, [], 0, {}, [], [], 'I', 1);
	$self->{levels} = [ { name => '', count => 0 } ];
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

# ---- operations: { sql => text }, { sql, class => ... }, { sql, published => 1 }, { look => 1 } ----

my $plain = qr/\A(INSERT|UPDATE|DELETE|MERGE|COPY|WITH|SELECT \*|SAVEPOINT|RELEASE|ROLLBACK TO|BEGIN|SET|PREPARE q)/;

sub is_plain { return $_[0] =~ $plain && $_[0] !~ /TRUNCATE|ALTER /; }

# Runs them, all but the last plain statements that change nothing of what comes next, in one go.
sub execute
{
	my ($self, @ops) = @_;
	return $self->_publish(@ops) if $ops[0]{published};
	my @results = $self->{writer}->run(map { $_->{sql} } @ops);
	foreach my $op (@ops)
	{
		my $result = shift @results;
		$op->{error} = $result->{error};
		$self->{count}{statements}++;
		$self->{count}{errors}++ if $result->{error};
		push @{ $self->{done} }, $op;
		$self->_broken($op, $result->{error}) if ($result->{error} // '') =~ /\(XX...\)$/ && $result->{error} !~ /$usual/;
		$self->_after($op);
	}
	return;
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
	my $sql = $op->{sql};
	my $ends = $sql =~ /\A(COMMIT|ROLLBACK|PREPARE TRANSACTION)/;
	$self->{locks} = 1 unless $ends || is_plain($sql);
	$self->{changed} = 1 if $self->{locks} || $sql =~ /PREPARED/;
	$self->_note_effect($op);
	push @{ $self->{classes} }, { %{ $op->{class} }, cached => {} } if $op->{class} && !$op->{error};
	$self->_retire_detached($sql);
	$self->{locks} = 0 if $self->{writer}{in} eq 'I';
	return;
}

# May anything have been committed since the last look? In the levels of the open transaction, from its
# savepoints on: how many statements had no error.
sub _note_effect
{
	my ($self, $op) = @_;
	my $sql = $op->{sql};
	my $levels = $self->{levels};
	my ($was, $is) = ($self->{state}, $self->{writer}{in});
	$self->{state} = $is;
	if ($op->{error}) { $self->{effect} = 1 if $sql =~ /CONCURRENTLY|VACUUM|\bCOMMIT;/; }
	elsif ($sql =~ /\A(?:COMMIT|ROLLBACK) PREPARED '(.*)'/)
	{
		my $prepared = delete $self->{prepared}{$1};
		$self->{effect} = 1 if $prepared && $prepared->{count} && $sql =~ /\ACOMMIT/;
	}
	elsif ($is eq 'I')
	{
		my $count = 0;
		$count += $_->{count} foreach @$levels;
		if ($was eq 'I') { $self->{effect} = 1; }
		elsif ($was eq 'T' && $sql =~ /\APREPARE TRANSACTION '(.*)'/) { $self->{prepared}{$1} = { locks => $self->{locks}, count => $count }; }
		elsif ($was eq 'T' && $sql !~ /\AROLLBACK/) { $self->{effect} = 1 if $count; }
	}
	elsif ($sql =~ /\ASAVEPOINT (.*)/) { push @$levels, { name => $1, count => 0 }; }
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
	elsif ($sql !~ /\ABEGIN/) { $levels->[-1]{count}++; }
	$self->{levels} = [ { name => '', count => 0 } ] if $is eq 'I';
	return;
}

# Whoever detaches a rule, unless it is made anew at once, or moves it to another table, is left alone with its keys.
sub _retire_detached
{
	my ($self, $sql) = @_;
	my %moved = map { ($_ => 1) } $sql =~ /cache_aside\.attach_like\('[^']*', '([^']*)'\)/g;
	my %gone = $sql =~ /cache_aside\.attach/ ? () : map { ($_ => 1) } $sql =~ /cache_aside\.detach\('[^']*', '([^']*)'\)/g;
	my %less = $sql =~ /cache_aside\.attach\('[^']*', '([^']*)', columns => '(?!\{(?:\w+,)*b[,}])([^']*)'/ ? ($1 => 1) : ();    # b was dropped
	foreach my $class (@{ $self->{classes} })
	{
		next unless $moved{ $class->{table} } || grep { $gone{$_} || $less{$_} && $class->{kind} =~ /columns|by_hand/ } @{ $class->{rules} };
		$class->{retired} = 1;
		$self->_forget($class);
	}
	return;
}

# Keys of a class, without and with each prefix.
sub _keys
{
	my ($self, $class) = @_;
	return map { my $prefix = $_; map { [ $_, "$prefix$_" ] } keys_of($class) } @{ $self->{prefixes} };
}

sub _forget
{
	my ($self, $class) = @_;
	my @keys = keys %{ $class->{cached} };
	$self->{cache}->command('DEL', @keys) if @keys;
	$class->{cached} = {};
	return;
}

sub _broken
{
	my ($self, $op, $error) = @_;
	$self->{broken} //= { what => "error $error", class => '', at => scalar @{ $self->{done} } };
	return;
}

# Can a reader look without being held up?
sub can_look
{
	my ($self) = @_;
	return 0 if $self->{published} && ($self->{writer}{in} ne 'I' || %{ $self->{prepared} });
	return !($self->{locks} && $self->{writer}{in} ne 'I') && !grep { $_->{locks} } values %{ $self->{prepared} };
}

# ---- looking ----

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
		$class->{born} = 1 unless grep { !$rule{$_} } @{ $class->{rules} };
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

# Compares and caches; returns what is wrong, or undef.
sub look
{
	my ($self) = @_;
	push @{ $self->{done} }, { look => 1 };
	return undef unless $self->can_look;
	$self->{publisher}->wait if $self->{published};
	my @classes = grep { !$_->{retired} } @{ $self->{classes} };
	my ($delivered, $gaps, @read) = $self->{reader}->run('SELECT cache_aside.wait_delivered()',
		$self->{changed} ? 'EXECUTE state' : 'SELECT', map { $_->{query} } @classes);
	die "not delivered\n" unless ($delivered->{rows}[0][0] // '') eq 't';
	return { what => "gaps fails: $gaps->{error}", class => '', at => scalar @{ $self->{done} } } if $gaps->{error};
	$self->_see_gaps(@{ $gaps->{rows} }) if $self->{changed};
	$self->{changed} = 0;
	my @able;
	foreach my $class (@classes)
	{
		my $values = shift @read;
		next if $class->{gap} || !$class->{born} || $values->{error};
		my %now = map { ($_->[0] => $_->[1]) } @{ $values->{rows} };
		push @able, [ $class, @$_, $now{ $_->[0] } // 'absent' ] foreach $self->_keys($class);
	}
	return $self->_compare(@able);
}

sub _compare
{
	my ($self, @able) = @_;
	return undef unless @able;
	my $cached = $self->{cache}->command('MGET', map { $_->[2] } @able);
	my ($wrong, @set);
	foreach my $i (0 .. $#able)
	{
		my ($class, $key, $whole, $now) = @{ $able[$i] };
		if (!defined $cached->[$i])
		{
			$wrong //= { what => 'deleted, though nothing was committed', class => $class, key => $key, at => scalar @{ $self->{done} } }
			  if $class->{cached}{$whole} && !$self->{effect};
			push @set, $whole, $now;
			$class->{cached}{$whole} = 1;
		}
		elsif ($cached->[$i] ne $now)
		{
			$wrong //= { what => 'stale', class => $class, key => $key, cached => $cached->[$i], now => $now, at => scalar @{ $self->{done} } };
		}
	}
	$self->{count}{compared} += @able - @set / 2;
	$self->{count}{cached} += @set / 2;
	$self->{cache}->command('MSET', @set) if @set;
	$self->{effect} = 0;
	return $wrong;
}

# ---- whole sequences ----

# undef, or what was found; the operations that led to it are in it.
sub sequence
{
	my ($self, $seed) = @_;
	$self->begin;
	my $sequence = OracleSequence->new($self, $seed);
	$self->{direct} = $sequence->{statements}{rare}{direct};
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
	my @end = $self->{writer}{in} eq 'I' ? () : ('COMMIT');
	push @end, map { "COMMIT PREPARED '$_'" } sort keys %{ $self->{prepared} };
	foreach my $sql (@end)
	{
		$self->execute({ sql => $sql });
		$self->sample if $how{sample};
	}
	return delete $self->{broken} // $self->look;
}

# What OracleStatements has to know.
sub tables
{
	my ($self) = @_;
	my %tables;
	my ($result) = $self->{writer}->run('EXECUTE tree');    # it may wait for a prepared transaction
	return undef if $result->{error};
	foreach my $row (grep { $_->[0] ne 'app.far' } @{ $result->{rows} })    # written only through the foreign table
	{
		my ($name, $kind, $is_partition, $parents, $columns, $key, $unique) = @$row;
		my @parents = map { s/"//gr } grep { length } split /,/, $parents =~ tr/{}//dr;
		my @columns = map { [ /^(\S+) (\S?) (.*)$/ ] } grep { length } split /,/, $columns =~ tr/{}"//dr;
		$tables{$name} = { name => $name, kind => $kind, is_partition => $is_partition eq 't', parents => \@parents,
			columns => [ map { [ $_->[0], $_->[2], $_->[1] ] } @columns ], key => $key // '', unique => $unique eq 't' };
	}
	return \%tables;
}

1;
