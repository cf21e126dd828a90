# What is left of a rule when its table is replaced or dropped (write/table_swap): a rule of which only the TRUNCATE trigger is
# left moves as a whole; one that was detached, or lost its triggers by hand, is not lost with the table that is dropped in the
# same transaction.
#
# Remedies: RULES in like.c takes rules of any level; `statement` in add_dropped_table() in ddl.c.
use strict;
use warnings;

use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main');

sub sql { return scalar $node->safe_psql('postgres', join(';', 'SET client_min_messages = error', @_)); }

sub make
{
	sql('DROP TABLE IF EXISTS u, u_old', 'DELETE FROM cache_aside.lost_rule', 'CREATE TABLE u (id int PRIMARY KEY)',
		q{SELECT cache_aside.attach('u', 'u:{id}')}, q{SELECT cache_aside.attach('u', 's:{id}', level => 'statement')},
		q{SELECT cache_aside.attach_query('u', 'SELECT ''q:'' || id FROM changed', 'q:*')}, @_);
	return;
}
my $lost = q{SELECT string_agg(rule, ' ' ORDER BY rule) FROM cache_aside.lost_rule};
my $drop_all_but = q{DO $$ DECLARE drop_it text; BEGIN
	FOR drop_it IN SELECT format('DROP TRIGGER %I ON %s', trigger, relation) FROM cache_aside.rule_triggers WHERE NOT (%s)
	LOOP EXECUTE drop_it; END LOOP; END $$};

sub drop_all_but { return $drop_all_but =~ s/NOT \(%s\)/NOT ($_[0])/r; }

make(drop_all_but(q{level = 'table'}));
is(sql('ALTER TABLE u RENAME TO u_old', 'CREATE TABLE u (id int PRIMARY KEY)', q{SELECT cache_aside.attach_like('u', 'u_old')}),
	3, 'attach_like: rules of which the TRUNCATE trigger is left');
is(sql(q{SELECT count(*) FROM cache_aside.rules WHERE relation = 'u'::regclass}), 3, 'all are there');
is(sql('SELECT count(*) FROM cache_aside.gaps'), 0, 'whole');
is(sql(q{SELECT count(*) FROM cache_aside.rules WHERE relation = 'u_old'::regclass}), 0, 'and not where they were');

make(q{SELECT cache_aside.enable_versioning('u')});
is(sql('BEGIN', q{SELECT cache_aside.detach('u', 'u:{id}')}, 'DROP TABLE u', 'COMMIT', $lost) =~ s/^1\n//r,
	'q:* row_version(version) s:{id}', 'detached, then dropped: the others are lost with the table');
make(q{SELECT cache_aside.enable_versioning('u')});
sql('BEGIN', q{SELECT cache_aside.detach('u')}, q{SELECT cache_aside.disable_versioning('u')}, 'DROP TABLE u', 'COMMIT');
is(sql($lost), '', 'all detached, versions switched off');
make();
sql('BEGIN', drop_all_but('false'), 'DROP TABLE u', 'COMMIT');
is(sql($lost), '', 'dropped by hand');
make();
sql('BEGIN', q{SELECT cache_aside.detach('u', 'u:{id}'); SELECT cache_aside.attach('u', 'u:{id}')}, 'DROP TABLE u', 'COMMIT');
is(sql($lost), 'q:* s:{id} u:{id}', 'attached again');
make();
sql('DROP TABLE u');
is(sql($lost), 'q:* s:{id} u:{id}', 'dropped with all of them');
make();
sql('CREATE SCHEMA gone', 'ALTER TABLE u SET SCHEMA gone', 'DROP SCHEMA gone CASCADE');
like(sql($lost), qr/u:\{id\}/, 'and with its schema');

$node->stop;
done_testing();
