# Every benchmark measures what it says: with other keys in the cache than those the rules make (or
# without what else it needs), each of its runs fails, and says which claim does not hold; with the right
# ones it passes. The figures themselves mean nothing here.
#
# Remedy: _proved in bench/Bench.pm; that the keys of commit.pl are those its rule makes.
#
# Begun early: it takes long.
use strict;
use warnings;

use File::Basename qw(basename dirname);
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan(skip_all => 'pgbench or redis-benchmark is not installed')
  if grep { system("command -v $_ >/dev/null 2>&1") } 'pgbench', 'redis-benchmark';

my $tree = dirname(__FILE__) . '/../../..';
local @ENV{qw(QUICK BENCH_SPOIL)} = (1, 1);
delete local @ENV{qw(ONLY SIZES ROUNDS)};    # which choose among its parts
local $ENV{PGDATA_TEMPLATE} = PostgreSQL::Test::Utils::tempdir() . '/data';
my %runs = (
	'growth' => [ qw(rules tables partitions databases sessions keys open entries patterns log audit) ],
	'commit' => [ (map { "8 clients, $_" } 'asynchronous', 'delivery = off', 'five rules', 'synchronous'), '32 clients, synchronous', '1 client, asynchronous', '1 client, synchronous', '70 %, asynchronous' ],
	'commit_to_gone' => [ 'quiet', '80 %' ],
	'drain' => [ 'drain', map { "UNLINK, $_ connections" } 1, 4, 50 ],
	'bulk_update' => [ "level 'statement'", "level 'row'", "COPY, level 'statement'" ],
	'log_without_messages' => [ 'pgbench', 'COPY' ],
	'row_version' => [ 'bumps', 'checks' ],
	'routing' => [ 'route', 'is_read_only', 'report_commit_lsn on' ],
	'fill' => [ 'SETEX', 'floor', 'fill', 'fill, older token', 'GET', 'get' ],
	'get' => [ 'plain GET, blocks', 'plain GET, waits', 'get', 'fetch' ],
	'guard_delivery' => [ 'small transactions', map { "drain, guard $_" } qw(off on on) ],
	'tls' => [ map { my $what = $_; map { "$_, $what" } 'plain', 'TLS' } 'one commit at a time', 'backlog' ],
	'cost' => [ (map { "$_, one row" } 'a rule', 'row versions'), (map { "$_, many rows" } 'a rule, row level', 'a rule, statement level'), 'a rule, kernel' ],
	'warm' => [ 'from a query', 'from a table' ],
	'herd' => [ 'with lease', (map { "with lease, $_ fill refused" } 'every second', 'every'), 'without lease' ]);

@runs{qw(get herd)} = ([], []) if system('cc --version >/dev/null 2>&1');
push @{ $runs{commit} }, (map { "floors, $_" } 'delivery = off', 'asynchronous', 'synchronous', 'and the key in a script'), ('UNLINK') x 2, (map { "floors, 32 clients, $_" } 'synchronous', 'and the key in a script');
$runs{commit} = [ grep { !/^(floors|UNLINK)/ } @{ $runs{commit} } ] if system('command -v valgrind >/dev/null 2>&1') || system('cc --version >/dev/null 2>&1');
$runs{cost} = [] if system('command -v valgrind >/dev/null 2>&1') || system('cc --version >/dev/null 2>&1');

is(join(' ', map { basename($_, '.pl') } glob "$tree/bench/*.pl"), join(' ', sort keys %runs), 'every benchmark is here');
is(join(' ', map { s{.*/(?=[^/]+/)}{}r } glob "$tree/bench/*/run.pl"), 'peers/run.pl', '... but for what bench_peers looks at');
foreach my $name (sort keys %runs)
{
	my $out = join '', `$^X -I $tree/bench -I $tree/test/perl $tree/bench/$name.pl 2>&1`;
	is($?, 0, "$name: holds with the right keys") or diag($out);
	my @bitten = $out =~ /^  spoiled: not as claimed: (.*): [^:]+: \d+, claimed .*$/mg;
	is_deeply(\@bitten, $runs{$name}, "$name: every run bites with others");
}

done_testing();
