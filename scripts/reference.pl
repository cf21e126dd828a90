#!/usr/bin/perl
# reference.pl [--check]: writes docs/reference/*.md from what a server with the extension says of itself: signatures and
# comments of functions, views, tables and columns, who may use them, and the settings. --check only compares, for `make lint`.
# Run by `make reference`, on a private server; REFERENCE is the folder to write to.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../test/perl";

use PgServer;

my $check = ($ARGV[0] // '') eq '--check';
my $into = $ENV{REFERENCE} // "$FindBin::Bin/../docs/reference";
my $pg = PgServer->new->start;
my $client = $pg->connect;
$client->query($_) foreach 'SET client_min_messages = error', 'CREATE EXTENSION cache_aside', 'CREATE ROLE anybody', "SET search_path = pg_catalog, pg_temp";

sub rows { return $client->query($_[0]); }

sub sentence
{
	my ($text) = @_;
	return '' unless defined $text && $text ne '';
	$text = ucfirst $text unless $text =~ /^\w+\(/;
	return $text =~ s/\|/\\|/gr . ($text =~ /[.!?]$/ ? '' : '.');
}

my $made = "<!-- made by make reference of the comments in sql/parts and the settings in src: change them there -->\n";
my $members = "pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'cache_aside' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'";
my $who = q{CASE WHEN %1$s('anybody', %2$s, '%3$s') THEN 'everybody' WHEN %1$s('pg_monitor', %2$s, '%3$s') THEN 'pg_monitor' ELSE 'by GRANT' END};

sub functions
{
	my $text = "# Functions\n\n${made}\nEach with its signature, what its comment says, and who may call it; functions that change a table's rules or versions want its owner besides.\n"
	  . "By task they are in [reference.md](../reference.md).\n";
	foreach my $row (rows(qq{
		SELECT p.proname, pg_get_function_arguments(p.oid), CASE WHEN p.prokind = 'f' THEN pg_get_function_result(p.oid) END, obj_description(p.oid, 'pg_proc'),
			@{[ sprintf $who, 'has_function_privilege', 'p.oid', 'EXECUTE' ]}, CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
			CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END
		FROM $members JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid ORDER BY p.proname COLLATE "C", p.pronargs, p.oid::regprocedure::text COLLATE "C"}))
	{
		my ($name, $arguments, $result, $comment, $may, $volatility, $parallel) = @$row;
		my $signature = "$name($arguments)" . (defined $result ? " RETURNS $result" : '');
		$signature = "CALL $signature" unless defined $result;
		$text .= "\n## $name\n\n" unless $text =~ /^## \Q$name\E$/m;
		$text .= "\n" unless $text =~ /\n\n\z/;
		$text .= "`$signature`\n\n" . sentence($comment) . ' *' . ucfirst($may) . "; $volatility, parallel $parallel.*\n";
	}
	return $text;
}

sub relations
{
	my $text = "# Views and tables\n\n${made}\nEach with its columns, what the comments say, and who may read it.\n";
	foreach my $row (rows(qq{
		SELECT c.oid, c.relname, CASE c.relkind WHEN 'v' THEN 'View' ELSE 'Table' END, obj_description(c.oid, 'pg_class'), @{[ sprintf $who, 'has_table_privilege', 'c.oid', 'SELECT' ]}
		FROM $members JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid WHERE c.relkind IN ('v', 'r') ORDER BY c.relname COLLATE "C"}))
	{
		my ($oid, $name, $kind, $comment, $may) = @$row;
		$text .= "\n## $name\n\n" . sentence($comment) . " *$kind; $may.*\n\n| column | type | |\n|---|---|---|\n";
		$text .= "| `$_->[0]` | $_->[1] | " . sentence($_->[2]) . " |\n" foreach rows(qq{
			SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = $oid AND attnum > 0 ORDER BY attnum});
	}
	return $text;
}

sub settings
{
	my %sets = (sighup => 'in a file or by ALTER SYSTEM, with a reload', user => 'by any session', superuser => 'by a superuser, or with GRANT SET ON PARAMETER');
	my $text = "# Settings, in short\n\n${made}\nWhat `pg_settings` says of each. At length, by task: [settings.md](../settings.md).\n";
	foreach my $row (rows(q{SELECT name, boot_val, unit, vartype, context, short_desc, extra_desc, array_to_string(enumvals, ', ') FROM pg_settings
		WHERE name LIKE 'cache\_aside.%' AND name <> 'cache_aside.debug_point' ORDER BY name COLLATE "C"}))
	{
		my ($name, $default, $unit, $type, $context, $short, $extra, $values) = @$row;
		$default = $default eq '' ? 'empty' : "`$default`" . ($unit ? " $unit" : '');
		$text .= "\n## $name\n\n" . sentence($short) . ($extra ? ' ' . sentence($extra) : '')
		  . " *Default $default; $type" . ($values ? " ($values)" : '') . '; set ' . ($sets{$context} // $context) . ".*\n";
	}
	return $text;
}

sub content
{
	my ($path) = @_;
	open my $fh, '<:encoding(UTF-8)', $path or return '';
	local $/;
	return scalar(<$fh>) // '';
}

my %pages = (functions => functions(), relations => relations(), settings => settings());
my $differ = 0;
foreach my $name (sort keys %pages)
{
	my $path = "$into/$name.md";
	next if content($path) eq $pages{$name};
	if ($check) { print "docs/reference/$name.md: not what the server says of itself: make reference\n"; $differ = 1; next; }
	open my $fh, '>:encoding(UTF-8)', $path or die "$path: $!\n";
	print $fh $pages{$name};
	close $fh or die "$path: $!\n";
}
exit $differ;
