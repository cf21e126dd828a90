
=pod

=head1 NAME

BareMachine - a pretended Debian machine with few packages, for tests of the scripts

=head1 SYNOPSIS

  my $machine = BareMachine->new(release => 12, archive => [15], packages => ['libpq-dev']);
  my ($status, $said) = $machine->run('demo');                  # scripts/packages.sh for `make demo`
  my ($status, $said) = $machine->run('demo', root => 1);       # installs what apt has
  my ($status, $said) = $machine->make('all');

=head1 DESCRIPTION

A directory that the scripts take for the root of the file system (CA_ROOT), with nothing in PATH but
the tools every Debian has. Packages are folders that are copied into it, from an archive that holds
PostgreSQL of some majors; compiler, servers and pg_config are scripts that look for the files which
the real ones need. apt-get copies too, and notes in what state it found policy-rc.d.

Options of new: release (of Debian, in os-release), archive (majors; the last is what `postgresql`
depends on), packages (installed), lists (0: apt-get update was never run).

=cut

package BareMachine;

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Path ();
use File::Temp ();

my @tools = qw(basename bash cat chmod cp dirname echo env find grep head ls make mkdir mktemp mv realpath rm rmdir
  sed sh sort tail touch tr);

sub new
{
	my ($class, %args) = @_;
	my $dir = File::Temp::tempdir('ca-bare-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $self = bless { dir => $dir, archive => [], lists => 1, %args }, $class;
	$self->{default} = $self->{archive}[-1];
	foreach my $tool (@tools)
	{
		my ($path) = grep { -x } map { "$_/$tool" } '/usr/bin', '/bin';
		$self->_link($path // die("no $tool"), "usr/bin/$tool");
	}
	$self->_file('etc/os-release', "ID=debian\nVERSION_ID=\"$self->{release}\"\n");
	$self->_tools_of_apt;
	$self->_fill_archive;
	$self->install(@{ $self->{packages} // [] });
	$self->_file('var/lib/apt/lists/main_Packages', '') if $self->{lists};
	return $self;
}

sub dir { return $_[0]{dir}; }

sub has { my ($self, $path) = @_; return -e "$self->{dir}/$path"; }

sub text
{
	my ($self, $path) = @_;
	open my $fh, '<', "$self->{dir}/$path" or return '';
	local $/;
	return scalar <$fh>;
}

sub install
{
	my ($self, @packages) = @_;
	system('cp', '-a', '--remove-destination', "$self->{dir}/archive/$_/.", $self->{dir}) == 0 or die "no package $_" foreach @packages;
	return $self;
}

sub remove { my ($self, @paths) = @_; File::Path::remove_tree("$self->{dir}/$_") foreach @paths; return $self; }

# A program of one's own.
sub script { my ($self, $path, $body) = @_; $self->_script($path, $body); return $self; }

# What is installed of PostgreSQL on another machine, too.
sub copy_from
{
	my ($self, $other) = @_;
	foreach my $path (grep { -f "$other->{dir}/$_" } map { s{^\Q$other->{dir}\E/}{}r } glob "$other->{dir}/usr/{bin/pg_config,lib/*/*/bin/*,lib/*/*/lib/pgxs/src/{makefiles,test/*}/*,include/*/*/server/*}")
	{
		$self->_file($path, $other->text($path) =~ s/\Q$other->{dir}\E/$self->{dir}/gr, 0755);
	}
	return $self;
}

# Exit status and output of scripts/packages.sh. Options: root, tell (-n), and variables.
sub run
{
	my ($self, $goal, %env) = @_;
	my $as_root = delete $env{root} // 0;
	my @tell = delete $env{tell} ? '-n' : ();
	$self->_script('usr/bin/id', "echo @{[ $as_root ? 0 : 1000 ]}");
	return $self->_output({ CA_GOAL => $goal, %env }, 'scripts/packages.sh', @tell);
}

sub make
{
	my ($self, @args) = @_;
	my $build = "$self->{dir}/build";
	mkdir $build;
	return $self->_output({}, 'make', '-s', '-C', $build, '-f', Cwd::abs_path('Makefile'), @args);
}

# The pg_config that would be built for.
sub chosen
{
	my ($self, $goal, %env) = @_;
	my (undef, $path) = $self->_output({ CA_GOAL => $goal, %env }, 'scripts/postgresql.sh');
	return $path =~ s/\n//r =~ s/^\Q$self->{dir}\E//r;
}

sub _output
{
	my ($self, $env, @command) = @_;
	my $pid = open(my $pipe, '-|') // die "fork: $!";
	if ($pid == 0)
	{
		open STDERR, '>&', \*STDOUT;
		%ENV = (PATH => "$self->{dir}/usr/local/bin:$self->{dir}/usr/bin", HOME => $self->{dir},
			LC_ALL => 'C', TMPDIR => $ENV{TMPDIR} // '/tmp', CA_ROOT => $self->{dir}, %$env);
		exec @command or die "$command[0]: $!";
	}
	my $said = do { local $/; <$pipe> };
	close $pipe;
	return ($? >> 8, $said // '');
}

# ---- what packages hold ----

sub _file
{
	my ($self, $path, $content, $mode) = @_;
	my $full = "$self->{dir}/$path";
	File::Path::make_path(File::Basename::dirname($full));
	unlink $full;    # it may be a link out of here
	open my $fh, '>', $full or die "$full: $!";
	print $fh $content;
	close $fh;
	chmod $mode // 0644, $full;
	return;
}

sub _script
{
	my ($self, $path, $body) = @_;
	return $self->_file($path, "#!/bin/bash\nroot=$self->{dir}\n$body\n", 0755);
}

sub _link
{
	my ($self, $to, $path) = @_;
	my $full = "$self->{dir}/$path";
	File::Path::make_path(File::Basename::dirname($full));
	symlink $to, $full or die "$full: $!";
	return;
}

sub _tools_of_apt
{
	my ($self) = @_;
	$self->_script('usr/bin/apt-cache', <<'EOS');
have() { compgen -G "$root/var/lib/apt/lists/*_Packages" >/dev/null && [ -d "$root/archive/$1" ]; }
case $1 in
	policy) ! have "$2" || printf '%s:\n  Installed: (none)\n  Candidate: 1:14.0\n' "$2" ;;
	show) ! have postgresql-DEFAULT || echo 'Depends: postgresql-DEFAULT' ;;
esac
EOS
	$self->_script('usr/bin/apt-get', <<'EOS');
all=$*
echo "$all" >>"$root/apt.log"
case $all in
	*' update') mkdir -p "$root/var/lib/apt/lists"; touch "$root/var/lib/apt/lists/main_Packages" ;;
	*' install '*)
		"$root/usr/sbin/policy-rc.d" >/dev/null 2>&1; echo "policy $?" >>"$root/apt.log"
		grep -h create_main "$root"/etc/postgresql-common/createcluster.conf >>"$root/apt.log"
		for package in ${all##*--no-install-recommends }; do cp -a --remove-destination "$root/archive/$package/." "$root" || exit 100; done ;;
esac
EOS
	$self->_script('usr/sbin/update-rc.d', 'echo "update-rc.d $*" >>"$root/apt.log"');
	$self->_link("$self->{dir}/usr/sbin/update-rc.d", 'usr/bin/update-rc.d');
	my $default = $self->{default} // 0;
	$self->_script('usr/bin/apt-cache', $self->text('usr/bin/apt-cache') =~ s/DEFAULT/$default/gr);
	return;
}

sub _fill_archive
{
	my ($self) = @_;
	my $gcc = <<'EOS';
for word in "$@"; do case $word in *.c) program=$word ;; esac; done
lacks() { echo "probe.c:1: fatal error: $1: No such file or directory"; exit 1; }
[ -e "$root/usr/include/stdio.h" ] || lacks stdio.h
! grep -q hiredis.h "$program" || [ -e "$root/usr/include/hiredis/hiredis.h" ] || lacks hiredis/hiredis.h
! grep -q openssl/ssl.h "$program" || [ -e "$root/usr/include/openssl/ssl.h" ] || lacks openssl/ssl.h
EOS
	my %programs = (gcc => [gcc => $gcc], perl => [perl => 'case $* in *IPC::Run*)
		[ -e "$root/usr/share/perl5/IPC/Run.pm" ] ;; esac'], 'pkg-config' => ['pkg-config' => <<'EOS'],
case "$*" in
	*openssl*) [ -e "$root/usr/include/openssl/ssl.h" ] || exit 1 ;;
	*hiredis*) [ -e "$root/usr/include/hiredis/hiredis.h" ] || exit 1 ;;
esac
EOS
		'redis-tools' => ['redis-cli' => ''], clang => [clang => ''],
		(map { ("python3-$_" => [ python3 => '' ]) } qw(minimal redis psycopg pip django psycopg2 sqlalchemy starlette)),
		(map { ("ruby-$_" => [ ruby => '' ]) } qw(activerecord pg redis)),
		(map { $_ => [$_ => ''] } qw(chromium prometheus prometheus-postgres-exporter prometheus-sql-exporter)),
		pgbouncer => [pgbouncer => ''], memcached => [memcached => ''], 'gnuplot-nox' => [gnuplot => ''], 'clang-format' => ['clang-format' => '']);
	foreach my $package (keys %programs)
	{
		my ($name, $body) = @{ $programs{$package} };
		$self->_script("archive/$package/usr/bin/$name", $body);
	}
	$self->_script('archive/redis-server/usr/bin/redis-server', '');
	$self->_script('archive/redis-server/usr/bin/redis-cli', '');
	$self->_script('archive/redis-server/etc/init.d/redis-server', '');
	$self->_file('archive/libc6-dev/usr/include/stdio.h', '');
	$self->_file('archive/libhiredis-dev/usr/include/hiredis/hiredis.h', '');
	$self->_file('archive/libssl-dev/usr/include/openssl/ssl.h', '');
	$self->_file('archive/libipc-run-perl/usr/share/perl5/IPC/Run.pm', '');
	$self->_postgresql($_) foreach @{ $self->{archive} };
	$self->add_pg_config('archive/libpq-dev/usr/bin/pg_config', $self->{default}) if $self->{default};
	return;
}

# A pg_config as PostgreSQL was configured: with a prefix of its own, or Debian's directories.
sub add_pg_config
{
	my ($self, $path, $major, $prefix) = @_;
	my $lib = $prefix ? "$prefix/lib" : "/usr/lib/postgresql/$major/lib";
	my $bin = $prefix ? "$prefix/bin" : "/usr/lib/postgresql/$major/bin";
	my $include = $prefix ? "$prefix/include/server" : "/usr/include/postgresql/$major/server";
	my $share = $prefix ? "$prefix/share" : "/usr/share/postgresql/$major";
	$self->_script($path, <<"EOS");
case \$1 in
	--version) echo 'PostgreSQL $major.4' ;;
	--configure) echo "'--with-openssl'" ;;
	--bindir) echo "\$root$bin" ;;
	--includedir-server) echo "\$root$include" ;;
	--pgxs) echo "\$root$lib/pgxs/src/makefiles/pgxs.mk" ;;
	--pkglibdir) echo "\$root$lib" ;;
	--sharedir) echo "\$root$share" ;;
	--cc) echo gcc ;;
esac
EOS
	return;
}

sub _postgresql
{
	my ($self, $major) = @_;
	my ($server, $headers) = ("archive/postgresql-$major", "archive/postgresql-server-dev-$major");
	foreach my $package ($server, $headers, "archive/postgresql-client-$major")
	{
		$self->add_pg_config("$package/usr/lib/postgresql/$major/bin/pg_config", $major);
		$self->add_pgxs("$package/usr/lib/postgresql/$major/lib");
		# postgresql-common's: the newest of which there is one
		$self->_script("$package/usr/bin/pg_config",
			'exec "$(ls -v "$root"/usr/lib/postgresql/*/bin/pg_config | tail -n 1)" "$@"');
	}
	$self->add_server("$server/usr/lib/postgresql/$major/bin", $major, "extension_destdir\t");
	$self->add_headers("$headers/usr/include/postgresql/$major/server", $major);
	foreach my $library (qw(pgmemcache wal2json pglogical pg_repack pg_partman_bgw))
	{
		my $package = $library =~ s/^pg_([a-z]+).*/$1/r;
		$self->_file("archive/postgresql-$major-$package/usr/lib/postgresql/$major/lib/$library.so", '');
	}
	return;
}

sub add_pgxs
{
	my ($self, $lib) = @_;
	$self->_file("$lib/pgxs/src/makefiles/pgxs.mk", "CC = gcc\nall: \$(OBJS) ;\n%.o:\n\t\@echo compiles\n");
	$self->_script("$lib/pgxs/src/test/$_", '') foreach 'regress/pg_regress', 'isolation/pg_isolation_regress';
	$self->_file("$lib/pgxs/src/test/perl/PostgreSQL/Test/Cluster.pm", '');
	return;
}

sub add_server
{
	my ($self, $bin, $major, $settings) = @_;
	$self->_script("$bin/$_",
		"[ \$1 = --version ] && echo '$_ (PostgreSQL) $major.4' || printf '%s\\n' '$settings'")
	  foreach qw(initdb postgres pgbench);
	return;
}

sub add_headers
{
	my ($self, $include, $major) = @_;
	$self->_file("$include/postgres.h", '');
	$self->_file("$include/pg_config.h", "#define PG_MAJORVERSION \"$major\"\n");
	return;
}

# PostgreSQL made by hand, in /usr/local/pgsql or another place.
sub build_postgresql
{
	my ($self, $major, $prefix) = @_;
	$prefix //= '/usr/local/pgsql';
	$self->add_pg_config("$prefix/bin/pg_config", $major, $prefix);
	$self->add_pgxs("$prefix/lib");
	$self->add_server("$prefix/bin", $major, '');
	$self->add_headers("$prefix/include/server", $major);
	return $self;
}

1;
