# The oracle finds what it is for: each remedy is left out in turn, and is missed within some hundred sequences;
# three of them only with a second session that writes, or with a client of the cache that fills late. The first
# key that stands is shrunk to a script of few statements.
#
# Begun early: it takes long.
use strict;
use warnings;

use Faults;
use Oracle;
use OracleShrink;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
debug_build();

my $most = 600;    # sequences; in fact a few dozen
my $oracle = Oracle->new(prefixes => [ 'o:', 'new:' ]);

sub configure
{
	my ($lines) = @_;
	my $before = $oracle->{reader}->value('SELECT pg_conf_load_time()');
	$oracle->{pg}->configure($lines);
	RedisServer->wait_until(sub { $oracle->{reader}->value('SELECT pg_conf_load_time()') ne $before }) or die 'not reloaded';
	return;
}

# What is found, and after how many sequences. Each has the kinds of tables, rules and statements that can find it.
sub find
{
	my ($start, @kinds) = @_;
	$oracle->{always} = \@kinds;
	foreach my $n (1 .. $most)
	{
		my $found = $oracle->sequence($start + $n);
		return ($found, $n) if $found;
	}
	return;
}

my $settings = "cache_aside.debug_point = ''\ncache_aside.ddl_invalidates = on\n";
my @without = (
	[ 'the old key of an UPDATE', "cache_aside.debug_point = 'old-key=skip'\n", 'update' ],
	[ 'DDL', "cache_aside.ddl_invalidates = off\n" ],
	[ 'COMMIT PREPARED', "cache_aside.debug_point = 'prepared=skip'\n", qw(transactions prepare) ],
	[ 'savepoints that are rolled back', "cache_aside.debug_point = 'rollback-to=skip'\n", qw(transactions savepoints) ],
	[ 'TRUNCATE triggers of partitions', "cache_aside.debug_point = 'truncate-clone=skip'\n", qw(partitioned truncate) ],
	[ 'columns that are renamed', "cache_aside.debug_point = 'watch=skip'\n", qw(plain columns replace_column rename_column) ],
	[ 'MERGE that moves rows', "cache_aside.debug_point = 'merge=skip'\n", qw(partitioned merge statement statement_list query) ],
	[ 'what a query rule names', "cache_aside.debug_point = 'named=skip'\n", qw(plain child stored refresh view function called) ],
	[ 'the second look at DDL', "cache_aside.debug_point = 'computed-look=skip'\n", qw(plain mood called function enum transactions second) ],
	[ 'what was committed after the snapshot', "cache_aside.debug_point = 'newest=skip'\n", qw(plain child join transactions second joined) ],
	[ 'the start of a read token', "cache_aside.debug_point = 'start=skip'\n", qw(plain row fills) ]);
foreach my $case (@without)
{
	my ($name, $lines, @kinds) = @$case;
	configure("$settings$lines");
	# Half of the time was spent before the first seed that shows it; another one will do as well.
	my ($found, $n) = find($name =~ /savepoints/ ? 60 : $name =~ /second look/ ? 100 : 0, @kinds);
	ok($found, "without $name") or next;
	note("$n sequences: $found->{what}, rule " . ($found->{class}{kind} // ''));
	next unless $name =~ /UPDATE/;
	my $script = OracleShrink->new($oracle, $found)->shrink(90)->script;
	note($script);
	cmp_ok(scalar(() = $script =~ /;$/mg), '<', 30, 'shrunk to a few statements');
	like($script, qr/cache_aside\.attach\b.*\n(.*\n)*.*UPDATE|MERGE|DO|WITH/, 'that show what is wrong');
}
done_testing();
