#!/usr/bin/perl
# check-docs.pl [directory]: is what the documentation names there? In `make lint`, and as test `docs`.
#
#	link     a relative link whose file does not exist
#	anchor   a link to a heading that does not exist
#	index    a page of docs/ that its index (README.md in docs/, docs/runbooks/, docs/internals/, ...) does not name
#	path     a file of this tree, named with its folder or alone, that does not exist
#	name     a ca_..., Ca..., CA_... or `function()` that no source has, or not the file in which it is said to
#	         be; in docs/internals and CONTRIBUTING.md
#	number   "8192 (`QUEUE_LIMIT`)" and its like: the constant is another
#	told     a state, trouble, wait event or message of the worker, or a gap, that docs do not explain, or one that
#	         only docs know
#	folder   a folder of src/LAYERS that the table in architecture.md lacks, or one too many
#	length   README.md is longer than 250 lines
#	version  a file names another release than META.json
#
# What only a server knows (settings, defaults, rights, columns) is compared by test/t/operations/documented.
# A finding is a line "file:line: kind: what"; exit status 1 when there is one.
use strict;
use warnings;

use File::Basename qw(dirname);
use File::Find ();

chdir($ARGV[0] // dirname(__FILE__) . '/..') or die "$!\n";
my $found = 0;

sub finding { my ($where, $kind, $what) = @_; print "$where: $kind: $what\n"; $found = 1; return; }

sub slurp
{
	my ($path) = @_;
	open my $fh, '<:encoding(UTF-8)', $path or die "$path: $!\n";
	local $/;
	return scalar <$fh>;
}

sub files
{
	my ($suffix, @dirs) = @_;
	my @files;
	File::Find::find(
		{ no_chdir => 1, wanted => sub { push @files, $_ =~ s{^\./}{}r if -f && /$suffix$/ && !m{/node_modules/} } },
		grep { -e } @dirs);
	return sort @files;
}

# Lines of a page outside of ``` blocks, as [number, text]; blocks are left empty.
sub prose
{
	my ($path) = @_;
	my ($fenced, @lines) = (0);
	foreach my $line (split /\n/, slurp($path))
	{
		$fenced = !$fenced if $line =~ /^\s*```/;
		push @lines, $fenced || $line =~ /^\s*```/ ? '' : $line;
	}
	return map { [ $_ + 1, $lines[$_] ] } 0 .. $#lines;
}

# Headings as GitHub makes anchors of them.
sub anchors
{
	my ($path) = @_;
	my (%seen, %anchors);
	foreach my $line (map { $_->[1] } prose($path))
	{
		my ($title) = $line =~ /^#+ +(.*?) *#*$/ or next;
		$title =~ s/\[([^\]]*)\]\([^)]*\)/$1/g;
		my $anchor = lc($title =~ s/[^\w\- ]//gr) =~ s/ /-/gr;
		$anchors{ $seen{$anchor}++ ? "$anchor-" . ($seen{$anchor} - 1) : $anchor } = 1;
	}
	return \%anchors;
}

sub check_links
{
	my ($page) = @_;
	foreach (prose($page))
	{
		my ($number, $text) = @$_;
		$text =~ s/`[^`]*`//g;
		while ($text =~ /\]\(([^)\s]+)\)/g)
		{
			my $link = $1;
			my ($target, $anchor) = split /#/, $link, 2;
			next if $target =~ /^[a-z]+:/;
			my $file = $target eq '' ? $page : dirname($page) . "/$target";
			1 while $file =~ s{(^|/)\./}{$1} or $file =~ s{(^|/)[^/.][^/]*/\.\./}{$1};
			if (!-e $file) { finding("$page:$number", 'link', $link); next; }
			$file .= '/README.md' if -d $file && -e "$file/README.md";
			next if !defined $anchor || anchors($file)->{$anchor};
			finding("$page:$number", 'anchor', "$target#$anchor");
		}
	}
	return;
}

sub check_index
{
	my ($folder) = @_;
	my $index = slurp("$folder/README.md");
	foreach my $page (grep { !m{/README\.md$} && dirname($_) eq $folder } files('\.md', $folder))
	{
		my $name = $page =~ s{.*/}{}r;
		finding("$folder/README.md:1", 'index', "$page is not linked") unless $index =~ /\]\(\Q$name\E[#)]/;
	}
	return;
}

# ---- names of the source

my @source = files('\.(?:c|h|lua|sql|py|rb|pl|pm|sh|ts)', qw(src sql test scripts bench examples));
my %known_file = map { $_ => 1, s{.*/}{}r => 1 } @source, files('', qw(src test scripts bench docs .ci));
my ($text, %word, %called) = join "\n", map { slurp($_) } @source, 'Makefile';
$word{$_} = 1 foreach $text =~ /\b(\w{3,})\b/g;
$called{$_} = 1 foreach $text =~ /\b(\w+) ?\(/g;

my $suffixes = 'c|h|pl|pm|py|rb|lua|sh|sql|conf|spec|ts';

sub check_paths
{
	my ($page, $alone) = @_;
	foreach (prose($page))
	{
		my ($number, $line) = @$_;
		while ($line =~ m{(?<![\w/.<*-])((?:[\w.-]+/)*[\w.-]+\.(?:$suffixes))\b(?![\w/*-])}g)
		{
			my $path = $1;
			next if $path !~ m{/} && !$alone;
			next if $path =~ /^(?:postgresql(?:\.auto)?|redis|sentinel)\.conf$/;
			next if -e $path || -e "src/$path" || -e dirname($page) . "/$path" || ($path !~ m{/} && $known_file{$path});
			finding("$page:$number", 'path', $path);
		}
	}
	return;
}

sub check_names
{
	my ($page) = @_;
	foreach (prose($page))
	{
		my ($number, $line) = @$_;
		foreach my $name ($line =~ /\b(ca_\w+|Ca[A-Z]\w+|CA_[A-Z]\w+)\b(?![*.])/g)
		{
			finding("$page:$number", 'name', $name) unless $word{$name} || ($name =~ /_$/ && $text =~ /\b$name/);
		}
		foreach my $name ($line =~ /`(\w+)\(\)`/g)
		{
			finding("$page:$number", 'name', "$name()") unless $called{$name};
		}
		while ($line =~ m{`(\w+)\(\)` in `([\w/.]+)`}g)
		{
			my ($name, $file) = ($1, $2);
			my ($path) = grep { -f } $file, "src/$file";
			finding("$page:$number", 'name', "$name() is not in $file") if $path && slurp($path) !~ /\b$name *\(/;
		}
	}
	return;
}

# Constants, in bytes or as they are; one that is defined twice may be either.
my %constant;
while ($text =~ /^#define (\w+) +(\(?[^\n"]*?)(?: *\/\*.*)?$/mg)
{
	my ($name, $value) = ($1, $2);
	$value =~ s/\(Size\)|INT64CONST//g;
	push @{ $constant{$name} }, eval $value if $value =~ m{^[\d\s*+/()]+$};
}

sub check_numbers
{
	my ($page) = @_;
	my %unit = (kB => 1024, MB => 1024 * 1024, ms => 1);
	foreach (prose($page))
	{
		my ($number, $line) = @$_;
		while ($line =~ /(\d[\d ]*\d|\d)(?: (kB|MB|ms))? \(`([A-Z]\w+)`/g)
		{
			my ($said, $unit, $name) = ($1, $2, $3);
			$said =~ s/ //g;
			$said *= $unit{$unit} if $unit;
			next if grep { $_ == $said } @{ $constant{$name} // [] };
			finding("$page:$number", 'number', "$name is not $said");
		}
	}
	return;
}

# ---- what the worker tells

# Both ways: what the source tells is explained, what is explained is told.
sub check_told
{
	my ($what, $page, $told, $explained) = @_;
	my %told = map { $_ => 1 } @$told;
	my %explained = map { $_ => 1 } @$explained;
	finding("$page:1", 'told', "$what '$_' is not explained") foreach grep { !$explained{$_} } sort keys %told;
	finding("$page:1", 'told', "$what '$_' is not in the source") foreach grep { !$told{$_} } sort keys %explained;
	return;
}

sub section { my ($page, $title) = @_; return slurp($page) =~ /^## \Q$title\E\n(.*?)(?=^## |\z)/ms ? $1 : ''; }

sub check_worker
{
	my $page = 'docs/troubleshooting.md';
	my $c = join "\n", map { slurp($_) } grep { /\.c$/ } @source;
	my @states = map { /"([^"]+)"/g } $c =~ /ca_status_state\((.*?)\);/gs;
	my $column = sub { my ($t) = @_; map { /`([^`]+)`/g } $t =~ /^\| (`[^|]*`) \|/mg };
	check_told('state', $page, [@states], [ grep { $_ ne 'status.state' } $column->(section($page, 'States')) ]);
	my $view = slurp('src/shared/status_view.c'); # which says some of them itself
	my @troubles = (
		(grep { $_ ne 'waits for a database' } slurp('src/shared/trouble.c') =~ /\[CA_TROUBLE_\w+\] =\s*\{"([^"]+)",/g),
		$view =~ /"(no worker)"/, map { "$_ ..." } $view =~ /"(waits for [^%"]*?) %s"/);
	check_told('trouble', $page, \@troubles, [ grep { $_ ne 'trouble' } $column->(section($page, 'Causes')) ]);
	my $monitoring = slurp('docs/monitoring.md');
	my %redis_state = map { $_ => 1 } map { /"([^"]+)"/g } $c =~ /ca_status_redis_state\((.*?)\);/gs;
	finding('docs/monitoring.md:1', 'told', "redis_state '$_' is not explained")
	  foreach grep { index($monitoring, "`$_`") < 0 } sort keys %redis_state;
	check_told('wait event', 'docs/monitoring.md', [ $c =~ /ca_wait_event\("(\w+)"\)/g ], [ $monitoring =~ /`(CacheAside\w+)`/g ]);
	check_messages($c, $monitoring);
	return;
}

# What the view gaps says, up to a colon or a bracket; what varies is "...".
sub check_gaps
{
	my $said = qr/(?:trigger|triggers|TRUNCATE|the|no|an|its|writes|logical|columns?) /;
	my $shorten = sub {
		my ($text) = @_;
		return $text =~ s/''/'/gr =~ s/\\?"?%\w\\?"?/.../gr =~ s/(?:: |; | \().*//sr =~ s/(?<=\w)\.{3}$//r =~ s/\.{3} \.{3}/.../gr;
	};
	my @told = map { $shorten->($_) } grep { /^$said/ && tr/ // > 2 }
	  (map { slurp($_) =~ /VIEW cache_aside\.(?:version_)?gaps AS(.*?);\n\n/s ? $1 =~ s/'\n\s*'//gr =~ /'((?:[^']|'')*)'/g : () } qw(sql/parts/rules.sql sql/parts/rows.sql)),
	  slurp('src/rules/rule_view.c') =~ /"((?:trigger|the|an|its|column) (?:[^"\\]|\\.)*)"/g;
	my @explained = map { $shorten->($_) } grep { /^$said/ } section('docs/rules.md', 'Gaps') =~ /`([^`]+)`/g;
	check_told('gap', 'docs/rules.md', \@told, \@explained);
	return;
}

# Each message that goes to the log alone has a row: the beginning of it, up to what varies.
sub check_messages
{
	my ($c, $monitoring) = @_;
	foreach my $message ($c =~ /ereport\(LOG,\s*\((?:errcode\w*\([^()]*\(?\)?[^()]*\),\s*)?errmsg\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)/g)
	{
		my $line = join '', $message =~ /"((?:[^"\\]|\\.)*)"/g;
		$line =~ s/\\"/"/g;
		my ($begin) = $line =~ /^(.*?)(?: *%| at " ?|$)/;
		next if $begin =~ /^(?:cache_aside|could not|)$/ || $begin =~ /^could not/;
		finding('docs/monitoring.md:1', 'told', "message '$begin' is not explained") if index($monitoring, $begin) < 0;
	}
	return;
}

# The rooms of architecture.md are those of LAYERS.
sub check_folders
{
	my %folders = map { $_ => 1 } slurp('src/LAYERS') =~ /^(\w+):/mg;
	my $page = 'docs/internals/architecture.md';
	foreach my $name (map { $_->[1] =~ /^\| `(\w+)` \|/ ? $1 : () } prose($page))
	{
		finding("$page:1", 'folder', $name) unless delete $folders{$name};
	}
	finding("$page:1", 'folder', "$_ is not described") foreach sort keys %folders;
	return;
}

# The number of the release is written where each tool looks for it.
sub check_version
{
	my ($release) = slurp('META.json') =~ /"version": "([\d.]+)",\n  "release_status"/ or return finding('META.json:1', 'version', 'none');
	my %places = (
		'src/cache_aside.h' => qr/CA_RELEASE "(.*?)"/, 'debian/changelog' => qr/^cache-aside \((.*?)-/,
		'packaging/cache_aside.spec' => qr/^Version: +(.*)/m, 'cache_aside.control' => qr/^default_version = '(.*)'/m);
	foreach my $file (grep { -e } sort keys %places)
	{
		my ($found) = slurp($file) =~ $places{$file};
		$found .= '.' . ($release =~ /(\d+)$/)[0] if $file eq 'cache_aside.control';
		finding("$file:1", 'version', "$found, and META.json has $release") unless $found eq $release;
	}
	return;
}

my @pages = grep { -e } qw(README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md), files('\.md', 'docs', 'examples');
foreach my $page (@pages)
{
	my $inside = $page =~ m{^docs/internals/|^CONTRIBUTING};
	check_links($page);
	check_paths($page, $inside);
	check_names($page) if $inside;
	check_numbers($page) if $inside;
}
check_index($_) foreach grep { -d } qw(docs docs/runbooks docs/internals docs/benchmarks);
check_worker();
check_gaps();
check_folders();
check_version();
my $lines = () = slurp('README.md') =~ /\n/g;
finding('README.md:1', 'length', "$lines lines, 250 are allowed") if $lines > 250;
exit $found;
