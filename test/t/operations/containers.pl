# What packaging/container and examples/compose name is there: files that are copied or mounted, settings, packages that a
# build takes, and the slot that CloudNativePG must leave alone. make containers builds and runs it all.
use strict;
use warnings;

use BareMachine;
use CacheAside;
use CPAN::Meta::YAML;
use PostgreSQL::Test::Utils;
use Test::More;

my %manifest = map { $_ => CPAN::Meta::YAML->read("packaging/container/cloudnative-pg/$_.yaml") } qw(cluster cluster-image-volume);
my $services = CPAN::Meta::YAML->read('examples/compose/compose.yaml')->[0]{services};
is(join(' ', sort keys %$services), 'app primary redis replica', 'the services');
is_deeply([ map { scalar @$_ } @manifest{qw(cluster cluster-image-volume)} ], [ 1, 2 ], 'the manifests');

my @dockerfiles = map { $_->{build}{dockerfile} // () } values %$services;
is(join(' ', sort @dockerfiles), 'examples/compose/app/Dockerfile packaging/container/Dockerfile', 'what is built');
my %files = map { $_ => slurp_file($_) } @dockerfiles, 'test/containers/bases.Dockerfile';
foreach my $file (sort keys %files)
{
	my @copied = map { my @words = split; @words[ 0 .. $#words - 1 ] } $files{$file} =~ /^COPY (?!--from)(.*)$/mg;
	is(join(' ', grep { !-e } @copied), '', "what $file copies is there");
}
my @mounted = map { grep { /^\./ } @{ $_->{volumes} // [] } } values %$services;
is(join(' ', grep { !-e "examples/compose/" . (split /:/)[0] } @mounted), '', 'what is mounted is there');
is(scalar(@mounted), 3, '... three files');

my ($packages) = $files{'packaging/container/Dockerfile'} =~ /--no-install-recommends (.*?)\n(?=COPY)/s;
my ($status, $said) = BareMachine->new(release => 13, archive => [17])->run('build', tell => 1);
my ($wanted) = $said =~ /apt-get install -y --no-install-recommends (.*)$/m;
is(join(' ', sort map { s/\$\{PG_MAJOR\}/17/r } grep { $_ ne '\\' } split ' ', $packages),
	join(' ', sort 'make', split ' ', $wanted), 'the image is built with what a build takes');

# ---- settings
my @settings = map { /^([\w.]+)=/ ? $1 : () } map { @{ $_->{command} // [] } } @{$services}{qw(primary replica)};
push @settings, keys %{ $_->[0]{spec}{postgresql}{parameters} } foreach values %manifest;
my $node = CacheAside->new_node('main', extension => 0);
my @unknown = grep { !$node->safe_psql('postgres', "SELECT count(*) FROM pg_settings WHERE name = '$_'") } @settings;
is("@unknown", '', 'every setting is one');
cmp_ok(scalar(@settings), '>', 6, '... and there are some');

foreach my $name (sort keys %manifest)
{
	my $spec = $manifest{$name}[0]{spec};
	is("@{ $spec->{postgresql}{shared_preload_libraries} }", 'cache_aside', "$name preloads the library");
	my $slots = $spec->{replicationSlots}{synchronizeReplicas};
	ok($slots->{enabled} eq 'true' && grep({ 'cache_aside' =~ /$_/ } @{ $slots->{excludePatterns} }), "$name leaves the worker's slot alone");
}
$node->stop;
done_testing();
