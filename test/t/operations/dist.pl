# The release archives are the same bytes wherever the commit is archived, and META.json is what PGXN takes.
#
# Remedies: TZ in scripts/dist.sh (a zip has local times), gzip -n.
use strict;
use warnings;

use File::Temp ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'git is not installed' if system('git --version >/dev/null 2>&1') != 0;

my $clone = File::Temp::tempdir('ca-dist-XXXXXX', TMPDIR => 1, CLEANUP => 1);
local $ENV{HOME} = $clone;
local @ENV{ map { ("GIT_$_" . '_NAME', "GIT_$_" . '_EMAIL') } qw(AUTHOR COMMITTER) } = ('A', 'a@example.org') x 2;
system(qq{cp -r META.json scripts debian "$clone/" && cd "$clone" && git init -q && git add . && git commit -qm x}) == 0 or die 'no commit';

# Archived by another user, elsewhere, later.
sub archives
{
	my ($name, $umask, $zone) = @_;
	local $ENV{TZ} = $zone;
	my $sums = `umask $umask && cd "$clone" && find . -name .git -prune -o -type f -exec touch {} + && DIST="$clone/$name" scripts/dist.sh`;
	is(scalar(() = $sums =~ /^\w{64}  cache_aside-[\d.]+(\.tar\.gz|\.zip)$/mg), 2, "two archives, in $zone");
	return $sums;
}

my $sums = archives('one', '022', 'UTC');
is(archives('two', '077', 'Asia/Tokyo'), $sums, 'the same bytes');
like(`tar -tzf $clone/one/*.tar.gz`, qr{^cache_aside-[\d.]+/META\.json$}m, 'in a folder with name and version');

# ---- https://pgxn.org/meta/spec.txt
my $meta = decode_json(slurp_file('META.json'));
ok(defined $meta->{$_} && $meta->{$_} ne '', "META.json: $_") foreach qw(name version abstract maintainer license provides meta-spec);
my $semver = qr/^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[A-Za-z][-0-9A-Za-z]*)?$/;
like($meta->{version}, $semver, 'a semantic version');
unlike($meta->{name}, qr{[/\\[:space:][:cntrl:]]}, 'a name');
is($meta->{license}, 'postgresql', 'a licence that the list has');
like($meta->{release_status}, qr/^(stable|testing|unstable)$/, 'a status');
is($meta->{'meta-spec'}{version}, '1.0.0', 'the version of the specification');
foreach my $name (sort keys %{ $meta->{provides} })
{
	my $provided = $meta->{provides}{$name};
	like($provided->{version}, $semver, "$name: version");
	ok(-f $provided->{file} && -f $provided->{docfile}, "$name: file and docfile");
}
is(join(' ', grep { !/^(configure|build|test|runtime|develop)$/ } keys %{ $meta->{prereqs} }), '', 'phases');
my @versions = map { values %$_ } map { values %$_ } values %{ $meta->{prereqs} };
is(join(' ', grep { !/$semver/ } @versions), '', 'what is required has versions');
is(join(' ', grep { length > 255 || m{[/\\[:cntrl:]]} } @{ $meta->{tags} }), '', 'tags');
done_testing();
