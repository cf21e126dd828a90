
=pod

=head1 NAME

RedisUsers - the ACLs of the documentation, as written there

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

my $tree = File::Basename::dirname(Cwd::abs_path(__FILE__)) . '/../..';

# The words of each ACL command that makes a user ("reset"), wherever it stands in the documentation, lines that
# end with a backslash joined. Each user is made once, or two pages could say two things.
sub commands
{
	my @commands;
	foreach my $page ("$tree/README.md", glob "$tree/docs/*.md")
	{
		open my $fh, '<', $page or die "$page: $!";
		my $text = do { local $/; <$fh> } =~ s/\\\n/ /gr;
		push @commands, map { [ split ' ' ] } $text =~ /^(ACL SETUSER \S+ reset .*)$/mg;
	}
	my $users = join ' ', sort map { $_->[2] } @commands;
	die "users of the documentation: $users" unless $users =~ /^app cache_aside( |$)/ && $users !~ /\b(\S+) \1\b/;
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
