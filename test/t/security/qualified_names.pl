
# Nothing in the extension's SQL takes its meaning from search_path: every operator, function, type
# and relation in the script's views, bodies, defaults and constraints, and in the SQL that the C
# files run, is written with its schema. IN, BETWEEN, LIKE, CASE x WHEN and the like are not used:
# their operator comes from the path. Each is stricter than needed rather than cleverer.
#
# Remedy: the qualified names of sql/cache_aside--*.sql and of src/; any one taken away fails here.

use strict;
use warnings;

use Test::More;

# Looks like a call, but is PostgreSQL's grammar.
my $grammar = join '|', qw(ALL AND ANY ARRAY AS BY CHECK COALESCE CONFLICT ELSE EXISTS FILTER FROM IF
  JOIN KEY LATERAL NOT ON OPERATOR OR OVER RECURSIVE RETURN ROW SELECT TABLE THEN UNIQUE VALUES WHEN WHERE);

sub unqualified
{
	my ($sql) = @_;
	my @found;
	push @found, "literal $1" while $sql =~ /'([^'.]*)'::pg_catalog\.reg/g;
	$sql =~ s{('(?:[^']|'')*')|--[^\n]*|/\*.*?\*/}{defined $1 ? "''" : ' '}gse;
	$sql =~ s/\$\d+|%1?\$?[sIL]|%\.17g/x.x/g;    # a parameter, or a name or literal made in C
	$sql =~ s/OPERATOR\s*\((?:pg_catalog|x\.x)\.[^)]+\)/,/g;
	$sql =~ s/\b(SET search_path) = pg_catalog, pg_temp\b/$1/g;
	$sql =~ s/(\bSET|,)(\s+[\w.]+) = /$1$2 /g if $sql =~ /^\s*(?:UPDATE\b|,)/;
	my %defined = map { lc $_ => 1 } $sql =~ /\b(\w+)\s*(?:\([\w\s,]*\))?\s+AS\s*(?:MATERIALIZED\s*)?\(\s*(?:SELECT|WITH|DELETE|x\.x)/g;

	push @found, "type $1" while $sql =~ /(?:::\s*|ADD COLUMN x\.x )(?!pg_catalog\.|x\.x|cache_aside\.)(\S+)/g;
	push @found, 'list in FROM' if $sql =~ /\bFROM\s+[\w.]+(?:\s+\w+)?\s*,/;
	push @found, "word $1" while $sql =~ /\b(CAST|IN|BETWEEN|I?LIKE|SIMILAR|NULLIF|OVERLAPS|NATURAL|USING|IS (?:NOT )?DISTINCT)\b/g;
	push @found, 'CASE with a value' if $sql =~ /\bCASE\s+(?!WHEN\b)/;
	while ($sql =~ /(?:\b(?:FROM|JOIN|INTO)|\bUPDATE(?= \S+ SET))\s+(?!LATERAL\b|PUBLIC\b|SELECT\b)(\w[\w."]*)(?!["\w.])/g)
	{
		push @found, "relation $1" unless $1 =~ /\./ || $defined{ lc $1 };
	}
	while ($sql =~ /(?<![\w."%])(\w+)\s*\(/g)
	{
		my ($name, $before) = ($1, substr($sql, 0, $-[1]));
		next if $name =~ /^(?:$grammar)$/ || $defined{ lc $name };
		next if $before =~ /(?:\)|\bAS|ORDINALITY|\s\w*[a-z]\w*)\s+$/;    # an alias with columns
		push @found, "function $name";
	}
	$sql =~ s/::|=>|\(\*\)|\.\*|\bSELECT \*/ /g;
	push @found, "operator $1" while $sql =~ m{([-+*/<>=~!@#&|^?]+)}g;
	return @found;
}

sub holds
{
	my ($what, $sql) = @_;
	my @found = unqualified($sql);
	ok(!@found, $what) or diag("$what: @found");
	return;
}

# The checker itself: each of these is found.
foreach my $wrong (
	'SELECT 1 = 2', 'SELECT a || b FROM x.y', 'SELECT x::text', 'SELECT lower(x)', 'SELECT * FROM t',
	'SELECT a.b IN (1, 2)', q{SELECT CASE a.x WHEN 'b' THEN 1 END}, 'SELECT x FROM a.b JOIN c ON true',
	'SELECT x FROM a.b WHERE a BETWEEN 1 AND 2', 'SELECT t.a & 32', 'SELECT CAST(x AS text)',
	'SELECT x FROM a.b JOIN a.c USING (x)', 'INSERT INTO t VALUES (1)', 'SELECT - x', 'UPDATE t SET x = 1')
{
	ok(scalar(unqualified($wrong)), "found: $wrong");
}

my ($script) = glob 'sql/cache_aside--*.sql';
my $text = do { local (@ARGV, $/) = $script; <> };
$text =~ s/^\\echo.*$//m;
like($text, qr/^(?:\s|--[^\n]*\n|\/\*.*?\*\/)*SELECT pg_catalog.set_config\('search_path', 'pg_catalog, pg_temp', true\);/s,
	'the script begins with a path of its own');
while ($text =~ /\G((?:--[^\n]*|'(?:[^']|'')*'|(\$\w*\$).*?\2|[^;])*);/gs)
{
	my $statement = $1;
	$statement =~ s{('(?:[^']|'')*'|\$\$.*?\$\$)|--[^\n]*|/\*.*?\*/}{$1 // ''}gse;
	$statement =~ s/^\s+//;
	my ($title) = $statement =~ /^((?:\S+\s+){0,2}\S+)/;
	if ($statement =~ /\bLANGUAGE sql\b/i && $statement =~ s/\bAS\s+(?:'((?:[^']|'')*)'|(\$\w*\$)(.*?)\2)//s)
	{
		holds("body of $title", $1 // $3);
		like($statement, qr/\bSET search_path = pg_catalog, pg_temp\b/, "path of $title")
		  unless $statement =~ /audit_summary/;    # runs the caller's query, and qualifies all of its own
	}
	like($statement, qr/\bSET search_path = pg_catalog, pg_temp\b/, "path of $title")
	  if $statement =~ /SECURITY DEFINER/;
	holds($title, $statement);
}

foreach my $file (glob 'src/*.c src/*/*.c')
{
	my $code = do { local (@ARGV, $/) = $file; <> };
	my $literal = qr/"(?:[^"\\]|\\.)*"/;
	$code =~ s{/\*.*?\*/}{}gs;
	$code =~ s/'\\?"'/0/g;
	$code =~ s/\b(?:err\w+|elog|snprintf)\s*\((?:\s*ERROR,)?\s*(?:$literal\s*)+//g;    # messages
	$code =~ s/^\s*#include.*$|"::1"|"SELECT INTO creates a table"//mg;
	while ($code =~ /((?:$literal\s*)+)/g)
	{
		my $sql = join '', map { s/^"|"$//gr } $1 =~ /$literal/g;
		next
		  unless $sql =~ /^\s*(?:SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP|WHEN)\s|::|OPERATOR\(|pg_catalog\.|\sAND\s|\bRETURNING\s|%s\w+\(|= \w+\(/;
		next if $sql =~ /\bredis\.call/;    # Lua
		$sql =~ s/\\n/\n/g;
		holds("$file: " . substr($sql, 0, 40), $sql);
	}
}

done_testing();
