# A thundering herd: 500 readers of one key that is invalidated ten times a second, each twenty times a second (herd.c).
# How many reads reach the database for each invalidation, and how long a reader waits. With the lease; when every
# second fill is refused, because the key was invalidated once more before it; when every fill is refused, so that nothing
# is ever cached; and without the lease. A reader waits for the read of the database at least, so that is a short one here.
use strict;
use warnings;
use Bench;
use File::Basename qw(dirname);
use File::Temp ();
use Time::HiRes qw(time);

if (system('cc --version >/dev/null 2>&1')) { print "skipped: no C compiler\n"; exit 0; }
my $readers = scaled(500, 50);
my $each = 20;    # reads per second
my ($redis, $pg, $sql) = servers();
my $seconds = scaled(5, 1);
my $dir = File::Temp::tempdir(TMPDIR => 1, CLEANUP => 1);
my ($include, $lib) = map { `$ENV{PG_CONFIG} --$_` =~ s/\n//r } qw(includedir libdir);
system('cc', '-O2', "-I$include", '-o', "$dir/herd", dirname(__FILE__) . '/herd.c', "-L$lib", qw(-lpq -lhiredis -lm)) == 0
  or die "herd.c does not compile\n";
$sql->query(q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0);
	SELECT cache_aside.attach('t', 't:{id}')});
armed();

# Invalidated ten times a second, by `late` half of them. -> a hash
sub herd
{
	my ($lease_ms, $how) = @_;
	my ($updates, $there) = (0, 0);
	my $pause = $how eq 'late' ? 0.2 : 0.1;
	open my $herd, '-|', "$dir/herd", $redis->socket, "host=@{[ $pg->dir ]} port=5432 user=postgres dbname=postgres",
	  (spoiled() ? 'other:' : '') . 't:1', $readers, $each, $seconds, $lease_ms, $how
	  or die "herd: $!";
	readline $herd;
	my $begun = time;
	while (time < $begun + $seconds - $pause)
	{
		$there += $redis->exists('t:1');
		$sql->query('UPDATE t SET v = v + 1');
		$updates++;
		my $early = $begun + $updates * $pause - time;
		select undef, undef, undef, $early if $early > 0;
	}
	my %found;
	@found{qw(reads hits rows stored refused own p50 p99 p999 most)} = split ' ', readline($herd) // '';
	close $herd or die "the readers failed\n";
	return (%found, updates => $updates, there => $there);
}

# What is there when it begins
sub cache_row
{
	my ($there) = @_;
	$redis->del('t:1');
	$redis->wait_until(sub { $sql->value("SELECT cache_aside.fill('t:1', v::text) FROM t") eq 't' }) if $there;
	return;
}

my %last;

# Reads of the database for each invalidation
sub reads
{
	my ($what, $lease_ms, $how) = @_;
	return proved($what,
		prepare => sub { cache_row($how ne 'refused') },
		run => sub {
			my %h = herd($lease_ms, $how);
			my $half = int($h{updates} / 2);
			$last{$what} = \%h;
			my @cached = $how eq 'refused' ? ([ 'hits', $h{hits}, 0 ], [ 'fills refused', $h{refused}, ">= $half" ])
			  : ([ 'hits', $h{hits}, '>= 1' ], [ 'fills stored', $h{stored}, ">= $half" ],
				[ 'invalidations that found the key', $h{there}, ">= $half" ]);
			push @cached, [ 'fills refused', $h{refused}, ">= $half" ] if $how eq 'late';
			return ($h{rows} / ($h{updates} + $h{own}),
				commits => $h{updates} + $h{own},
				is => [ [ 'reads', $h{reads}, '>= ' . int($readers * $each * $seconds / 5) ], @cached ]);
		});
}

title("$readers readers of one key, each $each times a second, invalidated 10 times a second");
my @sides = ([ 'with lease', 2000, 'fresh' ], [ 'with lease, every second fill refused', 2000, 'late' ],
	[ 'with lease, every fill refused', 2000, 'refused' ], [ 'without lease', 0, 'fresh' ]);
my %times;
my @rows = paired(scaled($ENV{ROUNDS} // 5, 1), map {
		my @side = @$_;
		[ $side[0], sub {
			my $rows = reads(@side);
			push @{ $times{ $side[0] }{$_} }, $last{ $side[0] }{$_} foreach qw(p50 p99 p999 most);
			return $rows;
		} ]
	} @sides);
foreach my $i (0 .. $#sides)
{
	my $what = $sides[$i][0];
	note_line($what, sprintf 'p50 %.2f, p99 %.2f, p99.9 %.2f, most %.2f ms',
		map { median(@{ $times{$what}{$_} }) } qw(p50 p99 p999 most));
	verdict('... reads for each invalidation', $rows[$i], '<=', 1) if $i < 2;
	verdict('... p99, ms', median(@{ $times{$what}{p99} }), '<=', 5) if $i < 3;
}
