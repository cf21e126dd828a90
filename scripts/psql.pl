#!/usr/bin/perl
# psql.pl: a private PostgreSQL with the extension, a private Redis, and psql. Run by `make psql` (private.sh).
# Both end with psql. Says where everything is, for gdb and redis-cli in another terminal.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../test/perl";

use PgServer;
use RedisServer;

my $redis = RedisServer->new->start;
my $pg = PgServer->new(redis => $redis)->start;
my $client = $pg->connect;
$client->query('CREATE EXTENSION cache_aside');
RedisServer->wait_until(sub { $client->value('SELECT state FROM cache_aside.status') eq 'delivering' });
my $socket = $redis->url =~ s{^unix://([^?]*).*}{$1}r;
print STDERR <<"EOS";
PostgreSQL   psql @{[ join ' ', $pg->options ]} postgres
its log      @{[ $pg->logfile ]}
the worker   process @{[ $pg->worker_pid ]}
Redis        redis-cli -s $socket
EOS
exit system('psql', '-X', $pg->options, @ARGV, 'postgres') >> 8;
