# The executable model of guarded fills (test/model): its rules are those of src/, nothing stale is found
# in any of its worlds, and each rule left out does harm that is found. MODEL_STATES=2000000
# MODEL_SECONDS=600 go deeper.
#
# Fails when a rule in test/model/state.py (RULES) is given its wrong value, or a rule is added that no
# entry of WITHOUT leaves out.
#
# Begun early: it takes long.
use strict;
use warnings;

use File::Basename;
use Test::More;

my $model = dirname(__FILE__) . '/../../model/model.py';
my ($python) = grep { -x } map { "$_/python3" } split /:/, $ENV{PATH};
plan skip_all => 'python3 is not installed' unless $python;

my (%verdicts, $last);
open my $lines, '-|', $python, '-B', $model or die "$python: $!";
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
is($?, 0, 'the model is content');
cmp_ok($verdicts{holds} // 0, '>=', 30, 'worlds in which the rules hold');
cmp_ok($verdicts{harm} // 0, '>=', 41, 'rules left out');
done_testing();
