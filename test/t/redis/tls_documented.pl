# The page on TLS, as a newcomer follows it: each block for the shell, for redis.conf and for psql, in its order, word by
# word but for directories, ports and users, leads to a worker that delivers through TLS; so does the part on mutual TLS.
#
# Remedy: none in src/. Fails when a line of docs/tls.md has a mistake.
use strict;
use warnings;

use CacheAside;
use Certificates;
use File::Temp ();
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

Certificates->skip_all_unless_available;
my $tree = $INC{'CacheAside.pm'} =~ s{[^/]*$}{../..}r;
my $dir = File::Temp::tempdir('ca-page-XXXXXX', TMPDIR => 1, CLEANUP => 1);
mkdir "$dir/$_" or die $! foreach qw(redis postgresql);
my $port = RedisServer::free_port();
my $user = getpwuid($>);
my ($redis, $node);

# What is different here
sub localised { return $_[0] =~ s{/etc/(redis|postgresql)/}{$dir/$1/}gr =~ s/\b6380\b/$port/gr =~ s/ -o \w+/ -o $user/gr; }

sub run_shell
{
	my ($lines) = @_;
	is(system("cd $dir && { set -e; $lines } >>$dir/log 2>&1"), 0, 'shell: ' . $lines =~ s/\n.*//sr) or diag(slurp_file("$dir/log"));
	return;
}

sub run_sql
{
	my ($lines) = @_;
	my ($rc, undef, $err) = $node->psql('postgres', $lines, on_error_stop => 1);
	is("$rc $err", '0 ', 'psql: ' . $lines =~ s/\n.*//sr);
	return;
}

# An ini block is of redis.conf.
my %run = (sh => \&run_shell, sql => \&run_sql, ini => sub { $redis = RedisServer->new(conf => $_[0])->start; });

sub follow
{
	my ($text) = @_;
	my $n = 0;
	while ($text =~ /^```(\w*)\n(.*?)^```$/msg)
	{
		my ($language, $block) = ($1, $2);
		$run{$language}->(localised($block));
		$n++;
	}
	return $n;
}

sub delivers
{
	my ($name) = @_;
	ok(status_is($node, "endpoint || ' ' || state || ' ' || redis_state", "localhost:$port/0 delivering connected"), "$name: delivering") or diag(status($node, 'last_error'));
	$redis->set('user:1', 'old');
	$node->safe_psql('postgres', 'UPDATE users SET id = id');
	ok(keys_gone($redis, 'user:1'), "$name: a key is gone") or diag(status($node, 'last_error'));
	return;
}

my $page = slurp_file("$tree/docs/tls.md");
my %part = map { my ($title, $text) = /\A([^\n]*)\n(.*)\z/s; ($title => $text) } split /^## /m, $page;
$node = CacheAside->new_node('main');
$node->safe_psql('postgres', q{CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1); SELECT cache_aside.attach('users', 'user:{id}')});
cmp_ok(follow($part{'A private authority'}), '>=', 5, 'blocks');
delivers('a private authority');
$redis->config_set('tls-auth-clients', 'yes');
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal');
ok(status_is($node, 'redis_state', 'unreachable'), 'Redis asks for a certificate');
cmp_ok(follow($part{'Mutual TLS'}), '>=', 2, 'blocks');
delivers('mutual TLS');
$node->stop;
done_testing();
