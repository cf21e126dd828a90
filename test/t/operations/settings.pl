# Settings out of range in a file: at a reload the old value stays, at the start the default counts, and
# the log says what to write instead. The server starts and delivers all the same.
#
# Fails without check_range() in the check hooks (cache_aside.c): PostgreSQL's own bounds give no hint.
use strict;
use warnings;

use CacheAside;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis, conf => <<'EOC');
cache_aside.connect_timeout = 20ms
cache_aside.redelete_delay = 30s
cache_aside.max_wal_retained = 32MB
cache_aside.replica_name = 'east'
EOC
my %bad = (
	'cache_aside.connect_timeout' => [ '5ms', '20ms', '1s', qr/from 10 ms to 60000 ms, and is 5 ms/ ],
	'cache_aside.redelete_delay' => [ '5h', '30s', '1s', qr/from 0 ms to 3600000 ms, and is 18000000 ms/ ],
	'cache_aside.max_wal_retained' => [ '1MB', '32MB', '1GB', qr/from 16 MB to \d+ MB, and is 1 MB/ ],
	'cache_aside.replica_name' => [ 'far east', 'east', '', qr/no blank/ ],
	'cache_aside.delivery' => [ 'never', 'primary', 'primary', qr/Available values: primary, always, off/ ],
	'cache_aside.redis_url' => [ 'localhost', undef, undef, qr/must begin with redis:/ ]);

sub shown { return $node->safe_psql('postgres', "SHOW $_[0]"); }

# What the log says of each, with its DETAIL and HINT.
sub complains
{
	my ($when, $log) = @_;
	foreach my $name (sort keys %bad)
	{
		my ($complaint) = $log =~ /(invalid value for parameter "\Q$name\E".*?HINT: .*?)$/ms;
		like($complaint, $bad{$name}[3], "$when: $name is refused, with a reason");
		like($complaint, qr/HINT: +\S/, "$when: $name, and with a hint");
	}
	return;
}

my $position = log_position($node);
my $good_url = shown('cache_aside.redis_url');
$node->append_conf('postgresql.conf', "$_ = '$bad{$_}[0]'\n") foreach sort keys %bad;
$node->reload;
ok(wait_until(sub { log_since($node, $position) =~ /contains errors; unaffected changes were applied/ }),
	'reloaded');
complains('reload', log_since($node, $position));
is(shown($_), $bad{$_}[1] // $good_url, "reload: $_ is what it was") foreach sort keys %bad;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL}),
	scalar(keys %bad), 'pg_file_settings names them');

# Its default is somebody else's Redis.
$node->append_conf('postgresql.conf', "cache_aside.redis_url = '$good_url'\n");
delete $bad{'cache_aside.redis_url'};
$node->stop;
$position = log_position($node);
$node->start;
complains('start', log_since($node, $position));
is(shown($_), $bad{$_}[2], "start: $_ has its default") foreach sort keys %bad;
wait_delivered($node);
is(status($node, 'state'), 'delivering', 'and it delivers');

$node->stop;
done_testing();
