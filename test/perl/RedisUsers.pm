
=pod

=head1 NAME

RedisUsers - the ACLs of the README, as written there

=head1 SYNOPSIS

  use RedisUsers;
  RedisUsers::create($redis);               # SETUSER cache_aside ..., SETUSER app ...
  my $app = RedisUsers::connect($redis, 'app');
  RedisUsers::url($redis);                  # for cache_aside.redis_url
  is_deeply([ RedisUsers::denied($redis, 'cache_aside') ], []);

The default user keeps all rights, for the test itself.

=cut

package RedisUsers;

use strict;
use warnings;

use Cwd ();
use File::Basename ();

my $readme = File::Basename::dirname(Cwd::abs_path(__FILE__)) . '/../../README.md';

# The words of each ACL command, lines that end with a backslash joined.
sub commands
{
	open my $fh, '<', $readme or die "$readme: $!";
	local $/;
	my $text = <$fh> =~ s/\\\n/ /gr;
	my @commands = map { [ split ' ' ] } $text =~ /^(ACL SETUSER .*)$/mg;
	die 'the README has no ACLs' unless @commands == 2;
	return @commands;
}

sub create
{
	my ($redis) = @_;
	$redis->command(@$_) foreach commands();
	return;
}

sub connect
{
	my ($redis, $user) = @_;
	return $redis->client(auth => [ $user, 'secret' ]);
}

sub url
{
	my ($redis) = @_;
	return $redis->url =~ s{^unix://}{unix://cache_aside:secret@}r;
}

# What Redis denied to the user since it started: "reason object".
sub denied
{
	my ($redis, $user) = @_;
	my @entries = map { { @$_ } } @{ $redis->command('ACL', 'LOG', 128) };
	return map { "$_->{reason} $_->{object}" } grep { $_->{username} eq $user } @entries;
}

1;
