# Memory of the writing backend: 200 000 rolled-back subtransactions, a million-row statement at
# statement level, and one million keys by hand leave the peak where it was.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan(skip_all => 'needs /proc') unless -r "/proc/$$/status";
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => "max_wal_size = 4GB\nshared_buffers = 16MB\n");
$node->safe_psql('postgres', q{
	CREATE TABLE big (id int PRIMARY KEY, n int);
	INSERT INTO big SELECT g, 0 FROM generate_series(1, 1000000) g;
	SELECT cache_aside.attach('big', 'big:{id}', level => 'statement');
	CREATE TABLE one (id int PRIMARY KEY, n int);
	INSERT INTO one VALUES (1, 0);
	SELECT cache_aside.attach('one', 'one:{id}');
});
$node->safe_psql('postgres', slurp_file('test/sql/roll_back.psql'));

# Peak of memory that is the backend's own, in MB, while it runs `sql`; each in a fresh session.
sub peak
{
	my ($sql) = @_;
	my $session = background_sql($node);
	$session->query_safe('SELECT count(*) FROM one; SET client_min_messages = error');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	my $read = sub {
		open my $fh, '<', "/proc/$pid/status" or die $!;
		my %kb = map { /^(\w+):\s+(\d+) kB/ ? ($1, $2) : () } <$fh>;
		return \%kb;
	};
	my $before = $read->();
	$session->query_safe($_) foreach @$sql;
	my $after = $read->();
	$session->quit;
	# shared buffers count once they are touched: leave them out
	return ($after->{VmHWM} - $before->{VmHWM} - ($after->{RssShmem} - $before->{RssShmem})) / 1024;
}

my $grown = peak([ 'BEGIN', 'CALL roll_back(200000)', 'COMMIT' ]);
cmp_ok($grown, '<', 32, sprintf('200 000 rolled-back subtransactions: %.1f MB', $grown));
$grown = peak(['UPDATE big SET n = n + 1']);
cmp_ok($grown, '<', 64, sprintf('a million rows, statement level: %.1f MB', $grown));
$grown = peak([q{DO $$ BEGIN FOR i IN 1 .. 1000000 LOOP PERFORM cache_aside.invalidate('by hand:' || i); END LOOP; END $$}]);
cmp_ok($grown, '<', 32, sprintf('one million keys by hand: %.1f MB', $grown));
wait_delivered($node);
cmp_ok(status($node, 'keys'), '>=', 2000000, 'and all of it was delivered');

$node->stop;
done_testing();
