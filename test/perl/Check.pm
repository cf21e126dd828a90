
=pod

=head1 NAME

Check - what check() finds, and its remedies, run as they are pasted

=head1 SYNOPSIS

  use Check;

  is(findings($node), '', 'all is well');
  mended($node, qr/is disabled/, sub { ... });     # breaks something; the row comes, its remedy is run, the row goes

mended gives a test result for each statement that it runs, and two more: the finding (its severity: severity => 'error'), and that it goes with the remedy alone. edit =>
code changes the remedy's text in $_ as a reader would: an example's host. by => code mends what is a comment, since it is outside of
SQL. A remedy that ends with a restart gets one.

=cut

package Check;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

use CacheAside;
use PostgreSQL::Test::Utils ();

our @EXPORT = qw(findings finding mended);

sub findings { my ($node, @options) = @_; return $node->safe_psql('postgres', 'SELECT * FROM cache_aside.check()', @options); }

# The row whose detail matches, as [severity, what, detail, remedy]; empty: none.
sub finding
{
	my ($node, $detail) = @_;
	my ($row) = grep { $_->[2] =~ $detail } map { [ split /\x01/ ] } split /\x02/,
	  $node->safe_psql('postgres', 'SELECT * FROM cache_aside.check()', extra_params => [ '-F', "\x01", '-R', "\x02" ]);
	return @{ $row // [] };
}

# As an argument of psql, where several statements are one transaction.
sub paste
{
	my ($node, $sql) = @_;
	my ($out, $err) = PostgreSQL::Test::Utils::run_command([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', $sql ]);
	is($err =~ s/^(?:NOTICE|DETAIL|HINT):.*\n//mgr, '', '... its remedy can be pasted');
	return;
}

sub run_remedy
{
	my ($node, $remedy, $by) = @_;
	return $by->() if $by;
	paste($node, $remedy);
	paste($node, $1) if $remedy =~ /-- then (SELECT .*?;)/;
	$node->restart if $remedy =~ /-- then restart the server/;
	return;
}

sub mended
{
	my ($node, $detail, $break, %args) = @_;
	my @found;
	$break->();
	wait_until(sub { @found = finding($node, $detail) });
	is($found[0] // 'nothing', $args{severity} // 'error', "$detail: " . join(' | ', @found));
	local $_ = $found[3] // '';
	if ($args{by}) { like($_, qr/^-- ./, '... which is outside of SQL'); }
	elsif (/^--/) { fail("a remedy for $detail: $_"); }
	$args{edit}->() if $args{edit};
	run_remedy($node, $_, $args{by}) if @found;
	ok(wait_until(sub { !finding($node, $detail) }), '... and is gone with its remedy');
	return;
}

1;
