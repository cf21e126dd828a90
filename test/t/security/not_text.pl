# Bytes that are no text: arguments of triggers written into the catalog by hand, in a database whose
# encoding they do not fit. Nothing crashes, no key is made of them, and the views go on.
# Remedies: ca_text_require_all() in parse_rule (src/rules/rule.c), in preview_rule (src/rules/preview.c) and in
# ca_version_settings_resolve (src/rows/version_settings.c); ca_text_show() in cache_aside_trigger_arguments and
# is_text() in cache_aside_rule_problem (src/rules/rule_view.c).
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);

sub sql { return scalar $node->safe_psql(shift, shift); }

# What a statement says, with its code.
sub complaint
{
	my ($database, $statement) = @_;
	my ($rc, $out, $err) = $node->psql($database, "\\set VERBOSITY verbose\n$statement");
	return $err;
}

# The arguments of one function's triggers, as the catalog has them: each ends with a NUL.
sub spoil
{
	my ($database, $function, $hex) = @_;
	return sql($database, "UPDATE pg_trigger SET tgargs = '\\x$hex' "
		  . "WHERE tgfoid = 'cache_aside.$function'::regproc AND tgrelid = 'users'::regclass");
}

my $schema = q{CREATE TABLE users (id int PRIMARY KEY, version bigint);
	CREATE TABLE orders (id int PRIMARY KEY);
	SELECT cache_aside.attach('orders', 'order:{id}')};
sql('postgres', $schema);
sql('postgres', q{SELECT cache_aside.attach('users', 'user:{id}')});
my $character = unpack 'H*', "user:\xe2";    # the first of three bytes

# ---- a template
spoil('postgres', $_, $character . '00') foreach qw(invalidate_row invalidate_table);
like(complaint('postgres', 'INSERT INTO users VALUES (1)'),
	qr/ERROR:  22021: argument of a cache rule's trigger is not text.*DETAIL:  Its bytes are "user:\\xe2"/s,
	'a write that would make keys of it fails');
like(complaint('postgres', 'TRUNCATE users'), qr/ERROR:  22021/, 'TRUNCATE too');
like(complaint('postgres', q{SELECT cache_aside.keys('users', '{"id": 1}')}), qr/ERROR:  22021/, 'keys()');
is(sql('postgres', q{SELECT name, pattern IS NULL FROM cache_aside.rules WHERE relation = 'users'::regclass}),
	'user:\xe2|t', 'the view rules shows what it can');
like(sql('postgres', q{SELECT string_agg(gap, ', ') FROM cache_aside.gaps WHERE relation = 'users'::regclass}),
	qr/not text in this database's encoding: every write fails/, 'gaps names it');
is(sql('postgres', q{SELECT cache_aside.detach('users')}), 1, 'it can be detached');

# ---- a query rule
sql('postgres', q{SELECT cache_aside.attach_query('users', 'SELECT id FROM changed', 'q:*', 'q')});
spoil('postgres', 'invalidate_statement',
	unpack('H*', "q:*\0SELECT '\xe2") . '00' . unpack('H*', 'q') . '0000');    # and an empty type
like(complaint('postgres', 'INSERT INTO users VALUES (1)'), qr/ERROR:  22021/, 'the query of a query rule');
like(complaint('postgres', q{SELECT cache_aside.keys('users', '{"id": 1}')}), qr/ERROR:  22021/, 'keys()');
like(sql('postgres', q{SELECT string_agg(gap, ', ') FROM cache_aside.gaps WHERE relation = 'users'::regclass}),
	qr/not text in this database's encoding/, 'in gaps too');
sql('postgres', q{SELECT cache_aside.detach('users')});

# ---- a version trigger
sql('postgres', q{SELECT cache_aside.enable_versioning('users', 'version')});
spoil('postgres', 'row_version', unpack('H*', "version\xe2\0next") . '00');
like(complaint('postgres', 'INSERT INTO users VALUES (1)'),
	qr/ERROR:  22021: argument of a row_version trigger/, 'the arguments of row_version');
like(sql('postgres', 'SELECT count(*) FROM cache_aside.versioned'), qr/^\d+$/, 'the view versioned');

# ---- SQL_ASCII: nobody knows what bytes mean
$node->safe_psql('postgres', q{CREATE DATABASE plain ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0});
sql('plain', "CREATE EXTENSION cache_aside; $schema; "
	  . q{SELECT cache_aside.attach('users', E'user:\xe2:{id}')});
wait_delivered($node);
$redis->set("user:\xe2:1", 'old');
sql('plain', 'INSERT INTO users VALUES (1)');
wait_delivered($node);
ok(keys_gone($redis, "user:\xe2:1"), 'the bytes are the key');
like(sql('plain', 'SELECT count(*) FROM cache_aside.rules'), qr/^2$/, 'and the rule can be seen');
like(complaint('plain', q{SELECT cache_aside.stick(E'user\xe2')}), qr/ERROR:  22021/,
	'the name of a stick is UTF-8 in every database');

# ---- all is well beside it
$redis->set('order:1', 'old');
sql('postgres', 'INSERT INTO orders VALUES (1)');
wait_delivered($node);
ok(keys_gone($redis, 'order:1'), 'other rules deliver');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP/, 'nothing crashed');
done_testing();
