
=pod

=head1 NAME

DocsPage - what a page of documentation lets its reader run, in its order

=head1 DESCRIPTION

C<read> returns the steps of a page, hashes with kind, text and line, and its faults. A step comes from

  ```sql, ```sh, ```redis, ```conf      what a reader runs: psql, a shell, redis-cli, lines of postgresql.conf
  <!-- not run: why -->                 before a block: it is left out
  <!-- setup sql: ... -->               what a reader has already; also setup sh
  <!-- holds: ... -->                   a condition in SQL that comes true; holds sh: a command that comes to succeed
  <!-- a server of its own -->          the page changes servers: it shares none
  <!-- needs: ... -->                   a command without which the page is left out: what is not installed everywhere

Blocks in any other language are for the eye. One without a language is a fault, for nobody knows what it is; so are a
reason that is missing, and a "not run" that no block follows.

=cut

package DocsPage;

use strict;
use warnings;

my %runs = map { $_ => 1 } qw(sql sh redis conf);
my %shown = map { $_ => 1 } qw(text js ts py ruby json yaml ini c promql toml docker);

sub new
{
	my ($class, $path) = @_;
	open my $fh, '<:encoding(UTF-8)', $path or die "$path: $!\n";
	local $/;
	my $self = bless { steps => [], faults => [], left_out => 0 }, $class;
	$self->_read(scalar <$fh>);
	return $self;
}

sub steps { return @{ $_[0]{steps} }; }
sub faults { return @{ $_[0]{faults} }; }
sub left_out { return $_[0]{left_out}; }
sub has_own_server { return $_[0]{own}; }

# The command that fails here; the page's steps are left out then.
sub leave_out_without
{
	my ($self) = @_;
	my $needs = $self->{needs} // return;
	return if system("( $needs ) >/dev/null 2>&1") == 0;
	$self->{left_out} += grep { $_->{kind} !~ /^(?:setup|holds)/ } $self->steps;
	$self->{steps} = [];
	return $needs;
}

sub _fault { my ($self, $line, $text) = @_; push @{ $self->{faults} }, [ $line, $text ]; return; }

sub _step
{
	my ($self, $line, $kind, $text) = @_;
	push @{ $self->{steps} }, { line => $line, kind => $kind, text => $text };
	return;
}

sub _read
{
	my ($self, $text) = @_;
	my ($reason, $line, $at) = (undef, 1, 0);
	while ($text =~ /^(?:[ ]*```([^\n]*)\n(.*?)^[ ]*```[ ]*$|<!--\s*(.*?)\s*-->|([^\n]*\S[^\n]*)$)/msg)
	{
		my ($language, $block, $comment) = ($1, $2, $3);
		$line += substr($text, $at, $-[0] - $at) =~ tr/\n//;
		$at = $-[0];
		if (defined $language) { $self->_block($line, $language, $block, $reason); $reason = undef; }
		elsif (defined $comment) { $reason = $self->_comment($line, $comment) // $reason; }
		elsif (defined $reason) { $self->_fault($line, 'no block follows "not run"'); $reason = undef; }
	}
	return;
}

sub _block
{
	my ($self, $line, $language, $text, $reason) = @_;
	if (defined $reason) { $self->{left_out}++; return; }
	if ($runs{$language}) { $self->_step($line, $language, $text); return; }
	$self->_fault($line, $language eq '' ? 'the block has no language' : "language $language is not known")
	  unless $shown{$language};
	return;
}

# The reason, of a block that is not to be run
sub _comment
{
	my ($self, $line, $comment) = @_;
	my ($kind, $text) = $comment =~ /\A(not run|setup sql|setup sh|holds sh|holds):\s*(.*)\z/s;
	$self->{own} = 1 if $comment eq 'a server of its own';
	$self->{needs} = $1 if $comment =~ /\Aneeds:\s*(.*)\z/s;
	return unless defined $kind;
	if ($kind ne 'not run') { $self->_step($line, $kind, "$text\n"); return; }
	$self->_fault($line, '"not run" without a reason') if $text !~ /\w{3}/;
	return $text;
}

1;
