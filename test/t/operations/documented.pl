# What the documentation says of the server is so: every setting with its default, values and who sets it; every
# function, view and table of the schema with who may use it; every argument that a page names; every column of `status`.
# What pages tell to run is run by docs_check.
#
# Remedy: none in src/. Fails when a row of docs/settings.md, docs/reference.md or docs/monitoring.md is taken out or
# changed, and when the source gets a setting, function, view or column that has none.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
my $tree = $INC{'CacheAside.pm'} =~ s{[^/]*$}{../..}r;

sub page
{
	my ($name) = @_;
	open my $fh, '<:encoding(UTF-8)', "$tree/$name" or die "$name: $!";
	local $/;
	return scalar <$fh>;
}

# Rows of the tables of a page, as arrays of cells; headings and separators too.
sub rows
{
	my ($text) = @_;
	return map { [ split / *\| */, s/^\| *//r ] } $text =~ /^(\|.*)\|$/mg;
}

sub query { return map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql('postgres', $_[0]); }

# Values as the pages write them, and as pg_settings has them, in the setting's own unit.
sub in_unit
{
	my ($text, $unit) = @_;
	my %ms = (ms => 1, s => 1000, min => 60_000, h => 3_600_000, d => 86_400_000);
	my %kb = (kB => 1, MB => 1024, GB => 1024 * 1024);
	my ($number, $of) = $text =~ /^(-?\d+) ?(\w*)$/ or return $text;
	return $number if $of eq '' || $unit eq '';
	my $table = exists $ms{$unit} ? \%ms : \%kb;
	return $number * $table->{$of} / $table->{$unit};
}

sub settings
{
	my %sets = (sighup => 'reload', user => 'session', superuser => 'superuser', postmaster => 'restart');
	my %documented = map { ($_->[0] =~ /^\[`(cache_aside\.\w+)`\]/)[0] => $_ }
	  grep { $_->[0] =~ /^\[`cache_aside\./ } rows(page('docs/settings.md'));
	my @settings = query(q{SELECT name, boot_val, coalesce(unit, ''), vartype, context, coalesce(substring(extra_desc FROM '^From ([^.;]*)'), ''),
		array_to_string(ARRAY(SELECT format('`%s`', e) FROM unnest(enumvals) e), ', '), array_to_string(pg_settings_get_flags(name), ' ')
		FROM pg_settings WHERE name LIKE 'cache\_aside.%' AND name <> 'cache_aside.debug_point' ORDER BY name});
	foreach my $setting (@settings)
	{
		my ($name, $default, $unit, $type, $context, $range, $words) = @$setting;
		my (undef, $shown, $values, $who) = @{ delete $documented{$name} // [ ($name, ('not documented') x 3) ] };
		$shown = '' if $shown eq 'empty';
		is(in_unit($shown =~ s/`//gr, $unit), $default, "$name: default");
		is($values, "from $range", "$name: range") if $type =~ /integer|real/;
		is($values, $words, "$name: values") if $type eq 'enum';
		is($values, '`on`, `off`', "$name: values") if $type eq 'bool';
		like($who, qr/^$sets{$context}\b/, "$name: who sets it");
	}
	is(join(', ', sort keys %documented), '', 'no setting is documented that there is not');
	return;
}

sub objects
{
	my %documented;
	push @{ $documented{ ($_->[0] =~ /`(\w+)`/)[0] } }, $_ foreach grep { @$_ >= 4 && $_->[0] =~ /`\w+`/ } rows(page('docs/reference.md'));
	my @objects = query(q{
		SELECT p.proname, CASE WHEN p.prokind = 'p' THEN 'procedure' WHEN p.prorettype = 'trigger'::regtype THEN 'trigger function' ELSE 'function' END,
			CASE WHEN has_function_privilege('nobody', p.oid, 'EXECUTE') THEN 'PUBLIC' WHEN has_function_privilege('pg_monitor', p.oid, 'EXECUTE') THEN 'pg_monitor' END
		FROM pg_proc p WHERE p.pronamespace = 'cache_aside'::regnamespace
		UNION
		SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END,
			CASE WHEN has_table_privilege('nobody', c.oid, 'SELECT') THEN 'PUBLIC' WHEN has_table_privilege('pg_monitor', c.oid, 'SELECT') THEN 'pg_monitor' END
		FROM pg_class c WHERE c.relnamespace = 'cache_aside'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY 1});
	my %may = (PUBLIC => qr/^(everybody|owner( of both)?)$/, pg_monitor => qr/^pg_monitor$/, '' => qr/^(GRANT|superuser)$/);
	foreach my $object (@objects)
	{
		my ($name, $kind, $granted) = @$object;
		my $rows = delete $documented{$name} // [];
		is(scalar @$rows, 1, "$name is documented, once") or next;
		is($rows->[0][1], $kind, "$name is a $kind");
		like($rows->[0][2], $may{$granted}, "$name: who may use it");
	}
	is(join(', ', sort keys %documented), '', 'nothing is documented that there is not');
	return;
}

# Signatures as the pages write them name arguments that there are.
sub signatures
{
	my %arguments;
	foreach my $row (query(q{SELECT proname, coalesce(array_to_string(proargnames, ','), '') FROM pg_proc WHERE pronamespace = 'cache_aside'::regnamespace}))
	{
		$arguments{ $row->[0] }{$_} = 1 foreach split /,/, $row->[1];
	}
	foreach my $page (map { "docs/$_.md" } qw(rules fills versions routing monitoring))
	{
		foreach my $cell (map { $_->[0] } rows(page($page)))
		{
			while ($cell =~ /(?:^|[`, ])(?:CALL )?(\w+)\(([a-z][^()`]*)\)/g)
			{
				my ($name, $list) = ($1, $2);
				my @unknown = grep { !$arguments{$name}{$_} }
				  map { s/^(?:VARIADIC|INOUT) //r =~ s/[ "].*//r || 'row' } split /, */, $list =~ s/ DEFAULT '[^']*'//gr;
				is(join(', ', @unknown), '', "$page: arguments of $name");
			}
		}
	}
	return;
}

sub columns
{
	my ($page, $view) = @_;
	my @there = map { $_->[0] } query("SELECT attname FROM pg_attribute WHERE attrelid = 'cache_aside.$view'::regclass AND attnum > 0 ORDER BY attnum");
	my ($table) = page($page) =~ /^\| column \| meaning \|\n(.*?)\n\n/ms;
	is_deeply([ sort map { split /, */, $_->[0] } grep { $_->[0] !~ /^-/ } rows("$table\n") ], [ sort @there ], "columns of $view");
	return;
}

$node->safe_psql('postgres', 'CREATE ROLE nobody');
settings();
objects();
signatures();
columns('docs/monitoring.md', 'status');
$node->stop;

# make psql
my $said = $redis->dir . '/said';
is(`perl $tree/scripts/psql.pl -Atc 'SELECT state FROM cache_aside.status' 2>$said`, "delivering\n", 'make psql: a server that delivers');
my ($socket) = PostgreSQL::Test::Utils::slurp_file($said) =~ /^Redis +redis-cli -s (.*)$/m;
ok($socket && !-e $socket, '... with a Redis, which is gone when psql is');

done_testing();
