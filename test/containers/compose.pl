#!/usr/bin/perl
# compose.pl file service: what the service of a compose file runs, as assignments for bash: image, and the arrays
# environment, entrypoint, command and volumes (source:target, those that are files). Variables have their defaults.
# compose.pl -p manifest: the lines of postgresql.conf that CloudNativePG makes of its first document.
use strict;
use warnings;

use CPAN::Meta::YAML;

sub quote { my ($text) = @_; $text =~ s/'/'\\''/g; return "'$text'"; }
sub value { my ($text) = @_; $text =~ s/\$\{(\w+):-([^}]*)\}/$ENV{$1} || $2/ge; return quote($text); }
sub array { my ($name, @values) = @_; print "$name=(", join(' ', map { value($_) } @values), ")\n"; return; }

my ($file, $name) = @ARGV;
if ($file eq '-p')
{
	my $postgresql = CPAN::Meta::YAML->read($name)->[0]{spec}{postgresql};
	my %set = (%{ $postgresql->{parameters} }, shared_preload_libraries => join ',', @{ $postgresql->{shared_preload_libraries} });
	print "$_ = ", quote($set{$_}), "\n" foreach sort keys %set;
	exit;
}
my $service = CPAN::Meta::YAML->read($file)->[0]{services}{$name} or die "no service $name in $file\n";
print 'image=', value($service->{image} // $name), "\n";
my $environment = $service->{environment} // {};
array('environment', map { "$_=$environment->{$_}" } sort keys %$environment);
array('entrypoint', @{ $service->{entrypoint} // [] });
array('command', @{ $service->{command} // [] });
array('volumes', grep { /^\./ } @{ $service->{volumes} // [] });
