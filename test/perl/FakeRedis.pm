
=pod

=head1 NAME

FakeRedis - a Redis that misbehaves on demand

=head1 SYNOPSIS

  use FakeRedis;
  my $fake = FakeRedis->new(upstream => $redis)->start;     # a RedisServer; or without: all is OK
  # cache_aside.redis_url = $fake->url
  $fake->on(qr/^FCALL/, error => 'OOM command not allowed when used memory > maxmemory');
  $fake->on(qr/^UNLINK/, raw => "garbage\r\n", times => 1);
  $fake->clear;                       # behave from now on
  $fake->hang_up;                     # close every connection
  $fake->wait_for(qr/^UNLINK .*user:1/) or die;
  my @seen = $fake->commands(qr/^AUTH/);

=head1 DESCRIPTION

A listener on a unix socket (or, with port => 1, on a free loopback port), one process for each
connection. Each command that comes is recorded, then the first rule in force that matches decides;
without one the command goes to the upstream server and its reply comes back byte for byte. The text
a rule is matched against is the command in upper case and its arguments, separated by blanks; a new
connection is announced as "(CONNECT)" before anything is read from it.

Without an upstream PING is answered by PONG, and everything else by OK.

=cut

package FakeRedis;

use strict;
use warnings;

use File::Temp ();
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX ();
use Socket;
use Storable ();
use Time::HiRes ();

use RedisClient;
use RedisServer;

my @started;

sub new
{
	my ($class, %args) = @_;
	my $self = bless { %args, owner => $$, rules => [], next_rule => 1 }, $class;
	$self->{dir} = File::Temp::tempdir('ca-fake-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	$self->{port} = RedisServer::free_port() if $self->{port} && $self->{port} == 1;
	$self->_publish;
	open my $fh, '>', "$self->{dir}/commands" or die $!;
	push @started, $self;
	return $self;
}

sub socket { return "$_[0]{dir}/fake.sock"; }
sub port { return $_[0]{port}; }

# url(user_info => ':secret', db => 3)
sub url
{
	my ($self, %args) = @_;
	my $user = defined $args{user_info} ? "$args{user_info}\@" : '';
	my $db = $args{db} // ($self->{upstream} ? $self->{upstream}{db} : 0);
	return "redis://${user}127.0.0.1:$self->{port}/$db" if $self->{port};
	return "unix://$user" . $self->socket . "?db=$db";
}

=head2 start, stop, hang_up

stop ends the listener and all connections (then connecting is refused); start listens again at the
same address; hang_up closes the connections only.

=cut

sub start
{
	my ($self) = @_;
	die 'the fake Redis runs already' if $self->{pid};
	unlink $self->socket;
	my $listener =
	  $self->{port}
	  ? IO::Socket::INET->new(
		LocalAddr => '127.0.0.1',
		LocalPort => $self->{port},
		ReuseAddr => 1,
		Listen => 50)
	  : IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $self->socket, Listen => 50);
	die "cannot listen: $!" unless $listener;
	chmod 0777, $self->socket unless $self->{port};
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		setpgrp(0, 0);
		eval { $self->_listen($listener); };
		warn $@ if $@;
		POSIX::_exit(0);
	}
	setpgrp($pid, $pid);
	$self->{pid} = $pid;
	return $self;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return $self;
	kill 'KILL', -$pid;    # the listener's own process group: it and its connections
	waitpid $pid, 0;
	return $self;
}

sub hang_up
{
	my ($self) = @_;
	kill 'USR1', $self->{pid};
	return $self;
}

=head2 on(pattern, action => argument, times => n)

Actions; several rules may be in force, the first that matches counts.

  error => 'TEXT'     -TEXT, as Redis reports errors
  raw => bytes        these bytes in place of the reply
  half => n           the first n bytes of the true reply, then close
  stall => n          the first n bytes of the true reply, the rest when the rule is gone
  close => 1          close without reply, the command was not carried out
  lose => 1           carry it out, then close without reply
  freeze => 1         neither read nor answer until the rule is gone
  endless => bytes    these bytes, then a stream of 'x' until the other side closes
  flood => bytes      these bytes again and again until the other side closes
  slow => seconds     the true reply byte by byte, with that pause after each

clear removes all rules, or those a call of `on` returned. instead(...) is both in one step, so that nothing
comes in between: the new rule is the only one.

=cut

sub on
{
	my ($self, $pattern, $action, $argument, %options) = @_;
	die "no such action: $action" unless __PACKAGE__->can("_do_$action");
	my $id = $self->{next_rule}++;
	my $times = $options{times};
	foreach my $n (1 .. $times // 0)
	{
		open my $fh, '>', "$self->{dir}/use.$id.$n" or die $!;
	}
	push @{ $self->{rules} },
	  {
		id => $id,
		pattern => "$pattern",
		action => $action,
		argument => $argument,
		times => $times
	  };
	$self->_publish;
	return $id;
}

sub instead
{
	my ($self, @rule) = @_;
	$self->{rules} = [];
	return $self->on(@rule);
}

sub clear
{
	my ($self, @ids) = @_;
	my %gone = map { $_ => 1 } @ids;
	$self->{rules} = [ grep { @ids && !$gone{ $_->{id} } } @{ $self->{rules} } ];
	$self->_publish;
	return $self;
}

# The connections read the rules from a file, replaced as a whole.
sub _publish
{
	my ($self) = @_;
	Storable::nstore($self->{rules}, "$self->{dir}/rules.new");
	rename "$self->{dir}/rules.new", "$self->{dir}/rules" or die $!;
	return;
}

=head2 What came

commands(pattern) returns the texts in order; arguments(pattern) the same as array references;
connections is the number of connections so far; wait_for(pattern, n) waits until n (1) came.
forget empties the record.

=cut

sub arguments
{
	my ($self, $pattern) = @_;
	open my $fh, '<', "$self->{dir}/commands" or die $!;
	my @commands = map { JSON::PP::decode_json($_) } <$fh>;
	return grep { !defined $pattern || join(' ', @$_) =~ $pattern } @commands;
}

sub commands
{
	my ($self, $pattern) = @_;
	return map { join ' ', @$_ } $self->arguments($pattern);
}

sub connections
{
	my ($self) = @_;
	return scalar(my @all = $self->arguments(qr/^\(CONNECT\)/));
}

sub wait_for
{
	my ($self, $pattern, $n) = @_;
	return RedisServer->wait_until(sub { (my @all = $self->arguments($pattern)) >= ($n // 1) });
}

sub forget
{
	my ($self) = @_;
	truncate "$self->{dir}/commands", 0 or die $!;
	return $self;
}

# ---- in the listener ----

sub _listen
{
	my ($self, $listener) = @_;
	my %connections;
	my $parent = $self->{owner};
	local $SIG{PIPE} = 'IGNORE';
	local $SIG{USR1} = sub { kill 'KILL', keys %connections; };
	local $SIG{CHLD} = 'DEFAULT';
	while (getppid() == $parent)
	{
		my $ready = '';
		vec($ready, fileno $listener, 1) = 1;
		my $n = select $ready, undef, undef, 0.2;
		while ((my $pid = waitpid -1, POSIX::WNOHANG()) > 0) { delete $connections{$pid}; }
		next unless $n > 0;
		my $fh = $listener->accept or next;
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			$SIG{USR1} = 'DEFAULT';
			eval { close $listener; $self->_serve($fh); };
			POSIX::_exit(0);
		}
		close $fh;
		$connections{$pid} = 1;
	}
	kill 'KILL', -$$;
	return;
}

# ---- in the process of one connection; any die ends it ----

sub _serve
{
	my ($self, $fh) = @_;
	$self->{fh} = $fh;
	$self->{in} = bless { fh => $fh, buffer => '', timeout => 1_000_000 }, 'RedisClient';
	$self->{up} = $self->{upstream}->client->{fh} if $self->{upstream};
	$self->_carry_out('(CONNECT)');
	while (1)
	{
		my @command = @{ $self->{in}->receive };
		$command[0] = uc $command[0];
		$self->_carry_out(@command);
	}
}

sub _record
{
	my ($self, @command) = @_;
	open my $fh, '>>', "$self->{dir}/commands" or die $!;
	syswrite $fh, JSON::PP->new->latin1->encode(\@command) . "\n";
	close $fh;
	return;
}

sub _carry_out
{
	my ($self, @command) = @_;
	my $rule = $self->_rule_for(join ' ', @command);
	$self->_record(@command);
	if ($rule)
	{
		my $do = "_do_$rule->{action}";
		return $self->$do($rule, @command);
	}
	return $self->_say($self->_true_reply(@command)) if $command[0] ne '(CONNECT)';
	return;
}

sub _rule_for
{
	my ($self, $text) = @_;
	foreach my $rule (@{ Storable::retrieve("$self->{dir}/rules") })
	{
		next unless $text =~ /$rule->{pattern}/;
		return $rule unless defined $rule->{times};
		foreach my $n (1 .. $rule->{times})
		{
			return $rule if unlink "$self->{dir}/use.$rule->{id}.$n";    # only one can
		}
	}
	return undef;
}

sub _is_in_force
{
	my ($self, $rule) = @_;
	return grep { $_->{id} == $rule->{id} } @{ Storable::retrieve("$self->{dir}/rules") };
}

sub _wait_while_in_force
{
	my ($self, $rule) = @_;
	select undef, undef, undef, 0.01 while $self->_is_in_force($rule);
	return;
}

sub _say
{
	my ($self, $bytes) = @_;
	my $sent = 0;
	while ($sent < length $bytes)
	{
		$sent += syswrite($self->{fh}, $bytes, length($bytes) - $sent, $sent) // die "gone: $!";
	}
	return;
}

# The reply of the upstream server as it is on the wire.
sub _true_reply
{
	my ($self, @command) = @_;
	return '' if $command[0] eq '(CONNECT)';
	return $command[0] eq 'PING' ? "+PONG\r\n" : "+OK\r\n" unless $self->{up};
	syswrite $self->{up}, RedisClient::_encode(@command) or die "upstream: $!";
	my ($buffer, $end) = ('');
	until (defined($end = _reply_end(\$buffer, 0)))
	{
		sysread($self->{up}, $buffer, 65536, length $buffer) or die 'upstream closed';
	}
	return $buffer;
}

# Where the reply that begins at `from` ends; undef when it is not complete.
sub _reply_end
{
	my ($buffer, $from) = @_;
	my $eol = index $$buffer, "\r\n", $from;
	return undef if $eol < 0;
	my ($kind, $n) = (substr($$buffer, $from, 1), substr($$buffer, $from + 1, $eol - $from - 1));
	my $next = $eol + 2;
	return $next if $kind =~ /[-+:]/ || $n < 0;
	if ($kind eq '$')
	{
		return length $$buffer >= $next + $n + 2 ? $next + $n + 2 : undef;
	}
	foreach (1 .. $n)
	{
		$next = _reply_end($buffer, $next) // return undef;
	}
	return $next;
}

sub _do_error
{
	my ($self, $rule) = @_;
	return $self->_say("-$rule->{argument}\r\n");
}

sub _do_raw
{
	my ($self, $rule) = @_;
	return $self->_say($rule->{argument});
}

sub _do_half
{
	my ($self, $rule, @command) = @_;
	$self->_say(substr $self->_true_reply(@command), 0, $rule->{argument});
	die 'closed on request';
}

sub _do_stall
{
	my ($self, $rule, @command) = @_;
	my $reply = $self->_true_reply(@command);
	$self->_say(substr $reply, 0, $rule->{argument}, '');
	$self->_wait_while_in_force($rule);
	return $self->_say($reply);
}

sub _do_close { die 'closed on request'; }

sub _do_lose
{
	my ($self, $rule, @command) = @_;
	$self->_true_reply(@command);
	die 'closed on request';
}

sub _do_freeze
{
	my ($self, $rule, @command) = @_;
	$self->_wait_while_in_force($rule);
	return $self->_say($self->_true_reply(@command));
}

sub _do_endless
{
	my ($self, $rule) = @_;
	$self->_say($rule->{argument});
	$self->_say('x' x 65536) while 1;
	return;
}

sub _do_flood
{
	my ($self, $rule) = @_;
	my $bytes = $rule->{argument} x (1 + int(65536 / length $rule->{argument}));
	$self->_say($bytes) while 1;
	return;
}

sub _do_slow
{
	my ($self, $rule, @command) = @_;
	foreach my $byte (split //, $self->_true_reply(@command))
	{
		$self->_say($byte);
		select undef, undef, undef, $rule->{argument};
	}
	return;
}

END
{
	my $status = $?;
	foreach my $fake (grep { $_->{owner} == $$ } @started)
	{
		$fake->stop;
	}
	$? = $status;
}

1;
