# What README.md, docs/ and the examples tell to run, runs; and the script that says so finds what does not: a statement that
# fails or warns, one whose error is another, a command, a setting, a condition that does not come true, a block that
# nobody knows how to run, and one that is left out without a reason.
#
# Remedy: the pages; scripts/docs-check.pl with test/perl/DocsPage.pm and DocsPlace.pm. Fails when an example has a mistake.
#
# Begun early: it takes long.
use strict;
use warnings;

use CacheAside;
use File::Temp ();
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'make test runs it: the pages want what it installs' unless $ENV{CA_WORK};
plan skip_all => 'pages speak of a Redis with functions' if (RedisServer->version)[0] < 7;
my $tree = $INC{'CacheAside.pm'} =~ s{[^/]*$}{../..}r;

sub check
{
	my ($dir) = @_;
	my $out = `perl $tree/scripts/docs-check.pl $dir 2>&1`;
	return ($? >> 8, $out);
}

# A tree of such pages
sub tree_of
{
	my (%pages) = @_;
	my $dir = File::Temp::tempdir('ca-page-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	mkdir "$dir/docs" or die $!;
	while (my ($name, $text) = each %pages)
	{
		open my $fh, '>', "$dir/docs/$name.md" or die $!;
		print $fh $text;
		close $fh;
	}
	return $dir;
}

my ($status, $out) = check($tree);
is($status, 0, 'the pages of this tree') or diag($out);
my ($blocks) = $out =~ /^(\d+) blocks/m;
cmp_ok($blocks // 0, '>', 30, '... are many');

$ENV{PATIENCE} = 2;
my $right = <<'END';
```sql
SELECT cache_aside.attach('users', 'user:{id}');
SELECT 1/0;
ERROR:  division by zero
```
<!-- holds: SELECT count(*) = 1 FROM cache_aside.rules -->
```sh
redis-cli SET user:7 x && psql -c "UPDATE users SET name = 'Ada' WHERE id = 7"
```
<!-- holds sh: test "$(redis-cli EXISTS user:7)" = 0 -->
```conf
cache_aside.delivery = primary
```
<!-- not run: there is no such program -->
```sh
no-such-program
```
END
my %wrong = (
	statement => ["# x\n\n```sql\nSELECT 1;\nSELECT nothing;\n```\n", qr/3: sql: ERROR:  column "nothing" does not exist/],
	another => ["```sql\nSELECT 1/0;\nERROR:  no\n```\n", qr/1: sql: ERROR:  division by zero/],
	warning => ["```sql\nROLLBACK;\n```\n", qr/1: sql: WARNING:  there is no transaction in progress/],
	command => ["```sh\ntrue\nfalse\ntrue\n```\n", qr/1: sh: it ended with 1/],
	setting => ["```conf\ncache_aside.delivery = never\n```\n", qr/1: conf: 1\|cache_aside\.delivery\|/],
	redis => ["```redis\nGETT user:1\n```\n", qr/1: redis: GETT user:1: .*unknown command/],
	condition => ["text\n<!-- holds: SELECT false -->\n", qr/2: holds: not within 2 s; last: f/],
	language => ["```\nx\n```\n", qr/1: the block has no language$/m],
	reason => ["<!-- not run: -->\n```sh\nx\n```\n", qr/1: "not run" without a reason$/m],
	alone => ["<!-- not run: it cannot -->\ntext\n", qr/2: no block follows "not run"$/m]);
($status, $out) = check(tree_of(right => $right, map { $_ => $wrong{$_}[0] } keys %wrong));
is($status, 1, 'faults are told of by the exit status');
like($out, qr{^docs/$_\.md:$wrong{$_}[1]}m, "a fault: $_") foreach sort keys %wrong;
unlike($out, qr{^docs/right}m, 'what runs is no fault') or diag($out);
($status, $out) = check(tree_of(needs => "<!-- needs: no-such-program -->\n```sh\nfalse\n```\n"));
is($status, 0, 'a page that needs what is not here is left out');
like($out, qr{^docs/needs\.md is left out: it needs no-such-program\n0 blocks of 0 pages run, 1 left out}, '... and it is told');
done_testing();
