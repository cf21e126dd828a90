# No statement that writes may come back read-only, and none that a standby refuses. The judges are PostgreSQL
# in a read-only transaction and a real hot standby: what classify() lets through is executed on both, and
# must never fail with 25006, "cannot execute ... in a read-only transaction", nor, on the standby only, with
# 55000, 0A000 or 25001 ("... during recovery" has several codes), nor otherwise say "recovery".
#
# Judged are all statements of PostgreSQL's own regression inputs where they can be had (no binary package of
# Debian has them; CACHE_ASIDE_PG_SOURCE names a source tree), always those of the SQL scripts the server
# itself was made with, and a SELECT from each system view. The standby has replayed what stood before the
# statement; what a session made for itself alone (temporary tables, SET, PREPARE) it lacks, and errors
# such as 42P01 are not held against the answer. dblink carries a statement over; without it in the
# server's packages, the system views alone go there.
#
# Begun early: it takes long.
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $nowhere = "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\nlog_statement = none\n"
  . "log_min_messages = panic\nlog_min_error_statement = panic\n";
my $node = CacheAside->new_node('main', conf => $nowhere);
my $standby = CacheAside->new_standby('standby', $node, conf => $nowhere);
my $has_dblink = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'dblink'});
$node->safe_psql('postgres', 'CREATE SCHEMA oracle');
$node->safe_psql('postgres', 'CREATE EXTENSION dblink SCHEMA oracle') if $has_dblink;

# Statements of a psql script, without psql's own commands and the data of COPY.
sub statements
{
	my ($text) = @_;
	my (@list, $now);
	$now = '';
	my $atomic = 0;
	pos($text) = 0;
	while (pos($text) < length $text)
	{
		if ($text =~ /\G--[^\n]*/gc) { }
		elsif ($text =~ m{\G/\*}gc)
		{
			my $depth = 1;
			$depth += $1 eq '/*' ? 1 : -1 while $depth && $text =~ m{\G.*?(/\*|\*/)}gcs;
			$now .= ' ';
		}
		elsif ($text =~ /\G([eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*")/gcs) { $now .= $1; }
		elsif ($text =~ /\G(\$(?:[A-Za-z_]\w*)?\$)/gc)
		{
			my $tag = quotemeta $1;
			$now .= $1 . ($text =~ /\G(.*?$tag)/gcs ? $1 : '');
		}
		elsif ($text =~ /\G\\[^\n]*/gc || ($text =~ /\G;/gc && !$atomic))
		{
			push @list, $now if $now =~ /\S/;
			$text =~ /\G.*?^\\\.$/gcms if $now =~ /^\s*copy\b.*\bfrom\s+stdin\b/is;
			$now = '';
			$atomic = 0;
		}
		elsif ($text =~ /\G(begin\s+atomic|case|end)\b/gci)
		{
			my $word = lc $1;
			$now .= $1;
			if ($word =~ /atomic/) { $atomic = 1; }
			elsif ($atomic) { $atomic += $word eq 'case' ? 1 : -1; }
		}
		elsif ($text =~ /\G(\w+|\s+|.)/gcs) { $now .= substr($text, $-[0], 1) eq ';' ? '; ' : $1; }
	}
	push @list, $now if $now =~ /\S/;
	return @list;
}

my $functions = q{
	CREATE TABLE oracle.statement (n serial PRIMARY KEY, source text, query text, verdict text);
	-- How a standby that has replayed everything answers: 'reads', or why not. The statement goes in an EXECUTE
	-- of DO, so that its rows go nowhere; COPY and transactions are left out. What was committed is flushed; what
	-- is not flushed has not been sent, and would be waited for in vain.
	CREATE FUNCTION oracle.on_standby(query text) RETURNS text LANGUAGE plpgsql AS $function$
	DECLARE
		here pg_catalog.pg_lsn := pg_catalog.pg_current_wal_flush_lsn();
		state text;
		message text;
	BEGIN
		IF NOT ('standby' OPERATOR(pg_catalog.=) ANY (coalesce(oracle.dblink_get_connections(), '{}'))) THEN
			PERFORM oracle.dblink_connect('standby', 'STANDBY');
		END IF;
		FOR i IN 1..2000 LOOP
			EXIT WHEN (SELECT done FROM oracle.dblink('standby', pg_catalog.format('SELECT pg_catalog.pg_last_wal_replay_lsn() >= %L', here))
				AS (done boolean));
			PERFORM pg_catalog.pg_sleep(0.005);
		END LOOP;
		PERFORM oracle.dblink_exec('standby', pg_catalog.format('SET search_path = %s', pg_catalog.current_setting('search_path')));
		PERFORM oracle.dblink_exec('standby', pg_catalog.format('DO $oracle_do$ BEGIN EXECUTE %L; END $oracle_do$', query));
		RETURN 'reads';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
		RETURN CASE WHEN state IN ('25006', '55000', '0A000', '25001') OR message ~ 'recovery'
			THEN 'REFUSED by the standby: ' ELSE 'fails ' END OPERATOR(pg_catalog.||) state
			OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) message;
	END $function$;
	CREATE PROCEDURE oracle.judge(wanted text, ask_standby boolean) LANGUAGE plpgsql AS $procedure$
	DECLARE
		s record;
		answer boolean;
		outcome text;
	BEGIN
		FOR s IN SELECT n, query FROM oracle.statement WHERE source OPERATOR(pg_catalog.=) wanted ORDER BY n
		LOOP
			RESET SESSION AUTHORIZATION;
			outcome := 'ok';
			BEGIN
				answer := cache_aside.is_read_only(s.query);
			EXCEPTION WHEN OTHERS THEN
				answer := NULL;
				outcome := 'classify: ' OPERATOR(pg_catalog.||) SQLSTATE OPERATOR(pg_catalog.||) ' '
					OPERATOR(pg_catalog.||) SQLERRM;
			END;
			IF answer THEN
				BEGIN
					PERFORM pg_catalog.set_config('transaction_read_only', 'on', true);
					EXECUTE s.query;
					RAISE SQLSTATE 'OK000';
				EXCEPTION
					WHEN SQLSTATE 'OK000' THEN outcome := 'reads';
					WHEN OTHERS THEN
						outcome := CASE SQLSTATE WHEN '25006' THEN 'WRITES ' OPERATOR(pg_catalog.||) SQLERRM ELSE 'fails' END;
				END;
				IF ask_standby AND outcome OPERATOR(pg_catalog.=) 'reads' AND s.query !~* '^\s*(copy|begin|start|commit|rollback|savepoint)' THEN
					outcome := oracle.on_standby(s.query);
				END IF;
			END IF;
			BEGIN
				EXECUTE s.query;
				SET CONSTRAINTS ALL IMMEDIATE;
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
			RESET SESSION AUTHORIZATION;
			SET default_transaction_read_only = off;
			SET statement_timeout = 0;
			UPDATE oracle.statement SET verdict = outcome WHERE n OPERATOR(pg_catalog.=) s.n;
			COMMIT;
		END LOOP;
	END $procedure$};
my $dsn = join ' ', 'host=' . $standby->host, 'port=' . $standby->port, 'dbname=postgres';
$functions =~ s/'STANDBY'/'$dsn'/;
$node->safe_psql('postgres', $functions);

sub judge
{
	my ($source, @list) = @_;
	my $tag = '$oracle$';
	my $sql = "CREATE TEMP TABLE incoming (n serial, q text);\n"
	  . join('', map { "INSERT INTO incoming (q) VALUES ($tag$_$tag);\n" } grep { index($_, $tag) < 0 } @list)
	  . "INSERT INTO oracle.statement (source, query) SELECT '$source', q FROM incoming ORDER BY n;\n"
	  . "DROP TABLE incoming; SET standard_conforming_strings = on; SET statement_timeout = '120 s';\n"
	  . "CALL oracle.judge('$source', " . ($has_dblink ? 'true' : 'false') . ");\n";
	my ($status, $out, $err) = (0, '', '');
	$status = $node->psql('postgres', $sql, stdout => \$out, stderr => \$err, on_error_stop => 0);
	note "$source: " . ($err =~ /((?:ERROR|FATAL|PANIC|server closed)[^\n]*)/)[0] if $err =~ /FATAL|PANIC|server closed|judge/;
	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
	return;
}

sub verdicts
{
	my ($like) = @_;
	my $counts = $node->safe_psql('postgres', qq{SELECT coalesce(split_part(verdict, ':', 1), 'not reached') || ' ' || count(*)
		FROM (SELECT CASE WHEN verdict ~ '^(WRITES|REFUSED|fails)' THEN pg_catalog.substring(verdict, '^[a-zA-Z]+') ELSE verdict END AS verdict
			FROM oracle.statement WHERE source LIKE '$like') s GROUP BY split_part(verdict, ':', 1), verdict IS NULL ORDER BY 1});
	note "$like: " . join ', ', split /\n/, $counts;
	is($node->safe_psql('postgres', qq{SELECT source || ': ' || query || ' -- ' || verdict FROM oracle.statement
			WHERE source LIKE '$like' AND verdict LIKE 'WRITES%'}), '', "$like: nothing that writes was let through");
	is($node->safe_psql('postgres', qq{SELECT source || ': ' || query || ' -- ' || verdict FROM oracle.statement
			WHERE source LIKE '$like' AND verdict LIKE 'REFUSED%'}), '', "$like: nor what a standby refuses");
	is($node->safe_psql('postgres', qq{SELECT source || ': ' || query || ' -- ' || verdict FROM oracle.statement
			WHERE source LIKE '$like' AND verdict LIKE 'classify: XX%'}), '', "$like: no internal error");
	return;
}

# The scripts at hand.
my $share = `pg_config --sharedir`;
chomp $share;
foreach my $file (glob("$share/*.sql"))
{
	my ($name) = $file =~ m{([^/]+)$};
	judge("script $name", statements(slurp_file($file)));
}
verdicts('script %');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM oracle.statement}), '>', 300, 'there were some');

# Each system view, and the same on a standby.
my @views = split /\n/, $node->safe_psql('postgres', q{SELECT 'SELECT * FROM ' || oid::regclass FROM pg_class
	WHERE relkind = 'v' AND relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1});
judge('views', @views);
verdicts('views');
$node->wait_for_catchup($standby);
my $reads = $node->safe_psql('postgres', q{SELECT count(*) FROM oracle.statement WHERE source = 'views' AND verdict = 'reads'});
cmp_ok($reads, '>', 100, "$reads views are read-only");
my $there = PgWire->new($standby);
my @failed = grep { $there->query($_, may_fail => 1)->{error} }
  split /\n/, $node->safe_psql('postgres', q{SELECT query FROM oracle.statement WHERE source = 'views' AND verdict = 'reads'});
is_deeply(\@failed, [], '... and a hot standby answers them all');
is($standby->safe_psql('postgres', q{WITH reads AS MATERIALIZED (
		SELECT query FROM oracle.statement WHERE source = 'views' AND verdict = 'reads')
	SELECT count(*) FROM reads WHERE NOT cache_aside.is_read_only(query)}), 0, 'a standby classifies them as well');

SKIP:
{
	my $inputs = ($ENV{CACHE_ASIDE_PG_SOURCE} // '') . '/src/test/regress';
	my ($packaged) = grep { -d "$_/sql" } map { chomp; "$_/../.." . '/src/test/regress' } `dirname \$(pg_config --pgxs)`;
	$inputs = $packaged if $packaged;
	skip "PostgreSQL's regression inputs are in no package here; CACHE_ASIDE_PG_SOURCE=/path/to/source has them", 2 unless -f "$inputs/parallel_schedule";
	my @tests = map { /^test:\s*(.*)/ ? split(' ', $1) : () } split /\n/, slurp_file("$inputs/parallel_schedule");
	$node->safe_psql('postgres', 'SET client_min_messages = error; DROP EXTENSION cache_aside; CREATE EXTENSION cache_aside');
	judge("regress $_", statements(slurp_file("$inputs/sql/$_.sql"))) foreach grep { -f "$inputs/sql/$_.sql" } @tests;
	verdicts('regress %');
}

done_testing();
