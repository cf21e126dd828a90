# Transactions made by a generator (SEED=, ROUNDS=): what each subtransaction logs is nothing, little or
# more than the worker keeps in memory, logged at once, at commit by ours, or at commit by a library that
# writes after ours; savepoints are released, rolled back to, gone on with, nested; transactions commit,
# roll back, are prepared and end later, or lose their client. Several sessions interleave, and
# meanwhile the worker ends, loses Redis, and the server crashes. Afterwards each key of a piece that
# committed is gone, and each other is there.
#
# Remedies in open.c, each of which fails here when it is taken out: the test for entries that are not
# there in make_large() (a large child in a parent without entries ended the worker, for ever);
# make_large(set, parent) and add_child() in merge() (keys of large children are not found again);
# both calls of note_place() in merge(); adopt() in ca_open_prepare() (after the crash) and in
# ca_open_take(); the subtransactions in ca_open_abort() (they hold back the restart LSN).
use strict;
use warnings;

use CacheAside;
use Faults;
use List::Util 'shuffle';
use LogRecord;
use PgWire;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $seed = $ENV{SEED} // 15;
my $rounds = $ENV{ROUNDS} // 6;
srand $seed;
my $late = test_library('late_writer');
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "shared_preload_libraries = '$late,cache_aside'\nrestart_after_crash = on\n");
LogRecord->install($node);
# Core's assertions forbid subtransactions in a callback; without them other libraries begin some.
my $late_chance = $node->safe_psql('postgres', 'SHOW debug_assertions') eq 'on' ? 0 : 0.4;
$node->safe_psql('postgres', q{CREATE TABLE filler (data bytea)});
my $filler = unpack('H*', log_record(map { entry(k => "filler:$_:" . 'x' x 8000) } 1 .. 7));
$node->safe_psql('postgres', qq{INSERT INTO filler VALUES ('\\x$filler')});
my $fill = 'SELECT write_log_record(data) FROM filler, generate_series(1, 5)';    # 280 kB
my ($transactions, $key, %fate);    # key => will its piece have committed?
wait_delivered($node);

sub one_of { return $_[ int rand @_ ] }

sub new_key
{
	my ($keys) = @_;
	push @$keys, 'key:' . ++$key;
	return $keys->[-1];
}

# ---- pieces: statements, and the keys they log

my %piece = (
	nothing => sub { return },
	small => sub { return write_sql(log_record(map { entry(k => new_key($_[0])) } 1 .. 2)) },
	large => sub { my ($k) = @_; return (_small($k), $fill, _small($k)) },
	pending => sub { return sprintf q{SELECT cache_aside.invalidate('%s')}, new_key($_[0]) });
sub _small { return $piece{small}->(@_) }

# A piece, then subtransactions, then a piece; given none, at random. [first, last, subtransactions]
sub shape
{
	my ($depth) = @_;
	my @kinds = qw(nothing nothing small small pending large);
	my @children = $depth > 3 ? () : map { [ one_of(qw(release release roll_back go_on)), shape($depth + 1) ] } 1 .. rand 3;
	return [ one_of(@kinds), one_of(@kinds), @children ];
}

sub statements
{
	my ($shape, $keys) = @_;
	my ($first, $last, @children) = @$shape;
	my @sql = $piece{$first}->($keys);
	foreach (@children)
	{
		my ($how, $child) = @$_;
		my $name = 's' . ++$key;
		my @inner;
		push @sql, "SAVEPOINT $name", statements($child, \@inner);
		push @{ $how eq 'release' ? $keys : $fate{dead} }, @inner;
		push @sql, "ROLLBACK TO $name", _small($keys) if $how eq 'go_on';
		push @sql, $how eq 'roll_back' ? "ROLLBACK TO $name" : "RELEASE $name";
	}
	return (@sql, $piece{$last}->($keys));
}

# What the other library runs while the transaction commits: blocks are subtransactions, too.
sub late_block
{
	my ($depth, $keys) = @_;
	my $raise = rand() < 0.3;
	my @keys;
	my $body = '';
	foreach (1 .. 1 + rand 3)
	{
		$body .= sprintf q{PERFORM cache_aside.invalidate('%s');}, new_key(\@keys) if rand() < 0.6;
		$body .= q{PERFORM cache_aside.invalidate('filler:' || i || repeat('x', 8000)) FROM generate_series(1, 40) i;}
		  if rand() < 0.1;
		$body .= late_block($depth + 1, \@keys) if $depth < 3 && rand() < 0.5;
	}
	push @{ $raise ? $fate{dead} : $keys }, @keys;
	return "BEGIN $body " . ($raise ? q{RAISE EXCEPTION 'x';} : '') . ' EXCEPTION WHEN raise_exception THEN NULL; END;';
}

# ---- transactions: the steps of a session, and what ends a prepared one later

sub transaction
{
	my ($shape, $end, $late) = @_;
	my $name = 'p' . ++$transactions;
	my @keys;
	my @steps = 'BEGIN';
	push @steps, sprintf 'SET LOCAL late_writer.sql = $late$DO $do$ BEGIN %s END $do$$late$', late_block(0, \@keys) if $late;
	push @steps, statements($shape, \@keys);
	push @{ $fate{ $end =~ /^commit/ ? 'gone' : 'dead' } }, @keys;
	return { steps => [ @steps, uc $end ] } if $end eq 'commit' || $end eq 'rollback';
	return { steps => [ @steps, 'hang up' ] } if $end eq 'hang up';
	return { steps => [ @steps, "PREPARE TRANSACTION '$name'" ], after => uc($end) . " '$name'" };
}

# Each kind of parent with each kind of child and each end, then others at random.
sub transactions
{
	my @ends = ('commit', 'rollback', 'commit prepared', 'rollback prepared');
	my @pieces = qw(nothing small large);
	my @made;
	foreach my $end (@ends)
	{
		foreach my $first (@pieces)
		{
			foreach my $last (@pieces)
			{
				push @made,
				  transaction([ $first, $last, map { [ $_, [ one_of(@pieces), one_of(@pieces) ] ] } qw(release roll_back) ], $end)
				  if rand() < 2 / $rounds;
				push @made, transaction([ $first, 'nothing', [ 'release', [ $last, 'nothing' ] ] ], $end) if rand() < 2 / $rounds;
			}
		}
	}
	push @made, transaction(shape(0), one_of(@ends, 'commit', 'commit', 'hang up'), rand() < $late_chance) foreach 1 .. 25;
	push @made, transaction([ 'nothing', 'nothing', map { [ 'release', [ 'small', 'nothing' ] ] } 1 .. 70 ], 'commit');
	return shuffle(@made);
}

# ---- running them

sub disturb
{
	my $control = PgWire->new($node);
	my $what = one_of('redis', 'redis', 'redis', 'worker', 'checkpoint', 'switch');
	$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') if $what eq 'redis';
	$control->query(q{SELECT pg_terminate_backend(pid) FROM cache_aside.status}) if $what eq 'worker';
	$control->query('CHECKPOINT') if $what eq 'checkpoint';
	$control->query('SELECT pg_switch_wal()') if $what eq 'switch';
	$control->close;
	return;
}

sub run
{
	my @waiting = @_;
	my @lanes = map { { session => PgWire->new($node) } } 1 .. 4;
	my @after;
	while (my @busy = grep { $_->{steps} || @waiting } @lanes)
	{
		my $lane = one_of(@busy);
		disturb() if rand() < 0.004;
		$lane->{session}->query(splice @after, rand @after, 1) if !$lane->{steps} && @after && rand() < 0.3;
		@$lane{qw(steps after)} = @{ shift @waiting }{qw(steps after)} unless $lane->{steps};
		my $step = shift @{ $lane->{steps} };
		if ($step eq 'hang up') { $lane->{session}->close; $lane->{session} = PgWire->new($node) }
		else { $lane->{session}->query($step) }
		next if @{ $lane->{steps} };
		push @after, $lane->{after} if $lane->{after};
		delete @$lane{qw(steps after)};
	}
	$_->{session}->close foreach @lanes;
	return @after;
}

my @left;    # prepared transactions whose end is still to come
my $log = log_position($node);
foreach my $round (1 .. $rounds)
{
	%fate = (dead => [], gone => []);
	my @made = transactions();
	$redis->mset(map { ($_ => 'x') } map { @$_ } values %fate);
	@left = run(@made);
	if ($round == int $rounds / 2)    # what is prepared ends after a crash
	{
		$node->stop('immediate');
		$node->start;
	}
	$node->safe_psql('postgres', $_) foreach @left;
	wait_delivered($node);
	my @stale = grep { is_cached($redis, $_) } @{ $fate{gone} };
	my @missing = grep { !is_cached($redis, $_) } @{ $fate{dead} };
	is("@stale", '', "round $round: " . @made . ' transactions, ' . @{ $fate{gone} } . ' keys are gone');
	is("@missing", '', @{ $fate{dead} } . ' others are there') or diag("SEED=$seed");
	ok(wait_until(sub { position_of($redis, $node) =~ /^\d+ (\S+) \1 / }), 'nobody is thought to be open');
}
unlike(log_since($node, $log), qr/was terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
