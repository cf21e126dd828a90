
=pod

=head1 NAME

Upgrade - databases with the SQL objects of an older release, and what two databases have of the extension

=head1 DESCRIPTION

C<skip_all_unless_available> skips where the script of version 1.0 (test/upgrade) is not beside that of today, as under
`make installcheck`. C<described(node, database)> is a hash: for each object of the extension, named without oids, everything
that the catalogs say of it.

=cut

package Upgrade;

use strict;
use warnings;

our $old = '1.0';

my $members = q{
	WITH member AS (
		SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'cache_aside'
	), part AS (
		SELECT classid, objid FROM member
		UNION SELECT d.classid, d.objid FROM pg_depend d JOIN member m ON m.classid = d.refclassid AND m.objid = d.refobjid
		WHERE d.deptype IN ('i', 'a') AND NOT (d.classid = 'pg_trigger'::regclass AND d.refclassid = 'pg_proc'::regclass)
	)};
my $sorted = q{(SELECT string_agg(i::text, ' ' ORDER BY i::text) FROM unnest(%s) i)};

# Each yields the name of a thing and a description of it.
my %queries = (
	members => "$members SELECT pg_describe_object(classid, objid, 0), '' FROM member",
	dependencies => "$members SELECT pg_describe_object(p.classid, p.objid, d.objsubid), string_agg(d.deptype::text || ' '
			|| pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), E'\\n' ORDER BY d.deptype::text || ' '
			|| pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) COLLATE \"C\")
		FROM part p JOIN pg_depend d USING (classid, objid) GROUP BY 1",
	functions => "$members SELECT p.oid::regprocedure::text, concat_ws(E'\\n', CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END,
			p.prosrc, p.probin, p.provolatile, p.proparallel, p.proleakproof, p.prosecdef, p.proisstrict, p.procost, p.prorows,
			p.prorettype::regtype, p.proargnames, p.proargmodes, p.proconfig, p.proowner::regrole, " . sprintf($sorted, q{coalesce(p.proacl, acldefault('f', p.proowner))}) . ")
		FROM pg_proc p JOIN member m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass",
	relations => "$members SELECT c.oid::regclass::text, concat_ws(E'\\n', c.relkind, c.relpersistence, c.reloptions, c.relowner::regrole,
			c.relhastriggers, c.relhasrules, c.relrowsecurity, " . sprintf($sorted, q{coalesce(c.relacl, acldefault('r', c.relowner))}) . ", pg_get_viewdef(c.oid))
		FROM pg_class c JOIN part m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass",
	columns => "$members SELECT c.oid::regclass || '.' || a.attnum, concat_ws(E'\\n', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
			a.attisdropped, a.attacl, pg_get_expr(f.adbin, f.adrelid))
		FROM pg_class c JOIN member m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 LEFT JOIN pg_attrdef f ON f.adrelid = c.oid AND f.adnum = a.attnum",
	constraints => "$members SELECT conrelid::regclass || ' ' || conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
		JOIN member m ON m.objid = c.conrelid AND m.classid = 'pg_class'::regclass",
	triggers => "$members SELECT tgrelid::regclass || ' ' || tgname, pg_get_triggerdef(t.oid) || ' ' || tgenabled::text FROM pg_trigger t
		JOIN member m ON m.objid = t.tgrelid AND m.classid = 'pg_class'::regclass",
	comments => "$members SELECT pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description FROM pg_description d
		JOIN part p ON p.classid = d.classoid AND p.objid = d.objoid",
	privileges => "$members SELECT pg_describe_object(i.classoid, i.objoid, i.objsubid), i.privtype::text || ' ' || " . sprintf($sorted, 'i.initprivs') . "
		FROM pg_init_privs i JOIN part p ON p.classid = i.classoid AND p.objid = i.objoid",
	dumped => q{SELECT c::regclass::text, n FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS u (c, n) WHERE extname = 'cache_aside'},
	extension => q{SELECT 'extension', concat_ws(' ', extversion, extrelocatable, extnamespace::regnamespace, n.nspowner::regrole, n.nspacl)
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'cache_aside'});

sub skip_all_unless_available
{
	my ($class, $node) = @_;
	my (undef, undef, $error) = $node->psql('template1', "BEGIN; CREATE EXTENSION cache_aside VERSION '$old'; ROLLBACK");
	return if $error !~ /has no installation script/; # (pg_available_extension_versions does not know Debian's extension_destdir)
	$node->stop;
	require Test::More;
	Test::More::plan(skip_all => "the script of version $old is not installed; make test does so");
	return;
}

sub described
{
	my ($class, $node, $database) = @_;
	my %things;
	foreach my $kind (sort keys %queries)
	{
		my $rows = $node->safe_psql($database, $queries{$kind}, extra_params => [ '-F', "\x01", '-R', "\x02" ]);
		foreach my $row (split /\x02/, $rows)
		{
			my ($name, $text) = split /\x01/, $row, 2;
			$things{"$kind: $name"} = $text unless $name =~ /pg_toast/;
		}
	}
	return \%things;
}

1;
