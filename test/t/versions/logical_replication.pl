
# A logical replication subscriber with the same version trigger stores the publisher's versions: the
# trigger fires where a row is written first, not where it is applied. Its own writers are still checked.
#
# Fails when create_trigger() (enable_versioning.c) makes the trigger ENABLE ALWAYS: an UPDATE applied without
# the version column bumps, and one that presents a version is checked.

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use Test::More;

my $conf = "wal_level = logical\ncache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n";
my $publisher = CacheAside->new_node('publisher', conf => $conf);
my $subscriber = CacheAside->new_node('subscriber', conf => $conf);

my $tables = q{
	CREATE TABLE plain (id int PRIMARY KEY, v int);
	CREATE TABLE seq (id int PRIMARY KEY, v int);
	CREATE TABLE parted (id int, k int, v int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
	CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
	SELECT cache_aside.enable_versioning('plain'), cache_aside.enable_versioning('seq', start => 'sequence'),
		cache_aside.enable_versioning('parted');
};
$_->safe_psql('postgres', $tables) foreach $publisher, $subscriber;
$publisher->safe_psql('postgres', q{
	INSERT INTO plain (id, v, version) VALUES (1, 0, 0), (2, 0, 40);
	INSERT INTO seq SELECT i, 0 FROM generate_series(1, 5) i;
	INSERT INTO parted VALUES (1, 1, 0), (2, 2, 0);
	CREATE PUBLICATION everything FOR TABLE plain, seq, parted;
});
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION mirror CONNECTION '$connection' PUBLICATION everything");
$subscriber->wait_for_subscription_sync($publisher, 'mirror');

# A publication that leaves the version out: nothing presents one, and nothing bumps it either.
$_->safe_psql('postgres', q{CREATE TABLE listed (id int PRIMARY KEY, v int);
	SELECT cache_aside.enable_versioning('listed')}) foreach $publisher, $subscriber;
$publisher->safe_psql('postgres', q{INSERT INTO listed VALUES (1, 0);
	CREATE PUBLICATION part FOR TABLE listed (id, v)});
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION part CONNECTION '$connection' PUBLICATION part");
$subscriber->wait_for_subscription_sync($publisher, 'part');
my $listed = 'SELECT v, version FROM listed';
my $before = $subscriber->safe_psql('postgres', $listed);
$publisher->safe_psql('postgres', "UPDATE listed SET v = $_") foreach 1 .. 3;
$publisher->wait_for_catchup('part');
is($publisher->safe_psql('postgres', $listed), '3|4', 'written: each write bumps');
is($subscriber->safe_psql('postgres', $listed), $before =~ s/^0/3/r, 'applied: none does');

my $all = q{SELECT 'plain', * FROM plain ORDER BY id; SELECT 'seq', * FROM seq ORDER BY id;
	SELECT tableoid::regclass, * FROM parted ORDER BY id};
is($subscriber->safe_psql('postgres', $all), $publisher->safe_psql('postgres', $all),
	'the initial copy keeps versions');

$publisher->safe_psql('postgres', q{
	UPDATE plain SET v = 1;
	UPDATE plain SET v = 2, version = version + 1 WHERE id = 1;
	BEGIN; SET LOCAL cache_aside.import_mode = on; UPDATE plain SET version = 7 WHERE id = 2; COMMIT;
	INSERT INTO plain VALUES (3, 0);
	DELETE FROM seq WHERE id = 5;
	INSERT INTO seq VALUES (5, 0);
	UPDATE seq SET v = 1;
	UPDATE parted SET v = 1;
	UPDATE parted SET k = 2 WHERE id = 1;
});
$publisher->wait_for_catchup('mirror');
is($subscriber->safe_psql('postgres', $all), $publisher->safe_psql('postgres', $all),
	'applied writes keep versions: no second bump');
like($subscriber->safe_psql('postgres', $all), qr/^plain\|2\|1\|7$/m, 'also one that went back');

is($subscriber->safe_psql('postgres', 'UPDATE plain SET v = 9 WHERE id = 3 RETURNING version'),
	'2', 'a writer on the subscriber bumps');
my ($ret, $out, $err) = $subscriber->psql('postgres', 'UPDATE plain SET v = 9, version = 1 WHERE id = 3');
like($err, qr/row version conflict/, 'and is checked');

done_testing();
