
=pod

=head1 NAME

Growth - how a time, or a size, grows with something: sizes, tables, exponents

=head1 DESCRIPTION

  axis('rules', title => 'Rules of a table', sizes => [ 1, 10, 100 ],
	of => 'rules',                                    # what the sizes count
	columns => { 'ms' => 'UPDATE of a row, ms' },     # name -> title; those with a time or a size
	measure => sub { my ($size) = @_; ...; return { ms => 0.2 } });
  print tables();

C<measure> is called once for each size, the smallest first, with servers of its axis's own (Bench::servers). The exponent
of a column is the slope of a straight line through the logarithms, over the larger sizes: constant costs bend the
lower end. 1 is proportional, 0 does not grow. ONLY=name,name: some axes. SIZES=n,n: other sizes, for one axis.

=cut

package Growth;

use strict;
use warnings;

use Exporter 'import';
use List::Util qw(sum);

use Bench;

our @EXPORT = qw(axis wanted exponent tables);

my @done;    # { title, text }

sub wanted
{
	my ($name) = @_;
	my %only = map { $_ => 1 } split /,/, $ENV{ONLY} // '';
	return !%only || $only{$name};
}

# Slope of log y over log x, by least squares; undef where there is nothing to see.
sub exponent
{
	my (@points) = grep { $_->[0] > 0 && $_->[1] > 0 } @_;
	return undef if @points < 2;    ## no critic: a list would be one shorter
	my @x = map { log $_->[0] } @points;
	my @y = map { log $_->[1] } @points;
	my ($mean_x, $mean_y) = (sum(@x) / @x, sum(@y) / @y);
	my $xx = sum(map { ($_ - $mean_x)**2 } @x);
	return sum(map { ($x[$_] - $mean_x) * ($y[$_] - $mean_y) } 0 .. $#x) / $xx;
}

sub _number
{
	my ($value) = @_;
	return '' unless defined $value;
	return commas($value) if $value >= 1000 || $value == int $value;
	return sprintf $value >= 10 ? '%.0f' : $value >= 1 ? '%.1f' : '%.2g', $value;
}

# The larger sizes: two of three, three of four or five.
sub _upper_half
{
	my (@points) = @_;
	my $first = @points > 2 ? int(@points / 2) - (@points == 4) : 0;
	return @points[ $first .. $#points ];
}

sub axis
{
	my ($name, %axis) = @_;
	return unless wanted($name);
	title($axis{title});
	my @sizes = $ENV{SIZES} ? split(/,/, $ENV{SIZES}) : @{ $axis{sizes} };
	my @columns = @{ $axis{columns} };
	my @rows;
	foreach my $size (@sizes)
	{
		my $found = $axis{measure}->($size);
		push @rows, [ $size, @$found{ map { $_->[0] } @columns } ];
		note_line(commas($size), join ', ', map { "$columns[$_][1] " . _number($rows[-1][ $_ + 1 ]) } 0 .. $#columns);
	}
	my @exponents = map {
		my $column = $_;
		scalar exponent(_upper_half(grep { defined $_->[1] } map { [ $_->[0], $_->[$column] ] } @rows))
	} 1 .. @columns;
	_tell(\%axis, \@rows, \@exponents);
	return @rows;
}

sub _tell
{
	my ($axis, $rows, $exponents) = @_;
	my @columns = map { $_->[1] } @{ $axis->{columns} };
	my $line = sub { return '| ' . join(' | ', @_) . " |\n" };
	my @last = map { defined $_ ? sprintf '%.2f', $_ : '' } @$exponents;
	note_line('exponents', join ', ', map { "$columns[$_] $last[$_]" } 0 .. $#columns);
	push @done, "## $axis->{title}\n\n$axis->{text}\n\n" . $line->($axis->{of}, @columns) . '|' . '---|' x (1 + @columns) . "\n"
	  . join('', map { $line->(commas($_->[0]), map { _number($_) } @$_[ 1 .. $#$_ ]) } @$rows)
	  . $line->('exponent', @last);
	return;
}

# All that was measured, as Markdown.
sub tables { return join "\n", @done; }

1;
