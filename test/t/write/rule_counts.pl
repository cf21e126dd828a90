# What rules did is counted exactly, by many sessions at once and when they end; more rules than there is room for lose
# nothing, and take no more memory; a restart begins anew. Keys that go by fill neither log nor client.
#
# Remedies: add_up(), add_up_at_exit() and sweep() in rule.c, take() in rule_stats.c (src/rules); MOST_SHOWN in log_keys.c.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "max_locks_per_transaction = 256\n");
my $stats = q{SELECT coalesce(relation::text, 'others'), sum(fired), sum(keys), sum(patterns), sum(failures) FROM cache_aside.rule_stats};
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i;
	SELECT cache_aside.attach('t', 't:{id}')});

# ---- many at once
append_to_file($node->basedir . '/update.sql', "\\set id random(1, 1000)\nUPDATE t SET n = n + 1 WHERE id = :id;\n");
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '250', '-f', $node->basedir . '/update.sql', 'postgres' ], 'pgbench');
wait_until(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") == 0 });
is(sql("$stats GROUP BY 1"), 't|2000|2000|0|0', '2000 commits of 8 sessions are 2000, all told when they have ended');

# ---- tables that are made, written and rolled back again and again in one transaction keep no memory, and count
my $loop = q{SELECT cache_aside.reset_rule_stats(); BEGIN;
	DO $$ BEGIN FOR i IN 1 .. 350 LOOP BEGIN CREATE TABLE gone (id int); PERFORM cache_aside.attach('gone', 'gone:{id}'); INSERT INTO gone VALUES (1);
		RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
	SELECT count(*) < 150 FROM pg_backend_memory_contexts WHERE name = 'cache_aside rule'; COMMIT;
	SELECT sum(fired), sum(failures) FROM cache_aside.rule_counts()};
is(sql($loop), "\nt\n350|0", 'rules of tables that were rolled back are not kept until COMMIT; they count');

# ---- more rules than places
my $many = 2300;
sql(qq{SELECT cache_aside.reset_rule_stats();
	DO \$\$ BEGIN FOR i IN 1 .. $many LOOP
		EXECUTE format('CREATE TABLE m%s (id int)', i);
		EXECUTE format('CREATE TRIGGER r AFTER INSERT ON m%s FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row(''m:{id}'')', i);
	END LOOP; END \$\$;
	DO \$\$ BEGIN FOR i IN 1 .. $many LOOP EXECUTE format('INSERT INTO m%s VALUES (1), (2)', i); END LOOP; END \$\$});
is(sql('SELECT sum(fired), sum(keys) FROM cache_aside.rule_stats'), 2 * $many . '|' . 2 * $many, "$many rules: nothing is lost");
my ($others, $kept) = split /\|/, sql(q{SELECT sum(fired) FILTER (WHERE relation IS NULL), count(*) FILTER (WHERE fired > 0 AND relation IS NOT NULL) FROM cache_aside.rule_stats});
is($others + 2 * $kept, 2 * $many, "$kept have a place, the others $others firings together");
cmp_ok($kept, '<=', 2048, '... of those there are');
sql('INSERT INTO t VALUES (2001, 0)');
is(sql("$stats WHERE relation = 't'::regclass GROUP BY 1"), 't|1|1|0|0', 'a rule that fires has a place');

# ---- keys go by
my ($out, $err);
$node->psql('postgres', q{SET cache_aside.log_keys = notice; INSERT INTO t SELECT i, 0 FROM generate_series(3001, 8000) i;
	INSERT INTO t VALUES (9000, 0)}, stderr => \$err);
is(() = $err =~ /NOTICE:  cache_aside invalidates key "t:\d+"/g, 1001, '1000 of a transaction, and those of the next');
is(() = $err =~ /NOTICE:  cache_aside shows no more keys of this transaction/g, 1, '... which is said');
my $from = log_position($node);
$node->psql('postgres', q{SET cache_aside.log_keys = log; INSERT INTO t VALUES (9001, 0)}, stderr => \$err);
is($err, '', 'level log: nothing to the client');
like(log_since($node, $from), qr/LOG:  cache_aside invalidates key "t:9001"\n(?!.*STATEMENT)/, '... but to the log, without the statement');

$node->restart;
is(sql('SELECT sum(fired) FROM cache_aside.rule_stats'), 0, 'a restart begins anew');
$node->stop;
done_testing();
