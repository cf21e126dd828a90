#!/usr/bin/perl
# psql.pl: a private PostgreSQL with the extension, a private Redis, and psql. Run by `make psql` (private.sh).
# Both end with psql. Says where everything is, for gdb and redis-cli in another terminal.
#
# A child keeps the servers, in a process group of its own: the terminal's Ctrl-C is for psql alone. It ends
# them when psql is gone, however that was: then its end of the pipe reads nothing more.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../test/perl";

use PgServer;
use RedisServer;

# Writes the options for psql, one a line, when everything is there.
sub keep_servers
{
	my ($answers, $end) = @_;
	setpgrp;
	my $redis = RedisServer->new->start;
	my $pg = PgServer->new(redis => $redis)->start;
	my $client = $pg->connect;
	$client->query('CREATE EXTENSION cache_aside');
	RedisServer->wait_until(sub { $client->value('SELECT state FROM cache_aside.status') eq 'delivering' });
	my $socket = $redis->url =~ s{^unix://([^?]*).*}{$1}r;
	print STDERR 'PostgreSQL   psql ', join(' ', $pg->options), " postgres\n", 'its log      ', $pg->logfile,
	  "\nthe worker   process ", $pg->worker_pid, "\nRedis        redis-cli -s $socket\n",
	  "elsewhere    export PGHOST=@{[ $pg->dir ]} PGPORT=5432 PGUSER=postgres PGDATABASE=postgres REDIS=$socket\n";
	print $answers map { "$_\n" } $pg->options;
	close $answers;
	sysread $end, my $nothing, 1;
	return;
}

pipe my $answers_in, my $answers or die "pipe: $!\n";
pipe my $end, my $end_out or die "pipe: $!\n";
my $keeper = fork // die "fork: $!\n";
if ($keeper == 0)
{
	close $_ foreach $answers_in, $end_out;
	keep_servers($answers, $end);
	exit 0;
}
close $_ foreach $answers, $end;
$SIG{INT} = sub { };
chomp(my @options = <$answers_in>);
my $status = @options ? system('psql', '-X', @options, @ARGV, 'postgres') >> 8 : 1;
close $end_out;
waitpid $keeper, 0;
exit $status;
