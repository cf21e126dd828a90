
=pod

=head1 NAME

OwnNetwork - a test in namespaces of its own, with a name server that obeys it

=head1 SYNOPSIS

  use OwnNetwork;      # first of all: runs the program again in namespaces of its own, or skips
  use Test::More;
  OwnNetwork::serve_names(two => [ '127.0.0.7', '::1' ], slow => sub { select undef, undef, undef, 2; return ['127.0.0.1'] });
  # two.test has these addresses, a.b.slow.test is slow, all others do not exist
  OwnNetwork::add_address('fd00::7');
  my $hole = OwnNetwork::make_hole('127.0.0.8', $port);    # connecting there never ends
  undef $hole;                                             # now it is refused

=head1 DESCRIPTION

User, mount and network namespace; the loopback interface is up, and there is no other. What a name server does not
answer at all: a sub that returns undef.

=cut

package OwnNetwork;

use strict;
use warnings;

my $may;

# Before anything redirects our output
sub import
{
	my @unshare = qw(unshare --map-current-user --keep-caps --mount --net);
	return if $may++;
	if ($ENV{CA_OWN_NAMESPACES})
	{
		_raise_loopback();
		return;
	}
	if (system("@unshare true >/dev/null 2>&1") != 0)
	{
		print "1..0 # SKIP namespaces of its own are not to be had\n";
		exit 0;
	}
	$ENV{CA_OWN_NAMESPACES} = 1;
	exec @unshare, $^X, (map { "-I$_" } @INC), $0 or die "unshare: $!";
}

use File::Temp ();
use IO::Socket::IP;
use POSIX ();
use Socket qw(:DEFAULT inet_pton);

my $resolv;
my $server;

sub _raise_loopback
{
	socket(my $any, AF_INET, SOCK_DGRAM, 0) or die $!;
	my $request = pack 'a16 s x22', 'lo', 1;    # IFF_UP
	ioctl $any, 0x8914, $request or die "SIOCSIFFLAGS: $!";
	return;
}

# Beside 127.0.0.1 and ::1, which alone make the C library believe that there is no IPv4, or no IPv6.
sub add_address
{
	my ($address) = @_;
	my $v6 = $address =~ /:/;
	socket(my $any, $v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0) or die $!;
	my $request =
	  $v6
	  ? pack 'a16 L l', inet_pton(AF_INET6, $address), 128, 1
	  : pack 'a16 a24', 'lo:1', pack_sockaddr_in(0, inet_aton($address));
	ioctl $any, 0x8916, $request or die "SIOCSIFADDR: $!";
	return;
}

sub _question
{
	my ($query) = @_;
	my $question = substr $query, 12;
	my ($kind) = $question =~ /([a-z0-9]+)\x04test/ or return;
	my $end = index $question, "\0";
	return ($kind, unpack('n', substr $question, $end + 1, 2), substr $question, 0, $end + 5);
}

sub _answer
{
	my ($query, $names) = @_;
	my ($kind, $type, $question) = _question($query);
	my $addresses = defined $kind ? $names->{$kind} : undef;
	$addresses = $addresses->() // return undef if ref $addresses eq 'CODE';
	my $id = substr $query, 0, 2;
	return $id . pack('n5', 0x8183, 1, 0, 0, 0) . ($question // substr $query, 12) unless $addresses;
	my %family = (1 => AF_INET, 28 => AF_INET6);
	my @bytes = map { inet_pton($family{$type} // 0, $_) // () } grep { $type == (/:/ ? 28 : 1) } @$addresses;
	return $id . pack('n5', 0x8180, 1, scalar @bytes, 0, 0) . $question
	  . join '', map { "\xc0\x0c" . pack('n n N n', $type, 1, 0, length) . $_ } @bytes;
}

# kind => addresses, or a sub that returns them. False: the resolver of this machine cannot be replaced.
sub serve_names
{
	my (%names) = @_;
	$resolv = File::Temp->new;
	print $resolv "nameserver 127.0.0.9\noptions timeout:60 attempts:1\n";
	close $resolv;
	chmod 0644, "$resolv";
	return 0 if system("mount --bind $resolv /etc/resolv.conf 2>/dev/null") != 0;
	my $socket = IO::Socket::IP->new(Proto => 'udp', LocalHost => '127.0.0.9', LocalPort => 53) or die "cannot be a name server: $!";
	$server = fork // die $!;
	return 1 if $server;
	local $SIG{CHLD} = 'IGNORE';
	while (defined(my $peer = $socket->recv(my $query, 512)))
	{
		next if fork;
		my $reply = _answer($query, \%names);
		$socket->send($reply, 0, $peer) if defined $reply;
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}

# Connections that nobody accepts: when the queue is full the kernel drops what else knocks.
sub fill_queue
{
	my ($address, $port) = @_;
	return [ map { IO::Socket::IP->new(PeerHost => $address, PeerPort => $port, Blocking => 0) // () } 1 .. 4 ];
}

sub make_hole
{
	my ($address, $port) = @_;
	my $listener = IO::Socket::IP->new(LocalHost => $address, LocalPort => $port, Listen => 1, ReuseAddr => 1) or die "$address: $!";
	return [ $listener, fill_queue($address, $port) ];
}

END { kill 'KILL', $server if $server && $server != $$; }

1;
