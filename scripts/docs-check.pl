#!/usr/bin/perl
# docs-check.pl [directory [page ...]]: runs what README.md, docs/ and examples/*/README.md tell their readers to run, as it is
# written and in its order, on a private PostgreSQL and a private Redis. `make docs-check`, and test operations/docs_check.
#
# What is run, and what a page can say about it, is in test/perl/DocsPage.pm; where, in test/perl/DocsPlace.pm. Pages have a
# database each; those that restart servers have servers of their own, six of them at a time: they wait. A fault is a line
# "page:line: what", and the exit status is 1.
use strict;
use warnings;

use File::Find ();
use File::Temp ();
use FindBin;
use lib "$FindBin::Bin/../test/perl";

use DocsPage;
use DocsPlace;

$SIG{$_} = sub { exit 1 } foreach qw(INT TERM HUP);
$| = 1;
my ($tree, @chosen) = @ARGV;
chdir($tree // "$FindBin::Bin/..") or die "$tree: $!\n";
my $scratch = File::Temp::tempdir('ca-docs-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $bindir = $ENV{PG_CONFIG} ? `$ENV{PG_CONFIG} --bindir` =~ s/\n//r : '';
$ENV{PATH} = "$bindir:$ENV{PATH}" if $bindir;

# What the examples take for granted
my $tables = q{
	CREATE TABLE users (id int PRIMARY KEY, name text, email text);
	CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users);
	CREATE TABLE events (id int PRIMARY KEY, day date);
	CREATE TABLE notes (id int PRIMARY KEY, owner int, title text, created_at timestamptz);
	INSERT INTO users VALUES (42, 'Bob', 'bob@example.org'), (7, 'Eve', NULL);
	INSERT INTO orders VALUES (1, 42);
};

sub pages
{
	my @pages = grep { -e } 'README.md';
	File::Find::find({ no_chdir => 1, wanted => sub { push @pages, $_ if /\.md$/ } }, grep { -d } 'docs');
	return (sort(@pages), sort glob 'examples/*/README.md');
}

sub told
{
	my ($page, @faults) = @_;
	print map { "$page:$_->[0]: $_->[1]\n" } @faults;
	return scalar @faults;
}

sub initialise
{
	my $command = "initdb -N -D $scratch/data -U postgres -A trust -E UTF8 --locale=C.UTF-8 >$scratch/log 2>&1";
	system($command) == 0 or die "initdb failed: see $scratch/log\n";
	return "$scratch/data";
}

# The page's database, with the tables; the extension, too, unless the page makes it.
sub make_database
{
	my ($place, $name, @steps) = @_;
	my @sql = ("CREATE DATABASE $name;\n", "\\c $name\n", $tables);
	push @sql, 'CREATE EXTENSION cache_aside;' unless grep { $_->{text} =~ /^CREATE EXTENSION cache_aside\b/m } @steps;
	my $wrong = $place->run('postgres', { kind => 'setup sql', text => join '', @sql });
	die "$name: $wrong\n" if defined $wrong;
	return;
}

# The rest of a page depends on what went wrong, mostly.
sub run_page
{
	my ($place, $path, $page) = @_;
	my $database = lc($path =~ s/\.md$//r =~ s/\W/_/gr);
	make_database($place, $database, $page->steps);
	foreach my $step ($page->steps)
	{
		my ($wrong) = $place->run($database, $step);
		return told($path, [ $step->{line}, "$step->{kind}: " . $wrong =~ s/\s+\z//r =~ s/\n/\n    /gr ]) if defined $wrong;
	}
	return 0;
}

# Runs code in processes of their own, so many at a time; how many of them found faults?
sub in_parallel
{
	my ($jobs, @work) = @_;
	my ($running, $faults) = (0, 0);
	my $wait = sub { wait; $running--; $faults++ if $?; };
	foreach my $code (@work)
	{
		$wait->() while $running >= $jobs;
		my $pid = fork // die "fork: $!";
		if ($pid == 0) { exit($code->() ? 1 : 0); }
		$running++;
	}
	$wait->() while $running;
	return $faults;
}

my %pages = map { $_ => DocsPage->new($_) } @chosen ? @chosen : pages();
my ($faults, $steps, $left_out) = (0, 0, 0);
foreach my $path (sort keys %pages)
{
	$faults += told($path, $pages{$path}->faults);
	my $needs = $pages{$path}->leave_out_without;
	print "$path is left out: it needs $needs\n" if defined $needs;
	$steps += grep { $_->{kind} !~ /^(?:setup|holds)/ } $pages{$path}->steps;
	$left_out += $pages{$path}->left_out;
}
my @run = grep { $pages{$_}->steps } sort keys %pages;
my @own = grep { $pages{$_}->has_own_server } @run;
my @shared = grep { !$pages{$_}->has_own_server } @run;
my $template = @run ? initialise() : undef;
my @work = map { my $path = $_; sub { run_page(DocsPlace->new($template)->start, $path, $pages{$path}) } } @own;
unshift @work, sub { my $place = DocsPlace->new($template)->start; my $n = 0; $n += run_page($place, $_, $pages{$_}) foreach @shared; $n }
  if @shared;
$faults += in_parallel(6, @work);
printf "%d blocks of %d pages run, %d left out, %s\n", $steps, scalar @run, $left_out, $faults ? "$faults faults" : 'all right';
exit($faults ? 1 : 0);
