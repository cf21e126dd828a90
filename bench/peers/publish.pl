#!/usr/bin/perl
# publish.pl results docs/benchmarks: puts table and plots of a run into the page, in place of what an earlier run left.
use strict;
use warnings;

use File::Copy qw(copy);

my ($from, $to) = @ARGV;
my $page = "$to/peers.md";
my $begin = "<!-- what follows is written by make bench-peers PUBLISH=yes -->\n";
my $end = "<!-- up to here -->\n";

sub content
{
	my ($path) = @_;
	open my $fh, '<', $path or die "$path: $!\n";
	local $/;
	return scalar <$fh>;
}

my $table = content("$from/table.md");
my $text = content($page);
$text =~ s/\Q$begin\E.*\Q$end\E/$begin\n$table\n$end/s or die "$page: no place for the table\n";
open my $fh, '>', $page or die "$page: $!\n";
print $fh $text;
close $fh or die "$page: $!\n";
foreach my $plot ('latency', 'clients')
{
	copy("$from/$plot.svg", "$to/peers-$plot.svg") or die "$plot.svg: $!\n" if -e "$from/$plot.svg";
}
print "Written: $page\n";
