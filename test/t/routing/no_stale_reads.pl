# Forty thousand pairs (PAIRS): write, then read where route() says. No read misses its write, though one
# standby replays 200 ms late; and most reads stay off the primary. The same run tells what "after a
# write read the primary for so many seconds" would have kept off it.
use strict;
use warnings;

use CacheAside;
use PgWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $pairs = $ENV{PAIRS} // 40_000;
my $users = 20_000;
my $batch = 200;
# Feedback: pruning on the primary would cancel reads.
my $nowhere = "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n";
my $primary = CacheAside->new_node('primary', conf => "$nowhere log_statement = none\nautovacuum = off\n");
my %node = (near => undef, late => undef);
$node{near} = CacheAside->new_standby('near', $primary, conf => "$nowhere log_statement = none\nhot_standby_feedback = on\n");
$node{late} = CacheAside->new_standby('late', $primary,
	conf => "$nowhere log_statement = none\nhot_standby_feedback = on\nrecovery_min_apply_delay = '200 ms'\n");
my $writer = PgWire->new($primary, options => '-c cache_aside.report_commit_lsn=on');
my %reader = (primary => PgWire->new($primary));

$writer->query("CREATE TABLE u (id int PRIMARY KEY, n int NOT NULL);
	INSERT INTO u SELECT g, 0 FROM generate_series(1, $users) g");
$writer->query(q{SELECT cache_aside.add_replica('near', 'host=near', NULL, 3),
	cache_aside.add_replica('late', 'host=late', NULL, 1)});
my $start_token = $writer->value('SELECT cache_aside.commit_lsn()');
foreach my $name (qw(near late))
{
	ok($node{$name}->poll_query_until('postgres', "SELECT cache_aside.caught_up('$start_token')"), "$name has the table");
	$reader{$name} = PgWire->new($node{$name});
}

my (%count, %token, %written_at, %pinned, %share);
my (@due, @later);    # users to read: now, and by twentieths of a second from the start
my ($bucket, $scheduled) = (0, 0);
my ($reads, $stale) = (0, 0);
my $started = time;

# Writes of a batch, pipelined; each commit reports its token. Each write will be followed by a read of
# the same row: a fifth at once, the others within three seconds, as people click.
sub write_batch
{
	my @writes = map { 1 + int rand $users } 1 .. $batch;
	$writer->send(map { "UPDATE u SET n = n + 1 WHERE id = $_" } @writes);
	foreach my $user (@writes)
	{
		$token{$user} = $writer->receive->{status}{'cache_aside.commit_lsn'} // die 'no token came';
		$count{$user}++;
		$written_at{$user} = time;
		if (rand() < 0.2) { push @due, $user; }
		else { push @{ $later[ int(20 * (time - $started + rand 3)) + 1 ] }, $user; }
		$scheduled++;
	}
	return;
}

# Asks route() with each reader's own token, then reads where it said.
sub read_batch
{
	push @due, @{ $later[ $bucket++ ] // [] } while $bucket <= 20 * (time - $started) && $bucket <= $#later;
	my @now = splice @due, 0, 2 * $batch;
	my %there;
	$writer->send(map { "SELECT coalesce(name, role) FROM cache_aside.route('$token{$_}')" } @now);
	foreach my $user (@now)
	{
		my $where = $writer->receive->{rows}[0][0];
		push @{ $there{$where} }, $user;
		$share{$where}++;
		foreach my $seconds (2, 5, 30)
		{
			$pinned{$seconds}++ if time - $written_at{$user} < $seconds;
		}
	}
	foreach my $where (keys %there)
	{
		my @here = @{ $there{$where} };
		$reader{$where}->send(map { "SELECT n FROM u WHERE id = $_" } @here);
		foreach my $user (@here)
		{
			$stale++ if $reader{$where}->receive->{rows}[0][0] < $count{$user};
		}
	}
	$reads += @now;
	return;
}

while ($reads < $pairs)
{
	write_batch() if $scheduled < $pairs;
	read_batch();
}
my $seconds = time - $started;
is($stale, 0, "$reads writes and reads: none stale");
my $off = 1 - ($share{primary} // 0) / $reads;
note sprintf '%d pairs in %.1f s: near %d, late %d, primary %d', $reads, $seconds, $share{near} // 0,
  $share{late} // 0, $share{primary} // 0;
note sprintf 'kept off the primary: %.1f %% by tokens; %.1f %%, %.1f %%, %.1f %% by 2, 5, 30 s after a write', 100 * $off,
  map { 100 * (1 - ($pinned{$_} // 0) / $reads) } 2, 5, 30;
cmp_ok($off, '>', 1 - ($pinned{2} // 0) / $reads, 'more stays off the primary than with two seconds');
cmp_ok($share{$_} // 0, '>', 0, "$_ served some") foreach qw(near late primary);

# The same reads without a token do go stale: the pairs above would show it.
my $seen = 0;
foreach (1 .. 20)
{
	my $user = 1 + int rand $users;
	$writer->query("UPDATE u SET n = n + 1 WHERE id = $user");
	$count{$user}++;
	$seen++ if $reader{late}->value("SELECT n FROM u WHERE id = $user") < $count{$user};
}
cmp_ok($seen, '>', 0, 'without a token, reads from the late standby are stale');

done_testing();
