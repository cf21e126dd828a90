
=pod

=head1 NAME

NodePackage - a Node.js package in a directory of its own, with what its lock file names

=head1 SYNOPSIS

  use NodePackage;

  my $package = NodePackage->or_skip_all('examples/typescript');   # a plan, or skips with the reason
  $package->run('npx tsc');                                        # true if it exits with 0
  $package->passes('node --test dist/test', 7);                    # three tests: it passes, at least so many, none skipped

  my $reason = NodePackage->unavailable;                           # no node, no npm, too old; undef: all is there
  my ($package, $why_not) = NodePackage->install('test/clients');
  ... = NodePackage->install('examples/orm', 'prisma');            # a package in a tree whose files it uses

npm writes beside the sources, so they are copied. HOME is that directory from then on: npm's cache ends with the test.

=cut

package NodePackage;

use strict;
use warnings;

use File::Temp ();
use Test::More;

sub unavailable
{
	foreach my $program (qw(node npm))
	{
		return "$program is not installed" if system("command -v $program >/dev/null 2>&1") != 0;
	}
	my ($major) = `node --version` =~ /^v(\d+)/;
	return !$major || $major < 20 ? 'node is older than version 20' : undef;
}

sub install
{
	my ($class, $source, $inside) = @_;
	my $reason = $class->unavailable;
	return (undef, $reason) if defined $reason;
	my $copy = File::Temp::tempdir('ca-npm-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	system("cd $source && tar cf - --exclude=node_modules --exclude=build . | tar xf - -C $copy") == 0 or die "cannot copy $source";
	$ENV{HOME} = $copy;
	my $self = bless { dir => defined $inside ? "$copy/$inside" : $copy }, $class;
	my $command = 'npm ci --no-progress --no-audit --no-fund --fetch-retries 1 --fetch-timeout 30000 >npm.log 2>&1';
	return $self->run($command) ? $self : (undef, 'the packages cannot be had (npm ci failed)');
}

sub or_skip_all
{
	my ($class, @source) = @_;
	my ($self, $reason) = $class->install(@source);
	plan skip_all => $reason unless $self;
	return $self;
}

sub dir { return $_[0]{dir}; }

sub run
{
	my ($self, $command) = @_;
	return system("cd $self->{dir} && $command") == 0;
}

sub passes
{
	my ($self, $command, $least) = @_;
	my $output = `cd $self->{dir} && timeout -k 5 300 $command 2>&1`;
	is($?, 0, 'its tests pass') or diag $output;
	my ($passed) = $output =~ /^# pass (\d+)/m;
	cmp_ok($passed // 0, '>=', $least, 'all of them ran');
	my ($skipped) = $output =~ /^# skipped (\d+)/m;
	is($skipped, 0, 'none was skipped');
	return;
}

1;
