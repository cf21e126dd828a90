#!/usr/bin/perl
# check-shared.pl [directory]: does each field of shared memory have one writer, the one that
# docs/internals/locks.md names?
#
#	writers   two files write the same field of CaShared, or another one than the table says
#	put       a ca_status_put_ function, or a counter, is used by two files, or by another one than status.h says
#	missing   a field that the table does not have
#	unknown   a row of the table that is no field
#	exported  a segment that other files can reach
#
# Reads the source as text: what a file does to ca_status_shared->field it does there, by that name. The other
# segments are static variables of one file, which the compiler sees to. What *_shmem_init does is not counted.
use strict;
use warnings;

chdir($ARGV[0] // '.') or die "$!\n";
my %text;    # of each file, without comments
my @findings;
sub find { push @findings, join(' ', @_); return; }

foreach my $file (glob('src/*.[ch] src/*/*.[ch]'))
{
	next if $file =~ /lua_text/;
	open my $in, '<', $file or die "$file: $!\n";
	local $/ = undef;
	$text{$file} = <$in> =~ s{/\*.*?\*/}{ }gsr;
}

# ---- structs

my %fields;    # file -> type -> [name, type of it], ...; headers are everybody's
while (my ($file, $text) = each %text)
{
	my $whose = $file =~ /\.h$/ ? 'headers' : $file;
	while ($text =~ /typedef struct (\w+)\s*\{(.*?)\n\} \1;/gs)
	{
		my ($type, $body) = ($1, $2);
		foreach my $line (split /;/, $body)
		{
			my ($of) = $line =~ /^\s*(?:const )?(?:struct )?(\w+)/ or next;
			push @{ $fields{$whose}{$type} }, [ $1, $of ]
			  while $line =~ /(\w+)\s*(?:\[[^\]]*\]\s*)*(?=,|$)/g;
		}
	}
}

sub all_fields    # of a type and of those that it is made of
{
	my ($file, $type, $seen) = @_;
	my $list = $fields{$file}{$type} // $fields{headers}{$type} // return ();
	return () if $seen->{$type}++;
	return map { ("$type.$_->[0]", all_fields($file, $_->[1], $seen)) } @$list;
}

# ---- the table

my %table;    # file -> field -> writer
my $section = '';
open my $in, '<', 'docs/internals/locks.md' or die "docs/internals/locks.md: $!\n";
while (<$in>)
{
	$section = $1 if /^## `(\S+\.c)`/;
	$section = '' if /^## [^`]/;
	next unless $section && /^\| (.+?) \| (.+?) \|/ && $1 !~ /^(-+|field)$/;
	my ($names, $writer) = ($1, $2);
	my $type = '';
	foreach my $name (split /, /, $names =~ s/`//gr)
	{
		$type = $1 if $name =~ s/^(\w+)\.//;
		$table{$section}{"$type.$name"} = $writer =~ s/`//gr;
	}
}

foreach my $file (sort keys %text)
{
	next unless $text{$file} =~ /(\w+) = (?:\(.*?\) *)?ShmemInitStruct\(/;
	my $variable = $1;
	my ($static, $type) = $text{$file} =~ /^(static )?(\w+) \*$variable\b/m;
	find('exported', $file, $variable) unless $static || $variable eq 'ca_status_shared';
	my %there = map { $_ => 1 } all_fields($file, $type, {});
	find('missing', $file, $_) foreach grep { !$table{$file}{$_} } sort keys %there;
	find('unknown', $file, $_) foreach grep { !$there{$_} } sort keys %{ $table{$file} };
}

# ---- who writes

my %writers;
foreach my $file (grep { /\.c$/ } sort keys %text)
{
	my $code = $text{$file} =~ s/^\w+_shmem_init\(void\)\n\{.*?^\}//gmsr;
	my $field = qr/ca_status_shared->(\w+)/;
	my @written;
	push @written, $code =~ /pg_atomic_(?!read|init)\w+\(\s*&$field/g;
	push @written, $code =~ /$field(?:\[[^\]]*\])?(?:(?:\.|->)\w+)*\s*(?:[-|&+]|<<|>>)?=(?!=)/g;
	push @written, $code =~ /(?:strlcpy|memset|memcpy|memmove|snprintf)\(\s*&?$field/g;
	push @written, $code =~ /^\s*(?!const )\w+ \*\w+ = &?$field/gm;
	$writers{$_}{$file} = 1 foreach @written;
}
foreach my $field (sort keys %writers)
{
	my @files = map { s{^src/}{}r } sort keys %{ $writers{$field} };
	my $said = $table{'src/shared/status.c'}{"CaShared.$field"} // 'nobody';
	find('writers', $field, @files, "(locks.md: $said)") if "@files" ne $said;
}

# ---- who hands over: "CA_COUNT_X, /* file.c */", "ca_status_put_x(...); /* file.c */"

open $in, '<', 'src/shared/status.h' or die "status.h: $!\n";
my $header = do { local $/ = undef; <$in> };
foreach my $name (sort keys %{ { map { $_ => 1 } $header =~ /\b(CA_COUNT_\w+|ca_status_put_\w+)/g } })
{
	my ($said) = $header =~ m{\b$name\b[^;/]*;?\s*/\* (\w+\.c)};
	my @files = grep { /\.c$/ && !m{/status(_view)?\.c$} && $text{$_} =~ /\b$name\b/ } sort keys %text;
	s{.*/}{} foreach @files;
	find('put', $name, @files, '(status.h: ' . ($said // 'nobody') . ')') if "@files" ne ($said // '');
}

print "$_\n" foreach @findings;
printf "%d fields of shared memory in %d segments, %d findings\n", scalar(map { keys %$_ } values %table),
  scalar(keys %table), scalar(@findings);
exit(@findings != 0);
