#!/usr/bin/perl
# with-redis.pl program [argument ...]: runs pg_regress, or what takes the same options, with a
# private Redis and a --temp-config that points to it.
#
# The configuration is test/cache_aside.conf, the address of that Redis, and $CACHE_ASIDE_CONF where a
# private installation is tested. Test scripts reach the Redis by $REDIS_SOCKET.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../test/perl";
use RedisServer;

sub content
{
	my ($path) = @_;
	open my $fh, '<', $path or die "$path: $!\n";
	local $/;
	return scalar <$fh>;
}

die RedisServer->why_not . "\n" if RedisServer->why_not;
$SIG{$_} = sub { exit 1 } foreach qw(INT TERM HUP);
my $redis = RedisServer->new->start;
my $conf = $redis->dir . '/server.conf';
open my $fh, '>', $conf or die "$conf: $!\n";
print $fh content("$FindBin::Bin/../test/cache_aside.conf");
print $fh content($ENV{CACHE_ASIDE_CONF}) if $ENV{CACHE_ASIDE_CONF};
print $fh "cache_aside.redis_url = '" . $redis->url . "'\n";
close $fh;

$ENV{REDIS_SOCKET} = $redis->socket;
$ENV{LANG} = $ENV{LC_ALL} = 'C.UTF-8'; # pg_regress takes LC_ALL away before initdb
system(@ARGV, "--temp-config=$conf");
exit($? == 0 ? 0 : ($? >> 8 || 1));
