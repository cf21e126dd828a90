
=pod

=head1 NAME

Models - runs an executable model of test/model, and reads what it found

=head1 SYNOPSIS

  use Models;

  my ($holds, $harm) = verdicts('model.py');    # worlds that held, rules left out that did harm; each is a test

Skips everything where there is no python3.

=cut

package Models;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use Test::More;

our @EXPORT = qw(verdicts);

my $models = dirname(__FILE__) . '/../model';
my ($python) = grep { -x } map { "$_/python3" } split /:/, $ENV{PATH};

sub verdicts
{
	my ($model) = @_;
	plan skip_all => 'python3 is not installed' unless $python;
	my (%verdicts, $last);
	open my $lines, '-|', $python, '-B', "$models/$model" or die "$python: $!";
	while (my $line = <$lines>)
	{
		chomp $line;
		diag $line if $line =~ /^NOT OK/ || ($line =~ /^ / && ($last // '') =~ /^NOT OK/);
		$last = $line unless $line =~ /^ /;
		next unless $line =~ /^(ok|NOT OK) (holds|harm): (.*)/;
		is($1, 'ok', "$2: $3");
		$verdicts{$2}++;
	}
	close $lines;
	is($?, 0, "$model is content");
	return map { $verdicts{$_} // 0 } qw(holds harm);
}

1;
