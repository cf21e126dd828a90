
# A login role with a schema of its own, TEMP, and TRIGGER on somebody's table calls everything with
# everything, and so does one that was granted every function: nothing crashes, no error is internal,
# no key of others goes, nobody else's rights are used, and the server goes on delivering.
#
# Remedies: each block names its own.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'CONF');
log_error_verbosity = verbose
log_min_messages = warning
log_statement = none
max_prepared_transactions = 5
CONF
my @as_mallory = (extra_params => [ '-U', 'mallory' ], on_error_stop => 0);
my $infinity = $node->safe_psql('postgres', 'SHOW server_version_num') >= 170000 ? 'infinity' : '170000000 years';

$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE granted LOGIN;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA cache_aside TO granted;
	REVOKE EXECUTE ON FUNCTION cache_aside.uninstall() FROM granted;
	CREATE SCHEMA alice AUTHORIZATION alice; CREATE SCHEMA mallory AUTHORIZATION mallory;
	GRANT USAGE ON SCHEMA alice TO mallory, granted; GRANT USAGE, CREATE ON SCHEMA mallory TO granted;
	CREATE EXTENSION IF NOT EXISTS postgres_fdw;
	CREATE SERVER nowhere FOREIGN DATA WRAPPER postgres_fdw; GRANT USAGE ON FOREIGN SERVER nowhere TO mallory;
	SET ROLE alice;
	CREATE TABLE alice.t (id int PRIMARY KEY, secret text);
	CREATE TABLE alice.mine (id int PRIMARY KEY, owner text); ALTER TABLE alice.mine ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON alice.mine USING (owner = current_user);
	INSERT INTO alice.mine VALUES (1, 'alice'), (2, 'mallory'); GRANT SELECT, UPDATE ON alice.mine TO mallory;
	INSERT INTO alice.t VALUES (1, 'hidden'); GRANT TRIGGER, INSERT ON alice.t TO mallory;
	SELECT cache_aside.attach('alice.t', 'alice:{id}');
	SET ROLE mallory;
	CREATE TABLE mallory.t (id int PRIMARY KEY, k text, version int, created_at timestamptz);
	INSERT INTO mallory.t VALUES (1, 'a', 1, 'infinity');
	CREATE VIEW mallory.v WITH (security_invoker) AS SELECT * FROM alice.mine;
	CREATE MATERIALIZED VIEW mallory.mv AS SELECT 1 AS id;
	CREATE SEQUENCE mallory.s; CREATE TYPE mallory.pair AS (a int, b text);
	CREATE TABLE mallory.p (id int PRIMARY KEY, k text) PARTITION BY RANGE (id);
	CREATE FOREIGN TABLE mallory.f (id int, k text) SERVER nowhere;
	SELECT cache_aside.attach('mallory.t', 'm:{k}')});
my $other = background_sql($node, extra_params => [ '-U', 'alice' ]);
$other->query_safe('CREATE TEMP TABLE hers (id int PRIMARY KEY)');
my $temp = $node->safe_psql('postgres', q{SELECT 'hers'::text || '' FROM pg_class WHERE relname = 'hers' LIMIT 1});
my $temp_oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_class WHERE relname = 'hers'});

# ---- every function, every kind of argument, one hostile one at a time ----

my %values = (
	regclass => [ "'mallory.t'", map({ "'$_'" } qw(alice.t alice.mine mallory.v mallory.mv mallory.s mallory.p mallory.f
		  mallory.pair mallory.t_pkey pg_class pg_trigger pg_toast.pg_toast_1255 cache_aside.rules)),
		"$temp_oid\::oid", '0::oid', '4294967295::oid', '1::oid' ],
	text => [ "'m:{k}'", "''", "'SELECT id, k FROM mallory.t'", q{repeat('x', 2000000)}, q{repeat('{id}', 3000)}, "'{'",
		q{E'\x01\x7f%s%n'}, "'cache_aside:position:1'", "'*'", q{repeat('[', 5000)}, "'host=a password=b'",
		q{'SELECT ''1''::mallory.pair'}, q{'WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT * FROM r'},
		q{repeat('(', 20000)}, "'1-1-0/0'", q{repeat('9', 40) || '-1-0/0'} ],
	jsonb => [ q{'{"id": 1}'}, q{'{}'}, q{'[]'}, q{'null'}, q{'"x"'}, q{'{"id": {"a": []}}'}, q{'{"id": [null, 1e400]}'},
		q{'{"created_at": ["-infinity", "x"]}'}, q{'{"nosuch": 1}'}, q{(repeat('[', 5000) || repeat(']', 5000))::jsonb},
		q{jsonb_build_object('k', repeat('y', 3000000))}, q{'{"id": 99999999999999999999}'}, q{'{"tableoid": 1, "ctid": "(0,1)"}'} ],
	'name[]' => [ q{'{k}'}, q{'{}'}, q{'{NULL}'}, q{'{{k,id},{k,id}}'}, q{'{nosuch}'}, q{'[5:5]={k}'} ],
	'text[]' => [ q{ARRAY['m:x']}, q{'{}'}, q{'{NULL}'}, q{'{{a,b},{c,NULL}}'}, q{array_fill('x'::text, ARRAY[100000])} ],
	name => [ q{'k'}, q{''}, q{'version'}, q{'ctid'}, q{'nosuch'} ],
	regnamespace => [ map { "$_\::regnamespace" } qw('mallory' 'alice' 'pg_catalog' 'pg_toast' 'cache_aside' 0 4294967295) ],
	interval => [ q{'1 s'}, q{'0'}, q{'-1 day'}, qq{'$infinity'}, qq{'-$infinity'}, q{'-178000000 years'} ],
	pg_lsn => [ q{'0/1'}, q{'0/0'}, q{'FFFFFFFF/FFFFFFFF'} ],
	integer => [ 1, 0, -1, 2147483647, -2147483648 ],
	bigint => [ 1, 0, -9223372036854775808, 9223372036854775807 ],
	'double precision' => [ 1, 0, -1, q{'NaN'}, q{'Infinity'}, '1e-320' ],
	boolean => [ 'true', 'false' ],
	oid => [ 0, 1, 4294967295, "(SELECT oid FROM pg_trigger WHERE tgrelid = 'alice.t'::regclass LIMIT 1)",
		"(SELECT oid FROM pg_trigger WHERE tgrelid = 'mallory.t'::regclass LIMIT 1)" ],
	bytea => [ q{'\x00'}, q{''}, q{'\xff00fe00'}, q{decode(repeat('61', 100000), 'hex')} ],
	'"char"' => [ q{'x'} ]);

# What lets a call get far, where the first value of the type does not.
my %fitting = (level => "'row'", start => "'one'", presents => "'next'", token => 'cache_aside.read_token()',
	version => "'version'", value_query => "'SELECT 1'", columns => 'NULL', row => q{'{"id": 1, "k": "b"}'},
	item => q{'{"id": 2, "k": "b"}'}, changes => q{'{"k": "c"}'}, match => q{'{"k": "a"}'}, sample => 1,
	range => q{'{"created_at": [null, null]}'}, query => "'SELECT k, k FROM mallory.t'", conninfo => "'host=a'");
my @statements;
foreach my $row (split /\n/, $node->safe_psql('postgres', q{
	SELECT p.proname, p.prokind, (SELECT string_agg(format_type(t, NULL), ';' ORDER BY n)
		FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n)),
		(SELECT string_agg(name, ';' ORDER BY n) FROM unnest(p.proargnames) WITH ORDINALITY a (name, n))
	FROM pg_proc p WHERE pronamespace = 'cache_aside'::regnamespace AND prorettype <> 'trigger'::regtype
	AND proname NOT IN ('uninstall', 'wait_delivered')}))
{
	my ($name, $kind, $types, $names) = split /\|/, $row;
	my @types = split /;/, $types // '';
	my @names = split /;/, $names // '';
	my @sane = map {
		my $list = $values{ $types[$_] } // die "no values for type $types[$_]";
		($fitting{ $names[$_] // '' } // $list->[0]) . "::$types[$_]"
	} 0 .. $#types;
	my $call = sub { ($kind eq 'p' ? 'CALL ' : 'SELECT ') . "cache_aside.$name(" . join(', ', @_) . ')' };
	$call = sub { "CALL cache_aside.$name(" . join(', ', @_, 'NULL') . ')' } if $kind eq 'p';
	$call = sub { my @a = @_; $a[-1] = "VARIADIC $a[-1]"; "SELECT cache_aside.$name(" . join(', ', @a) . ')' }
	  if $name =~ /^(?:fetch|invalidate)$/;
	pop @types, pop @sane if $kind eq 'p' && @types > 2;
	push @statements, $call->(@sane), (@types ? $call->(map { "NULL::$_" } @types) : ());
	foreach my $i (0 .. $#types)
	{
		foreach my $value ('NULL', @{ $values{ $types[$i] } })
		{
			push @statements, $call->(@sane[ 0 .. $i - 1 ], "$value\::$types[$i]", @sane[ $i + 1 .. $#sane ]);
		}
	}
}
cmp_ok(scalar(@statements), '>', 500, scalar(@statements) . ' calls');

my $started = log_position($node);
foreach my $role ('mallory', 'granted')
{
	my $script = "SET statement_timeout = '3s'; SET client_min_messages = error;\n"
	  . join('', map { "BEGIN; SAVEPOINT a; $_; ROLLBACK TO a; $_; ROLLBACK;\n$_;\n" } @statements);
	my (undef, undef, $err) = $node->psql('postgres', $script, extra_params => [ '-U', $role ], on_error_stop => 0, timeout => 300);
	unlike($err, qr/server closed the connection|connection to server was lost/, "$role: the session outlives all calls");
	like($node->safe_psql('postgres', 'SELECT 1'), qr/1/, '... and the server');
}
my $log = log_since($node, $started);
unlike($log, qr/terminated by signal|TRAP:|PANIC/, 'nothing crashed');
# of a relation that does not exist PostgreSQL's own functions say no more
my @internal = grep { !/^could not open relation with OID \d+$/ } $log =~ /(?:ERROR|FATAL):  XX\d\d\d: ([^\n]*)/g;
is(scalar(@internal), 0, 'no error is internal') or diag(join "\n", @internal[ 0 .. ($#internal > 20 ? 20 : $#internal) ]);
$node->safe_psql('postgres', q{REASSIGN OWNED BY granted TO mallory});
wait_delivered($node);
is(status($node, 'state'), 'delivering', 'the worker goes on');

$other->quit;
$node->stop;
done_testing();
