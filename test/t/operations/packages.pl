# What is missing on a machine is named exactly, with the one command that installs it, and root's run
# installs just that: headers and server of one major, whichever is there already. On pretended machines
# (BareMachine), each in a fraction of a second; scripts/bare.sh does one of them for real.
#
# Remedies: lacks() in scripts/postgresql.sh; without its test for postgres.h, or of the server's major,
# the machines with a client or with two majors take what cannot be built or does not match.
# hold_services() in scripts/packages.sh; without it apt-get finds no policy-rc.d.
use strict;
use warnings;

use lib 'test/perl';
use BareMachine;
use Test::More;

sub machine { return BareMachine->new(release => 12, archive => [15], @_); }

my @pg15 = qw(postgresql-15 postgresql-server-dev-15);
my @tools = qw(gcc libc6-dev libhiredis-dev libssl-dev pkg-config);
my @run = (qw(perl redis-server), @tools);

# That `packages` are named, in whatever order, as what root has to install.
sub is_told
{
	my ($machine, $goal, $packages, $name, %env) = @_;
	my ($status, $said) = $machine->run($goal, tell => 1, %env);
	my ($named) = $said =~ /^    apt-get update && apt-get install -y --no-install-recommends (.*)$/m;
	is(join(' ', sort split / /, $named // ''), join(' ', sort @$packages), $name) or diag $said;
	is($status, @$packages ? 1 : 0, '... exit status') or diag $said;
	return $said;
}

# Nothing is there; then only parts of PostgreSQL.
is_told(machine(), 'demo', [ @pg15, @run ], 'nothing');
is_told(machine(lists => 0), 'demo', [ @pg15, @run ], 'nothing, and apt has no lists');
is_told(machine(release => 13, lists => 0), 'demo',
	[ qw(postgresql-17 postgresql-server-dev-17), @run ], 'nothing, no lists, Debian 13');
is_told(machine(packages => ['libpq-dev', @run]), 'demo', \@pg15, 'libpq-dev');
my $client = machine(packages => [ qw(libpq-dev postgresql-client-15), @run ]);
like(is_told($client, 'demo', \@pg15, 'a client, with PGXS'), qr{headers.*15/server/postgres\.h}, '... headers');
is_told(machine(packages => [ 'postgresql-15', @run ]), 'demo', ['postgresql-server-dev-15'], 'a server');
is_told(machine(packages => [ 'postgresql-server-dev-15', @run ]), 'demo', ['postgresql-15'], 'headers');
is_told(machine(packages => [ @pg15, @run ]), 'demo', [], 'all');
is_told(machine(packages => [ @pg15, @run ]), 'test',
	[ qw(chromium clang clang-format libipc-run-perl pgbouncer python3-minimal),
		(map { "python3-$_" } qw(redis psycopg pip django psycopg2 sqlalchemy starlette)),
		(map { "ruby-$_" } qw(activerecord pg redis)), (map { "postgresql-15-$_" } qw(wal2json repack partman pglogical)),
		qw(prometheus prometheus-postgres-exporter prometheus-sql-exporter) ], 'tests want more');

# Tools: what is there counts, not its package.
is_told(machine(packages => [ @pg15, qw(perl redis-server gcc libc6-dev libhiredis-dev libssl-dev) ]), 'demo', [],
	'hiredis without pkg-config');
my $crippled = machine(packages => [ @pg15, @run ])->remove('usr/include/stdio.h');
like(is_told($crippled, 'demo', ['libc6-dev'], 'a compiler without headers'), qr/stdio\.h: No such/, '... said so');
$crippled->install('libc6-dev')->remove('usr/include/hiredis');
like(is_told($crippled, 'demo', ['libhiredis-dev'], 'no hiredis'), qr/hiredis\.h: No such/, '... said so');
$crippled->install('libhiredis-dev')->remove('usr/include/openssl');
like(is_told($crippled, 'demo', ['libssl-dev'], 'no OpenSSL'), qr/unless WITH_OPENSSL=no: .*ssl\.h: No such/, '... said so');
is_told($crippled, 'demo', [], 'without, on demand', WITH_OPENSSL => 'no');
$crippled->install('libssl-dev')->script('usr/bin/redis-server', 'exit 127');
is_told($crippled, 'demo', ['redis-server'], 'a Redis that does not run');

# The peers of bench-peers, of the server's major; as far as they are asked for.
my @peers = qw(postgresql-15-pgmemcache postgresql-15-wal2json memcached gnuplot-nox);
is_told(machine(), 'bench-peers', [ @pg15, @run, @peers ], 'peers, and nothing is there');
is_told(machine(packages => [ @pg15, @run ]), 'bench-peers', \@peers, 'peers');
is_told(machine(packages => [ @pg15, @run, @peers ]), 'bench-peers', [], '... all of them');
is_told(machine(packages => [ @pg15, @run ]), 'bench-peers', ['gnuplot-nox'], '... those of PostgreSQL itself',
	PEERS => 'untracked notify');

# Two majors: build for the one that runs.
my @both = (archive => [ 15, 17 ], release => 13);
my @pg17 = qw(postgresql-17 postgresql-server-dev-17);
is(machine(@both, packages => [ @pg15, @pg17, @run ])->chosen('demo'), '/usr/bin/pg_config', 'two majors: the newest');
my $new_client = machine(@both, packages => [ @pg15, 'postgresql-client-17', @run ]);
is($new_client->chosen('demo'), '/usr/lib/postgresql/15/bin/pg_config', 'only a client is newer: what is whole');
my $apart = machine(@both, packages => [ qw(postgresql-15 postgresql-server-dev-17), @run ]);
is_told($apart, 'demo', ['postgresql-server-dev-15'], 'server 15, headers 17: the headers of the server');
is_told(machine(@both, archive => [17], packages => [@run])->copy_from($apart), 'demo', ['postgresql-17'],
	'... the server of the headers, where the others are not to be had');
is_told(machine(archive => [ 17, 15 ], packages => [@run]), 'demo', \@pg15, "the archive's own default");
is_told(machine(archive => [ 15, 18 ], packages => [@run]), 'demo',
	[qw(postgresql-18 postgresql-server-dev-18)], "another archive's default");

# PG_CONFIG alone decides.
my $by_hand = machine(@both, packages => [ @pg15, @run ])->build_postgresql(17);
is($by_hand->chosen('demo'), '/usr/bin/pg_config', 'one made by hand is not in PATH');
my $of_hand = $by_hand->dir . '/usr/local/pgsql/bin/pg_config';
is($by_hand->chosen('demo', PG_CONFIG => $of_hand), '/usr/local/pgsql/bin/pg_config', 'PG_CONFIG names it');
$by_hand->remove('usr/local/pgsql/include/server/postgres.h');
my ($status, $said) = $by_hand->run('demo', root => 1, PG_CONFIG => $of_hand);
is($status, 1, 'PG_CONFIG without headers');
like($said, qr{pgsql/include/server/postgres\.h$}m, '... is told');
is($by_hand->text('apt.log'), '', '... nothing is installed for it');
$by_hand->build_postgresql(17)->add_headers('usr/local/pgsql/include/server', 16);
($status, $said) = $by_hand->run('demo', PG_CONFIG => $of_hand);
like($said, qr{^    PostgreSQL's server, of the major of its headers: }m, 'headers of another major than the server');
is_told($by_hand, 'demo', \@pg17, 'PG_CONFIG of packages that are not there',
	PG_CONFIG => $by_hand->dir . '/usr/lib/postgresql/17/bin/pg_config');

# make itself.
($status, $said) = $client->make;
isnt($status, 0, 'make with a client only');
like($said, qr/install .* postgresql-server-dev-15$/m, '... names the headers');
unlike($said, qr/compiles|postgresql-15/, '... compiles nothing, asks for no server');
($status, $said) = machine(packages => [ qw(perl), @tools ])->make;
like($said, qr/headers of PostgreSQL's server.*install .* postgresql-server-dev-15$/ms, 'make without pg_config');
($status, $said) = machine(packages => [ @pg15, qw(gcc libc6-dev) ])->make;
like($said, qr/hiredis\.h: No such.*install .* libhiredis-dev libssl-dev pkg-config$/ms, 'make without hiredis');
($status, $said) = machine(packages => [ @pg15, qw(gcc libc6-dev libhiredis-dev libssl-dev) ])->make;
is($said =~ s/compiles\n//gr, '', 'make with hiredis, without pkg-config') or diag $said;
($status, $said) = $new_client->make;
like($said, qr{make PG_CONFIG=\S*/usr/lib/postgresql/15/bin/pg_config$}m, 'make names the major that is whole');

# Root installs it, and nothing starts.
my $bare = machine(lists => 0);
($status, $said) = $bare->run('demo', root => 1);
is($status, 0, 'root installs') or diag $said;
like($bare->text('apt.log'), qr/^policy 101\ncreate_main_cluster = false\n/m, '... daemons and clusters held back');
like($bare->text('apt.log'), qr/^update-rc\.d redis-server disable$/m, '... and left off at boot');
ok(!$bare->has($_), "... no $_ is left") for 'usr/sbin/policy-rc.d', 'etc/postgresql-common';
is_told($bare, 'demo', [], 'nothing is missing afterwards');
done_testing();
