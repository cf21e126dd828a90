# The comparison with other ways (make bench-peers) works, as far as those are installed: each peer deletes exactly the
# keys of the rows written, with other keys in the cache each turn fails, and the table has a line for every peer. The
# figures mean nothing here.
#
# Remedy: claimed in bench/peers/run.pl.
use strict;
use warnings;

use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan(skip_all => 'no C compiler, or no setpriv') if grep { system("command -v $_ >/dev/null 2>&1") } 'cc', 'setpriv';
my ($lib, $include) = map { chomp(my $dir = `$ENV{PG_CONFIG} $_`); $dir } '--pkglibdir', '--includedir';
plan(skip_all => 'libpq is not there to compile with') unless -e "$include/libpq-fe.h";
foreach my $needed ([ 'pgmemcache', -e "$lib/pgmemcache.so" ], [ 'wal2json', -e "$lib/wal2json.so" ],
	[ 'memcached', !system('command -v memcached >/dev/null 2>&1') ])
{
	plan(skip_all => "$needed->[0] is not installed") unless $needed->[1];
}

my $tree = dirname(__FILE__) . '/../../..';
my $out = PostgreSQL::Test::Utils::tempdir();
my @peers = qw(untracked undelivered asynchronous synchronous pgmemcache notify outbox wal2json application);
local @ENV{qw(QUICK BENCH_SPOIL PGDATA_TEMPLATE OUT)} = (1, 1, "$out/data", $out);
delete local @ENV{qw(ROUNDS PEERS_SECONDS CLIENTS PEERS)};

my $said = join '', `$^X $tree/bench/peers/run.pl 2>&1`;
is($?, 0, 'a short run') or diag($said);
is(join(' ', $said =~ /^  spoiled: not as claimed: (\w+): /mg), join(' ', @peers), '... in which every peer bites with other keys');
my ($table) = $said =~ /^(\|  \| TPS .*?)\n\n/ms;
my @lines = ($table // '') =~ /^\| (\w.*?|`.*?) \| \d/mg;
is(@lines, @peers, '... its table has each') or diag($said);
is(join(' ', sort { $a cmp $b } $said =~ /^ *\d+ s  latency: (\w+) /mg), join(' ', sort grep { !/^un/ } @peers), '... and so have latencies');
my %stale = $said =~ /^ *\d+ s  loss: (\w+) +deleter killed: (\d+) stale/mg;
is($stale{$_}, 0, "nothing is stale when what deletes is killed: $_") foreach qw(asynchronous synchronous outbox);

done_testing();
