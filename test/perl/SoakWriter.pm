
=pod

=head1 NAME

SoakWriter - one process that writes to the tables of Soak, as its seed tells it

=head1 DESCRIPTION

new forks; begin(how) lets it write, end stops it and returns the number of its commits. how is 'plain',
'async' (synchronous_commit = off) or 'wait' (every other writer waits for delivery). Any error
(deadlock, conflict, a server that went away) is survived: the transaction is lost or not, and the
comparison at the quiet point asks the table. Prepared transactions stay open across quiet points; the
rows they lock are this writer's own. Which ones are open the server knows: after a promotion one that
was finished may be there again.

Every change of a row takes a new version, so that a row is as it was exactly when its version is. It is
random: a sequence would give out once more what a lost transaction had got.

=cut

package SoakWriter;

use strict;
use warnings;

use IO::Select;
use POSIX ();

my @pids;
my $rows = 400;      # of each table; shared by all writers
my $own = 30;        # more of table a for each writer's prepared transactions
my $groups = 40;
my $version = '(random() * 1e15)::bigint';

sub schema
{
	return qq{
		CREATE TABLE a (id int PRIMARY KEY, grp int, v bigint DEFAULT $version);
		CREATE TABLE b (id int, region int, v bigint DEFAULT $version) PARTITION BY LIST (region);
		CREATE TABLE b0 PARTITION OF b FOR VALUES IN (0);
		CREATE TABLE b1 PARTITION OF b FOR VALUES IN (1);
		CREATE TABLE b2 PARTITION OF b DEFAULT;
		CREATE TABLE c (id int PRIMARY KEY, v bigint DEFAULT $version);
		SELECT cache_aside.attach('a', 'a:{id}'), cache_aside.attach('a', 'list:{grp}'),
			cache_aside.attach('b', 'b:{id}'), cache_aside.attach('c', 'c:{id}', level => 'statement');
		INSERT INTO a SELECT i, i % $groups FROM generate_series(1, $rows + 10 * $own) i;
		INSERT INTO b SELECT i, i % 3 FROM generate_series(1, $rows) i;
		INSERT INTO c SELECT i FROM generate_series(1, $rows / 2) i;
	};
}

# Every key and what a cache may hold for it now. Not the keys of absent rows of c: TRUNCATE takes
# them, too.
sub state_query
{
	my %most = (a => $rows + 10 * $own, b => $rows, c => $rows / 2);
	my @rows = map {
		"SELECT '$_:' || i, coalesce($_.v::text, 'none')"
		  . " FROM generate_series(1, $most{$_}) i LEFT JOIN $_ ON id = i"
	} sort keys %most;
	return join ' UNION ALL ', @rows,
	  "SELECT 'list:' || g, (SELECT coalesce(md5(string_agg(id || '=' || v, ',' ORDER BY id)), 'none')"
	  . " FROM a WHERE grp = g) FROM generate_series(0, $groups - 1) g";
}

# Keys that SoakFiller fills all the time: every other one, lists more often since they change more
# often. The rest is filled at quiet points only.
sub busy_keys
{
	my @ids = map { 2 * $_ + 1 } 0 .. $rows / 2 - 1;
	return ((map { ("a:$_", "b:$_") } @ids), (map { "c:$_" } grep { $_ <= $rows / 2 } @ids),
		(map { 'list:' . (2 * $_ + 1) } 0 .. $groups / 2 - 1) x 5);
}

# What a cache may hold for one of them, and the token of the same statement.
sub read_query
{
	my ($table, $id) = split /:/, $_[0];
	return $table eq 'list'
	  ? "SELECT coalesce(md5(string_agg(id || '=' || v, ',' ORDER BY id)), 'none'), cache_aside.read_token()"
	  . " FROM a WHERE grp = $id"
	  : "SELECT coalesce((SELECT v::text FROM $table WHERE id = $id), 'none'), cache_aside.read_token()";
}

# ---- the parent's side ----

sub new
{
	my ($class, $cluster, $number, $seed) = @_;
	my $self = bless { cluster => $cluster, number => $number, next => 1 }, $class;
	pipe my $orders, $self->{orders} or die $!;
	pipe $self->{answers}, my $answers or die $!;
	$self->{pid} = fork // die "fork: $!";
	push @pids, $self->{pid};
	return $self if $self->{pid};
	@pids = ();
	srand $seed;
	$SIG{TERM} = 'DEFAULT';
	while (sysread $orders, my $order, 1)
	{
		$self->{how} = $order;
		syswrite $answers, $self->_write_until($orders) . "\n";
	}
	POSIX::_exit(0);
}

sub begin
{
	my ($self, $how) = @_;
	syswrite $self->{orders}, substr $how, 0, 1;
	return;
}

sub end
{
	my ($self) = @_;
	syswrite $self->{orders}, 'e';
	my $answer = readline $self->{answers};
	die "writer $self->{number} died\n" unless defined $answer;
	return $answer + 0;
}

sub stop
{
	my ($self) = @_;
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	@pids = grep { $_ != $self->{pid} } @pids;
	return;
}

# They hold each other's pipes open, so that none would see the end of its orders.
END { kill 'TERM', @pids; }

# ---- the writer's side ----

# Until the next order comes.
sub _write_until
{
	my ($self, $orders) = @_;
	my $commits = 0;
	my $next_order = IO::Select->new($orders);
	delete $self->{client};
	until ($next_order->can_read(0))
	{
		if (eval { $self->_one_transaction; 1 })
		{
			$commits++;
			next;
		}
		next if eval { $self->{client}->query('ROLLBACK'); 1 };
		delete $self->{client};
		select undef, undef, undef, 0.01;    # the server is away
	}
	sysread $orders, my $end, 1;
	return $commits;
}

sub _client
{
	my ($self) = @_;
	return $self->{client} if $self->{client};
	$self->{client} = $self->{cluster}->connect('primary');
	$self->{client}->query(q{SET lock_timeout = '10s'});
	$self->{client}->query('SET synchronous_commit = off') if $self->{how} eq 'a';
	$self->{client}->query(q{SET cache_aside.synchronous = on; SET cache_aside.synchronous_timeout = '300ms'})
	  if $self->{how} eq 'w' && $self->{number} % 2 == 0;
	return $self->{client};
}

my %kinds = (
	update => 20, insert => 8, remove => 6, upsert => 8, merge => 6, move => 6, range => 5,
	change_group => 6, bulk => 4, truncate => 1, savepoints => 8, exceptions => 5, rollback => 6,
	large => 2, prepare => 2, finish => 2);
my @lots = map { ($_) x $kinds{$_} } sort keys %kinds;

sub _one_transaction
{
	my ($self) = @_;
	my $kind = '_' . $lots[ rand @lots ];
	my @statements = $self->$kind;
	my $client = $self->_client;
	$client->query($_) foreach @statements;
	return;
}

sub _id { return 1 + int rand $rows; }
sub _set { return "UPDATE a SET v = $version WHERE id = " . ($_[0] // _id()); }

sub _update { return _set(); }
sub _insert { return 'INSERT INTO a VALUES (' . _id() . ', ' . int(rand $groups) . ')'; }
sub _remove { return 'DELETE FROM a WHERE id = ' . _id(); }
sub _upsert { return _insert() . " ON CONFLICT (id) DO UPDATE SET v = $version"; }

sub _merge
{
	return 'MERGE INTO a USING (SELECT ' . _id() . ' AS id) s ON a.id = s.id'
	  . " WHEN MATCHED AND s.id % 5 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = $version"
	  . ' WHEN NOT MATCHED THEN INSERT (id, grp) VALUES (s.id, 1)';
}

sub _move { return "UPDATE b SET region = (region + 1) % 3, v = $version WHERE id = " . _id(); }

sub _range
{
	my $id = _id();
	return "UPDATE a SET v = $version WHERE id BETWEEN $id AND least($id + 20, $rows)";
}

sub _change_group
{
	return 'UPDATE a SET grp = ' . int(rand $groups) . ", v = $version WHERE id = " . _id();
}

sub _bulk { return "UPDATE c SET v = $version WHERE id % 7 = " . int rand 7; }

sub _truncate
{
	return ('BEGIN', 'TRUNCATE c', "INSERT INTO c SELECT i FROM generate_series(1, $rows / 2) i",
		rand() < 0.5 ? 'COMMIT' : 'ROLLBACK');
}

sub _savepoints
{
	return ('BEGIN', _set(), 'SAVEPOINT s', _set(), _move(), 'ROLLBACK TO s', 'SAVEPOINT t', _set(),
		'SAVEPOINT u', _remove(), 'RELEASE u', 'RELEASE t', rand() < 0.8 ? 'COMMIT' : 'ROLLBACK');
}

sub _exceptions
{
	return 'DO $$ BEGIN ' . _set() . '; BEGIN ' . _set() . '; ' . _bulk()
	  . q{; RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN NULL; END; } . _set() . '; END $$';
}

sub _rollback { return ('BEGIN', _set(), _bulk(), _range(), 'ROLLBACK'); }

# More than 64 kB of keys, sometimes more than the worker keeps in memory.
sub _large
{
	my $n = rand() < 0.5 ? 1000 : 4000;
	return ('BEGIN', _set(),
		"SELECT cache_aside.invalidate('junk:' || i || repeat('x', 100)) FROM generate_series(1, $n) i",
		_set(), 'COMMIT');
}

# Names of this writer's transactions that are prepared, oldest first.
sub _prepared
{
	my ($self) = @_;
	return map { $_->[0] } $self->_client->query(
		"SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'w$self->{number}-%' ORDER BY prepared");
}

sub _prepare
{
	my ($self) = @_;
	return _update() if $self->_prepared >= 3;
	# A row is not used again soon: the next write would hide what this one did wrong.
	my $id = $rows + $own * $self->{number} + $self->{next} % $own;
	my $name = "w$self->{number}-" . $self->{next}++;
	return ('BEGIN', _set($id), 'SAVEPOINT s', 'UPDATE a SET grp = 0, v = ' . "$version WHERE id = $id",
		rand() < 0.5 ? 'ROLLBACK TO s' : 'RELEASE s', "PREPARE TRANSACTION '$name'");
}

sub _finish
{
	my ($self) = @_;
	my ($oldest) = $self->_prepared or return _update();
	return (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$oldest'";
}

1;
