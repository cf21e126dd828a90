
=pod

=head1 NAME

Report - what a run of the peers found: data, a table, two plots

=head1 DESCRIPTION

add_turn, add_clients, add_latency and add_loss take what was measured and write it down at once, in turns.tsv,
clients.tsv, latency-<peer>.txt (microseconds, sorted) and loss.tsv. write makes table.md of it, prints it, and has
gnuplot draw latency.svg and clients.svg.

=cut

package Report;

use strict;
use warnings;

use List::Util qw(min max);
use POSIX ();

my @figures = qw(commits tps server cache consumer application wal behind memory);

sub new
{
	my ($class, %args) = @_;
	my $self = bless { begin => [ Peer::cpu_of_machine(), Peer::cpu_below($$) ], %args }, $class;
	$self->_line('turns.tsv', 'peer', 'clients', @figures);
	$self->_line('clients.tsv', 'peer', 'clients', @figures);
	$self->_line('loss.tsv', qw(peer killed stale written left seconds));
	return $self;
}

sub _write
{
	my ($self, $mode, $name, $text) = @_;
	open my $fh, $mode, "$self->{out}/$name" or die "$self->{out}/$name: $!";
	print $fh $text;
	close $fh;
	return;
}

# A new file begins when the run does.
sub _line
{
	my ($self, $name, @fields) = @_;
	$self->_write($self->{begun}{$name}++ ? '>>' : '>', $name, join("\t", @fields) . "\n");
	return;
}

sub _short { return map { s/\.(\d{1,3})\d*$/.$1/r } @_; }

sub add_turn
{
	my ($self, $peer, $clients, $figures) = @_;
	push @{ $self->{turns}{ $peer->name } }, $figures;
	$self->_line('turns.tsv', $peer->name, $clients, _short(@$figures{@figures}));
	return;
}

sub add_clients
{
	my ($self, $peer, $clients, $figures) = @_;
	$self->{clients_of}{ $peer->name }{$clients} = $figures->{tps};
	$self->_line('clients.tsv', $peer->name, $clients, _short(@$figures{@figures}));
	return;
}

sub add_latency
{
	my ($self, $peer, $rate, @samples) = @_;
	$self->{latency}{ $peer->name } = { rate => $rate, map { $_ => _quantile($_, @samples) / 1000 } 0.5, 0.99, 0.999 };
	$self->_write('>', "latency-@{[ $peer->name ]}.txt", join '', map { "$_\n" } @samples);
	# for the plot: against the number of nines
	my @points = map { [ $_ / 50, _quantile(1 - 10**(-$_ / 50), @samples) / 1000 ] } 0 .. int(50 * min(3, log(@samples) / log(10)));
	$self->_write('>', "latency-@{[ $peer->name ]}.dat", join '', map { "$_->[0] $_->[1]\n" } @points);
	return;
}

sub add_loss
{
	my ($self, $peer, $what, $found) = @_;
	$self->{loss}{ $peer->name }{$what} = $found;
	$self->_line('loss.tsv', $peer->name, $what, @$found{qw(stale written left)}, _short($found->{seconds}));
	return;
}

sub _quantile
{
	my ($q, @sorted) = @_;
	return $sorted[ min($#sorted, int($q * @sorted)) ];
}

sub _median { return _quantile(0.5, sort { $a <=> $b } @_); }

sub _medians
{
	my ($self, $peer, $figure) = @_;
	return _median(map { $_->{$figure} } @{ $self->{turns}{ $peer->name } });
}

sub tps { return $_[0]->_medians($_[1], 'tps'); }

# Of each round, then their median.
sub _ratios
{
	my ($self, $peer) = @_;
	my $base = $self->{turns}{untracked} or return;
	my $own = $self->{turns}{ $peer->name };
	return sort { $a <=> $b } map { $own->[$_]{tps} / $base->[$_]{tps} } 0 .. $#$own;
}

# ---- the table

my @columns = (
	[ '', sub { $_[1]->title } ],
	[ 'TPS', sub { sprintf '%.0f', $_[0]->tps($_[1]) } ],
	[ 'of untracked (range)', sub { my @r = $_[0]->_ratios($_[1]); @r ? sprintf '%.2f (%.2f-%.2f)', _quantile(0.5, @r), @r[ 0, -1 ] : '' } ],
	[ 'CPU, s: all', sub { my ($self, $peer) = @_; sprintf '%.1f', $self->_all_cpu($peer) } ],
	[ 'server + cache + consumer + application', \&_cpu_parts ],
	[ 'WAL, bytes', sub { sprintf '%.0f', $_[0]->_medians($_[1], 'wal') } ],
	[ 'commit to gone, ms: p50 / p99 / p99.9', \&_latency ],
	[ 'consumer, MB', sub { $_[1]->deletes && $_[0]->_medians($_[1], 'memory') ? sprintf '%.1f', $_[0]->_medians($_[1], 'memory') : '' } ]);

my @loss_columns = (
	[ 'killed with SIGKILL:', sub { $_[1]->title } ],
	[ 'what deletes', sub { _loss(@_, 'deleter') . ' (' . $_[1]->deleter . ')' } ],
	[ 'the cache', sub { _loss(@_, 'cache') } ],
	[ 'the server', sub { _loss(@_, 'server') } ]);

my @parts = qw(server cache consumer application);

sub _all_cpu
{
	my ($self, $peer) = @_;
	return _median(map { my $turn = $_; my $sum = 0; $sum += $turn->{$_} foreach @parts; $sum } @{ $self->{turns}{ $peer->name } });
}

sub _cpu_parts
{
	my ($self, $peer) = @_;
	return join ' + ', map { sprintf '%.1f', $self->_medians($peer, $_) } @parts;
}

sub _latency
{
	my ($self, $peer) = @_;
	my $found = $self->{latency}{ $peer->name } or return '';
	return sprintf '%.2f / %.2f / %.2f', @$found{ 0.5, 0.99, 0.999 };
}

# The number, of how many rows written; and whether the rest of the cache went, too.
sub _loss
{
	my ($self, $peer, $what) = @_;
	my $found = $self->{loss}{ $peer->name }{$what} or return 'not tried';
	my $right = $Peer::rows - $found->{written};
	my $cold = $found->{left} - $found->{stale} < 0.5 * $right ? ', cache emptied' : '';
	return "$found->{stale} of $found->{written}$cold";
}

sub _table
{
	my ($self, $columns, @peers) = @_;
	my @rows = ([ map { $_->[0] } @$columns ], [ map { '---' } @$columns ]);
	foreach my $peer (sort { $self->_place($a) <=> $self->_place($b) } @peers)
	{
		push @rows, [ map { $_->[1]->($self, $peer) } @$columns ];
	}
	return join '', map { '| ' . join(' | ', @$_) . " |\n" } @rows;
}

# What another does better than cache_aside as it comes, by what was measured; why is in the page.
sub _ahead
{
	my ($self) = @_;
	my ($own) = grep { $_->name eq 'asynchronous' } @{ $self->{peers} } or return ();
	my $latency = sub { my ($q) = @_; return sub { my $found = $self->{latency}{ $_[0]->name }; $found && $found->{$q}; } };
	my @measures = (
		[ 'throughput', '%.0f TPS', sub { $self->tps($_[0]) }, -1 ],
		[ 'CPU', '%.1f s', sub { $self->_all_cpu($_[0]) }, 1 ],
		[ 'log', '%.0f bytes', sub { $self->_medians($_[0], 'wal') }, 1 ],
		[ 'commit to gone, p50', '%.2f ms', $latency->(0.5), 1 ],
		[ 'p99', '%.2f ms', $latency->(0.99), 1 ],
		[ 'p99.9', '%.2f ms', $latency->(0.999), 1 ]);
	my $text = '';
	foreach (@measures)
	{
		my ($what, $format, $value, $sign) = @$_;
		my $ours = $value->($own) or next;
		my @ahead = grep { $sign * $value->($_) < $sign * $ours } grep { $_->deletes && $_->name ne 'synchronous' && $value->($_) } @{ $self->{peers} };
		$text .= sprintf "* %s, $format: %s\n", $what, $ours, join(', ', map { sprintf "%s $format", $_->title, $value->($_) } @ahead) || 'nobody';
	}
	return "Ahead of cache_aside:\n\n$text";
}

# The fastest first, behind what they are compared with.
sub _place { my ($self, $peer) = @_; return $peer->name eq 'untracked' ? -1e9 : -$self->tps($peer); }

sub _version { my ($text) = `$_[0] 2>/dev/null` =~ /(\d+\.\d+(?:\.\d+)*)/; return $text // '?'; }

# How much of the machine others had meanwhile, and its host, in percent.
sub _others
{
	my ($self) = @_;
	my @end = (Peer::cpu_of_machine(), Peer::cpu_below($$));
	my ($used, $steal, $all, $own) = map { $end[$_] - $self->{begin}[$_] } 0 .. 3;
	return map { 100 * max(0, $_) / $all } $used - $own, $steal;
}

sub _heading
{
	my ($self, $took) = @_;
	my ($cpu) = Peer::content('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)/m;
	my $cores = () = Peer::content('/proc/cpuinfo') =~ /^processor/mg;
	my @others = $self->_others;
	my $options = join '', map { $ENV{$_} ? qq( @{[ s/^PEERS_//r ]}="$ENV{$_}") : '' } qw(ROUNDS PEERS_SECONDS CLIENTS PEERS);
	return sprintf "Measured on %s, %d x %s, Linux %s; others used %.0f %% of its processors meanwhile, its host %.0f %%. PostgreSQL %s, Redis %s, memcached %s.\n"
	  . "`make bench-peers%s`: %d rounds of %s s, %d clients, %d rows; %.0f minutes.%s%s\n",
	  POSIX::strftime('%Y-%m-%d %H:%M', gmtime), $cores, $cpu // (POSIX::uname())[4], (POSIX::uname())[2], @others,
	  _version('postgres --version'), _version(RedisServer::binary() . ' --version'), _version('memcached --version'),
	  $options, @$self{qw(rounds seconds clients)}, $Peer::rows, $took / 60,
	  $others[0] + $others[1] > 5 ? ' **Others worked on this machine: the ranges are wide, the figures preliminary.**' : '', $ENV{QUICK} ? ' QUICK: the figures mean nothing.' : '';
}

sub write
{
	my ($self, $took) = @_;
	my @peers = @{ $self->{peers} };
	my $text = join "\n", $self->_heading($took), $self->_table(\@columns, @peers),
	  $self->_ahead, "Stale keys, of so many rows written in that turn:\n", $self->_table(\@loss_columns, grep { $self->{loss}{ $_->name } } @peers);
	$self->_write('>', 'table.md', $text);
	print "\n$text\n";
	if (system('command -v gnuplot >/dev/null 2>&1')) { print "gnuplot is not installed: no plots\n"; return; }
	$self->_plot_latency;
	$self->_plot_clients;
	return;
}

# ---- the plots

sub _plot
{
	my ($self, $name, $settings, @curves) = @_;
	return unless @curves;
	$self->_write('>', "$name.gp", <<"EOG" . 'plot ' . join(", \\\n\t", @curves) . "\n");
set terminal svg noenhanced size 900,560 dynamic background rgb 'white' font 'sans-serif,13'
set output '$name.svg'
set grid
set key outside right top
$settings
EOG
	system("cd '$self->{out}' && gnuplot $name.gp") == 0 or die "gnuplot fails on $self->{out}/$name.gp\n";
	return;
}

# A peer has one colour in all plots.
my %colour = (untracked => '000000', undelivered => '85c1e9', asynchronous => '1f5fbf', synchronous => '7d3cbd', pgmemcache => '2e8b57',
	notify => 'd98200', outbox => '8b5a2b', wal2json => 'c0392b', application => '888888');

sub _curve
{
	my ($peer, $file, $how) = @_;
	my ($colour, $title) = ($colour{ $peer->name }, $peer->title =~ tr/`//dr);
	return qq('$file' using 1:2 with $how lw 2 lc rgb '#$colour' title "$title");
}

sub _plot_latency
{
	my ($self) = @_;
	my $settings = <<'EOG';
set title 'From COMMIT to the key being gone'
set logscale y
set ylabel 'ms'
set xlabel 'of all commits'
set xtics ('0' 0, '50 %%' 0.30103, '90 %%' 1, '99 %%' 2, '99.9 %%' 3)
set xrange [0:3]
EOG
	$self->_plot('latency', $settings, map { _curve($_, "latency-@{[ $_->name ]}.dat", 'lines') }
		  grep { $self->{latency}{ $_->name } } @{ $self->{peers} });
	return;
}

sub _plot_clients
{
	my ($self) = @_;
	my @curves;
	foreach my $peer (grep { $self->{clients_of}{ $_->name } } @{ $self->{peers} })
	{
		my %tps = %{ $self->{clients_of}{ $peer->name } };
		$self->_write('>', "clients-@{[ $peer->name ]}.dat", join '', map { sprintf "%d %.0f\n", $_, $tps{$_} } sort { $a <=> $b } keys %tps);
		push @curves, _curve($peer, "clients-@{[ $peer->name ]}.dat", 'linespoints pt 7 ps 0.5');
	}
	my $settings = <<'EOG';
set title 'Commits per second'
set logscale x 2
set yrange [0:*]
set xlabel 'clients'
set xtics (1, 2, 4, 8, 16, 32, 64)
set xrange [1:64]
EOG
	$self->_plot('clients', $settings, @curves);
	return;
}

1;
