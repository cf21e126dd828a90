
=pod

=head1 NAME

CredentialCommand - a program for cache_aside.redis_credential_command that does what a test wants next

=head1 SYNOPSIS

  my $command = CredentialCommand->new;
  $command->prints(user => 'app', password => 'secret', expires => 2);
  $command->does("sleep 100\n");            # any shell text
  $command->setting;                        # for the setting: words, quoted
  $command->runs;                           # how often it ran
  $command->wait_for_runs($n);              # until it ran so often

=head1 DESCRIPTION

A shell script in a private directory, which reads its next body from a file that is replaced as a whole.

=cut

package CredentialCommand;

use strict;
use warnings;

use File::Temp ();

use RedisServer;

sub new
{
	my ($class) = @_;
	my $dir = File::Temp::tempdir('ca command XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $self = bless { dir => $dir }, $class;
	_write("$dir/run", "#!/bin/sh\necho \$\$ >>'$dir/runs'\n. '$dir/body'\n");
	chmod 0755, "$dir/run" or die $!;
	_write("$dir/runs", '');
	$self->does("exit 1\n");
	return $self;
}

sub _write
{
	my ($path, $text) = @_;
	open my $fh, '>', "$path.new" or die "$path: $!";
	print $fh $text;
	close $fh;
	rename "$path.new", $path or die "$path: $!";
	return;
}

sub does
{
	my ($self, $body) = @_;
	_write("$self->{dir}/body", $body);
	return $self;
}

sub prints
{
	my ($self, @lines) = @_;
	my $text = '';
	while (my ($keyword, $value) = splice @lines, 0, 2) { $text .= "$keyword $value\n"; }
	_write("$self->{dir}/output", $text);
	return $self->does("cat '$self->{dir}/output'\n");
}

sub path { return "$_[0]{dir}/run"; }
sub setting { my ($self) = @_; return qq("$self->{dir}/run" 'an argument'); }

sub pids
{
	my ($self) = @_;
	open my $fh, '<', "$self->{dir}/runs" or die $!;
	chomp(my @pids = <$fh>);
	return @pids;
}

sub runs { return scalar(my @pids = $_[0]->pids); }

sub wait_for_runs
{
	my ($self, $n) = @_;
	return RedisServer->wait_until(sub { $self->runs >= $n });
}

1;
