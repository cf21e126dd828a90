
=pod

=head1 NAME

Callgrind - instructions of one session, function by function

=head1 SYNOPSIS

  my $dir = tempdir();
  my $pg = PgServer->new(under => [ Callgrind::command($dir) ])->start;
  Callgrind::install($pg->connect, $dir);              # floor.c, compiled, and its functions
  my $cost = Callgrind::count($session, $dir, sub { ... });
  $cost->{total}; $cost->{inside}{ca_key_build};       # with all that it calls

=head1 DESCRIPTION

An instruction count does not depend on how busy the machine is, nor on its caches. What the kernel does is not in it, nor
another process: those are counted elsewhere (strace, context switches). The whole server runs under valgrind, but only
the session that asks for it is counted, and the statement that asks is taken off again.

PostgreSQL's own static functions have no names where its symbols are stripped; ours have, and so have its exported ones.

=cut

package Callgrind;

use strict;
use warnings;

use File::Basename qw(dirname);

my $counts = 0;

sub why_not
{
	return "valgrind is not installed" if system('command -v valgrind >/dev/null 2>&1');
	return "no C compiler" if system('cc --version >/dev/null 2>&1');
	return;
}

sub command
{
	my ($dir) = @_;
	return ('valgrind', '-q', '--tool=callgrind', '--instr-atstart=no', "--callgrind-out-file=$dir/count.%p");
}

# `counts => 0`: the triggers alone, for a server that does not run under valgrind.
sub install
{
	my ($sql, $dir) = @_;
	my $here = dirname(__FILE__);
	chomp(my $include = `$ENV{PG_CONFIG} --includedir-server`);
	system('cc', '-O2', '-shared', '-fPIC', "-I$include", '-o', "$dir/floor.so", "$here/floor.c") == 0
	  or die "floor.c does not compile\n";
	my %functions = (
		'floor_empty()' => 'trigger',
		'floor_record()' => 'trigger',
		'floor_before()' => 'trigger',
		'count_from_here()' => 'void',
		'count_to_here(text)' => 'void');
	$sql->query("CREATE FUNCTION $_ RETURNS $functions{$_} LANGUAGE c AS '$dir/floor'") foreach sort keys %functions;
	return;
}

sub count
{
	my ($session, $dir, $code) = @_;
	my $asking = _count($session, $dir, sub { });
	my $whole = _count($session, $dir, $code);
	return {
		total => $whole->{total} - $asking->{total},
		inside => { map { $_ => $whole->{inside}{$_} - ($asking->{inside}{$_} // 0) } keys %{ $whole->{inside} } } };
}

sub _count
{
	my ($session, $dir, $code) = @_;
	my $name = 'count ' . ++$counts;
	$session->query('SELECT count_from_here()');
	$code->();
	$session->query("SELECT count_to_here('$name')");
	foreach my $file (reverse sort { -M $b <=> -M $a } glob "$dir/count.*")
	{
		open my $fh, '<', $file or die "$file: $!";
		my @lines = <$fh>;
		return _read(@lines) if grep { $_ eq "desc: Trigger: Client Request: $name\n" } @lines[ 0 .. 20 ];
	}
	die "callgrind wrote nothing under the name $name\n";
}

# The lines of a function give its own instructions; one behind "calls=" those of a function that it calls.
sub _read
{
	my %cost = (total => 0, inside => {});
	my (%name, $function, $called, $is_call);
	foreach (@_)
	{
		if (/^(c?)fn=\((\d+)\)(?: (.*))?/)
		{
			my ($c, $number) = ($1, $2);
			$name{$number} = $3 if defined $3;
			if ($c) { $called = $name{$number}; } else { $function = $name{$number}; }
		}
		elsif (/^calls=/) { $is_call = 1; }
		elsif (/^(?:totals|summary): (\d+)/) { $cost{total} = $1; }
		elsif (/^[+*\-\d]\S* (\d+)$/)
		{
			$cost{inside}{$function} += $1 unless $is_call && $called eq $function;
			$is_call = 0;
		}
	}
	return \%cost;
}

1;
