# Stray keys of query rules: counted in status; one owner's do not take the room of another's; who has not the
# owner's rights is shown no beginnings of them, neither by the warning nor by gaps.
#
# Remedy: the atomic in ca_stray_note, count and named in is_remembered, may_know in warn (src/rules/stray.c);
# pg_has_role in the view gaps.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
sub sql { return $node->safe_psql('postgres', join(';', @_)) }
sql('CREATE ROLE greedy; CREATE ROLE other; CREATE ROLE writer; CREATE ROLE looker; GRANT CREATE ON SCHEMA public TO greedy, other');
foreach my $owner (qw(greedy other))
{
	foreach my $table ("$owner", "${owner}_too")
	{
		sql("SET ROLE $owner; CREATE TABLE $table (k text); GRANT INSERT ON $table TO writer",
			"SELECT cache_aside.attach_query('$table', 'SELECT k FROM changed', 'feed:*', '$table')");
	}
}
my $write = 'SET client_min_messages = error; SET ROLE writer';

# ---- one owner fills his room
sql($write, q{INSERT INTO greedy SELECT chr(97 + i / 676) || chr(97 + (i / 26) % 26) || chr(97 + i % 26) || ':1' FROM generate_series(1, 300) i});
is(status($node, 'stray_keys'), 300, 'each is counted');
is(sql('SELECT count(*) FROM cache_aside.stray_pattern'), 200, 'so many are remembered');
sql($write, q{INSERT INTO greedy_too VALUES ('zzz:1'), ('zzy:1')});
sql($write, q{INSERT INTO other VALUES ('secret'), ('open:1')});
is(sql(q{SELECT string_agg(pattern, ' ' ORDER BY pattern) FROM cache_aside.stray_pattern WHERE rule <> 'greedy'}),
	'open:* secret zzz:*', 'his other rule is named still, and those of others have room');
sub gap { my ($role, $rule) = @_; return sql("SET ROLE $role", "SELECT gap FROM cache_aside.gaps WHERE rule = '$rule' AND gap ~ 'outside'"); }
like(gap('greedy', 'greedy'), qr/more kinds of keys .* than are remembered.*\(such as aab:\*\)/, 'gaps says that there were more');
is(gap('other', 'other'), 'the query gave keys outside its pattern: TRUNCATE leaves them (such as open:*)', 'not of others');

# ---- who may know
is(gap('looker', 'other'), 'the query gave keys outside its pattern: TRUNCATE leaves them', 'a stranger sees the gap, and no key');
my $row = q{INSERT INTO other_too VALUES ('hidden')};
my (undef, undef, $warning) = $node->psql('postgres', "SET ROLE writer; $row");
like($warning, qr/WARNING: .*gives keys outside its pattern\nDETAIL: +Some do not match "feed:\*"/, 'the writer is warned');
unlike($warning, qr/hidden/, '... and shown no key');
(undef, undef, $warning) = $node->psql('postgres', "SET ROLE other; $row");
like($warning, qr/DETAIL: +Keys like "hidden" do not match/, 'the owner is');

sql('SELECT cache_aside.reset_stats()');
ok(status_is($node, 'stray_keys', 0), 'the counter can be reset');
sql($write, $row);
is(status($node, 'stray_keys'), 1, 'and counts on');
$node->stop;
done_testing();
