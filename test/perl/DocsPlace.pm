
=pod

=head1 NAME

DocsPlace - a private PostgreSQL and Redis on which the steps of a page run

=head1 DESCRIPTION

The server is one that a reader could have: started by pg_ctl, found through PGDATA, PGHOST, PGPORT and PGUSER; `redis-cli`
leads to a private Redis. What a page starts beside it (a standby, a restored copy) has its socket in the same directory and
its data below it, and ends with this program; so does a program whose process id is in a file F<*.pid> of a directory in its
home. C</etc/postgresql> and C</etc/redis> are directories of ours, and port 8000 is a free one.

C<run(database, step)> returns what was wrong, or nothing.

=cut

package DocsPlace;

use strict;
use warnings;

use File::Temp ();
use Text::ParseWords qw(shellwords);
use Time::HiRes ();

use RedisServer;

my @places;
my $patience = $ENV{PATIENCE} // 60; # seconds

sub new
{
	my ($class, $template) = @_;
	my $dir = File::Temp::tempdir('ca-docs-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $self = bless { dir => $dir, redis => RedisServer->new->start, owner => $$ }, $class;
	push @places, $self;
	mkdir "$dir/$_" or die "$dir/$_: $!\n" foreach qw(bin work etc etc/postgresql etc/redis);
	$self->_write_bin;
	system('cp', '-a', $template, "$dir/data") == 0 or die "cannot copy $template\n";
	_append("$dir/data/postgresql.conf", $self->_conf);
	return $self;
}

sub _append
{
	my ($path, $text) = @_;
	open my $fh, '>>', $path or die "$path: $!\n";
	print $fh $text;
	close $fh or die "$path: $!\n";
	return;
}

sub _content
{
	my ($path) = @_;
	open my $fh, '<:encoding(UTF-8)', $path or return '';
	local $/;
	return scalar <$fh>;
}

sub _write_bin
{
	my ($self) = @_;
	my ($dir, $redis) = ($self->{dir}, $self->{redis});
	my ($client) = grep { -x } map { ("$_/redis-cli", "$_/valkey-cli") } split(/:/, $ENV{PATH}), '/usr/local/bin', '/usr/bin';
	_append("$dir/bin/redis-cli", "#!/bin/sh\nexec $client -s @{[ $redis->socket ]} \"\$@\"\n");
	_append("$dir/bin/redis-server", "#!/bin/sh\nexec @{[ RedisServer::binary() ]} \"\$@\"\n");
	chmod 0755, map { "$dir/bin/$_" } qw(redis-cli redis-server);
	return;
}

sub _conf
{
	my ($self) = @_;
	my $tree = $INC{'DocsPlace.pm'} =~ s{[^/]*$}{../..}r;
	return _content("$tree/test/cache_aside.conf")
	  . ($ENV{CACHE_ASIDE_CONF} ? _content($ENV{CACHE_ASIDE_CONF}) : '')
	  . "listen_addresses = ''\nunix_socket_directories = '$self->{dir}'\nport = 5432\n"
	  . "cache_aside.redis_url = '@{[ $self->{redis}->url ]}'\ninclude_if_exists = 'of_a_page.conf'\n";
}

sub _environment
{
	my ($self, $database) = @_;
	my $dir = $self->{dir};
	return (
		PATH => "$dir/bin:$ENV{PATH}", HOME => "$dir/work", PGDATA => "$dir/data", PGHOST => $dir, PGPORT => 5432,
		PGUSER => 'postgres', PGDATABASE => $database, PGOPTIONS => '', PGCTLTIMEOUT => 60, REDIS => $self->{redis}->socket, REDIS_CONF => $self->{redis}->dir . "/redis.conf",
		PG_COLOR => 'never');
}

# Output and status of a command; its input is a text
sub _command
{
	my ($self, $database, $input, @command) = @_;
	my ($in, $out) = ("$self->{dir}/in", "$self->{dir}/out");
	open my $fh, '>:encoding(UTF-8)', $in or die "$in: $!\n";
	print $fh $input;
	close $fh;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		%ENV = (%ENV, $self->_environment($database));
		chdir "$self->{dir}/work" or die $!;
		open STDIN, '<', $in or die $!;
		open STDOUT, '>', $out or die $!;
		open STDERR, '>&', \*STDOUT or die $!;
		exec @command or die "$command[0]: $!";
	}
	waitpid $pid, 0;
	return ($? >> 8 || $? & 127, _content($out));
}

sub start
{
	my ($self) = @_;
	my ($status, $out) = $self->_command('postgres', '', 'pg_ctl', '-s', '-w', '-l', "$self->{dir}/log", 'start');
	die "the server does not start:\n$out" . _content("$self->{dir}/log") if $status;
	return $self;
}

# What a step's text means here
sub _here
{
	my ($self, $text) = @_;
	my $user = getpwuid $>;
	$self->{port} //= RedisServer::free_port() if $text =~ /\b8000\b/;
	return $text =~ s{/etc/(postgresql|redis)/}{$self->{dir}/etc/$1/}gr =~ s/ -o \w+/ -o $user/gr =~ s/\b8000\b/$self->{port}/gr;
}

my %how = (
	sql => \&_sql,
	'setup sql' => \&_sql,
	sh => \&_sh,
	'setup sh' => \&_sh,
	redis => \&_redis,
	conf => \&_conf_lines,
	holds => sub { my ($self, $db, $text) = @_; return $self->_comes_true($db, $text, 'psql', '-XAtq', '-f', '-'); },
	'holds sh' => sub { my ($self, $db, $text) = @_; return $self->_comes_true($db, "{ $text } >/dev/null && echo t", 'bash', '-s'); });

sub run
{
	my ($self, $database, $step) = @_;
	return $how{ $step->{kind} }->($self, $database, $self->_here($step->{text}));
}

# A block that shows its error must fail with it, one that shows none must say nothing but notices.
sub _sql
{
	my ($self, $database, $text) = @_;
	my ($statements, $error) = $text =~ /\A(.*?)(^ERROR: .*)?\z/ms;
	my ($status, $out) = $self->_command($database, $statements, 'psql', '-Xq', '-o', '/dev/null', '-f', '-');
	$out =~ s/^psql:[^ ]*:\d+: //mg;
	$out =~ s/^NOTICE:[^\n]*\n(?:(?:DETAIL|HINT):[^\n]*\n|[^A-Z\n][^\n]*\n)*//mg;
	$out =~ s/^(?:HINT|CONTEXT|LOCATION):.*//ms;
	return $out eq ($error // '') && !($status && !defined $error) ? () : $out || "psql ended with $status";
}

sub _sh
{
	my ($self, $database, $text) = @_;
	my ($status, $out) = $self->_command($database, "set -euo pipefail\n$text", 'bash', '-s');
	return $status ? "it ended with $status:\n$out" : ();
}

sub _redis
{
	my ($self, $database, $text) = @_;
	$text =~ s/\\\n\s*//g;
	$text =~ s/\s+-- .*$//mg;
	foreach my $line (grep { /\S/ } split /\n/, $text)
	{
		eval { $self->{redis}->command(shellwords($line)); 1 } or return "$line: $@";
	}
	return;
}

# Taken by PostgreSQL's own reader of the file, which is not told to apply it. What takes a restart is an error to it.
sub _conf_lines
{
	my ($self, $database, $text) = @_;
	my $file = "$self->{dir}/data/of_a_page.conf";
	_append($file, $text);
	my ($status, $out) = $self->_command($database,
		"SELECT f.sourceline, f.name, f.error FROM pg_file_settings f LEFT JOIN pg_settings s USING (name) "
		  . "WHERE f.sourcefile LIKE '%of\\_a\\_page.conf' AND f.error IS NOT NULL AND s.context IS DISTINCT FROM 'postmaster'",
		'psql', '-XAtq', '-f', '-');
	unlink $file;
	return $status || $out ne '' ? $out : ();
}

sub _comes_true
{
	my ($self, $database, $text, @command) = @_;
	my $end = Time::HiRes::time() + $patience;
	my ($status, $out);
	do
	{
		($status, $out) = $self->_command($database, $text, @command);
		return if $out eq "t\n";
		Time::HiRes::sleep(0.1);
	} while (Time::HiRes::time() < $end);
	return "not within $patience s; last: $out";
}

# Whatever a page left running
sub stop
{
	my ($self) = @_;
	kill 'TERM', grep { /^\d+$/ } map { split /\n/, _content($_) } grep { !/postmaster/ } glob "$self->{dir}/work/*/*.pid";
	foreach my $pidfile (grep { -e } glob "$self->{dir}/data/postmaster.pid $self->{dir}/work/*/postmaster.pid")
	{
		system('pg_ctl', '-s', '-D', $pidfile =~ s{/[^/]*$}{}r, '-m', 'immediate', 'stop');
	}
	system("'$self->{dir}/bin/redis-cli' shutdown nosave >'$self->{dir}/out' 2>&1");
	return;
}

END
{
	my $status = $?;
	$_->stop foreach grep { $_->{owner} == $$ } @places;
	$? = $status;
}

1;
