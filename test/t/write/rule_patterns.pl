# The pattern of a rule that nobody checked: made in a session without the library, or before the key
# prefix was what it is. No write, TRUNCATE or DDL of the table's owner fails on it, whatever it is; nor
# does the administrator's DROP OWNED, and a resync comes to its end.
#
# Remedies: ca_entries_add_rule_pattern() in add_pattern (capture.c), ca_attach_add_patterns (attach.c),
# add_rule (reach.c), add_dropped_table (ddl.c); in it add_shortened() and the look at an empty pattern.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "cache_aside.key_prefix = 'p:'\n");
$node->safe_psql('postgres', q{CREATE ROLE alice LOGIN; CREATE SCHEMA alice AUTHORIZATION alice});

# In the catalog, as the trigger would be if it had been created without the library.
sub make_rule
{
	my ($table, $pattern, $enabled) = @_;
	$node->safe_psql('postgres', qq{
		SET ROLE alice; CREATE TABLE alice.$table (id int);
		SELECT cache_aside.attach_query('alice.$table', 'SELECT ''x:'' || id FROM changed', 'x:*', 'x');
		RESET ROLE;
		UPDATE pg_trigger SET tgenabled = '$enabled', tgnargs = 3, tgargs = convert_to($pattern, 'UTF8') || '\\x00'
			|| convert_to('SELECT ''x:'' || id FROM changed', 'UTF8') || '\\x00' || convert_to('x', 'UTF8') || '\\x00'
			WHERE tgrelid = 'alice.$table'::regclass});
	return;
}

# All that a statement as alice would delete.
sub pending
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"BEGIN; SET LOCAL ROLE alice; $sql; RESET ROLE; SELECT kind, key FROM cache_aside.pending(); ROLLBACK", on_error_stop => 1);
	return $rc == 0 ? $out : $err;
}

my %gives = (
	"''" => '',
	"'cache_aside:guard:*'" => '',
	"repeat('y', 8192)" => 'pattern|p:' . 'y' x 8189 . '*',
	"repeat('y', 8180) || '[ab\\]cdefghijkl]z'" => 'pattern|p:' . 'y' x 8180 . '*',
	"repeat('\\?', 5000)" => 'pattern|p:' . '\?' x 4094 . '*',
	"repeat('y', 100000)" => 'pattern|p:' . 'y' x 8189 . '*');
my $n = 0;
foreach my $pattern (sort keys %gives)
{
	my $table = 't' . ++$n;
	make_rule($table, $pattern, 'O');
	is(pending("INSERT INTO alice.$table VALUES (1)"), $gives{$pattern}, "a write: $pattern");
	is(pending("TRUNCATE alice.$table"), $gives{$pattern}, '... TRUNCATE');
	is(pending("SELECT cache_aside.flush('alice.$table')") =~ s/^\n//r, $gives{$pattern}, '... flush()');
	is(pending("DROP TABLE alice.$table"), $gives{$pattern}, '... DROP TABLE');
	is(pending("ALTER TABLE alice.$table ADD c int DEFAULT 1"), $gives{$pattern}, '... ALTER TABLE');
}
$redis->set('p:x:1', 'old');
$node->safe_psql('postgres', q{CREATE TABLE u (id int); SELECT cache_aside.attach('u', 'x:{id}');
	SELECT cache_aside.resync()});
wait_delivered($node);
ok(keys_gone($redis, 'p:x:1'), 'a resync goes past them');
is(pending(''), '', 'nothing else is pending');

# A template whose keys are short enough and whose pattern is not.
$node->safe_psql('postgres', q{SET ROLE alice; CREATE TABLE alice.t (id int);
	SELECT cache_aside.attach('alice.t', repeat('?', 5000) || '{id}')});
is(pending('TRUNCATE alice.t'), 'pattern|p:' . '\?' x 4094 . '*', 'a template with many glob characters: TRUNCATE');
my ($rc, undef, $err) = $node->psql('postgres', 'DROP OWNED BY alice; DROP ROLE alice');
is($rc, 0, 'an administrator can drop what a role owned') or diag($err);
wait_delivered($node);
unlike(log_since($node), qr/terminated by signal|TRAP|could not read the rules/, 'nothing crashed, no visit failed');
done_testing();
