
=pod

=head1 NAME

CacheAside - PostgreSQL servers with the extension, and what its tests wait for

=head1 SYNOPSIS

  use CacheAside;
  use RedisServer;
  use Test::More;

  RedisServer->skip_all_unless_available;
  my $redis = RedisServer->new->start;
  my $node = CacheAside->new_node('main', redis => $redis);     # initialised, started, extension made
  $node->safe_psql('postgres', q{...});
  wait_delivered($node);
  ok(keys_gone($redis, 'user:1', 'user:2'));
  is(status($node, 'state'), 'streaming');

All functions are exported. They wait on a state, with RedisServer's deadline.

=cut

package CacheAside;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More ();
use Time::HiRes ();

use PgWire;
use RedisServer;
use TestNode;

our @EXPORT = qw(wait_announced wait_delivering wait_delivered keys_gone keys_there is_cached status status_is worker_pid
  wait_worker reload_conf adopt take_over soonest wait_until log_position log_since background_sql);

=head2 CacheAside->new_node(name, redis => server, ...)

Options: conf (lines for postgresql.conf), initdb (array of options), extension (0: do not create
it), start (0: do not start).

=cut

sub new_node
{
	my ($class, $name, %args) = @_;
	my $node = TestNode->new($name);
	$node->init(
		allows_streaming => 1,
		extra => [ '--locale=C', '--encoding=UTF8', @{ $args{initdb} // [] } ]);
	$class->configure($node, %args);
	return $node unless $args{start} // 1;
	$node->start;
	return $node unless $args{extension} // 1;
	$node->safe_psql('postgres', 'CREATE EXTENSION cache_aside');
	wait_delivering($node) if $args{redis};
	return $node;
}

# The first session of a worker deletes what may be in Redis from before; a test that puts keys there
# waits until it has.
sub wait_delivering
{
	my ($node) = @_;
	return status_is($node, 'state', 'delivering');
}

# Some standby has streamed for so long that Redis knows it: promoted, it takes over at once.
sub wait_announced
{
	my ($redis) = @_;
	return wait_until(sub { $redis->keys('cache_aside:standby:*') });
}

=head2 CacheAside->new_standby(name, primary, redis => server, ...)

A streaming standby made from a fresh base backup. Options: conf, start, backup (name of an existing
backup), init (hash of further options for init_from_backup).

=cut

sub new_standby
{
	my ($class, $name, $primary, %args) = @_;
	my $backup = $args{backup} // "for_$name";
	$primary->backup($backup) unless $args{backup};
	my $node = TestNode->new($name);
	$node->init_from_backup($primary, $backup, has_streaming => 1, move => !$args{backup}, %{ $args{init} // {} });
	$class->configure($node, %args);
	$node->start if $args{start} // 1;
	return $node;
}

# Appends what every test server needs; later lines win.
sub configure
{
	my ($class, $node, %args) = @_;
	my $tree = $INC{'CacheAside.pm'} =~ s{[^/]*$}{../..}r;
	my $conf = slurp_file("$tree/test/cache_aside.conf");
	$conf .= slurp_file($ENV{CACHE_ASIDE_CONF}) if $ENV{CACHE_ASIDE_CONF};
	$conf .= "cache_aside.redis_url = '" . $args{redis}->url . "'\n" if $args{redis};
	$node->append_conf('postgresql.conf', $conf . ($args{conf} // ''));
	return;
}

=head2 Redis side

keys_gone and keys_there wait until none, or all, of the keys exist; is_cached looks once.

=cut

sub wait_until
{
	my ($condition, $seconds) = @_;
	return RedisServer->wait_until($condition, $seconds);
}

# For claims that something takes no longer than so many seconds. A busy machine may keep it waiting; so the code,
# which returns the seconds that it took, has three tries, and the best is returned. What waits for something that it
# should not wait for does so each time.
sub soonest
{
	my ($limit, $code) = @_;
	my $best;
	foreach (1 .. 3)
	{
		my $seconds = $code->();
		$best = $seconds if !defined $best || $seconds < $best;
		last if $best < $limit;
	}
	return $best;
}

sub keys_gone
{
	my ($redis, @keys) = @_;
	return wait_until(sub { $redis->exists(@keys) == 0 });
}

sub keys_there
{
	my ($redis, @keys) = @_;
	return wait_until(sub { $redis->exists(@keys) == @keys });
}

sub is_cached
{
	my ($redis, $key) = @_;
	return $redis->exists($key) ? 1 : 0;
}

=head2 Server side

wait_delivered(node, lsn): everything in the log now (or up to lsn) is delivered; dies otherwise. Where another process
of Redis may still be armed, nobody is told of that for six seconds: told => 1 waits until they are, too.
status(node, column): one column of cache_aside.status; status_is waits until it has that value.

=cut

sub wait_delivered
{
	my ($node, $lsn, %args) = @_;
	my $db = $args{db} // 'postgres';
	my $client = PgWire->new($node, db => $db);
	my $done = sub { my ($what, $timeout) = @_; return $client->value("SELECT cache_aside.wait_delivered($what, '$timeout')") eq 't' };
	# Asked so, it writes a record of its own: what is acknowledged then was acknowledged since.
	return 1 if !defined $lsn && $done->('NULL', $args{told} ? "$RedisServer::deadline s" : '100 ms');
	$lsn //= $client->value(
		'SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END');
	my $acknowledged = qq{SELECT bool_and(acknowledged_lsn >= '$lsn'
		AND (SELECT state FROM cache_aside.status) = 'delivering') FROM cache_aside.endpoints};
	wait_until(
		sub {
			return $done->("'$lsn'", '100 ms') || (!$args{told} && ($client->value($acknowledged) // '') eq 't');
		})
	  or die "not delivered in $RedisServer::deadline s:\n"
	  . $node->safe_psql($db, 'SELECT * FROM cache_aside.status', extra_params => ['-x']);
	return 1;
}

# Who else delivers to its Redis is not waited for; where that is of a newer timeline, there is a resync.
sub adopt
{
	my ($node) = @_;
	$node->value('postgres', 'SELECT cache_aside.adopt()');
	return;
}

# Promotes a standby that did not stream for long enough to be known as one in Redis.
sub take_over
{
	my ($node) = @_;
	$node->promote;
	return adopt($node);
}

sub status
{
	my ($node, $column, %args) = @_;
	return $node->text($args{db} // 'postgres', "SELECT $column FROM cache_aside.status");
}

sub status_is
{
	my ($node, $column, $value) = @_;
	return $node->poll_query_until('postgres', "SELECT $column FROM cache_aside.status", $value);
}

# Waits until a worker other than `old` runs, and returns its pid.
sub wait_worker
{
	my ($node, $old) = @_;
	my $pid;
	wait_until(
		sub {
			$pid = $node->text('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'cache_aside worker'");
			return $pid ne '' && $pid ne ($old // '');
		}) or die 'no worker is running';
	return $pid;
}

# A server that has just started, or whose worker has just ended, has one soon.
sub worker_pid { return wait_worker($_[0]); }

# Changes settings; returns when the postmaster has read them and told its children.
sub reload_conf
{
	my ($node, %settings) = @_;
	my $client = PgWire->new($node);
	my $before = $client->value('SELECT pg_conf_load_time()');
	$client->query("ALTER SYSTEM SET $_ = '$settings{$_}'") foreach sort keys %settings;
	$node->reload;
	$node->poll_query_until('postgres', "SELECT pg_conf_load_time() > '$before'")
	  or die 'the configuration was not reloaded';
	return;
}

sub log_position
{
	my ($node) = @_;
	return -s $node->logfile;
}

sub log_since
{
	my ($node, $position) = @_;
	return slurp_file($node->logfile, $position // 0);
}

# An interactive session that stays open; see BackgroundPsql.
sub background_sql
{
	my ($node, %args) = @_;
	return $node->background_psql($args{db} // 'postgres', on_error_stop => 1, %args);
}

1;
